"""How far the chance that a classifier states is from what happens: ECE, Brier, reliability.

All functions are for one finding that is present or absent. The chance is that of its presence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.classification import Metric
from workflow_scripts.metrics.statistics import Counts, Floats, ManyStatistic

N_BINS = 15  # of equal width (Guo et al., 2017)


class Reliability(NamedTuple):
    """What was stated and what happened, by bin of the stated chance; NaN in an empty bin."""

    cases: Floats  # how many, shape (n_bins,)
    stated: Floats  # mean chance, shape (n_bins,)
    happened: Floats  # share in which the finding was present, shape (n_bins,)


def chance_of(logits: ArrayLike) -> Floats:
    """Return sigmoid(logits), any shape, without overflow.

    >>> chance_of([0.0, -1000.0]).tolist()
    [0.5, 0.0]
    """
    z = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + small), small / (1 + small))


def bin_of(chance: ArrayLike, n_bins: int = N_BINS) -> NDArray[np.int64]:
    """Return the bin of each chance; bin b holds (b / n_bins, (b + 1) / n_bins], the first 0 too.

    >>> bin_of([0.0, 0.1, 0.5, 1.0], 2).tolist()
    [0, 0, 0, 1]
    """
    number = np.ceil(np.asarray(chance, dtype=np.float64) * n_bins).astype(np.int64) - 1
    return np.clip(number, 0, n_bins - 1)


def reliability(present: ArrayLike, chance: ArrayLike, n_bins: int = N_BINS) -> Reliability:
    """Return what was stated and what happened, by bin.

    Args:
        present: 1 or True where the finding is there, shape (N,).
        chance: stated chance of its presence, in [0, 1], shape (N,).
        n_bins: of equal width.
    """
    truth, stated = _checked(present, chance)
    place = bin_of(stated, n_bins)
    count = np.bincount(place, minlength=n_bins).astype(np.float64)
    sums = [np.bincount(place, weights=values, minlength=n_bins) for values in (stated, truth)]
    with np.errstate(invalid="ignore"):
        return Reliability(count, sums[0] / count, sums[1] / count)


def expected_calibration_error(
    present: ArrayLike, chance: ArrayLike, n_bins: int = N_BINS
) -> Metric:
    """Return the expected calibration error of the chance of presence, a fraction.

    sum over bins of n_b / N * |mean stated chance - share present|: the form of Naeini et al.
    (2015) for a binary event, with bins of equal width over the chance itself (not over the
    confidence max(p, 1 - p)). NaN without a case.

    >>> expected_calibration_error([1, 0], [0.9, 0.9]).value
    0.4
    """
    truth, stated = _checked(present, chance)
    if len(truth) == 0:
        return Metric(math.nan, 0)
    everyone = np.ones((1, len(truth)), dtype=np.int64)
    error = ece_of_draws(truth == 1, stated, np.arange(len(truth)), n_bins)
    return Metric(float(error(everyone)[0]), len(truth))


def brier_score(present: ArrayLike, chance: ArrayLike) -> Metric:
    """Return the mean of (chance - present)^2, in [0, 1]; smaller is better. NaN without a case.

    >>> brier_score([1, 0], [0.5, 0.5]).value
    0.25
    """
    truth, stated = _checked(present, chance)
    if len(truth) == 0:
        return Metric(math.nan, 0)
    return Metric(float(np.mean((stated - truth) ** 2)), len(truth))


def ece_of_draws(
    present: NDArray[np.bool_], chance: Floats, place: Counts, n_bins: int = N_BINS
) -> ManyStatistic:
    """Return a function from the patients' weights to the ECE of the weighted cases.

    Args:
        present: shape (N,).
        chance: shape (N,).
        place: patient number of each case, shape (N,).
        n_bins: of equal width.
    """
    # Stated minus happened, summed by patient and bin; patients beyond the last have no case.
    n_patients = int(place.max(initial=-1)) + 1
    cell = place * n_bins + bin_of(chance, n_bins)
    gaps = np.bincount(cell, weights=chance - present, minlength=n_patients * n_bins)
    gaps = gaps.reshape(n_patients, n_bins)
    cases = np.bincount(place, minlength=n_patients)

    def errors(drawn: Counts) -> Floats:
        own = drawn[:, :n_patients]
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(own @ gaps).sum(axis=1) / (own @ cases))

    return errors


def calibrated_ece(
    chance: Floats, rng: np.random.Generator, n_draws: int, n_bins: int = N_BINS
) -> Floats:
    """Return the ECE that chance alone gives to a perfectly calibrated forecast, shape (n_draws,).

    What happens is drawn from the stated chances, all cases independent, so that every ECE above
    0 is sampling error. An ECE means something only beside it: with few cases it is never 0.

    Args:
        chance: stated, shape (N,).
        rng: source of the draws.
        n_draws: how many.
        n_bins: of equal width.
    """
    place = bin_of(chance, n_bins)
    found = np.empty(n_draws)
    for i in range(n_draws):
        gap = chance - (rng.random(len(chance)) < chance)
        found[i] = np.abs(np.bincount(place, weights=gap, minlength=n_bins)).sum()
    return found / max(len(chance), 1)


def brier_of_draws(present: NDArray[np.bool_], chance: Floats, place: Counts) -> ManyStatistic:
    """Return a function from the patients' weights to the Brier score; as `ece_of_draws`."""
    n_patients = int(place.max(initial=-1)) + 1
    squares = np.bincount(place, weights=(chance - present) ** 2, minlength=n_patients)
    cases = np.bincount(place, minlength=n_patients)

    def scores(drawn: Counts) -> Floats:
        own = drawn[:, :n_patients]
        with np.errstate(invalid="ignore"):
            return np.asarray(own @ squares / (own @ cases))

    return scores


def _checked(present: ArrayLike, chance: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as numbers; a chance outside [0, 1] or NaN is an error."""
    truth, stated = np.asarray(present, dtype=np.float64), np.asarray(chance, dtype=np.float64)
    if truth.shape != stated.shape or truth.ndim != 1:
        raise ValueError(f"present {truth.shape} and chance {stated.shape} must be (N,)")
    if not ((stated >= 0) & (stated <= 1)).all():
        raise ValueError("a chance lies outside 0 and 1, or is NaN")
    return truth, stated
