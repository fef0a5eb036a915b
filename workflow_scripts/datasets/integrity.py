"""Judging an image file from its bytes, without decoding a pixel.

One read of the file serves its hash and its structure: the header by Pillow, then, by format, PNG
chunk checksums and end chunk, the JPEG end marker, the TIFF strips that must lie within the file.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from workflow_scripts.datasets.image_source import part_problem, read_part
from workflow_scripts.problems import InputError

FORMATS = ("PNG", "JPEG", "TIFF")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not stuffing, restart or fill bytes
JPEG_BARE = frozenset([0x01, *range(0xD0, 0xD8)])  # markers without a length
TIFF_TABLES = ((273, 279), (324, 325))  # offsets and byte counts of strips, of tiles


class FileVerdict(NamedTuple):
    """What one look at a file says: its hash ("" when unreadable) and why it is refused."""

    sha256: str
    reason: str | None


def check_file(path: str | Path, modes: Iterable[str]) -> FileVerdict:
    """Read a file once; return its SHA-256 and the reason to refuse it, if any."""
    try:
        with open(path, "rb", buffering=0) as handle:  # one system call, no copy
            content = handle.read()
    except FileNotFoundError:
        return FileVerdict("", MISSING)
    except OSError as error:
        return FileVerdict("", f"cannot be read: {error.strerror}")
    if not content:
        return FileVerdict("", EMPTY)
    return FileVerdict(hashlib.sha256(content).hexdigest(), structure_problem(content, modes))


MISSING = "file not found"
EMPTY = "empty file (0 bytes)"


def check_files(root: Path, paths: Sequence[str], modes: frozenset[str]) -> list[FileVerdict]:
    """Check a chunk of files below `root`; what one worker process does at a time."""
    folder = f"{root}/"  # joining Path objects would cost as much as the hash
    return [
        (check_part(root, path) if "#" in path else None) or check_file(folder + path, modes)
        for path in paths
    ]


def check_part(root: Path, path: str) -> FileVerdict | None:
    """Judge an image within a larger file; None where `path` is a file of its own."""
    try:
        content = read_part(root, path)
    except FileNotFoundError:
        return FileVerdict("", MISSING)
    except OSError as error:
        return FileVerdict("", f"cannot be read: {error.strerror}")
    except (IndexError, InputError) as error:
        return FileVerdict("", f"no such image in the file: {error}")
    if content is None:
        return None
    if not content:
        return FileVerdict("", EMPTY)
    return FileVerdict(hashlib.sha256(content).hexdigest(), part_problem(content, path))


def structure_problem(content: bytes, modes: Iterable[str]) -> str | None:
    """Return why the bytes are no whole image of one of the Pillow `modes`; None if they are.

    >>> structure_problem(b"GIF89a", {"L"})
    'not a PNG, JPEG or TIFF file'
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the checks below judge, not Pillow's doubts
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        return "not a PNG, JPEG or TIFF file" + _hint(content)
    except Image.DecompressionBombError:
        return "more pixels than Pillow agrees to decode"
    except (OSError, ValueError, EOFError) as error:
        return f"broken header: {error}"
    if image.mode not in modes:
        return f"mode {image.mode}, expected {' or '.join(sorted(modes))}"
    if image.format == "PNG":
        return png_problem(content)
    if image.format in ("JPEG", "MPO"):  # MPO: a camera's JPEG with further pictures behind it
        return jpeg_problem(content)
    return tiff_problem(image, len(content))


def _hint(content: bytes) -> str:
    """Say so when the file began as an image of a known format."""
    return ", its header is broken" if content.startswith((PNG_SIGNATURE, b"\xff\xd8")) else ""


def png_problem(content: bytes) -> str | None:
    """Return what is wrong with the chunks of a PNG file."""
    position, has_pixels = len(PNG_SIGNATURE), False
    view = memoryview(content)
    while position + 12 <= len(content):
        length = int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        end = position + 12 + length
        if end > len(content):
            return f"truncated: PNG chunk {kind.decode('latin-1')} ends after the file"
        checksum = int.from_bytes(view[end - 4 : end], "big")
        if zlib.crc32(view[position + 4 : end - 4]) != checksum:
            return f"damaged: checksum of PNG chunk {kind.decode('latin-1')}"
        if kind == b"IEND":
            return None if has_pixels else "PNG without pixel data"
        has_pixels |= kind == b"IDAT"
        position = end
    return "truncated: PNG without its end chunk"


def jpeg_problem(content: bytes) -> str | None:
    """Return what is wrong with the segments of a JPEG file; thumbnails inside are skipped."""
    position, has_pixels = 2, False  # after the start marker
    while found := JPEG_MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker == 0xD9:  # end of image
            return None if has_pixels else "JPEG without pixel data"
        if marker in JPEG_BARE:
            continue
        has_pixels |= marker == 0xDA  # start of scan
        length = int.from_bytes(content[position : position + 2], "big")
        if length < 2 or position + length > len(content):
            break
        position += length
    return "truncated: JPEG without its end marker"


def tiff_problem(image: Image.Image, n_bytes: int) -> str | None:
    """Return what is wrong with the strips or tiles of an opened TIFF file of `n_bytes`."""
    tags = getattr(image, "tag_v2", {})
    for offsets_tag, counts_tag in TIFF_TABLES:
        offsets, counts = tags.get(offsets_tag), tags.get(counts_tag)
        if offsets is None:
            continue
        if counts is None or len(counts) != len(offsets):
            return "damaged: TIFF without the sizes of its strips"
        ends = [offset + count for offset, count in zip(offsets, counts, strict=True)]
        if max(ends) > n_bytes:
            return "truncated: a TIFF strip ends after the file"
        return None
    return "damaged: TIFF without strips"
