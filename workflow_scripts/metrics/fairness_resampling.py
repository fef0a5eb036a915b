"""What a gap between groups is in other samples: patients drawn again, and groups dealt anew.

The bootstrap draws patients with replacement; its central 95 % is an interval. The permutation
deals the groups anew to whole patients: what a gap is then, chance alone gives. A function that
draws takes its generator; two that are given equal ones see the same resamples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.fairness import IN_GROUP, OUT_OF_GROUP, Counts, Floats
from workflow_scripts.metrics.statistics import resamples, weighted_roc_auc


class Units(NamedTuple):
    """Counts of what is drawn or shuffled as a whole: one patient's images in one group.

    Attributes:
        counts: cases by true and predicted label, shape (U, 2, 2).
        group: 1 or 0, shape (U,).
        patient: number of the patient, shape (U,).
        case: the unit of each case, shape (N,).
    """

    counts: Counts
    group: NDArray[np.int64]
    patient: NDArray[np.int64]
    case: NDArray[np.int64]


def units_of(
    group: ArrayLike, truth: ArrayLike, predicted: ArrayLike, patients: ArrayLike
) -> Units:
    """Return the counts of each patient in each group that the patient's images are in.

    A patient has one sex; an age group can change between two examinations.

    Args:
        group: 0 or 1, shape (N,).
        truth: 0 or 1, shape (N,).
        predicted: 0 or 1, shape (N,).
        patients: patient of each case, shape (N,), any type.
    """
    group = np.asarray(group, dtype=np.int64)
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    pairs, unit = np.unique(patient * 2 + group, return_inverse=True)
    place = unit * 4 + np.asarray(truth, np.int64) * 2 + np.asarray(predicted, np.int64)
    counts = np.bincount(place, minlength=4 * len(pairs)).reshape(-1, 2, 2)
    return Units(counts, pairs % 2, pairs // 2, unit)


def bootstrap_counts(units: Units, rng: np.random.Generator, n_resamples: int) -> Counts:
    """Return the counts of resamples in which patients are drawn with replacement.

    Returns:
        Shape (n_resamples, 2, 2, 2); `percentiles` turns a measure of it into an interval.
    """
    n_patients = int(units.patient.max(initial=-1)) + 1
    by_patient = np.zeros((n_patients, 2, 2, 2), dtype=np.int64)
    np.add.at(by_patient, (units.patient, units.group), units.counts)
    flat = by_patient.reshape(n_patients, 8)
    if n_patients == 0:
        return np.zeros((0, 2, 2, 2), dtype=np.int64)
    drawn = np.stack([weights @ flat for weights in resamples(n_patients, rng, n_resamples)])
    return drawn.reshape(-1, 2, 2, 2)


def permuted_counts(units: Units, rng: np.random.Generator, n_permutations: int) -> Counts:
    """Return the counts when groups are dealt anew to the units: the attribute says nothing.

    Units are shuffled whole, so that the images of a patient stay together.

    Returns:
        Shape (n_permutations, 2, 2, 2).
    """
    flat = units.counts.reshape(-1, 4)
    total = flat.sum(axis=0)
    dealt = np.stack(
        [rng.permutation(units.group) @ flat for _ in range(n_permutations)]
    )  # (R, 4): counts of the group
    return np.stack([total - dealt, dealt], axis=1).reshape(-1, 2, 2, 2)


class Null(NamedTuple):
    """What a gap is when the attribute says nothing.

    Attributes:
        mean: of the gap over permutations; NaN if never defined.
        high: 95 % quantile.
        p_value: share of permutations with a gap at least as large as found, the found one
            counted in; NaN where the found gap is undefined.
    """

    mean: float
    high: float
    p_value: float


def permutation_null(found: float, permuted: Floats) -> Null:
    """Return the null of a gap from its values under permutation, shape (R,), NaN left out.

    >>> permutation_null(0.5, np.array([0.0, 0.1, 0.2, 0.5]))
    Null(mean=0.2, high=0.4549999999999999, p_value=0.4)
    """
    known = permuted[~np.isnan(permuted)]
    if len(known) == 0:
        return Null(math.nan, math.nan, math.nan)
    # 1e-12: the same counts in another order of operations must count as equal
    as_large = int((known >= found - 1e-12).sum())
    p_value = math.nan if math.isnan(found) else (1 + as_large) / (1 + len(known))
    return Null(float(known.mean()), float(np.quantile(known, 0.95)), p_value)


def percentiles(values: Floats) -> tuple[float, float]:
    """Return the central 95 % of the defined values, NaN for fewer than two."""
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_aucs(
    units: Units, truth: ArrayLike, score: ArrayLike, rng: np.random.Generator, n_resamples: int
) -> Floats:
    """Return the ROC AUC of all cases, within the group and out of it, of each resample.

    With the generator that `bootstrap_counts` was given, the resamples are the same.

    Args:
        units: of the cases; both groups have some.
        truth: 0 or 1, shape (N,).
        score: larger is likelier positive, shape (N,).
        rng: the source of the resamples.
        n_resamples: how many, R.

    Returns:
        Shape (R, 3), NaN where a resample lacks a label.
    """
    truth, score = np.asarray(truth), np.asarray(score, np.float64)
    group, place = units.group[units.case], units.patient[units.case]
    masks = (np.ones(len(group), dtype=bool), group == IN_GROUP, group == OUT_OF_GROUP)
    areas = [weighted_roc_auc(truth[mask] == 1, score[mask], place[mask]) for mask in masks]
    drawn = resamples(int(units.patient.max()) + 1, rng, n_resamples)
    return np.array([[area(weights) for area in areas] for weights in drawn]).reshape(-1, 3)


def bootstrap_leak(
    units: Units, margin: ArrayLike, rng: np.random.Generator, n_resamples: int
) -> Floats:
    """Return accuracy and ROC AUC of telling the group from a margin, of each resample.

    Args:
        units: of the cases.
        margin: above 0 says `in`, shape (N,).
        rng: the source of the resamples.
        n_resamples: how many, R.

    Returns:
        Shape (R, 2); the AUC is NaN where a resample lacks a group.
    """
    margin = np.asarray(margin, np.float64)
    group, place = units.group[units.case], units.patient[units.case]
    n_patients = int(units.patient.max()) + 1
    right = np.bincount(place, weights=(margin > 0) == group, minlength=n_patients)
    size = np.bincount(place, minlength=n_patients)
    area = weighted_roc_auc(group == IN_GROUP, margin, place)
    drawn = resamples(n_patients, rng, n_resamples)
    return np.array([[one @ right / (one @ size), area(one)] for one in drawn]).reshape(-1, 2)


def permuted_auc_gaps(
    units: Units, truth: ArrayLike, score: ArrayLike, rng: np.random.Generator, n_permutations: int
) -> Floats:
    """Return |difference of the groups' ROC AUC| when groups are dealt anew to the units.

    Arguments as `bootstrap_aucs`; shape (n_permutations,), NaN where a group lacks a label.
    """
    area = weighted_roc_auc(np.asarray(truth) == 1, np.asarray(score, np.float64), units.case)
    dealt = (rng.permutation(units.group) for _ in range(n_permutations))
    return np.array([abs(area(group) - area(1 - group)) for group in dealt])
