"""Weights without training: a seeded initialisation, and the tensors of a phantom file."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from workflow_scripts.checkpoints.backbone import (
    build_backbone,
    build_network,
    classifier_prefixes,
)
from workflow_scripts.checkpoints.conversion import ConvertedTensors, mapped
from workflow_scripts.randomness import named_rng

CALIBRATION_SHAPE = (16, 3, 96, 96)  # small, yet large enough for Inception's strides
SEEDED = "initialised by the library from the seed"


def seeded_tensors(library: str, architecture: str, seed: int) -> ConvertedTensors:
    """Return the backbone as the library initialises it: the untrained baseline.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = dict(build_backbone(library, architecture).state_dict())
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    key_map = tuple(mapped(None, name, tensor, SEEDED) for name, tensor in tensors.items())
    return ConvertedTensors(tensors, key_map, ())


def phantom_tensors(library: str, architecture: str, seed: int) -> dict[str, Tensor]:
    """Return the tensors of a whole network that behaves like a trained one in scale.

    Every tensor has its own values, so that a converter that swaps two is caught; BatchNorm's
    statistics fit the activations of smooth images, so that features neither vanish nor explode.
    """
    network = build_network(library, architecture)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            values = phantom_values(name, tuple(tensor.shape), named_rng(seed, "phantom", name))
            tensor.copy_(torch.from_numpy(values))
    calibrate(network, named_rng(seed, "phantom", "calibration"))
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def backbone_of(
    tensors: dict[str, Tensor], library: str, architecture: str
) -> tuple[dict[str, Tensor], int]:
    """Return a whole network's tensors without the classifier, and the number of its inputs."""
    heads = classifier_prefixes(library, architecture)
    weights = (one for name, one in tensors.items() if name.startswith(heads) and one.ndim == 2)
    width = next(weights).shape[1]
    return {name: one for name, one in tensors.items() if not name.startswith(heads)}, width


def phantom_values(
    name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Draw one tensor: He-scaled weights; scales and variances around one, the rest near zero."""
    is_scale = name.endswith(("weight", "running_var", "gamma"))
    if len(shape) < 2:
        return (
            rng.uniform(0.5, 1.5, shape).astype(np.float32)
            if is_scale
            else (0.1 * rng.standard_normal(shape, dtype=np.float32))
        )
    deviation = math.sqrt(2 / math.prod(shape[1:])) if is_scale else 0.02
    return (deviation * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)


def calibrate(network: nn.Module, rng: np.random.Generator) -> None:
    """Set BatchNorm's running statistics to those of smooth random images, in one pass."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    n, channels, height, width = CALIBRATION_SHAPE
    coarse = torch.from_numpy(rng.standard_normal((n, channels, 6, 6), dtype=np.float32))
    images = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average over the batches seen, which is one
    network.train()
    with torch.no_grad():
        network(images)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
