"""Features as the released code's last version computes them: BatchNorm sees the batch.

From 28 April 2022 on the released code leaves the backbone in training mode for the invariance
measure. A feature then depends on the images beside it: the clean image is a batch of its own,
the versions of an image are another, and the statistics come from batches of 256. Nearly all
printed numbers are older and were computed in evaluation mode (spec Q1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from torch import from_numpy as as_tensor
from torch import inference_mode, nn

from workflow_scripts.speed import exact_arithmetic

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
RELEASED_BATCH = 256  # images of a batch behind mean and covariance (released code)


def training_features(
    network: nn.Module,
    batches: Iterable[Pixels],
    to_input: Callable[[Pixels], Floats],
    device: str = "cpu",
) -> Floats:
    """Return the features of batches by a copy of a network in training mode.

    Args:
        network: backbone; it stays as it is.
        batches: stored pixels, shape (B, H, W, 3) each; they decide which images share statistics.
        to_input: from pixels to network input.
        device: such as `cuda:0`.

    Returns:
        Shape (sum of B, F), float32.
    """
    exact_arithmetic()
    twin = deepcopy(network).to(device).train()  # a forward pass moves running statistics
    with inference_mode():
        parts = [
            twin(as_tensor(to_input(batch)).to(device)).float().cpu().numpy() for batch in batches
        ]
    return np.concatenate(parts)
