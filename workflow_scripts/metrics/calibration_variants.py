"""Other definitions of the expected calibration error, for comparison with other papers' numbers.

What our tables hold is in `calibration.py`. Every function takes the true class (N,), the stated
chances (N, C), how bins are cut and their number; a bin holds (low, high], the first its low too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Edges = Callable[[Floats, int], Floats]  # from stated chances (N,) and n to n + 1 edges


def equal_width_edges(stated: Floats, n_bins: int) -> Floats:
    """Return edges of bins of equal width over [0, 1]; `stated` does not matter."""
    del stated
    return np.linspace(0.0, 1.0, n_bins + 1)


def equal_mass_edges(stated: Floats, n_bins: int) -> Floats:
    """Return edges of bins with (nearly) the same number of cases."""
    edges = np.quantile(stated, np.linspace(0.0, 1.0, n_bins + 1))
    edges[0], edges[-1] = 0.0, 1.0
    return edges


def bin_gaps(happened: NDArray[np.bool_], stated: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Return |mean stated - share happened| and the share of the cases of each bin with a case.

    Args:
        happened: shape (N,).
        stated: chances, shape (N,).
        edges: ascending, shape (B + 1,).
    """
    place = np.clip(np.searchsorted(edges, stated, side="left") - 1, 0, len(edges) - 2)
    count = np.bincount(place, minlength=len(edges) - 1)
    gap = np.bincount(place, weights=stated - happened, minlength=len(edges) - 1)
    used = count > 0
    return np.abs(gap[used] / count[used]), count[used] / len(stated)


def top_label_ece(truth: Labels, chance: Floats, edges: Edges, n_bins: int) -> float:
    """Return the ECE of the confidence max_c p_c in being right (Guo et al., 2017)."""
    gaps, shares = _top_label(truth, chance, edges, n_bins)
    return float(gaps @ shares)


def root_mean_square_error(truth: Labels, chance: Floats, edges: Edges, n_bins: int) -> float:
    """Return the root of the mean square gap of the confidence (Hendrycks et al., 2019)."""
    gaps, shares = _top_label(truth, chance, edges, n_bins)
    return math.sqrt(float(gaps**2 @ shares))


def maximum_error(truth: Labels, chance: Floats, edges: Edges, n_bins: int) -> float:
    """Return the largest gap of the confidence in any bin with a case (MCE)."""
    return float(_top_label(truth, chance, edges, n_bins)[0].max())


def classwise_ece(truth: Labels, chance: Floats, edges: Edges, n_bins: int) -> float:
    """Return the mean over classes of the ECE of each class's chance (Kull et al., 2019)."""
    errors = []
    for number, stated in enumerate(chance.T):
        gaps, shares = bin_gaps(truth == number, stated, edges(stated, n_bins))
        errors.append(float(gaps @ shares))
    return float(np.mean(errors))


def _top_label(truth: Labels, chance: Floats, edges: Edges, n_bins: int) -> tuple[Floats, Floats]:
    confidence = chance.max(axis=1)
    return bin_gaps(chance.argmax(axis=1) == truth, confidence, edges(confidence, n_bins))
