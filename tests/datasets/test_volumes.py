from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workflow_scripts.datasets import volumes
from workflow_scripts.datasets.corruptions import KERNELS
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
def test_in_plane_resampling_is_the_released_one_with_the_slices_kept(case: Any) -> None:
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
def test_corner_resampling_is_torchios(case: Any) -> None:
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
def test_crop_around_the_mask_is_torchios(case: Any) -> None:
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
def test_ghosting_is_torchios(case: Any) -> None:
    ours = KERNELS["RandomGhosting"](VOLUME, case["num_ghosts"], case["axis"], case["intensity"])
    np.testing.assert_allclose(ours, case["output"], atol=ATOL)


@pytest.mark.parametrize("case", CORRUPTIONS["motion"])
def test_motion_is_torchios(case: Any) -> None:
    arrays = [np.array(case[key]) for key in ("degrees", "translation", "times")]
    np.testing.assert_allclose(KERNELS["RandomMotion"](VOLUME, *arrays), case["output"], atol=ATOL)
