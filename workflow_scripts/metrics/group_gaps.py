"""Gaps between two groups of patients in any measure, and what chance alone gives.

The null deals the groups anew to whole patients, so that images of one patient stay together.
`fairness.py` does the same for gaps that are functions of eight counts, much faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.fairness import Null, permutation_null
from workflow_scripts.metrics.statistics import Floats

# from which cases are in the group, shape (N,), to the signed gap, group minus others
Gap = Callable[[NDArray[np.bool_]], float]


def gap_of_means(values: ArrayLike) -> Gap:
    """Return the gap of the mean of `values`, shape (N,); NaN is left out, a group of NaN is NaN.

    >>> gap_of_means([1.0, 0.0, 0.5])(np.array([True, False, False]))
    0.75
    """
    numbers = np.asarray(values, dtype=np.float64)
    usable = np.isfinite(numbers)

    def gap(inside: NDArray[np.bool_]) -> float:
        first, second = numbers[inside & usable], numbers[~inside & usable]
        if len(first) == 0 or len(second) == 0:
            return math.nan
        return float(first.mean() - second.mean())

    return gap


def permuted_gaps(
    gap: Gap, inside: NDArray[np.bool_], patients: ArrayLike, rng: np.random.Generator,
    n_permutations: int,
) -> Floats:  # fmt: skip
    """Return the gap's size when groups are dealt anew to the patients, shape (R,).

    Args:
        gap: from membership of the cases to the signed gap.
        inside: who is in the group, shape (N,).
        patients: patient of each case, shape (N,). A patient with cases in both groups (an age
            that changed between two examinations) is dealt as two units.
        rng: the source of the permutations.
        n_permutations: R.
    """
    names = np.asarray(patients).astype(str)
    _, unit = np.unique(np.char.add(names, np.where(inside, "+", "-")), return_inverse=True)
    of_unit = np.zeros(int(unit.max(initial=-1)) + 1, dtype=bool)
    of_unit[unit] = inside
    dealt = (abs(gap(rng.permutation(of_unit)[unit])) for _ in range(n_permutations))
    return np.fromiter(dealt, np.float64, n_permutations)


def gap_with_null(
    gap: Gap, inside: NDArray[np.bool_], patients: ArrayLike, rng: np.random.Generator,
    n_permutations: int,
) -> tuple[float, Null]:  # fmt: skip
    """Return the size of a gap beside its permutation null; arguments as `permuted_gaps`."""
    found = abs(gap(inside))
    return found, permutation_null(found, permuted_gaps(gap, inside, patients, rng, n_permutations))
