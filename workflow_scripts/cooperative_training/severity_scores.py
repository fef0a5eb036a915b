"""Step: score one trained model on test volumes with artefacts of rising strength.

Each volume gets the four artefacts of ACDC-C, drawn once and weakened to each level, so that a
line over the levels is about one artefact in one volume. All models see the same artefacts.
Level 0 is the prepared volume without artefact.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.cooperative_training.protocols import SCORING
from workflow_scripts.cooperative_training.score_segmenter import (
    SYSTEM,
    row_title,
    scored_part,
    setting_title,
)
from workflow_scripts.cooperative_training.tested import read_manifest, tested_cases
from workflow_scripts.cooperative_training.volumes_to_scores import (
    STRUCTURES,
    StructureScore,
    as_columns,
    score_volume,
)
from workflow_scripts.datasets.corrupt import corrupt_in_window
from workflow_scripts.datasets.corruptions import KERNELS, at_severity, draw
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import refuse
from workflow_scripts.progress import progress
from workflow_scripts.randomness import named_rng

if TYPE_CHECKING:
    import pandas as pd

    from workflow_scripts.cooperative_training.inference import Segmenter
    from workflow_scripts.datasets.segmentation import Volume

NONE = "none"  # in place of a corruption, at level 0


class Level(NamedTuple):
    """One artefact of one strength."""

    corruption: str
    severity: float
    draw: int


def levels_of(severities: Sequence[float], n_draws: int) -> list[Level]:
    """Return what every volume is segmented with: no artefact, then each kind at each level."""
    return [
        Level(NONE, 0.0, 0),
        *(Level(kind, severity, number)
          for kind in KERNELS for severity in severities for number in range(n_draws)),
    ]  # fmt: skip


def corrupted(
    volume: NDArray[np.floating], name: str, level: Level, seed: int
) -> NDArray[np.float64]:
    """Return a volume (D, H, W) with an artefact; drawn from seed, volume and draw alone."""
    values = volume.astype(np.float64)
    if level.corruption == NONE:
        return corrupt_in_window(values, "RandomBias", {"coefficients": np.zeros(20)})
    rng = named_rng(seed, "severity", level.corruption, name, str(level.draw))
    parameters = at_severity(level.corruption, draw(level.corruption, rng), level.severity)
    return corrupt_in_window(values, level.corruption, parameters)


def score_levels(
    segmenter: Segmenter, volume: Volume, name: str, levels: Sequence[Level], how: tuple[int, int]
) -> Iterator[list[StructureScore]]:
    """Yield the scores of one volume at each level.

    Args:
        segmenter: trained networks.
        volume: of the store.
        name: its image_id.
        levels: artefacts.
        how: corrections by the slow network, and seed of the artefacts.
    """
    protocol = SCORING[segmenter.record["protocol"]]
    truth = scored_part(volume.mask, protocol, segmenter.crop)
    for level in levels:
        whole = corrupted(volume.image, name, level, how[1])
        image = scored_part(whole, protocol, segmenter.crop)
        found = segmenter.segment(image, [how[0]], protocol.test_intensity == "slice")
        yield score_volume(truth, found[how[0]], volume.spacing_mm, protocol)


def write_levels(
    path: Path,
    cases: pd.DataFrame,
    levels: Sequence[Level],
    rows: list[StructureScore],
    metadata: dict[str, Any],
) -> None:
    """Write one row a structure of a volume at a level; `rows` in the order of cases and levels."""
    n = len(levels) * len(STRUCTURES)
    repeated = cases.loc[cases.index.repeat(n)].reset_index(drop=True)
    columns = as_columns(rows)
    moved = ("structure", "reference_voxels", "predicted_voxels")
    extra: dict[str, Any] = {name: columns.pop(name) for name in moved}
    per_case = [level for level in levels for _ in STRUCTURES]
    for field in Level._fields:
        extra[field] = [getattr(level, field) for level in per_case] * len(cases)
    write_case_scores(path, repeated, columns, metadata, extra)


def main(arguments: Sequence[str] | None = None) -> None:
    """Corrupt, segment, score, write."""
    given = _parser().parse_args(arguments)
    if given.draws < 1 or min(given.levels) < 0:
        found = f"{given.draws} draws, levels {given.levels}"
        raise refuse("command line", "a draw or more, levels from 0", found, "correct them")
    from workflow_scripts.cooperative_training.inference import device_of, load_segmenter

    segmenter = load_segmenter(given.weights, given.training, device_of(given.gpus))
    manifest, about = read_manifest(given.manifest)
    store = VolumeStore(given.images, given.masks, given.index)
    cases = tested_cases(manifest, about, segmenter.record, store, str(given.manifest))
    levels = levels_of(given.levels, given.draws)
    rows: list[StructureScore] = []
    for name in progress(cases["image_id"], len(cases), "corrupt and segment", "volumes"):
        how = (given.stn_passes, given.seed)
        for scores in score_levels(segmenter, store.volume(name), name, levels, how):
            rows += scores
    record = segmenter.record
    setting = setting_title(record["patients"]["train"])
    metadata = {
        "system": SYSTEM,
        "table": "cooperative_training_severity",
        "row": row_title(record["method"], setting, given.stn_passes),
        "column": about["dataset"],
        "protocol": record["protocol"],
        "seed": record["seed"],
        "kind": "segmentation",
        "metric": "dice",
        "classes": list(STRUCTURES),
        "data": data_name(about["dataset"], about["phantom"]),
        "checkpoint": record["method"],
        "dataset": about["dataset"],
        "options": {"stn_passes": given.stn_passes, "list": record["list"], "seed": given.seed},
        "diagnostics": {"updates": record["updates"]},
    }
    write_levels(given.out, cases, levels, rows, metadata)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True, help="of the training")
    parser.add_argument("--training", type=Path, required=True, help="its record (JSON)")
    parser.add_argument("--images", type=Path, required=True, help="voxels of the test set")
    parser.add_argument("--masks", type=Path, required=True, help="its classes")
    parser.add_argument("--index", type=Path, required=True, help="its index")
    parser.add_argument("--manifest", type=Path, required=True, help="of the test set")
    parser.add_argument("--levels", type=float, nargs="+", required=True, help="shares of strength")
    parser.add_argument("--draws", type=int, default=1, help="artefacts a volume, kind and level")
    parser.add_argument("--stn-passes", type=int, default=1, help="corrections (default 1)")
    parser.add_argument("--seed", type=int, required=True, help="of the artefacts")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU")
    parser.add_argument("--out", type=Path, required=True, help="scores (parquet)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
