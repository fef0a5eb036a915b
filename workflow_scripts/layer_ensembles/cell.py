"""Choose what one cell of a table needs from a run's numbers.

That is: how many heads are skipped, how the others are joined, in which definition.

    python -m workflow_scripts.layer_ensembles.cell --scores scores.parquet \\
        --table layer_ensembles_segmentation --skip 3 --out predictions.parquet
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.layer_ensembles.protocols import OPTIONS, Combination, Options
from workflow_scripts.predictions import CASE_COLUMNS, METADATA_KEY, write_case_scores
from workflow_scripts.problems import InputError, Problem, nearest, refuse

if TYPE_CHECKING:
    import pandas as pd

SKIPS = "layer_ensembles_skips"
BY_DEFINITION = ("nll", "nll_infinite", "entropy", "mutual_information", "variance")
UNCERTAINTIES = ("entropy", "mutual_information", "variance", "aula")


def combination_of(method: str, options: Options) -> Combination:
    """Return how a protocol joins the predictions of a method."""
    return options.combine_heads if method == "layer_ensembles" else options.combine_others


def choose(scores: pd.DataFrame, skip: int, how: str) -> pd.DataFrame:
    """Return the rows of one number of skipped heads and one combination.

    Raises:
        InputError: the numbers do not hold them.
    """
    chosen = scores[(scores["skip"] == skip) & (scores["combination"] == how)]
    if chosen.empty:
        held = scores[["skip", "combination"]].drop_duplicates().itertuples(index=False, name=None)
        found = ", ".join(f"{n} {name}" for n, name in held)
        step = "skip fewer heads than there are, or predict again with this combination"
        raise refuse("scores", f"skip {skip}, combination {how}", found, step)
    return chosen


def refuse_unknown_structures(chosen: pd.DataFrame, thresholds: dict[str, float]) -> None:
    """Refuse a threshold for a structure without a Dice, which would flag no case as bad.

    Raises:
        InputError: naming it.
    """
    parts = [n.removeprefix("score_dsc") for n in chosen.columns if n.startswith("score_dsc")]
    known = [part.removeprefix("_") or "all" for part in parts]
    problems = [
        Problem(f"dice_thresholds key {name}", ", ".join(known), repr(name), nearest(name, known))
        for name in thresholds
        if name not in known
    ]
    if problems:
        raise InputError(problems)


def cell_columns(
    chosen: pd.DataFrame, protocol: str, method: str, distance: str, thresholds: dict[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of a cell by name, in the protocol's definitions.

    Args:
        chosen: rows of one number of skipped heads and combination.
        protocol: whose definitions.
        method: AULA is defined for layer ensembles only.
        distance: unit of the distances, `mm` or `px`.
        thresholds: Dice below which a case is bad, by structure (`all`: together).
    """
    columns = {name: chosen[f"score_{name}_{protocol}"] for name in BY_DEFINITION}
    suffixes = [n.removeprefix("score_dsc") for n in chosen.columns if n.startswith("score_dsc")]
    for suffix in suffixes:
        columns[f"dsc{suffix}"] = chosen[f"score_dsc{suffix}"]
        columns[f"mhd_{distance}{suffix}"] = chosen[f"score_mhd{suffix}"]
        columns[f"mhd_infinite{suffix}"] = chosen[f"score_mhd_infinite{suffix}"]
        limit = thresholds.get(suffix.removeprefix("_") or "all")
        if limit is not None:
            columns[f"is_bad{suffix}"] = (chosen[f"score_dsc{suffix}"] < limit).astype(float)
        if suffix:
            columns[f"class_variance{suffix}"] = chosen[f"score_class_variance{suffix}"]
        if method == "layer_ensembles":
            area = f"score_aula_{protocol}{suffix}"
            if area in chosen.columns:
                columns[f"aula{suffix}"] = chosen[area]
    return {name: values.to_numpy(np.float64) for name, values in columns.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write one cell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--scores",
        type=Path,
        required=True,
        help="per-case scores with all combinations (.parquet)",
    )
    parser.add_argument("--table", required=True, help="the table that the cell belongs to")
    parser.add_argument("--skip", type=int, required=True, help="first heads left out")
    parser.add_argument("--combination", choices=get_args(Combination), help="default: protocol's")
    parser.add_argument("--dice-thresholds", default="{}", help="JSON: bad cases, by structure")
    parser.add_argument(
        "--out", type=Path, required=True, help="predictions of the cell (.parquet)"
    )
    given = parser.parse_args(arguments)
    import pandas as pd
    import pyarrow.parquet as pq

    metadata: dict[str, Any] = json.loads(
        pq.read_schema(given.scores).metadata[METADATA_KEY.encode()]
    )
    method, protocol = metadata["row"], metadata["protocol"]
    how = given.combination or combination_of(method, OPTIONS[protocol])
    chosen = choose(pd.read_parquet(given.scores), given.skip, how)
    thresholds = json.loads(given.dice_thresholds)
    refuse_unknown_structures(chosen, thresholds)
    columns = cell_columns(chosen, protocol, method, metadata["options"]["distance"], thresholds)
    is_sweep = given.table == SKIPS and method == "layer_ensembles"
    metadata |= {
        "table": given.table,
        "row": f"skip {given.skip}" if is_sweep else method,
        "metric": {SKIPS: "nll", "layer_ensembles_correlation": "spearman_dsc_entropy"}.get(
            given.table, "dsc"
        ),
        "options": {
            **metadata["options"], "skip": given.skip, "combination": how,
            "dice_thresholds": thresholds,
            "infinite_distance": OPTIONS[protocol].infinite_distance,
        },
    }  # fmt: skip
    cases = chosen[list(CASE_COLUMNS)].reset_index(drop=True)
    write_case_scores(given.out, cases, columns, metadata)


if __name__ == "__main__":
    sys.exit(run(main))
