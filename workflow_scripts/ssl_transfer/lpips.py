"""LPIPS: how different two images look, as three classification networks see them.

For each of some layers of a trunk: divide the features of each pixel by their length, square the
difference, weight the channels, average over the pixels; the distance is the sum over layers. The
trunks are checkpoints of our own zoo; the channels' weights come with the `lpips` package, which
is not imported, because it would fetch its trunks from the network.

Source: Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric,
2018, equation 1; version 0.1 of the weights. Tests compare with the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from workflow_scripts.problems import refuse

UNIT_EPSILON = 1e-10  # keeps a pixel without any activation at zero
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of the input channels


@dataclass(frozen=True, slots=True)
class TrunkShape:
    """Where a network is listened to.

    Attributes:
        architecture: of the checkpoint.
        weights: file of the channels' weights in the package, without suffix.
        ends: each layer is what leaves this many modules of `features`.
    """

    architecture: str
    weights: str
    ends: tuple[int, ...]


SHAPES: Final = {  # by the names of the released files
    "alexnet": TrunkShape("alexnet+features", "alex", (2, 5, 8, 10, 12)),
    "vgg": TrunkShape("vgg16+features", "vgg", (4, 9, 16, 23, 30)),
    "squeezenet": TrunkShape("squeezenet1_1+features", "squeeze", (2, 5, 8, 10, 11, 12, 13)),
}


class Lpips(nn.Module):
    """The distance by one trunk, in evaluation mode."""

    shift: Tensor
    scale: Tensor

    def __init__(self, features: nn.Module, ends: Sequence[int], heads: Sequence[Tensor]) -> None:
        """Take a trunk apart.

        Args:
            features: the convolutional part, a sequence of modules.
            ends: see `TrunkShape`.
            heads: the channels' weights of each layer, shape (1, C, 1, 1), none below zero.
        """
        super().__init__()
        modules = list(features.children())
        starts = [0, *ends[:-1]]
        self.slices = nn.ModuleList(
            nn.Sequential(*modules[start:end]) for start, end in zip(starts, ends, strict=True)
        )
        self.n_layers = len(heads)
        for number, head in enumerate(heads):
            self.register_buffer(f"head{number}", head)
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.eval()

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return the unit-length features of each layer; images (N, 3, H, W) in [-1, 1]."""
        found, x = [], (images - self.shift) / self.scale
        for part in self.slices:
            x = part(x)
            length = x.square().sum(dim=1, keepdim=True).sqrt()
            found.append(x / (length + UNIT_EPSILON))
        return found

    def between(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Return the distance of images from their `layers`, shape (N,); N broadcasts."""
        total = torch.zeros(1)
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            head: Tensor = getattr(self, f"head{number}")
            weighted = ((a - b).square() * head).sum(dim=1)  # (N, h, w)
            total = total + weighted.mean(dim=(1, 2))
        return total

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance of two batches of images, shape (N,)."""
        return self.between(self.layers(first), self.layers(second))


def lpips_of(name: str, features: nn.Module) -> Lpips:
    """Return the distance by a trunk.

    Args:
        name: one of `SHAPES`.
        features: the trunk's convolutional part.

    Raises:
        InputError: the package with the channels' weights is not installed.
    """
    shape = SHAPES[name]
    tensors = torch.load(weights_file(shape.weights), map_location="cpu", weights_only=True)
    heads = [tensors[f"lin{number}.model.1.weight"] for number in range(len(shape.ends))]
    return Lpips(features, shape.ends, heads)


def weights_file(weights: str) -> Path:
    """Return the file of the channels' weights in the installed package."""
    package = find_spec("lpips")
    folders = list(package.submodule_search_locations or []) if package else []
    found = [path for folder in folders if (path := Path(folder, f"weights/v0.1/{weights}.pth"))]
    if not found or not found[0].is_file():
        step = "install the locked requirements"
        raise refuse("package lpips", f"its file weights/v0.1/{weights}.pth", "none", step)
    return found[0]
