"""From a volume and its segmentations to numbers: one row a structure of a volume."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.cooperative_training.protocols import ScoringProtocol
from workflow_scripts.metrics.segmentation import dice_per_class, hausdorff_95

STRUCTURES = ("LV", "MYO", "RV")  # classes 1, 2, 3
Labels = NDArray[np.uint8]


class StructureScore(NamedTuple):
    """How well one structure of one volume was segmented.

    Attributes:
        structure: LV, MYO or RV.
        dice: 3D Dice, a fraction; NaN (corrected) or 0 (released) where both are empty.
        hd95_mm: 95th percentile of the surface distances of both directions together; NaN
            unless both have the structure.
        reference_voxels, predicted_voxels: of the structure.
    """

    structure: str
    dice: float
    hd95_mm: float
    reference_voxels: int
    predicted_voxels: int


Scores = dict[int, list[StructureScore]]  # by number of corrections, three rows a volume


def score_volume(
    truth: Labels,
    prediction: Labels,
    spacing_mm: tuple[float, float, float],
    protocol: ScoringProtocol,
) -> list[StructureScore]:
    """Score a volume once, in 3D; classes of shape (D, H, W), equal for both."""
    dice = dice_per_class(truth, prediction, len(STRUCTURES) + 1, protocol.both_empty_dice)
    rows = []
    for number, structure in enumerate(STRUCTURES, 1):
        reference, found = truth == number, prediction == number
        counts = int(reference.sum()), int(found.sum())
        distance = hausdorff_95(reference, found, spacing_mm) if all(counts) else math.nan
        rows.append(StructureScore(structure, float(dice[number - 1]), distance, *counts))
    return rows


def as_columns(rows: list[StructureScore]) -> dict[str, NDArray[Any]]:
    """Return the scores as columns by name."""
    return {name: np.array([getattr(row, name) for row in rows]) for name in StructureScore._fields}
