"""How little a feature moves when its image is transformed: cosine and Mahalanobis distance.

Features differ in scale and are correlated, so they are whitened first: with the mean m and the
covariance C of the clean features, x -> (m - x) L, where L L^T is the inverse of C. In these
coordinates the clean features have identity covariance, and one product serves both measures:

    similarity  S_j = cos(a, b_j)         a = (m - z) L,  b_j = (m - z_j) L
    distance    D_j = |a - b_j|           = sqrt((z - z_j) C^-1 (z - z_j)^T)

for the clean feature z of an image and the features z_j of its transformed versions.
Source: SSL transfer, spec 11.1 and 11.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.floating]
Covariance = Literal["sample", "shrunk"]
EPSILON = 1e-6  # added to the variance of every direction (released code)
CHUNK_ROWS = 4096  # features turned into float64 at a time


@dataclass(frozen=True, slots=True)
class Whitening:
    """Coordinates in which the clean features have identity covariance.

    Attributes:
        mean: of the clean features, shape (F,).
        factor: lower Cholesky factor L of the inverse covariance, shape (F, F).
        n_images: features behind mean and covariance.
        shrinkage: weight of the scaled identity in the covariance, 0 to 1.
    """

    mean: Floats
    factor: Floats
    n_images: int
    shrinkage: float

    @property
    def is_rank_deficient(self) -> bool:
        """Whether the sample covariance has directions without any variance: n <= F."""
        return self.n_images <= len(self.mean)

    def __call__(self, features: Features) -> Floats:
        """Return (m - x) L for features of shape (N, F): the only large product."""
        return (self.mean - features.astype(np.float64)) @ self.factor


class Scores(NamedTuple):
    """Of each transformed version of each image, shape (N, K).

    Attributes:
        cosine: of the features as they are; NaN where one of them is zero.
        whitened_cosine: of the whitened features; NaN where one of them is the mean.
        mahalanobis: distance of the whitened features, at least 0.
    """

    cosine: Floats
    whitened_cosine: Floats
    mahalanobis: Floats


def whitening(features: Features, covariance: Covariance = "sample") -> Whitening:
    """Return the whitening that clean features define.

    Args:
        features: shape (N, F), finite, N >= 2.
        covariance: `sample`: as the released code, ddof 1; with N <= F its null directions get
            the variance `EPSILON` and swamp all others. `shrunk`: towards the scaled identity by
            the weight of Ledoit and Wolf, which vanishes for many images and stays invertible
            for few.

    Raises:
        ValueError: fewer than two images.

    Source: released code (golden `invariance_metrics`); Ledoit and Wolf, 2004.
    """
    n_images, n_features = features.shape
    if n_images < 2:
        raise ValueError(f"expected at least two images for a covariance, got {n_images}")
    mean: Floats = features.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((n_features, n_features))  # sum over images of x^T x
    fourth = 0.0  # sum over images of |x|^4
    for start in range(0, n_images, CHUNK_ROWS):
        centred = features[start : start + CHUNK_ROWS].astype(np.float64) - mean
        scatter += centred.T @ centred
        fourth += float(np.square(np.square(centred).sum(axis=1)).sum())
    shrinkage = 0.0
    matrix: Floats = scatter / (n_images - 1)
    if covariance == "shrunk":
        shrinkage = shrinkage_weight(scatter / n_images, fourth / n_images, n_images)
        level = np.trace(matrix) / n_features
        matrix = np.asarray((1 - shrinkage) * matrix + shrinkage * level * np.eye(n_features))
    inverse = np.linalg.inv(matrix + EPSILON * np.eye(n_features))
    symmetric = (inverse + inverse.T) / 2  # as the inverse is, up to dust
    factor: Floats = np.linalg.cholesky(symmetric).astype(np.float64)
    return Whitening(mean, factor, n_images, shrinkage)


def shrinkage_weight(covariance: Floats, mean_fourth: float, n_images: int) -> float:
    """Return the weight of the scaled identity that minimises the expected squared error.

    Args:
        covariance: of N images with ddof 0, shape (F, F).
        mean_fourth: mean over the images of |x - m|^4.
        n_images: N.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance
    matrices, 2004, equations of section 3.3: beta^2 / delta^2, at most 1.
    """
    n_features = len(covariance)
    squared = float(np.square(covariance).sum())
    level = np.trace(covariance) / n_features
    delta = squared - n_features * level**2  # |S - level I|^2
    beta = (mean_fourth - squared) / n_images  # expected error of S
    return float(min(max(beta / delta, 0.0), 1.0)) if delta > 0 else 1.0


def invariance_scores(clean: Features, transformed: Features, to_white: Whitening) -> Scores:
    """Return the scores of all transformed versions of some images.

    Args:
        clean: features of the images, shape (N, F).
        transformed: features of their K transformed versions, shape (N, K, F).
        to_white: as `whitening` gives it.
    """
    n_images, n_views, n_features = transformed.shape
    a = to_white(clean)[:, None]  # (N, 1, F)
    b = to_white(transformed.reshape(-1, n_features)).reshape(n_images, n_views, -1)
    distance = np.sqrt(np.square(a - b).sum(axis=-1))
    return Scores(cosines(clean[:, None], transformed), cosines(a, b), distance)


def cosines(a: Features, b: Features) -> Floats:
    """Return the cosine of vectors along the last axis, the others broadcast; NaN for a zero.

    >>> cosines(np.array([1.0, 0.0]), np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])).round(3)
    array([1.   , 0.707,   nan])
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    products = (a * b).sum(axis=-1)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    undefined = np.full(products.shape, np.nan)
    return np.asarray(np.divide(products, lengths, out=undefined, where=lengths > 0))


def reported(scores: Floats) -> float:
    """Return the mean over images (NaN ignored), then over transformed versions; scores (N, K).

    NaN where a version has no defined score at all.

    >>> reported(np.array([[1.0, 0.0], [np.nan, 0.5]]))
    0.625
    """
    defined = ~np.isnan(scores)
    counts = defined.sum(axis=0)
    if not counts.all():
        return float("nan")
    return float((np.where(defined, scores, 0).sum(axis=0) / counts).mean())
