"""Step: reconstruct an image from what a backbone computes of it, with the deep image prior.

The paper asks what a checkpoint's features keep of an image: a generator is trained, for this one
image, to draw something with the same features; what comes out shows what they hold.

    python -m workflow_scripts.ssl_transfer.reconstruction --backbone backbone.safetensors \
        --certificate certificate.json --manifest manifest.parquet --card card.json \
        --root data/bach --image iv001.tif --protocol released --state state/reconstruction \
        --out reconstruction.json --image-out reconstruction.png --original-out original.png
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets.image_source import fifth_slice, file_of
from workflow_scripts.datasets.pixels import network_input
from workflow_scripts.files import read_json, write_atomic, write_json
from workflow_scripts.predictions import data_name
from workflow_scripts.problems import refuse, require_files
from workflow_scripts.speed import tune_allocator
from workflow_scripts.ssl_transfer.cases import SYSTEM
from workflow_scripts.ssl_transfer.finite import require_finite
from workflow_scripts.ssl_transfer.sample_images import (
    add_image_arguments,
    choose_images,
    decode_images,
)
from workflow_scripts.ssl_transfer.training_protocols import RECONSTRUCTION, ReconstructionOptions
from workflow_scripts.training import streams
from workflow_scripts.training.devices import (
    Devices,
    add_device_arguments,
    request_of,
    set_up,
)
from workflow_scripts.training.fingerprint import fingerprint
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.session import (
    SessionOptions,
    TrainingSession,
    add_session_arguments,
)
from workflow_scripts.training.state import StateStore

if TYPE_CHECKING:
    from torch import Tensor, nn

LEARNING_RATE = 1e-3  # Adam (spec section 9)
NOISE = 0.1  # upper end of the fixed noise (spec section 9)
LEVELS = 6  # halvings of the generator; the noise's side is a multiple of 2 to it
LEAST_PX = 32  # one place of the last feature map
LOSS_EVERY = 50  # updates behind one row of the loss; ours
ALL_PARTS = ("train", "val", "test")
SAVED_AS_JPEG = (".jpg", ".jpeg", ".mha")  # released code: under the image's name; volumes too
Preprocess = Callable[["Tensor"], "Tensor"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the generator, write its image, the original and the losses."""
    started = time.monotonic()
    given = _parser().parse_args(arguments)
    given.started = started
    _check_given(given)
    tune_allocator()
    from workflow_scripts.checkpoints.certificate import load_checked
    from workflow_scripts.ssl_transfer.layers import layer_features
    from workflow_scripts.ssl_transfer.saliency import image_side

    backbone, certificate = load_checked(given.backbone, given.certificate)
    options = RECONSTRUCTION[given.protocol]
    rows = choose_images(given, ALL_PARTS, "reconstruction")
    if options.volume_slice == "fifth":
        rows = rows.assign(path=rows["path"].map(fifth_slice))
    if len(rows) != 1:
        raise refuse("--image and --n-images", "one image", str(len(rows)), "name one")
    pixels = decode_images(
        rows, given.root, image_side(backbone, given.image_size), given.bit_depth
    )
    devices = set_up(request_of(given))
    to_device = devices.fabric.to_device
    features = layer_features(frozen(to_device(backbone)), given.layer)
    prepare = partial(preprocessing, certificate["input"], options)
    goal = goal_of(features, prepare, pixels, to_device)
    n_updates = given.iterations + options.extra_updates
    origin = _origin(given, certificate, rows["image_id"].iloc[0])

    def write(found: NDArray[np.uint8], losses: Mapping[str, Any]) -> None:
        """Write original, reconstruction and losses."""
        save_png(pixels[0], given.original_out)
        save_png(as_saved(found, rows["path"].iloc[0], options), given.image_out)
        chosen = {**asdict(options), "layer": given.layer}
        write_json(given.out, {**origin, "options": chosen, "updates": n_updates, **losses})

    reconstruct(given, devices, goal, pixels, n_updates, write)


def _origin(
    given: argparse.Namespace, certificate: Mapping[str, Any], image_id: str
) -> dict[str, Any]:
    """Return of what the reconstruction is."""
    card = read_json(given.card)
    is_phantom = card["phantom"] or certificate["phantom"]
    return {
        "system": SYSTEM,
        "checkpoint": certificate["checkpoint"],
        "dataset": card["dataset"],
        "image_id": str(image_id),
        "data": data_name(card["dataset"], is_phantom, certificate["pretrained"]),
        "protocol": given.protocol,
        "seed": given.seed,
    }


def _check_given(given: argparse.Namespace) -> None:
    larger = "give a larger number"
    if given.iterations < 1:
        raise refuse("--iterations", "at least 1", str(given.iterations), larger)
    if given.image_size < LEAST_PX:
        raise refuse("--image-size", f"at least {LEAST_PX} px", str(given.image_size), larger)
    require_files([given.backbone, given.certificate, given.manifest, given.card])


def frozen(network: nn.Module) -> nn.Module:
    """Return the network in evaluation mode, without gradients for its weights."""
    return network.eval().requires_grad_(requires_grad=False)


class Goal(NamedTuple):
    """What the generator is asked for.

    Attributes:
        side: of the image, pixels.
        error: of images (1, 3, side, side) in [0, 1]: mean squared difference of the features.
        error_of_black: of a black image.
    """

    side: int
    error: Callable[[Tensor], Tensor]
    error_of_black: float


class Drawing(NamedTuple):
    """What draws the image.

    Attributes:
        generator: trained for this one image; batch normalisation stays in training mode.
        noise: its input, fixed, shape (1, 32, n, n).
    """

    generator: nn.Module
    noise: Tensor

    def image(self, side: int) -> Tensor:
        """Return the generator's image, cropped to the top left, shape (1, 3, side, side)."""
        image: Tensor = self.generator(self.noise)[:, :, :side, :side]
        return image


def goal_of(
    features: Preprocess, prepare: Callable[[Tensor], Preprocess], pixels: NDArray[np.uint8],
    to_device: Preprocess,
) -> Goal:  # fmt: skip
    """Return the goal that the features of an image are.

    Args:
        features: of network inputs (1, 3, n, n), at the chosen depth.
        prepare: from the original (1, 3, n, n) in [0, 1] to the function that makes images
            network inputs.
        pixels: of the image, shape (1, n, n, 3).
        to_device: where to compute.

    Raises:
        InputError: the features of the image are not finite.
    """
    import torch
    from torch.nn.functional import mse_loss

    original = to_device(torch.from_numpy(network_input(pixels, "none")))  # (1, 3, n, n) in [0, 1]
    seen = prepare(original)
    with torch.no_grad():
        target = features(seen(original)).detach()
        require_finite(target.cpu().numpy(), "features of the image")

        def error(images: Tensor) -> Tensor:
            """Return the mean squared difference of the features."""
            return mse_loss(features(seen(images)), target)

        return Goal(pixels.shape[1], error, float(error(torch.zeros_like(original))))


def drawing_of(side: int, seed: int, to_device: Callable[[Any], Any]) -> Drawing:
    """Return a generator with its first weights, and its noise, for images of a side."""
    import torch

    from workflow_scripts.networks.deep_image_prior import NOISE_CHANNELS, Generator

    streams.seed_process(seed, 0)
    with streams.initialised(seed, "reconstruction", "generator"):
        generator = to_device(Generator())
    noise_side = max(2, -(-side // 2**LEVELS)) * 2**LEVELS  # the innermost level needs two places
    draw = streams.torch_generator(seed, "reconstruction", "noise")
    shape = (1, NOISE_CHANNELS, noise_side, noise_side)
    return Drawing(generator, to_device(NOISE * torch.rand(shape, generator=draw)))


def reconstruct(
    given: argparse.Namespace, devices: Devices, goal: Goal, pixels: NDArray[np.uint8],
    n_updates: int, write: Callable[[NDArray[np.uint8], Mapping[str, Any]], None],
) -> None:  # fmt: skip
    """Train the generator on one image, from the newest state, and let `write` write the result.

    Args:
        given: the command line.
        devices: where to train.
        goal: what the image's features are.
        pixels: of the image, shape (1, n, n, 3): to what a saved state belongs.
        n_updates: of the generator's weights.
        write: gets the image, shape (n, n, 3), and the losses: the last, that of a black image,
            the history.
    """
    import torch

    drawing = drawing_of(goal.side, given.seed, devices.fabric.to_device)
    optimiser = torch.optim.Adam(drawing.generator.parameters(), lr=LEARNING_RATE)
    log = MetricLog(devices.ranks, None, None, every=LOSS_EVERY)
    parts = {"generator": drawing.generator, "optimiser": optimiser}
    with _session(given, devices, parts, log, n_updates, pixels) as session:
        for _ in session.steps():
            loss = goal.error(drawing.image(goal.side))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            log.add_loss("loss", loss, 1.0)
        with torch.no_grad():
            image = drawing.image(goal.side)
            last = float(goal.error(image))
        levels = (image[0].clamp(0, 1) * 255).to(torch.uint8)  # cut off, not rounded (spec 9)
        found: NDArray[np.uint8] = levels.permute(1, 2, 0).cpu().numpy()
        history = [(row.step, row.value) for row in log.rows]
        write(found, {"loss": last, "loss_of_black": goal.error_of_black, "history": history})
        session.forget()  # the outputs are written, nothing is left to go on with


def preprocessing(input_card: Mapping[str, Any], options: Any, original: Tensor) -> Preprocess:  # noqa: ANN401
    """Return the differentiable function from pixels in [0, 1] to network input.

    Histogram normalisation of a changing image has no useful gradient: the levels of the
    original's own histogram are used for both, interpolated between its values.

    Args:
        input_card: `input` of the checkpoint's certificate.
        options: of the protocol.
        original: the image, (1, 3, n, n), in [0, 1].
    """
    kind = "none" if options.normalisation == "none" else input_card["normalisation"]
    if kind == "none":
        return lambda images: images
    if kind == "mean_std":
        mean, std = (
            original.new_tensor(input_card[name])[None, :, None, None] for name in ("mean", "std")
        )
        return lambda images: (images - mean) / std
    return _equalisation(original)


def _equalisation(original: Tensor) -> Preprocess:
    """Return the original's histogram normalisation as a piecewise linear function of pixels."""
    import torch

    from workflow_scripts.datasets.pixels import histogram_levels

    stored = (original[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    present = np.unique(stored)
    levels = original.new_tensor(histogram_levels(stored)[present])  # rises with the gray level
    places = original.new_tensor(present.astype(np.float32) / np.float32(255))
    if len(places) == 1:
        return lambda images: levels.expand_as(images)

    def equalise(images: Tensor) -> Tensor:
        """Interpolate between the levels; beyond the darkest and brightest they stay."""
        inside = images.clamp(float(places[0]), float(places[-1]))
        right = torch.searchsorted(places, inside.detach().contiguous()).clamp(1, len(places) - 1)
        low, high = places[right - 1], places[right]
        share = (inside - low) / (high - low)
        return levels[right - 1] + share * (levels[right] - levels[right - 1])

    return equalise


def as_saved(
    pixels: NDArray[np.uint8], path: str, options: ReconstructionOptions
) -> NDArray[np.uint8]:
    """Return a reconstruction as it is read again from the file that the protocol writes.

    Args:
        pixels: shape (n, n, 3).
        path: of the image, as in the manifest.
        options: of the protocol.
    """
    if not (options.lossy_files and file_of(path).lower().endswith(SAVED_AS_JPEG)):
        return pixels
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")  # Pillow's own quality, as released
    return np.asarray(Image.open(stream))


def save_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write an image without loss, whole or not at all."""
    write_atomic(path, lambda partial: Image.fromarray(pixels).save(partial))


def _session(
    given: argparse.Namespace,
    devices: Devices,
    parts: Mapping[str, Any],
    log: MetricLog,
    n_updates: int,
    pixels: NDArray[np.uint8],
) -> TrainingSession:
    names = ("protocol", "seed", "layer", "precision")
    config = {name: getattr(given, name) for name in names} | {"updates": n_updates}
    config["pixels"] = hashlib.sha256(pixels.tobytes()).hexdigest()
    files = {"backbone": given.backbone, "certificate": given.certificate}
    here = Path(__file__)
    code = [here, here.parent / "layers.py", here.parents[1] / "networks" / "deep_image_prior.py"]
    belongs_to = fingerprint(config, files=files, code=code, world_size=1)
    store = StateStore(given.state, belongs_to, given.on_mismatch)
    length = SessionOptions(n_updates, given.minutes, given.save_minutes, given.started)
    return TrainingSession(devices.ranks, store, parts, {}, log, lambda: 0, length)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--certificate", type=Path, required=True, help="of the backbone, .json")
    add_image_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=list(RECONSTRUCTION),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--layer", default="layer4", help="depth whose features are matched")
    parser.add_argument("--iterations", type=int, default=3000, help="updates (3000)")
    parser.add_argument("--image-size", type=int, default=224, help="pixels (224)")
    parser.add_argument("--seed", type=int, default=0, help="of generator, noise, draw of image")
    parser.add_argument("--out", type=Path, required=True, help="losses to write (.json)")
    parser.add_argument("--image-out", type=Path, required=True, help="reconstruction (.png)")
    parser.add_argument("--original-out", type=Path, required=True, help="the original (.png)")
    add_device_arguments(parser)
    add_session_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
