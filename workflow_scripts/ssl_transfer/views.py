"""Step: draw some images of a data set and their transformed versions, once for all checkpoints.

    python -m workflow_scripts.ssl_transfer.views --manifest manifest.parquet --card card.json \
        --store-index short256.parquet --root data/shenzhencxr --transform rotation --k 256 \
        --protocol corrected --clean clean.npy --views views.npy --index index.parquet

Writes the clean images, shape (N, 224, 224, 3), their versions, shape (N * K, 224, 224, 3), those
of an image one after another, and an index with one row a clean image.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets.geometry import GEOMETRIES, BitDepth, prepare, to_eight_bit
from workflow_scripts.datasets.image_source import read_image
from workflow_scripts.datasets.store import bit_depth_of
from workflow_scripts.files import write_atomic
from workflow_scripts.predictions import CASE_COLUMNS
from workflow_scripts.problems import refuse, require_files
from workflow_scripts.progress import progress
from workflow_scripts.randomness import named_rng
from workflow_scripts.speed import tune_allocator
from workflow_scripts.ssl_transfer.cases import (
    CARD_KEYS,
    RELEASED_ORDER,
    SYSTEM,
    read_keys,
    read_manifest,
)
from workflow_scripts.ssl_transfer.image_draws import one_a_patient, released_rows
from workflow_scripts.ssl_transfer.invariance_protocols import INVARIANCE, InvarianceOptions
from workflow_scripts.ssl_transfer.transform_grid import GRIDS, grid
from workflow_scripts.ssl_transfer.transform_images import versions
from workflow_scripts.ssl_transfer.transform_names import default_k

if TYPE_CHECKING:
    import pandas as pd

Pixels = NDArray[np.uint8]
N_IMAGES = 100  # images that are transformed (released code)
METADATA_KEY = "steadfast"


@dataclass(frozen=True, slots=True)
class Work:
    """What every image of a job has in common."""

    root: Path
    slices: Path | None
    bit_depth: BitDepth
    transform: str
    k: int
    options: InvarianceOptions
    seed: int
    dataset: str


def released_pool(table: pd.DataFrame, manifest: Path) -> pd.DataFrame:
    """Return training and test images in the released order.

    Raises:
        InputError: the released code never read this data set.
    """
    if RELEASED_ORDER not in table:
        raise refuse(
            str(manifest),
            f"the column {RELEASED_ORDER!r} for --protocol released",
            "a data set that the released code never read",
            "use --protocol corrected",
        )
    pool = table[table["split_released"].isin(["train", "test"])]
    return pool.sort_values(RELEASED_ORDER, ignore_index=True)


def drawn_images(
    table: pd.DataFrame, manifest: Path, options: InvarianceOptions, n_images: int, *stream: str
) -> pd.DataFrame:
    """Return the manifest rows of the images to judge, in the order of the draw.

    Args:
        table: the manifest, sorted by image, of images that decode (`corrected`) or of all.
        manifest: where it is from, for messages.
        options: of the protocol.
        n_images: how many.
        stream: words of the corrected draw's random stream; the first is the seed.
    """
    if options.with_replacement:
        pool = released_pool(table, manifest)
        return pool.iloc[released_rows(len(pool), n_images)[1]].reset_index(drop=True)
    patients = table["patient_id"].factorize()[0].astype(np.int64)
    rng = named_rng(int(stream[0]), SYSTEM, "invariance", *stream[1:])
    return table.iloc[one_a_patient(patients, n_images, rng)].reset_index(drop=True)


def draw_one(row: tuple[int, str, str, str], work: Work) -> tuple[Pixels, Pixels]:
    """Return the clean image and its versions, shape (K, 224, 224, 3).

    Args:
        row: number of the draw, image id, path and hash of the manifest.
        work: of the job.

    Raises:
        InputError: the file is not the one of the manifest.
    """
    number, image_id, path, sha256 = row
    source = read_image(work.root, path, sha256, work.slices)
    if source.sha256 != sha256:
        raise refuse(
            str(work.root / path),
            f"the file of the manifest, sha256 {sha256}",
            f"sha256 {source.sha256}",
            "restore the file, or make the manifest again",
        )
    geometry = GEOMETRIES[work.options.geometry]
    with Image.open(io.BytesIO(source.file())) as opened:
        image = to_eight_bit(opened, work.bit_depth).convert("RGB")
    steps = grid(work.transform, work.k, work.options.extra_shear_degrees)
    rng = named_rng(work.seed, SYSTEM, "deform", work.dataset, image_id, str(number))
    drawn = versions(image, work.transform, steps, geometry, rng, work.options.resize_first)
    return prepare(image, geometry), drawn


def fill(
    rows: Sequence[tuple[int, str, str, str]], work: Work, jobs: int, clean: Pixels, views: Pixels
) -> None:
    """Draw all images into the arrays `clean` (N, ...) and `views` (N * K, ...)."""
    work_one = partial(draw_one, work=work)

    def store(drawn: Any) -> None:  # noqa: ANN401, what either map gives
        for i, (image, transformed) in enumerate(progress(drawn, len(rows), work.transform)):
            clean[i] = image
            views[i * work.k : (i + 1) * work.k] = transformed

    if jobs == 1:
        tune_allocator()
        store(map(work_one, rows))
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=tune_allocator) as pool:
        store(pool.map(work_one, rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write clean images, versions and index."""
    given = _parser().parse_args(arguments)
    if given.n_images < 1 or given.jobs < 1:
        raise refuse("--n-images and --jobs", "at least 1", "less", "give a larger number")
    options = INVARIANCE[given.protocol]
    k = default_k(given.transform) if given.k is None else given.k
    grid(given.transform, k)  # refuse a bad k before anything is read
    require_files([given.manifest, given.card, given.store_index])
    card = read_keys(given.card, CARD_KEYS)
    column = "split_released" if options.with_replacement else "split"
    chosen, n_unreadable = _chosen(given, options, card["dataset"], column)
    work = Work(
        given.root, given.slices, given.bit_depth, given.transform, k, options, given.seed,
        card["dataset"],
    )  # fmt: skip
    rows = list(
        zip(range(len(chosen)), chosen["image_id"], chosen["path"], chosen["sha256"], strict=True)
    )
    side = GEOMETRIES[options.geometry].crop

    def write(clean_path: Path) -> None:
        def write_views(views_path: Path) -> None:
            clean, views = (
                np.lib.format.open_memmap(path, "w+", np.uint8, (count, side, side, 3))
                for path, count in ((clean_path, len(rows)), (views_path, len(rows) * k))
            )
            fill(rows, work, given.jobs, clean, views)
            clean.flush()
            views.flush()

        write_atomic(given.views, write_views)

    write_atomic(given.clean, write)
    about = {
        "dataset": card["dataset"], "phantom": card["phantom"], "transform": given.transform,
        "k": k, "protocol": given.protocol, "seed": given.seed, "options": asdict(options),
        "images_drawn": len(chosen), "images_unreadable": n_unreadable,
    }  # fmt: skip
    _write_index(given.index, chosen.assign(split=chosen[column]), about)


def _chosen(
    given: argparse.Namespace, options: InvarianceOptions, dataset: str, column: str
) -> tuple[pd.DataFrame, int]:
    """Return the rows of the images to judge, and how many drawn ones do not decode.

    The corrected draw is among the images that decode; the released one is not moved by those
    that do not, which are left out afterwards.
    """
    import pyarrow.parquet as pq

    table = read_manifest(given.manifest, column)
    readable = pq.ParquetFile(given.store_index).read(["image_id"])["image_id"].to_pylist()
    stream = (str(given.seed), dataset)
    if not options.with_replacement:
        table = table[table["image_id"].isin(readable)]
        return drawn_images(table, given.manifest, options, given.n_images, *stream), 0
    drawn = drawn_images(table, given.manifest, options, given.n_images, *stream)
    kept = drawn[drawn["image_id"].isin(readable)].reset_index(drop=True)
    return kept, len(drawn) - len(kept)


def _write_index(path: Path, rows: pd.DataFrame, about: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(rows[list(CASE_COLUMNS)], preserve_index=False)
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about)})
    write_atomic(path, lambda partial_path: pq.write_table(table, partial_path))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument("--card", type=Path, required=True, help="of the data set (.json)")
    parser.add_argument("--store-index", type=Path, required=True, help="which images decode")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--bit-depth", type=bit_depth_of, help="of deep gray images, as the store")
    parser.add_argument("--slices", type=Path, help="folder that keeps the slices of volumes")
    parser.add_argument(
        "--transform", choices=sorted(GRIDS), required=True, help="how images are changed"
    )
    parser.add_argument("--k", type=int, help="versions of an image (default: the transform's)")
    parser.add_argument(
        "--protocol",
        choices=sorted(INVARIANCE),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--n-images", type=int, default=N_IMAGES, help=f"({N_IMAGES})")
    parser.add_argument("--seed", type=int, default=0, help="of the corrected draw (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--clean", type=Path, required=True, help="clean images to write, .npy")
    parser.add_argument("--views", type=Path, required=True, help="versions to write, .npy")
    parser.add_argument("--index", type=Path, required=True, help="index to write, .parquet")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
