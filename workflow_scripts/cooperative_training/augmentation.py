"""The augmentation policy of the paper, `ACDC_affine_elastic_intensity`, on batches of slices.

What happens to a case is drawn with the case's own stream (`draw_case`), wherever it is loaded;
`augment` then does it to a batch on the training's device. Source: spec section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workflow_scripts.cooperative_training.warps import (
    affine_matrices,
    affine_places,
    elastic,
    sample_linear,
    sample_nearest,
    smooth,
)

RANGE_EPSILON = 1e-8  # of the slice's min-max (golden `slice_minmax`)
N_TURNS = 8  # multiples of 45 degrees


@dataclass(frozen=True, slots=True)
class Policy:
    """How strongly slices are augmented; the defaults are the paper's policy (spec section 5)."""

    flip_chance: float = 0.2  # of each of the two flips
    jitter_chance: float = 0.5
    jitter_scale: tuple[float, float] = (0.8, 1.2)
    jitter_shift: tuple[float, float] = (-0.1, 0.1)
    rotation_degrees: float = 15.0  # U(-15, 15)
    shift_share: float = 0.1  # of height and width, U(-0.1, 0.1) each
    zoom: tuple[float, float] = (0.8, 1.1)  # of height and width, below 1 magnifies
    has_turns: bool = True  # a multiple of 45 degrees, always
    elastic_chance: float = 0.5
    elastic_alpha: tuple[float, float] = (1.5, 2.0)  # times the height
    elastic_sigma: tuple[float, float] = (0.075, 0.15)  # times the height: U(0.1, 0.2) * 0.75


NO_AUGMENTATION = Policy(
    flip_chance=0,
    jitter_chance=0,
    rotation_degrees=0,
    shift_share=0,
    zoom=(1.0, 1.0),
    has_turns=False,
    elastic_chance=0,
)


class CaseDraw(NamedTuple):
    """What happens to one slice.

    Attributes:
        numbers: flip left-right, flip up-down, jitter?, scale, shift, angle in degrees, shift of
            rows and columns (shares), zoom of rows and columns, turn in degrees, elastic?,
            alpha, sigma (pixels); shape (14,), float64.
        noise: U(-1, 1) for rows and columns, shape (2, H, W), float32; None without elastic.
    """

    numbers: NDArray[np.float64]
    noise: NDArray[np.float32] | None


class BatchDraw(NamedTuple):
    """The draws of a batch: numbers (N, 14), and noise of the elastic cases (E, 2, H, W)."""

    numbers: Tensor
    noise: Tensor


def draw_case(rng: np.random.Generator, policy: Policy, size: int) -> CaseDraw:
    """Draw what happens to one slice of `size` x `size` pixels."""
    uniform = rng.uniform
    is_elastic = uniform() < policy.elastic_chance
    numbers = np.array(
        [
            *(uniform(size=2) < policy.flip_chance),
            uniform() < policy.jitter_chance,
            uniform(*policy.jitter_scale),
            uniform(*policy.jitter_shift),
            uniform(-policy.rotation_degrees, policy.rotation_degrees),
            *uniform(-policy.shift_share, policy.shift_share, 2),
            *uniform(*policy.zoom, 2),
            45 * int(rng.integers(N_TURNS)) if policy.has_turns else 0,
            is_elastic,
            size * uniform(*policy.elastic_alpha),
            size * uniform(*policy.elastic_sigma),
        ],
        dtype=np.float64,
    )
    noise = uniform(-1, 1, (2, size, size)).astype(np.float32) if is_elastic else None
    return CaseDraw(numbers, noise)


def join_draws(draws: list[CaseDraw], size: int) -> BatchDraw:
    """Join the draws of a batch of slices of `size` x `size` pixels."""
    noise = [draw.noise for draw in draws if draw.noise is not None]
    return BatchDraw(
        torch.from_numpy(np.stack([draw.numbers for draw in draws])),
        torch.from_numpy(np.stack(noise)) if noise else torch.empty(0, 2, size, size),
    )


def augment(
    images: Tensor, labels: Tensor, draw: BatchDraw, n_classes: int
) -> tuple[Tensor, Tensor]:
    """Flip, jitter, move and bend a batch.

    Args:
        images: shape (N, S, S), float32.
        labels: shape (N, S, S), int64.
        draw: of these slices, on the same device.
        n_classes: background included.

    Returns:
        Images and labels of the same shapes, neither cropped nor rescaled.
    """
    flips, turns = draw.numbers[:, :2].bool(), draw.numbers[:, 10]
    images, labels = (flip(values, flips) for values in (images, labels))
    images = jitter(images, draw.numbers[:, 2].bool(), draw.numbers[:, 3], draw.numbers[:, 4])
    size = (images.shape[1], images.shape[2])
    still, plain = torch.zeros_like(draw.numbers[:, :2]), torch.ones_like(draw.numbers[:, :2])
    steps = (
        (draw.numbers[:, 5], draw.numbers[:, 6:8], draw.numbers[:, 8:10]),
        (turns, still, plain),
    )
    for degrees, shift, zoom in steps:  # two interpolations, one after the other, as released
        places = affine_places(*affine_matrices(degrees, shift, zoom, size), size)
        images, labels = sample_linear(images, places), sample_nearest(labels, places)
    return bend(images, labels, draw, n_classes)


def flip(values: Tensor, flips: Tensor) -> Tensor:
    """Reverse columns (first flag) and rows (second flag) of slices (N, H, W); flags (N, 2)."""
    values = torch.where(flips[:, 0, None, None], values.flip(2), values)
    return torch.where(flips[:, 1, None, None], values.flip(1), values)


def jitter(images: Tensor, is_on: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale and shift slices (N, H, W), clipped to each slice's own range; flags and factors (N,).

    The min-max that follows undoes it but for what was clipped (as released).
    """
    low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
    factor, offset = (one.to(images.dtype)[:, None, None] for one in (scale, shift))
    changed = torch.clamp(images * factor + offset, low, high)
    return torch.where(is_on[:, None, None], changed, images)


def bend(images: Tensor, labels: Tensor, draw: BatchDraw, n_classes: int) -> tuple[Tensor, Tensor]:
    """Deform those slices of a batch that were drawn to be."""
    is_elastic = draw.numbers[:, 11].bool()
    if not len(draw.noise):
        return images, labels
    alpha, sigma = draw.numbers[is_elastic, 12], draw.numbers[is_elastic, 13]
    field = smooth(draw.noise.double(), sigma) * alpha[:, None, None, None]
    bent = elastic(images[is_elastic], labels[is_elastic], field, n_classes)
    images, labels = images.clone(), labels.clone()
    images[is_elastic], labels[is_elastic] = bent
    return images, labels


def rescale(images: Tensor) -> Tensor:
    """Map each slice's range to [0, 1]; a constant slice becomes 0; shape (N, H, W)."""
    low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
    return (images - low) / (high - low + RANGE_EPSILON)
