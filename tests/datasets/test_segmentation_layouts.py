from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.segmentation_archives import manifest_of, small_volume, truth_of, write_small
from workflow_scripts.datasets import acdc_lists, bcdr, leaks, mms
from workflow_scripts.datasets.layout import layout_named
from workflow_scripts.datasets.manifest import write_manifest
from workflow_scripts.datasets.nifti import read_nifti
from workflow_scripts.problems import InputError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "volumes.json").read_text())
SPLITS = json.loads(acdc_lists.SOURCE.read_text())
NOT_IN_FILES = {
    "acdc": ("vendor",),
    "frames": ("vendor", "group"),
    "mms": ("group",),  # only the newer release's CSV has it
}
SAME = ["path", "patient_id", "frame", "group", "vendor", "center", "view", "domain", "contour"]


@pytest.mark.parametrize("layout", ["acdc", "frames", "mms", "bcdr"])
@settings(max_examples=3)
@given(n_patients=st.integers(5, 8), seed=st.integers(0, 99))
def test_what_is_written_is_read_back(layout: str, n_patients: int, seed: int) -> None:
    truth = truth_of(layout, n_patients, seed)
    with tempfile.TemporaryDirectory() as folder:
        one = layout_named(layout)
        assert one.write is not None
        one.write(Path(folder), truth, small_volume, {})
        found = one.read(Path(folder), {}).table
    truth, found = (part.set_index("image_id").sort_index() for part in (truth, found))
    assert list(found.index) == list(truth.index)
    for column in set(SAME) & set(truth.columns):
        if column not in NOT_IN_FILES.get(layout, ()):
            assert found[column].fillna("-").tolist() == truth[column].fillna("-").tolist()


@pytest.mark.parametrize("layout", ["acdc", "frames", "mms", "bcdr"])
def test_every_layout_gives_a_whole_manifest(layout: str, tmp_path: Path) -> None:
    truth = write_small(tmp_path, layout, 9)
    options = {"split_policy": "drawn"} if layout == "bcdr" else {}
    table, card, quarantine = manifest_of(tmp_path, layout, **options)
    assert len(table) == len(truth)
    assert quarantine.empty
    assert card["phantom"] is True
    assert table["image_id"].is_monotonic_increasing
    assert set(table["split"]) <= {"train", "val", "test"}
    assert card["flow"][-1]["images"] == len(truth)
    write_manifest(tmp_path / "m.parquet", table, card, {})
    assert leaks.certify([tmp_path / "m.parquet"])["split"]["leak_free"]


def test_acdc_labels_are_in_the_targets_order_after_reading(tmp_path: Path) -> None:
    row = write_small(tmp_path, "acdc").iloc[0]
    raw, _ = read_nifti(tmp_path / row["mask_path"])
    golden = GOLDEN["acdc_label_remap"]
    order = dict(zip(golden["target"], golden["raw"], strict=True))
    expected = np.vectorize(order.get)(small_volume(dict(row)).mask)
    np.testing.assert_array_equal(raw.voxels[0], expected)


@pytest.mark.parametrize("setting", SPLITS["few_shot"]["train_by_setting_and_cval"])
def test_few_shot_draws_are_the_released_lists(setting: str) -> None:
    for fold, expected in SPLITS["few_shot"]["train_by_setting_and_cval"][setting].items():
        assert list(acdc_lists.draw_few_shot(float(setting), int(fold))) == expected
        found = acdc_lists.released_list(f"{setting}_cv_{fold}")
        overlap = sorted(set(found["train"]) & set(found["val"]))
        assert overlap == sorted(SPLITS["train_validate_overlap"][setting][fold])


def test_upper_bound_lists_train_on_the_unlabelled_patients_as_well() -> None:
    for name, n in {"one_shot_upperbound_cv_0": 26, "25_shot_upperbound_cv_2": 50}.items():
        lists = acdc_lists.released_list(name)
        assert len(lists["train"]) == n
        assert not set(lists["train"]) & set(lists["test"])


@pytest.mark.parametrize(
    "name", ["10_cv_5", "10", "41_cv_0", "0_cv_0", "nine_cv_1", "_cv_0", "-3_cv_0"]
)
def test_a_list_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="option lists: expected"):
        acdc_lists.released_lists([name])


def test_a_list_with_a_patient_in_two_splits_is_shown_and_certified_as_leaking(
    tmp_path: Path,
) -> None:
    table = pd.DataFrame({"patient_id": ["002", "022", "011", "007"]})
    from workflow_scripts.datasets.volume_manifest import with_lists

    table = with_lists(table, acdc_lists.released_lists(["10_cv_1", "standard_cv_0"]))
    column = "split_released_10_cv_1"
    assert table[column].tolist() == ["train+val", "train+val", "val", "test"]
    images = table.assign(patient=table["patient_id"], sha256=list("abcd"), image=list("wxyz"))
    assert leaks.find_leaks(images, column)["patients_in_two_splits"] == 2
    assert leaks.find_leaks(images, "split_released_standard_cv_0")["leak_free"]


def test_bcdr_split_is_the_released_one() -> None:
    golden = GOLDEN["group_split_seed13"]
    split = bcdr.released_split(pd.Series([str(one) for one in golden["patient_id"]]))
    for name in ("train", "val", "test"):
        assert split.index[split == name].tolist() == golden[f"{name}_rows"]


def test_mms_patients_without_reference_are_counted_and_left_out(tmp_path: Path) -> None:
    write_small(tmp_path, "mms", 8)
    (tmp_path / "Training/Unlabeled").mkdir()
    name = sorted((tmp_path / "Training/Labeled").iterdir())[0].name
    (tmp_path / "Training/Labeled" / name).rename(tmp_path / "Training/Unlabeled" / name)
    table, card, _ = manifest_of(tmp_path, "mms")
    assert name not in set(table["patient_id"])
    assert [step["images"] for step in card["flow"]][:3] == [16, 16, 14]


def test_frames_of_one_file_are_told_apart(tmp_path: Path) -> None:
    write_small(tmp_path, "mms", 6)
    table, _, _ = manifest_of(tmp_path, "mms")
    per_file = table.groupby("path")["frame_index"].nunique()
    assert (per_file == 2).all()


def test_mms_frames_may_have_been_saved_with_decimals(tmp_path: Path) -> None:
    write_small(tmp_path, "mms", 5)
    path = tmp_path / mms.INDEX_NAMES[0]
    before = mms.read(tmp_path, {}).table
    cells = pd.read_csv(path).astype({"ED": float, "ES": float})
    cells.to_csv(path, index=False)
    pd.testing.assert_frame_equal(mms.read(tmp_path, {}).table, before)


def test_a_vendor_that_the_mms_table_does_not_know_is_refused(tmp_path: Path) -> None:
    write_small(tmp_path, "mms", 5)
    with pytest.raises(InputError, match=r"option vendors: expected some of .* found 'Phillips'"):
        mms.read(tmp_path, {"vendors": ["Phillips"]})


def test_an_archive_for_testing_only_needs_nobody_to_train_on(tmp_path: Path) -> None:
    write_small(tmp_path, "mms", 6)
    table, card, _ = manifest_of(tmp_path, "mms", split_policy="test_only")
    assert set(table["split"]) == {"test"}
    assert card["split_policy"] == "every patient is for testing"


def test_one_slice_volume_is_kept_and_flagged(tmp_path: Path) -> None:
    from workflow_scripts.datasets.nifti import write_nifti

    truth = write_small(tmp_path, "acdc")
    row = truth.iloc[0]
    volume = small_volume(dict(row))
    write_nifti(tmp_path / row["path"], volume.image[:1], volume.spacing_mm)
    write_nifti(tmp_path / row["mask_path"], volume.mask[:1], volume.spacing_mm)
    table, card, quarantine = manifest_of(tmp_path, "acdc")
    assert quarantine.empty
    assert table.set_index("image_id").loc[row["image_id"], "flags"] == "one_slice"
    assert card["flagged"] == {"one_slice": 1}
