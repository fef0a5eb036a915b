"""The two training losses of the paper; a network with several heads adds them up.

Source: spec section 4; golden `dice_loss`, `weighted_cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from workflow_scripts.layer_ensembles.protocols import Loss

Criterion = Callable[..., Tensor]  # logits (N, C, H, W), truth (N, H, W)
SMALL = 1e-7  # added to numerator and denominator; also the smallest denominator (released code)
BACKGROUND_WEIGHT = 0.1  # released code; LV, MYO and RV share the rest: 0.3 each


def in_full_precision(logits: Tensor) -> Tensor:
    """Return 16-bit logits of mixed precision as float32: sums over all pixels overflow in them."""
    return logits.float() if logits.element_size() < torch.float32.itemsize else logits


def dice_loss(logits: Tensor, truth: Tensor, *, all_classes: bool) -> Tensor:
    """Return one minus the Dice score of probabilities, pooled over batch and pixels.

    Args:
        logits: shape (N, C, H, W).
        truth: class of each pixel, shape (N, H, W), int64.
        all_classes: softmax, mean over all classes; otherwise the sigmoid of channel 1 alone
            (the paper's runs), so that channel 0 gets no gradient although prediction takes a
            softmax over both.

    A class absent from the batch contributes 0.
    """
    logits = in_full_precision(logits)
    one_hot = torch.nn.functional.one_hot(truth, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    if all_classes:
        p, y = logits.softmax(dim=1), one_hot
    else:
        p, y = logits[:, 1:2].sigmoid(), one_hot[:, 1:2]
    over = (0, 2, 3)
    shared, total = (p * y).sum(over), (p + y).sum(over)  # (classes,)
    dice = (2 * shared + SMALL) / (total + SMALL).clamp_min(SMALL)
    is_present = y.sum(over) > 0
    return ((1 - dice) * is_present).mean()


def weighted_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Return -sum_c w_c y_c log softmax_c, averaged over the number of pixels.

    The released code gives one-hot targets, for which torch divides by the number of pixels, not
    by the sum of their weights.

    Args:
        logits: shape (N, C, H, W), C at least 2.
        truth: class of each pixel, shape (N, H, W), int64.
    """
    logits = in_full_precision(logits)
    n_classes = logits.shape[1]
    weights = logits.new_full((n_classes,), (1 - BACKGROUND_WEIGHT) / (n_classes - 1))
    weights[0] = BACKGROUND_WEIGHT
    total = torch.nn.functional.cross_entropy(logits, truth, weight=weights, reduction="sum")
    return total / truth.numel()


def criterion_named(name: Loss) -> Criterion:
    """Return the loss of a protocol."""
    if name == "weighted_cross_entropy":
        return weighted_cross_entropy
    return partial(dice_loss, all_classes=name == "dice_all")
