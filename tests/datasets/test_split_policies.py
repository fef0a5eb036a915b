"""Splits beyond the drawn one: biased, test-only, with validation; and what is remembered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets import chexpert, file_checks, leaks, manifest, mimic_cxr, padchest
from workflow_scripts.datasets.biased_split import (
    BiasedSplit,
    belongs,
    cell_counts,
    cell_names,
    draw_biased,
    training_cells,
)
from workflow_scripts.datasets.integrity import FileVerdict
from workflow_scripts.datasets.layout import TRUTH_COLUMNS, check_options
from workflow_scripts.problems import InputError
from workflow_scripts.randomness import named_rng

DNE = json.loads(Path("tests/golden/dne.json").read_text())
LONG_AGO_NS = 1_600_000_000_000_000_000


def people(seed: int, n_patients: int = 120) -> pd.DataFrame:
    """Images of patients of either sex (a few unknown) with one of two labels."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(n_patients):
        sex = rng.choice(["F", "M", None], p=[0.47, 0.47, 0.06])
        rows += [
            (f"{patient}_{image}", f"p{patient}", sex, int(rng.integers(2)))
            for image in range(int(rng.integers(1, 4)))
        ]
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "sex", "label"])


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0]), st.integers(10, 40))
@settings(max_examples=25)
def test_a_biased_split_has_the_stated_cells_and_no_patient_twice(
    seed: int, bias: float, n_train: int
) -> None:
    table = people(seed)
    options = BiasedSplit(bias=bias, n_train=n_train, n_test_per_cell=4, n_val_per_cell=2)
    table["split"] = draw_biased(table, options, np.random.default_rng(seed))
    drawn = table[table["split"].notna()]
    assert drawn.groupby("patient_id")["split"].nunique().max() == 1
    cells = cell_counts(drawn, "sex")
    assert set(cells["test"].values()) == {4}
    assert set(cells["val"].values()) == {2}
    assert cells["train"] == training_cells(options)
    aligned = cells["train"]["male, class 0"] + cells["train"]["not male, class 1"]
    assert abs(aligned - bias * n_train) <= 1
    assert drawn["sex"].notna().all()


@given(st.integers(0, 300))
@settings(max_examples=15)
def test_an_image_that_is_not_drawn_can_go_without_moving_another(seed: int) -> None:
    table = people(seed)
    options = BiasedSplit(n_train=20, n_test_per_cell=3)
    before = draw_biased(table, options, np.random.default_rng(seed))
    keep = np.random.default_rng(seed + 1).random(len(table)) < 0.9
    keep |= before.notna().to_numpy()
    after = draw_biased(table[keep].iloc[::-1], options, np.random.default_rng(seed))
    assert after.fillna("").to_dict() == before[keep].fillna("").to_dict()


def test_attributes_of_debiased_noise_are_the_released_ones_where_they_are_known() -> None:
    golden = DNE["N_dataset"]
    rows = pd.DataFrame(golden["rows"], columns=golden["columns"])
    sex = rows["Sex"].map({"Male": "M", "Female": "F"})
    table = pd.DataFrame({"sex": sex, "race": rows["Race"], "age_years": rows["Age"]})
    for name, column in (("sex", "Sex"), ("race", "Race"), ("age_years", "Age")):
        found = belongs(table, name)
        known = found.notna()
        expected = np.array(golden["sensitive"][column])[known.to_numpy()]
        assert found[known].astype(int).tolist() == expected.tolist()
    assert belongs(table, "sex").isna().tolist() == [False, False, True, False, False]


def test_too_few_images_for_a_biased_split_are_refused_with_every_cell() -> None:
    options = BiasedSplit(n_train=20, n_test_per_cell=500)
    with pytest.raises(InputError) as error:
        draw_biased(people(0), options, np.random.default_rng(0))
    text = str(error.value)
    for cell in ("male, class 0", "male, class 1", "not male, class 0", "not male, class 1"):
        assert f"biased split, test: expected 500 images of {cell}" in text


def test_options_that_a_biased_split_or_its_labels_cannot_heed_are_refused(tmp_path: Path) -> None:
    chexpert.write(tmp_path, chexpert_truth(), noise, {})
    options = {"layout": "chexpert", "label_policy": "no_finding_vs_disease"}
    options |= {"split_policy": "biased"}
    for key, value in (("val_fraction", 0.1), ("split_fractions", {"train": 0.8, "test": 0.2})):
        with pytest.raises(InputError, match=f"option {key}: expected nothing beside"):
            check_options(chexpert.LAYOUT, {**options, key: value})
    for rule in ("positive", "negative", "released_dne"):
        with pytest.raises(InputError, match="option uncertain: expected ignore"):
            chexpert.read(tmp_path, {**options, "uncertain": rule})
    assert len(chexpert.read(tmp_path, {**options, "uncertain": "ignore"}).table) == 120


FRONTAL = {"Edema": 49_674, "Pleural Effusion": 76_894, "Pneumonia": 4_674}  # of CheXpert's train
WOMEN = 0.4  # about the share of CheXpert's images


def test_the_published_plan_asks_for_no_more_images_of_a_disease_than_chexpert_has() -> None:
    config = yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8"))
    biased = [one for one in config["datasets"].values() if "biased_split" in one]
    assert {one["disease"] for one in biased} == set(FRONTAL)
    for entry in biased:
        options = BiasedSplit(**entry["biased_split"])
        in_train = training_cells(options)
        apart = options.n_test_per_cell + options.n_val_per_cell
        if options.attribute == "sex":
            there = WOMEN * FRONTAL[entry["disease"]]
            assert in_train["not male, class 1"] + apart <= there, entry["disease"]


def test_an_unknown_attribute_is_in_no_cell() -> None:
    table = pd.DataFrame({"sex": ["M", None, "F"], "label": [1, 1, 0]})
    assert cell_names(table, "sex").tolist() == ["male, class 1", None, "not male, class 0"]


def noise(row: dict[str, Any]) -> Image.Image:
    rng = np.random.default_rng(list(row["image_id"].encode()))
    return Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))


def chexpert_truth(n_patients: int = 60, n_valid: int = 0) -> pd.DataFrame:
    rows = []
    for patient in range(1, n_patients + n_valid + 1):
        part = "valid" if patient > n_patients else "train"
        for study in (1, 2):
            image = f"{part}/patient{patient:05}/study{study}/view1_frontal.jpg"
            ill = (patient + study) % 2
            rows.append(
                dict.fromkeys(TRUTH_COLUMNS)
                | {"image_id": image, "path": f"{chexpert.SMALL}/{image}", "view": "PA"}
                | {"patient_id": f"patient{patient:05}", "age_years": 40.0 + patient % 50}
                | {"study_id": f"patient{patient:05}/study{study}", "sex": "FM"[patient // 2 % 2]}
                | {"label_text": "Pleural Effusion=1" if ill else "No Finding=1"}
                | {"split": {"train": "train", "valid": "test"}[part] if n_valid else None}
            )
    return pd.DataFrame(rows)


def write_certified(
    folder: Path, name: str, root: Path, options: dict[str, Any], **more: Any
) -> dict[str, Any]:
    table, card, _ = manifest.build(name, options, root, seed=0, jobs=1, **more)
    manifest.write_manifest(folder / f"{name}.parquet", table, card, options)
    return card


def test_debiased_noise_gets_its_biased_split_and_a_card_with_its_cells(tmp_path: Path) -> None:
    chexpert.write(tmp_path / "raw", chexpert_truth(), noise, {})
    options = {"layout": "chexpert", "root": "chexpert", "label_policy": "no_finding_vs_disease"}
    options |= {"split_policy": "biased", "biased_split": {"n_train": 40, "n_test_per_cell": 5}}
    card = write_certified(tmp_path, "dne", tmp_path / "raw", options)
    assert card["classes"] == ["No Finding", "Pleural Effusion"]
    assert card["cells"]["test"] == dict.fromkeys(card["cells"]["test"], 5)
    assert card["cells"]["train"]["male, class 0"] == 18
    assert card["biased_split"]["bias"] == 0.9
    assert card["flow"][-1] == {"step": "drawn for the split", "images": 60, "patients": 60} | {
        "patients": card["flow"][-1]["patients"]
    }
    assert leaks.certify([tmp_path / "dne.parquet"])["split"]["leak_free"]


def test_a_split_biased_by_age_or_race_says_what_is_missing(tmp_path: Path) -> None:
    chexpert.write(tmp_path / "raw", chexpert_truth(), noise, {})
    options = {"layout": "chexpert", "root": "chexpert", "label_policy": "no_finding_vs_disease"}
    options |= {"split_policy": "biased"}
    split = {"attribute": "age_years", "aligned_class": 1, "n_train": 20, "n_test_per_cell": 3}
    card = write_certified(tmp_path, "age", tmp_path / "raw", options | {"biased_split": split})
    assert card["cells"]["train"]["over_60, class 1"] == 9  # 0.9 of 20, half of each class
    assert card["cells"]["train"]["over_60, class 0"] == 1
    race = {**split, "attribute": "race"}
    with pytest.raises(InputError, match=r"CHEXPERT DEMO\.xlsx"):
        write_certified(tmp_path, "race", tmp_path / "raw", options | {"biased_split": race})


def test_official_training_patients_are_drawn_for_validation(tmp_path: Path) -> None:
    chexpert.write(tmp_path / "raw", chexpert_truth(40, 10), noise, {})
    options = {"layout": "chexpert", "split_policy": "official", "label_policy": "nine_findings"}
    whole = manifest.build("c", options, tmp_path / "raw", seed=0, jobs=1)[0]
    options["val_fraction"] = 0.25
    table, card, _ = manifest.build("c", options, tmp_path / "raw", seed=0, jobs=1)
    patients = table.groupby("split")["patient_id"].nunique().to_dict()
    assert patients == {"test": 10, "train": 30, "val": 10}
    assert (table["split"] == "test").tolist() == (whole["split"] == "test").tolist()
    assert "0.25 of the training patients" in card["split_policy"]
    assert set(table["split_released"]) == {"train", "test"}


def mimic_truth() -> pd.DataFrame:
    rows = []
    for patient in range(6):
        subject, study = f"1000003{patient}", f"5041426{patient}"
        dicom = f"dicom{patient}"
        rows.append(
            dict.fromkeys(TRUTH_COLUMNS)
            | {"image_id": dicom, "path": f"files/p10/p{subject}/s{study}/{dicom}.jpg"}
            | {"patient_id": subject, "study_id": study, "view": "PA", "label_text": "Edema=1"}
            | {"age_years": float("nan")}
        )
    return pd.DataFrame(rows)


def padchest_truth() -> pd.DataFrame:
    rows = []
    for patient in range(10):
        name = f"{patient}.png"
        rows.append(
            dict.fromkeys(TRUTH_COLUMNS)
            | {"image_id": name, "path": f"3/{name}", "patient_id": f"p{patient}", "view": "PA"}
            | {"study_id": f"s{patient}", "label_text": "normal", "age_years": 50.0, "sex": "F"}
        )
    return pd.DataFrame(rows)


def test_an_experiment_is_certified_over_all_its_data_sets(tmp_path: Path) -> None:
    mimic_cxr.write(tmp_path / "mimic", mimic_truth(), noise, {})
    padchest.write(tmp_path / "pad", padchest_truth(), noise, {})
    test_only = {"layout": "mimic_cxr", "split_policy": "test_only"}
    card = write_certified(tmp_path, "mimic_cxr", tmp_path / "mimic", test_only)
    assert list(card["counts"]) == ["test"]
    write_certified(tmp_path, "padchest", tmp_path / "pad", {"layout": "padchest"})
    both = [tmp_path / "mimic_cxr.parquet", tmp_path / "padchest.parquet"]
    certificate = leaks.certify(both)["split"]
    assert certificate["leak_free"]
    assert set(certificate["manifests"]) == {"mimic_cxr", "padchest"}
    # the same file under another name in a data set that is trained on
    train = pd.read_parquet(both[1]).query("split == 'train'")["path"].iloc[0]
    stolen = next((tmp_path / "mimic").rglob("dicom0.jpg")).read_bytes()
    (tmp_path / "pad" / train).write_bytes(stolen)
    write_certified(tmp_path, "padchest", tmp_path / "pad", {"layout": "padchest"})
    with pytest.raises(InputError, match="mimic_cxr/dicom0 in test, padchest/"):
        leaks.certify(both)


def test_adding_a_data_set_never_moves_another_ones_split(tmp_path: Path) -> None:
    chexpert.write(tmp_path / "raw", chexpert_truth(), noise, {})
    options = {"layout": "chexpert", "root": "chexpert"}
    alone = manifest.build("a", options, tmp_path / "raw", seed=0, jobs=1)[0]
    padchest.write(tmp_path / "pad", padchest_truth(), noise, {})
    manifest.build("b", {"layout": "padchest", "root": "pad"}, tmp_path / "pad", seed=0, jobs=1)
    again = manifest.build("renamed", options, tmp_path / "raw", seed=0, jobs=1)[0]
    assert alone["split"].tolist() == again["split"].tolist()


def age(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def test_files_once_checked_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tmp_path / "raw", tmp_path / "state" / "files.jsonl"
    chexpert.write(root, chexpert_truth(20), noise, {})
    broken = sorted(root.rglob("*.jpg"))[0]
    broken.write_bytes(b"")
    age(root)
    options = {"layout": "chexpert"}
    first = manifest.build("c", options, root, 0, 1, cache)
    read: list[str] = []
    really = file_checks.check_files

    def watched(root: Path, paths: list[str], modes: frozenset[str]) -> list[FileVerdict]:
        read.extend(paths)
        return really(root, paths, modes)

    monkeypatch.setattr(file_checks, "check_files", watched)
    again = manifest.build("c", options, root, 0, 1, cache)
    assert read == []
    pd.testing.assert_frame_equal(first[0], again[0])
    assert first[1] == again[1]
    changed = sorted(root.rglob("*.jpg"))[3]
    Image.new("L", (20, 20), 77).save(changed)
    fresh = manifest.build("c", options, root, 0, 1, cache)
    assert read == [changed.relative_to(root).as_posix()]
    assert (fresh[0]["sha256"] != again[0]["sha256"]).sum() == 1
    manifest.build("c", options, root, 0, 1, cache)
    assert len(read) == 2  # it has just changed, and may change again: nobody relies on it


def test_a_killed_check_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tmp_path / "raw", tmp_path / "files.jsonl"
    chexpert.write(root, chexpert_truth(20), noise, {})
    age(root)
    monkeypatch.setattr(file_checks, "CHUNK", 8)
    really = file_checks.check_files
    seen: list[str] = []

    def killed(root: Path, paths: list[str], modes: frozenset[str]) -> list[FileVerdict]:
        seen.extend(paths)
        if len(seen) == 24:
            raise KeyboardInterrupt
        return really(root, paths, modes)

    with monkeypatch.context() as patch:
        patch.setattr(file_checks, "check_files", killed)
        with pytest.raises(KeyboardInterrupt):
            manifest.build("c", {"layout": "chexpert"}, root, 0, 1, cache)
    seen.clear()

    def watched(root: Path, paths: list[str], modes: frozenset[str]) -> list[FileVerdict]:
        seen.extend(paths)
        return really(root, paths, modes)

    monkeypatch.setattr(file_checks, "check_files", watched)
    manifest.build("c", {"layout": "chexpert"}, root, 0, 1, cache)
    assert len(seen) == 40 - 16


@given(st.integers(0, 400), st.binary(max_size=30))
@settings(max_examples=30)
def test_a_half_written_line_is_as_good_as_absent(cut: int, junk: bytes) -> None:
    import tempfile

    stamp = file_checks.Stamp(5, LONG_AGO_NS)
    one, two = (
        [(name, stamp, FileVerdict("ab" * 32, reason))]
        for name, reason in (("a.png", None), ("b\n.png", "empty file"))
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "files.jsonl"
        file_checks.append_to_cache(cache, {"L"}, one, LONG_AGO_NS * 2)
        whole = cache.read_bytes()
        half = whole[: min(cut, len(whole) - 2)] + junk.replace(b"\n", b"")
        assume(half.strip() != whole.strip())  # the junk may be the very end that was cut off
        cache.write_bytes(half)
        file_checks.append_to_cache(cache, {"L"}, two, LONG_AGO_NS * 2)
        known = file_checks.read_cache(cache, {"L"})
        assert known == {"b\n.png": (stamp, FileVerdict("ab" * 32, "empty file"))}
        assert file_checks.read_cache(cache, {"RGB"}) == {}  # other modes, other verdicts


def test_streams_of_splits_have_names_of_their_own() -> None:
    purposes = ("split", "validation", "biased split")
    draws = {named_rng(0, purpose, "chexpert").random() for purpose in purposes}
    assert len(draws) == len(purposes)
