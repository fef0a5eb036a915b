from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.cooperative_training.archive import mask_of, open_store
from tests.cooperative_training.golden_network import GOLDEN
from workflow_scripts.cooperative_training.augmentation import Policy
from workflow_scripts.cooperative_training.patients import check_leaks, patients_of
from workflow_scripts.cooperative_training.slices import (
    Sizes,
    Slices,
    centre_window,
    from_crop,
    join_items,
    make_batch,
    rows_of,
    to_crop,
    to_window,
)
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.problems import InputError
from workflow_scripts.training.sampler import Draw

SIZES = Sizes(window=32, crop=16)


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    names = ["001_ED", "001_ES", "002_ED", "002_ES"]
    return open_store(tmp_path, {name: mask_of(n, empty=1) for n, name in enumerate(names)})


def slices_of(store: VolumeStore, **options: Any) -> Slices:
    settings = {"policy": Policy(), "seed": 3, "empty": "replace", "where": "store", **options}
    return Slices(store, ["002", "001"], SIZES, **settings)


def test_window_is_golden() -> None:
    golden = GOLDEN["transforms"]["pad_numpy_minimum"]
    image = np.array(golden["input_HWC"])
    rows, columns = golden["size"][:2]
    found = to_window(image, 6)  # 5 rows of the golden window: one more here, after
    np.testing.assert_array_equal(found[:rows], np.array(golden["output_HW"])[:, :columns])
    golden = GOLDEN["transforms"]["center_crop"]
    image = np.array(golden["input"])[:, :5]
    found = centre_window(torch.from_numpy(image)[None], 2)[0]
    np.testing.assert_array_equal(found, image[2:4, 2:4])


@pytest.mark.parametrize("case", GOLDEN["dataset_item"]["cases"])
def test_items_are_golden_but_for_the_defect(case: dict[str, Any]) -> None:
    image = np.array(case["image_HW"], np.float32)
    label = np.array(case["label_HW"], np.uint8)
    window = torch.from_numpy(to_window(image, 8))[None]
    cropped = centre_window(window, 6)[0]
    low, high = cropped.min(), cropped.max()
    np.testing.assert_allclose((cropped - low) / (high - low), case["image"], atol=1e-6)
    classes = centre_window(torch.from_numpy(to_window(label, 8))[None], 6)[0]
    np.testing.assert_array_equal(classes, case["label"])
    expected = np.array(case["origin_image"])[:6]  # released: a difference of one is not cut
    np.testing.assert_array_equal(to_crop(image, 6), expected)
    np.testing.assert_array_equal(to_crop(label, 6), np.array(case["origin_label"])[:6])


@pytest.mark.parametrize("case", GOLDEN["crop_or_pad"][:3])
def test_crops_are_golden_and_go_back(case: dict[str, Any]) -> None:
    if case["size"][0] != case["size"][1]:
        case = {**case, "size": [5, 5], "image": np.array(case["image"])[:, :, 1:6]}
    n = np.prod(case["shape"])
    image = np.arange(1.0, n + 1).reshape(case["shape"])
    found = to_crop(image, case["size"][0])
    np.testing.assert_array_equal(found, case["image"])
    back = from_crop(found, image.shape, case["size"][0])
    assert back.shape == image.shape
    np.testing.assert_array_equal(back[back > 0], image[back > 0])


def test_slices_come_es_first_in_the_order_of_the_list(store: VolumeStore) -> None:
    rows = rows_of(store.index, ["002", "001"], "store")
    names = store.index["image_id"].to_numpy()[rows]
    assert list(dict.fromkeys(names)) == ["002_ES", "001_ES", "002_ED", "001_ED"]


def test_slices_of_both_frames_stand_one_after_the_other_as_golden(tmp_path: Path) -> None:
    golden = GOLDEN["concat_indexing"]  # slices of ES, then of ED
    lengths = dict(zip(("ES", "ED"), golden["dataset_lengths"], strict=True))
    names = [f"{patient}_{frame}" for patient in ("001", "002") for frame in lengths]
    sizes = {name: lengths[name[4:]] - 2 if name < "002" else 2 for name in names}
    masks = {name: mask_of(0, shape=(n, 8, 8)) for name, n in sizes.items()}
    index = open_store(tmp_path, masks).index
    rows = rows_of(index, ["001", "002"], "store")
    frames = index["frame"].to_numpy()[rows]
    assert [list(lengths).index(frame) for frame in frames] == golden["slice_to_dataset"]
    patients = index["patient_id"].to_numpy()[rows]
    pairs = dict.fromkeys(zip(frames, patients, strict=True))  # released: index modulo count
    assert list(pairs) == [("ES", "001"), ("ES", "002"), ("ED", "001"), ("ED", "002")]
    assert [list(lengths).index(frame) for frame, _ in pairs] == golden["patient_to_dataset"]


def test_an_empty_slice_gives_way_to_one_of_its_volume(store: VolumeStore) -> None:
    slices = slices_of(store)
    empty = [n for n, row in enumerate(slices.rows) if not store.index["foreground"].iloc[row]]
    assert len(empty) == 4
    for case in empty:
        assert (slices[Draw(case, 0)].stored_labels > 0).any()
    chosen = {slices[Draw(empty[0], epoch)].stored_labels.tobytes() for epoch in range(20)}
    assert len(chosen) == 2  # both other slices, by and by
    kept = slices_of(store, empty="keep")
    assert not kept[Draw(empty[0], 0)].stored_labels.any()


def test_an_item_depends_on_seed_epoch_and_case_only(store: VolumeStore) -> None:
    first, second = slices_of(store), slices_of(store)
    second[Draw(0, 0)]  # what was loaded before does not count
    one, two = first[Draw(5, 2)], second[Draw(5, 2)]
    assert np.array_equal(one.draw.numbers, two.draw.numbers)
    assert not np.array_equal(one.draw.numbers, first[Draw(5, 3)].draw.numbers)
    assert not np.array_equal(one.draw.numbers, slices_of(store, seed=4)[Draw(5, 2)].draw.numbers)


def test_a_batch_has_each_slice_augmented_and_as_stored(store: VolumeStore) -> None:
    slices = slices_of(store)
    items = [slices[Draw(case, 0)] for case in range(1, 5)]
    joined = join_items(items)
    batch = make_batch(joined, SIZES, torch.Generator().manual_seed(0))
    assert batch.clean.shape == batch.noisy.shape == (8, 1, 16, 16)
    assert batch.labels.shape == (8, 16, 16)
    np.testing.assert_array_equal(batch.clean[4:, 0], np.stack([item.stored for item in items]))
    assert batch.clean[:4].amin((1, 2, 3)).abs().max() < 1e-6
    assert (batch.clean[:4].amax((1, 2, 3)) - 1).abs().max() < 1e-5
    assert batch.noisy.min() >= 0
    assert batch.noisy.max() <= 1
    unclamped = make_batch(joined, SIZES, torch.Generator().manual_seed(0), clamps_noise=False)
    spread = (unclamped.noisy - unclamped.clean).std().item()
    assert spread == pytest.approx(0.05, rel=0.1)
    torch.testing.assert_close(unclamped.noisy.clamp(0, 1), batch.noisy)


def test_volumes_without_foreground_and_patients_without_slices_are_refused(tmp_path: Path) -> None:
    volumes = {"001_ED": mask_of(0), "002_ED": mask_of(1, empty=3), "002_ES": mask_of(2, empty=3)}
    store = open_store(tmp_path, volumes)
    with pytest.raises(InputError, match=r"volume 002_ES.*\n.*volume 002_ED"):
        slices_of(store)
    with pytest.raises(InputError, match="no slice of 003, 004"):
        Slices(
            store, ["004", "001", "003"], SIZES, policy=Policy(), seed=0, empty="keep", where="s"
        )


@pytest.mark.parametrize(("window", "crop"), [(32, 20), (16, 32), (32, 0)])
def test_sizes_that_no_network_takes_are_refused(window: int, crop: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        Sizes(window, crop)


MANIFEST = pd.DataFrame(
    {
        "patient_id": ["001", "001", "002", "022", "095", "007"],
        "split": ["train", "train", "val", "train", "val", "test"],
        "split_released_10_cv_1": ["train", "train", "train+val", "train+val", "val", "test"],
        "split_released_bad": ["train", "train", "train", "train", "train", "test"],
    }
)


def test_overlapping_patients_are_refused_unless_asked_for_by_name() -> None:
    with pytest.raises(InputError, match=r"found 002, 022 in training and validation.*released"):
        patients_of(MANIFEST, "10_cv_1", "refuse", "manifest")
    assert patients_of(MANIFEST, "split", "refuse", "manifest").in_both == ()
    released = patients_of(MANIFEST, "10_cv_1", "keep", "manifest")
    assert released.train == ("001", "002", "022")
    assert released.val == ("002", "022", "095")
    assert released.in_both == ("002", "022")
    sound = patients_of(MANIFEST, "10_cv_1", "leave_out", "manifest")
    assert sound.train == released.train
    assert sound.val == ("095",)
    assert patients_of(MANIFEST, "split", "leave_out", "manifest").train == ("001", "022")


def test_lists_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match=r"split_released_10_cv_9.*found split_released_10_cv_1"):
        patients_of(MANIFEST, "10_cv_9", "keep", "manifest")
    with pytest.raises(InputError, match="4 to train on and 0 to validate on"):
        patients_of(MANIFEST, "bad", "keep", "manifest")


def test_a_certificate_that_leaks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leak_free.json"
    sound = {
        "leak_free": True,
        "patients_in_two_splits": 0,
        "files_in_two_splits": 0,
        "examples": {"patients": [], "files": []},
    }
    overlap = sound | {"leak_free": False, "patients_in_two_splits": 2, "files_in_two_splits": 4}
    path.write_text(json.dumps({"split": sound, "split_released_10_cv_1": overlap}))
    check_leaks(path, "10_cv_1", n_in_both=2, n_files=4)
    check_leaks(path, "split", n_in_both=0, n_files=0)
    with pytest.raises(InputError, match="2 patients and 4 files in two splits"):
        check_leaks(path, "10_cv_1", n_in_both=0, n_files=0)
    with pytest.raises(InputError, match="a proof of split_released_10_cv_2"):
        check_leaks(path, "10_cv_2", n_in_both=0, n_files=0)
    with pytest.raises(InputError, match="2 patients and 4 files"):  # a file twice among others
        check_leaks(path, "10_cv_1", n_in_both=2, n_files=3)


def test_a_patient_whose_volumes_are_in_two_splits_is_refused() -> None:
    torn = MANIFEST.assign(split=["train", "test", "val", "train", "val", "test"])
    with pytest.raises(InputError, match="001"):
        patients_of(torn, "split", "leave_out", "manifest")
