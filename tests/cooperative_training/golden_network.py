"""The golden network: weights by formula, two images, and how its numbers are compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workflow_scripts.cooperative_training.networks import CooperativeNetworks

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden/cooperative_training.json").read_text()
)
NETWORK = GOLDEN["network"]
MODULES = (
    *("image_encoder", "segmentation_decoder", "shape_encoder"),
    *("shape_decoder", "image_decoder"),
)


def fill_weights(networks: CooperativeNetworks) -> CooperativeNetworks:
    """Give every parameter the value of the formula `weight_fill`."""
    for m, name in enumerate(MODULES):
        for j, (key, parameter) in enumerate(getattr(networks, name).named_parameters()):
            i = np.arange(parameter.numel(), dtype=np.float64)
            if parameter.ndim > 1:
                scale = 1.4 / math.sqrt(math.prod(parameter.shape[1:]))
                phase = 0.7 * i + 0.31 * np.sqrt(i) * (1 + 0.1 * j) + 1.3 * j + 2.1 * m
                values = scale * np.sin(phase)
            elif key.endswith("weight"):
                values = 1 + 0.1 * np.sin(0.5 * i + j)
            else:
                values = 0.05 * np.cos(0.3 * i + j)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
    return networks


def golden_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Return clean images, noisy images, both (2, 1, 32, 32), and labels (2, 32, 32)."""
    n, h, w = np.meshgrid(range(2), range(32), range(32), indexing="ij")
    clean = 0.5 + 0.5 * np.sin(0.37 * h + 0.011 * h * w - 0.23 * w + 1.7 * n)
    noisy = np.clip(clean + 0.05 * np.cos(1.1 * h * (n + 1) + 0.9 * w), 0, 1)
    r = np.sqrt((h - 15) ** 2 + (w - 13 - 2 * n) ** 2)
    is_right = (w > 22) & (h > 8) & (h < 22)
    label = np.where(r < 4.5, 1, np.where(r < 8.5, 2, np.where(is_right, 3, 0)))
    images = [torch.from_numpy(one[:, None].astype(np.float32)) for one in (clean, noisy)]
    return images[0], images[1], torch.from_numpy(label)


def assert_summary(tensor: Tensor, golden: dict[str, Any], rel: float, atol: float) -> None:
    """Compare shape, mean, spread and some entries with the golden ones."""
    values = tensor.detach().double()
    assert list(values.shape) == golden["shape"]
    found = {
        "mean": values.mean().item(),
        "std": values.std(correction=0).item(),
        "abs_mean": values.abs().mean().item(),
    }
    for name, value in found.items():
        np.testing.assert_allclose(
            value, golden[name], rtol=max(rel, 2e-4), atol=atol, err_msg=name
        )
    for index, value in golden["at_flat_index"].items():
        np.testing.assert_allclose(values.flatten()[int(index)].item(), value, rtol=rel, atol=atol)


def norm_counters(module: nn.Module) -> list[int]:
    """Return the distinct numbers of running-statistics updates of a module's norms."""
    counters = [part.num_batches_tracked for part in module.modules() if hasattr(part, "momentum")]
    return sorted({int(counter) for counter in counters})
