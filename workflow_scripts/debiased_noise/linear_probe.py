"""Training a linear classifier on frozen embeddings: steps 1 and 3 share this loop.

The embeddings come from a cache, or anew at every look where stochastic depth is on; the loop
does not know which. Only weight and bias of the head change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.training.schedules import cosine_to_zero, scale_learning_rates, warm_up
from workflow_scripts.training.streams import initialised

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from workflow_scripts.debiased_noise.order import IndexBatches
    from workflow_scripts.training.metric_log import MetricLog
    from workflow_scripts.training.session import TrainingSession

Rows = NDArray[np.int64]
Schedule = Literal["constant", "cosine"]
WARM_UP = 5  # epochs of `cosine` (README command)
EVALUATE_EVERY = 10  # epochs (README command)
Source = Callable[[Rows], "Tensor"]  # positions of training images -> embeddings (B, F)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head is trained.

    Attributes:
        loss: `softmax` cross-entropy of a class, or `sigmoid` binary cross-entropy of each output
            (what the released code's `CrossEntropyLoss` of LibAUC is).
        optimiser: `adam`, or `adamw` with decay of the weight and not of the bias.
        lr: learning rate.
        weight_decay: of the weight.
        init_std: of the truncated normal the weight starts from; the bias starts at 0.
        batch_size: images behind one update.
        epochs: passes over the training images.
        last: whether an incomplete last batch is dropped or kept.
        schedule: `constant`, as the released code, which defines `cosine` (five epochs of warm-up,
            down to `min_lr`) and never calls it.
        min_lr: where `cosine` ends.
    """

    loss: Literal["softmax", "sigmoid"]
    optimiser: Literal["adam", "adamw"]
    lr: float
    weight_decay: float
    init_std: float
    batch_size: int
    epochs: int
    last: Literal["drop", "keep"]
    schedule: Schedule = "constant"
    min_lr: float = 1e-5  # README command


ATTRIBUTE_RECIPE = Recipe(  # spec section 5
    loss="softmax",
    optimiser="adam",
    lr=1e-4,
    weight_decay=0.0,
    init_std=0.02,
    batch_size=64,
    epochs=50,
    last="keep",
)
DISEASE_RECIPE = Recipe(  # spec section 8; lr = blr * batch / 256 = 2.5e-4 * 128 / 256
    loss="sigmoid",
    optimiser="adamw",
    lr=1.25e-4,
    weight_decay=0.05,
    init_std=2e-5,
    batch_size=128,
    epochs=50,
    last="drop",
)


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Return the learning rate at a (fractional) epoch.

    Source: `cosine` is the released code's function that is never called (golden
    `K_lr_schedule_defined_but_never_called_upstream`).
    """
    if recipe.schedule == "constant":
        return recipe.lr
    if epoch < WARM_UP:
        return recipe.lr * warm_up(epoch, WARM_UP)
    fall = cosine_to_zero(epoch - WARM_UP, recipe.epochs - WARM_UP)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * fall


class Course:
    """The head as it was at the end of some epochs, as a part of the saved state.

    Args:
        epochs: of the training; the last one always belongs to the course.
        every: epochs between two of the course, the first included (released: 0, 10, 20 ...).
    """

    def __init__(self, epochs: int, every: int = EVALUATE_EVERY) -> None:
        self._wanted = {*range(0, epochs, every), epochs - 1}
        self.heads: dict[int, tuple[Tensor, Tensor]] = {}  # epoch -> weight (2, F), bias (2,)

    def take(self, epoch: int, head: nn.Linear) -> None:
        """Keep a copy of the head at the end of an epoch, counted from 0, if it is wanted."""
        if epoch in self._wanted:
            weight, bias = (one.detach().cpu().clone() for one in (head.weight, head.bias))
            self.heads[epoch] = weight, bias

    def state_dict(self) -> dict[str, Any]:
        """Return the heads so far."""
        return {"heads": self.heads}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take saved heads back."""
        self.heads = dict(state["heads"])


def probe_loss(kind: Literal["softmax", "sigmoid"], logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of a batch.

    Args:
        kind: see `Recipe`.
        logits: shape (N, 2).
        targets: shape (N, 2), 0 or 1; `softmax` takes their argmax.

    Source: debiased noise spec section 8 (golden `D_losses`).
    """
    from torch.nn import functional

    if kind == "softmax":
        return functional.cross_entropy(logits, targets.argmax(dim=1))
    return functional.binary_cross_entropy_with_logits(logits, targets)


def make_head(n_features: int, recipe: Recipe, seed: int) -> nn.Linear:
    """Return a fresh head of two outputs; equal seeds give equal heads."""
    from torch import nn

    with initialised(seed, "head"):
        head = nn.Linear(n_features, 2)
        nn.init.trunc_normal_(head.weight, std=recipe.init_std)
        nn.init.zeros_(head.bias)
    return head


def make_optimiser(head: nn.Linear, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimiser of a head."""
    import torch

    if recipe.optimiser == "adam":
        return torch.optim.Adam(head.parameters(), lr=recipe.lr)
    groups: list[dict[str, Any]] = [
        {"params": [head.weight], "weight_decay": recipe.weight_decay},
        {"params": [head.bias], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr)


def train_head(
    session: TrainingSession,
    head: nn.Linear,
    optimiser: torch.optim.Optimizer,
    batches: IndexBatches,
    source: Source,
    targets: Tensor,
    recipe: Recipe,
    log: MetricLog,
    course: Course,
) -> None:
    """Train the head to the end of the session.

    Args:
        session: open; knows how many updates there are.
        head: trained in place.
        optimiser: of the head.
        batches: positions of each update.
        source: embeddings of positions.
        targets: of all training images, shape (N, 2).
        recipe: for its loss and learning rate.
        log: gets `train_loss`.
        course: takes the head at the end of an epoch.
    """
    for step in session.steps():
        epoch = step / batches.sampler.batches_per_epoch
        scale_learning_rates(optimiser, learning_rate(recipe, epoch) / recipe.lr)
        rows = batches.next_batch()
        loss = probe_loss(recipe.loss, head(source(rows)), targets[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        log.add_loss("train_loss", loss, 1.0)
        if batches.sampler.batch == 0:
            course.take(batches.epoch - 1, head)
