"""The stored pixels are those of Pillow + torchvision, bit for bit."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets.geometry import (
    GEOMETRIES,
    Geometry,
    UnusablePixels,
    prepare,
    resized_size,
    stretch_contrast,
    to_eight_bit,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "ssl_transfer.json").read_text())
Resize = Literal["squash", "shorter"]
Filter = Literal["bilinear", "bicubic"]
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"]


def random_image(mode: str, width: int, height: int, seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray(values[..., 0]).point(lambda value: 255 * (value > 99), mode="1")
    if mode in ("P", "PA"):
        return Image.fromarray(values[..., :3]).quantize(64).convert(mode)
    if mode == "LAB":
        return Image.frombytes("LAB", (width, height), values[..., :3].tobytes())
    return Image.fromarray(values).convert(mode)


def torchvision_pixels(image: Image.Image, geometry: Geometry) -> np.ndarray:
    from torchvision import transforms

    side = geometry.resize_to
    pipeline = transforms.Compose(
        [
            transforms.Resize(
                [side, side] if geometry.resize == "squash" else side,
                interpolation=transforms.InterpolationMode(geometry.interpolation),
            ),
            transforms.CenterCrop(geometry.crop),
        ]
    )
    if not geometry.gray:
        return np.asarray(pipeline(image.convert("RGB")))
    values = np.asarray(image if image.mode in ("L", "LA", "RGBA") else image.convert("RGB"))
    low, high = int(values.min()), int(values.max())
    if high > low:
        values = (255.0 * (values.astype(float) - low) / (high - low)).astype(np.uint8)
    return np.asarray(pipeline(Image.fromarray(values).convert("L")))[:, :, None]


@settings(max_examples=60)
@given(
    mode=st.sampled_from(MODES),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    seed=st.integers(0, 99),
    name=st.sampled_from(sorted(GEOMETRIES)),
)
def test_pixels_equal_torchvision(mode: str, width: int, height: int, seed: int, name: str) -> None:
    if max(width, height) > 40 * min(width, height):
        width = height  # a long strip becomes gigabytes when its short side grows to 224
    image = random_image(mode, width, height, seed)
    expected = torchvision_pixels(image, GEOMETRIES[name])
    np.testing.assert_array_equal(prepare(image, GEOMETRIES[name]), expected)


@settings(max_examples=60)
@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    resize=st.sampled_from(["squash", "shorter"]),
    resize_to=st.integers(1, 40),
    crop=st.integers(1, 40),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_any_geometry_equals_torchvision(
    width: int, height: int, resize: Resize, resize_to: int, crop: int, interpolation: Filter
) -> None:
    geometry = Geometry(resize, resize_to, interpolation, min(crop, resize_to))
    image = random_image("RGB", width, height, 7)
    np.testing.assert_array_equal(prepare(image, geometry), torchvision_pixels(image, geometry))


def test_golden_squash_and_shorter_side() -> None:
    golden = GOLDEN["preprocessing"]
    image = Image.fromarray(np.array(golden["input_uint8_hwc"], dtype=np.uint8))
    side = golden["image_size"]
    squash = Geometry("squash", int(1.15 * side), "bilinear", side)
    shorter = Geometry("shorter", side, "bicubic", side)
    assert prepare(image, squash).tolist() == golden["fewshot_small_dataset_uint8"]
    assert prepare(image, shorter).tolist() == golden["manyshot_and_submeta_uint8"]


def test_named_geometries_are_those_of_the_paper() -> None:
    assert GEOMETRIES["squash224"] == Geometry("squash", 257, "bilinear", 224)
    assert GEOMETRIES["short224"] == Geometry("shorter", 224, "bicubic", 224)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_shorter_side_always_becomes_the_target(width: int, height: int) -> None:
    assert min(resized_size((width, height), GEOMETRIES["short224"])) == 224


def test_transparency_is_dropped_not_blended() -> None:
    colour, clear = (200, 10, 30, 255), (200, 10, 30, 0)
    opaque = prepare(Image.new("RGBA", (9, 9), colour), GEOMETRIES["short224"])
    np.testing.assert_array_equal(
        prepare(Image.new("RGBA", (9, 9), clear), GEOMETRIES["short224"]), opaque
    )


def deep_image(highest: int) -> Image.Image:
    return Image.fromarray(np.linspace(0, highest, 64 * 64).reshape(64, 64).astype(np.uint16))


def test_deep_image_without_bit_depth_is_refused() -> None:
    with pytest.raises(UnusablePixels, match=r"mode I;16: more than 8 bits.*option bit_depth"):
        prepare(deep_image(4095), GEOMETRIES["short224"])


def test_deep_image_uses_its_whole_range() -> None:
    pixels = prepare(deep_image(4095), GEOMETRIES["squash224"], bit_depth=12)
    expected = np.rint(np.asarray(deep_image(4095)) * (255 / 4095)).astype(np.uint8)
    as_gray = torchvision_pixels(Image.fromarray(expected), GEOMETRIES["squash224"])
    np.testing.assert_array_equal(pixels, as_gray)


def test_values_beyond_the_bit_depth_are_refused() -> None:
    with pytest.raises(UnusablePixels, match="values 0 to 5000, expected 0 to 4095 for 12 bits"):
        prepare(deep_image(5000), GEOMETRIES["short224"], bit_depth=12)


def test_deep_png_read_from_a_file_is_refused_too() -> None:
    file = io.BytesIO()
    deep_image(65535).save(file, "PNG")
    with pytest.raises(UnusablePixels, match="more than 8 bits"):
        prepare(Image.open(file), GEOMETRIES["short224"])


def png_with_16_bit_colour() -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">3H", 100, 2000, 60000)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )


def test_colour_with_16_bits_a_channel_is_refused() -> None:
    image = Image.open(io.BytesIO(png_with_16_bit_colour()))
    with pytest.raises(UnusablePixels, match=r"16 bits a channel \(stored as RGB;16B\)"):
        prepare(image, GEOMETRIES["short224"])


def test_float_image_is_refused_even_with_a_bit_depth() -> None:
    with pytest.raises(UnusablePixels, match="mode F"):
        prepare(Image.new("F", (8, 8)), GEOMETRIES["short224"], bit_depth=12)


def test_crop_larger_than_the_resize_is_refused() -> None:
    with pytest.raises(ValueError, match="crop 9"):
        Geometry("squash", 8, "bilinear", 9)


STRETCH = next(
    case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "crocodile.json").read_text())[
        "cases"
    ]
    if case["id"] == "preprocess"
)


@pytest.mark.parametrize("name", ["u8", "u16", "constant_5"])
def test_stretched_contrast_is_that_of_the_released_code(name: str) -> None:
    values = np.array(STRETCH["inputs"][name], dtype=np.uint16)
    assert stretch_contrast(values).tolist() == STRETCH["expected"][name]["stretched"]


def test_a_16_bit_image_is_stretched_where_its_data_set_says_so() -> None:
    values = np.array(STRETCH["inputs"]["u16"], dtype=np.uint16)
    gray = to_eight_bit(Image.fromarray(values), "stretch")
    assert np.asarray(gray).tolist() == STRETCH["expected"]["u16"]["stretched"]
    clipped = Image.fromarray(values).convert("L")  # what Pillow does when nobody asks
    assert np.asarray(clipped).max() == np.median(np.asarray(clipped)) == 255


def test_a_16_bit_image_without_contrast_is_refused() -> None:
    blank = Image.fromarray(np.full((4, 4), 300, dtype=np.uint16))
    with pytest.raises(UnusablePixels, match="every pixel has the value 300"):
        to_eight_bit(blank, "stretch")


def test_a_stretched_geometry_stretches_a_deep_image_of_known_bits_too() -> None:
    geometry = Geometry("squash", 2, "bilinear", 2, stretch=True, gray=True)
    dim = Image.fromarray(np.array([[1000, 1100], [1200, 1300]], dtype=np.uint16))
    pixels = prepare(dim, geometry, 12)
    assert pixels.tolist() == prepare(dim, geometry, "stretch").tolist()
    assert (pixels.min(), pixels.max()) == (0, 255)
    with pytest.raises(UnusablePixels, match="no bit depth given"):
        prepare(dim, geometry)


@pytest.mark.parametrize("name", ["u8", "u16"])
def test_pixels_of_crocodile_are_those_of_the_released_code(name: str) -> None:
    geometry = Geometry("squash", 2, "bilinear", 2, stretch=True, gray=True)
    kind = np.uint8 if name == "u8" else np.uint16
    image = Image.fromarray(np.array(STRETCH["inputs"][name], dtype=kind))
    pixels = prepare(image, geometry, "stretch")
    assert pixels.shape == (2, 2, 1)
    assert pixels[:, :, 0].tolist() == STRETCH["expected"][name]["resized_2x2"]


@pytest.mark.parametrize(("name", "mode"), [("rgb", "RGB"), ("rgba", "RGBA")])
def test_colour_is_stretched_over_all_channels_before_it_becomes_gray(name: str, mode: str) -> None:
    values = np.array(STRETCH["inputs"][name], dtype=np.uint8)
    geometry = Geometry("squash", 2, "bilinear", 2, stretch=True, gray=True)
    pixels = prepare(Image.fromarray(values, mode), geometry)
    assert pixels[:, :, 0].tolist() == STRETCH["expected"][name]["gray_after_stretch"]


def test_a_constant_image_stays_constant() -> None:
    pixels = prepare(Image.new("L", (300, 200), 5), GEOMETRIES["stretch64"])
    assert pixels.shape == (64, 64, 1)
    assert (pixels == 5).all()
