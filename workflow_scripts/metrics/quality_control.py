"""Segmentation quality control: how many bad cases are left when the most suspicious are flagged.

Source: spec section 8; golden `qc_curve`, `qc_curve_multiclass`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
GRID = 50  # fractions flagged, 0 to 1 (released code)


def fractions() -> Floats:
    """Return the fractions flagged, shape (50,)."""
    return np.linspace(0, 1, GRID)


def quality_control_curve(is_bad: ArrayLike, suspicion: ArrayLike) -> Floats:
    """Return the share of cases that are bad and not flagged, for each fraction flagged.

    The most suspicious int(N * fraction) cases are flagged; equal suspicion keeps the cases'
    order. With NaN among the suspicions the curve is undefined (NaN).

    Args:
        is_bad: shape (N,), whether a case's Dice is below the threshold.
        suspicion: larger is more suspicious, shape (N,).

    Returns:
        Shares of N, shape (50,); falls from the share of bad cases to 0.
    """
    bad, score = np.asarray(is_bad, dtype=bool), np.asarray(suspicion, np.float64)
    if len(bad) == 0 or np.isnan(score).any():
        return np.full(GRID, math.nan)
    order = np.argsort(-score, kind="stable")
    left = np.append(np.cumsum(bad[order][::-1])[::-1], 0)  # bad among those from position i on
    flagged = (len(bad) * fractions()).astype(int)
    return np.asarray(left[flagged] / len(bad), dtype=np.float64)


def area_under(curve: Floats) -> float:
    """Return the area under a curve over the fractions flagged; small is good."""
    return float((curve[1:] + curve[:-1]).sum() / 2 / (GRID - 1))


def flagged_until(curve: Floats, level: float) -> float:
    """Return the smallest fraction flagged that leaves at most `level` bad; NaN if undefined."""
    reached = np.flatnonzero(curve <= level)
    return float(fractions()[reached[0]]) if len(reached) else math.nan


class ReferenceLines(NamedTuple):
    """What the curves of a figure are seen against.

    Attributes:
        start: the largest share of bad cases of all methods; the random line falls from it,
            (0, start) to (1, 0), and so does the ideal.
        corner: fraction flagged at which flagging by the true Dice leaves no bad case that it
            could flag, of the first method.
        lowest: the share of bad cases that it leaves.
    """

    start: float
    corner: float
    lowest: float


def reference_lines(ideals: Sequence[Floats]) -> ReferenceLines:
    """Return the lines for curves of several methods flagged in the order of their true Dice.

    As the released figure of hearts; that of lesions starts the ideal at the methods' mean.
    """
    return ReferenceLines(max(float(curve[0]) for curve in ideals), *ideal_corner(ideals[0]))


def ideal_corner(curve: Floats) -> tuple[float, float]:
    """Return where a curve first reaches its smallest value: fraction flagged, and that value.

    Args:
        curve: of cases flagged in the order of their true Dice.
    """
    at = int(curve.argmin())
    return float(fractions()[at]), float(curve[at])
