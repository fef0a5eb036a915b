"""Decode every image of a data set once: uint8 pixels on disk, row i an image of the index.

    python -m workflow_scripts.datasets.store --manifest manifest.parquet --root data/chestx \
        --geometry short224 --jobs 8 --store short224.npy --index short224.parquet \
        --quarantine short224.quarantine.csv

A file that no longer has the manifest's hash stops the step. A file whose pixels do not decode is
left out of store and index and listed in the quarantine; nothing is put in its place. A run that
was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import logging
import multiprocessing
import struct
import sys
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.code_digest import code_digest
from workflow_scripts.command_line import run
from workflow_scripts.datasets.geometry import GEOMETRIES, BitDepth, Geometry, prepare
from workflow_scripts.datasets.image_source import read_image
from workflow_scripts.datasets.kept import Kept
from workflow_scripts.files import read_json, void, write_atomic, write_json, write_text
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.progress import progress
from workflow_scripts.speed import tune_allocator

log = logging.getLogger(__name__)

MAX_CHUNK: Final = 64  # images a worker takes at a time, and least number of such portions
MOVE_ROWS: Final = 256  # rows moved at a time when refused images leave gaps


class Row(NamedTuple):
    """What the store needs of a manifest row."""

    image_id: str
    path: str
    sha256: str


class Fault(NamedTuple):
    """Why an image is not in the store.

    Attributes:
        row: position in the manifest.
        kind: `bytes`: the file is not the one of the manifest; `pixels`: it does not decode.
        reason: for the user.
    """

    row: int
    kind: Literal["bytes", "pixels"]
    reason: str


# What Pillow raises for files that are no image, truncated, damaged or absurdly large. Truncated
# files are never completed with gray (Pillow's LOAD_TRUNCATED_IMAGES stays off).
DECODING_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring rows for one worker, which writes them into the shared file itself."""

    store: Path
    finished: Path  # lists the chunk's faults, once it is done
    root: Path
    geometry: Geometry
    bit_depth: BitDepth
    first: int
    rows: tuple[Row, ...]
    slices: Path | None


def read_rows(manifest: Path) -> list[Row]:
    """Return the images of a manifest, in its order.

    Raises:
        InputError: if a column is missing, there is no row, or an image is listed twice.
    """
    import pyarrow.parquet as pq

    columns = pq.read_schema(manifest).names
    missing = [name for name in Row._fields if name not in columns]
    if missing:
        raise refuse(
            str(manifest),
            f"columns {', '.join(Row._fields)}",
            f"no {', '.join(missing)}",
            "make the manifest again",
        )
    file = pq.ParquetFile(manifest)  # read_table would import pandas, a second of CPU
    table = file.read(columns=list(Row._fields)).to_pydict()
    rows = [Row(*values) for values in zip(*(table[name] for name in Row._fields), strict=True)]
    if not rows:
        raise refuse(
            str(manifest), "at least one image", "none", "read quarantine.csv and card.json beside"
        )
    if len({row.image_id for row in rows}) < len(rows):
        raise refuse(str(manifest), "each image_id once", "repeated ids", "make the manifest again")
    return rows


def decode(content: bytes, geometry: Geometry, bit_depth: BitDepth) -> NDArray[np.uint8]:
    """Return the pixels of an image file in `geometry`; see `geometry.prepare` for errors."""
    with warnings.catch_warnings():
        # Pillow warns of oddities it can read (a broken tag, transparency in a palette); what it
        # cannot read it raises.
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            return prepare(image, geometry, bit_depth)


def fill_chunk(chunk: Chunk) -> list[Fault]:
    """Decode the images of `chunk` into the store and return what could not be stored.

    A chunk that an earlier run finished is not decoded again.
    """
    if chunk.finished.is_file():
        return [Fault(*fault) for fault in read_json(chunk.finished)["faults"]]
    images = np.load(chunk.store, mmap_mode="r+")
    faults = []
    for row, (_, path, sha256) in enumerate(chunk.rows, start=chunk.first):
        try:
            source = read_image(chunk.root, path, sha256, chunk.slices)
        except (OSError, IndexError, InputError) as error:
            reason = getattr(error, "strerror", None) or error
            faults.append(Fault(row, "bytes", f"not readable: {reason}"))
            continue
        if source.sha256 != sha256:
            faults.append(Fault(row, "bytes", f"sha256 {source.sha256}"))
            continue
        try:
            images[row] = decode(source.file(), chunk.geometry, chunk.bit_depth)
        except DECODING_ERRORS as error:
            faults.append(Fault(row, "pixels", " ".join(str(error).split())))
    images.flush()
    if all(fault.kind == "pixels" for fault in faults):  # a changed file may be restored
        write_json(chunk.finished, {"faults": faults})
    return faults


def build(
    rows: Sequence[Row],
    root: Path,
    geometry: Geometry,
    kept: Kept,
    bit_depth: BitDepth = None,
    jobs: int = 1,
    slices: Path | None = None,
) -> tuple[Path, list[Fault]]:
    """Fill an array with the images of `rows` that decode, in their order.

    Args:
        rows: images of the manifest.
        root: the data set's folder, to which the paths are relative.
        geometry: resize and crop.
        kept: holds the array under way, and what a killed run finished of it.
        bit_depth: see `geometry.prepare`.
        jobs: processes.
        slices: folder that keeps the slices of volumes; see `image_source.read_image`.

    Returns:
        The file with the array, shape (N - refused, crop, crop, 3), uint8, and the images left
        out because their pixels do not decode, by row.

    Raises:
        InputError: if a file is not the one of the manifest, or no image decodes.
    """
    store = _array_under_way(kept, len(rows), geometry)
    size = max(1, min(MAX_CHUNK, len(rows) // MAX_CHUNK))
    chunks = [
        Chunk(
            store,
            kept.path(f"rows{first}.json"),
            root,
            geometry,
            bit_depth,
            first,
            tuple(rows[first : first + size]),
            slices,
        )
        for first in range(0, len(rows), size)
    ]
    faults = sorted(_shown(_outcomes(chunks, jobs), len(rows)))
    changed = [fault for fault in faults if fault.kind == "bytes"]
    if changed:
        raise InputError([_changed(root, rows[fault.row], fault) for fault in changed])
    if len(faults) == len(rows):
        raise refuse(
            str(root),
            "images that decode",
            f"{len(rows)} that do not ({faults[0].reason})",
            "look at the files; the archive may be incompletely unpacked",
        )
    kept.invalidate()
    _close_gaps(store, [fault.row for fault in faults])
    return store, faults


def _array_under_way(kept: Kept, n_images: int, geometry: Geometry) -> Path:
    """Return the file with the array to fill; a killed run's is kept, a new one is empty."""
    store = kept.path("images.npy")
    if not store.is_file():
        shape = (n_images, geometry.crop, geometry.crop, geometry.channels)
        new = kept.path("new.npy")
        np.lib.format.open_memmap(new, mode="w+", dtype=np.uint8, shape=shape).flush()
        new.replace(store)
    return store


def _outcomes(chunks: Sequence[Chunk], jobs: int) -> Iterator[tuple[Chunk, list[Fault]]]:
    # Decoding a large image goes through buffers of many megabytes: 145 against 97 ms for a JPEG
    # of 9 megapixels, with the same pixels.
    if jobs == 1:
        tune_allocator()
        yield from ((chunk, fill_chunk(chunk)) for chunk in chunks)
        return
    # Fresh processes: forking one in which other libraries have started threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=tune_allocator) as pool:
        chunk_of = {pool.submit(fill_chunk, chunk): chunk for chunk in chunks}
        for done in as_completed(chunk_of):
            yield chunk_of[done], done.result()


def _shown(outcomes: Iterable[tuple[Chunk, list[Fault]]], total: int) -> Iterator[Fault]:
    """Pass the faults on and let the bar move by images, not by chunks."""
    faults: list[Fault] = []

    def images() -> Iterator[None]:
        for chunk, found in outcomes:
            faults.extend(found)
            yield from (None for _ in chunk.rows)

    for _ in progress(images(), total, "decode"):
        pass
    yield from faults


def _changed(root: Path, row: Row, fault: Fault) -> Problem:
    return Problem(
        str(root / row.path),
        f"the file of the manifest, sha256 {row.sha256}",
        fault.reason,
        "restore the file, or make the manifest again",
    )


def _close_gaps(store: Path, refused: Sequence[int]) -> None:
    """Move the rows after each refused one up, in place, and cut the file to the rest."""
    if not refused:
        return
    images = np.load(store, mmap_mode="r+")
    kept = np.setdiff1d(np.arange(len(images)), refused)
    for first in range(0, len(kept), MOVE_ROWS):
        # A row only moves towards the start, and a block is read before any of it is written.
        block = kept[first : first + MOVE_ROWS]
        images[first : first + len(block)] = images[block]
    images.flush()
    shape = (len(kept), *images.shape[1:])
    offset = images.offset
    del images
    with store.open("rb+") as handle:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        if handle.tell() != offset:  # numpy pads the header so that a length can change
            raise RuntimeError(f"{store}: header of {handle.tell()} bytes, expected {offset}")
        handle.truncate(offset + int(np.prod(shape)))


def write_index(path: Path, rows: Sequence[Row], geometry_name: str, bit_depth: BitDepth) -> None:
    """Write which image each row of the store is, and how it was prepared."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = {"geometry": geometry_name, **asdict(GEOMETRIES[geometry_name]), "bit_depth": bit_depth}
    table = pa.table(
        {
            "image_id": pa.array([row.image_id for row in rows], pa.string()),
            "sha256": pa.array([row.sha256 for row in rows], pa.string()),
        },
        metadata={"steadfast": json.dumps(made)},
    )
    write_atomic(path, lambda partial: pq.write_table(table, partial))


def write_quarantine(path: Path, rows: Sequence[Row], faults: Sequence[Fault]) -> None:
    """List the images that are not in the store, with the reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "path", "reason"))
    writer.writerows((rows[row].image_id, rows[row].path, reason) for row, _, reason in faults)
    write_text(path, text.getvalue())


def bit_depth_of(text: str) -> int | str:
    """Return the bit depth that a command line names."""
    return int(text) if text.isdigit() else text


def main(arguments: Sequence[str] | None = None) -> None:
    """Build store, index and quarantine from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument(
        "--geometry",
        choices=sorted(GEOMETRIES),
        required=True,
        help="how images are resized and cut",
    )
    parser.add_argument(
        "--bit-depth",
        type=bit_depth_of,
        choices=[*range(9, 33), "stretch"],
        metavar="BITS",
        help="true bits of gray images deeper than 8, or stretch (each between its own darkest "
        "and brightest value); refused where not given",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--slices", type=Path, help="folder that keeps the slices of volumes")
    parser.add_argument("--store", type=Path, required=True, help="array to write, .npy")
    parser.add_argument("--index", type=Path, required=True, help="its rows, .parquet")
    parser.add_argument("--quarantine", type=Path, required=True, help="images left out, .csv")
    given = parser.parse_args(arguments)

    rows = read_rows(given.manifest)
    given.store.parent.mkdir(parents=True, exist_ok=True)
    # The index is what a reader needs first: without it, an interrupted run leaves nothing valid.
    given.index.unlink(missing_ok=True)
    geometry, bit_depth = GEOMETRIES[given.geometry], given.bit_depth
    kept = Kept(given.store, identity(rows, given.root, geometry, bit_depth))
    array, faults = build(
        rows, given.root, geometry, kept, bit_depth, max(1, given.jobs), given.slices
    )
    write_atomic(given.store, lambda partial: void(array.replace(partial)))
    kept.drop()
    write_quarantine(given.quarantine, rows, faults)
    refused = {fault.row for fault in faults}
    stored = [row for number, row in enumerate(rows) if number not in refused]
    write_index(given.index, stored, given.geometry, given.bit_depth)
    log.info("%d images stored, %d in quarantine", len(stored), len(refused))


def identity(
    rows: Sequence[Row], root: Path, geometry: Geometry, bit_depth: BitDepth
) -> dict[str, object]:
    """Return all that decides the pixels of each row of the store."""
    listed = hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()
    made = {"root": str(root.absolute()), "geometry": asdict(geometry), "bit_depth": bit_depth}
    return {**made, "rows": listed, "code": code_digest("workflow_scripts.datasets.store")}


if __name__ == "__main__":
    sys.exit(run(main))
