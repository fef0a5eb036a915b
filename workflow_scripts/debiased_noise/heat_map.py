"""Where an edit acts: the smoothed noise above its 0.8 quantile.

Source: an older revision of the demonstration notebook (spec section 13, golden `P_heatmap`). The
notebook then divides by the mean intensity of the test images and casts to 8 bits, where large
values wrap around to dark; that cast is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate2d

Floats = NDArray[np.float64]
KERNEL_SIZE, SIGMA, QUANTILE = 16, 3.0, 0.8  # notebook: pixels, pixels, share below


class HeatMap(NamedTuple):
    """The smoothed edit, the threshold, and what lies above it (0 elsewhere)."""

    smoothed: Floats  # (H + 1, W + 1)
    threshold: float
    above: Floats  # (H + 1, W + 1)


def gaussian_kernel(size: int, sigma: float) -> Floats:
    """Return a normalised Gaussian whose peak is at index size // 2, shape (size, size)."""
    offsets = np.arange(size) - size // 2
    line = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel = np.outer(line, line)
    return np.asarray(kernel / kernel.sum())


def heat_map(
    noise: NDArray[np.floating],
    kernel_size: int = KERNEL_SIZE,
    sigma: float = SIGMA,
    quantile: float = QUANTILE,
) -> HeatMap:
    """Return the heat map of an edit, shape (H, W); the result is one pixel larger."""
    padded = np.pad(noise.astype(np.float64), kernel_size // 2)
    smoothed: Floats = correlate2d(padded, gaussian_kernel(kernel_size, sigma), mode="valid")
    threshold = float(np.quantile(smoothed, quantile))
    return HeatMap(smoothed, threshold, np.where(smoothed > threshold, smoothed, 0.0))
