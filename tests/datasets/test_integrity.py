"""A damaged file is told from its bytes; a whole one is never refused."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets.geometry import GEOMETRIES, prepare
from workflow_scripts.datasets.integrity import MISSING, check_file, structure_problem

ANY_MODE = {"L", "RGB", "RGBA", "P", "I;16", "CMYK", "1"}


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


WHOLE = {
    "gray PNG": encoded("PNG", "L"),
    "RGBA PNG": encoded("PNG", "RGBA"),
    "JPEG": encoded("JPEG"),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "JPEG with restart markers": encoded("JPEG", restart_marker_rows=1),
    "TIFF": encoded("TIFF"),
    "packed TIFF": encoded("TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_image_is_accepted(name: str) -> None:
    assert structure_problem(WHOLE[name], ANY_MODE) is None


@pytest.mark.parametrize("name", WHOLE)
@given(share=st.floats(0, 0.97))
@settings(max_examples=25)
def test_a_truncated_image_is_refused(name: str, share: float) -> None:
    content = WHOLE[name]
    assert structure_problem(content[: int(share * len(content))], ANY_MODE)


@given(st.integers(len(WHOLE["gray PNG"]) // 4, len(WHOLE["gray PNG"]) // 2))
@settings(max_examples=25)
def test_a_flipped_byte_in_a_png_is_refused(position: int) -> None:
    content = bytearray(WHOLE["gray PNG"])
    content[position] ^= 0xFF
    assert "checksum" in str(structure_problem(bytes(content), ANY_MODE))


def test_bytes_after_the_end_of_a_jpeg_do_not_matter() -> None:
    assert structure_problem(WHOLE["JPEG"] + b"\x00\x00camera", ANY_MODE) is None


def test_a_camera_s_jpeg_with_a_preview_behind_the_picture_is_whole() -> None:
    picture, preview = (Image.new("RGB", (64, 48), color) for color in ("red", "blue"))
    stream = io.BytesIO()
    picture.save(stream, "MPO", save_all=True, append_images=[preview])
    content = stream.getvalue()
    assert structure_problem(content, {"RGB"}) is None
    assert structure_problem(content[: len(content) // 4], {"RGB"}) is not None
    with Image.open(io.BytesIO(content)) as image:
        pixels = prepare(image, GEOMETRIES["short224"])
    assert pixels[0, 0].tolist() == [254, 0, 0]  # the picture, and not the preview


def test_a_whole_thumbnail_does_not_hide_a_truncated_jpeg() -> None:
    thumbnail = b"\xff\xe1" + (len(WHOLE["JPEG"]) + 2).to_bytes(2, "big") + WHOLE["JPEG"]
    content = WHOLE["JPEG"][:2] + thumbnail + WHOLE["JPEG"][2:]
    assert structure_problem(content, ANY_MODE) is None
    assert structure_problem(content[:-40], ANY_MODE)


def test_a_16_bit_image_is_refused_where_8_bits_are_expected() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(stream, "PNG")
    assert structure_problem(stream.getvalue(), {"L", "RGB"}) == "mode I;16, expected L or RGB"


def test_files_that_are_not_there_empty_or_no_image_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    names = ("none.png", "empty.png", "text.png", "folder.png")
    reasons = [check_file(tmp_path / name, ANY_MODE).reason for name in names]
    assert reasons == [
        MISSING,
        "empty file (0 bytes)",
        "not a PNG, JPEG or TIFF file",
        "cannot be read: Is a directory",
    ]


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(WHOLE["gray PNG"])
    assert check_file(path, {"L"}) == (hashlib.sha256(WHOLE["gray PNG"]).hexdigest(), None)
