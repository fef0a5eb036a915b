"""GeZO: a greedy search for the noise edit that only asks what a loss is, never for a gradient.

Two forms, each one update of the edit. `released_update` is what the released code does, defects
included (spec 7.1): of the two signs only +1 counts, the smallest loss of a *single* batch wins,
the step is always taken, and velocity and step size start anew at each update, so momentum has no
effect. `paper_update` follows the overview figure (spec 7.2): both signs, the mean over the
batches, a velocity that persists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

N_BATCHES = 2  # behind one update (released code)
SIGNS = (-1, +1)  # in the order in which they are tried; the first of equal losses wins
SHRINK = 0.95  # of the step size after a rejected update (released code, never reached there)

Form = Literal["released", "paper"]
Accept = Literal["always", "improve"]
BatchLoss = Callable[["Tensor", int], float]  # an edit, and the number of a batch -> its loss


class Settings(NamedTuple):
    """How GeZO searches."""

    init_step: float = 0.03  # pixel units; README command. With persistent momentum: 0.003-0.01
    sampled_steps: int = 10  # directions tried for one update, C (released code)
    momentum: float = 0.9  # of the paper's form (released code; without effect there)
    accept: Accept = "always"  # of the paper's form: take every update, or only improvements


class Position(NamedTuple):
    """Where the search is."""

    noise: Tensor  # (H, W)
    velocity: Tensor  # (H, W), of the paper's form
    step: float  # pixel units


class Tried(NamedTuple):
    """One direction and the loss it gave."""

    sample: int
    sign: int
    loss: float


class Update(NamedTuple):
    """The position after one update, the direction it chose, and what it cost.

    Attributes:
        position: after the update.
        best: the direction of the smallest loss.
        tried: all of them, in order.
        accepted: False where the position was kept.
        batch_queries: batches whose loss was asked for.
    """

    position: Position
    best: Tried
    tried: list[Tried]
    accepted: bool
    batch_queries: int


def released_update(
    position: Position, draws: Sequence[Tensor], loss_of: BatchLoss, settings: Settings
) -> Update:
    """Return the position after one "epoch" of the released code.

    The released code also asks for the losses of sign -1 and drops them; that half of its queries
    is left out here, the edit is the same to the last bit.

    Args:
        position: only `noise` matters.
        draws: standard normal, C of shape (H, W).
        loss_of: loss of an edit on batch 0 or 1, without gradient.
        settings: `init_step` is used at every update.

    Source: debiased noise spec 7.1 (golden `C_gezo_upstream`).
    """
    best, direction, tried = Tried(-1, +1, math.inf), None, []
    for sample, draw in enumerate(draws):
        delta = settings.init_step * draw
        for batch in range(N_BATCHES):
            tried.append(Tried(sample, +1, finite(loss_of(position.noise + delta, batch))))
            if tried[-1].loss < best.loss:
                best, direction = tried[-1], delta
    if direction is None:
        raise ValueError("GeZO needs at least one direction")
    moved = Position(position.noise + direction, direction, settings.init_step)
    return Update(moved, best, tried, True, len(tried))


def paper_update(
    position: Position, draws: Sequence[Tensor], loss_of: BatchLoss, settings: Settings
) -> Update:
    """Return the position after one update of the corrected form.

    Args:
        position: noise, velocity and step size.
        draws: standard normal, C of shape (H, W).
        loss_of: loss of an edit on batch 0 or 1, without gradient; their mean counts.
        settings: momentum, and whether an update must improve the loss.

    Source: debiased noise spec 7.2 (golden `C_gezo_reference_paper_form`).
    """

    def mean_loss(noise: Tensor) -> float:
        return sum(finite(loss_of(noise, batch)) for batch in range(N_BATCHES)) / N_BATCHES

    tried = [
        Tried(sample, sign, mean_loss(position.noise + sign * (position.step * draw)))
        for sample, draw in enumerate(draws)
        for sign in SIGNS
    ]
    best = min(tried, key=lambda one: one.loss)  # the first of equal losses
    queries = N_BATCHES * len(tried)
    if settings.accept == "improve":
        queries += N_BATCHES
        if best.loss >= mean_loss(position.noise):
            kept = position._replace(step=SHRINK * position.step)
            return Update(kept, best, tried, False, queries)
    delta = best.sign * (position.step * draws[best.sample])
    velocity = settings.momentum * position.velocity + delta
    moved = Position(position.noise + velocity, velocity, position.step)
    return Update(moved, best, tried, True, queries)


def planned_batch_queries(form: Form, settings: Settings, n_updates: int) -> int:
    """Return how many batches a whole search asks for.

    >>> planned_batch_queries("released", Settings(), 50), planned_batch_queries(
    ...     "paper", Settings(accept="improve"), 50)
    (1000, 2100)
    """
    signs = 1 if form == "released" else len(SIGNS)
    again = N_BATCHES if form == "paper" and settings.accept == "improve" else 0
    return n_updates * (settings.sampled_steps * N_BATCHES * signs + again)


def finite(loss: float) -> float:
    """Return `loss`; one that is not finite must not win or lose silently."""
    if not math.isfinite(loss):
        raise FloatingPointError("the loss of a direction is not finite")
    return loss
