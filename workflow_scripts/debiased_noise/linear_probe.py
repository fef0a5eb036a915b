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

from workflow_scripts.training.streams import initialised

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from workflow_scripts.debiased_noise.order import IndexBatches
    from workflow_scripts.training.metric_log import MetricLog
    from workflow_scripts.training.session import TrainingSession

Rows = NDArray[np.int64]
Source = Callable[[Rows], "Tensor"]  # positions of training images -> embeddings (B, F)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head is trained.

    Attributes:
        loss: `softmax` cross-entropy of a class, or `sigmoid` binary cross-entropy of each output
            (what the released code's `CrossEntropyLoss` of LibAUC is).
        optimiser: `adam`, or `adamw` with decay of the weight and not of the bias.
        lr: learning rate, constant.
        weight_decay: of the weight.
        init_std: of the truncated normal the weight starts from; the bias starts at 0.
        batch_size: images behind one update.
        epochs: passes over the training images.
        last: whether an incomplete last batch is dropped or kept.
    """

    loss: Literal["softmax", "sigmoid"]
    optimiser: Literal["adam", "adamw"]
    lr: float
    weight_decay: float
    init_std: float
    batch_size: int
    epochs: int
    last: Literal["drop", "keep"]


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
) -> None:
    """Train the head to the end of the session.

    Args:
        session: open; knows how many updates there are.
        head: trained in place.
        optimiser: of the head.
        batches: positions of each update.
        source: embeddings of positions.
        targets: of all training images, shape (N, 2).
        recipe: for its loss.
        log: gets `train_loss`.
    """
    for _ in session.steps():
        rows = batches.next_batch()
        loss = probe_loss(recipe.loss, head(source(rows)), targets[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        log.add_loss("train_loss", loss, 1.0)
