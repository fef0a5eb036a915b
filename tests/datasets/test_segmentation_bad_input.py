"""Each mutation of a sound archive is refused or quarantined, with its reason."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.segmentation_archives import manifest_of, small_volume, write_small
from workflow_scripts.datasets import acdc, bcdr, mms
from workflow_scripts.datasets.nifti import Nifti, VolumeError, parse_nifti, write_nifti
from workflow_scripts.datasets.volume_files import check_row, read_checked
from workflow_scripts.problems import InputError

ROW = {"path": "i.nii.gz", "mask_path": "m.nii.gz", "contour": None, "frame_index": 0}
Edit = Callable[[bytearray], bytes | bytearray]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The uncompressed bytes of a sound image and its mask."""
    folder = tmp_path_factory.mktemp("pair")
    volume = small_volume({"image_id": "a"})
    write_nifti(folder / "i.nii.gz", volume.image, volume.spacing_mm)
    write_nifti(folder / "m.nii.gz", volume.mask, volume.spacing_mm)
    names = {"image": "i.nii.gz", "mask": "m.nii.gz"}
    return {key: gzip.decompress((folder / name).read_bytes()) for key, name in names.items()}


def put(fmt: str, at: int, *values: float) -> Edit:
    """Write numbers into a header."""

    def edit(raw: bytearray) -> bytearray:
        struct.pack_into("<" + fmt, raw, at, *values)
        return raw

    return edit


def voxels(value: float, fmt: str = "h") -> Edit:
    """Overwrite the first voxel."""
    return put(fmt, 352, value)


def both(*edits: Edit) -> Edit:
    def edit(raw: bytearray) -> bytes | bytearray:
        for one in edits:
            raw = bytearray(one(raw))
        return raw

    return edit


NAN, INF = float("nan"), float("inf")
IMAGE_MUTATIONS: dict[str, tuple[Edit, str]] = {
    "header size": (put("i", 0, 540), "not a NIfTI-1 file"),
    "magic": (put("4s", 344, b"ni1\0"), "not a NIfTI-1 file"),
    "text file": (lambda raw: b"<html>404</html>", "not a NIfTI-1 file"),
    "header cut": (lambda raw: raw[:200], "not a NIfTI-1 file"),
    "two axes": (put("h", 40, 2), "axes of lengths"),
    "no axis": (put("h", 40, 0), "axes of lengths"),
    "nine axes": (put("h", 40, 9), "not a NIfTI-1 file"),
    "fifth axis": (put("hhhhhh", 40, 5, 24, 20, 4, 1, 3), "axes of lengths"),
    "negative columns": (put("h", 42, -24), "impossible shape"),
    "no rows": (put("h", 44, 0), "impossible shape"),
    "huge shape": (put("hhhh", 40, 3, 30000, 30000, 30000), "impossible shape"),
    "one slice less": (put("h", 46, 3), "but the header's shape"),
    "one slice more": (put("h", 46, 5), "but the header's shape"),
    "complex voxels": (put("hh", 70, 32, 64), "is no real number"),
    "colour voxels": (put("hh", 70, 128, 24), "is no real number"),
    "bit depth": (put("h", 72, 8), "bits a voxel do not fit"),
    "offset into header": (put("f", 108, 100), "voxels begin at byte"),
    "offset not a number": (put("f", 108, NAN), "voxels begin at byte"),
    "offset shifted": (put("f", 108, 354), "but the header's shape"),
    "voxels cut": (lambda raw: raw[:-10], "but the header's shape"),
    "bytes appended": (lambda raw: raw + b"\0" * 7, "but the header's shape"),
    "zero spacing": (put("f", 80, 0), "wrong spacing"),
    "negative spacing": (put("f", 84, -1.5), "wrong spacing"),
    "spacing not a number": (put("f", 88, NAN), "wrong spacing"),
    "infinite spacing": (put("f", 88, INF), "wrong spacing"),
    "spacing against the affine": (put("f", 80, 1.8), "by pixdim"),
    "metres": (put("b", 123, 1), "in metres"),
    "micrometres": (put("b", 123, 3), "in micrometres"),
    "affine against the spacing": (put("f", 280, 9.0), "by the affine"),
    "affine not a number": (put("f", 292, NAN), "affine"),
    "sheared affine": (put("ffff", 280, 1.2, 0.9, 0, 0), "affine"),
    "negative slope": (put("ff", 112, -1, 0), "values scaled by"),
    "intercept not a number": (put("ff", 112, 2, NAN), "values scaled by"),
    "constant image": (lambda raw: raw[:352] + b"\1\0" * ((len(raw) - 352) // 2), "every voxel is"),
    "slope that overflows": (put("ff", 112, 3e38, 0), "not finite"),
    "slice spacing of an isotropic scan": (
        both(put("f", 88, 1.0), put("f", 320, 1.0)),
        "wrong spacing: slice distance 1 mm",
    ),
    "pixels of a thumbnail": (
        both(put("ff", 80, 9.0, 9.0), put("f", 280, 9.0), put("f", 300, 9.0)),
        "wrong spacing: row distance 9 mm",
    ),
    "image moved": (put("f", 292, 40.0), "corners 40.0 mm apart"),
    "image mirrored": (put("f", 280, -1.5), "image and mask grids differ"),
}
MASK_MUTATIONS: dict[str, tuple[Edit, str]] = {
    "label 4": (voxels(4, "B"), "labels outside the map: 4"),
    "label 255": (voxels(255, "B"), "labels outside the map: 255"),
    "empty": (lambda raw: raw[:352] + b"\0" * (len(raw) - 352), "nothing is labelled"),
    "scaled labels": (put("ff", 112, 2, 0), "the header scales the labels"),
    "shifted labels": (put("ff", 112, 1, 1), "the header scales the labels"),
    "other shape": (put("hh", 42, 20, 24), "image and mask grids differ: shapes"),
    "other spacing": (both(put("f", 80, 1.4), put("f", 280, 1.4)), "grids differ: spacing"),
    "voxels cut": (lambda raw: raw[:-1], "mask: "),
    "header cut": (lambda raw: raw[:9], "mask: not a NIfTI-1 file"),
    "negative labels": (both(put("hh", 70, 256, 8), voxels(-1, "b")), "labels outside the map: -1"),
}


def judge(folder: Path, pair: dict[str, bytes], key: str, edit: Edit) -> str | None:
    """Return why the pair with one file edited is refused."""
    for name, file in (("image", "i.nii.gz"), ("mask", "m.nii.gz")):
        raw = bytearray(pair[name])
        content = bytes(edit(raw)) if name == key else bytes(raw)
        (folder / file).write_bytes(gzip.compress(content, 1))
    return check_row(folder, ROW, acdc.LABELS, frozenset()).reason


def test_the_unchanged_pair_is_sound(tmp_path: Path, pair: dict[str, bytes]) -> None:
    assert judge(tmp_path, pair, "image", lambda raw: raw) is None


@pytest.mark.parametrize("name", IMAGE_MUTATIONS)
def test_a_damaged_image_is_quarantined(tmp_path: Path, pair: dict[str, bytes], name: str) -> None:
    edit, expected = IMAGE_MUTATIONS[name]
    reason = judge(tmp_path, pair, "image", edit)
    assert reason is not None
    assert expected in reason


@pytest.mark.parametrize("name", MASK_MUTATIONS)
def test_a_damaged_mask_is_quarantined(tmp_path: Path, pair: dict[str, bytes], name: str) -> None:
    edit, expected = MASK_MUTATIONS[name]
    reason = judge(tmp_path, pair, "mask", edit)
    assert reason is not None
    assert expected in reason


SLOPE = range(112, 120)  # a positive slope only changes the unit, which no step depends on


@settings(max_examples=150)
@given(at=st.integers(0, 351).filter(lambda at: at not in SLOPE), bit=st.integers(0, 7))
def test_a_flipped_header_bit_is_found_or_changes_nothing(
    pair: dict[str, bytes], at: int, bit: int
) -> None:
    raw = bytearray(pair["image"])
    raw[at] ^= 1 << bit
    sound = parse_nifti(pair["image"])
    try:
        found = parse_nifti(bytes(raw))
    except VolumeError:
        return
    np.testing.assert_array_equal(found.voxels, sound.voxels)
    np.testing.assert_allclose(found.spacing_mm, sound.spacing_mm, rtol=1e-3)
    assert not found.is_oriented or directions_agree(found, sound)


def directions_agree(one: Nifti, other: Nifti) -> bool:
    """Whether both point the same way, but for mirroring, which the pair's check finds."""
    return bool(np.allclose(np.abs(one.affine[:3, :3]), np.abs(other.affine[:3, :3]), atol=0.1))


@settings(max_examples=30)
@given(data=st.data())
def test_a_flipped_bit_of_a_compressed_file_is_found_or_changes_nothing(
    pair: dict[str, bytes], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    judge(folder, pair, "none", lambda raw: raw)
    content = bytearray((folder / "i.nii.gz").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "j.nii.gz").write_bytes(content)
    verdict = check_row(folder, {**ROW, "path": "j.nii.gz"}, acdc.LABELS, frozenset())
    if verdict.reason is None:
        found = read_checked(folder, {**ROW, "path": "j.nii.gz"}, acdc.LABELS, frozenset())
        np.testing.assert_array_equal(found.volume.image, parse_nifti(pair["image"]).voxels[0])


@settings(max_examples=20)
@given(share=st.floats(0, 0.99))
def test_a_truncated_file_is_quarantined(
    pair: dict[str, bytes], share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    judge(folder, pair, "none", lambda raw: raw)
    content = (folder / "i.nii.gz").read_bytes()
    (folder / "j.nii.gz").write_bytes(content[: int(share * len(content))])
    assert check_row(folder, {**ROW, "path": "j.nii.gz"}, acdc.LABELS, frozenset()).reason


def test_floats_read_as_integers_are_found(tmp_path: Path) -> None:
    volume = small_volume({"image_id": "a"})
    write_nifti(tmp_path / "i.nii.gz", volume.image.astype(np.float32), volume.spacing_mm)
    write_nifti(tmp_path / "m.nii.gz", volume.mask, volume.spacing_mm)
    raw = bytearray(gzip.decompress((tmp_path / "i.nii.gz").read_bytes()))
    (tmp_path / "j.nii.gz").write_bytes(gzip.compress(bytes(put("h", 70, 8)(raw))))
    verdict = check_row(tmp_path, {**ROW, "path": "j.nii.gz"}, acdc.LABELS, frozenset())
    assert "no scanner stores" in str(verdict.reason)
    raw = bytearray(gzip.decompress((tmp_path / "i.nii.gz").read_bytes()))
    (tmp_path / "k.nii.gz").write_bytes(gzip.compress(bytes(voxels(NAN, "f")(raw))))
    verdict = check_row(tmp_path, {**ROW, "path": "k.nii.gz"}, acdc.LABELS, frozenset())
    assert verdict.reason == "1 voxels are not finite"


INFO = "ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
INFO_MUTATIONS = {
    "no ED": (INFO.replace("ED: 1\n", "", 1), "ED: expected a number from 1, found no such key"),
    "ED in words": (INFO.replace("ED: 1\n", "ED: one\n", 1), "found 'one'"),
    "ED zero": (INFO.replace("ED: 1\n", "ED: 0\n", 1), "ED: expected a number from 1"),
    "ED negative": (INFO.replace("ED: 1\n", "ED: -1\n", 1), "ED: expected a number from 1"),
    "ED fraction": (INFO.replace("ED: 1\n", "ED: 1.5\n", 1), "ED: expected a number from 1"),
    "ED equals ES": (INFO.replace("ES: 12", "ES: 1"), "two frames among the 30"),
    "ES beyond the cine": (INFO.replace("ES: 12", "ES: 31"), "two frames among the 30"),
    "ES twice": (INFO + "ES: 13\n", "line 7: expected each of"),
    "unknown key": (INFO + "Age: 50\n", "line 7: expected each of"),
    "no colon": (INFO.replace("ES: 12", "ES 12"), "line 2: expected each of"),
    "unknown group": (INFO.replace("DCM", "ABC"), "Group: expected one of"),
    "no group": (INFO.replace("Group: DCM\n", ""), "Group: expected one of"),
    "no frames": (INFO.replace("NbFrame: 30", "NbFrame: "), "NbFrame: expected a number"),
    "height in words": (INFO.replace("184.0", "tall"), "Height: expected a number"),
    "empty": ("", "ED: expected a number"),
    "binary": ("\x00\x01\x02", "line 1: expected each of"),
}


@pytest.mark.parametrize("name", INFO_MUTATIONS)
def test_a_wrong_info_file_is_refused(tmp_path: Path, name: str) -> None:
    text, expected = INFO_MUTATIONS[name]
    write_small(tmp_path, "acdc", 4)
    (tmp_path / "patient001/Info.cfg").write_text(text)
    with pytest.raises(InputError, match=r"patient001/Info.cfg") as caught:
        acdc.read(tmp_path, {})
    assert expected in str(caught.value)


def test_a_missing_info_file_is_refused(tmp_path: Path) -> None:
    write_small(tmp_path, "acdc", 4)
    (tmp_path / "patient001/Info.cfg").unlink()
    with pytest.raises(InputError, match=r"Info\.cfg: expected a text file.*found no file"):
        acdc.read(tmp_path, {})


@pytest.mark.parametrize("suffix", ["", "_gt"])
def test_a_missing_frame_is_quarantined(tmp_path: Path, suffix: str) -> None:
    write_small(tmp_path, "acdc", 9)
    (tmp_path / f"patient001/patient001_frame01{suffix}.nii.gz").unlink()
    table, card, quarantine = manifest_of(tmp_path, "acdc")
    assert quarantine["image_id"].tolist() == ["001_ED"]
    assert "file not found" in quarantine["reason"].iloc[0]
    assert "001_ES" in set(table["image_id"])
    assert sum(card["quarantined"].values()) == 1


def test_a_damaged_pair_does_not_enter_the_manifest(tmp_path: Path) -> None:
    write_small(tmp_path, "acdc", 9)
    (tmp_path / "patient001/patient001_frame01.nii.gz").write_bytes(b"\x1f\x8bdamaged")
    (tmp_path / "patient007/patient007_frame01.nii.gz").write_bytes(b"")
    table, _, quarantine = manifest_of(tmp_path, "acdc")
    reasons = dict(zip(quarantine["image_id"], quarantine["reason"], strict=True))
    assert reasons["001_ED"].startswith("damaged or truncated gzip file")
    assert reasons["007_ED"] == "empty file (0 bytes)"
    assert not set(reasons) & set(table["image_id"])


def first_cell(column: int, value: str) -> Callable[[list[str]], list[str]]:
    def edit(lines: list[str]) -> list[str]:
        cells = lines[1].split(",")
        cells[column] = value
        return [lines[0], ",".join(cells), *lines[2:]]

    return edit


MMS_MUTATIONS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "no header": (lambda lines: lines[1:], "column 'External code'"),
    "a row twice": (lambda lines: [*lines, lines[1]], "each image once"),
    "a row missing": (lambda lines: [lines[0], *lines[2:]], "expected a row of"),
    "a cell missing": (lambda lines: [lines[0], lines[1].rpartition(",")[0], *lines[2:]], "cells"),
    "semicolons": (lambda lines: [line.replace(",", ";") for line in lines], "column"),
    "empty": (lambda lines: [], "an empty file"),
    "header only": (lambda lines: lines[:1], "at least one row"),
    "ED in words": (first_cell(4, "first"), "a frame number from 0"),
    "ED negative": (first_cell(4, "-1"), "a frame number from 0"),
    "ED fraction": (first_cell(4, "0.5"), "a frame number from 0"),
    "ES missing": (first_cell(5, ""), "a frame number from 0"),
    "ES equals ED": (first_cell(5, "0"), "another frame than ED"),
    "no vendor": (first_cell(1, ""), "a VendorName"),
    "no centre": (first_cell(3, ""), "a Centre"),
    "code with a path": (first_cell(0, "../x"), "a code of letters and digits"),
}


@pytest.mark.parametrize("name", MMS_MUTATIONS)
def test_a_wrong_mms_table_is_refused(tmp_path: Path, name: str) -> None:
    edit, expected = MMS_MUTATIONS[name]
    write_small(tmp_path, "mms", 5)
    path = tmp_path / mms.INDEX_NAMES[0]
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    with pytest.raises(InputError) as caught:
        mms.read(tmp_path, {})
    assert expected in str(caught.value)


def test_a_frame_beyond_the_cine_is_quarantined(tmp_path: Path) -> None:
    write_small(tmp_path, "mms", 8)
    path = tmp_path / mms.INDEX_NAMES[0]
    path.write_text("\n".join(first_cell(5, "99")(path.read_text().splitlines())) + "\n")
    _, _, quarantine = manifest_of(tmp_path, "mms")
    assert quarantine["reason"].str.startswith("missing frame 99: the file holds").tolist() == [
        True
    ]


def test_a_frame_without_reference_is_quarantined(tmp_path: Path) -> None:
    write_small(tmp_path, "mms", 8)
    path = tmp_path / mms.INDEX_NAMES[0]
    path.write_text("\n".join(first_cell(5, "1")(path.read_text().splitlines())) + "\n")
    _, _, quarantine = manifest_of(tmp_path, "mms")
    assert quarantine["reason"].tolist() == ["mask: nothing is labelled in this frame"]


BCDR_MUTATIONS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "a column missing": (lambda lines: [lines[0].replace("density", "d"), *lines[1:]], "'density'"),
    "patient in words": (first_cell(0, "x"), "a whole number"),
    "study in words": (first_cell(1, "x"), "a whole number"),
    "view in words": (first_cell(5, "LCC"), "a whole number"),
    "file of another patient": (first_cell(6, " patient_99/study_1/img_a.tif"), "of the row's"),
    "file outside": (first_cell(6, " ../../etc/img.tif"), "of the row's"),
    "no file": (first_cell(6, ""), "of the row's"),
    "two points": (first_cell(7, " 1 2"), "three whole numbers or more"),
    "points in words": (first_cell(7, " 1 two 3"), "three whole numbers or more"),
    "no points": (first_cell(8, ""), "three whole numbers or more"),
    "more x than y": (first_cell(7, " 5 12 12 5 6"), "as many y as x points"),
    "nodule in words": (first_cell(10, "yes"), "0 or 1"),
    "no class": (first_cell(18, ""), "Benign or Malign"),
    "header only": (lambda lines: lines[:1], "at least one row"),
}


@pytest.mark.parametrize("name", BCDR_MUTATIONS)
def test_wrong_outlines_are_refused(tmp_path: Path, name: str) -> None:
    edit, expected = BCDR_MUTATIONS[name]
    write_small(tmp_path, "bcdr", 5)
    path = tmp_path / bcdr.SUBSETS["D01"]
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    with pytest.raises(InputError) as caught:
        bcdr.read(tmp_path, {})
    assert expected in str(caught.value)


@pytest.mark.parametrize("points", [" 5", " 1 2", "", " 1 2 3 4 5 6 7"])
def test_the_outline_of_what_is_no_mass_does_not_matter(tmp_path: Path, points: str) -> None:
    write_small(tmp_path, "bcdr", 5)
    path = tmp_path / bcdr.SUBSETS["D01"]
    lines = first_cell(7, points)(first_cell(10, "0")(path.read_text().splitlines()))
    path.write_text("\n".join(lines) + "\n")
    table = bcdr.read(tmp_path, {}).table
    unused = table["dropped"] == bcdr.A_MASS
    assert unused.sum() == 1
    assert table.loc[~unused, "contour"].notna().all()


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (" 5 50 12", " 5 5 9", "contour leaves the image"),
        (" 5 -2 12", " 5 5 9", "contour leaves the image"),
        (" 5 5 5", " 5 5 5", "encloses nothing"),
        (" 1 2 3", " 1 2 3", "encloses no area"),
    ],
)
def test_an_impossible_contour_is_quarantined(
    tmp_path: Path, x: str, y: str, expected: str
) -> None:
    write_small(tmp_path, "bcdr", 12)
    path = tmp_path / bcdr.SUBSETS["D01"]
    lines = first_cell(8, y)(first_cell(7, x)(path.read_text().splitlines()))
    path.write_text("\n".join(lines) + "\n")
    _, _, quarantine = manifest_of(tmp_path, "bcdr")
    assert len(quarantine) == 1
    assert expected in quarantine["reason"].iloc[0]


def test_a_missing_subset_is_refused(tmp_path: Path) -> None:
    write_small(tmp_path, "bcdr", 5)
    (tmp_path / bcdr.SUBSETS["F03"]).unlink()
    with pytest.raises(InputError, match=r"bcdr_f03_outlines\.csv: expected the outlines"):
        bcdr.read(tmp_path, {})
