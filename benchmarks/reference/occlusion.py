"""Occlusion saliency the plain way: one forward pass of one image for each hidden window.

Written from the description of the released code with torchvision's own network and transforms,
and nothing of the product's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models, transforms

WINDOW = 10  # pixels
IMAGENET = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def build(architecture: str, weights: dict[str, Tensor], is_training: bool) -> nn.Module:
    """Return the network without its classifier, in the mode that the protocol asks for."""
    network = models.get_model(architecture, weights=None)
    last = "classifier" if architecture.startswith("densenet") else "fc"
    setattr(network, last, nn.Identity())
    network.load_state_dict(weights)
    return network.train(is_training)


def scores(
    network: nn.Module, image: Tensor, positions: Sequence[tuple[int, int]], window: int
) -> np.ndarray:
    """Return |f(x) - f(x occluded)| / |f(x)| of each position, shape (N,)."""
    found = []
    with torch.inference_mode():
        clean = network(image[None])[0]
        for row, column in positions:
            hidden = image.clone()
            hidden[:, row : row + window, column : column + window] = 0
            moved = network(hidden[None])[0]
            found.append(float((clean - moved).norm() / clean.norm()))
    return np.array(found)


def diffusion(
    found: np.ndarray, positions: Sequence[tuple[int, int]], side_px: int, window: int
) -> float:
    """Return the share of the map above its mean; a pixel has the mean of the windows over it."""
    total = np.zeros((side_px, side_px))
    for score, (row, column) in zip(found, positions, strict=True):
        total[row : row + window, column : column + window] += score / window**2
    inner = total[window - 1 : 1 - window, window - 1 : 1 - window]
    return float((inner > inner.mean()).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("image", "backbone"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--architecture", required=True)
    for name in ("side-px", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    bicubic = transforms.InterpolationMode.BICUBIC
    resize = transforms.Resize(given.side_px, interpolation=bicubic)
    steps = [resize, transforms.CenterCrop(given.side_px), transforms.ToTensor(), IMAGENET]
    image = transforms.Compose(steps)(Image.open(given.image).convert("RGB"))
    network = build(given.architecture, load_file(given.backbone), is_training=True)
    places = range(given.side_px - WINDOW + 1)
    positions = [(row, column) for row in places for column in places]
    found = scores(network, image, positions, WINDOW)
    share = diffusion(found, positions, given.side_px, WINDOW)
    print(f"Attentive diffusion: {100 * share:.2f}%")


if __name__ == "__main__":
    sys.exit(main())
