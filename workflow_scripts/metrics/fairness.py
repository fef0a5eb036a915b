"""Group fairness of a two-class classifier: gaps, their intervals, and what chance alone gives.

Everything that depends on predicted classes is a function of eight counts, `counts[..., g, y, p]`:
cases of group g (1: has the attribute, such as male; 0: has not), true label y and predicted
label p. Leading axes are resamples, so a bootstrap is one matrix product. A rate without a case
is NaN and can never win a minimum or maximum.

Source: debiased noise spec section 9 (golden `H_fairness`). The released code prints `eo_n`,
`eo_p` and a "DI" that is a ratio of true-positive rates; what is usually called disparate impact
is a ratio of positive rates. Both are here, under different names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.classification import binary_roc_auc

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Measure = Callable[[Counts], Floats]

ATTRIBUTES = {  # as the manifest names them -> as tables say who is in the group
    "sex": "sex",
    "age_years": "age over 60",
    "race": "race White",
}
IN_GROUP, OUT_OF_GROUP = 1, 0
NEGATIVE, POSITIVE = 0, 1


def outcome_counts(group: ArrayLike, truth: ArrayLike, predicted: ArrayLike) -> Counts:
    """Return `counts[g, y, p]`, shape (2, 2, 2).

    Args:
        group: 1 where the case has the attribute, 0 where it has not, shape (N,).
        truth: label 0 or 1, shape (N,).
        predicted: label 0 or 1, shape (N,).

    Raises:
        ValueError: for other values or unequal lengths; unknown groups are left out before.

    >>> outcome_counts([1, 1, 0], [0, 1, 1], [0, 0, 1])[1].tolist()
    [[1, 0], [1, 0]]
    """
    columns = [np.asarray(column) for column in (group, truth, predicted)]
    if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
        raise ValueError(f"expected three arrays (N,), got {[c.shape for c in columns]}")
    if any(not np.isin(column, (0, 1)).all() for column in columns):
        raise ValueError("group, truth and prediction must be 0 or 1 for every case")
    place = columns[0].astype(np.int64) * 4 + columns[1].astype(np.int64) * 2 + columns[2]
    return np.bincount(place.astype(np.int64), minlength=8).reshape(2, 2, 2)


def _ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Return part / whole, NaN where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    undefined = np.full(whole.shape, math.nan)
    ratio: Floats = np.divide(part, whole, out=undefined, where=whole > 0)
    return ratio


def subgroup_accuracy(counts: Counts) -> Floats:
    """Return the accuracy of each group and label, shape (..., 2, 2): `[..., g, y]`.

    Subgroups hold one label, so `[..., 1]` are true-positive and `[..., 0]` true-negative rates.
    """
    right = np.stack([counts[..., label, label] for label in (NEGATIVE, POSITIVE)], axis=-1)
    return _ratio(right, counts.sum(axis=-1))


def positive_rate(counts: Counts) -> Floats:
    """Return the share of each group that is predicted positive, shape (..., 2)."""
    return _ratio(counts[..., POSITIVE].sum(axis=-1), counts.sum(axis=(-1, -2)))


def accuracy(counts: Counts) -> Floats:
    """Return the share of all cases predicted right, shape (...)."""
    right = counts[..., 0, 0] + counts[..., 1, 1]  # (..., G)
    return _ratio(right.sum(axis=-1), counts.sum(axis=(-1, -2, -3)))


def group_accuracy(counts: Counts) -> Floats:
    """Return the accuracy of each group over both labels, shape (..., 2)."""
    return _ratio(counts[..., 0, 0] + counts[..., 1, 1], counts.sum(axis=(-1, -2)))


def eo_n(counts: Counts) -> Floats:
    """Return |accuracy difference of the groups on negatives|: the false-positive-rate gap."""
    rates = subgroup_accuracy(counts)[..., NEGATIVE]
    return np.abs(rates[..., IN_GROUP] - rates[..., OUT_OF_GROUP])


def eo_p(counts: Counts) -> Floats:
    """Return |accuracy difference of the groups on positives|: the equal-opportunity gap."""
    rates = subgroup_accuracy(counts)[..., POSITIVE]
    return np.abs(rates[..., IN_GROUP] - rates[..., OUT_OF_GROUP])


def coded_di_signed(counts: Counts) -> Floats:
    """Return 1 - TPR_in / TPR_out, what the released code prints as DI; NaN where TPR_out is 0."""
    rates = subgroup_accuracy(counts)[..., POSITIVE]
    return 1 - _ratio(rates[..., IN_GROUP], rates[..., OUT_OF_GROUP])


def coded_di(counts: Counts) -> Floats:
    """Return |1 - TPR_in / TPR_out|, the |1-DI| of the paper's tables."""
    return np.abs(coded_di_signed(counts))


def demographic_parity(counts: Counts) -> Floats:
    """Return |difference of the positive rates|."""
    rates = positive_rate(counts)
    return np.abs(rates[..., IN_GROUP] - rates[..., OUT_OF_GROUP])


def disparate_impact(counts: Counts) -> Floats:
    """Return |1 - PR_in / PR_out|; NaN where no case out of the group is predicted positive."""
    rates = positive_rate(counts)
    return np.abs(1 - _ratio(rates[..., IN_GROUP], rates[..., OUT_OF_GROUP]))


def equalized_odds_max(counts: Counts) -> Floats:
    """Return the larger of the gaps on negatives and positives; NaN unless both are defined."""
    return np.maximum(eo_n(counts), eo_p(counts))


def equalized_odds_mean(counts: Counts) -> Floats:
    """Return the mean of the gaps on negatives and positives; NaN unless both are defined."""
    return (eo_n(counts) + eo_p(counts)) / 2


def accuracy_gap(counts: Counts) -> Floats:
    """Return |accuracy difference of the groups| over both labels."""
    rates = group_accuracy(counts)
    return np.abs(rates[..., IN_GROUP] - rates[..., OUT_OF_GROUP])


def worst_subgroup(counts: Counts) -> Floats:
    """Return the lowest *defined* accuracy of the four subgroups; NaN if none is defined."""
    rates = subgroup_accuracy(counts).reshape(*counts.shape[:-3], 4)
    lowest = np.where(np.isnan(rates), np.inf, rates).min(axis=-1)
    return np.where(np.isinf(lowest), math.nan, lowest)


def worst_subgroup_count(counts: Counts) -> int:
    """Return how many cases the worst subgroup has (the smallest one on a tie); counts (2, 2, 2).

    0 if no subgroup is defined.
    """
    rates = subgroup_accuracy(counts).reshape(4)
    sizes = counts.sum(axis=-1).reshape(4)
    worst = rates == worst_subgroup(counts)
    return int(sizes[worst].min()) if worst.any() else 0


def is_constant(counts: Counts) -> bool:
    """Tell whether every case is predicted the same: then EO is 0 and means nothing."""
    return bool((counts.sum(axis=(-2, -3)) == 0).any())


GAPS: dict[str, Measure] = {  # 0 is fair; each stands beside its permutation null
    "eo_n": eo_n,
    "eo_p": eo_p,
    "coded_di": coded_di,
    "disparate_impact": disparate_impact,
    "demographic_parity": demographic_parity,
    "equalized_odds": equalized_odds_max,
    "equalized_odds_mean": equalized_odds_mean,
    "accuracy_gap": accuracy_gap,
}
LEVELS: dict[str, Measure] = {"accuracy": accuracy, "worst_subgroup": worst_subgroup}


def group_auc(group: ArrayLike, truth: ArrayLike, score: ArrayLike) -> tuple[float, float]:
    """Return the ROC AUC within the group and out of it; NaN where one label is absent.

    Args:
        group: 0 or 1, shape (N,).
        truth: 0 or 1, shape (N,).
        score: larger is likelier positive, shape (N,).
    """
    group, truth, score = np.asarray(group), np.asarray(truth), np.asarray(score)
    inside, outside = (
        binary_roc_auc(truth[group == value], score[group == value]).value
        for value in (IN_GROUP, OUT_OF_GROUP)
    )
    return inside, outside


def auc_gap(group: ArrayLike, truth: ArrayLike, score: ArrayLike) -> float:
    """Return |difference of the groups' ROC AUC|; arguments as `group_auc`."""
    inside, outside = group_auc(group, truth, score)
    return abs(inside - outside)


class Detection(NamedTuple):
    """Accuracy, precision, recall and F1 of the positive class; NaN where undefined."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def detection(truth: ArrayLike, predicted: ArrayLike) -> Detection:
    """Return how well label 1 is found; labels 0 or 1, shape (N,).

    >>> detection([1, 0, 1], [1, 1, 0])
    Detection(accuracy=0.3333333333333333, precision=0.5, recall=0.5, f1=0.5)

    Source: released report of the attribute classifier, 1 = male (golden `Q_sa_metrics`).
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    hits = float(((truth == 1) & (predicted == 1)).sum())
    right = float((truth == predicted).sum())
    share = [
        float(_ratio(part, whole))
        for part, whole in (
            (right, len(truth)),
            (hits, (predicted == 1).sum()),
            (hits, (truth == 1).sum()),
            (2 * hits, (truth == 1).sum() + (predicted == 1).sum()),
        )
    ]
    return Detection(*share)
