"""CT volumes in MetaImage files: read as SimpleITK reads them, judged field by field."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets.image_source import fifth_slice, read_image
from workflow_scripts.datasets.mha import (
    BrokenVolume,
    middle_slice,
    read_header,
    slice_levels,
    volume_problem,
    window_levels,
)

GOLDEN = json.loads(Path("tests/golden/ssl_transfer.json").read_text())


def chest(shape: tuple[int, int, int] = (5, 6, 7), seed: int = 0) -> np.ndarray:
    volume = np.random.default_rng(seed).integers(-2000, 1500, shape).astype(np.int16)
    volume[:, 0, 0], volume[:, 0, 1] = -1000, 100  # air and tissue in every slice
    return volume


def written(
    folder: Path,
    volume: np.ndarray,
    packed: bool = True,
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> bytes:
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((0.5, 0.75, 1.5))
    image.SetDirection(direction)
    path = folder / "v.mha"
    sitk.WriteImage(image, str(path), packed)
    return path.read_bytes()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_header_and_slice_agree_with_simpleitk(tmp_path: Path, packed: bool, dtype: str) -> None:
    volume = chest().clip(0 if dtype[0] == "u" else None).astype(dtype)
    content = written(tmp_path, volume, packed)
    header = read_header(content)
    reference = sitk.ReadImage(str(tmp_path / "v.mha"))
    assert header.shape == sitk.GetArrayViewFromImage(reference).shape
    assert header.spacing_mm == pytest.approx(reference.GetSpacing()[::-1])
    np.testing.assert_allclose(header.direction.ravel(), reference.GetDirection(), atol=1e-12)
    middle = sitk.GetArrayViewFromImage(reference)[header.shape[0] // 2]
    np.testing.assert_array_equal(middle_slice(content, header), middle)


def test_a_dicom_tag_in_the_header_is_passed_over(tmp_path: Path) -> None:
    volume = sitk.GetImageFromArray(chest())
    for key, value in {
        "0010|1010": "065Y",
        "PatientSex": "M",
        "ITK_original direction": "1",
    }.items():
        volume.SetMetaData(key, value)
    sitk.WriteImage(volume, str(tmp_path / "v.mha"), True)
    content = (tmp_path / "v.mha").read_bytes()
    assert b"0010|1010 = 065Y" in content
    assert volume_problem(content, "axial") is None


def test_window_is_the_released_one() -> None:
    golden = GOLDEN["stoic_window"]
    assert window_levels(np.array(golden["hu"])).tolist() == golden["uint8"]


@pytest.mark.parametrize(("n_slices", "expected"), GOLDEN["stoic_window"]["examples"])
def test_middle_slice_is_the_released_one(tmp_path: Path, n_slices: int, expected: int) -> None:
    volume = (
        np.zeros((n_slices, 2, 3), np.int16) + np.arange(n_slices, dtype=np.int16)[:, None, None]
    )
    content = written(tmp_path, volume)
    assert (middle_slice(content, read_header(content)) == expected).all()


def test_picture_is_the_released_one_and_its_transpose_is_upright(tmp_path: Path) -> None:
    golden = GOLDEN["stoic_dataset"]
    volume = np.zeros((5, 3, 4), np.int16)
    volume[2] = golden["volume_zyx_slice2"]
    content = written(tmp_path, volume)
    picture = slice_levels(content, "transposed")
    assert picture.tolist() == golden["pil_array_first_channel"]
    assert list(picture.shape[::-1]) == golden["pil_size"]
    np.testing.assert_array_equal(slice_levels(content, "axial"), picture.T)


@pytest.mark.parametrize(("flip_x", "flip_y"), [(False, True), (True, False), (True, True)])
def test_axial_slice_does_not_depend_on_the_direction_of_storage(
    tmp_path: Path, flip_x: bool, flip_y: bool
) -> None:
    volume = chest()
    plain = slice_levels(written(tmp_path, volume), "axial")
    stored = volume[:, :: -1 if flip_y else 1, :: -1 if flip_x else 1].copy()
    direction = (-1.0 if flip_x else 1.0, 0, 0, 0, -1.0 if flip_y else 1.0, 0, 0, 0, 1)
    turned = slice_levels(written(tmp_path, stored, direction=direction), "axial")
    np.testing.assert_array_equal(turned, plain)


def test_sagittal_storage_has_no_axial_slice(tmp_path: Path) -> None:
    content = written(tmp_path, chest(), direction=(0, 0, 1, 1, 0, 0, 0, 1, 0))
    assert volume_problem(content, "transposed") is None  # the released code did not look
    assert "does not run from foot to head" in str(volume_problem(content, "axial"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"NDims = 3", b"NDims = 2", "NDims 2, expected an image of 3 dimensions"),
        (b"MET_SHORT", b"MET_UCHAR_ARRAY", "ElementType MET_UCHAR_ARRAY, expected one of"),
        (b"DimSize = 7 6 5", b"DimSize = 7 6", "DimSize '7 6', expected 3 numbers"),
        (b"DimSize = 7 6 5", b"DimSize = 7 0 5", "DimSize 7 0 5, expected three positive"),
        (b"DimSize = 7 6 5", b"DimSize = 7 6 9", "bytes of voxels, expected"),
        (b"DimSize = 7 6 5", b"DimSize = 7 6 4", "bytes of voxels, expected"),
        (b"0.5 0.75", b"0.0 0.75", "ElementSpacing 0.0 0.75"),
        (b"1 0 0 0 1 0 0 0 1", b"1 1 0 0 1 0 0 0 1", "expected orthogonal directions"),
        (b"= LOCAL", b"= v.raw", "voxels in another file, 'v.raw'"),
        (b"CompressedData = False", b"CompressedData = maybe", "CompressedData 'maybe'"),
        (b"ObjectType", b"\x00\x01", "not a MetaImage file"),
    ],
)
def test_a_wrong_header_is_refused_by_its_field(
    tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    content = written(tmp_path, chest(), packed=False)
    assert old in content
    assert message in str(volume_problem(content.replace(old, new), "transposed"))


def test_values_that_are_no_hounsfield_units_are_refused(tmp_path: Path) -> None:
    content = written(tmp_path, (chest() + 2000).astype(np.uint16))
    assert "are no Hounsfield units of a chest" in str(volume_problem(content, "transposed"))


@settings(max_examples=60)
@given(st.booleans(), st.floats(0, 1), st.integers(1, 255), st.booleans())
def test_a_damaged_volume_is_refused_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, packed: bool, share: float, flip: int, cut: bool
) -> None:
    content = bytearray(written(tmp_path_factory.mktemp("v"), chest(), packed))
    position = min(int(share * len(content)), len(content) - 1)
    if cut:
        assert volume_problem(bytes(content[:position]), "transposed") is not None
        return
    content[position] ^= flip
    start = read_header(written(tmp_path_factory.mktemp("w"), chest(), packed)).start
    problem = volume_problem(bytes(content), "transposed")
    if packed and position >= start + 2:  # after the two bytes that only choose the method
        assert problem is not None  # zlib's own checksum
    assert problem is None or isinstance(problem, str)


def test_broken_volume_has_no_slice(tmp_path: Path) -> None:
    content = written(tmp_path, chest(), packed=False)
    with pytest.raises(BrokenVolume, match="the voxels end before slice 2"):
        slice_levels(content[:-300], "transposed")


def test_slice_is_kept_under_the_hash_of_its_volume_and_used_again(tmp_path: Path) -> None:
    (tmp_path / "v.mha").write_bytes(written(tmp_path, chest()))
    slices = tmp_path / "slices"
    first = read_image(tmp_path, "v.mha#axial", None, slices)
    picture = first.file()
    (tmp_path / "v.mha").unlink()
    assert read_image(tmp_path, "v.mha#axial", first.sha256, slices).file() == picture
    with pytest.raises(FileNotFoundError):  # the other orientation was never asked for
        read_image(tmp_path, "v.mha#transposed", first.sha256, slices)


def test_fifth_slice_is_what_pillow_made_of_it(tmp_path: Path) -> None:
    volume = chest((7, 3, 4))
    volume[5, 0] = [-3, 0, 7, 300]
    (tmp_path / "v.mha").write_bytes(written(tmp_path, volume))
    path = fifth_slice("v.mha#transposed")
    assert fifth_slice("v.png") == "v.png"
    with Image.open(io.BytesIO(read_image(tmp_path, path).file())) as found:
        shown = np.asarray(found.convert("RGB"))
    as_released = Image.fromarray(np.ascontiguousarray(volume[5].T)).convert("RGB")
    np.testing.assert_array_equal(shown, np.asarray(as_released))
    assert shown[:, 0, 0].tolist() == [0, 0, 7, 255]


def test_a_volume_without_a_fifth_slice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenVolume, match="5 slices, expected more than 5"):
        slice_levels(written(tmp_path, chest((5, 3, 4))), "fifth")
