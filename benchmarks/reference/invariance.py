"""Invariance scores the plain way: for each view two matrix products, one for each measure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cosine, mahalanobis

Floats = NDArray[np.float64]


def scores(
    clean: Floats, transformed: Floats, mean: Floats, inverse: Floats, factor: Floats
) -> tuple[Floats, Floats]:
    """Return whitened cosine and Mahalanobis distance, shape (N, K) each.

    Args:
        clean: shape (N, F).
        transformed: shape (N, K, F).
        mean: of the clean features, shape (F,).
        inverse: of their covariance, shape (F, F).
        factor: its lower Cholesky factor.
    """
    similarity, distance = np.empty((2, *transformed.shape[:2]))
    for i, z in enumerate(clean):
        for j, moved in enumerate(transformed[i]):
            similarity[i, j] = 1 - cosine((mean - z) @ factor, (mean - moved) @ factor)
            distance[i, j] = mahalanobis(z, moved, inverse)
    return similarity, distance
