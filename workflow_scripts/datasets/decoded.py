"""Step: decode every image of a data set once, at its own size: what random crops are cut from.

    python -m workflow_scripts.datasets.decoded --manifest manifest.parquet --root data/bach \
        --images images.bin --index images.parquet --quarantine quarantine.csv

All pixels lie one after another in one file of bytes (uint8), mapped and not read: a crop touches
only its own rows. Gray images keep one channel.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets.geometry import BitDepth, to_eight_bit
from workflow_scripts.datasets.image_source import read_image
from workflow_scripts.datasets.store import DECODING_ERRORS, Row, bit_depth_of, read_rows
from workflow_scripts.files import write_atomic, write_text
from workflow_scripts.problems import InputError, refuse
from workflow_scripts.progress import progress
from workflow_scripts.speed import tune_allocator

log = logging.getLogger(__name__)

AT_A_TIME = 32  # images in memory, for each thread

Box = tuple[int, int, int, int]  # left, top, right, bottom, as Pillow has it
Choice = Callable[[int, int], Box]  # from width and height to the part that is wanted


class PixelSource(Protocol):
    """Anything that cuts a part out of a whole image."""

    def crop(self, image: int, choose: Choice) -> Image.Image:
        """Return the part that `choose` picks of image number `image`, mode L or RGB."""
        ...


class Place(NamedTuple):
    """One image in the file of pixels."""

    image_id: str
    sha256: str
    offset: int  # bytes
    height: int
    width: int
    channels: int  # 1 or 3


class DecodedImages:
    """Crops from the file of decoded pixels.

    Args:
        images: file of pixels.
        places: of each image, in the order of its number.
    """

    def __init__(self, images: Path, places: Sequence[Place]) -> None:
        self.places = list(places)
        self._pixels = np.memmap(images, dtype=np.uint8, mode="r")

    def crop(self, image: int, choose: Choice) -> Image.Image:
        """Return a part of an image; see `PixelSource`."""
        _, _, offset, height, width, channels = self.places[image]
        flat = self._pixels[offset : offset + height * width * channels]
        left, top, right, bottom = choose(width, height)
        whole = flat.reshape(height, width, channels)
        part = np.ascontiguousarray(whole[top:bottom, left:right])
        return Image.fromarray(part[..., 0] if channels == 1 else part)


class ArchiveImages:
    """The same crops, each image decoded from the archive every time.

    For data sets whose decoded pixels would not fit on disk; the crops are equal.
    """

    def __init__(self, root: Path, rows: Sequence[Row], bit_depth: BitDepth) -> None:
        self.root, self.rows, self.bit_depth = root, list(rows), bit_depth

    def crop(self, image: int, choose: Choice) -> Image.Image:
        """Return a part of an image; see `PixelSource`.

        Raises:
            InputError: the file changed since the manifest was made, or cannot be decoded.
        """
        row = self.rows[image]
        pixels = decode_whole(row, self.root, self.bit_depth)
        if isinstance(pixels, str):
            where = str(self.root / row.path)
            raise refuse(where, "the image of the manifest", pixels, "restore the file")
        return pixels.crop(choose(*pixels.size))


def decode_whole(row: Row, root: Path, bit_depth: BitDepth) -> Image.Image | str:
    """Return a whole image, mode L or RGB; or the reason why there is none."""
    try:
        source = read_image(root, row.path)
        if source.sha256 != row.sha256:
            return f"sha256 {source.sha256} instead of {row.sha256}"
        with Image.open(io.BytesIO(source.file())) as image:
            return to_eight_bit(image, bit_depth)
    except (InputError, *DECODING_ERRORS) as error:
        return " ".join(str(error).split())


def read_places(index: Path) -> list[Place]:
    """Return the index of a file of decoded pixels."""
    import pyarrow.parquet as pq

    columns = pq.ParquetFile(index).read().to_pydict()
    return [Place(*row) for row in zip(*(columns[name] for name in Place._fields), strict=True)]


def build(
    rows: Sequence[Row], root: Path, bit_depth: BitDepth, jobs: int, path: Path
) -> tuple[list[Place], list[tuple[Row, str]]]:
    """Write the pixels of `rows` that decode to `path`, in their order.

    Returns:
        Where each image lies, and the images left out with the reason.

    Raises:
        InputError: no image decodes.
    """
    places: list[Place] = []
    refused: list[tuple[Row, str]] = []
    with path.open("wb") as file:
        decoded = _decoded(rows, root, bit_depth, jobs)
        for row, image in zip(rows, progress(decoded, len(rows), "decode"), strict=True):
            if isinstance(image, str):
                refused.append((row, image))
                continue
            pixels: NDArray[np.uint8] = np.asarray(image)
            channels = 1 if pixels.ndim == 2 else 3
            height, width = pixels.shape[:2]
            start = file.tell()
            places.append(Place(row.image_id, row.sha256, start, height, width, channels))
            file.write(np.ascontiguousarray(pixels).data)
    if not places:
        step = "look at the files; the archive may be incompletely unpacked"
        raise refuse(str(root), "images that decode", refused[0][1], step)
    return places, refused


def _decoded(
    rows: Sequence[Row], root: Path, bit_depth: BitDepth, jobs: int
) -> Iterator[Image.Image | str]:
    work = partial(decode_whole, root=root, bit_depth=bit_depth)
    with ThreadPoolExecutor(jobs) as pool:  # decoders run outside Python's lock
        for first in range(0, len(rows), AT_A_TIME * jobs):
            yield from pool.map(work, rows[first : first + AT_A_TIME * jobs])


def _write_index(path: Path, places: Sequence[Place]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: [getattr(p, name) for p in places] for name in Place._fields})
    write_atomic(path, lambda part: pq.write_table(table, part))


def main(arguments: Sequence[str] | None = None) -> None:
    """Decode a data set from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--bit-depth", type=bit_depth_of, help="as in the rule `store`")
    parser.add_argument("--jobs", type=int, default=1, help="threads (1)")
    parser.add_argument("--images", type=Path, required=True, help="pixels to write")
    parser.add_argument("--index", type=Path, required=True, help="where each is, .parquet")
    parser.add_argument("--quarantine", type=Path, required=True, help="images left out, .csv")
    given = parser.parse_args(arguments)
    tune_allocator()
    rows = read_rows(given.manifest)
    given.index.unlink(missing_ok=True)  # without it, an interrupted run leaves nothing valid
    found: list[tuple[list[Place], list[tuple[Row, str]]]] = []
    write_atomic(
        given.images,
        lambda path: found.append(build(rows, given.root, given.bit_depth, given.jobs, path)),
    )
    places, refused = found[0]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "path", "reason"))
    writer.writerows((row.image_id, row.path, reason) for row, reason in refused)
    write_text(given.quarantine, text.getvalue())
    _write_index(given.index, places)
    log.info("%d images decoded, %d in quarantine", len(places), len(refused))


if __name__ == "__main__":
    sys.exit(run(main))
