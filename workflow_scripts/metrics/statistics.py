"""How sure a number is: episode intervals, spread over seeds, bootstrap over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.classification import class_margins

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
NORMAL_95 = 1.96  # two-sided 95 % quantile of the normal distribution, as the papers round it
CONFIDENCE = 0.95
BLOCK_CASES = 2_000_000  # resamples x cases worked out at a time: 16 MB a column (ours)
N_RESAMPLES = 2000  # ours: the percentile of a bound then wavers by about 0.5 %


class MeanInterval(NamedTuple):
    """A mean, the half width of its 95 % interval, and the number of values behind both."""

    mean: float
    half_width: float
    n: int


class Interval(NamedTuple):
    """A percentile bootstrap interval.

    Attributes:
        low: lower bound; NaN where undefined.
        high: upper bound; NaN where undefined.
        patients: patients that were resampled.
        resamples: resamples in which the metric was defined; the bounds rest on these.
    """

    low: float
    high: float
    patients: int
    resamples: int


Statistic = Callable[[Counts], float]
# from how often each patient was drawn in each of R resamples, shape (R, P), to R values
ManyStatistic = Callable[[Counts], Floats]


def mean_interval(values: ArrayLike) -> MeanInterval:
    """Return mean and 1.96 * std / sqrt(n) (ddof 0) of independent values, shape (n,).

    >>> mean_interval([0.5, 0.7])
    MeanInterval(mean=0.6, half_width=0.138..., n=2)

    Source: SSL transfer, released code (golden `fewshot_ci`). NaN without a value.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        return MeanInterval(math.nan, math.nan, 0)
    half_width = NORMAL_95 * float(values.std()) / math.sqrt(len(values))
    return MeanInterval(float(values.mean()), half_width, len(values))


def seed_spread(values: ArrayLike) -> float:
    """Return the standard deviation (ddof 1) over seeds, shape (S,); NaN for fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.std(ddof=1)) if len(values) >= 2 else math.nan


def bootstrap_accuracy(
    truth: ArrayLike,
    prediction: ArrayLike,
    patients: ArrayLike,
    rng: np.random.Generator,
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return the interval of the accuracy when patients are drawn anew.

    Args:
        truth: class index of each case, shape (N,).
        prediction: predicted class index, shape (N,).
        patients: patient of each case, shape (N,), any type.
        rng: the source of the resamples.
        n_resamples: how many.
    """
    correct = np.asarray(truth) == np.asarray(prediction)
    place, n_patients = patient_numbers(patients)
    right = np.bincount(place[correct], minlength=n_patients)
    total = np.bincount(place, minlength=n_patients)
    return percentile_interval(
        lambda drawn: float(drawn @ right / (drawn @ total)), n_patients, rng, n_resamples
    )


def bootstrap_mean_per_class_accuracy(
    truth: ArrayLike,
    prediction: ArrayLike,
    patients: ArrayLike,
    rng: np.random.Generator,
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return the interval of the mean recall over the classes that a resample holds.

    Arguments as `bootstrap_accuracy`.
    """
    truth, prediction = np.asarray(truth, dtype=np.int64), np.asarray(prediction, dtype=np.int64)
    place, n_patients = patient_numbers(patients)
    n_classes = int(truth.max(initial=0)) + 1
    shape = (n_patients, n_classes)
    cell = place * n_classes + truth
    total = np.bincount(cell, minlength=n_patients * n_classes).reshape(shape)
    right = np.bincount(cell[truth == prediction], minlength=total.size).reshape(shape)

    def statistic(drawn: Counts) -> float:
        totals = drawn @ total
        present = totals > 0
        return float(((drawn @ right)[present] / totals[present]).mean())

    return percentile_interval(statistic, n_patients, rng, n_resamples)


def bootstrap_roc_auc(
    truth: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    rng: np.random.Generator,
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return the interval of the ROC AUC; a resample that lacks a class is left out and counted.

    Cases are sorted once; a resample only reweights them.

    Args:
        truth: class index of each case, shape (N,).
        scores: as for `classification.roc_auc`, shape (N, C).
        patients: patient of each case, shape (N,), any type.
        rng: the source of the resamples.
        n_resamples: how many.
    """
    truth = np.asarray(truth, dtype=np.int64)
    place, n_patients = patient_numbers(patients)
    columns = class_margins(scores)
    positives = (
        [truth == 1]
        if columns.shape[1] == 1
        else [truth == index for index in range(columns.shape[1])]
    )
    areas = [
        weighted_roc_auc(positive, column, place)
        for positive, column in zip(positives, columns.T, strict=True)
    ]
    return percentile_interval(
        lambda drawn: float(np.mean([area(drawn) for area in areas])),
        n_patients,
        rng,
        n_resamples,
    )


def weighted_roc_auc(positive: NDArray[np.bool_], score: Floats, place: Counts) -> Statistic:
    """Return a function from the patients' weights to the ROC AUC of the weighted cases.

    Args:
        positive: shape (N,).
        score: shape (N,).
        place: patient number of each case, shape (N,).
    """
    order = np.argsort(score, kind="stable")
    ranked, positive, place = score[order], positive[order], place[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # of each run of equal scores
    has_ties = len(starts) < len(ranked)

    def area(drawn: Counts) -> float:
        weights = drawn[place]
        positives = weights * positive
        negatives = weights - positives
        if has_ties:
            positives = np.add.reduceat(positives, starts)
            negatives = np.add.reduceat(negatives, starts)
        below = np.cumsum(negatives)
        n_pairs = int(positives.sum()) * int(below[-1])
        # twice the wins plus the ties, in integers, so that no rounding enters
        won = 2 * int(positives @ below) - int(positives @ negatives)
        return won / (2 * n_pairs) if n_pairs else math.nan

    return area


def patient_numbers(patients: ArrayLike) -> tuple[Counts, int]:
    """Return each case's patient as a number 0, 1, ..., and the number of patients."""
    values, place = np.unique(np.asarray(patients), return_inverse=True)
    return place.astype(np.int64), len(values)


def percentile_interval(
    statistic: Statistic, n_patients: int, rng: np.random.Generator, n_resamples: int
) -> Interval:
    """Draw patients with replacement and return the central 95 % of the statistic.

    Args:
        statistic: from how often each patient was drawn, shape (n_patients,), to a value.
        n_patients: below two nothing can vary, so the bounds are NaN, not a point.
        rng: the source of the resamples.
        n_resamples: how many.
    """
    if n_patients < 2:
        return Interval(math.nan, math.nan, n_patients, 0)
    values = np.fromiter(map(statistic, resamples(n_patients, rng, n_resamples)), np.float64)
    return central_interval(values, n_patients)


def central_interval(values: Floats, n_patients: int) -> Interval:
    """Return the central 95 % of a statistic's defined values over the resamples.

    Args:
        values: one a resample, NaN where undefined, shape (n_resamples,).
        n_patients: that were drawn from; below two the bounds are NaN.
    """
    values = values[~np.isnan(values)]
    if n_patients < 2 or len(values) == 0:
        return Interval(math.nan, math.nan, n_patients, 0)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high), n_patients, len(values))


def resamples(n_patients: int, rng: np.random.Generator, n_resamples: int) -> Iterator[Counts]:
    """Yield for each resample how often each patient was drawn, shape (n_patients,)."""
    for _ in range(n_resamples):
        yield np.bincount(rng.integers(n_patients, size=n_patients), minlength=n_patients)


class PairedTest(NamedTuple):
    """A two-sided Wilcoxon signed-rank test of paired values.

    Attributes:
        p_value: NaN where no pair differs.
        effect: matched-pairs rank-biserial correlation in [-1, 1]: the share of the ranks' sum
            that favours the first, minus the share that favours the second; NaN as above.
        median_difference: of first minus second, over all pairs; NaN without a pair.
        n: pairs that differ; the test rests on these.
        n_pairs: pairs with a value on both sides; the others are left out.
    """

    p_value: float
    effect: float
    median_difference: float
    n: int
    n_pairs: int


EXACT_PAIRS = 50  # up to here, and without ties or zeros, all sign patterns are counted (SciPy)


def paired_wilcoxon(first: ArrayLike, second: ArrayLike) -> PairedTest:
    """Test whether paired values differ; pairs that are equal are dropped (Wilcoxon's rule).

    Exact for up to 50 different pairs without ties, else the normal approximation with its tie
    correction, without continuity correction: SciPy's own choice varies with its version.

    Args:
        first: values, shape (N,); larger than `second` gives a positive effect.
        second: values of the same cases, shape (N,). A pair with NaN is left out; an infinite
            value counts as larger than every finite one.

    Source: layer ensembles, released analysis (golden `wilcoxon`).
    """
    from scipy.stats import rankdata, wilcoxon

    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    with np.errstate(invalid="ignore"):  # both infinite: equal
        difference = np.where(first == second, 0.0, first - second)
    difference = difference[~np.isnan(difference)]
    changed = difference[difference != 0]
    n_pairs, n = len(difference), len(changed)
    if n == 0:
        median = 0.0 if n_pairs else math.nan
        return PairedTest(math.nan, math.nan, median, 0, n_pairs)
    size = np.abs(changed)
    is_exact = n == n_pairs and n <= EXACT_PAIRS and len(np.unique(size)) == n
    ranks = rankdata(size)
    effect = float((ranks[changed > 0].sum() - ranks[changed < 0].sum()) / ranks.sum())
    # ranks in place of differences: the same test, and defined where one is infinite
    method = "exact" if is_exact else "asymptotic"
    p_value = float(wilcoxon(np.sign(changed) * ranks, method=method).pvalue)
    with np.errstate(invalid="ignore"):  # a median between +inf and -inf is undefined
        median = float(np.median(difference))
    return PairedTest(p_value, effect, median, n, n_pairs)


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted for their number by Holm's method, shape (N,); NaN stays NaN.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    raw = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(raw), math.nan)
    order = np.argsort(raw, kind="stable")  # NaN last
    order = order[: int(np.isfinite(raw).sum())]
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def resampled(
    statistics: Sequence[ManyStatistic], n_patients: int, rng: np.random.Generator,
    n_resamples: int, n_cases: int,
) -> Floats:  # fmt: skip
    """Return the values of several statistics on the same resamples, shape (n_resamples, M).

    Args:
        statistics: M of them.
        n_patients: that are drawn from.
        rng: the source of the resamples.
        n_resamples: how many.
        n_cases: behind a statistic; so many resamples are worked out at a time as fit in memory.
    """
    size = max(1, BLOCK_CASES // max(n_cases, n_patients))
    draws = resamples(n_patients, rng, n_resamples)
    blocks = []
    while block := list(islice(draws, size)):
        drawn = np.stack(block)
        blocks.append(np.stack([statistic(drawn) for statistic in statistics], axis=1))
    return np.concatenate(blocks) if blocks else np.empty((0, len(statistics)))
