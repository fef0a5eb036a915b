from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workflow_scripts.datasets import volumes
from workflow_scripts.datasets.corrupt import CROP, corrupt_in_window
from workflow_scripts.datasets.corruptions import KERNELS, draw, rescale_slices
from workflow_scripts.datasets.segmentation import Volume

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "volumes.json").read_text()
)
CORRUPTIONS = GOLDEN["corruptions"]
VOLUME = np.array(CORRUPTIONS["volume_DHW"])
ATOL = 1e-4  # the tolerance the golden file states


def test_percentile_normalisation_is_the_released_one() -> None:
    golden = GOLDEN["minmax_2_98"]
    ours = volumes.normalise_percentiles(np.array(golden["volume_DHW"]))
    np.testing.assert_allclose(ours, golden["normalised"], atol=1e-6)


@pytest.mark.parametrize("case", GOLDEN["resample_in_plane"]["cases"])
def test_in_plane_resampling_is_the_released_one_with_the_slices_kept(case: dict[str, Any]) -> None:
    golden = GOLDEN["resample_in_plane"]
    old, new = case["old_spacing_xyz"], case["new_spacing_xyz"]
    volume = Volume(
        np.array(golden["image_DHW"]), np.array(golden["label_DHW"], np.uint8), old[::-1]
    )
    places = {
        1: volumes.places_from_first(5, old[1], new[1]),
        2: volumes.places_from_first(6, old[0], new[0]),
    }
    ours = volumes.resample(volume, places, tuple(new[::-1]))
    np.testing.assert_allclose(ours.image, case["image_linear"], atol=ATOL)
    np.testing.assert_array_equal(ours.mask, case["label_nearest"])


@pytest.mark.parametrize("case", GOLDEN["torchio_0_18_76"]["resample"])
def test_corner_resampling_is_torchios(case: dict[str, Any]) -> None:
    golden = GOLDEN["torchio_0_18_76"]
    image = np.arange(48.0).reshape(6, 8)[None]
    mask = np.zeros((1, 6, 8), np.uint8)
    rows, columns = golden["mask_ones_rows"], golden["mask_ones_cols"]
    mask[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
    step = case["target_spacing"]
    places = {a: volumes.places_from_corner(n, 1.0, step) for a, n in ((1, 6), (2, 8))}
    ours = volumes.resample(Volume(image, mask, (1, 1, 1)), places, (1, step, step))
    np.testing.assert_allclose(ours.image[0], case["scan_linear"], atol=1e-5)
    np.testing.assert_array_equal(ours.mask[0], case["mask_nearest"])


@pytest.mark.parametrize("case", GOLDEN["torchio_0_18_76"]["crop_or_pad"])
def test_crop_around_the_mask_is_torchios(case: dict[str, Any]) -> None:
    image = np.arange(48.0).reshape(1, 6, 8)
    mask = np.zeros((1, 6, 8), np.uint8)
    mask[0, 1:3, 5:8] = 1
    height, width = case["target"]
    ours = volumes.crop_around_mask(Volume(image, mask, (1, 1, 1)), (1, height, width))
    np.testing.assert_array_equal(ours.image[0], case["scan"])
    np.testing.assert_array_equal(ours.mask[0], case["mask"])


def test_bias_field_is_torchios() -> None:
    golden = CORRUPTIONS["bias_field"]
    ours = KERNELS["RandomBias"](VOLUME, np.array(golden["coefficients"]))
    np.testing.assert_allclose(ours, golden["output"], atol=ATOL)
    even = KERNELS["RandomBias"](VOLUME[:, :4], np.array(golden["coefficients"]))
    np.testing.assert_allclose(even, CORRUPTIONS["bias_field_even"]["output"], atol=ATOL)


def test_spike_is_torchios() -> None:
    golden = CORRUPTIONS["spike"]
    position = np.array(golden["spikes_positions"][0])
    ours = KERNELS["RandomSpike"](VOLUME, position, golden["intensity"])
    np.testing.assert_allclose(ours, golden["output"], atol=ATOL)


@pytest.mark.parametrize("case", CORRUPTIONS["ghosting"])
def test_ghosting_is_torchios(case: dict[str, Any]) -> None:
    ours = KERNELS["RandomGhosting"](VOLUME, case["num_ghosts"], case["axis"], case["intensity"])
    np.testing.assert_allclose(ours, case["output"], atol=ATOL)


@pytest.mark.parametrize("case", CORRUPTIONS["motion"])
def test_motion_is_torchios(case: dict[str, Any]) -> None:
    arrays = [np.array(case[key]) for key in ("degrees", "translation", "times")]
    np.testing.assert_allclose(KERNELS["RandomMotion"](VOLUME, *arrays), case["output"], atol=ATOL)


def test_every_kernel_agrees_with_the_installed_torchio() -> None:
    import torch
    import torchio

    rng = np.random.default_rng(0)
    volume = rng.random((6, 20, 22))
    coefficients, position = rng.uniform(-0.5, 0.5, 20), np.array([0.5, 0.7, 0.2])
    moves = rng.uniform(-20, 20, (2, 3)), rng.uniform(-5, 5, (2, 3)), np.array([0.35, 0.7])
    cases: list[tuple[str, tuple[Any, ...], Any]] = [
        ("RandomBias", (coefficients,), torchio.BiasField(list(coefficients), 3)),
        ("RandomSpike", (position, 1.5), torchio.Spike(position[None], 1.5)),
        ("RandomMotion", moves, torchio.Motion(*moves, "linear")),
        *(
            ("RandomGhosting", (5, axis, 0.7), torchio.Ghosting(5, axis, 0.7, None))
            for axis in range(3)
        ),
    ]
    for name, parameters, transform in cases:
        image = torchio.ScalarImage(tensor=torch.from_numpy(volume)[None].float())
        expected = transform(image).data[0].numpy()
        np.testing.assert_allclose(KERNELS[name](volume, *parameters), expected, atol=2e-6)


def test_motion_without_movement_and_ghosts_without_strength_change_nothing() -> None:
    still = np.zeros((2, 3))
    times = np.array([0.3, 0.7])
    np.testing.assert_allclose(KERNELS["RandomMotion"](VOLUME, still, still, times), VOLUME)
    np.testing.assert_array_equal(KERNELS["RandomGhosting"](VOLUME, 4, 1, 0.0), VOLUME)
    np.testing.assert_allclose(KERNELS["RandomBias"](VOLUME, np.zeros(20)), VOLUME)
    np.testing.assert_allclose(KERNELS["RandomSpike"](VOLUME, np.full(3, 0.2), 0.0), VOLUME)


@pytest.mark.parametrize("shape", [(192, 192), (150, 230), (229, 191), (193, 100)])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_corrupted_volume_keeps_its_shape(name: str, shape: tuple[int, int]) -> None:
    volume = np.random.default_rng(0).random((3, *shape))
    ours = corrupt_in_window(volume, name, draw(name, np.random.default_rng(1)))
    assert ours.shape == volume.shape
    assert ours.min() >= 0
    assert ours.max() <= 1
    assert np.abs(ours[:, : min(CROP, shape[0])]).max() > 0


def test_cropping_and_putting_back_are_the_released_ones() -> None:
    for case in GOLDEN["crop_or_pad"]:
        if "image" in case:
            starts = tuple(
                (n - t) // 2 for n, t in zip(case["shape"][1:], case["size"], strict=True)
            )
            image = np.arange(1.0, np.prod(case["shape"]) + 1).reshape(case["shape"])
            ours = volumes.cut(image, (0, *starts), (case["shape"][0], *case["size"]))
            np.testing.assert_array_equal(ours, case["image"])
    golden = GOLDEN["recover_image"]
    back = volumes.cut(np.ones((1, 4, 4)), (0, -golden["h_s"], -golden["w_s"]), (1, 7, 6))
    np.testing.assert_array_equal(back, golden["output"])


def test_slices_are_rescaled_as_released() -> None:
    golden = GOLDEN["rescale_intensity"]
    ours = rescale_slices(np.array(golden["input_N1HW"])[:, 0])
    np.testing.assert_allclose(ours, np.array(golden["output"])[:, 0], atol=1e-6)


def sitk_resampled(
    image: np.ndarray, spacing: tuple[float, ...], new: float, kind: str
) -> np.ndarray:
    """The right call of the library that the released code calls wrongly."""
    import SimpleITK

    source = SimpleITK.GetImageFromArray(image)
    source.SetSpacing(spacing[::-1])
    size = [round(n * old / new) for n, old in zip(image.shape[:0:-1], spacing[:0:-1], strict=True)]
    how = SimpleITK.sitkLinear if kind == "linear" else SimpleITK.sitkNearestNeighbor
    filter_ = SimpleITK.ResampleImageFilter()
    filter_.SetSize([*size, image.shape[0]])
    filter_.SetOutputSpacing((new, new, spacing[0]))
    filter_.SetInterpolator(how)
    return SimpleITK.GetArrayFromImage(filter_.Execute(source))


@pytest.mark.parametrize("spacing", [(10.0, 1.5625, 1.5625), (5.0, 0.9, 1.2), (8.0, 2.1, 1.9)])
def test_resampling_agrees_with_simpleitk(spacing: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(3)
    image = rng.random((4, 31, 38)).astype(np.float32)
    mask = rng.integers(0, 4, image.shape).astype(np.uint8)
    ours = volumes.resample_in_plane(Volume(image, mask, spacing))
    theirs = sitk_resampled(image, spacing, volumes.ACDC_SPACING_MM, "linear")
    np.testing.assert_allclose(ours.image, theirs, atol=1e-5)
    theirs = sitk_resampled(mask, spacing, volumes.ACDC_SPACING_MM, "nearest")
    np.testing.assert_array_equal(ours.mask, theirs)


def test_the_released_defect_repeats_the_first_slice_and_the_right_way_does_not() -> None:
    rng = np.random.default_rng(4)
    image = rng.random((8, 20, 20)).astype(np.float32)
    volume = Volume(image, rng.integers(0, 4, image.shape).astype(np.uint8), (10.0, 1.5, 1.5))
    right, wrong = volumes.in_plane_137(volume), volumes.released_137(volume)
    assert not np.array_equal(right.image[1], right.image[0])
    for number in range(6):  # index up to 5: half of 10 mm
        np.testing.assert_array_equal(wrong.image[number], right.image[0])
        np.testing.assert_array_equal(wrong.mask[number], right.mask[0])
    assert not wrong.image[6:].any()
    assert not wrong.mask[6:].any()


def test_the_defect_spares_a_volume_already_at_the_spacing() -> None:
    image = np.random.default_rng(5).random((4, 9, 9)).astype(np.float32)
    volume = Volume(image, np.ones(image.shape, np.uint8), (10.0, 1.36719, 1.36719))
    np.testing.assert_array_equal(volumes.with_released_defect(volume).image, image)


def test_the_lesions_longest_side_becomes_half_the_crop() -> None:
    golden = GOLDEN["resample_to_mask"]
    mask = np.zeros((1, *golden["image_shape"]), np.uint8)
    (top, bottom), (left, right) = golden["mask_rows_inclusive"], golden["mask_cols_inclusive"]
    mask[0, top : bottom + 1, left : right + 1] = 1
    image = np.random.default_rng(6).random(mask.shape)
    ours = volumes.lesion_256(Volume(image, mask, (1.0, 1.0, 1.0)))
    assert ours.spacing_mm[1] == golden["target_spacing"][0]
    rows, columns = (np.flatnonzero(ours.mask[0].any(axis=axis)) for axis in (1, 0))
    assert abs(np.ptp(columns) + 1 - 128) <= 1
    for found in (rows, columns):
        assert abs((found[0] + found[-1] + 1) / 2 - 128) <= 1


@pytest.mark.parametrize("box", [(3, 9, 4, 30), (0, 25, 0, 12), (30, 39, 50, 59)])
def test_the_lesion_window_is_that_of_the_whole_images_resampling(box: tuple[int, ...]) -> None:
    mask = np.zeros((1, 40, 60), np.uint8)
    mask[0, box[0] : box[1] + 1, box[2] : box[3] + 1] = 1
    image = np.random.default_rng(7).random(mask.shape)
    volume = Volume(image, mask, (1.0, 1.0, 1.0))
    step = (max(box[1] - box[0], box[3] - box[2]) + 1) / 128
    places = {a: volumes.places_from_corner(n, 1.0, step) for a, n in ((1, 40), (2, 60))}
    whole = volumes.crop_around_mask(
        volumes.resample(volume, places, (1, step, step)), (1, 256, 256)
    )
    ours = volumes.lesion_256(volume)
    np.testing.assert_array_equal(ours.mask, whole.mask)
    np.testing.assert_allclose(ours.image, whole.image, atol=1e-6)


def test_the_heart_crop_has_the_published_size_and_keeps_the_labels() -> None:
    mask = np.zeros((9, 150, 170), np.uint8)
    mask[2:7, 60:100, 70:110], mask[3:6, 70:90, 80:100] = 3, 1
    image = np.random.default_rng(8).random(mask.shape)
    ours = volumes.heart_128(Volume(image, mask, (10.0, 1.25, 1.25)))
    assert ours.image.shape == (10, 128, 128)
    assert set(np.unique(ours.mask)) == {0, 1, 3}
