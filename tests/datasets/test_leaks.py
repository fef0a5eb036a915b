"""Whoever leaks is found: within a data set, across data sets, by patient and by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.command_line import run
from workflow_scripts.datasets import leaks
from workflow_scripts.datasets.manifest import order_columns, write_manifest
from workflow_scripts.problems import InputError

Row = tuple[str, str, str]  # patient, file, split


def save(
    path: Path, rows: list[Row], root: str | None = None, released: list[str] | None = None
) -> Path:
    table = pd.DataFrame(rows, columns=["patient_id", "sha256", "split"])
    table["image_id"] = [f"{path.stem}{i}" for i in range(len(rows))]
    table["path"], table["label"], table["age_years"] = table["image_id"], 0, float("nan")
    for name in ("study_id", "view", "domain", "sex", "race"):
        table[name] = None
    if released:
        table["split_released"], table["order_released"] = released, range(len(rows))
    card = {"dataset": path.stem, "layout": "table", "patients_known": True, "phantom": False}
    write_manifest(path, order_columns(table, ["x"]), card, {"root": root} if root else {})
    return path


def refusal(*paths: Path) -> str:
    with pytest.raises(InputError) as error:
        leaks.certify(paths)
    return str(error.value)


def test_a_sound_split_is_certified(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.parquet", [("p", "1", "train"), ("p", "2", "train"), ("q", "3", "test")]
    )
    certificate = leaks.certify([path])
    assert list(certificate) == ["split"]
    assert certificate["split"]["leak_free"] is True
    assert list(certificate["split"]["manifests"]) == ["a"]


def test_a_patient_in_two_splits_is_refused_and_no_file_is_written(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.parquet", [("p", "1", "train"), ("p", "2", "test"), ("q", "3", "test")]
    )
    out = tmp_path / "leak_free.json"
    assert run(leaks.main, ["--manifests", str(path), "--out", str(out)]) == 1
    assert not out.exists()
    text = refusal(path)
    assert "patient table:a/p: expected one split, found a/a0 in train, a/a1 in test" in text
    assert "q" not in text.replace("next step", "").split("found")[1]


def test_a_file_in_two_splits_is_refused(tmp_path: Path) -> None:
    rows = [("p", "1", "train"), ("q", "1", "test")]
    path = save(tmp_path / "a.parquet", rows)
    assert "identical files: expected one split" in refusal(path)


def test_identical_files_in_one_split_are_no_leak(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.parquet", [("p", "1", "train"), ("q", "1", "train"), ("r", "2", "test")]
    )
    assert leaks.certify([path])["split"]["leak_free"]


def test_a_file_in_the_splits_of_two_data_sets_is_refused(tmp_path: Path) -> None:
    one = save(tmp_path / "a.parquet", [("p", "1", "train")])
    two = save(tmp_path / "b.parquet", [("q", "1", "test")])
    assert "a/a0 in train, b/b0 in test" in refusal(one, two)


def test_patients_of_two_data_sets_are_different_people(tmp_path: Path) -> None:
    one = save(tmp_path / "a.parquet", [("p", "1", "train")])
    two = save(tmp_path / "b.parquet", [("p", "2", "test")])
    assert leaks.certify([one, two])["split"]["leak_free"]


def test_patients_of_two_data_sets_from_one_folder_are_the_same_people(tmp_path: Path) -> None:
    one = save(tmp_path / "a.parquet", [("p", "1", "train")], root="nih")
    two = save(tmp_path / "b.parquet", [("p", "2", "test")], root="nih")
    assert "patient table:nih/p" in refusal(one, two)


def test_a_released_split_that_leaks_is_written_down(tmp_path: Path) -> None:
    rows: list[Row] = [("p", "1", "train"), ("p", "2", "train"), ("q", "3", "test")]
    path = save(tmp_path / "a.parquet", rows, released=["train", "test", "test"])
    out = tmp_path / "leak_free.json"
    assert run(leaks.main, ["--manifests", str(path), "--out", str(out)]) == 0
    certificate: dict[str, Any] = json.loads(out.read_text())
    assert certificate["split"]["leak_free"] is True
    released = certificate["split_released"]
    assert (released["leak_free"], released["patients_in_two_splits"]) == (False, 1)
    assert released["examples"]["patients"] == ["table:a/p"]


def test_copies_of_a_patient_who_trains_in_a_released_split_are_written_down(
    tmp_path: Path,
) -> None:
    rows = [("p", "1", "train"), ("q", "2", "test")]
    whole = save(tmp_path / "a.parquet", rows, root="x", released=["train", "test"])
    other = save(tmp_path / "b.parquet", rows, root="x", released=["test", "train"])
    copies = save(tmp_path / "c.parquet", [("q", "3", "test")], root="x")  # no released split
    sound = leaks.certify([whole, copies])["split_released"]
    assert (sound["leak_free"], sound["patients_in_two_splits"]) == (True, 0)
    leaking = leaks.certify([other, copies])["split_released"]
    assert (leaking["leak_free"], leaking["patients_in_two_splits"]) == (False, 1)
    assert leaking["examples"]["patients"] == ["table:x/q"]


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    assert "expected a manifest, found no file" in refusal(tmp_path / "none.parquet")
    pd.DataFrame({"image_id": ["a"]}).to_parquet(tmp_path / "other.parquet")
    assert "without its metadata" in refusal(tmp_path / "other.parquet")


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from("12345678"), st.sampled_from(["train", "test"])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_leaks_are_those_that_a_plain_search_finds(rows: list[Row]) -> None:
    table = pd.DataFrame(rows, columns=["patient", "sha256", "split"])
    table["image"] = [str(i) for i in range(len(rows))]
    found = leaks.find_leaks(table, "split")
    for position, name in enumerate(("patients_in_two_splits", "files_in_two_splits")):
        splits: dict[str, set[str]] = {}
        for row in rows:
            splits.setdefault(row[position], set()).add(row[2])
        assert found[name] == sum(len(parts) > 1 for parts in splits.values())
