"""Gaps between two groups of patients in any measure, and what chance alone gives.

A measure is a function from the weights of units to a value (`statistics.ManyStatistic`), as for
the bootstrap; a group is the weights 1 for its units and 0 for the others. The null deals the
groups anew to whole patients, so that the images of one patient stay together.
`fairness_resampling.py` does the same for gaps that are functions of eight counts, much faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workflow_scripts.metrics.fairness_resampling import Null, permutation_null
from workflow_scripts.metrics.statistics import BLOCK_CASES, Counts, Floats, ManyStatistic


class Groups(NamedTuple):
    """Who is in the group and who is not.

    Attributes:
        unit: what is dealt as a whole, of each case, shape (N,): one patient's cases in one
            group. A patient whose age group changed between two examinations is two units.
        inside: of each unit, shape (U,).
    """

    unit: Counts
    inside: NDArray[np.bool_]


def groups_of(inside: NDArray[np.bool_], patients: ArrayLike) -> Groups:
    """Return the groups of cases, both of shape (N,)."""
    names = np.asarray(patients).astype(str)
    _, unit = np.unique(np.char.add(names, np.where(inside, "+", "-")), return_inverse=True)
    of_unit = np.zeros(int(unit.max(initial=-1)) + 1, dtype=bool)
    of_unit[unit] = inside
    return Groups(unit.astype(np.int64), of_unit)


def mean_of_draws(values: Floats, place: Counts) -> ManyStatistic:
    """Return a function from the units' weights, shape (R, U), to the weighted mean, shape (R,).

    Args:
        values: of the cases, shape (N,); NaN is left out, and a mean of nothing is NaN.
        place: unit of each case, shape (N,).
    """
    usable = np.isfinite(values)
    n_units = int(place.max(initial=-1)) + 1
    sums = np.bincount(place[usable], weights=values[usable], minlength=n_units)
    counts = np.bincount(place[usable], minlength=n_units)

    def means(drawn: Counts) -> Floats:
        own = drawn[:, :n_units]
        with np.errstate(invalid="ignore"):
            return np.asarray(own @ sums / (own @ counts))

    return means


def mean_of_statistics(parts: Sequence[ManyStatistic]) -> ManyStatistic:
    """Return the mean of several statistics of the same units, such as of seeds or findings."""
    return lambda drawn: np.asarray(np.mean([part(drawn) for part in parts], axis=0))


def gaps(measure: ManyStatistic, inside: NDArray[np.bool_]) -> Floats:
    """Return measure in the group minus measure out of it, shape (R, U) to (R,)."""
    weights = inside.astype(np.int64)
    return measure(weights) - measure(1 - weights)


def gap_with_null(
    measure: ManyStatistic, groups: Groups, rng: np.random.Generator, n_permutations: int
) -> tuple[float, Null]:
    """Return the size of a gap beside its permutation null.

    Args:
        measure: of units numbered as in `groups`.
        groups: of the cases.
        rng: the source of the permutations.
        n_permutations: how many; undefined gaps are left out of the null.
    """
    found = abs(float(gaps(measure, groups.inside[None])[0]))
    size = max(1, BLOCK_CASES // max(len(groups.unit), 1))
    dealt = [np.empty(0)]
    for first in range(0, n_permutations, size):
        n = min(size, n_permutations - first)
        shuffled = np.stack([rng.permutation(groups.inside) for _ in range(n)])
        dealt.append(np.abs(gaps(measure, shuffled)))
    return found, permutation_null(found, np.concatenate(dealt))
