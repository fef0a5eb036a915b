"""Learning-rate schedules as pure functions: the step gives the factor, nothing is remembered.

So a resumed training has the right learning rate by knowing its step. Steps count from 0;
`factor * base learning rate` is what the update of that step uses.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch.optim import Optimizer


def constant(step: int) -> float:
    """Return 1 at every step."""
    return 1.0


def cosine_to_zero(step: float, total: float) -> float:
    """Fall from 1 at step 0 along half a cosine to 0 at step `total`, and stay there.

    Source: SSL transfer fine-tuning, `cosine_lr_5000` and `sgd_nesterov_cosine`.

    >>> [round(cosine_to_zero(step, 4), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * min(step / total, 1)))


def warm_up(step: float, length: float) -> float:
    """Rise linearly from 0 at step 0 to 1 at step `length`; multiply it with another schedule."""
    return min(step / length, 1.0) if length > 0 else 1.0


def polynomial(step: float, total: float, power: float) -> float:
    """Fall from 1 at step 0 to 0 at step `total` as (1 - step / total) ** power."""
    return float(max(1 - step / total, 0.0) ** power)


def step_decay(step: float, milestones: Sequence[float], factor: float) -> float:
    """Multiply by `factor` at each of the increasing `milestones`, from that step on.

    >>> [step_decay(step, (2, 3), 0.1) for step in (0, 2)]
    [1.0, 0.1]
    """
    return float(factor ** bisect_right(milestones, step))


class OneCycle(NamedTuple):
    """One-cycle's settings of one step."""

    factor: float  # of the largest learning rate
    beta1: float  # Adam's first momentum, which moves against the learning rate


def one_cycle(step: int, total: int) -> OneCycle:
    """Rise to 1 in the first 30 % of the steps and fall to almost 0, both along half cosines.

    From 1/25 over 1 to 1/250000; Adam's beta1 from 0.95 over 0.85 and back. Source: CROCODILE's
    released code, which takes torch's defaults.
    """
    peak = 0.3 * total - 1
    if step <= peak:
        done = step / peak
        return OneCycle(_anneal(1 / 25, 1.0, done), _anneal(0.95, 0.85, done))
    done = (step - peak) / (total - 1 - peak)
    return OneCycle(_anneal(1.0, 1 / 25 / 1e4, done), _anneal(0.85, 0.95, done))


def _anneal(start: float, end: float, done: float) -> float:
    """Go from `start` to `end` along half a cosine; `done` from 0 to 1."""
    return end + (start - end) * cosine_to_zero(done, 1.0)


def scale_learning_rates(optimiser: Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` times the one it was made with."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
