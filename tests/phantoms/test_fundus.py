"""A fundus phantom shows what is true of it, in the eye it belongs to, and nothing else."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from workflow_scripts.phantoms.fields import square_grid
from workflow_scripts.phantoms.fundus import EyeCase, render_fundus
from workflow_scripts.phantoms.fundus_lesions import LESIONS, picture_places
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.randomness import named_rng

SIZE = 96
PLAIN = Knobs(artefact_level=0.0)
GRADES = [f"diabetic retinopathy {grade}" for grade in (1, 2, 3, 4)]


def eye(
    patient: int = 0,
    disease: str | None = None,
    knobs: Knobs = PLAIN,
    side: str = "right",
    image_id: str = "a",
    age_years: float = 50.0,
    size: int = SIZE,
) -> np.ndarray:
    streams = partial(named_rng, 0, "test", str(patient))
    case = EyeCase(image_id, side, disease, age_years)
    return render_fundus(streams, case, knobs, size).astype(float)


def change(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def brightest_column(image: np.ndarray) -> float:
    """Where the optic disc lies: 0 is the left border and 1 the right one."""
    from scipy.ndimage import uniform_filter

    smooth = uniform_filter(image.sum(axis=2), SIZE // 10)
    return float(np.unravel_index(smooth.argmax(), smooth.shape)[1] / SIZE)


def test_same_streams_give_the_same_picture() -> None:
    np.testing.assert_array_equal(eye(3, GRADES[3]), eye(3, GRADES[3]))


@pytest.mark.parametrize("disease", LESIONS)
def test_every_disease_changes_the_picture_and_more_so_with_more_signal(disease: str) -> None:
    changes = []
    for signal in (0.0, 0.4, 1.0):
        knobs = Knobs(disease_signal=signal, artefact_level=0.0, confounder_strength=0.0)
        changes.append(np.mean([change(eye(p, disease, knobs), eye(p)) for p in range(3)]))
    assert changes[0] == 0.0
    assert 0.0 < changes[1] < changes[2]


def test_worse_grades_of_retinopathy_change_more() -> None:
    changes = [np.mean([change(eye(p, grade), eye(p)) for p in range(4)]) for grade in GRADES]
    assert changes[0] < changes[1] < changes[2]
    assert changes[3] > changes[1]


def test_disc_lies_on_the_right_of_right_eyes_and_on_the_left_of_left_ones() -> None:
    for patient in range(4):
        assert brightest_column(eye(patient, side="right")) > 0.65
        assert brightest_column(eye(patient, side="left")) < 0.35


def test_eyes_of_one_patient_share_their_colour() -> None:
    def colour(patient: int, side: str) -> np.ndarray:
        return np.median(eye(patient, side=side).reshape(-1, 3), axis=0)

    pairs = [(colour(p, "left"), colour(p, "right")) for p in range(8)]
    same = np.mean([np.abs(left - right).mean() for left, right in pairs])
    other = np.mean([np.abs(pairs[p][0] - pairs[p - 1][1]).mean() for p in range(8)])
    assert same < other


def test_lesions_stay_where_they_were_in_the_next_photograph() -> None:
    def mask(image_id: str, patient: int) -> np.ndarray:
        ill, well = (eye(patient, d, image_id=image_id) for d in (GRADES[2], None))
        return np.abs(ill - well).sum(axis=2)

    same = [np.corrcoef(mask("a", p).ravel(), mask("a2", p).ravel())[0, 1] for p in range(4)]
    other = [np.corrcoef(mask("a", p).ravel(), mask("a", p + 1).ravel())[0, 1] for p in range(4)]
    assert np.mean(same) > np.mean(other)


def test_age_shows_only_with_attribute_signal_and_domains_differ() -> None:
    blind = Knobs(attribute_signal=0.0, artefact_level=0.0)
    np.testing.assert_array_equal(eye(knobs=blind, age_years=20), eye(knobs=blind, age_years=80))
    assert change(eye(age_years=20), eye(age_years=80)) > 0.5
    assert change(eye(knobs=Knobs(domain_shift=1.0, artefact_level=0.0)), eye()) > 3


def test_camera_tab_goes_with_disease_only_as_strongly_as_its_knob() -> None:
    def rate(disease: str | None, strength: float) -> float:
        knobs = Knobs(artefact_level=0.0, confounder_strength=strength, disease_signal=0.0)
        corner = [eye(p, disease, knobs)[13:15, 81:83].mean() > 20 for p in range(24)]
        return float(np.mean(corner))

    assert (rate(GRADES[0], 1.0), rate(None, 1.0)) == (1.0, 0.0)
    assert 0.2 < rate(None, 0.0) < 0.8


def test_outside_of_the_field_is_black() -> None:
    assert eye(1, GRADES[3], Knobs(confounder_strength=0.0))[:8, :8].max() == 0


def test_picture_places_are_where_the_picture_shows_them() -> None:
    grid = square_grid(16)
    places = np.column_stack([grid.x.ravel(), grid.y.ravel()]).astype(float)
    np.testing.assert_allclose(picture_places(grid, places), places, atol=1e-5)


@pytest.mark.parametrize(("side", "disease"), [("middle", None), ("left", "glaucoma")])
def test_unknown_side_or_disease_is_refused(side: str, disease: str | None) -> None:
    with pytest.raises(ValueError, match="no such side or disease"):
        eye(side=side, disease=disease)


def test_two_hundred_photographs_take_some_ten_seconds_of_one_core() -> None:
    eye(size=256)
    start = time.process_time()
    for patient in range(5):
        eye(patient, GRADES[2], size=256)
    assert (time.process_time() - start) / 5 < 0.15  # 0.05 alone; others share this machine
