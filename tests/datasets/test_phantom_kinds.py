"""Phantom archives of eyes, CT, natural images and Montgomery: who is in them, and as written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workflow_scripts.datasets import phantom
from workflow_scripts.datasets.diabetic_retinopathy import pairs
from workflow_scripts.datasets.image_source import file_of, read_image
from workflow_scripts.datasets.layout import TRUTH_COLUMNS, layout_named
from workflow_scripts.datasets.phantom_kinds import KINDS
from workflow_scripts.problems import InputError

SIZES = {
    "diabetic_retinopathy": {"patients": 10},
    "ichallenge_amd": {"images": 4},
    "ichallenge_pm": {"images": 10},
    "montgomery": {"images": 4},
    "stoic": {"images": 4},
    "cifar10": {"images": 60},
}


def truth_of(name: str, size: dict[str, Any], **options: str) -> pd.DataFrame:
    parsed, _ = phantom.parse_phantom(json.dumps(size), name)
    return phantom.sample_truth({"layout": name, **options}, parsed, 0, name)[0]


@pytest.mark.parametrize("name", KINDS)
def test_reader_finds_the_truth_that_was_drawn(tmp_path: Path, name: str) -> None:
    phantom.main(
        [
            *("--dataset", name, "--options", json.dumps({"layout": name}), "--seed", "0"),
            *("--phantom", json.dumps({"image_size": 64, **SIZES[name]})),
            *("--out", str(tmp_path / "d" / "PHANTOM.json")),
        ]
    )
    root, truth = tmp_path / "d", truth_of(name, SIZES[name])
    read = layout_named(name).read(root, {}).table
    columns = [column for column in TRUTH_COLUMNS if column in read]
    pd.testing.assert_frame_equal(
        read[columns].astype(object).where(read[columns].notna(), None),
        truth[columns].astype(object).where(truth[columns].notna(), None),
    )
    assert all((root / file_of(path)).is_file() for path in read["path"])
    assert len({read_image(root, path).sha256 for path in read["path"]}) == len(read)


def test_most_patients_of_eyepacs_have_two_equal_eyes_and_all_grades_occur() -> None:
    truth = truth_of("diabetic_retinopathy", {"patients": 100, "min_per_class": 12})
    sides = truth.groupby("patient_id")["view"].agg(" ".join)
    assert set(sides) == {"left right"}
    assert truth.groupby("patient_id")["split"].nunique().eq(1).all()
    for _, part in truth.groupby("split"):
        assert set(part["label_text"]) == set("01234")
        assert part["view"].tolist() == ["left", "right"] * (len(part) // 2)
    both = pairs(truth.assign(label=truth["label_text"].astype(int)))
    assert 60 <= len(both) < 95


def test_stoic_has_its_shares_and_the_orientation_that_was_asked_for() -> None:
    truth = truth_of("stoic", {"images": 40}, orientation="corrected")
    assert truth["label_text"].value_counts().to_dict() == {"1|0": 18, "0|0": 16, "1|1": 6}
    assert truth["path"].str.endswith(".mha#axial").all()


def test_cifar_has_every_class_in_every_batch() -> None:
    truth = truth_of("cifar10", {"images": 120})
    batch = truth["path"].str.extract(r"/(\w+)#")[0]
    assert truth.groupby(batch)["label"].nunique().eq(10).all()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("cifar10", {"images": 59}, "ask for 60 images or more"),
        ("diabetic_retinopathy", {"patients": 9}, "ask for 10 images or more"),
        ("stoic", {"patients": 9, "images": 9}, "phantom.patients: expected no such key"),
    ],
)
def test_too_small_a_phantom_is_refused(name: str, size: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        truth_of(name, {"min_per_class": 1, **size})
    assert message in str(error.value)
