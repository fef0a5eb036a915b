"""Bring every volume to a working grid once: voxels and classes on disk, an index of slices.

    python -m workflow_scripts.datasets.volume_store --manifest manifest.parquet --card card.json \
        --root data/acdc --grid inplane137 --jobs 8 --images inplane137.images.npy \
        --masks inplane137.masks.npy --index inplane137.parquet --quarantine inplane137.csv

Slices differ in size, so both arrays are flat and the index says where a slice begins. A file
that no longer has the manifest's hash stops the step. A run that was killed goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import logging
import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.code_digest import code_digest
from workflow_scripts.command_line import run
from workflow_scripts.datasets.kept import Kept
from workflow_scripts.datasets.layout import layout_named
from workflow_scripts.datasets.nifti import VolumeError
from workflow_scripts.datasets.segmentation import Segmentation, Volume
from workflow_scripts.datasets.volume_files import read_checked
from workflow_scripts.datasets.volumes import GRIDS
from workflow_scripts.files import read_json, void, write_atomic, write_text
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.progress import progress

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

FILES = ("path", "sha256", "mask_path", "mask_sha256", "contour")
PACKAGE = "workflow_scripts.datasets"
NEEDED = ("image_id", "patient_id", *FILES, "frame", "frame_index")


class Prepared(NamedTuple):
    """One volume on its way into the store; `volume` is None when `reason` says why not."""

    volume: Volume | None
    reason: str | None
    is_changed: bool = False


def prepare(
    row: dict[str, Any],
    kept: Path,
    root: Path,
    grid: str,
    facts: Segmentation,
    modes: frozenset[str],
) -> Prepared:
    """Read one manifest row and bring it to the grid; what an earlier run finished is read back.

    Args:
        row: of the manifest.
        kept: folder of the finished volumes.
        root: the data set's folder.
        grid: name of the working grid.
        facts: what the layout says of its masks.
        modes: pixel types that the layout's files may have.
    """
    part = kept / f"{hashlib.sha256(row['image_id'].encode()).hexdigest()}.npz"
    if part.is_file():
        with np.load(part) as stored:
            volume = Volume(stored["image"], stored["mask"], tuple(stored["spacing_mm"].tolist()))
        return Prepared(volume, None)
    prepared = prepare_row(row, root, grid, facts, modes)
    if prepared.volume is not None:
        content = prepared.volume._asdict()
        write_atomic(part, lambda partial: np.savez(partial, **content))
    return prepared


def prepare_row(
    row: dict[str, Any], root: Path, grid: str, facts: Segmentation, modes: frozenset[str]
) -> Prepared:
    """Read one manifest row and bring it to the grid."""
    try:
        found = read_checked(root, row, facts, modes)
        if (found.sha256, found.mask_sha256) != (row["sha256"], row["mask_sha256"]):
            return Prepared(None, "other bytes than in the manifest", is_changed=True)
        return Prepared(GRIDS[grid](found.volume), None)
    except VolumeError as error:
        return Prepared(None, str(error))


class Slices(NamedTuple):
    """The index of a store, one entry a slice."""

    image_id: list[str]
    patient_id: list[str]
    frame: list[str | None]
    slice: list[int]
    offset: list[int]
    rows: list[int]
    columns: list[int]
    spacing_slice_mm: list[float]
    spacing_row_mm: list[float]
    spacing_column_mm: list[float]
    foreground: list[int]


def fill(
    rows: Sequence[dict[str, Any]], volumes: Iterable[Prepared], images: Path, masks: Path
) -> tuple[Slices, list[tuple[dict[str, Any], str]]]:
    """Append volumes to the two flat arrays, in order; return the index and what was left out.

    Raises:
        InputError: a file is not the one of the manifest.
    """
    index = Slices(*([] for _ in Slices._fields))
    faults: list[tuple[dict[str, Any], str]] = []
    changed: list[Problem] = []
    offset = 0
    with FlatArray(images, np.float32) as pixels, FlatArray(masks, np.uint8) as classes:
        for row, (volume, reason, is_changed) in zip(rows, volumes, strict=True):
            if volume is None:
                if is_changed:
                    expected, advice = "the files of the manifest", "make the manifest again"
                    changed.append(Problem(row["path"], expected, str(reason), advice))
                faults.append((row, str(reason)))
                continue
            pixels.append(volume.image)
            classes.append(volume.mask)
            for number, plane in enumerate(volume.mask):
                ids = (row["image_id"], row["patient_id"], row["frame"], number, offset)
                entry = (*ids, *plane.shape, *volume.spacing_mm, int((plane > 0).sum()))
                columns: list[list[Any]] = list(index)
                for column, value in zip(columns, entry, strict=True):
                    column.append(value)
                offset += plane.size
    if changed:
        raise InputError(changed)
    return index, faults


class FlatArray:
    """A one-dimensional `.npy` file that grows; its length is written when it is closed."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._length = 0
        self._file = path.open("wb+")
        self._write_header()
        self._start = self._file.tell()

    def __enter__(self) -> FlatArray:
        return self

    def append(self, values: NDArray[Any]) -> None:
        """Add the values in C order."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())
        self._length += values.size

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._start:  # numpy pads the header so that a length can change
            raise RuntimeError(f"header of {self._file.tell()} bytes, expected {self._start}")
        self._file.close()

    def _write_header(self) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def outcomes(
    rows: Sequence[dict[str, Any]], jobs: int, work: partial[Prepared]
) -> Iterator[Prepared]:
    """Prepare rows on `jobs` processes, in order, with progress."""
    total = len(rows)
    if jobs <= 1:
        yield from progress(map(work, rows), total, "to grid", "volumes")
        return
    # Fresh processes: forking one in which other libraries have started threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from progress(pool.map(work, rows, chunksize=2), total, "to grid", "volumes")


def read_rows(manifest: Path) -> list[dict[str, Any]]:
    """Return what the store needs of a segmentation manifest, a dictionary a row.

    Raises:
        InputError: it is no manifest of volumes, or empty.
    """
    import pyarrow.parquet as pq

    names = pq.read_schema(manifest).names
    missing = [name for name in NEEDED if name not in names]
    if missing:
        found, advice = f"no {', '.join(missing)}", "give a manifest with masks"
        raise refuse(str(manifest), f"columns {', '.join(NEEDED)}", found, advice)
    rows: list[dict[str, Any]] = pq.read_table(manifest, columns=list(NEEDED)).to_pylist()
    if not rows:
        raise refuse(str(manifest), "at least one volume", "none", "read quarantine.csv beside")
    return rows


def index_table(index: Slices, about: dict[str, Any]) -> pa.Table:
    """Return the index as a table with the store's origin in its metadata."""
    import pyarrow as pa

    types = {"offset": pa.int64(), "slice": pa.int64(), "frame": pa.string()}
    columns = {name: pa.array(values, types.get(name)) for name, values in index._asdict().items()}
    return pa.table(columns, metadata={"steadfast": json.dumps(about)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and build the store."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument("--card", type=Path, required=True, help="says what the labels mean")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument(
        "--grid",
        choices=sorted(GRIDS),
        required=True,
        help="working grid; docs/reference/datasets.md",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--images", type=Path, required=True, help="float32 voxels, .npy")
    parser.add_argument("--masks", type=Path, required=True, help="uint8 classes, .npy")
    parser.add_argument("--index", type=Path, required=True, help="a row a slice, .parquet")
    parser.add_argument("--quarantine", type=Path, required=True, help="volumes left out, .csv")
    given = parser.parse_args(arguments)
    import pyarrow.parquet as pq

    rows, card = read_rows(given.manifest), read_json(given.card)
    layout = layout_named(card["layout"])
    if layout.segmentation is None:
        raise refuse(str(given.card), "a layout with masks", layout.name, "use the image store")
    listed = hashlib.sha256(repr(rows).encode()).hexdigest()
    code = code_digest(f"{PACKAGE}.volume_store", f"{PACKAGE}.{card['layout']}")
    about = {"root": str(given.root.absolute()), "grid": given.grid, "rows": listed, "code": code}
    kept = Kept(given.images, about)
    work = partial(
        prepare,
        kept=kept.folder,
        root=given.root,
        grid=given.grid,
        facts=layout.segmentation,
        modes=layout.modes,
    )
    given.index.unlink(missing_ok=True)  # without it, an interrupted run leaves nothing valid
    found: list[Any] = []

    def fill_both(images: Path) -> None:
        write_atomic(
            given.masks,
            lambda masks: found.extend(fill(rows, outcomes(rows, given.jobs, work), images, masks)),
        )

    write_atomic(given.images, fill_both)
    index, faults = found
    if not index.image_id:
        raise refuse(str(given.root), "a volume that fits the grid", faults[0][1], "see the grid")
    write_quarantine(given.quarantine, faults)
    about = {"grid": given.grid, "classes": card["classes"], "phantom": card["phantom"]}
    table = index_table(index, about)
    write_atomic(given.index, lambda partial: void(pq.write_table(table, partial)))
    kept.drop()
    log.info("%d slices of %d volumes stored, %d volumes in quarantine",
             len(index.slice), len(rows) - len(faults), len(faults))  # fmt: skip


def write_quarantine(path: Path, faults: Sequence[tuple[dict[str, Any], str]]) -> None:
    """List the volumes that are not in the store, with the reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "path", "reason"))
    writer.writerows((row["image_id"], row["path"], reason) for row, reason in faults)
    write_text(path, text.getvalue())


if __name__ == "__main__":
    sys.exit(run(main))
