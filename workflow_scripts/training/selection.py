"""When to stop and which weights to keep: small named rules, never on test data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """What counts as better, and for how long to wait for it.

    Attributes:
        metric: name of the watched value, such as `val_accuracy`.
        split: where it is computed; `test` is refused.
        direction: whether larger (`max`) or smaller (`min`) is better.
        equal_resets: a value equal to the best becomes the best and resets the patience.
        patience: stop after this many checks without a new best; None never stops.
        keep: weights that a finished training ends with: of the best check, or the last ones.
        undefined_is_best: NaN becomes the best and resets the patience (SSL transfer, released).
    """

    metric: str
    split: Literal["train", "val"]
    direction: Literal["max", "min"]
    equal_resets: bool
    patience: int | None
    keep: Literal["best", "last"]
    undefined_is_best: bool = False

    def __post_init__(self) -> None:
        if self.split not in ("train", "val"):
            raise ValueError(
                f"selection on {self.metric!r}: expected split 'train' or 'val', found "
                f"{self.split!r}; test data may not choose a model"
            )
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience: expected at least 1 or None, found {self.patience}")

    def is_better(self, value: float, best: float) -> bool:
        """Tell whether `value` replaces `best`.

        Anything replaces NaN; NaN replaces nothing, unless the rule says otherwise.
        """
        if math.isnan(value):
            return self.undefined_is_best
        if math.isnan(best):
            return True
        gain = value - best if self.direction == "max" else best - value
        return gain >= 0 if self.equal_resets else gain > 0


class Selection:
    """Follows a rule through a training.

    Attributes:
        best: the best value so far, NaN before the first defined one.
        best_step: updates done at that check; -1 before.
        waited: checks since.
        should_stop: patience is used up.

    >>> rule = SelectionRule("val_loss", "val", "min", False, patience=1, keep="best")
    >>> selection = Selection(rule)
    >>> selection.observe(0.5, step=10), selection.observe(0.6, step=20), selection.should_stop
    (True, False, True)
    """

    def __init__(self, rule: SelectionRule) -> None:
        self.rule = rule
        self.best, self.best_step, self.waited = math.nan, -1, 0

    @property
    def should_stop(self) -> bool:
        """Whether the patience is used up."""
        return self.rule.patience is not None and self.waited >= self.rule.patience

    def observe(self, value: float, step: int) -> bool:
        """Take the value of one check, after `step` updates; return whether it is the best."""
        if self.rule.is_better(value, self.best):
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return best value, its step, and the checks since."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""
        self.best, self.best_step = state["best"], state["best_step"]
        self.waited = state["waited"]


class KeptWeights:
    """A copy of the best weights, on the CPU, saved with the state of the training.

    A copy and not `state_dict()` itself, which the next update would change: in the released
    code of SSL transfer going back to the best weights therefore changes nothing
    (`early_stopping_alias`).
    """

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    def keep(self, module: torch.nn.Module) -> None:
        """Copy the weights and buffers of `module` as they are now."""
        self.weights = {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in module.state_dict().items()
        }

    def restore(self, module: torch.nn.Module) -> None:
        """Put the kept weights into `module`; without any it stays as it is."""
        if self.weights:
            module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the kept weights."""
        return {"weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take kept weights back."""
        self.weights = dict(state["weights"])
