"""Warn of images in different splits that look the same although their files differ.

    python -m workflow_scripts.datasets.near_duplicates --manifests a.parquet b.parquet \
        --stores a/short224.npy b/short224.npy --indexes a/short224.parquet b/short224.parquet \
        --out near_duplicates.csv

A file saved twice (another format, another brightness, a crop of a pixel) has another hash, and
the leak certificate does not see it. Here each image of the store becomes 256 bits, of which each
says whether the image grows brighter from one field of a 16 x 16 grid to the next; images that
differ in few bits are listed, those held out beside the training image nearest to each. It is a
list to look at, not a proof: radiographs of one patient, and of two, can be that similar.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.progress import progress

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SIDE: Final = 16  # fields a side; 8 would call most chest X-rays alike
WORDS: Final = SIDE * SIDE // 64
MOST_BITS: Final = 10  # ours: of 256; unrelated images differ in about 128
FLAT_LEVELS: Final = 2.0  # standard deviation in gray levels below which an image shows nothing
READ_ROWS: Final = 256  # images read from a store at a time
COMPARE_PAIRS: Final = 1 << 20  # pairs compared at a time: 32 MiB
COLUMNS: Final = (
    "image", "patient", "split", "nearest_training_image", "nearest_training_patient",
    "bits_different", "training_images_as_near",
)  # fmt: skip
Hashes = NDArray[np.uint64]  # (N, WORDS)


class Nearest(NamedTuple):
    """The nearest training image of a held-out image.

    Attributes:
        held_out, training: row numbers.
        bits: in how many of the 256 they differ.
        n_near: training images within the limit.
    """

    held_out: int
    training: int
    bits: int
    n_near: int


def difference_hash(images: NDArray[np.uint8]) -> Hashes:
    """Return 256 bits an image: whether it grows brighter from a field to the next on its right.

    Args:
        images: shape (N, H, W, 3 or 1); both sides at least 17.

    Returns:
        Shape (N, 4), uint64. Brightness and contrast do not change it.

    >>> import numpy as np
    >>> ramp = np.tile(np.arange(34, dtype=np.uint8), (34, 1))[None, :, :, None].repeat(3, axis=3)
    >>> int(np.bitwise_count(difference_hash(ramp)).sum())
    256
    """
    gray = images.mean(axis=3, dtype=np.float32)
    fields = _mean_of_fields(_mean_of_fields(gray, 1, SIDE), 2, SIDE + 1)
    brighter = (fields[:, :, 1:] > fields[:, :, :-1]).reshape(len(images), -1)
    packed = np.packbits(brighter, axis=1)
    return np.ascontiguousarray(packed).view(np.uint64)


def _mean_of_fields(gray: NDArray[np.float32], axis: int, n: int) -> NDArray[np.float32]:
    """Return the means of `n` stripes of equal width (to a pixel) along an axis."""
    edges = np.linspace(0, gray.shape[axis], n + 1).astype(int)
    shape = [1, 1, 1]
    shape[axis] = n
    means: NDArray[np.float32] = np.add.reduceat(gray, edges[:-1], axis=axis)
    means /= np.diff(edges).reshape(shape)
    return means


def is_flat(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which images show nothing, so that their bits are noise; shape (N,)."""
    flat: NDArray[np.bool_] = images.astype(np.float32).std(axis=(1, 2, 3)) < FLAT_LEVELS
    return flat


def nearest_training(held_out: Hashes, training: Hashes, most_bits: int) -> list[Nearest]:
    """Return each held-out image that has training images within `most_bits`, with the nearest.

    If two hashes differ in at most b bits, then of b + 1 groups of bits one is equal: only images
    that share a group are compared. Exact, and fast for hundreds of thousands of images.
    """
    best: dict[int, Nearest] = {}
    pairs: set[tuple[int, int]] = set()
    for a, b in _candidates(held_out, training, most_bits + 1):
        bits = np.bitwise_count(held_out[a] ^ training[b]).sum(axis=1)
        near = bits <= most_bits
        for i, j, n in zip(a[near].tolist(), b[near].tolist(), bits[near].tolist(), strict=True):
            if (i, j) in pairs:
                continue
            pairs.add((i, j))
            old = best.get(i)
            closer = old is None or (n, j) < (old.bits, old.training)
            first, least = (j, n) if closer or old is None else (old.training, old.bits)
            best[i] = Nearest(i, first, least, 1 if old is None else old.n_near + 1)
    return [best[i] for i in sorted(best)]


def _candidates(
    held_out: Hashes, training: Hashes, n_groups: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield row numbers of pairs that agree in a group of bits, some at a time."""
    for key_a, key_b in zip(_keys(held_out, n_groups), _keys(training, n_groups), strict=True):
        order = np.argsort(key_b, kind="stable")
        ordered = key_b[order]
        first = np.searchsorted(ordered, key_a, "left")
        count = np.searchsorted(ordered, key_a, "right") - first
        ends = np.cumsum(count)
        start = 0
        while start < len(key_a):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + COMPARE_PAIRS, "right")))
            n = count[start:stop]
            rows_a = np.repeat(np.arange(start, stop), n)
            within = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
            yield rows_a, order[np.repeat(first[start:stop], n) + within]
            start = stop


def _keys(hashes: Hashes, n_groups: int) -> Iterator[NDArray[np.uint64]]:
    """Yield each group of bits as one number an image; a group is spread over the picture."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    for group in range(n_groups):
        chosen = np.packbits(bits[:, group::n_groups], axis=1)[:, :8]  # 64 bits are enough
        wide = np.zeros((len(hashes), 8), np.uint8)
        wide[:, : chosen.shape[1]] = chosen
        yield wide.view(np.uint64)[:, 0]


def hash_store(store: Path, index: Path) -> tuple[Hashes, NDArray[np.bool_], tuple[str, ...]]:
    """Return hashes and flatness of the images of a store, and their ids."""
    from workflow_scripts.datasets.pixels import open_store

    opened = open_store(store, index)
    n = len(opened.images)
    hashes, flat = np.empty((n, WORDS), np.uint64), np.empty(n, bool)
    starts = range(0, n, READ_ROWS)
    for start in progress(starts, len(starts), f"hash {store.parent.parent.name}", "blocks"):
        rows = slice(start, start + READ_ROWS)
        images = np.asarray(opened.images[rows])
        hashes[rows], flat[rows] = difference_hash(images), is_flat(images)
    return hashes, flat, opened.image_id


def find(
    manifests: Sequence[Path], stores: Sequence[Path], indexes: Sequence[Path], most_bits: int
) -> pd.DataFrame:
    """Return the warning list (`COLUMNS`) of data sets that are used together.

    Raises:
        InputError: not one store and one index a manifest, or files that do not belong together.
    """
    import pandas as pd

    from workflow_scripts.datasets.leaks import read_part

    if not len(manifests) == len(stores) == len(indexes):
        found = f"{len(manifests)} manifests, {len(stores)} stores, {len(indexes)} indexes"
        raise refuse("command line", "one store and one index a manifest", found, "add them")
    parts, hashes = [], []
    for manifest, store, index in zip(manifests, stores, indexes, strict=True):
        rows, _ = read_part(manifest)
        found_hashes, flat, names = hash_store(store, index)
        unknown = sorted(set(names) - set(rows["image_id"]))
        if unknown:
            expected = f"images of {manifest}"
            raise InputError([Problem(str(index), expected, unknown[0], "build the store again")])
        parts.append(rows.set_index("image_id").loc[list(names)][~flat])
        hashes.append(found_hashes[~flat])
        log.info("%s: %d images without contrast are not compared", store, int(flat.sum()))
    images, bits = pd.concat(parts, ignore_index=True), np.concatenate(hashes)
    is_training = (images["split"] == "train").to_numpy()
    held_out, training = images[~is_training], images[is_training]
    near = nearest_training(bits[~is_training], bits[is_training], most_bits)
    rows_out = [
        (
            *held_out.iloc[one.held_out][["image", "patient", "split"]],
            *training.iloc[one.training][["image", "patient"]], one.bits, one.n_near,
        )
        for one in near
    ]  # fmt: skip
    table = pd.DataFrame(rows_out, columns=list(COLUMNS))
    return table.sort_values(["bits_different", "image"], ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the warning list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, text in (
        ("--manifests", "manifests used together"),
        ("--stores", "an image store each"),
        ("--indexes", "the stores' rows"),
    ):
        parser.add_argument(name, required=True, type=Path, nargs="+", help=text)
    parser.add_argument(
        "--most-bits", type=int, default=MOST_BITS, choices=range(65), metavar="BITS",
        help="bits of 256 in which two images may differ (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, help="CSV file to write")
    args = parser.parse_args(arguments)
    table = find(args.manifests, args.stores, args.indexes, args.most_bits)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(table.itertuples(index=False))
    write_text(args.out, lines.getvalue())
    log.info("%d held-out images look like a training image", len(table))


if __name__ == "__main__":
    sys.exit(run(main))
