"""Step: make hard examples with trained networks, for the figure of what training sees.

Each kind of mask at rising thresholds, soft, not random: corrupted images from the image code,
corrupted segmentations from the shape code with their entropy (spec section 13).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.cooperative_training.pictures import write_arrays
from workflow_scripts.cooperative_training.tested import read_manifest, tested_cases
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.predictions import data_name

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.cooperative_training.inference import Segmenter

THRESHOLDS = (0.1, 0.3, 0.5)  # shares of masked entries
KINDS = ("dropout", "channel", "spatial")


def corrupt_codes(
    segmenter: Segmenter, image: NDArray[np.float32], labels: NDArray[np.uint8], seed: int
) -> dict[str, NDArray[Any]]:
    """Return corrupted images and segmentations of one slice.

    Running statistics in place of batch statistics: one slice is no batch (ours).

    Returns:
        `image, truth, reconstruction`, each (C, C); `corrupted_image` (kinds, thresholds, C, C);
        `corrupted_labels` and `entropy` (bits) of the same shape.
    """
    import torch
    from torch.nn import functional as F

    from workflow_scripts.cooperative_training.augmentation import rescale
    from workflow_scripts.cooperative_training.losses import image_loss
    from workflow_scripts.cooperative_training.networks import map_of_logits
    from workflow_scripts.cooperative_training.slices import to_crop

    networks, crop, device = segmenter.networks, segmenter.crop, segmenter.device
    clean = rescale(torch.from_numpy(to_crop(image, crop).copy())[None])[None].to(device)
    target = torch.from_numpy(to_crop(labels, crop).astype(np.int64))[None].to(device)
    codes = networks.image_encoder(clean)
    shown = networks.image_decoder(codes.image)
    logits = networks.segmentation_decoder(codes.shape)
    gradients = [
        torch.autograd.grad(image_loss(shown, clean), codes.image, retain_graph=True)[0],
        torch.autograd.grad(F.cross_entropy(logits, target), codes.shape)[0],
    ]
    with torch.no_grad():
        images = masked_decodings(networks.image_decoder, codes.image, gradients[0], seed)
        shapes = masked_decodings(networks.segmentation_decoder, codes.shape, gradients[1], seed)
        soft = map_of_logits(shapes.flatten(0, 1))
        entropy = -(soft * soft.clamp_min(1e-12).log2()).sum(dim=1)
    size = (len(KINDS), len(THRESHOLDS), crop, crop)
    return {
        "image": clean[0, 0].cpu().numpy(),
        "truth": target[0].cpu().numpy().astype(np.uint8),
        "reconstruction": shown[0, 0].detach().cpu().numpy(),
        "corrupted_image": images[:, :, 0].cpu().numpy(),
        "corrupted_labels": shapes.argmax(dim=2).cpu().numpy().astype(np.uint8),
        "entropy": entropy.cpu().numpy().reshape(size),
        "kinds": np.array(KINDS),
        "thresholds": np.array(THRESHOLDS),
    }


def masked_decodings(decoder: Any, code: Tensor, gradient: Tensor, seed: int) -> Tensor:  # noqa: ANN401
    """Return what a decoder makes of a masked code, shape (kinds, thresholds, C, H, W)."""
    import torch

    from workflow_scripts.cooperative_training.masking import (
        MaskDraw,
        drop_channels,
        targeted_mask,
    )
    from workflow_scripts.training.streams import torch_generator

    rows = []
    for kind in KINDS:
        for threshold in THRESHOLDS:
            draws = torch_generator(seed, "figure", kind, device=code.device.type)
            if kind == "dropout":
                masked = drop_channels(code, threshold, draws)
            else:
                draw = MaskDraw(kind, threshold)  # type: ignore[arg-type]  # a targeted kind
                masked = code * targeted_mask(gradient, draw, True, draws)
            rows.append(decoder(masked)[0])
    stacked = torch.stack(rows)
    return stacked.reshape(len(KINDS), len(THRESHOLDS), *stacked.shape[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the middle slice of the first test volume, corrupt its codes, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True, help="of the training")
    parser.add_argument("--training", type=Path, required=True, help="its record (JSON)")
    parser.add_argument("--images", type=Path, required=True, help="voxels of the test set")
    parser.add_argument("--masks", type=Path, required=True, help="its classes")
    parser.add_argument("--index", type=Path, required=True, help="its index")
    parser.add_argument("--manifest", type=Path, required=True, help="of the test set")
    parser.add_argument("--seed", type=int, required=True, help="of the masks")
    parser.add_argument("--out", type=Path, required=True, help="arrays to draw (.npz)")
    given = parser.parse_args(arguments)
    from workflow_scripts.cooperative_training.inference import device_of, load_segmenter

    segmenter = load_segmenter(given.weights, given.training, device_of(0))
    manifest, about = read_manifest(given.manifest)
    store = VolumeStore(given.images, given.masks, given.index)
    cases = tested_cases(manifest, about, segmenter.record, store, str(given.manifest))
    volume = store.volume(cases["image_id"].iloc[0])
    place = len(volume.mask) // 2
    image, labels = volume.image[place], volume.mask[place]
    arrays = corrupt_codes(segmenter, image, labels, given.seed)
    write_arrays(given.out, arrays, data_name(about["dataset"], about["phantom"]))


if __name__ == "__main__":
    sys.exit(run(main))
