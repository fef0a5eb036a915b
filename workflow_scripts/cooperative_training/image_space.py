"""An image-space baseline: hard images made without a latent code.

They take the place of the corrupted image in the hard pass, everything else staying as it is
(ours: how the paper's baselines enter its loss is not in the sources). Source of the kernel: spec
section 13, released code. RandConv, AdvNoise and AdvBias are left out: their losses are known
from a later repository only, in part.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MAX_WINDOWS = 5
GO_ON = 0.95  # chance of each further window
BORDER = 3  # pixels that no window touches


def random_windows(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Fill up to five windows of each image with noise U(0, 1) (in-painting).

    Args:
        images: shape (N, 1, H, W), in [0, 1]; H and W of 24 or more.
        rng: of the windows and the noise.
    """
    filled = images.clone()
    height, width = images.shape[2:]
    for image in filled[:, 0]:
        left = MAX_WINDOWS
        while left > 0 and rng.random() < GO_ON:
            h = int(rng.integers(height // 6, height // 3 + 1))
            w = int(rng.integers(width // 6, width // 3 + 1))
            top = int(rng.integers(BORDER, height - h - BORDER + 1))
            start = int(rng.integers(BORDER, width - w - BORDER + 1))
            noise = rng.random((h, w), dtype=np.float32)
            image[top : top + h, start : start + w] = torch.from_numpy(noise).to(image)
            left -= 1
    return filled
