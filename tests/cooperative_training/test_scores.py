"""From segmentations to Dice and HD95 of structures: by hand, by protocol, at the edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from workflow_scripts.cooperative_training.pictures import picture_material
from workflow_scripts.cooperative_training.protocols import SCORING
from workflow_scripts.cooperative_training.score_segmenter import (
    in_volume,
    score_cases,
    scored_part,
)
from workflow_scripts.cooperative_training.severity_scores import (
    Level,
    corrupted,
    levels_of,
    score_levels,
)
from workflow_scripts.cooperative_training.volumes_to_scores import StructureScore, score_volume
from workflow_scripts.datasets.corruptions import KERNELS, at_severity, draw
from workflow_scripts.datasets.segmentation import Volume

SPACING = (10.0, 2.0, 1.0)  # mm


def column(*labels: int) -> np.ndarray:
    """Return a volume of one slice and one row."""
    return np.array(labels, np.uint8)[None, None]


def test_dice_and_distance_are_those_computed_by_hand() -> None:
    truth, found = column(1, 1, 2, 2, 3, 0), column(1, 1, 2, 0, 3, 3)
    lv, myo, rv = score_volume(truth, found, SPACING, SCORING["corrected"])
    assert lv == StructureScore("LV", 1.0, 0.0, 2, 2)
    assert (myo.dice, myo.reference_voxels, myo.predicted_voxels) == (pytest.approx(2 / 3), 2, 1)
    # surface distances 0 and 1 mm one way, 0 back: percentile 95 of (0, 1, 0)
    assert myo.hd95_mm == pytest.approx(0.9)
    assert rv.dice == pytest.approx(2 / 3)


@pytest.mark.parametrize(("axis", "expected"), [(0, 30.0), (1, 6.0), (2, 3.0)])
def test_distances_are_in_mm_along_each_axis(axis: int, expected: float) -> None:
    truth, found = np.zeros((2, 4, 4, 4), np.uint8)
    truth[0, 0, 0] = 1
    place = [0, 0, 0]
    place[axis] = 3
    found[tuple(place)] = 1
    score = score_volume(truth, found, SPACING, SCORING["corrected"])[0]
    assert score.hd95_mm == pytest.approx(expected)
    assert score.dice == 0


def test_empty_structures_follow_the_protocol_and_have_no_distance() -> None:
    truth, found = column(1, 0, 2), column(1, 3, 0)
    for protocol, both_empty in (("released", 0.0), ("corrected", math.nan)):
        scores = score_volume(column(1, 0, 0), column(1, 0, 0), SPACING, SCORING[protocol])  # type: ignore[index]  # a protocol
        assert scores[1].dice == pytest.approx(both_empty, nan_ok=True)
        assert math.isnan(scores[1].hd95_mm)
        missed, invented = score_volume(truth, found, SPACING, SCORING[protocol])[1:]  # type: ignore[index]  # a protocol
        assert (missed.dice, invented.dice) == (0, 0)
        assert math.isnan(missed.hd95_mm)
        assert math.isnan(invented.hd95_mm)
        assert (missed.reference_voxels, missed.predicted_voxels) == (1, 0)


def test_a_volume_and_a_segmentation_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        score_volume(column(1, 0), column(1, 0, 0), SPACING, SCORING["corrected"])


@pytest.mark.parametrize("shape", [(2, 20, 24), (2, 9, 11), (2, 9, 24), (2, 16, 16)])
def test_released_scores_the_crop_alone_and_all_of_it(shape: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(0).integers(1, 4, shape).astype(np.uint8)
    whole = scored_part(mask, SCORING["corrected"], 16)
    np.testing.assert_array_equal(whole, mask)
    cropped = scored_part(mask, SCORING["released"], 16)
    assert cropped.shape == (2, 16, 16)
    rows, columns = (min(n, 16) for n in shape[1:])
    assert (cropped > 0).sum() == 2 * rows * columns
    back = in_volume(cropped, shape, 16)
    top, left = (max(n - 16, 0) // 2 for n in shape[1:])
    inner = np.s_[:, top : top + rows, left : left + columns]
    np.testing.assert_array_equal(back[inner], mask[inner])
    assert (back > 0).sum() == 2 * rows * columns
    # a segmenter that finds LV everywhere: the padding of a small image counts, what is cut not
    lv = score_volume(cropped, np.ones_like(cropped), SPACING, SCORING["released"])[0]
    assert lv.predicted_voxels == 2 * 16 * 16
    assert lv.reference_voxels == (mask[inner] == 1).sum()


def test_the_steps_score_the_released_crop_of_a_small_image() -> None:
    import pandas as pd

    class Everything:
        record, crop = {"protocol": "released"}, 16

        def segment(self, image: np.ndarray, passes: Any, rescales: bool) -> Any:
            return dict.fromkeys(passes, np.ones(image.shape, np.uint8))

    class Small:
        def volume(self, name: str) -> Volume:
            image = np.random.default_rng(0).random((2, 9, 11)).astype(np.float32)
            return Volume(image, np.ones((2, 9, 11), np.uint8), SPACING)

    by_hand = 2 * (9 * 11) / (9 * 11 + 16 * 16)
    segmenter: Any = Everything()
    small: Any = Small()
    cases = pd.DataFrame({"image_id": ["a"]})
    scores, labels = score_cases(segmenter, small, cases, [0])
    assert scores[0][0].dice == pytest.approx(by_hand)
    assert labels["a"][0].shape == (2, 9, 11)
    (rows,) = score_levels(segmenter, small.volume("a"), "a", [Level("none", 0.0, 0)], (0, 0))
    assert rows[0].dice == pytest.approx(by_hand)


class Store:
    """Volumes whose gray value is their number."""

    def volume(self, name: str) -> object:
        mask = np.zeros((3, 4, 4), np.uint8)
        mask[1, :2] = 1  # the slice with most foreground

        class Volume:
            image = np.full((3, 4, 4), int(name[1:]), float)

        Volume.mask = mask  # type: ignore[attr-defined]  # as a volume has
        return Volume


def test_best_median_and_worst_are_ranked_after_the_last_correction() -> None:
    import pandas as pd

    names = [f"v{number}" for number in range(6)]
    last = [0.5, 0.9, math.nan, 0.1, 0.7, 0.3]  # v2 is undefined
    scores = {
        number: [StructureScore(s, d, 1.0, 1, 1) for d in dice for s in ("LV", "MYO", "RV")]
        for number, dice in ((0, [0.0] * 6), (1, last))
    }
    labels = {name: {n: np.full((3, 4, 4), n, np.uint8) for n in (0, 1)} for name in names}
    found = picture_material(Store(), pd.DataFrame({"image_id": names}), scores, labels)  # type: ignore[arg-type]  # a store
    shown = {rank: str(found[f"{rank}_name"]) for rank in ("best", "median", "worst")}
    assert shown == {"best": "v1, slice 2", "median": "v0, slice 2", "worst": "v3, slice 2"}
    assert found["best_image"][0, 0] == 1
    np.testing.assert_allclose(found["best_dice"], [0, 0.9])
    assert found["worst_pass1"].max() == 1
    assert list(found["passes"]) == [0, 1]
    nothing = {1: [StructureScore("LV", math.nan, math.nan, 0, 0)] * 18}
    assert set(picture_material(Store(), pd.DataFrame({"image_id": names}), nothing, labels)) == {  # type: ignore[arg-type]  # a store
        "passes"
    }


def test_levels_are_one_clean_volume_and_each_artefact_at_each_strength() -> None:
    levels = levels_of([0.5, 1.0], 2)
    assert levels[0] == Level("none", 0.0, 0)
    assert len(levels) == len(set(levels)) == 1 + 4 * 2 * 2


@pytest.mark.parametrize("kind", KERNELS)
def test_an_artefact_is_drawn_once_a_volume_and_grows_with_its_strength(kind: str) -> None:
    volume = np.random.default_rng(1).random((4, 20, 18)) * np.hanning(18)
    clean = corrupted(volume, "a", Level("none", 0, 0), seed=0)
    assert clean.min() == 0
    assert clean.max() == pytest.approx(1)
    away = [
        np.abs(corrupted(volume, "a", Level(kind, strength, 0), seed=0) - clean).mean()
        for strength in (0.0, 0.1, 1.0)
    ]
    assert away[0] == pytest.approx(0, abs=1e-7)
    assert 0 < away[1] < away[2]
    again, other = (corrupted(volume, name, Level(kind, 1, 0), seed=0) for name in ("a", "b"))
    np.testing.assert_array_equal(again, corrupted(volume, "a", Level(kind, 1, 0), seed=0))
    assert not np.array_equal(again, other)
    assert not np.array_equal(again, corrupted(volume, "a", Level(kind, 1, 1), seed=0))


@pytest.mark.parametrize("kind", KERNELS)
def test_strength_changes_what_makes_the_artefact_strong_and_nothing_else(kind: str) -> None:
    drawn = draw(kind, np.random.default_rng(0))
    whole, half = at_severity(kind, drawn, 1.0), at_severity(kind, drawn, 0.5)
    same = {name for name in drawn if np.array_equal(half[name], drawn[name])}
    assert (
        same
        == {
            "RandomBias": set(),
            "RandomGhosting": {"n_ghosts", "axis"},
            "RandomMotion": {"times"},
            "RandomSpike": {"position"},
        }[kind]
    )
    for name in drawn:
        np.testing.assert_array_equal(whole[name], drawn[name])
        if name not in same:
            np.testing.assert_allclose(half[name], np.asarray(drawn[name]) / 2)
