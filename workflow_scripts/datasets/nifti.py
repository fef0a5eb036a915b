"""Reading NIfTI-1 files without trusting them, and writing them.

The header is judged field by field before a voxel is used: libraries repair what they can
(negative spacing, a wrong bit depth, missing bytes), and a repaired header is a guess.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.files import void, write_atomic

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

HEADER_BYTES = 348
GZIP_LEVEL = 1  # phantoms and corrupted copies: four times as fast as the default, 10 % larger
MOST_VOXELS = 1 << 31  # ours: a larger shape is a damaged header
VOXEL_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
UNIT_NAMES = {1: "metres", 3: "micrometres"}  # xyzt_units; 0 unknown and 2 mm are taken as mm
SPACING_TOLERANCE = 1e-3  # relative: rounding of float32 headers


class VolumeError(Exception):
    """A file is no usable volume; the message is the reason for the quarantine."""


@dataclass(frozen=True, slots=True)
class Nifti:
    """The content of a NIfTI file.

    Attributes:
        voxels: shape (T, D, H, W), the file's axes in reverse; T is 1 without a time axis.
        spacing_mm: distance of voxel centres along D, H and W.
        affine: file indices (column, row, slice) to mm, shape (4, 4).
        is_oriented: whether the header says where the volume lies in the patient.
        is_scaled: whether the header asked to scale or shift the stored values (done).
    """

    voxels: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    is_oriented: bool
    is_scaled: bool


def read_nifti(path: Path) -> tuple[Nifti, str]:
    """Return the content of a file, and the SHA-256 of its bytes.

    Raises:
        VolumeError: it is missing, unreadable or not a whole, consistent NIfTI-1 file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise VolumeError("file not found") from None
    except OSError as error:
        raise VolumeError(f"cannot be read: {error.strerror}") from None
    if not content:
        raise VolumeError("empty file (0 bytes)")
    return parse_nifti(unpack(content)), hashlib.sha256(content).hexdigest()


def unpack(content: bytes) -> bytes:
    """Return the bytes of a file that may be gzip-compressed."""
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise VolumeError(f"damaged or truncated gzip file: {error}") from None


def parse_nifti(raw: bytes) -> Nifti:
    """Return the content of the uncompressed bytes of a file; see `read_nifti`."""
    from nibabel.nifti1 import Nifti1Header

    if len(raw) < HEADER_BYTES:
        raise VolumeError("not a NIfTI-1 file: shorter than its header")
    header = Nifti1Header(raw[:HEADER_BYTES], check=False)  # type: ignore[no-untyped-call]
    if int(header["sizeof_hdr"]) != HEADER_BYTES or header["magic"].item() != b"n+1":
        raise VolumeError("not a NIfTI-1 file: wrong header size or magic")
    shape, kind = _shape(header), VOXEL_TYPES.get(int(header["datatype"]))
    if kind is None:
        raise VolumeError(f"voxel type {int(header['datatype'])} is no real number")
    dtype = np.dtype(kind).newbyteorder(header.endianness)
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise VolumeError(f"{int(header['bitpix'])} bits a voxel do not fit type {dtype.name}")
    offset, size = _offset(header), int(np.prod(shape))
    if offset + size * dtype.itemsize != len(raw):
        raise VolumeError(
            f"{len(raw)} bytes, but the header's shape {shape} needs "
            f"{offset + size * dtype.itemsize}"
        )
    stored = np.frombuffer(raw, dtype, count=size, offset=offset)
    voxels, is_scaled = _scaled(stored.astype(dtype.newbyteorder("=")), header)
    affine, is_oriented = _affine(header)
    column, row, slice_ = (float(value) for value in header["pixdim"][1:4])
    return Nifti(
        voxels=voxels.reshape(shape[::-1]),
        spacing_mm=(slice_, row, column),
        affine=affine,
        is_oriented=is_oriented,
        is_scaled=is_scaled,
    )


def _shape(header: Nifti1Header) -> tuple[int, int, int, int]:
    """Return the lengths of the file's axes (columns, rows, slices, frames)."""
    dim = [int(value) for value in header["dim"]]
    n_axes = dim[0]
    if not 3 <= n_axes <= 7 or any(length != 1 for length in dim[5 : n_axes + 1]):
        raise VolumeError(f"{n_axes} axes of lengths {dim[1:]}, expected 3, or 4 with time")
    lengths = [*dim[1 : min(n_axes, 4) + 1], 1][:4]
    if min(lengths) < 1 or np.prod(lengths, dtype=float) > MOST_VOXELS:
        raise VolumeError(f"impossible shape {lengths}")
    return lengths[0], lengths[1], lengths[2], lengths[3]


def _offset(header: Nifti1Header) -> int:
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or offset != int(offset) or not 352 <= offset < MOST_VOXELS:
        raise VolumeError(f"voxels begin at byte {offset:g}, expected 352 or more")
    return int(offset)


def _scaled(stored: NDArray[Any], header: Nifti1Header) -> tuple[NDArray[Any], bool]:
    """Apply the header's slope and intercept; a slope of 0 or NaN means none (NIfTI-1)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return stored, False
    if not np.isfinite(intercept) or slope < 0:  # a negative slope would invert the picture
        raise VolumeError(f"values scaled by {slope:g}, shifted by {intercept:g}")
    if (slope, intercept) == (1.0, 0.0):
        return stored, False
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as not finite
        return (stored * slope + intercept).astype(np.float32), True


def _affine(header: Nifti1Header) -> tuple[NDArray[np.float64], bool]:
    """Return the header's affine and whether it is more than the spacing; prove the spacing."""
    pixdim = header["pixdim"][1:4].astype(float)
    if not np.isfinite(pixdim).all() or (pixdim <= 0).any():
        raise VolumeError(f"wrong spacing: {_mm(pixdim)}")
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, 2):
        raise VolumeError(f"wrong spacing: in {UNIT_NAMES.get(unit, f'unit {unit}')}, expected mm")
    codes = int(header["sform_code"]), int(header["qform_code"])
    try:
        best = header.get_best_affine()  # type: ignore[no-untyped-call]
        affine = np.array(best, dtype=np.float64)
    except (ValueError, ArithmeticError) as error:
        raise VolumeError(f"wrong orientation: {error}") from None
    if not np.isfinite(affine).all():
        raise VolumeError("wrong orientation: not a number in the affine")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(lengths, pixdim, rtol=SPACING_TOLERANCE):
        raise VolumeError(f"wrong spacing: {_mm(pixdim)} by pixdim, {_mm(lengths)} by the affine")
    cosines = affine[:3, :3] / lengths
    if not np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-2):  # ours: half a degree of shear
        raise VolumeError("wrong orientation: the axes are not at right angles")
    return affine, max(codes) > 0


def _mm(values: NDArray[Any]) -> str:
    return " x ".join(f"{value:g}" for value in values) + " mm"


def orientation_of(affine: NDArray[np.float64]) -> str:
    """Return where the file's axes point, such as `LPS`, nearest anatomical directions."""
    from nibabel.orientations import aff2axcodes

    return "".join(map(str, aff2axcodes(affine)))  # type: ignore[no-untyped-call]


def write_nifti(
    path: Path,
    voxels: NDArray[Any],
    spacing_mm: tuple[float, float, float],
    affine: NDArray[np.float64] | None = None,
) -> None:
    """Write a volume, shape (D, H, W) or (T, D, H, W), compressed, whole or not at all.

    Args:
        path: ends in `.nii.gz`.
        voxels: uint8, int16 or float32.
        spacing_mm: distance of voxel centres along D, H and W.
        affine: as in `Nifti`; None: axes along the patient's, the first voxel at the origin.
    """
    import nibabel

    if affine is None:
        affine = np.diag([*spacing_mm[::-1], 1.0])
    file: Any = nibabel  # has no complete types
    image = file.Nifti1Image(np.ascontiguousarray(voxels.T), affine)
    image.header.set_zooms((*spacing_mm[::-1], 1.0)[: voxels.ndim])
    image.header.set_xyzt_units("mm", "sec" if voxels.ndim == 4 else None)
    content = gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0)  # equal content, equal bytes
    write_atomic(path, lambda partial: void(partial.write_bytes(content)))
