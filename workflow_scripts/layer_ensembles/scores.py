"""All numbers of one case from the logits of its T predictions, for every number of skipped heads.

One row for each number of skipped heads and each combination. Nothing after it needs a network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.layer_ensembles.combination import combine
from workflow_scripts.layer_ensembles.protocols import Combination, Options
from workflow_scripts.metrics import uncertainty
from workflow_scripts.metrics.segmentation import dice, modified_hausdorff

Row = dict[str, float | int | str]
UNION = ""  # suffix of the metrics of all structures together


def case_rows(
    logits: NDArray[np.float32],
    truth: NDArray[np.uint8],
    spacing: Sequence[float],
    structures: Sequence[str],
    combinations: Sequence[Combination],
    options: Options,
) -> Iterator[Row]:
    """Yield the rows of one case.

    Args:
        logits: shape (T, C, D, H, W), shallow heads first.
        truth: class of each voxel, shape (D, H, W).
        spacing: of voxels along D, H, W; mm, or pixels of the crop.
        structures: names of classes 1 to C - 1.
        combinations: how the predictions are joined, a row each.
        options: of the protocol.
    """
    probabilities = uncertainty.softmax(logits)
    labels = uncertainty.most_likely(probabilities)
    agreements = _agreements(labels, structures)
    for skip in range(len(logits)):
        kept, kept_probabilities = logits[skip:], probabilities[skip:]
        shared = {
            "skip": skip,
            "predictions": len(kept),
            **_uncertainties(kept, kept_probabilities, truth),
            **_areas(agreements, skip, len(kept)),
            "aula_with_last": uncertainty.aula(uncertainty.agreement_with_last(labels[skip:] > 0)),
        }
        for name, value in zip(structures, uncertainty.class_variance(kept_probabilities)[1:],
                               strict=True):  # fmt: skip
            shared[f"class_variance_{name}"] = float(value)
        for how in combinations:
            label = combine(kept, kept_probabilities, how, options.threshold)
            overlap = _overlap(label, truth, spacing, structures, options)
            yield {**shared, "combination": how, **overlap}


def _uncertainties(
    logits: NDArray[np.float32], probabilities: NDArray[np.float64], truth: NDArray[np.uint8]
) -> Row:
    """Return NLL and the three uncertainties in all definitions."""
    row: Row = {}
    with_epsilon = uncertainty.uncertainty_maps(probabilities, "released")
    for definition in uncertainty.DEFINITIONS:
        maps = with_epsilon
        if definition == "corrected":
            maps = uncertainty.uncertainty_maps(probabilities, definition)
        summary = uncertainty.image_uncertainty(maps, definition)
        row |= {f"{name}_{definition}": value for name, value in summary._asdict().items()}
        loss = uncertainty.negative_log_likelihood(logits, truth, definition)
        row[f"nll_{definition}"] = loss if math.isfinite(loss) else math.nan
        row[f"nll_infinite_{definition}"] = float(math.isinf(loss))
    return row


def _agreements(
    labels: NDArray[np.int64], structures: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return the layer agreement of all structures together and, of several, of each."""
    found = {UNION: uncertainty.layer_agreement(labels > 0)}
    if len(structures) > 1:
        for number, name in enumerate(structures, start=1):
            found[f"_{name}"] = uncertainty.layer_agreement(labels == number)
    return found


def _areas(agreements: dict[str, NDArray[np.float64]], skip: int, n_kept: int) -> Row:
    """Return AULA in all definitions, prediction depth, and all agreements behind them."""
    row: Row = {"aula_released": uncertainty.released_aula(n_kept)}
    for suffix, curve in agreements.items():
        kept = curve[skip:]
        row[f"aula_paper{suffix}"] = uncertainty.aula(kept)
        row[f"aula_corrected{suffix}"] = uncertainty.aula_share(kept)
        row[f"prediction_depth{suffix}"] = uncertainty.prediction_depth(kept)
        for number, value in enumerate(curve, start=1):
            row[f"agreement_{number}{suffix}"] = float(value)
    return row


def _overlap(
    label: NDArray[np.int64],
    truth: NDArray[np.uint8],
    spacing: Sequence[float],
    structures: Sequence[str],
    options: Options,
) -> Row:
    """Return Dice and modified Hausdorff distance of the union and, of several, each structure.

    A distance to or from an empty mask is infinite: flagged, and stored as undefined, or as half
    the image's height where the protocol says so (golden `segmentation_metrics_head_commit`).
    """
    is_replaced = options.infinite_distance == "half_height"
    infinite = truth.shape[-2] / 2 * spacing[-2] if is_replaced else math.nan
    masks = {UNION: (label > 0, truth > 0)}
    if len(structures) > 1:
        for number, name in enumerate(structures, start=1):
            masks[f"_{name}"] = (label == number, truth == number)
    # the released code calls the distance infinite also where both masks are empty
    both_empty = math.nan if math.isnan(options.empty_dice) else math.inf
    row: Row = {}
    for suffix, (found, expected) in masks.items():
        distance = modified_hausdorff(found, expected, spacing, both_empty)
        row[f"dsc{suffix}"] = dice(found, expected, options.empty_dice)
        row[f"mhd{suffix}"] = infinite if math.isinf(distance) else distance
        row[f"mhd_infinite{suffix}"] = float(math.isinf(distance))
    return row
