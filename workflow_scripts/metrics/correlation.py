"""Do two columns of numbers go together? Pearson's r with its interval, and a line through points.

A case is a checkpoint, so there are few of them: 8 with a known ImageNet accuracy, 13 in all. The
interval says so; a small p among many pairs says little.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

NORMAL_95 = 1.959964  # two-sided 95 % quantile of the normal distribution
Floats = NDArray[np.float64]


class Correlation(NamedTuple):
    """Pearson's r of n points.

    Attributes:
        r: NaN with fewer than three points or without variation.
        p_value: two-sided, of no correlation between normal variables.
        low, high: 95 % interval by Fisher's transform; NaN with fewer than four points.
        n: points.
    """

    r: float
    p_value: float
    low: float
    high: float
    n: int


class Line(NamedTuple):
    """A line y = intercept + slope * x by weighted least squares.

    Attributes:
        slope, intercept: of the line.
        slope_error, intercept_error: square roots of the diagonal of their covariance, scaled by
            the scatter about the line (the errors of y count relatively).
        reduced_chi2: sum of ((y - line) / error)^2 over n - 2.
        n: points.
    """

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    reduced_chi2: float
    n: int


def pearson(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Return Pearson's correlation of the points where both numbers are defined.

    >>> pearson([1, 2, 3, 4], [2, 4, 6, 9]).r.__round__(4)
    0.9944
    """
    from scipy.special import betainc

    x, y = _defined(x, y)
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(math.nan, math.nan, math.nan, math.nan, n)
    u, v = x - x.mean(), y - y.mean()
    r = float(np.clip(u @ v / math.sqrt(float(u @ u) * float(v @ v)), -1, 1))
    p_value = float(betainc((n - 2) / 2, 0.5, 1 - r * r))  # Student's t with n - 2 degrees
    if n < 4 or abs(r) == 1:
        return Correlation(r, p_value, math.nan, math.nan, n)
    half = NORMAL_95 / math.sqrt(n - 3)  # of artanh(r)
    low, high = (math.tanh(math.atanh(r) + sign * half) for sign in (-1, 1))
    return Correlation(r, p_value, low, high, n)


def fit_line(x: ArrayLike, y: ArrayLike, error: ArrayLike | None = None) -> Line:
    """Return the line through points with errors in y.

    Args:
        x: shape (n,); points where x or y is NaN are left out.
        y: shape (n,).
        error: half width or standard deviation of y, above 0, shape (n,). None: all equal, and
            no reduced chi2.

    Returns:
        NaN with fewer than three points or where x does not vary.

    Source: SSL transfer, released notebook (golden `analysis_imagenet_vs_fewshot`), which is
    `scipy.optimize.curve_fit` with relative sigma.
    """
    given = error is not None
    points = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    sigma = np.asarray(error, dtype=np.float64) if given else np.ones(points[0].shape)
    keep = ~np.isnan(points[0] + points[1] + sigma)
    x, y, sigma = points[0][keep], points[1][keep], sigma[keep]
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or not (sigma > 0).all():
        return Line(math.nan, math.nan, math.nan, math.nan, math.nan, n)
    design = np.stack([x, np.ones(n)], axis=1) / sigma[:, None]  # (n, 2)
    inverse = np.linalg.inv(design.T @ design)
    slope, intercept = inverse @ design.T @ (y / sigma)
    chi2 = float(np.square((slope * x + intercept - y) / sigma).sum()) / (n - 2)
    slope_error, intercept_error = np.sqrt(chi2 * np.diag(inverse))
    return Line(
        float(slope), float(slope_error), float(intercept), float(intercept_error),
        chi2 if given else math.nan, n,
    )  # fmt: skip


def min_max_scaled(values: ArrayLike) -> Floats:
    """Return a column scaled to 0 (lowest) and 1 (highest); NaN stays NaN and sets neither end.

    A column without variation is undefined everywhere.

    >>> min_max_scaled([2.0, 4.0, float("nan"), 3.0])
    array([0. , 1. , nan, 0.5])
    """
    values = np.asarray(values, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if len(defined) == 0 or np.ptp(defined) == 0:
        return np.full(values.shape, math.nan)
    return np.asarray((values - defined.min()) / np.ptp(defined))


def _defined(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Return the points where both are numbers."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    keep = ~(np.isnan(x) | np.isnan(y))
    return x[keep], y[keep]
