"""Latent masking: which parts of a code are weakened to make a hard example.

Three kinds: whole channels dropped at random, or the channels or places whose change would raise
the decoder's loss most, by its gradient. All randomness is an argument. Source: spec section 7,
golden `latent_masking`, `dropout_masking`, `random_mask_type_sequence`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from workflow_scripts.cooperative_training.networks import map_of_labels

MaskType = Literal["dropout", "spatial", "channel"]
MASK_TYPES: tuple[MaskType, ...] = ("dropout", "spatial", "channel")  # order of the shuffle
SOFT_LIMIT = 0.5  # a softly masked entry is multiplied by U(0, 0.5)


class Uniform(Protocol):
    """A generator of U(0, 1), such as NumPy's."""

    def random(self) -> float:
        """Return the next number."""
        ...


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How one kind of code is masked (configuration of the released code, both codes alike)."""

    mask_type: Literal["random", "dropout", "spatial", "channel"] = "random"
    max_threshold: float = 0.5  # largest share of entries that are masked
    has_random_threshold: bool = True  # the share is U(0, 1) times that, else that
    is_soft: bool = True  # masked entries times U(0, 0.5), else 0

    def __post_init__(self) -> None:
        if self.mask_type not in ("random", *MASK_TYPES):
            raise ValueError(f"mask_type: expected random, {MASK_TYPES}, got {self.mask_type!r}")
        if not 0 <= self.max_threshold < 1:
            raise ValueError(f"max_threshold: expected 0 <= share < 1, got {self.max_threshold}")


@dataclass(frozen=True, slots=True)
class MaskDraw:
    """What is drawn once for a batch: the kind of mask and the share of masked entries."""

    mask_type: MaskType
    threshold: float


def draw_mask(options: MaskOptions, kinds: random.Random, shares: Uniform) -> MaskDraw:
    """Draw kind and share of one batch's mask.

    Dropout's rate is always `max_threshold`, whatever the share (as released).

    Args:
        options: of this code.
        kinds: shuffles the three kinds; used when the type is `random`.
        shares: gives U(0, 1); used by the targeted kinds when the threshold is random.
    """
    mask_type = draw_mask_type(kinds) if options.mask_type == "random" else options.mask_type
    if mask_type == "dropout" or not options.has_random_threshold:
        return MaskDraw(mask_type, options.max_threshold)
    return MaskDraw(mask_type, options.max_threshold * shares.random())


def draw_mask_type(kinds: random.Random) -> MaskType:
    """Return the first of the three kinds after a shuffle."""
    order = list(MASK_TYPES)
    kinds.shuffle(order)
    return order[0]


def drop_channels(code: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zero each channel of each case with chance `rate`; the others are divided by 1 - rate.

    Args:
        code: shape (N, C, h, w).
        rate: below 1.
        generator: source of the draws, on the code's device; None is torch's own.
    """
    kept = torch.empty((*code.shape[:2], 1, 1), dtype=code.dtype, device=code.device)
    kept.bernoulli_(1 - rate, generator=generator)
    return code * kept.div_(1 - rate)


def targeted_mask(
    gradient: Tensor, draw: MaskDraw, is_soft: bool, generator: torch.Generator | None
) -> Tensor:
    """Return the factor of each channel or place of a code.

    The entries with the largest *signed* mean gradient are masked: int(L * threshold) of L, fewer
    where scores tie.

    Args:
        gradient: of the decoder's loss with respect to the code, shape (N, C, h, w).
        draw: kind `channel` or `spatial`, and threshold below 1.
        is_soft: masked entries are U(0, 0.5), else 0; the others are 1.
        generator: source of the soft values, as for `drop_channels`.

    Returns:
        Shape (N, C, 1, 1) or (N, 1, h, w).

    Raises:
        ValueError: another kind, or a threshold of 1 (the released code fails on it as well).
    """
    if draw.mask_type not in ("channel", "spatial") or not 0 <= draw.threshold < 1:
        raise ValueError(f"targeted mask: {draw}")
    axes = (2, 3) if draw.mask_type == "channel" else (1,)
    score = gradient.mean(dim=axes)  # (N, C) or (N, h, w)
    flat = score.flatten(1)
    n_masked = int(flat.shape[1] * draw.threshold)
    limit = flat.sort(dim=1, descending=True).values[:, n_masked]
    is_masked = (flat > limit[:, None]).reshape(score.shape)
    if is_soft:
        weak = torch.rand(
            score.shape, dtype=score.dtype, device=score.device, generator=generator
        ).mul_(SOFT_LIMIT)
    else:
        weak = torch.zeros_like(score)
    factor = torch.where(is_masked, weak, torch.ones_like(score))
    shape = (
        (*score.shape, 1, 1) if draw.mask_type == "channel" else (len(score), 1, *score.shape[1:])
    )
    return factor.reshape(shape)


def self_challenge(output: Tensor, labels: Tensor) -> Tensor:
    """Return mean(output * one-hot): the loss `corr`, the released function's default.

    Args:
        output: logits, shape (N, C, H, W).
        labels: shape (N, H, W).
    """
    return (output * map_of_labels(labels, output.shape[1])).mean()
