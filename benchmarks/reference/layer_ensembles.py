"""Uncertainty metrics the way the newest released commit works, written from its description.

Agreement of heads comes from a helper that also computes two Hausdorff distances with k-d trees,
over all non-zero entries of *soft* probabilities, and uses the Dice score alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
EPSILON = 1e-5


def _distances(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    first, second = np.argwhere(a), np.argwhere(b)
    return cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask & ~binary_erosion(mask, generate_binary_structure(mask.ndim, 1))


def segmentation_metrics(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float, float]:
    """Return Dice, Hausdorff and modified Hausdorff distance of the non-zero entries."""
    first, second = a.astype(bool), b.astype(bool)
    total = first.sum() + second.sum()
    dice = 2 * (first & second).sum() / total if total else 0.0
    there, back = _distances(_border(first), _border(second))
    far, near = _distances(first, second)
    return float(dice), max(there.max(), back.max()), max(far.mean(), near.mean())


def uncertainty_metrics(logits: Floats, truth: NDArray[np.int64]) -> list[float]:
    """Return entropy, mutual information, variance, NLL and minus AULA of one image.

    Args:
        logits: shape (T, C, H, W).
        truth: shape (H, W).
    """
    soft = np.stack([np.exp(one - one.max(0)) / np.exp(one - one.max(0)).sum(0) for one in logits])
    mean = soft.mean(axis=0)
    entropy = -np.sum(mean * np.log(mean + EPSILON), axis=0)
    each = np.stack([-np.sum(one * np.log(one + EPSILON), axis=0) for one in soft])
    variance = soft.argmax(axis=1).var(axis=0)
    nll = -np.log(np.take_along_axis(mean, truth[None], axis=0) + EPSILON).mean()
    agreements = [segmentation_metrics(soft[t, 1], soft[t + 1, 1])[0] for t in range(len(soft) - 1)]
    area = np.trapezoid(agreements, dx=1)
    sums = [entropy.sum(), (entropy - each.mean(axis=0)).sum(), variance.sum()]
    return [*map(float, sums), float(nll), -float(area)]
