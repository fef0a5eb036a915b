"""Step: mean and covariance of a data set's clean features, once for all transforms.

    python -m workflow_scripts.ssl_transfer.whitening --features short256-own.npz \
        --manifest manifest.parquet --protocol corrected --out whitening.npz

With `--backbone`, `--certificate`, `--store` and `--store-index` instead of `--features` the
features are computed here with BatchNorm in training mode (`batch_statistics`).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import sha256_of, write_atomic
from workflow_scripts.metrics.invariance import Whitening, whitening
from workflow_scripts.problems import refuse
from workflow_scripts.speed import set_threads
from workflow_scripts.ssl_transfer.cases import AGAIN, read_features, read_manifest
from workflow_scripts.ssl_transfer.image_draws import released_rows
from workflow_scripts.ssl_transfer.invariance_protocols import INVARIANCE, InvarianceOptions
from workflow_scripts.ssl_transfer.views import released_pool

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
Features = NDArray[np.float32]
BATCH_STATISTICS = ("backbone", "certificate", "store", "store_index")


class Stored(NamedTuple):
    """A whitening as it lies on disk, and what it was made from."""

    whitening: Whitening
    provenance: dict[str, Any]


def statistics_images(
    table: pd.DataFrame, manifest: Path, options: InvarianceOptions
) -> NDArray[np.str_]:
    """Return the ids of the images behind mean and covariance, in the order of the draw.

    Args:
        table: the manifest.
        manifest: where it is from, for messages.
        options: of the protocol.
    """
    if not options.sampled_statistics:
        return np.asarray(table["image_id"], dtype=np.str_)
    pool = released_pool(table, manifest)
    rows, _ = released_rows(len(pool), 1)
    return np.asarray(pool["image_id"].to_numpy()[rows], dtype=np.str_)


def rows_of(wanted: NDArray[np.str_], present: NDArray[np.str_], where: Path) -> NDArray[np.int64]:
    """Return the places of the wanted images among the present ones; quarantined ones are left out.

    Raises:
        InputError: fewer than two are left.
    """
    place = {name: row for row, name in enumerate(present.tolist())}
    rows = [place[name] for name in wanted.tolist() if name in place]
    if len(rows) < 2:
        found = f"{len(rows)} of {len(wanted)}"
        raise refuse(str(where), "features of at least two images", found, AGAIN)
    return np.asarray(rows, dtype=np.int64)


def read_whitening(path: Path) -> Stored:
    """Return a whitening and its provenance.

    Raises:
        InputError: the file is something else.
    """
    with np.load(path, allow_pickle=False) as content:
        missing = {"mean", "factor", "n_images", "shrinkage", "provenance"} - set(content.files)
        if missing:
            expected = f"the arrays {', '.join(sorted(missing))}"
            raise refuse(str(path), expected, ", ".join(content.files), AGAIN)
        made = Whitening(
            content["mean"], content["factor"], int(content["n_images"]),
            float(content["shrinkage"]),
        )  # fmt: skip
        return Stored(made, json.loads(str(content["provenance"])))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the whitening of one checkpoint and data set."""
    given = _parser().parse_args(arguments)
    _check_sources(given)
    if given.threads < 1:
        raise refuse("--threads", "at least 1", str(given.threads), "give a larger number")
    set_threads(given.threads)
    options = INVARIANCE[given.protocol]
    column = "split_released" if options.sampled_statistics else "split"
    table = read_manifest(given.manifest, column)
    wanted = statistics_images(table, given.manifest, options)
    if given.features is not None:
        features, image_id, provenance = read_features(given.features)
        clean = features[rows_of(wanted, image_id, given.features)]
    else:
        clean, provenance = _batch_features(given, wanted, options)
    made = whitening(clean, options.covariance)
    logger.info(
        "%d images of %d features: %s", made.n_images, len(made.mean),
        "rank deficient" if made.is_rank_deficient else "full rank",
    )  # fmt: skip
    provenance |= {"protocol": given.protocol, "manifest_sha256": sha256_of(given.manifest)}
    provenance["batch_norm"] = "eval" if given.features is not None else "batch"
    save = partial(
        np.savez, mean=made.mean, factor=made.factor, n_images=np.array(made.n_images),
        shrinkage=np.array(made.shrinkage), provenance=np.array(json.dumps(provenance)),
    )  # fmt: skip
    write_atomic(given.out, save)


def _batch_features(
    given: argparse.Namespace, wanted: NDArray[np.str_], options: InvarianceOptions
) -> tuple[Features, dict[str, Any]]:
    """Return features with BatchNorm in training mode, and what they were made from."""
    import pyarrow.parquet as pq

    from workflow_scripts.checkpoints.certificate import load_checked
    from workflow_scripts.datasets.pixels import open_store
    from workflow_scripts.ssl_transfer.batch_statistics import RELEASED_BATCH, training_features
    from workflow_scripts.ssl_transfer.features import choose_device, pixels_to_input

    network, certificate = load_checked(given.backbone, given.certificate)
    store = open_store(given.store, given.store_index)
    rows = rows_of(wanted, np.array(store.image_id), given.store_index)

    def batches() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(rows), RELEASED_BATCH):
            yield store.images[rows[start : start + RELEASED_BATCH]]

    to_input = pixels_to_input(certificate["input"], options.normalisation)
    features = training_features(network, batches(), to_input, choose_device(given.gpus))
    names = ("checkpoint", "library", "architecture", "pretrained", "backbone_sha256")
    made = json.loads(pq.read_schema(given.store_index).metadata[b"steadfast"])
    origin = {name: certificate[name] for name in names} | {"dataset": given.dataset}
    return features, origin | {
        "geometry": made["geometry"],
        "normalisation": options.normalisation,
    }


def _check_sources(given: argparse.Namespace) -> None:
    """Raise unless exactly one source of features is given, and its files are there."""
    others = [name for name in BATCH_STATISTICS if getattr(given, name) is not None]
    if (given.features is None) == (not others) or len(others) not in (0, len(BATCH_STATISTICS)):
        words = ", ".join(f"--{name.replace('_', '-')}" for name in BATCH_STATISTICS)
        found = ", ".join(["--features"] * (given.features is not None) + others) or "neither"
        raise refuse("command line", f"--features, or {words}", found, "give one source, whole")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--features", type=Path, help="of the clean images, .npz")
    parser.add_argument("--backbone", type=Path, help="instead: weights, .safetensors")
    parser.add_argument("--certificate", type=Path, help="of the backbone, .json")
    parser.add_argument("--store", type=Path, help="images, .npy")
    parser.add_argument("--store-index", type=Path, help="rows of the store, .parquet")
    parser.add_argument("--dataset", help="for the provenance, with --backbone")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU (0)")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--protocol", choices=sorted(INVARIANCE), required=True)
    parser.add_argument("--threads", type=int, default=1, help="of the linear algebra (1)")
    parser.add_argument("--out", type=Path, required=True, help="whitening to write, .npz")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
