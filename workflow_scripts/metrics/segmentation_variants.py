"""Other definitions of the 95 % Hausdorff distance, for comparison with other papers' numbers.

What our tables hold is in `segmentation.py`. Masks of one shape, both with foreground; distances
in the unit of the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics.segmentation import (
    HD_PERCENTILE,
    distances_to,
    surface_distances,
)

Mask = NDArray[np.bool_]


def directed_95(direction: int, a: Mask, b: Mask, spacing: Sequence[float]) -> float:
    """Return the 95th percentile of the surface distances from a to b (0), or from b to a (1)."""
    return float(np.percentile(surface_distances(a, b, spacing)[direction], HD_PERCENTILE))


def larger_percentile_95(a: Mask, b: Mask, spacing: Sequence[float]) -> float:
    """Return the larger of the two directed 95th percentiles."""
    return max(directed_95(direction, a, b, spacing) for direction in (0, 1))


def mean_percentile_95(a: Mask, b: Mask, spacing: Sequence[float]) -> float:
    """Return the mean of the two directed 95th percentiles."""
    return float(np.mean([directed_95(direction, a, b, spacing) for direction in (0, 1)]))


def pooled_voxel_percentile_95(a: Mask, b: Mask, spacing: Sequence[float]) -> float:
    """Return the 95th percentile of the distances of all foreground voxels, both directions."""
    there, back = distances_to(b, spacing)[a], distances_to(a, spacing)[b]
    return float(np.percentile(np.concatenate([there, back]), HD_PERCENTILE))
