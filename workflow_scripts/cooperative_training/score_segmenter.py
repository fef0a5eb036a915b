"""Step: segment one test set with one trained model and score every volume.

After the fast network alone and after each number of corrections by the slow one: 3D Dice and
HD95 in mm of every structure of every patient and frame. The best, the median and the worst
volume are kept as pictures' raw material.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.cooperative_training.methods import BASELINE
from workflow_scripts.cooperative_training.pictures import picture_material, write_arrays
from workflow_scripts.cooperative_training.protocols import SCORING, ScoringProtocol
from workflow_scripts.cooperative_training.tested import column_of, read_manifest, tested_cases
from workflow_scripts.cooperative_training.volumes_to_scores import (
    STRUCTURES,
    Scores,
    StructureScore,
    as_columns,
    score_volume,
)
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import refuse
from workflow_scripts.progress import progress

if TYPE_CHECKING:
    import pandas as pd

    from workflow_scripts.cooperative_training.inference import Segmenter

SYSTEM = "cooperative_training"
TABLE = "cooperative_training_dice"
HD95 = "95th percentile of surface distances, both directions pooled (as MedPy's hd95), mm"
Labels = NDArray[np.uint8]
logger = logging.getLogger(__name__)


def passes_title(stn_passes: int) -> str:
    """Return what the table calls a number of corrections by the slow network.

    >>> [passes_title(number) for number in range(3)]
    ['FTN', 'FTN+STN', 'FTN+2xSTN']
    """
    repeats = "" if stn_passes == 1 else f"{stn_passes}x"
    return f"FTN+{repeats}STN" if stn_passes else "FTN"


def row_title(method: str, setting: str, stn_passes: int) -> str:
    """Return the name of a row: method, setting, passes."""
    return f"{method}, {setting}, {passes_title(stn_passes)}"


def setting_title(patients: Sequence[str]) -> str:
    """Return what the table calls the amount of training data."""
    return f"{len(patients)} patients"


def score_cases(
    segmenter: Segmenter, store: VolumeStore, cases: pd.DataFrame, passes: Sequence[int]
) -> tuple[Scores, dict[str, dict[int, Labels]]]:
    """Segment and score every case.

    Returns:
        Scores of each number of corrections, and the segmentations by case and corrections.
    """
    protocol = SCORING[segmenter.record["protocol"]]
    scores: Scores = {number: [] for number in passes}
    labels: dict[str, dict[int, Labels]] = {}
    for name in progress(cases["image_id"], len(cases), "segment", "volumes"):
        volume = store.volume(name)
        image, truth = (
            scored_part(one, protocol, segmenter.crop) for one in (volume.image, volume.mask)
        )
        found = segmenter.segment(image, passes, protocol.test_intensity == "slice")
        for number in passes:
            scores[number] += score_volume(truth, found[number], volume.spacing_mm, protocol)
        labels[name] = {
            number: in_volume(one, volume.mask.shape, segmenter.crop)
            for number, one in found.items()
        }
    return scores, labels


def scored_part(values: NDArray[Any], protocol: ScoringProtocol, size: int) -> NDArray[Any]:
    """Return what is scored of a volume (D, H, W): all of it, or (released) its central crop.

    The crop of a smaller image is padded with 0, and what is predicted there is wrong.
    """
    from workflow_scripts.cooperative_training.slices import to_crop

    return to_crop(values, size) if protocol.scored_region == "crop" else values


def in_volume(labels: Labels, shape: tuple[int, ...], size: int) -> Labels:
    """Return labels of the scored part in the volume's shape, background outside."""
    from workflow_scripts.cooperative_training.slices import from_crop

    if labels.shape == shape:
        return labels
    placed: Labels = from_crop(labels, shape, size)
    return placed


def write_scores(
    path: Path,
    cases: pd.DataFrame,
    rows: list[StructureScore],
    about: dict[str, Any],
    record: dict[str, Any],
    stn_passes: int,
) -> None:
    """Write one row a structure of a volume."""
    columns = as_columns(rows)
    repeated = cases.loc[cases.index.repeat(len(STRUCTURES))].reset_index(drop=True)
    setting = setting_title(record["patients"]["train"])
    baseline = row_title(BASELINE, setting, stn_passes)
    dataset = about["dataset"]
    table_column = [column_of(domain, dataset) for domain in repeated["domain"]]
    moved = ("structure", "reference_voxels", "predicted_voxels")
    extra: dict[str, Any] = {name: columns.pop(name) for name in moved}
    extra |= {"test_set": table_column, "frame": repeated["frame"], "vendor": repeated["vendor"]}
    extra |= {"compared_with": [baseline] * len(repeated)}
    metadata = {
        "system": SYSTEM,
        "table": TABLE,
        "row": row_title(record["method"], setting, stn_passes),
        "column": dataset,
        "protocol": record["protocol"],
        "seed": record["seed"],
        "kind": "segmentation",
        "metric": "dice",
        "classes": list(STRUCTURES),
        "data": data_name(dataset, about["phantom"]),
        "checkpoint": record["method"],
        "dataset": dataset,
        "options": {"stn_passes": stn_passes, "list": record["list"], "hd95": HD95},
        "diagnostics": {"best_step": record["best_step"], "updates": record["updates"]},
    }
    write_case_scores(path, repeated, columns, metadata, extra)


def main(arguments: Sequence[str] | None = None) -> None:
    """Segment, score, write."""
    given = _parser().parse_args(arguments)
    if len(given.out) != len(given.passes) or min(given.passes) < 0:
        expected = "one file for each number of corrections, from 0"
        found = f"{len(given.out)} for {given.passes}"
        raise refuse("--out", expected, found, "name one file a number")
    from workflow_scripts.cooperative_training.inference import device_of, load_segmenter

    segmenter = load_segmenter(given.weights, given.training, device_of(given.gpus))
    manifest, about = read_manifest(given.manifest)
    store = VolumeStore(given.images, given.masks, given.index)
    cases = tested_cases(manifest, about, segmenter.record, store, str(given.manifest))
    scores, labels = score_cases(segmenter, store, cases, given.passes)
    for number, path in zip(given.passes, given.out, strict=True):
        write_scores(path, cases, scores[number], dict(about), segmenter.record, number)
    arrays = picture_material(store, cases, scores, labels)
    write_arrays(given.pictures, arrays, data_name(about["dataset"], about["phantom"]))
    logger.info("%d volumes of %s scored", len(cases), about["dataset"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True, help="of the training")
    parser.add_argument("--training", type=Path, required=True, help="its record (JSON)")
    parser.add_argument("--images", type=Path, required=True, help="voxels of the test set")
    parser.add_argument("--masks", type=Path, required=True, help="its classes")
    parser.add_argument("--index", type=Path, required=True, help="its index")
    parser.add_argument("--manifest", type=Path, required=True, help="of the test set")
    help_text = "corrections by the slow network; 0: none"
    parser.add_argument("--passes", type=int, nargs="+", required=True, help=help_text)
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU")
    parser.add_argument("--out", type=Path, nargs="+", required=True, help="a file a pass")
    parser.add_argument("--pictures", type=Path, required=True, help="slices to draw (.npz)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
