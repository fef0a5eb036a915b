"""Files that do not belong together are refused, each with its own message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.few_shot import main

EvaluationFiles = Any  # the class in conftest.py, which tests cannot import
Maker = Callable[..., EvaluationFiles]
SMALL = ("--n-support", "3", "--n-query", "2", "--n-episodes", "8")


def refusal(files: EvaluationFiles, *more: str, protocol: str = "corrected") -> str:
    with pytest.raises(InputError) as caught:
        main(files.arguments(protocol, *SMALL, *more))
    assert not (files.folder / f"{protocol}.parquet").exists()
    return str(caught.value)


def test_every_missing_file_is_named(make_files: Maker) -> None:
    files = make_files()
    given = files.arguments("corrected")
    for name in ("card.json", "features.npz"):
        (files.folder / name).unlink()
    with pytest.raises(InputError) as caught:
        main(given)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "name", ["dataset", "checkpoint", "architecture", "backbone_sha256", "normalisation"]
)
def test_features_of_something_else_are_refused(make_files: Maker, name: str) -> None:
    files = make_files()
    files.provenance[name] = "other"
    assert f"features.npz, provenance '{name}'" in refusal(files)


def test_features_of_another_geometry_are_refused_under_each_protocol(make_files: Maker) -> None:
    assert "expected 'squash224', found 'short224'" in refusal(make_files(), protocol="released")
    files = make_files()
    files.provenance["geometry"] = "squash224"
    assert "expected 'short224', found 'squash224'" in refusal(files)


def test_an_image_that_the_manifest_does_not_know_is_named(make_files: Maker) -> None:
    files = make_files()
    files.image_id = np.where(files.image_id == "image_007", "image_999", files.image_id)
    assert "image 'image_999': expected an image of" in refusal(files)


def test_an_image_with_two_rows_of_features_is_named(make_files: Maker) -> None:
    files = make_files()
    files.image_id = np.where(files.image_id == "image_007", "image_008", files.image_id)
    assert "image 'image_008': expected one row an image, found two" in refusal(files)


def test_quarantined_images_are_counted_and_never_shown(make_files: Maker) -> None:
    files = make_files()
    keep = np.arange(60) >= 4
    files.features, files.image_id = files.features[keep], files.image_id[keep]
    main(files.arguments("corrected", *SMALL))
    path = files.folder / "corrected.parquet"
    assert b'"images_quarantined": 4' in pq.read_schema(path).metadata[b"steadfast"]
    lost = {f"image_00{i}" for i in range(4)}
    assert not lost & set(pd.read_parquet(path).image_id)


def test_features_follow_their_image_whatever_the_row_order(make_files: Maker) -> None:
    contents = []
    for order in (np.arange(60), np.random.default_rng(0).permutation(60)):
        files = make_files()
        files.features, files.image_id = files.features[order], files.image_id[order]
        main(files.arguments("corrected", *SMALL))
        contents.append(pd.read_parquet(files.folder / "corrected.parquet"))
    pd.testing.assert_frame_equal(*contents)


def test_features_that_are_not_finite_are_named_with_their_image(make_files: Maker) -> None:
    files = make_files()
    files.features[7, 2] = np.nan
    assert "row 7 (image_007): expected finite features" in refusal(files)


@pytest.mark.parametrize("features", [np.zeros((60, 6)), np.zeros((59, 6), np.float32)])
def test_features_of_another_shape_or_type_are_refused(
    make_files: Maker, features: np.ndarray
) -> None:
    files = make_files()
    files.features = features
    assert "float32 features, one row an image" in refusal(files)


def test_a_split_without_leak_certificate_is_refused(make_files: Maker) -> None:
    files = make_files()
    del files.leak_free["split_released"]
    files.provenance["geometry"] = "squash224"
    message = refusal(files, protocol="released")
    assert "a leak certificate of 'split_released', found certificates of split" in message


def test_a_sound_split_that_leaks_is_refused(make_files: Maker) -> None:
    files = make_files()
    files.leak_free["split"] |= {"leak_free": False, "patients_in_two_splits": 2}
    assert "no patient and no file in two splits, found 2 patients" in refusal(files)


def test_a_leak_of_the_released_split_is_used_and_recorded(make_files: Maker) -> None:
    files = make_files()
    files.provenance["geometry"] = "squash224"
    main(files.arguments("released", *SMALL))
    metadata = pq.read_schema(files.folder / "released.parquet").metadata[b"steadfast"]
    assert b'"patients_in_two_splits": 9' in metadata


def test_a_data_set_without_released_order_is_refused_under_released(make_files: Maker) -> None:
    files = make_files()
    files.provenance["geometry"] = "squash224"
    del files.table["order_released"]
    assert "'order_released' for --protocol released" in refusal(files, protocol="released")


def test_a_label_outside_the_cards_classes_is_named(make_files: Maker) -> None:
    files = make_files()
    files.table.loc[9, "label"] = 2
    assert "image 'image_009': expected a label of 0 to 1" in refusal(files)


@pytest.mark.parametrize("column", ["image_id", "patient_id", "split"])
def test_a_gap_in_an_identity_is_refused(make_files: Maker, column: str) -> None:
    files = make_files()
    files.table.loc[9, column] = None
    assert f"column '{column}': expected no gap, found 1 gaps" in refusal(files)


def test_an_image_twice_in_the_manifest_is_refused(make_files: Maker) -> None:
    files = make_files()
    files.table.loc[9, "image_id"] = "image_008"
    assert "image_008 twice" in refusal(files)


def test_a_missing_column_is_named(make_files: Maker) -> None:
    files = make_files()
    del files.table["patient_id"]
    assert "the columns patient_id" in refusal(files)


def test_a_card_without_a_key_is_refused(make_files: Maker) -> None:
    files = make_files()
    del files.card["metric"]
    assert "card.json: expected the keys metric" in refusal(files)


def test_a_seed_that_no_generator_takes_is_refused(
    make_files: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(make_files().arguments("corrected", "--seed", "-1"))
    assert "expected 0 to 4294967295, found -1" in capsys.readouterr().err


def test_synthetic_images_or_weights_make_the_result_a_phantoms(make_files: Maker) -> None:
    for source in ("card", "certificate"):
        files = make_files()
        getattr(files, source)["phantom"] = True
        main(files.arguments("corrected", *SMALL))
        metadata = pq.read_schema(files.folder / "corrected.parquet").metadata[b"steadfast"]
        assert b'"data": "phantom"' in metadata


def several_findings(files: EvaluationFiles) -> EvaluationFiles:
    labels = files.table.pop("label")
    files.table["label_mass"] = labels.astype(float).where(np.arange(60) >= 6)
    files.table["label_nodule"] = 1.0
    return files


def test_a_multi_label_data_set_asks_for_one_finding(make_files: Maker) -> None:
    message = refusal(several_findings(make_files()))
    assert "expected --finding, one of mass, nodule" in message


def test_an_unknown_finding_is_refused(make_files: Maker) -> None:
    message = refusal(several_findings(make_files()), "--finding", "fracture")
    assert "one of mass, nodule, found no such finding" in message


def test_a_finding_of_a_single_label_data_set_is_refused(make_files: Maker) -> None:
    assert "expected no --finding" in refusal(make_files(), "--finding", "mass")


def test_one_finding_is_a_task_of_two_classes_without_the_unknown_cases(make_files: Maker) -> None:
    files = several_findings(make_files())
    main(files.arguments("corrected", *SMALL, "--finding", "mass"))
    path = files.folder / "corrected.parquet"
    metadata = pq.read_schema(path).metadata[b"steadfast"]
    assert b'"classes": ["no mass", "mass"]' in metadata
    assert b'"images_without_label": 6' in metadata
    assert pd.read_parquet(path).image_id.min() >= "image_006"
