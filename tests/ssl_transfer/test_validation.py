from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.validation import released_validation, validation_by_patient

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
SPLITS = GOLDEN["validation_split"]["splits"]


@pytest.mark.parametrize("n_images", SPLITS)
def test_released_validation_equals_the_golden_shuffle(n_images: str) -> None:
    golden = SPLITS[n_images]
    validation, training = released_validation(int(n_images), seed=0)
    assert (len(validation), len(training)) == (golden["n_val"], golden["n_train"])
    assert validation[: len(golden["first_val"])].tolist() == golden["first_val"]
    assert training[: len(golden["first_train"])].tolist() == golden["first_train"]


@given(st.integers(0, 500), st.integers(0, 2**32 - 1))
def test_released_parts_make_up_the_whole(n_images: int, seed: int) -> None:
    validation, training = released_validation(n_images, seed)
    assert sorted([*validation, *training]) == list(range(n_images))
    assert len(validation) == n_images // 5


@given(st.lists(st.integers(1, 9), min_size=10, max_size=40), st.integers(0, 100))
def test_validation_by_patient_holds_whole_patients_and_about_a_fifth(
    sizes: list[int], seed: int
) -> None:
    patients = np.repeat(np.arange(len(sizes)), sizes)
    labels = patients % 2
    rng = np.random.default_rng(seed)
    validation, training = validation_by_patient(labels, patients, rng)
    assert sorted([*validation, *training]) == list(range(len(patients)))
    assert not set(patients[validation]) & set(patients[training])
    assert len(patients) // 5 <= len(validation) < len(patients) // 5 + max(sizes) + 1
    assert set(labels[training]) == set(labels)


def test_a_class_of_one_patient_stays_in_training() -> None:
    labels, patients = np.array([0] * 9 + [1]), np.arange(10)
    for seed in range(30):
        validation, _ = validation_by_patient(labels, patients, np.random.default_rng(seed))
        assert 9 not in validation


def test_classes_of_one_patient_each_cannot_be_validated() -> None:
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(InputError, match="1, 1 patients in the classes, 2 in all"):
        validation_by_patient(labels, patients=labels, rng=np.random.default_rng(0))
