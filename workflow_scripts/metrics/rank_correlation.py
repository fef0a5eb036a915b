"""Spearman's rank correlation, and how sure it is when patients are drawn anew."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.statistics import (
    N_RESAMPLES,
    Interval,
    patient_numbers,
    percentile_interval,
)

Floats = NDArray[np.float64]
FEWEST = 3  # pairs; with two the correlation is always 1 or -1


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return the correlation of average ranks, shapes (N,); NaN where it is undefined.

    Pairs with a value that is not finite are left out. Undefined with fewer than three pairs, or
    where one side does not vary. Golden `spearman`.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
    1.0
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    usable = np.isfinite(x) & np.isfinite(y)
    return _of_finite(x[usable], y[usable])


def _of_finite(x: Floats, y: Floats) -> float:
    from scipy.stats import rankdata

    if len(x) < FEWEST:
        return math.nan
    a, b = rankdata(x), rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(a @ b / size, -1.0, 1.0)) if size > 0 else math.nan


def bootstrap_spearman(
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike,
    rng: np.random.Generator,
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return the percentile interval of `spearman` when patients are drawn anew.

    A resample in which it is undefined is left out and counted.

    Args:
        first: values, shape (N,).
        second: values of the same cases, shape (N,).
        patients: patient of each case, shape (N,), any type.
        rng: the source of the resamples.
        n_resamples: how many.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    usable = np.isfinite(x) & np.isfinite(y)
    x, y = x[usable], y[usable]
    place, n_patients = patient_numbers(np.asarray(patients)[usable])
    rows = np.arange(len(x))

    def statistic(drawn: NDArray[np.int64]) -> float:
        again = np.repeat(rows, drawn[place])
        return _of_finite(x[again], y[again])

    return percentile_interval(statistic, n_patients, rng, n_resamples)
