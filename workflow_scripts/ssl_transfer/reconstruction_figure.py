"""Step: the reconstructions of one image by all checkpoints as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.files import read_json
from workflow_scripts.problems import require_files
from workflow_scripts.ssl_transfer.picture_grid import draw_grid

ROWS = ("original", "reconstruction")
NOTE = "below each name: loss after the last update, in percent of a black image's"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw original and reconstruction of each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--losses", type=Path, nargs="+", required=True, help="reconstruction.json of each run"
    )
    parser.add_argument("--out", type=Path, required=True, help="picture to write (.png)")
    given = parser.parse_args(arguments)
    require_files(given.losses)
    columns, names = [], []
    title, data = [""], ""
    for path in given.losses:
        content = read_json(path)
        share = content["loss"] / content["loss_of_black"]
        names.append(f"{content['checkpoint']}\n{100 * share:.1f} %")
        where = f"{content['dataset']}, {content['image_id']}"
        title = ["reconstruction from features", where, NOTE]
        data = content["data"]
        columns.append([[(np.asarray(Image.open(path.with_name(f"{name}.png"))), None)]
                        for name in ROWS])  # fmt: skip
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    draw_grid(rows, ROWS, names, title, data, given.out)


if __name__ == "__main__":
    sys.exit(run(main))
