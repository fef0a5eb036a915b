"""Average precision, and the ROC AUC of more than two classes by pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.classification import Metric, binary_roc_auc
from workflow_scripts.metrics.statistics import Counts, Floats, ManyStatistic


def average_precision(positive: ArrayLike, score: ArrayLike) -> Metric:
    """Return the area under the precision envelope, a fraction (PASCAL VOC, all points).

    The envelope at a recall is the best precision at that recall or a higher one. Equal scores
    count as one threshold. NaN without a positive.

    Args:
        positive: 1 or True for the positives, shape (N,).
        score: larger is likelier to be positive, shape (N,).

    Source: CROCODILE spec section 9 (golden `average_precision`); scikit-learn's average
    precision has no envelope and is never larger.

    >>> average_precision([1, 0, 1], [0.9, 0.8, 0.7]).value
    0.8333333333333333
    """
    truth = np.asarray(positive).astype(bool)
    scores = np.asarray(score, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN, so its rank is undefined")
    area = average_precision_of_draws(truth, scores, np.arange(len(truth)))
    return Metric(float(area(np.ones((1, len(truth)), dtype=np.int64))[0]), len(truth))


def average_precision_of_draws(
    positive: NDArray[np.bool_], score: Floats, place: Counts
) -> ManyStatistic:
    """Return a function from the patients' weights to the average precision of weighted cases.

    Args:
        positive: shape (N,).
        score: shape (N,).
        place: patient number of each case, shape (N,).
    """
    order = np.argsort(-score, kind="stable")
    ranked, positive, place = score[order], positive[order], place[order]
    # last case of each run of equal scores
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True]) if len(ranked) else order

    def areas(drawn: Counts) -> Floats:
        if not len(ends):
            return np.full(len(drawn), math.nan)
        weights = drawn[:, place]  # (R, N)
        found = np.cumsum(weights * positive, axis=1)[:, ends]
        named = np.cumsum(weights, axis=1)[:, ends]
        precision = found / np.maximum(named, 1)  # the first thresholds may have drawn nobody
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        gained = np.diff(found, axis=1, prepend=0)
        with np.errstate(invalid="ignore"):
            return np.asarray((gained * envelope).sum(axis=1) / found[:, -1])

    return areas


def roc_auc_of_draws(positive: NDArray[np.bool_], score: Floats, place: Counts) -> ManyStatistic:
    """Return a function from the patients' weights to the ROC AUC, ties counting half.

    Arguments as `average_precision_of_draws`; NaN where a resample lacks a class.
    """
    order = np.argsort(score, kind="stable")
    ranked, positive, place = score[order], positive[order], place[order]
    # first case of each run of equal scores
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else order

    def areas(drawn: Counts) -> Floats:
        if not len(starts):
            return np.full(len(drawn), math.nan)
        weights = drawn[:, place]  # (R, N)
        positives = np.add.reduceat(weights * positive, starts, axis=1)
        negatives = np.add.reduceat(weights * ~positive, starts, axis=1)
        below = np.cumsum(negatives, axis=1)
        # twice the wins plus the ties, in integers, so that no rounding enters
        won = 2 * (positives * below).sum(axis=1) - (positives * negatives).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(won / (2 * positives.sum(axis=1) * below[:, -1]))

    return areas


def one_vs_one_roc_auc(truth: ArrayLike, scores: ArrayLike) -> Metric:
    """Return the mean over pairs of classes of the ROC AUC among the cases of the two.

    For a pair (a, b) the mean of ranking by the score of a and by that of b, as scikit-learn's
    macro one-vs-one. NaN unless every class has a case.

    Args:
        truth: class index of each case, shape (N,), in 0..C-1.
        scores: probabilities or anything larger for likelier, shape (N, C).

    Source: CROCODILE spec section 9 (golden `domain_macro_ovo_auc`).
    """
    truth = np.asarray(truth, dtype=np.int64)
    scores = np.asarray(scores, dtype=np.float64)
    areas = []
    for a, b in itertools.combinations(range(scores.shape[1]), 2):
        chosen = (truth == a) | (truth == b)
        areas.append(binary_roc_auc(truth[chosen] == a, scores[chosen, a]).value)
        areas.append(binary_roc_auc(truth[chosen] == b, scores[chosen, b]).value)
    return Metric(float(np.mean(areas)) if areas else math.nan, len(truth))
