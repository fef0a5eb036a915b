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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import sha256_of, write_atomic
from workflow_scripts.metrics.invariance import Scores, Whitening, invariance_scores, whitening
from workflow_scripts.problems import refuse, require_files
from workflow_scripts.randomness import named_rng
from workflow_scripts.speed import set_threads
from workflow_scripts.ssl_transfer.cases import AGAIN, SYSTEM, read_features, read_manifest
from workflow_scripts.ssl_transfer.finite import require_finite
from workflow_scripts.ssl_transfer.image_draws import released_rows
from workflow_scripts.ssl_transfer.invariance_protocols import INVARIANCE, InvarianceOptions
from workflow_scripts.ssl_transfer.views import released_pool

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
Features = NDArray[np.float32]
MIN_PATIENTS = 4  # two images in each half
ARRAYS = ("mean", "factor", "n_images", "shrinkage", "image_id", "half", "provenance")
FORWARDED = ("backbone", "store", "store_index")  # instead of features


@dataclass(frozen=True, slots=True)
class Stored:
    """The whitenings of a checkpoint and data set, as they lie on disk.

    Attributes:
        whitenings: one; or two, each from one half of the patients.
        half: which half an image belongs to, by image id; empty where there is one whitening.
        provenance: what they were made from.
    """

    whitenings: tuple[Whitening, ...]
    half: dict[str, int]
    provenance: dict[str, Any]

    @property
    def fewest_images(self) -> int:
        """Images behind the whitening that rests on the fewest."""
        return min(one.n_images for one in self.whitenings)

    def scores(self, image_id: Sequence[str], clean: Features, transformed: Features) -> Scores:
        """Return the scores of images, none by statistics that it is part of.

        Args:
            image_id: of the images, N of them.
            clean: their features, shape (N, F).
            transformed: of their versions, shape (N, K, F).
        """
        if len(self.whitenings) == 1:
            return invariance_scores(clean, transformed, self.whitenings[0])
        half = np.array([self.half[name] for name in image_id])
        found = Scores(*(np.empty(transformed.shape[:2]) for _ in Scores._fields))
        for number, other in enumerate(reversed(self.whitenings)):
            rows = half == number
            for target, values in zip(
                found, invariance_scores(clean[rows], transformed[rows], other), strict=True
            ):
                target[rows] = values
        return found


def patient_halves(table: pd.DataFrame, seed: int, dataset: str) -> dict[str, int]:
    """Return the half (0 or 1) of each image; a patient's images stay together.

    Raises:
        InputError: fewer than four patients.
    """
    patients = np.unique(table["patient_id"].astype(str))
    if len(patients) < MIN_PATIENTS:
        step = "use another data set, or --protocol released"
        expected = f"at least {MIN_PATIENTS} patients for two halves"
        raise refuse(f"data set {dataset}", expected, str(len(patients)), step)
    order = named_rng(seed, SYSTEM, "invariance halves", dataset).permutation(len(patients))
    half = dict(zip(patients[order].tolist(), (np.arange(len(order)) % 2).tolist(), strict=True))
    return {
        str(image): half[str(patient)]
        for image, patient in zip(table["image_id"], table["patient_id"], strict=True)
    }


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
    """Return the whitenings in a file.

    Raises:
        InputError: the file is something else.
    """
    with np.load(path, allow_pickle=False) as content:
        missing = set(ARRAYS) - set(content.files)
        if missing:
            expected = f"the arrays {', '.join(sorted(missing))}"
            raise refuse(str(path), expected, ", ".join(content.files), AGAIN)
        columns = (content[name] for name in ("mean", "factor", "n_images", "shrinkage"))
        made = tuple(
            Whitening(mean, factor, int(n_images), float(shrinkage))
            for mean, factor, n_images, shrinkage in zip(*columns, strict=True)
        )
        half = dict(zip(content["image_id"].tolist(), content["half"].tolist(), strict=True))
        return Stored(made, half, json.loads(str(content["provenance"])))


def save_whitening(path: Path, stored: Stored) -> None:
    """Write the whitenings, whole or not at all."""
    made = stored.whitenings
    arrays = {
        "mean": np.stack([one.mean for one in made]),  # (1 or 2, F)
        "factor": np.stack([one.factor for one in made]),  # (1 or 2, F, F)
        "n_images": np.array([one.n_images for one in made]),
        "shrinkage": np.array([one.shrinkage for one in made]),
        "image_id": np.array(list(stored.half), dtype=np.str_),
        "half": np.array(list(stored.half.values()), dtype=np.int64),
        "provenance": np.array(json.dumps(stored.provenance)),
    }
    write_atomic(path, partial(_savez, arrays=arrays))


def _savez(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle


def whitenings_of(
    features: Features, image_id: NDArray[np.str_], half: Mapping[str, int],
    covariance: Literal["sample", "shrunk"],
) -> tuple[Whitening, ...]:  # fmt: skip
    """Return the whitening of all images, or those of the two halves.

    Raises:
        InputError: a half has fewer than two images with features.
    """
    if not half:
        return (whitening(features, covariance),)
    place = np.array([half[name] for name in image_id.tolist()])
    counts = np.bincount(place, minlength=2)
    if counts.min() < 2:
        step = "use another data set, or --protocol released"
        found = f"{counts[0]} and {counts[1]}"
        raise refuse("features", "two images in each half of the patients", found, step)
    return tuple(whitening(features[place == number], covariance) for number in (0, 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the whitenings of one checkpoint and data set."""
    given = _parser().parse_args(arguments)
    check_sources(given, (*FORWARDED, "certificate"))
    if given.threads < 1:
        raise refuse("--threads", "at least 1", str(given.threads), "give a larger number")
    require_files([given.features, given.manifest, given.backbone, given.certificate])
    require_files([given.store, given.store_index])
    set_threads(given.threads)
    options = INVARIANCE[given.protocol]
    column = "split_released" if options.sampled_statistics else "split"
    table = read_manifest(given.manifest, column)
    wanted = statistics_images(table, given.manifest, options)
    if given.features is not None:
        features, image_id, provenance = read_features(given.features)
        rows = rows_of(wanted, image_id, given.features)
        clean, image_id = features[rows], image_id[rows]
    else:
        clean, image_id, provenance = _batch_features(given, wanted, options)
    half = patient_halves(table, given.seed, provenance["dataset"]) if options.cross_fitted else {}
    made = whitenings_of(clean, image_id, half, options.covariance)
    for one in made:
        rank = "rank deficient" if one.is_rank_deficient else "full rank"
        logger.info("%d images of %d features: %s", one.n_images, len(one.mean), rank)
    provenance |= {"protocol": given.protocol, "manifest_sha256": sha256_of(given.manifest)}
    provenance["batch_norm"] = "eval" if given.features is not None else "batch"
    save_whitening(given.out, Stored(made, half, provenance))


def _batch_features(
    given: argparse.Namespace, wanted: NDArray[np.str_], options: InvarianceOptions
) -> tuple[Features, NDArray[np.str_], dict[str, Any]]:
    """Return features with BatchNorm in training mode, their images, and what they are from."""
    import pyarrow.parquet as pq

    from workflow_scripts.checkpoints.certificate import load_checked
    from workflow_scripts.datasets.pixels import open_store
    from workflow_scripts.ssl_transfer.batch_statistics import RELEASED_BATCH, training_features
    from workflow_scripts.ssl_transfer.features import choose_device, pixels_to_input

    network, certificate = load_checked(given.backbone, given.certificate)
    store = open_store(given.store, given.store_index)
    image_id = np.array(store.image_id)
    rows = rows_of(wanted, image_id, given.store_index)

    def batches() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(rows), RELEASED_BATCH):
            yield store.images[rows[start : start + RELEASED_BATCH]]

    to_input = pixels_to_input(certificate["input"], options.normalisation)
    features = training_features(network, batches(), to_input, choose_device(given.gpus))
    require_finite(features, "features of the clean images")
    names = ("checkpoint", "library", "architecture", "pretrained", "backbone_sha256")
    made = json.loads(pq.read_schema(given.store_index).metadata[b"steadfast"])
    origin = {name: certificate[name] for name in names} | {"dataset": given.dataset}
    return (
        features,
        image_id[rows],
        origin
        | {
            "geometry": made["geometry"],
            "normalisation": options.normalisation,
        },
    )


def check_sources(given: argparse.Namespace, names: Sequence[str] = FORWARDED) -> None:
    """Raise unless exactly one source of features is given: the features, or all of `names`."""
    others = [name for name in names if getattr(given, name) is not None]
    if (given.features is None) == (not others) or len(others) not in (0, len(names)):
        words = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        found = ", ".join(["--features"] * (given.features is not None) + others) or "neither"
        raise refuse("command line", f"--features, or {words}", found, "give one source, whole")


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what names the source of features that depend on their batch."""
    parser.add_argument("--backbone", type=Path, help="instead: weights, .safetensors")
    parser.add_argument("--store", type=Path, help="images, .npy")
    parser.add_argument("--store-index", type=Path, help="rows of the store, .parquet")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU (0)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--features", type=Path, help="of the clean images, .npz")
    parser.add_argument("--certificate", type=Path, help="of the backbone, .json")
    parser.add_argument("--dataset", help="for the provenance, with --backbone")
    add_batch_arguments(parser)
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument(
        "--protocol",
        choices=sorted(INVARIANCE),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the halves of the patients (0)")
    parser.add_argument("--threads", type=int, default=1, help="of the linear algebra (1)")
    parser.add_argument("--out", type=Path, required=True, help="whitening to write, .npz")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
