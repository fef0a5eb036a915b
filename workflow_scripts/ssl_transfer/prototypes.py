"""Few-shot classification by the nearest class prototype, all episodes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.ssl_transfer.episodes import Episodes

Floats = NDArray[np.float64]
CHUNK_BYTES = 1 << 21  # query features in work at a time: fits a core's cache (measured)
NEAR_TIE = 1e-5  # relative; float32 features differ by about 1e-6 between batch sizes


def squared_distances(
    features: NDArray[np.floating], episodes: Episodes, chunk_bytes: int = CHUNK_BYTES
) -> Floats:
    """Return the squared Euclidean distance of each query to each prototype of its episode.

    The prototype of a class is the mean of its support features. Sums run in float64 over
    differences, so that equal prototypes give exactly equal distances and a float32 reference
    can only disagree on near ties (`count_near_ties`).

    Args:
        features: features of the pool, shape (N, F).
        episodes: pool rows of every episode.
        chunk_bytes: bound on the float64 copy of the query features.

    Returns:
        shape (episodes, way, query, way): class of the query, query, class of the prototype.

    Source: prototypical networks without normalisation or temperature; SSL transfer, few-shot.
    """
    n_episodes, n_way, n_query = episodes.query.shape
    distances = np.empty((n_episodes, n_way, n_query, n_way))
    step = max(1, chunk_bytes // (n_way * n_query * features.shape[1] * 8))
    for start in range(0, n_episodes, step):
        part = slice(start, start + step)
        prototypes = features[episodes.support[part]].mean(axis=2, dtype=np.float64)
        query = features[episodes.query[part]].astype(np.float64)
        for way in range(n_way):
            difference = query - prototypes[:, way, None, None, :]
            distances[part, :, :, way] = np.einsum("ecqf,ecqf->ecq", difference, difference)
    return distances


@dataclass(frozen=True, slots=True)
class EpisodeScores:
    """How the episodes went: per episode shape (episodes,), per query (episodes, way, query)."""

    prediction: NDArray[np.int64]
    accuracy: Floats
    loss: Floats


def score_episodes(distances: Floats) -> EpisodeScores:
    """Classify every query by its nearest prototype; a tie goes to the lower class of the episode.

    Args:
        distances: squared distances, shape (episodes, way, query, way).

    Returns:
        Predicted class of the episode, fraction of correct queries, and mean negative
        log-likelihood under softmax(-distance).

    >>> tie = np.array([[[[1.0, 1.0]], [[1.0, 1.0]]]])  # one query of each of two classes
    >>> scores = score_episodes(tie)
    >>> scores.prediction.tolist(), scores.accuracy.tolist(), round(float(scores.loss[0]), 4)
    ([[[0], [0]]], [0.5], 0.6931)
    """
    n_way = distances.shape[1]
    prediction = distances.argmin(axis=-1)
    truth = np.arange(n_way)[:, None]
    # log softmax(-d) of the true class is -(d_true - d_min) - log sum exp(-(d - d_min))
    above_best = distances - distances.min(axis=-1, keepdims=True)
    own = np.take_along_axis(above_best, truth[None, :, :, None], axis=-1)[..., 0]
    loss = own + np.log(np.exp(-above_best).sum(axis=-1))
    return EpisodeScores(
        prediction, (prediction == truth).mean(axis=(1, 2)), loss.mean(axis=(1, 2))
    )


def count_near_ties(distances: Floats, relative: float = NEAR_TIE) -> int:
    """Count queries whose two nearest prototypes are so close that rounding may decide.

    Exact ties are left out: the lower class wins them in any arithmetic.
    """
    nearest = np.partition(distances, 1, axis=-1)
    gap = nearest[..., 1] - nearest[..., 0]
    return int(((gap > 0) & (gap <= relative * nearest[..., 1])).sum())
