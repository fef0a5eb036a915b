"""Occlusion scores the plain way: one forward pass of one image for each hidden window.

Written from the description of the released code with torchvision's own network, and nothing of
the product's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models


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
