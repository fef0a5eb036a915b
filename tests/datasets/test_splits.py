"""The released split is the released code's; the sound one parts no patient."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.datasets.splits import (
    FRACTIONS,
    draw_by_patient,
    join_identical_files,
    released_split,
)

GOLDEN = json.loads(Path("tests/golden/ssl_transfer.json").read_text())["dataset_split"]
# CheXpert's released split counts rows (134,049) instead of a fraction; its layout comes later.
EIGHTY_TWENTY = {name: case for name, case in GOLDEN["splits"].items() if "chexpert" not in name}


@pytest.mark.parametrize("name", EIGHTY_TWENTY)
def test_released_split_is_the_golden_one(name: str) -> None:
    case = EIGHTY_TWENTY[name]
    rows = released_split(case["n"]).sort_values("order_released")
    for split in ("train", "test"):
        part = rows.index[rows["split_released"] == split].tolist()
        assert len(part) == case[f"n_{split}"]
        first = case[f"first_{split}_rows"]
        assert part[: len(first)] == first[: len(part)]


IMAGES = st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=40).filter(
    lambda patients: len(set(patients)) >= 3
)


@given(IMAGES, st.integers(0, 99))
def test_a_drawn_split_parts_no_patient_and_leaves_no_part_empty(
    patients: list[str], seed: int
) -> None:
    fractions = {"train": 0.7, "val": 0.1, "test": 0.2}
    images = pd.Series(patients)
    split = draw_by_patient(images, fractions, np.random.default_rng(seed))
    assert set(split) == set(fractions)
    assert split.groupby(images).nunique().eq(1).all()


@given(IMAGES, st.integers(0, 99))
def test_a_drawn_split_depends_on_the_patients_alone(patients: list[str], seed: int) -> None:
    once = pd.Series(sorted(set(patients)))
    many = pd.Series(patients[::-1] + patients)
    of_once, of_many = (
        dict(
            zip(
                images,
                draw_by_patient(images, FRACTIONS, np.random.default_rng(seed)),
                strict=True,
            )
        )
        for images in (once, many)
    )
    assert of_once == of_many


def test_a_drawn_split_keeps_its_fractions_of_the_patients() -> None:
    patients = pd.Series([f"p{i:04}" for i in range(1000)])
    split = draw_by_patient(patients, FRACTIONS, np.random.default_rng(0))
    assert split.value_counts().to_dict() == {"train": 800, "test": 200}


def test_another_seed_draws_another_split() -> None:
    patients = pd.Series([f"p{i}" for i in range(50)])
    first, second = (
        draw_by_patient(patients, FRACTIONS, np.random.default_rng(seed)) for seed in (0, 1)
    )
    assert first.tolist() != second.tolist()


def test_fewer_patients_than_parts_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="1 patients cannot be parted"):
        draw_by_patient(pd.Series(["a", "a"]), FRACTIONS, np.random.default_rng(0))


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("12345678")), min_size=1),
    st.lists(st.sampled_from(["train", "test"]), min_size=6, max_size=6),
)
def test_identical_files_end_in_one_split_and_patients_stay_whole(
    images: list[tuple[str, str]], splits: list[str]
) -> None:
    patients, files = (pd.Series(column) for column in zip(*images, strict=True))
    before = patients.map(dict(zip("abcdef", splits, strict=True))).astype(object)
    after = join_identical_files(before, patients, files)
    assert after.groupby(files).nunique().eq(1).all()
    assert after.groupby(patients).nunique().eq(1).all()
    linked = patients[files.duplicated(keep=False)]
    assert (after == before)[~patients.isin(linked)].all()
