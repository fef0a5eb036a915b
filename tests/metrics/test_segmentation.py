from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workflow_scripts.metrics.segmentation import (
    class_iou,
    confusion_matrix,
    dice,
    dice_per_class,
    hausdorff,
    hausdorff_95,
    mean_iou,
    modified_hausdorff,
    surface,
    surface_distances,
)

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "cooperative_training.json").read_text())["metrics"]
LAYER_ENSEMBLES = json.loads((FOLDER / "layer_ensembles.json").read_text())
TRUTH, PREDICTION = (np.array(GOLDEN[name]) for name in ("gt_DHW", "pred_DHW"))
SPACING = (9.2, 1.32, 0.7)  # three different ones: an exchanged axis shows
MASKS = st.tuples(
    *(arrays(bool, (3, 5, 4), elements=st.booleans(), fill=st.just(False)) for _ in "ab")
)


def brute_force_surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """List voxels with a neighbour outside the mask, voxel by voxel: the reference."""
    found = []
    for place in zip(*np.nonzero(mask), strict=True):
        for axis in range(mask.ndim):
            for shift in (-1, 1):
                other = list(place)
                other[axis] += shift
                is_inside = 0 <= other[axis] < mask.shape[axis]
                if not is_inside or not mask[tuple(other)]:
                    found.append(tuple(int(number) for number in place))
    return sorted(set(found))


def brute_force_distances(
    from_places: list[tuple[int, ...]], to_places: list[tuple[int, ...]]
) -> list[float]:
    """Return each place's distance to the nearest of the others, pair by pair."""
    scaled = [[i * step for i, step in zip(p, SPACING, strict=True)] for p in to_places]
    return [
        min(math.dist([i * step for i, step in zip(p, SPACING, strict=True)], q) for q in scaled)
        for p in from_places
    ]


@given(MASKS)
@settings(max_examples=60)
def test_distances_equal_a_search_over_all_pairs(masks: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = masks
    if not (a.any() and b.any()):
        expected = math.inf if a.any() or b.any() else math.nan
        for metric in (hausdorff, hausdorff_95, modified_hausdorff):
            assert metric(a, b, SPACING) == pytest.approx(expected, nan_ok=True)
        return
    edges = brute_force_surface(a), brute_force_surface(b)
    assert [tuple(place) for place in np.argwhere(surface(a)).tolist()] == edges[0]
    there, back = brute_force_distances(*edges), brute_force_distances(*edges[::-1])
    found = surface_distances(a, b, SPACING)
    np.testing.assert_allclose(found[0], there, rtol=1e-12)
    np.testing.assert_allclose(found[1], back, rtol=1e-12)
    assert hausdorff(a, b, SPACING) == pytest.approx(max(there + back))
    rank = 0.95 * (len(there + back) - 1)  # linear interpolation between two ranks
    low, high = (sorted(there + back)[edge(rank)] for edge in (math.floor, math.ceil))
    assert hausdorff_95(a, b, SPACING) == pytest.approx(low + (high - low) * (rank % 1))
    everything = [[tuple(place) for place in np.argwhere(mask).tolist()] for mask in (a, b)]
    means = [
        float(np.mean(brute_force_distances(*pair))) for pair in (everything, everything[::-1])
    ]
    assert modified_hausdorff(a, b, SPACING) == pytest.approx(max(means))


@given(MASKS, st.floats(0.1, 10))
@settings(max_examples=40)
def test_scores_are_symmetric_and_distances_grow_with_the_spacing(
    masks: tuple[np.ndarray, np.ndarray], factor: float
) -> None:
    a, b = masks
    assert dice(a, b) == pytest.approx(dice(b, a), nan_ok=True)
    wider = tuple(step * factor for step in SPACING)
    for metric in (hausdorff, hausdorff_95, modified_hausdorff):
        value = metric(a, b, SPACING)
        assert metric(b, a, SPACING) == pytest.approx(value, nan_ok=True)
        assert metric(a, b, wider) == pytest.approx(value * factor, nan_ok=True)
        if a.any():
            assert metric(a, a, SPACING) == 0


def test_dice_rows_are_golden() -> None:
    golden = GOLDEN["patient_dice"]

    def row(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return dice_per_class(truth, prediction, 4, both_empty=0.0)  # as MedPy 0.4.0

    np.testing.assert_allclose(row(TRUTH, PREDICTION), golden["row_007_ES"][1:], atol=1e-8)
    without = [np.where(mask == 3, 0, mask) for mask in (TRUTH, PREDICTION)]
    np.testing.assert_allclose(row(*without), golden["row_class3_absent"][1:], atol=1e-8)
    missed = golden["row_gt_has_3_pred_has_none"][1:]
    np.testing.assert_allclose(row(TRUTH, without[1]), missed, atol=1e-8)
    assert math.isnan(dice_per_class(*without, 4)[2])  # undefined unless a rule is asked for
    assert dice(TRUTH, PREDICTION) == pytest.approx(GOLDEN["foreground_only_dice"])


CASES = [*LAYER_ENSEMBLES["dsc_hd_mhd_2d"]["cases"], LAYER_ENSEMBLES["dsc_hd_mhd_3d"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.get("name", "volume"))
def test_scores_of_layer_ensembles_are_golden(case: dict[str, Any]) -> None:
    a, b, spacing = np.array(case["a"]), np.array(case["b"]), case["spacing"]
    assert dice(a, b, both_empty=0.0) == pytest.approx(case["dsc"])
    released = {"both_empty": math.inf}
    assert hausdorff(a, b, spacing, **released) == pytest.approx(float(case["hd"]))
    assert modified_hausdorff(a, b, spacing, **released) == pytest.approx(float(case["mhd"]))


def test_soft_masks_count_as_foreground_wherever_they_are_not_zero() -> None:
    golden = LAYER_ENSEMBLES["dsc_soft_input_collapse"]
    assert dice(golden["a"], golden["b"]) == pytest.approx(golden["dsc"], rel=1e-9)


def test_intersection_over_union_is_golden() -> None:
    table = confusion_matrix(TRUTH, PREDICTION, 4)
    np.testing.assert_array_equal(table, GOLDEN["confusion_rows_true_cols_pred"])
    np.testing.assert_allclose(class_iou(table), GOLDEN["validation"]["class_iou"], atol=1e-8)
    assert mean_iou(table) == pytest.approx(GOLDEN["validation"]["mean_iou"])
    without = [np.where(mask == 3, 0, mask) for mask in (TRUTH, PREDICTION)]
    golden: dict[str, Any] = GOLDEN["validation_class3_absent_everywhere"]
    table = confusion_matrix(*without, 4)
    expected = [math.nan if value == "nan" else value for value in golden["class_iou"]]
    np.testing.assert_allclose(class_iou(table), expected, atol=1e-8)
    assert mean_iou(table) == pytest.approx(golden["mean_iou"])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_dice_per_class_is_dice_of_each_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 4, (2, 2, 3, 4))
    each = [dice(truth == number, prediction == number) for number in (1, 2, 3)]
    np.testing.assert_allclose(dice_per_class(truth, prediction, 4), each)


def test_masks_and_spacing_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        dice(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="2 spacings for 3 axes"):
        hausdorff(np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1.0, 1.0))
    with pytest.raises(ValueError, match="finite and positive"):
        hausdorff_95(np.ones((2, 2)), np.ones((2, 2)), (math.nan, 1.0))
