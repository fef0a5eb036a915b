"""Images of the invariance measure: the released draws, and sound ones."""

from __future__ import annotations

import numpy as np
import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.image_draws import one_a_patient, released_rows


@pytest.mark.parametrize(("n_images", "n_statistics"), [(138, 138), (2000, 1000), (50_000, 5000)])
def test_released_draws_are_those_of_the_old_global_generator(
    n_images: int, n_statistics: int
) -> None:
    statistics, judged = released_rows(n_images, 100)
    state = np.random.RandomState(0)
    if n_images >= 1000:
        np.testing.assert_array_equal(statistics, state.choice(n_images, n_statistics))
    else:
        np.testing.assert_array_equal(statistics, np.arange(n_images))
    np.testing.assert_array_equal(judged, state.choice(n_images, 100))
    assert len(statistics) == n_statistics


def test_corrected_draw_takes_each_patient_once() -> None:
    patients = np.repeat(np.arange(30), 3)
    rows = one_a_patient(patients, 20, np.random.default_rng(0))
    assert len(rows) == len(set(patients[rows])) == 20
    assert (np.diff(rows) > 0).all()
    assert set(rows % 3) == {0, 1, 2}  # not always a patient's first image


def test_fewer_patients_than_wanted_give_one_image_each() -> None:
    rows = one_a_patient(np.array([0, 0, 1, 2]), 100, np.random.default_rng(0))
    assert len(rows) == 3


def test_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="images to judge: expected at least one, found none"):
        one_a_patient(np.array([], dtype=np.int64), 5, np.random.default_rng(0))
