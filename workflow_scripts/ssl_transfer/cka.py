"""Step: how alike the backbones see a data set: linear CKA between their cached features.

    python -m workflow_scripts.ssl_transfer.cka --features a.npz b.npz c.npz \
        --manifest manifest.parquet --card card.json --out a-b.parquet a-c.parquet b-c.parquet

One file a pair of checkpoints, one row an image with its share of the sums of which CKA is made.
Ours; the paper has no such table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.metrics.representation import (
    MIN_IMAGES,
    alignment,
    gram,
    unbiased_alignment,
)
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import InputError, Problem, refuse, require_files
from workflow_scripts.randomness import named_rng
from workflow_scripts.speed import set_threads
from workflow_scripts.ssl_transfer.cases import (
    CARD_KEYS,
    SYSTEM,
    UNFIT,
    read_features,
    read_keys,
    read_manifest,
)
from workflow_scripts.ssl_transfer.image_draws import one_a_patient

if TYPE_CHECKING:
    import pandas as pd

TABLE = "ssl_transfer_cka"
N_IMAGES = 1000  # ours: an N x N matrix a checkpoint; the unbiased estimate needs no more
PIPELINE = ("dataset", "geometry", "normalisation")  # what all feature files must share


def shared_images(
    table: pd.DataFrame, ids: Sequence[NDArray[np.str_]], n_images: int, seed: int, dataset: str
) -> pd.DataFrame:
    """Return the manifest rows of the images to compare: one a patient, seen by every checkpoint.

    Raises:
        InputError: fewer than four.
    """
    common = set(ids[0].tolist()).intersection(*(one.tolist() for one in ids[1:]))
    pool = table[table["image_id"].isin(common)].reset_index(drop=True)
    patients = pool["patient_id"].factorize()[0].astype(np.int64)
    rng = named_rng(seed, SYSTEM, "cka", dataset)
    rows = one_a_patient(patients, n_images, rng)
    if len(rows) < MIN_IMAGES:
        expected = f"images of at least {MIN_IMAGES} patients, with features of every checkpoint"
        raise refuse(f"data set {dataset}", expected, str(len(rows)), "give more images")
    return pool.iloc[rows].reset_index(drop=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare every two checkpoints on the same images."""
    given = _parser().parse_args(arguments)
    require_files([*given.features, given.manifest, given.card])
    pairs = list(combinations(range(len(given.features)), 2))
    if len(given.out) != len(pairs) or not pairs:
        expected = f"{len(pairs)} files for the pairs of {len(given.features)} checkpoints"
        raise refuse(
            "--out", expected, str(len(given.out)), "one a pair, in the order of --features"
        )
    if given.threads < 1:
        raise refuse("--threads", "at least 1", str(given.threads), "give a larger number")
    set_threads(given.threads)
    card = read_keys(given.card, CARD_KEYS)
    table = read_manifest(given.manifest, "split")
    files = [read_features(path) for path in given.features]
    _check([one[2] for one in files], given.features, card["dataset"])
    images = shared_images(
        table, [one[1] for one in files], given.n_images, given.seed, card["dataset"]
    )
    grams = [gram(features[_rows(image_id, images)]) for features, image_id, _ in files]
    for (i, j), path in zip(pairs, given.out, strict=True):
        plain, unbiased = alignment(grams[i], grams[j]), unbiased_alignment(grams[i], grams[j])
        columns = dict(plain._asdict())
        columns |= {f"unbiased_{name}": values for name, values in unbiased._asdict().items()}
        about = _metadata(files[i][2], files[j][2], card, given.seed)
        write_case_scores(path, images, columns, about)


def _rows(image_id: NDArray[np.str_], images: pd.DataFrame) -> NDArray[np.int64]:
    """Return the feature rows of the images."""
    place = {name: row for row, name in enumerate(image_id.tolist())}
    return np.array([place[name] for name in images["image_id"]], dtype=np.int64)


def _check(origins: Sequence[Mapping[str, Any]], paths: Sequence[Path], dataset: str) -> None:
    """Raise unless all features are of one data set and pipeline, and of different checkpoints."""
    wanted = {**origins[0], "dataset": dataset}
    problems = [
        Problem(f"{path}, provenance {name!r}", repr(wanted[name]), repr(origin[name]), UNFIT)
        for path, origin in zip(paths, origins, strict=True)
        for name in PIPELINE
        if origin[name] != wanted[name]
    ]
    names = [origin["checkpoint"] for origin in origins]
    problems += [
        Problem(str(path), "each checkpoint once", f"{name} again", "name each file once")
        for number, (path, name) in enumerate(zip(paths, names, strict=True))
        if name in names[:number]
    ]
    if problems:
        raise InputError(problems)


def _metadata(
    first: Mapping[str, Any], second: Mapping[str, Any], card: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return what a file says it is: the first checkpoint is the row, the second in the column."""
    dataset = card["dataset"]
    is_phantom = bool(card["phantom"] or first["phantom"] or second["phantom"])
    is_trained = bool(first["pretrained"] and second["pretrained"])
    return {
        "system": SYSTEM,
        "table": TABLE,
        "row": first["checkpoint"],
        "column": f"{dataset} {second['checkpoint']}",
        "protocol": "corrected",
        "seed": seed,
        "kind": "alignment",
        "metric": "cka",
        "classes": [],
        "data": data_name(dataset, is_phantom, is_trained),
        "checkpoint": first["checkpoint"],
        "dataset": dataset,
        "options": {name: first[name] for name in PIPELINE},
        "diagnostics": {"first": dict(first), "second": dict(second)},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--features", type=Path, nargs="+", required=True, help="one .npz a checkpoint"
    )
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set, .parquet")
    parser.add_argument("--card", type=Path, required=True, help="of the data set, .json")
    parser.add_argument("--n-images", type=int, default=N_IMAGES, help=f"at most ({N_IMAGES})")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of images (0)")
    parser.add_argument("--threads", type=int, default=1, help="of the linear algebra (1)")
    parser.add_argument(
        "--out", type=Path, nargs="+", required=True, help="one .parquet a pair: 1-2, 1-3, 2-3, ..."
    )
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
