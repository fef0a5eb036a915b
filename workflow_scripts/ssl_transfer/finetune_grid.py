"""The search over learning rate and weight decay: its grid, and who wins. Light: rules ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """One run of the search.

    Attributes:
        lr: learning rate at the first step.
        weight_decay: as SGD takes it.
        best_validation: best metric on validation, a fraction; None where always undefined.
        best_step: updates done at that check.
    """

    lr: float
    weight_decay: float
    best_validation: float | None = None
    best_step: int = -1


def search_grid(size: int) -> tuple[tuple[float, float], ...]:
    """Return learning rate and weight decay of each run, in the released order.

    Learning rates from 0.1 down to 1e-4, penalties 0 and from 1e-6 up to 1e-3, both in `size`
    equal steps of their logarithm; SGD is given penalty / learning rate. In float32, as released.

    Source: SSL transfer, spec section 7 (golden `finetune_search_grid`).
    """
    import numpy as np

    rates = np.logspace(-4, -1, size).astype(np.float32)[::-1]
    penalties = np.concatenate([[0], np.logspace(-6, -3, size)]).astype(np.float32)
    return tuple((float(rate), float(one / rate)) for rate in rates for one in penalties)


def n_candidates(size: int) -> int:
    """Return the number of runs of a grid.

    >>> n_candidates(2)
    6
    """
    return size * (size + 1)


def best_candidate(found: Sequence[Candidate]) -> Candidate:
    """Return the first candidate with the highest validation metric (released: strictly above).

    Where no candidate has a defined metric the first one is returned.
    """
    return max(found, key=lambda one: -1.0 if one.best_validation is None else one.best_validation)
