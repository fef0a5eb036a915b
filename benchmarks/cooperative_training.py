"""B12: cooperative training steps, from stored slices to updated weights.

    python -m benchmarks.cooperative_training [--slices 4] [--window 224] [--crop 192] [--width 16]

One step of each kind of mask (dropout, channels, places), each from the same weights, slices and
draws. Equal: the first loss to 1e-5 of its value, the other terms to 1e-2, the norm of each
sub-network's gradient to 5e-2: rounding decides which of two nearly equal entries is masked. In
float64 all agree to 1e-6 and 1e-4 (a test). The updated weights are not compared: Adam makes a
whole step of a gradient that is rounding.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.reference import cooperative_training as plain
from benchmarks.timing import Comparison, compare
from workflow_scripts.cooperative_training.augmentation import Policy, draw_case
from workflow_scripts.cooperative_training.losses import (
    Draws,
    TrainingOptions,
    loss_terms,
    total_loss,
)
from workflow_scripts.cooperative_training.masking import MASK_TYPES, MaskDraw
from workflow_scripts.cooperative_training.networks import CooperativeNetworks
from workflow_scripts.cooperative_training.slices import Item, Sizes, join_items, make_batch

GRADIENT = "gradient of "
FIRST = "standard/seg"  # the only loss of a plain segmenter
SHARE = 0.25  # of masked entries: the mean of U(0, 0.5)
Terms = list[dict[str, float]]


class Limits(NamedTuple):
    """Relative differences that are still equal."""

    first: float
    terms: float
    gradients: float

    def of(self, name: str) -> float:
        """Return the limit of one number."""
        if name == FIRST:
            return self.first
        return self.gradients if name.startswith(GRADIENT) else self.terms


SINGLE = Limits(1e-5, 1e-2, 5e-2)
DOUBLE = Limits(1e-6, 1e-6, 1e-4)


def make_items(n: int, sizes: Sizes) -> list[Item]:
    """Return slices of discs in noise, each with a draw; every second one is bent."""
    rng = np.random.default_rng(0)
    away = np.hypot(*(np.indices((sizes.window, sizes.window)) - sizes.window / 2))
    items: list[Item] = []
    start = (sizes.window - sizes.crop) // 2
    inner = (slice(start, start + sizes.crop),) * 2
    while len(items) < n:
        draw = draw_case(rng, Policy(), sizes.window)
        if (draw.noise is None) == bool(len(items) % 2):
            continue
        radii = sizes.window * rng.uniform([0.06, 0.13, 0.2], [0.1, 0.18, 0.26])
        labels = sum((away < radius).astype(np.uint8) for radius in radii)
        image = (0.2 * labels + 0.4 * rng.random(labels.shape)).astype(np.float32)
        items.append(Item(image, labels, image[inner], labels[inner], draw))
    return items


def generators() -> tuple[torch.Generator, torch.Generator]:
    """Return the sources of the noise and of the masks' values."""
    return torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)


def product_steps(weights: dict[str, torch.Tensor], items: list[Item], sizes: Sizes) -> Terms:
    """Do one step of each kind of mask, as `train_segmenter` does."""
    networks = CooperativeNetworks(_width(weights)).train()
    networks = networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options, (noise, values) = TrainingOptions(), generators()
    found = []
    for kind in MASK_TYPES:
        networks.load_state_dict(weights)
        optimiser = torch.optim.Adam(networks.parameters(), lr=plain.LR)
        batch = make_batch(join_items(items), sizes, noise)
        draw = draw_of(kind)
        terms = loss_terms(networks, batch, options, Draws(draw, draw, values))
        total_loss(terms, options).backward()
        optimiser.step()
        logged = {name: value.detach() for name, value in terms.items()}
        found.append({name: float(one) for name, one in logged.items()} | gradient_norms(networks))
        optimiser.zero_grad()
    return found


def reference_steps(weights: dict[str, torch.Tensor], items: list[Item], sizes: Sizes) -> Terms:
    """Do the same steps plainly."""
    networks = plain.PlainNetworks(_width(weights)).train()
    noise, values = generators()
    found = []
    for kind in MASK_TYPES:
        networks.load_state_dict(weights)
        optimisers = networks.optimisers()
        batch = plain.plain_batch(items, sizes.crop, noise)
        draw = draw_of(kind)
        how = (draw.mask_type, draw.threshold)
        terms = plain.plain_step(networks, optimisers, batch, (how, how, values))
        found.append(terms | gradient_norms(networks))
        for optimiser in optimisers:
            optimiser.zero_grad()
    return found


def gradient_norms(networks: nn.Module) -> dict[str, float]:
    """Return the norm of each sub-network's gradient."""
    norms = {}
    for name in plain.PARTS:
        parts = [one.grad for one in getattr(networks, name).parameters() if one.grad is not None]
        norms[GRADIENT + name] = float(torch.cat([part.flatten() for part in parts]).norm())
    return norms


def draw_of(kind: str) -> MaskDraw:
    """Return the kind of mask with its share; dropout's is always a half."""
    return MaskDraw(kind, 0.5 if kind == "dropout" else SHARE)  # type: ignore[arg-type]  # a kind


def _width(weights: dict[str, torch.Tensor]) -> int:
    return len(weights["segmentation_decoder.final_conv.weight"][0])


def agree(expected: Terms, found: Terms, limits: Limits = SINGLE) -> bool:
    """Whether all loss terms and gradients of all steps are equal, up to rounding."""
    return all(
        one.keys() == other.keys()
        and all(math.isclose(one[name], other[name], rel_tol=limits.of(name)) for name in one)
        for one, other in zip(expected, found, strict=True)
    )


def measure(n_slices: int, sizes: Sizes, width: int, repeats: int = 3) -> Comparison:
    """Compare three steps; each slice is seen twice, augmented and as stored."""
    torch.set_num_threads(1)
    items = make_items(n_slices, sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = CooperativeNetworks(width).state_dict()
    product_steps(weights, items[:1], sizes)  # libraries and spline matrices are warm
    return compare(
        "B12 cooperative-step",
        lambda: reference_steps(weights, items, sizes),
        lambda: product_steps(weights, items, sizes),
        agree,
        repeats,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line; fails only where the losses differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slices", type=int, default=4, help="of a batch, before doubling")
    parser.add_argument("--window", type=int, default=224)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--width", type=int, default=16)
    given = parser.parse_args(arguments)
    found = measure(given.slices, Sizes(given.window, given.crop), given.width)
    return 0 if found.equal else 1


if __name__ == "__main__":
    sys.exit(main())
