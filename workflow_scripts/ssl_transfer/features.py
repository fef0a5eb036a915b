"""Forward each image of a store once through a frozen backbone and keep the features.

    python -m workflow_scripts.ssl_transfer.features --backbone backbone.safetensors \
        --certificate certificate.json --store short224.npy --index short224.parquet \
        --normalisation own --threads 2 --out short224-own.npz

Few-shot, the linear probe and all that comes later read these vectors: a frozen network in
evaluation mode gives the same feature for an image in every episode and fold (spec section 16).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.checkpoints.options import IMAGENET_MEAN, IMAGENET_STD
from workflow_scripts.command_line import run
from workflow_scripts.datasets.pixels import Store, network_input, open_store
from workflow_scripts.files import read_json, sha256_of, write_atomic
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.progress import progress
from workflow_scripts.speed import exact_arithmetic, set_threads, tune_allocator

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
MAX_LOADERS = 4  # threads that prepare pixels for a GPU; one is enough for the CPU


@dataclass(frozen=True, slots=True)
class Forward:
    """How the network is run; none of it changes a feature beyond float noise, but `bf16`."""

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = 32
    loaders: int = 1  # threads that prepare batches ahead of the network


def folded(network: nn.Module) -> nn.Module:
    """Merge each BatchNorm that follows a convolution into it: exact algebra in evaluation mode.

    A network that torch cannot trace is returned as it is; it is slower, not different.
    """
    from torch import fx, nn
    from torch.fx.experimental.optimization import fuse

    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    try:
        return fuse(network.eval())
    except fx.proxy.TraceError as error:
        log.info("BatchNorm stays as it is: %s", error)
        return network


def pixels_to_input(
    input_card: Mapping[str, Any], normalisation: Literal["own", "none", "imagenet"]
) -> Callable[[NDArray[np.uint8]], Floats]:
    """Return the function from stored pixels to network input.

    Args:
        input_card: `input` of the checkpoint's certificate.
        normalisation: `own`: as the certificate says; `none`: pixels in [0, 1]; `imagenet`: with
            ImageNet's mean and standard deviation. A checkpoint with histogram normalisation
            keeps it in any case, as in the released code (spec 2.6).
    """
    kind = input_card["normalisation"]
    constants = (input_card.get("mean") or (), input_card.get("std") or ())
    if normalisation == "none" and kind != "histogram":
        kind = "none"
    if normalisation == "imagenet" and kind != "histogram":
        kind, constants = "mean_std", (IMAGENET_MEAN, IMAGENET_STD)
    if kind == "mean_std":
        mean, std = constants
        return partial(network_input, normalisation=kind, mean=mean, std=std)
    return partial(network_input, normalisation=kind)


def input_batches(
    images: NDArray[np.uint8], to_input: Callable[[NDArray[np.uint8]], Floats], how: Forward
) -> Iterator[Tensor]:
    """Yield network inputs in row order, the next ones being prepared meanwhile."""
    import torch

    is_gpu = how.device != "cpu"

    def prepare(start: int) -> Tensor:
        """Return the batch that begins at row `start`."""
        batch = torch.from_numpy(to_input(images[start : start + how.batch_size]))
        return batch.pin_memory() if is_gpu else batch

    starts = iter(range(0, len(images), how.batch_size))
    with ThreadPoolExecutor(how.loaders) as pool:
        waiting: deque[Future[Tensor]] = deque(
            pool.submit(prepare, start) for start in islice(starts, how.loaders + 1)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(prepare, start) for start in islice(starts, 1))


def extract(
    network: nn.Module,
    images: NDArray[np.uint8],
    to_input: Callable[[NDArray[np.uint8]], Floats],
    how: Forward,
) -> Floats:
    """Return the features of stored images, in their order.

    Args:
        network: backbone in evaluation mode.
        images: shape (N, H, W, 3), uint8; may be mapped from a file.
        to_input: from pixels to network input, as `pixels_to_input` gives it.
        how: device, precision and batch size.

    Returns:
        Shape (N, F), float32.
    """
    import torch

    exact_arithmetic()
    network = folded(network).to(how.device).to(memory_format=torch.channels_last)
    n_batches = -(-len(images) // how.batch_size)
    is_bf16 = how.precision == "bf16"
    parts = []
    with (
        torch.inference_mode(),
        torch.autocast(how.device.split(":")[0], torch.bfloat16, enabled=is_bf16),
    ):
        batches = input_batches(images, to_input, how)
        for batch in progress(batches, n_batches, "features", unit="batches"):
            moved = batch.to(how.device, non_blocking=True).contiguous(
                memory_format=torch.channels_last
            )
            parts.append(network(moved).float())  # stays on the device: no wait at each batch
        features: Floats = torch.cat(parts).cpu().numpy()
    return features


def require_finite(features: Floats, store: Store, where: Path) -> None:
    """Refuse features that are not finite, naming their images."""
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise InputError(
            Problem(
                f"{where} image {store.image_id[row]!r} (row {row})",
                "finite features",
                f"{int((~np.isfinite(features[row])).sum())} of {features.shape[1]} not finite",
                "check the weights and the image; with --precision bf16 try fp32",
            )
            for row in bad
        )


def require_size(store: Store, certificate: Mapping[str, Any], where: Path) -> None:
    """Refuse an empty store, and images of another size than the certificate's."""
    want = (certificate["input"]["size"],) * 2
    found = store.images.shape[1:3]
    if len(store.images) == 0 or found != want:
        raise refuse(
            str(where),
            f"images of {want[0]} x {want[1]} px, as the checkpoint's certificate says",
            f"{len(store.images)} images of {found[0]} x {found[1]} px",
            "choose another geometry, or set size_px of the checkpoint and convert it again",
        )


def choose_device(n_gpus: int) -> str:
    """Return the device to run on; a GPU that is asked for but absent is said, not hidden."""
    import torch

    if n_gpus == 0:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda:0"
    log.warning("no GPU is visible: features are computed on the CPU, which is much slower")
    return "cpu"


def provenance(
    given: argparse.Namespace, certificate: Mapping[str, Any], device: str
) -> dict[str, Any]:
    """Return what the features were made from (docs/reference/files.md)."""
    import torch

    card = read_json(given.card) if given.card else {}
    phantom_data = card.get("phantom")  # None: no card was given
    return {
        "checkpoint": certificate["checkpoint"],
        "library": certificate["library"],
        "architecture": certificate["architecture"],
        "pretrained": certificate["pretrained"],
        "dataset": given.dataset or card.get("dataset"),
        "geometry": given.geometry,
        "normalisation": given.normalisation,
        "phantom": bool(certificate["phantom"] or phantom_data),
        "phantom_checkpoint": certificate["phantom"],
        "phantom_data": phantom_data,
        "backbone_sha256": certificate["backbone_sha256"],
        "certificate_sha256": sha256_of(given.certificate),
        "index_sha256": sha256_of(given.index),
        "precision": given.precision,
        "device": device.split(":")[0],
        "batch_size": given.batch_size,
        "torch": torch.__version__,
    }


def save_features(features: Floats, store: Store, origin: str, path: Path) -> None:
    """Write features, image ids and provenance as one .npz."""
    image_id, text = np.array(store.image_id), np.array(origin)
    np.savez(path, features=features, image_id=image_id, provenance=text)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    paths = {
        "backbone": "weights, .safetensors",
        "certificate": "of the backbone, .json",
        "store": "images, .npy",
        "index": "rows of the store, .parquet",
    }
    for name, text in paths.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument(
        "--normalisation",
        choices=("own", "none"),
        required=True,
        help="own: as the certificate says; none: pixels in [0, 1]",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images a forward pass")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument(
        "--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU (default 0)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: twice as fast, features off by 1e-2 relative",
    )
    parser.add_argument("--dataset", help="for the provenance")
    parser.add_argument("--geometry", help="for the provenance")
    parser.add_argument("--card", type=Path, help="card.json of the data set: is it a phantom?")
    parser.add_argument("--out", type=Path, required=True, help="features to write, .npz")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the features of one store with one backbone."""
    given = build_parser().parse_args(arguments)
    if given.batch_size < 1 or given.threads < 1:
        raise refuse("--batch-size and --threads", "at least 1", "less", "give a larger number")
    tune_allocator()
    set_threads(given.threads)

    from workflow_scripts.checkpoints.certificate import load_checked

    set_threads(given.threads)  # torch's own pool exists only now
    network, certificate = load_checked(given.backbone, given.certificate)
    store = open_store(given.store, given.index)
    require_size(store, certificate, given.store)
    device = choose_device(given.gpus)
    loaders = 1 if device == "cpu" else min(MAX_LOADERS, given.threads)
    how = Forward(device, given.precision, given.batch_size, loaders)
    to_input = pixels_to_input(certificate["input"], given.normalisation)
    features = extract(network, store.images, to_input, how)
    require_finite(features, store, given.store)
    origin = json.dumps(provenance(given, certificate, device))
    write_atomic(given.out, partial(save_features, features, store, origin))
    log.info("%s: %d images, %d features each", given.out, *features.shape)


if __name__ == "__main__":
    sys.exit(run(main))
