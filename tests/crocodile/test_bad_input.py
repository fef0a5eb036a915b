"""What cannot be trained on or tested is refused by name, before anything is computed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.crocodile.hospitals import (
    Hospital,
    predicting_words,
    training_words,
    write_certificate,
    write_experiment,
)
from workflow_scripts.crocodile import predict, train
from workflow_scripts.crocodile.cases import DatasetFiles, read_dataset
from workflow_scripts.datasets.chest_findings import NINE
from workflow_scripts.problems import InputError


@pytest.fixture
def hospitals(tmp_path: Path) -> list[Hospital]:
    return write_experiment(tmp_path / "hospitals")


def certify(hospitals: list[Hospital], **changed: Any) -> None:
    write_certificate(hospitals[0].folder.parent / "leak_free.json", hospitals, **changed)


def refused(hospitals: list[Hospital], out: Path, **named: Any) -> str:
    with pytest.raises(InputError) as caught:
        train.main(training_words(hospitals, out, **named))
    assert not (out / "model.safetensors").exists()
    return str(caught.value)


def changed(hospital: Hospital, **columns: Any) -> None:
    table = hospital.table()
    for name, (row, value) in columns.items():
        table.loc[row, name] = value
    hospital.change(table)


@pytest.mark.parametrize("value", [-1.0, np.nan, 0.5])
def test_an_uncertain_or_blank_label_is_refused_with_its_image(
    value: float, hospitals: list[Hospital], tmp_path: Path
) -> None:
    changed(hospitals[1], label_Edema=(4, value))
    certify(hospitals)
    told = refused(hospitals, tmp_path / "out")
    assert "south/manifest.parquet column 'label_Edema': expected 1 or 0" in told
    assert f"{value} (image image04.png)" in told


def test_findings_without_a_column_are_all_named(hospitals: list[Hospital], tmp_path: Path) -> None:
    table = hospitals[2].table().drop(columns=["label_Edema", "label_Lung Opacity"])
    hospitals[2].change(table)
    certify(hospitals)
    told = refused(hospitals, tmp_path / "out")
    assert "a column 'label_Edema'" in told
    assert "a column 'label_Lung Opacity'" in told
    assert "choose a label policy" in told


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_domain_without_an_image_of_a_split_is_refused(
    split: str, hospitals: list[Hospital], tmp_path: Path
) -> None:
    table = hospitals[0].table()
    other = "train" if split != "train" else "val"
    hospitals[0].change(table.assign(split=table["split"].replace(split, other)))
    certify(hospitals)
    told = refused(hospitals, tmp_path / "out")
    assert f"data set north, split {split}: expected at least one image, found none" in told
    assert "split_fractions of train, val and test" in told


def test_a_certificate_that_leaks_or_is_of_other_manifests_is_refused(
    hospitals: list[Hospital], tmp_path: Path
) -> None:
    certify(hospitals, leak_free=False, patients_in_two_splits=2)
    assert "found 2 patients, 0 files" in refused(hospitals, tmp_path / "out")
    certify(hospitals)
    changed(hospitals[1], label_Edema=(4, 0.0), label_Effusion=(4, 1.0))
    told = refused(hospitals, tmp_path / "out")
    assert f"the hash of {hospitals[1].path('manifests')}" in told


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (48, "a multiple of 32, at least 64"),
        (72, "a multiple of 32"),
        (96, "gray images of 96 x 96"),
    ],
)
def test_an_image_size_that_does_not_fit_is_refused(
    size: int, message: str, hospitals: list[Hospital], tmp_path: Path
) -> None:
    assert message in refused(hospitals, tmp_path / "out", network={"image_size": size})


def test_a_store_of_colour_or_of_another_manifest_is_refused(
    hospitals: list[Hospital], tmp_path: Path
) -> None:
    store = hospitals[0].path("stores")
    pixels = np.load(store)
    np.save(store, pixels.repeat(3, axis=3))
    assert "found shape (19, 64, 64, 3)" in refused(hospitals, tmp_path / "out")
    np.save(store, pixels)
    index = pd.read_parquet(hospitals[0].path("indexes"))
    index.assign(image_id=index["image_id"] + "x").to_parquet(hospitals[0].path("indexes"))
    assert "image00.pngx" in refused(hospitals, tmp_path / "out")


def test_images_that_are_missing_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hospitals = write_experiment(tmp_path / "hospitals", lost=2)
    one = hospitals[3]
    files = DatasetFiles(*(one.path(k) for k in ("manifests", "cards", "stores", "indexes")))
    with caplog.at_level(logging.WARNING):
        found = read_dataset(files, NINE, 64)
    assert (len(found.table), found.quarantined) == (17, 2)
    assert "abroad: 2 images are in quarantine" in caplog.text
    out = tmp_path / "out"
    train.main(training_words(hospitals, out, "resnet_asl", training={"epochs": 1}))
    record = json.loads((out / "training.json").read_text())
    assert record["quarantined"] == {"north": 2, "south": 2, "east": 2}
    predict.main(predicting_words(out, "OOD", hospitals[3:]))
    table = pd.read_parquet(out / "OOD.parquet")
    assert len(table) == 17
    assert "abroad/image17.png" not in set(table["image_id"])


def test_sources_and_strangers_are_not_exchanged(hospitals: list[Hospital], tmp_path: Path) -> None:
    out = tmp_path / "out"
    train.main(training_words(hospitals, out, "resnet_asl", training={"epochs": 1}))
    for role, given, kind in (
        ("OOD", hospitals[:1], "a source"),
        ("ID", hospitals[3:], "no source"),
    ):
        with pytest.raises(InputError, match=f"{given[0].folder.name}, {kind} of this model"):
            predict.main(predicting_words(out, role, given))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"training": {"epochs": 0}}, "expected at least 1"),
        ({"training": {"epochs": "many"}}, "'epochs': expected a number, found 'many'"),
        ({"training": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"training": {"global_batch": 64}}, "expected at least one global batch of 64 cases"),
        ({"network": {"trunk": "resnet"}}, "--backbone: expected a checkpoint"),
        ({"protocol": "released", "network": {"features": 32}}, "the trunk's 64 channels"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    named: dict[str, Any], message: str, hospitals: list[Hospital], tmp_path: Path
) -> None:
    assert message in refused(hospitals, tmp_path / "out", **named)


def test_options_that_are_no_json_and_lists_of_unequal_length_are_refused(
    hospitals: list[Hospital], tmp_path: Path
) -> None:
    words = training_words(hospitals, tmp_path / "out")
    with pytest.raises(InputError, match="--weights: expected a JSON object"):
        train.main([*words, "--weights", "{1"])
    with pytest.raises(InputError, match="as many cards, stores, indexes as manifests"):
        train.main([*words, "--cards", str(hospitals[0].path("cards"))])
