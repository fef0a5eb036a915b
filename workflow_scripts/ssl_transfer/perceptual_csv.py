"""Step: the perceptual distances as the released code stores them: one CSV a network.

    python -m workflow_scripts.ssl_transfer.perceptual_csv --predictions a.parquet b.parquet \
        --metric lpips_alexnet --out alexnet_distances.csv

Rows are checkpoints, columns data sets, in the order of the predictions.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.files import void, write_atomic
from workflow_scripts.predictions import METADATA_KEY
from workflow_scripts.problems import refuse, require_files

METRICS = ("lpips", "lpips_alexnet", "lpips_vgg", "lpips_squeezenet")


def distances_csv(nested: Mapping[str, Mapping[str, float]]) -> str:
    """Return the text of a file: `model` and the data sets across, one line a checkpoint.

    Lines end as in the released files (carriage return, line feed).

    Args:
        nested: distance by data set and checkpoint; a missing one is an empty field.

    >>> distances_csv({"bach": {"byol": 0.5}, "chestx": {"byol": 0.25}})
    'model,bach,chestx\\r\\nbyol,0.5,0.25\\r\\n'

    Source: released code (golden `perceptual_csv`).
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["model", *nested])
    for model in dict.fromkeys(name for column in nested.values() for name in column):
        writer.writerow([model, *(column.get(model, "") for column in nested.values())])
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one file from the predictions of all cells."""
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        required=True,
        help="distances of all checkpoints and data sets",
    )
    parser.add_argument(
        "--metric", choices=METRICS, required=True, help="the distance that is written"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .csv")
    given = parser.parse_args(arguments)
    require_files(given.predictions)
    nested: dict[str, dict[str, float]] = {}
    for path in given.predictions:
        file = pq.ParquetFile(path)
        name = f"score_{given.metric}"
        if name not in file.schema_arrow.names:
            found = ", ".join(file.schema_arrow.names)
            raise refuse(str(path), f"the column {name}", found, "give perceptual distances")
        about = json.loads(file.schema_arrow.metadata[METADATA_KEY.encode()])
        values = file.read([name])[name].to_numpy()
        nested.setdefault(about["column"], {})[about["row"]] = float(np.mean(values))
    content = distances_csv(nested).encode()
    write_atomic(given.out, lambda partial: void(partial.write_bytes(content)))


if __name__ == "__main__":
    sys.exit(run(main))
