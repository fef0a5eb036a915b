"""The transforms of the invariance measure: their grids and their pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.datasets.geometry import Geometry, prepare
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.elastic import deformed
from workflow_scripts.ssl_transfer.transform_grid import GRIDS, grid
from workflow_scripts.ssl_transfer.transform_images import DRAWS, versions
from workflow_scripts.ssl_transfer.transform_names import OWN_K, default_k

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
PARAMS = GOLDEN["invariance_transform_params"]
IMAGES = GOLDEN["invariance_transform_images"]
NAMES = {"brightness_factor": "factor", "contrast_factor": "factor", "aug": "apply"}
NAMES |= {"saturation_factor": "factor", "hue_factor": "factor", "sharpness_factor": "factor"}
WITHOUT = {"kernel_size", "num_output_channels", "size", "points"}  # constants, or unused


@pytest.mark.parametrize("name", PARAMS)
def test_grid_is_the_released_one(name: str) -> None:
    want = PARAMS[name]
    found = grid(name, want["k"], extra_shear_degrees=1.0)
    for key, values in zip(want["keys"], want["values"], strict=True):
        if key in WITHOUT:
            continue
        mine = [step[NAMES.get(key, key)] for step in found[: len(values)]]
        if key == "shear" and name != "shear":
            assert mine == [(value, 0.0) for value in values]
        else:
            np.testing.assert_allclose(np.array(mine, float), np.array(values, float), rtol=1e-6)


def test_every_transform_has_a_grid_a_default_and_a_drawing() -> None:
    assert set(GRIDS) == set(DRAWS) == set(PARAMS)
    assert {name: default_k(name) for name in ("h_flip", "posterize", "rotation")} == {
        "h_flip": 2, "posterize": 7, "rotation": 256,
    }  # fmt: skip
    assert all(len(grid(name, default_k(name))) == default_k(name) for name in GRIDS)


def test_the_accidental_shear_is_gone_unless_asked() -> None:
    assert {step["shear"] for step in grid("translation", 16)} == {(0.0, 0.0)}
    assert {step["shear"] for step in grid("scale", 8, 1.0)} == {(1.0, 0.0)}


@pytest.mark.parametrize(
    ("name", "k", "message"),
    [
        ("translation", 20, r"square root is whole \(9, 16, 25\), found k = 20"),
        ("resized_crop", 100, "fourth root is whole"),
        ("shear", 3, "square root"),
        ("h_flip", 3, "expected k = 2, found k = 3"),
        ("posterize", 8, "expected k = 7"),
        ("deform", 257, "at most 256"),
        ("rotation", 0, "k of at least 1"),
        ("rotatoin", 4, "did you mean 'rotation'"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(name: str, k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid(name, k)


@pytest.mark.parametrize("name", IMAGES["cases"])
def test_pixels_are_the_released_ones(name: str) -> None:
    image = Image.fromarray(np.array(IMAGES["input_uint8_hwc"], np.uint8))
    geometry = Geometry("shorter", IMAGES["resize"], "bilinear", IMAGES["crop"])
    case = IMAGES["cases"][name]
    rng = np.random.default_rng(0)
    found = versions(image, name, grid(name, case["k"]), geometry, rng, resize_first=False)
    within = 1 if name in ("hue", "grayscale") else 0  # one level through HSV (spec section 18)
    gap = np.abs(found.astype(int) - np.array(case["outputs_uint8_hwc"]))
    assert gap.max() <= within


def picture(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("resize_first", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_every_transform_gives_pixels_of_the_clean_image_s_shape(
    name: str, resize_first: bool
) -> None:
    geometry, k = Geometry("shorter", 256, "bilinear", 224), OWN_K.get(name, 16)
    steps, rng = grid(name, k)[:2], np.random.default_rng(0)
    found = versions(picture(300, 340), name, steps, geometry, rng, resize_first)
    assert found.shape == (len(steps), 224, 224, 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("resize_first", [False, True])
def test_the_identity_step_is_the_clean_image(resize_first: bool) -> None:
    image, geometry = picture(260, 310), Geometry("shorter", 256, "bilinear", 224)
    for name, k, identity in (("h_flip", 2, 0), ("rotation", 4, 0), ("translation", 16, 10)):
        rng = np.random.default_rng(0)
        found = versions(image, name, grid(name, k), geometry, rng, resize_first)
        np.testing.assert_array_equal(found[identity], prepare(image, geometry))


def test_a_flip_of_a_mirror_symmetric_image_changes_nothing() -> None:
    half = np.asarray(picture(256, 128))
    image = Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1))
    geometry = Geometry("shorter", 256, "bilinear", 224)
    rng = np.random.default_rng(0)
    found = versions(image, "h_flip", grid("h_flip", 2), geometry, rng, resize_first=False)
    np.testing.assert_array_equal(found[0], found[1])


def test_a_deformation_depends_on_its_generator_alone() -> None:
    image = np.asarray(picture(60, 80))
    draws: list[Any] = [deformed(image, 10.0, np.random.default_rng(s)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    assert draws[0].shape == image.shape
