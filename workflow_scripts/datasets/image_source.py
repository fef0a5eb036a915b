"""Where an image is: a file of its own, or a part of a larger file.

A manifest's `path` is the file; where the file holds more than the image, `#` and the part follow:

    cifar-10-batches-py/data_batch_1#123   row 123 of a batch
    data/mha/7.mha#transposed              middle slice of a CT volume, rows are x (released code)
    data/mha/7.mha#axial                   the same slice upright
    data/mha/7.mha#fifth                   slice 5 without a window (released reconstructions)

A `#` in any other path is a letter of a file's name. The hash is that of the image's own bytes in
a batch (one file of 10,000 images tells nothing of duplicates), of the whole file elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, cast

from PIL import Image

from workflow_scripts.datasets.batches import IMAGE_BYTES, SIDE, read_row
from workflow_scripts.datasets.mha import Orientation, slice_levels, volume_problem
from workflow_scripts.files import void, write_atomic

BATCH_ROW: Final = re.compile(r"(?P<file>(?:.*/)?(?:data_batch_\d|test_batch))#(?P<part>\d+)")
VOLUME_SLICE: Final = re.compile(r"(?P<file>.+\.mha)#(?P<part>transposed|axial|fifth)")


class Source(NamedTuple):
    """An image as it was found.

    Attributes:
        sha256: of its bytes.
        file: makes the bytes of an image file that Pillow opens; raises ValueError where a volume
            is broken.
    """

    sha256: str
    file: Callable[[], bytes]


def file_of(path: str) -> str:
    """Return the file that holds the image `path`.

    >>> file_of("data/mha/7.mha#axial"), file_of("images/scan#2.png")
    ('data/mha/7.mha', 'images/scan#2.png')
    """
    match = BATCH_ROW.fullmatch(path) or VOLUME_SLICE.fullmatch(path)
    return match["file"] if match else path


def fifth_slice(path: str) -> str:
    """Return the path of slice 5 of a volume; any other image stays.

    >>> fifth_slice("data/mha/7.mha#axial"), fifth_slice("images/7.png")
    ('data/mha/7.mha#fifth', 'images/7.png')
    """
    match = VOLUME_SLICE.fullmatch(path)
    return f"{match['file']}#fifth" if match else path


def read_image(
    root: Path, path: str, sha256: str | None = None, slices: Path | None = None
) -> Source:
    """Read one image of a data set.

    Args:
        root: the data set's folder.
        path: as in the manifest.
        sha256: hash in the manifest; a slice cached under it is used instead of the volume.
        slices: folder in which slices of volumes are kept as PNG, under the volume's hash.

    Raises:
        OSError: the file cannot be read.
        InputError: a batch is no batch.
        IndexError: a batch does not have that row.
    """
    if match := BATCH_ROW.fullmatch(path):
        pixels = read_row(root / match["file"], int(match["part"]))
        return Source(hashlib.sha256(pixels).hexdigest(), partial(_portable_pixmap, pixels))
    match = VOLUME_SLICE.fullmatch(path)
    if match is None:
        content = (root / path).read_bytes()
        return Source(hashlib.sha256(content).hexdigest(), lambda: content)
    part = cast(Orientation, match["part"])
    if slices is not None and sha256 is not None:
        kept = slices / f"{sha256}-{part}.png"
        if kept.is_file():
            return Source(sha256, kept.read_bytes)
    content = (root / match["file"]).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    return Source(found, partial(_slice_file, content, part, found, slices))


def _portable_pixmap(pixels: bytes) -> bytes:
    """Return one row of a batch as an image file (PPM)."""
    size = SIDE * SIDE
    planes = [Image.frombytes("L", (SIDE, SIDE), pixels[i * size :][:size]) for i in range(3)]
    stream = io.BytesIO()
    Image.merge("RGB", planes).save(stream, "PPM")
    return stream.getvalue()


def _slice_file(content: bytes, part: Orientation, sha256: str, slices: Path | None) -> bytes:
    """Return a slice as a PNG file, and keep it in `slices`."""
    stream = io.BytesIO()
    Image.fromarray(slice_levels(content, part)).save(stream, "PNG")
    file = stream.getvalue()
    if slices is not None:
        kept = slices / f"{sha256}-{part}.png"
        write_atomic(kept, lambda partial_path: void(partial_path.write_bytes(file)))
    return file


def part_problem(content: bytes, path: str) -> str | None:
    """Return why the file of a part cannot be used; None if it can.

    Args:
        content: row of a batch, or the whole file of a volume.
        path: as in the manifest.
    """
    match = VOLUME_SLICE.fullmatch(path)
    if match is not None:
        return volume_problem(content, cast(Orientation, match["part"]))
    return None if len(content) == IMAGE_BYTES else f"{len(content)} bytes, not {IMAGE_BYTES}"


def read_part(root: Path, path: str) -> bytes | None:
    """Return the bytes that the hash of a part is taken of; None where `path` is a whole file.

    Raises:
        OSError, InputError, IndexError: see `read_image`.
    """
    if match := BATCH_ROW.fullmatch(path):
        return read_row(root / match["file"], int(match["part"]))
    if match := VOLUME_SLICE.fullmatch(path):
        return (root / match["file"]).read_bytes()
    return None
