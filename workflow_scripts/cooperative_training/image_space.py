"""Image-space baselines: hard images made without a latent code.

They take the place of the corrupted image in the hard pass, everything else staying as it is
(ours: how the paper's baselines enter its loss is not in the sources). Source of the kernels:
spec section 13; windows from the released code, convolutions from the authors' later repository,
whose further loss terms (consistency of three filtered copies) are left out. AdvNoise and AdvBias
are nothing but such terms, known in part, and are not offered.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.cooperative_training.augmentation import rescale

MAX_WINDOWS = 5
GO_ON = 0.95  # chance of each further window
BORDER = 3  # pixels that no window touches
KERNEL_SIZES = (1, 3, 5, 7)  # pixels


def random_windows(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Fill up to five windows of each image with noise U(0, 1) (in-painting).

    Args:
        images: shape (N, 1, H, W), in [0, 1]; H and W of 24 or more.
        rng: of the windows and the noise.
    """
    return torch.where(windows_of(images, rng), noise_like(images, rng), images)


def outside_windows(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Fill all but up to five windows of each image with noise (out-painting); as above."""
    return torch.where(windows_of(images, rng), images, noise_like(images, rng))


def windows_of(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw the windows of each image, of a sixth to a third of its sides; flags (N, 1, H, W)."""
    height, width = images.shape[2:]
    inside = np.zeros(tuple(images.shape), dtype=bool)
    for image in inside[:, 0]:
        left = MAX_WINDOWS
        while left > 0 and rng.random() < GO_ON:
            h = int(rng.integers(height // 6, height // 3 + 1))
            w = int(rng.integers(width // 6, width // 3 + 1))
            top = int(rng.integers(BORDER, height - h - BORDER + 1))
            start = int(rng.integers(BORDER, width - w - BORDER + 1))
            image[top : top + h, start : start + w] = True
            left -= 1
    return torch.from_numpy(inside).to(images.device)


def noise_like(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw U(0, 1) for every pixel."""
    return torch.from_numpy(rng.random(tuple(images.shape), dtype=np.float32)).to(images)


def random_convolutions(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mix each image with a randomly filtered copy of it (RandConv), then rescale it.

    Args:
        images: shape (N, 1, H, W).
        rng: of kernel size k, kernel N(0, 1 / k^2), and share of the image U(0, 1).

    Returns:
        The same shape, each image in [0, 1].
    """
    mixed = []
    for image in images:
        size = int(rng.choice(KERNEL_SIZES))
        kernel = torch.from_numpy(rng.normal(0, 1 / size, (1, 1, size, size))).to(images)
        share = float(rng.random())
        filtered = F.conv2d(image[None], kernel, padding=size // 2)[0]
        mixed.append(share * image + (1 - share) * filtered)
    return rescale(torch.stack(mixed)[:, 0])[:, None]


MAKERS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "random_windows": random_windows,
    "outside_windows": outside_windows,
    "random_convolutions": random_convolutions,
}
