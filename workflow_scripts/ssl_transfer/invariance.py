"""Step: how little a checkpoint's features move when images are transformed.

    python -m workflow_scripts.ssl_transfer.invariance --backbone backbone.safetensors \
        --certificate certificate.json --clean clean.npy --views views.npy --index index.parquet \
        --whitening whitening.npz --protocol corrected --out predictions.parquet

One row an image and version: cosine of the features, cosine of the whitened features,
Mahalanobis distance (`metrics.invariance`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.checkpoints.options import IMAGENET_MEAN, IMAGENET_STD
from workflow_scripts.command_line import run
from workflow_scripts.datasets.pixels import network_input
from workflow_scripts.metrics.invariance import Scores
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import InputError, Problem, refuse, require_files
from workflow_scripts.speed import set_threads, tune_allocator
from workflow_scripts.ssl_transfer.cases import AGAIN, SYSTEM, UNFIT
from workflow_scripts.ssl_transfer.finite import require_finite
from workflow_scripts.ssl_transfer.invariance_protocols import INVARIANCE, InvarianceOptions
from workflow_scripts.ssl_transfer.views import METADATA_KEY
from workflow_scripts.ssl_transfer.whitening import Stored, read_whitening

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

TABLE = "ssl_transfer_invariance"
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
ToInput = Callable[[Pixels], Floats]


@dataclass(frozen=True, slots=True)
class Views:
    """Clean images and their versions.

    Attributes:
        clean: shape (N, H, W, 3), uint8.
        transformed: shape (N * K, H, W, 3), uint8, mapped from the file.
        table: one row a clean image.
        about: what the step `views` wrote: data set, transform, k, ...
    """

    clean: Pixels
    transformed: Pixels
    table: pd.DataFrame
    about: dict[str, Any]


def read_views(clean: Path, views: Path, index: Path) -> Views:
    """Return what the step `views` wrote.

    Raises:
        InputError: the three files do not belong together.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(index)
    note = (file.schema_arrow.metadata or {}).get(METADATA_KEY.encode())
    if note is None:
        raise refuse(str(index), "the index of views", "a file without its metadata", AGAIN)
    about, table = json.loads(note), file.read().to_pandas()
    arrays = [np.load(path, mmap_mode="r") for path in (clean, views)]
    found, wanted = [len(array) for array in arrays], [len(table), len(table) * about["k"]]
    if found != wanted or arrays[0].shape[1:] != arrays[1].shape[1:]:
        raise refuse(
            f"{clean} and {views}",
            f"{wanted[0]} clean images and {wanted[1]} versions of one size",
            f"{found[0]} and {found[1]} of {arrays[0].shape[1:]} and {arrays[1].shape[1:]}",
            AGAIN,
        )
    return Views(arrays[0], arrays[1], table, about)


def transformed_input(input_card: Mapping[str, Any], options: InvarianceOptions) -> ToInput:
    """Return the function from transformed pixels to network input."""
    from workflow_scripts.ssl_transfer.features import pixels_to_input

    is_histogram = input_card["normalisation"] == "histogram"
    if is_histogram and options.transformed_normalisation == "imagenet":
        return partial(
            network_input, normalisation="mean_std", mean=IMAGENET_MEAN, std=IMAGENET_STD
        )
    return pixels_to_input(input_card, options.normalisation)


def forward(
    network: nn.Module, views: Views, to_inputs: tuple[ToInput, ToInput],
    given: argparse.Namespace, precision: Literal["fp32", "bf16"] = "fp32",
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return the features of the clean images (N, F) and of their versions (N, K, F).

    Args:
        network: backbone.
        views: images and versions.
        to_inputs: from pixels to network input, of the images and of the versions.
        given: the command line.
        precision: that of the statistics; a feature of another one lies off them.

    Raises:
        InputError: features that are not finite.
    """
    from workflow_scripts.ssl_transfer.batch_statistics import training_features
    from workflow_scripts.ssl_transfer.features import Forward, choose_device, extract

    device, k = choose_device(given.gpus), views.about["k"]
    if given.batch_norm == "batch":
        images = range(len(views.clean))
        batches = (
            (views.clean[i : i + 1] for i in images),
            (views.transformed[i * k : (i + 1) * k] for i in images),
        )
        parts = [
            training_features(network, batch, to_input, device)
            for batch, to_input in zip(batches, to_inputs, strict=True)
        ]
    else:
        how = Forward(device, precision, given.batch_size)
        parts = [
            extract(network, images, to_input, how)
            for images, to_input in zip((views.clean, views.transformed), to_inputs, strict=True)
        ]
    for part, what in zip(parts, ("images", "transformed images"), strict=True):
        require_finite(part, f"features of the {what}")
    return parts[0], parts[1].reshape(len(views.clean), k, -1)


def check_whitening(stored: Stored, wanted: Mapping[str, Any], where: Path) -> None:
    """Raise where a whitening was made from something else than wanted."""
    problems = [
        Problem(f"{where}, provenance {name!r}", repr(value), repr(found), UNFIT)
        for name, value in wanted.items()
        if (found := stored.provenance.get(name)) != value
    ]
    if problems:
        raise InputError(problems)


def write_scores(
    path: Path, scores: Scores, table: pd.DataFrame, stored: Stored, metadata: Mapping[str, Any]
) -> None:
    """Write one row an image and version.

    Args:
        path: predictions to write.
        scores: shape (N, K) each.
        table: the N images.
        stored: the whitening behind the scores; its images per feature dimension stand beside
            them: at 1 and below the sample covariance has no inverse.
        metadata: `METADATA_NAMES` without kind, metric, classes and diagnostics of the whitening.
    """
    n_images, n_versions = scores.cosine.shape
    cases = table.iloc[np.repeat(np.arange(n_images), n_versions)].reset_index(drop=True)
    made = stored.whitenings
    n_features = len(made[0].mean)
    ratio = stored.fewest_images / n_features
    columns = {name: values.ravel() for name, values in scores._asdict().items()}
    columns["images_per_dimension"] = np.full(n_images * n_versions, ratio)
    extra = {
        "draw": np.repeat(np.arange(n_images), n_versions),
        "version": np.tile(np.arange(n_versions), n_images),
    }
    diagnostics = {
        "statistics_images": [one.n_images for one in made],
        "feature_dimensions": n_features,
        "rank_deficient": any(one.is_rank_deficient for one in made),
        "shrinkage": [one.shrinkage for one in made],
        "features": stored.provenance,
    }
    about = {**metadata, "diagnostics": {**metadata["diagnostics"], **diagnostics}}
    about |= {"system": SYSTEM, "table": TABLE, "kind": "version_means", "classes": []}
    write_case_scores(path, cases, columns, {**about, "metric": "whitened_cosine"}, extra)


def main(arguments: Sequence[str] | None = None) -> None:
    """Forward the images of one set of views and score them."""
    given = _parser().parse_args(arguments)
    if given.batch_size < 1 or given.threads < 1:
        raise refuse("--batch-size and --threads", "at least 1", "less", "give a larger number")
    require_files([given.backbone, given.certificate, given.clean, given.views, given.index])
    require_files([given.whitening])
    tune_allocator()
    set_threads(given.threads)
    from workflow_scripts.checkpoints.certificate import load_checked
    from workflow_scripts.ssl_transfer.features import pixels_to_input

    set_threads(given.threads)  # torch's own pool exists only now
    options = INVARIANCE[given.protocol]
    views, stored = (
        read_views(given.clean, given.views, given.index),
        read_whitening(given.whitening),
    )
    network, certificate = load_checked(given.backbone, given.certificate)
    about = views.about
    names = {"protocol": given.protocol, "dataset": about["dataset"]}
    if about["protocol"] != given.protocol:
        raise refuse(str(given.index), f"protocol {given.protocol}", about["protocol"], UNFIT)
    wanted = {**names, "backbone_sha256": certificate["backbone_sha256"]}
    wanted |= {"geometry": options.geometry, "normalisation": options.normalisation}
    check_whitening(stored, {**wanted, "batch_norm": given.batch_norm}, given.whitening)
    own = pixels_to_input(certificate["input"], options.normalisation)
    to_inputs = (own, transformed_input(certificate["input"], options))
    precision = stored.provenance.get("precision", "fp32")
    clean, transformed = forward(network, views, to_inputs, given, precision)
    scores = stored.scores(views.table["image_id"].tolist(), clean, transformed)
    is_phantom = bool(certificate["phantom"] or about["phantom"])
    column = f"{about['dataset']} {about['transform']}"
    write_scores(
        given.out, scores, views.table, stored,
        {
            "row": certificate["checkpoint"], "column": given.column or column,
            "protocol": given.protocol, "seed": about["seed"],
            "data": data_name(about["dataset"], is_phantom, certificate["pretrained"]),
            "checkpoint": certificate["checkpoint"], "dataset": about["dataset"],
            "options": {**asdict(options), "transform": about["transform"], "k": about["k"],
                        "batch_norm": given.batch_norm},
            "diagnostics": {name: about[name] for name in ("images_drawn", "images_unreadable")},
        },
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, text in (
        ("backbone", "weights, .safetensors"),
        ("certificate", "of the backbone, .json"),
        ("clean", "clean images, .npy"),
        ("views", "their versions, .npy"),
        ("index", "of the views, .parquet"),
        ("whitening", "of the checkpoint and data set, .npz"),
        ("out", "predictions to write, .parquet"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument(
        "--protocol",
        choices=sorted(INVARIANCE),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument(
        "--batch-norm",
        choices=("eval", "batch"),
        default="eval",
        help="batch: BatchNorm in training mode, as the released code's last version (eval)",
    )
    parser.add_argument("--column", help="column in the table (default: data set and transform)")
    parser.add_argument("--batch-size", type=int, default=64, help="images a forward pass (64)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU (0)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
