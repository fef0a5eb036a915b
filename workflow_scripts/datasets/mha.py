"""CT volumes in MetaImage files (`.mha`): judge the file, take the middle slice, window it.

Works on the bytes of a file, so that its hash and its pixels come from one read, and only the
first half of a compressed volume is unpacked. Arrays are in the order (slice, row, column) = (z,
y, x) of SimpleITK; tests compare the two.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Orientation = Literal["transposed", "axial", "fifth"]

ELEMENT_TYPES: Final = {
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
WINDOW_HU: Final = (-1000.0, 250.0)  # released code, few-shot and linear (golden stoic_window)
SLICE_SHARE: Final = 0.5  # released code: slice floor(0.5 n) on the third axis
FIFTH: Final = 5  # slice of the released reconstructions, counted from 0
AIR_HU: Final = -500.0  # ours: a slice through a chest has air, and tissue above 0
HEADER_BYTES: Final = 64 * 1024  # ours: longer headers are no volumes; STOIC's have 1 KiB
CHUNK_BYTES: Final = 1 << 24  # unpacked at a time while a whole volume is checked
KEY: Final = re.compile(r"[!-~]+(?: [!-~]+)*")  # also of a DICOM tag, such as 0010|1010
SKEW: Final = 1e-3  # of a direction matrix from an orthonormal one; headers have 6 digits or more
MOST_VOXELS: Final = 1 << 31  # 4 GiB of int16, twenty times a large chest CT


class BrokenVolume(ValueError):
    """The bytes are no whole volume; the message says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the text in front of the voxels says.

    Attributes:
        shape: slices, rows, columns.
        dtype: of a voxel.
        spacing_mm: between slices, rows, columns.
        direction: shape (3, 3), column j the patient axis (left, back, head) of image axis j
            (x, y, z).
        compressed: whether the voxels are a zlib stream.
        start: where the voxels begin, bytes.
        length: of the stored voxels, bytes; None where a compressed file does not say.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    spacing_mm: tuple[float, float, float]
    direction: NDArray[np.float64]
    compressed: bool
    start: int
    length: int | None

    @property
    def n_bytes(self) -> int:
        """Bytes of the unpacked volume."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def read_header(content: bytes) -> Header:
    """Return the header of a MetaImage file with its voxels in the same file.

    Raises:
        BrokenVolume: it is none, or describes something else than a three-dimensional image.
    """
    fields, start = _fields(content)
    if fields.get("ObjectType", "Image") != "Image" or fields.get("NDims") != "3":
        raise BrokenVolume(f"NDims {fields.get('NDims')}, expected an image of 3 dimensions")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise BrokenVolume(f"{fields['ElementNumberOfChannels']} channels, expected 1")
    if fields.get("ElementType") not in ELEMENT_TYPES:
        known = ", ".join(ELEMENT_TYPES)
        raise BrokenVolume(f"ElementType {fields.get('ElementType')}, expected one of {known}")
    order = ">" if _is_true(fields, "BinaryDataByteOrderMSB") else "<"
    columns, rows, slices = (int(n) for n in _numbers(fields, "DimSize", 3))
    if min(columns, rows, slices) < 1 or columns * rows * slices > MOST_VOXELS:
        raise BrokenVolume(f"DimSize {fields['DimSize']}, expected three positive lengths")
    spacing = _numbers(fields, "ElementSpacing", 3)
    if min(spacing) <= 0:
        raise BrokenVolume(f"ElementSpacing {fields['ElementSpacing']}, expected above 0")
    packed = _is_true(fields, "CompressedData")
    dtype = np.dtype(order + ELEMENT_TYPES[fields["ElementType"]])
    says = "CompressedDataSize" in fields
    size = int(_numbers(fields, "CompressedDataSize", 1)[0]) if says else None
    return Header(
        shape=(slices, rows, columns),
        dtype=dtype,
        spacing_mm=(spacing[2], spacing[1], spacing[0]),
        direction=_direction(fields),
        compressed=packed,
        start=start,
        length=size if packed else columns * rows * slices * dtype.itemsize,
    )


def _fields(content: bytes) -> tuple[dict[str, str], int]:
    """Return the header's keys and values, and where the voxels begin."""
    fields: dict[str, str] = {}
    position = 0
    while (end := content.find(b"\n", position, HEADER_BYTES)) >= 0:
        line = content[position:end].decode("latin-1").strip()
        position = end + 1
        key, equals, value = line.partition("=")
        if not equals or not KEY.fullmatch(key.strip()):
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            if value.strip() != "LOCAL":
                raise BrokenVolume(f"voxels in another file, {value.strip()!r}, expected LOCAL")
            return fields, position
    raise BrokenVolume("not a MetaImage file: no header that ends in ElementDataFile")


def _is_true(fields: dict[str, str], key: str) -> bool:
    """Return a yes or no of the header; absent is no."""
    value = fields.get(key, "False")
    if value not in ("True", "False"):
        raise BrokenVolume(f"{key} {value!r}, expected True or False")
    return value == "True"


def _numbers(fields: dict[str, str], key: str, count: int) -> list[float]:
    """Return the numbers of a key, all finite."""
    words = fields.get(key, "").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise BrokenVolume(f"{key} {fields.get(key)!r}, expected {count} numbers")
    return numbers


def _direction(fields: dict[str, str]) -> NDArray[np.float64]:
    """Return the direction cosines; image axes are the patient's where the header has none."""
    for key in ("TransformMatrix", "Rotation", "Orientation"):  # names of one thing
        if key in fields:
            # The file lists axis by axis, a column of the matrix after the other.
            direction = np.array(_numbers(fields, key, 9)).reshape(3, 3).T
            if np.abs(direction.T @ direction - np.eye(3)).max() > SKEW:
                raise BrokenVolume(f"{key} {fields[key]}, expected orthogonal directions")
            return direction
    return np.eye(3)


def middle_slice(content: bytes, header: Header) -> NDArray[np.float64]:
    """Return slice floor(0.5 n) of the third axis, shape (rows, columns), in HU.

    Raises:
        BrokenVolume: the voxels end before that slice, or are no zlib stream.
    """
    return slice_at(content, header, int(SLICE_SHARE * header.shape[0]))


def slice_at(content: bytes, header: Header, number: int) -> NDArray[np.float64]:
    """Return one slice of the third axis, counted from 0, shape (rows, columns), in HU.

    Raises:
        BrokenVolume: the volume has no such slice, its voxels end before it, or are no zlib
            stream.
    """
    slices, rows, columns = header.shape
    if number >= slices:
        raise BrokenVolume(f"{slices} slices, expected more than {number}")
    size = rows * columns * header.dtype.itemsize
    first = number * size
    if header.compressed:
        try:
            unpacked = zlib.decompressobj().decompress(
                memoryview(content)[header.start :], first + size
            )
        except zlib.error as error:
            raise BrokenVolume(f"damaged: {error}") from error
    else:
        unpacked = content[header.start : header.start + first + size]
    if len(unpacked) < first + size:
        raise BrokenVolume(f"truncated: the voxels end before slice {number}")
    voxels = np.frombuffer(unpacked, header.dtype, rows * columns, first)
    return voxels.reshape(rows, columns).astype(np.float64)


def volume_problem(content: bytes, orientation: Orientation) -> str | None:
    """Return why the bytes are no whole chest CT from which a slice can be taken; None if so."""
    try:
        header = read_header(content)
        _check_length(content, header)
        hounsfield = middle_slice(content, header)
        if orientation == "axial":
            upright(hounsfield, header)
    except BrokenVolume as error:
        return str(error)
    low, high = hounsfield.min(), hounsfield.max()
    if not (low <= AIR_HU and high >= 0):
        return f"values {low:g} to {high:g} in the middle slice are no Hounsfield units of a chest"
    return None


def _check_length(content: bytes, header: Header) -> None:
    """Refuse voxels that are fewer or more than the header says."""
    stored = len(content) - header.start
    if header.length is not None and stored != header.length:
        kind = "truncated" if stored < header.length else "too long"
        raise BrokenVolume(f"{kind}: {stored} bytes of voxels, expected {header.length}")
    if not header.compressed:
        return
    unpacker, rest, n_unpacked = zlib.decompressobj(), content[header.start :], 0
    try:
        while not unpacker.eof and rest and n_unpacked <= header.n_bytes:
            n_unpacked += len(unpacker.decompress(rest, CHUNK_BYTES))
            rest = unpacker.unconsumed_tail
        n_unpacked += len(unpacker.flush()) if not unpacker.eof else 0
    except zlib.error as error:
        raise BrokenVolume(f"damaged: {error}") from error
    if not unpacker.eof or n_unpacked != header.n_bytes:
        raise BrokenVolume(f"{n_unpacked} unpacked bytes of voxels, expected {header.n_bytes}")


def window_levels(hounsfield: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return gray levels: -1000 HU is 0, 250 HU is 255, truncated; any shape.

    Source: released code; golden `stoic_window`.

    >>> window_levels(np.array([-2000.0, -688.0, 0.0, 249.0, 3000.0])).tolist()
    [0, 63, 204, 254, 255]
    """
    low, high = WINDOW_HU
    share = (np.clip(hounsfield, low, high) - low) / (high - low)
    return (share * 255).astype(np.uint8)


def upright(hounsfield: NDArray[np.float64], header: Header) -> NDArray[np.float64]:
    """Return an axial slice as it is read: patient's right at the left, front at the top.

    Raises:
        BrokenVolume: the third axis is not the one from foot to head.
    """
    toward = np.abs(header.direction).argmax(axis=0)
    if toward.tolist() != [0, 1, 2]:
        raise BrokenVolume("the third axis does not run from foot to head, expected axial slices")
    flip_x, flip_y = header.direction[0, 0] < 0, header.direction[1, 1] < 0
    return hounsfield[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def slice_levels(content: bytes, orientation: Orientation) -> NDArray[np.uint8]:
    """Return a slice as gray levels.

    Args:
        content: of a `.mha` file.
        orientation: `transposed`: the middle slice, rows are x, as the released code saw it;
            `axial`: the same upright; `fifth`: slice 5, rows are x, its values cut at 0 and 255
            without a window, as the released code reconstructed it.

    Raises:
        BrokenVolume: see `read_header` and `slice_at`.
    """
    header = read_header(content)
    if orientation == "fifth":
        levels = slice_at(content, header, FIFTH).T.clip(0, 255)  # as Pillow turns I into RGB
        return levels.astype(np.uint8)
    hounsfield = middle_slice(content, header)
    if orientation == "transposed":
        return window_levels(hounsfield.T)
    return window_levels(upright(hounsfield, header))
