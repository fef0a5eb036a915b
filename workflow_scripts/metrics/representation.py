"""What two representations of the same images share, and what neighbours of an image say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.floating]
MIN_IMAGES = 4  # the unbiased estimate divides by N (N - 3)
CHUNK_BYTES = 1 << 28  # all similarities of CheXpert's test images would be 64 GB (ours)


class Alignment(NamedTuple):
    """Each image's share of the three sums of which linear CKA is made, shape (N,) each.

    CKA is sum(xy) / sqrt(sum(xx) * sum(yy)).
    """

    xy: Floats
    xx: Floats
    yy: Floats


def gram(features: Features) -> Floats:
    """Return the inner products of images, centred over the images; features (N, F)."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    return np.asarray(centred @ centred.T)


def alignment(x: Floats, y: Floats) -> Alignment:
    """Return the sums of linear CKA between two centred Gram matrices, shape (N, N) each.

    It is near 1 for any two representations with more features than images; compare
    `unbiased_alignment`.

    Source: Kornblith et al., Similarity of neural network representations revisited, 2019.

    >>> features = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]])
    >>> round(cka(alignment(gram(features), gram(3 * features + 1))), 12)
    1.0
    """
    return Alignment((x * y).sum(axis=1), (x * x).sum(axis=1), (y * y).sum(axis=1))


def unbiased_alignment(x: Floats, y: Floats) -> Alignment:
    """Return the sums of CKA with unbiased estimates, 0 on average for independent features.

    Args:
        x: centred Gram matrix, shape (N, N), N >= 4.
        y: the other one.

    Raises:
        ValueError: fewer than four images.

    Source: Song et al., Feature selection via dependence maximization, 2012, equation 5.
    """
    if len(x) < MIN_IMAGES:
        raise ValueError(f"expected at least {MIN_IMAGES} images, got {len(x)}")
    x, y = (matrix - np.diag(np.diag(matrix)) for matrix in (x, y))
    return Alignment(_unbiased(x, y), _unbiased(x, x), _unbiased(y, y))


def _unbiased(x: Floats, y: Floats) -> Floats:
    """Return the images' shares of N (N - 3) HSIC of Gram matrices without their diagonals."""
    n_images = len(x)
    rows_x, rows_y = x.sum(axis=1), y.sum(axis=1)
    total = rows_x.sum() * rows_y.sum() / ((n_images - 1) * (n_images - 2))
    return np.asarray((x * y).sum(axis=1) + total / n_images - 2 / (n_images - 2) * rows_x * rows_y)


def cka(sums: Alignment) -> float:
    """Return linear CKA; NaN where a representation does not vary over the images."""
    within = float(sums.xx.sum() * sums.yy.sum())
    both_vary = sums.xx.sum() > 0 and sums.yy.sum() > 0
    return float(sums.xy.sum()) / within**0.5 if both_vary else float("nan")


def neighbour_votes(
    train: Features,
    labels: NDArray[np.int64],
    query: Features,
    n_neighbours: int,
    temperature: float,
    n_classes: int,
    chunk_bytes: int = CHUNK_BYTES,
) -> Floats:
    """Return the share of the votes that each class gets from the nearest training images.

    A neighbour votes with exp(cosine / temperature); the features have no mean subtracted.

    Args:
        train: features of the training images, shape (N, F); a zero feature is similar to none.
        labels: their classes, shape (N,).
        query: features of the images to classify, shape (M, F).
        n_neighbours: at most N.
        temperature: larger makes the votes more equal.
        n_classes: C.
        chunk_bytes: bound on the similarities in work at a time, not on a single row.

    Returns:
        Shape (M, C); each row sums to 1. On a tie of distances the training image that stands
        first is taken.

    Source: Wu et al., Unsupervised feature learning via non-parametric instance discrimination,
    2018, section 3.4.

    >>> train = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    >>> query = np.array([[0.0, 9.0]])
    >>> neighbour_votes(train, np.array([0, 1, 1]), query, 2, 0.07, 2).round(3).tolist()
    [[0.0, 1.0]]
    """
    known, asked = _unit(train), _unit(query)
    votes = np.empty((len(asked), n_classes))
    step = max(1, chunk_bytes // (8 * max(1, len(known))))
    for start in range(0, len(asked), step):
        similarity = asked[start : start + step] @ known.T  # (part of M, N)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :n_neighbours]
        closeness = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((closeness - closeness[:, :1]) / temperature)  # the largest is 1
        for index in range(n_classes):
            chosen = np.where(labels[nearest] == index, weights, 0)
            votes[start : start + step, index] = chosen.sum(axis=1)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def _unit(features: Features) -> Floats:
    """Return the features with length 1; a zero stays a zero."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(features / np.where(lengths > 0, lengths, 1.0))
