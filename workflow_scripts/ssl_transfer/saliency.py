"""Step: occlusion saliency of one backbone on a few images of one data set.

The paper asks where a checkpoint looks: each place of the image is hidden once, and the map shows
how far the features moved. Its attentive diffusion is one number an image.

    python -m workflow_scripts.ssl_transfer.saliency --backbone backbone.safetensors \
        --certificate certificate.json --manifest manifest.parquet --card card.json \
        --root data/bach --image iv001.tif --protocol released --state state/saliency \
        --out predictions.parquet --maps maps.npz
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.code_digest import code_digest
from workflow_scripts.command_line import run
from workflow_scripts.files import read_json, write_atomic
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import refuse, require_files
from workflow_scripts.progress import progress
from workflow_scripts.speed import exact_arithmetic, set_threads, tune_allocator
from workflow_scripts.ssl_transfer.cases import SYSTEM
from workflow_scripts.ssl_transfer.features import choose_device, folded, pixels_to_input
from workflow_scripts.ssl_transfer.occlusion import (
    Floats,
    Occlusion,
    Scorer,
    attentive_diffusion,
    dense_scorer,
    per_image_statistics,
    saliency_map,
    score_positions,
)
from workflow_scripts.ssl_transfer.pieces import Pieces
from workflow_scripts.ssl_transfer.sample_images import (
    add_image_arguments,
    choose_images,
    decode_images,
)
from workflow_scripts.ssl_transfer.training_protocols import SALIENCY

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

TABLE = "ssl_transfer_saliency"
MODULE = "workflow_scripts.ssl_transfer.saliency"
ROWS_A_PIECE = 8  # rows of positions kept together; ours: about 40 s of a CPU at 242 px
DEEPEST_STRIDE = 32  # pixels of the image behind one place of the last feature map
BatchNorm = Literal["eval", "released"]
log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Hide every place of every image, write maps and attentive diffusion."""
    given = _parser().parse_args(arguments)
    _check_numbers(given)
    require_files([given.backbone, given.certificate, given.manifest, given.card])
    tune_allocator()
    set_threads(given.threads)
    from workflow_scripts.checkpoints.certificate import load_checked

    set_threads(given.threads)  # torch's own pool exists only now
    options = SALIENCY[given.protocol]
    network, certificate = load_checked(given.backbone, given.certificate)
    rows = choose_images(given, options.image_parts, "saliency")
    side = image_side(network, given.image_size)
    pixels = decode_images(rows, given.root, side, given.bit_depth)
    inputs = pixels_to_input(certificate["input"], options.normalisation)(pixels)
    occlusion = Occlusion(given.window, given.stride)
    pieces = Pieces(given.state, _belongs_to(given, certificate, inputs))
    begin = time.monotonic()
    maps = make_maps(given, network, inputs, occlusion, pieces)
    log.info("%d maps of %d px in %.1f s", len(maps), side, time.monotonic() - begin)
    card = read_json(given.card)
    is_phantom = card["phantom"] or certificate["phantom"]
    origin = {
        "checkpoint": certificate["checkpoint"],
        "dataset": card["dataset"],
        "data": data_name(card["dataset"], is_phantom, certificate["pretrained"]),
        "image_id": rows["image_id"].tolist(),
    }
    shown = pixels[:, occlusion.window - 1 :, occlusion.window - 1 :][
        :, : maps.shape[1], : maps.shape[2]
    ]
    write_atomic(given.maps, partial(_save_maps, maps, shown, origin))
    _write(given, rows, maps, origin, {**asdict(occlusion), "image_size": side})
    pieces.forget()


def image_side(network: nn.Module, wanted: int) -> int:
    """Return the side of the images: as wanted, or what a network of fixed size takes."""
    fixed = getattr(getattr(network, "patch_embed", None), "img_size", None)
    if fixed is None or fixed[0] == wanted:
        return wanted
    log.info("the network takes images of %d px only, not %d", fixed[0], wanted)
    return int(fixed[0])


def make_maps(
    given: argparse.Namespace,
    network: nn.Module,
    inputs: NDArray[np.float32],
    occlusion: Occlusion,
    pieces: Pieces,
) -> NDArray[np.float32]:
    """Return the saliency map of each image, shape (N, M, M); finished pieces are read."""
    import torch

    exact_arithmetic()
    device = choose_device(given.gpus)
    fill = SALIENCY[given.protocol].fill
    places = occlusion.places(inputs.shape[-1])
    cuts = range(0, len(places), ROWS_A_PIECE)
    wanted = [(image, cut) for image in range(len(inputs)) for cut in cuts]
    scorers: dict[int, Scorer] = {}  # of the image under way
    done: dict[int, list[Floats]] = {image: [] for image in range(len(inputs))}
    for image, cut in progress(wanted, len(wanted), "saliency", unit="pieces"):

        def compute(image: int = image, cut: int = cut) -> Floats:
            """Return the scores of some rows of positions, shape (rows, P)."""
            if image not in scorers:
                scorers.clear()
                pixels = torch.from_numpy(inputs[image]).to(device)
                color = pixels.mean(dim=(1, 2)) * (fill == "mean")
                scorers[image] = scorer_of(
                    network.to(device), pixels, color, occlusion.window, given.bn, given.batch_size
                )
            rows = places[cut : cut + ROWS_A_PIECE]
            return np.stack([*score_positions(scorers[image], rows, places, given.batch_size)])

        done[image].append(pieces.get(f"image-{image}-row-{cut:04d}", compute))
    side = inputs.shape[-1]
    maps = [saliency_map(np.concatenate(parts), side, occlusion) for parts in done.values()]
    return np.stack(maps).astype(np.float32)


def scorer_of(
    network: nn.Module, image: Tensor, fill: Tensor, window: int, bn: BatchNorm, batch: int
) -> Scorer:
    """Return the fastest exact scorer for a network.

    Args:
        network: backbone in evaluation mode.
        image: network input, shape (C, n, n).
        fill: color of the hidden square, shape (C,).
        window: its side, pixels.
        bn: `eval`: running statistics; `released`: those of each occluded image.
        batch: windows of one forward pass.
    """
    import torch

    from workflow_scripts.networks.resnet import ResNet
    from workflow_scripts.ssl_transfer.windowed_resnet import WindowedResNet

    if bn == "eval" and isinstance(network, ResNet):
        return WindowedResNet(network, image, window, fill)
    if bn == "released":  # instance normalisation wants its channels apart: 8.4 -> 7.3 ms at 64 px
        return dense_scorer(per_image_statistics(network), image, window, fill, batch)
    changed = folded(network).to(memory_format=torch.channels_last)
    return dense_scorer(changed, image, window, fill, batch)


def _write(
    given: argparse.Namespace,
    rows: pd.DataFrame,
    maps: NDArray[np.float32],
    origin: Mapping[str, Any],
    window: Mapping[str, int],
) -> None:
    chosen = {"bn": given.bn, **window, "images": given.image}
    diffusion = [attentive_diffusion(one.astype(np.float64)) for one in maps]
    log.info("Attentive diffusion: %s", ", ".join(f"{100 * value:.2f}%" for value in diffusion))
    write_case_scores(
        given.out,
        rows,
        {"attentive_diffusion": np.array(diffusion)},
        metadata={
            "system": SYSTEM,
            "table": TABLE,
            "row": origin["checkpoint"],
            "column": given.column or origin["dataset"],
            "protocol": given.protocol,
            "seed": given.seed,
            "kind": "case_means",
            "metric": "attentive_diffusion",
            "classes": [],
            "data": origin["data"],
            "checkpoint": origin["checkpoint"],
            "dataset": origin["dataset"],
            "options": {**asdict(SALIENCY[given.protocol]), **chosen},
            "diagnostics": {
                "largest_score": _defined(float(maps.max())),
                "mean_score": _defined(float(maps.mean())),
            },
        },
    )


def _defined(number: float) -> float | None:
    """Return the number; None for the NaN of an undefined map, which JSON does not have."""
    return None if math.isnan(number) else number


def _save_maps(
    maps: NDArray[np.float32], shown: NDArray[np.uint8], origin: Mapping[str, Any], path: Path
) -> None:
    content: dict[str, Any] = {name: np.array(text) for name, text in origin.items()}
    np.savez_compressed(path, maps=maps, pixels=shown, **content)


def _belongs_to(
    given: argparse.Namespace, certificate: Mapping[str, Any], inputs: NDArray[np.float32]
) -> dict[str, Any]:
    """Return all that a score depends on."""
    return {
        "backbone": certificate["backbone_sha256"],
        "inputs": hashlib.sha256(inputs.tobytes()).hexdigest(),
        **{name: getattr(given, name) for name in ("protocol", "bn", "window", "stride")},
        "batch_size": given.batch_size,
        "code": code_digest(MODULE),
    }


def _check_numbers(given: argparse.Namespace) -> None:
    if given.batch_size < 1 or given.threads < 1:
        raise refuse("--batch-size and --threads", "at least 1", "less", "give a larger number")
    if given.bn == "released" and given.image_size <= DEEPEST_STRIDE:
        expected = f"images above {DEEPEST_STRIDE} px: one place has no statistics"
        raise refuse("--image-size", expected, str(given.image_size), "take larger images")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--certificate", type=Path, required=True, help="of the backbone, .json")
    add_image_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=list(SALIENCY),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument(
        "--bn",
        choices=("eval", "released"),
        default="eval",
        help="batch normalisation: running statistics, as behind the printed numbers; or those of "
        "each occluded image, as in the released code's last state",
    )
    default = Occlusion()
    parser.add_argument("--image-size", type=int, default=242, help="pixels (242)")
    parser.add_argument("--window", type=int, default=default.window, help="pixels (10)")
    parser.add_argument("--stride", type=int, default=default.stride, help="pixels (1)")
    parser.add_argument("--batch-size", type=int, default=32, help="windows a forward pass (32)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0, help="1: run on a GPU")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of images")
    parser.add_argument("--column", help="column in the table (default: the data set)")
    parser.add_argument("--state", type=Path, required=True, help="folder of finished pieces")
    parser.add_argument("--out", type=Path, required=True, help="attentive diffusion (.parquet)")
    parser.add_argument("--maps", type=Path, required=True, help="maps to write (.npz)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
