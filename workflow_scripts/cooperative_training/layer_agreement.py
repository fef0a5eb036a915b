"""Step: how far the networks of one trained model agree with each other, up a ladder of artefacts.

Layer Ensembles asks the exits of one network whether they agree. These networks have no exits
that were trained as such, but they are a series all the same: the fast network's segmentation,
then the slow network's correction of it, the correction of that, and so on. Each reads its
predecessor's output. The Dice of neighbours is the layer agreement, the area under it AULA, as a
share of its largest value. Forward passes alone, nothing is trained. Artefacts, levels and draws
are those of `severity_scores`.

Source: ours; AULA: Kushibar et al., MICCAI 2022 (metrics/uncertainty.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
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
from workflow_scripts.cooperative_training.severity_scores import Level, corrupted, levels_of
from workflow_scripts.cooperative_training.tested import column_of, read_manifest, tested_cases
from workflow_scripts.cooperative_training.volumes_to_scores import STRUCTURES
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.metrics.segmentation import dice_per_class
from workflow_scripts.metrics.uncertainty import aula_share, layer_agreement
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import refuse
from workflow_scripts.progress import progress

if TYPE_CHECKING:
    import pandas as pd

    from workflow_scripts.cooperative_training.inference import Segmenter
    from workflow_scripts.datasets.segmentation import Volume

FEWEST_CORRECTIONS = 2  # three segmentations, two agreements: below that there is no area


class CaseScore(NamedTuple):
    """One volume with one artefact.

    Attributes:
        dice: mean 3D Dice of the structures after the asked corrections; NaN where none is
            defined.
        aula: area under the layer agreement curve of the foreground, as a share of its largest.
        entropy: mean predictive entropy of the fast network over the crop, nat.
        agreements: Dice of the foreground of each segmentation with the next.
    """

    dice: float
    aula: float
    entropy: float
    agreements: NDArray[np.float64]


class How(NamedTuple):
    """What is done to a volume."""

    stn_passes: int  # corrections behind the Dice
    corrections: int  # behind the agreement
    seed: int  # of the artefacts


def score_levels(
    segmenter: Segmenter, volume: Volume, name: str, levels: Sequence[Level], how: How
) -> Iterator[CaseScore]:
    """Yield the scores of one volume at each level.

    Args:
        segmenter: trained networks.
        volume: of the store.
        name: its image_id.
        levels: artefacts.
        how: corrections, and seed.
    """
    protocol = SCORING[segmenter.record["protocol"]]
    rescales = protocol.test_intensity == "slice"
    truth = scored_part(volume.mask, protocol, segmenter.crop)
    passes = range(max(how.corrections, how.stn_passes) + 1)
    for level in levels:
        whole = corrupted(volume.image, name, level, how.seed)
        image = scored_part(whole, protocol, segmenter.crop)
        found = segmenter.segment(image, passes, rescales)
        series = np.stack([found[number] > 0 for number in range(how.corrections + 1)])
        agreements = layer_agreement(series)
        empty = protocol.both_empty_dice
        dice = dice_per_class(truth, found[how.stn_passes], len(STRUCTURES) + 1, empty)
        yield CaseScore(
            dice=float(np.nanmean(dice)) if np.isfinite(dice).any() else float("nan"),
            aula=aula_share(agreements),
            entropy=segmenter.entropy(image, rescales),
            agreements=agreements,
        )


def write_scores(
    path: Path,
    cases: pd.DataFrame,
    levels: Sequence[Level],
    rows: Sequence[CaseScore],
    metadata: dict[str, Any],
) -> None:
    """Write one row a volume at a level; `rows` in the order of cases and levels."""
    repeated = cases.loc[cases.index.repeat(len(levels))].reset_index(drop=True)
    agreements = np.stack([row.agreements for row in rows])  # (N, corrections)
    scores = {
        name: np.array([getattr(row, name) for row in rows]) for name in CaseScore._fields[:3]
    }
    scores |= {f"agreement_{i}": column for i, column in enumerate(agreements.T, 1)}
    extra = {
        field: [getattr(level, field) for level in levels] * len(cases) for field in Level._fields
    }
    write_case_scores(path, repeated, scores, metadata, extra)


def main(arguments: Sequence[str] | None = None) -> None:
    """Corrupt, segment and correct, compare, write."""
    given = _parser().parse_args(arguments)
    if given.draws < 1 or min(given.levels) < 0 or given.corrections < FEWEST_CORRECTIONS:
        found = f"{given.draws} draws, levels {given.levels}, {given.corrections} corrections"
        expected = f"a draw or more, levels from 0, corrections from {FEWEST_CORRECTIONS}"
        raise refuse("command line", expected, found, "correct them")
    from workflow_scripts.cooperative_training.inference import device_of, load_segmenter

    segmenter = load_segmenter(given.weights, given.training, device_of(given.gpus))
    manifest, about = read_manifest(given.manifest)
    store = VolumeStore(given.images, given.masks, given.index)
    cases = tested_cases(manifest, about, segmenter.record, store, str(given.manifest))
    levels = levels_of(given.levels, given.draws)
    how = How(given.stn_passes, given.corrections, given.seed)
    rows: list[CaseScore] = []
    for name in progress(cases["image_id"], len(cases), "corrupt and compare", "volumes"):
        rows += score_levels(segmenter, store.volume(name), name, levels, how)
    metadata = metadata_of(segmenter.record, about, cases, how)
    write_scores(given.out, cases, levels, rows, metadata)


def metadata_of(
    record: dict[str, Any],
    about: Mapping[str, Any],
    cases: pd.DataFrame,
    how: How,
) -> dict[str, Any]:
    """Return what the file says of itself."""
    dataset = about["dataset"]
    setting = setting_title(record["patients"]["train"])
    return {
        "system": SYSTEM,
        "table": "cooperative_training_agreement",
        "row": row_title(record["method"], setting, how.stn_passes),
        "column": column_of(cases["domain"].iloc[0], dataset),
        "protocol": record["protocol"],
        "seed": record["seed"],
        "kind": "ladder",
        "metric": "dice",
        "classes": list(STRUCTURES),
        "data": data_name(dataset, about["phantom"]),
        "checkpoint": record["method"],
        "dataset": dataset,
        "options": {**how._asdict(), "list": record["list"], "empty_agreement": 0},
        "diagnostics": {"updates": record["updates"]},
    }


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
    parser.add_argument("--stn-passes", type=int, default=1, help="corrections behind the Dice")
    parser.add_argument(
        "--corrections", type=int, default=3, help="behind the agreement (default 3)"
    )
    parser.add_argument("--seed", type=int, required=True, help="of the artefacts")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU")
    parser.add_argument("--out", type=Path, required=True, help="scores (parquet)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
