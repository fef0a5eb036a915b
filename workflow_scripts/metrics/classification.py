"""Accuracy, mean per-class accuracy and ROC AUC; undefined is NaN, with its number of cases."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]
DUST = 1e-9  # chances that sum to 1 as closely are log-probabilities already (ours)


class Metric(NamedTuple):
    """A value and what it rests on.

    Attributes:
        value: the metric, a fraction in [0, 1]; NaN where it is undefined.
        n: cases it was computed on.
    """

    value: float
    n: int


def predicted_class(scores: ArrayLike) -> Labels:
    """Return the class of the highest score, the lowest class on a tie; scores (N, C)."""
    best: Labels = np.asarray(scores, dtype=np.float64).argmax(axis=1).astype(np.int64)
    return best


def accuracy(truth: ArrayLike, prediction: ArrayLike) -> Metric:
    """Return the fraction of correct predictions; class indices, shape (N,); NaN without a case.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    Metric(value=0.75, n=4)
    """
    truth, prediction = _labels(truth, prediction)
    return Metric(float((truth == prediction).mean()) if len(truth) else math.nan, len(truth))


def mean_per_class_accuracy(
    truth: ArrayLike, prediction: ArrayLike, undefined_recall_is_nan: bool = False
) -> Metric:
    """Return the mean of the classes' recalls, so that a rare class weighs as much as a common one.

    Args:
        truth: class index of each case, shape (N,).
        prediction: predicted class index, shape (N,).
        undefined_recall_is_nan: the released code averages over the classes in truth or
            prediction; one that is only predicted has the recall 0/0 and makes the mean NaN.
            False: over the classes in truth (`sklearn.metrics.balanced_accuracy_score`).

    >>> mean_per_class_accuracy([0, 1, 1, 0], [0, 1, 2, 0]).value
    0.75
    >>> mean_per_class_accuracy([0, 1, 1, 0], [0, 1, 2, 0], undefined_recall_is_nan=True).value
    nan

    Source: SSL transfer, released code (golden `metrics`).
    """
    truth, prediction = _labels(truth, prediction)
    if len(truth) == 0:
        return Metric(math.nan, 0)
    totals = np.bincount(truth)
    recalls = (
        np.bincount(truth[truth == prediction], minlength=len(totals))[totals > 0]
        / (totals[totals > 0])
    )
    if undefined_recall_is_nan and not np.isin(prediction, truth).all():
        return Metric(math.nan, len(truth))
    return Metric(float(recalls.mean()), len(truth))


def roc_auc(truth: ArrayLike, scores: ArrayLike) -> Metric:
    """Return the area under the ROC curve, ties counting half.

    Two classes: the chance that a case of class 1 has the larger score margin (score 1 - score 0)
    than a case of class 0. More classes: the mean over classes of one against the rest, each by
    the probability softmax(scores) of the class.

    Args:
        truth: class index of each case, shape (N,), in 0..C-1.
        scores: logits or log-probabilities, shape (N, C), C >= 2; larger is likelier.

    Returns:
        NaN unless every class has a case and every class lacks one.

    >>> roc_auc([0, 0, 1, 1], [[0, 1], [0, 3], [0, 2], [0, 4]])
    Metric(value=0.75, n=4)
    """
    truth, columns = np.asarray(truth, dtype=np.int64), class_margins(scores)
    if columns.shape[1] == 1:
        return binary_roc_auc(truth, columns[:, 0])
    areas = [binary_roc_auc(truth == index, column) for index, column in enumerate(columns.T)]
    return Metric(float(np.mean([area.value for area in areas])), len(truth))


def binary_roc_auc(positive: ArrayLike, score: ArrayLike) -> Metric:
    """Return the chance that a positive scores higher than a negative, ties counting half.

    Args:
        positive: 1 or True for the positives, shape (N,).
        score: shape (N,); larger is likelier to be positive. The released code gives the
            predicted class here, which makes it (sensitivity + specificity) / 2.

    Returns:
        NaN without a positive or without a negative.

    Source: the Mann-Whitney statistic from mid-ranks.
    """
    positive = np.asarray(positive).astype(bool)
    score = np.asarray(score, dtype=np.float64)
    if np.isnan(score).any():
        raise ValueError("a score is NaN, so its rank is undefined")
    n_positive = int(positive.sum())
    n_pairs = n_positive * (len(positive) - n_positive)
    if n_pairs == 0:
        return Metric(math.nan, len(positive))
    values, place = np.unique(score, return_inverse=True)
    positives = np.bincount(place, weights=positive, minlength=len(values))
    negatives = np.bincount(place, weights=~positive, minlength=len(values))
    won = positives @ (np.cumsum(negatives) - negatives / 2)  # wins and half of the ties
    return Metric(float(won) / n_pairs, len(positive))


def margin_loss(positive: ArrayLike, margin: ArrayLike) -> Floats:
    """Return the softmax cross-entropy of each two-class case, shape (N,).

    Args:
        positive: whether its class is the second, shape (N,).
        margin: logit of the second class minus that of the first, shape (N,).

    >>> margin_loss([1, 0], [0.0, 0.0]).round(4).tolist()
    [0.6931, 0.6931]
    """
    sign = np.where(np.asarray(positive, dtype=bool), 1.0, -1.0)
    loss: Floats = np.logaddexp(0.0, -sign * np.asarray(margin, dtype=np.float64))
    return loss


def class_margins(scores: ArrayLike) -> Floats:
    """Return the columns that ROC AUC ranks: the margin of two classes, or log softmax of more.

    Log-probabilities are taken as they are: to normalise them again would break their ties (the
    images in whose kNN vote a class has no neighbour) by rounding dust.

    Args:
        scores: logits or log-probabilities, shape (N, C).

    Returns:
        shape (N, 1) for two classes, else (N, C).
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"scores must have the shape (N, C) with C >= 2, not {scores.shape}")
    if scores.shape[1] == 2:
        margin: Floats = scores[:, 1:] - scores[:, :1]
        return margin
    highest = scores.max(axis=1, keepdims=True)
    shifted: Floats = scores - highest
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    if np.all(np.abs(log_sum + highest) <= DUST):
        return scores
    return np.asarray(shifted - log_sum)


def _labels(truth: ArrayLike, prediction: ArrayLike) -> tuple[Labels, Labels]:
    """Return both as class indices of one length."""
    truth, prediction = np.asarray(truth, dtype=np.int64), np.asarray(prediction, dtype=np.int64)
    if truth.shape != prediction.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} must be (N,)")
    return truth, prediction
