"""Which cases each update sees: one shuffled order an epoch, the same for any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.training.accumulation import BatchSharing


class Draw(NamedTuple):
    """What a training data set is asked for: a case, and the epoch that names its randomness."""

    case: int  # position in the data set
    epoch: int  # counted from 0


class Piece(NamedTuple):
    """One micro-batch of a global batch.

    Attributes:
        indices: positions of its cases in the data set.
        share: factor of its mean loss such that DDP's average over ranks of all backward passes
            is the gradient of the mean over the global batch, also when pieces are unequal.
    """

    indices: NDArray[np.int64]
    share: float


class TrainingSampler:
    """Gives each rank its micro-batches, and knows its exact position in the epoch.

    Works as `batch_sampler` of a DataLoader whose data set takes a `Draw`. The position counts
    *used* global batches (`advance`), not the ones that workers have loaded ahead.

    Args:
        n_cases: size of the data set.
        sharing: global batch, micro-batch and world size.
        rank: this process.
        seed: of the training; with the epoch it decides the order.
        last: an incomplete global batch at the end of an epoch is dropped or kept.

    Attributes:
        epoch: the epoch of the next global batch, counted from 0.
        batch: its position in the epoch.
    """

    def __init__(
        self,
        n_cases: int,
        sharing: BatchSharing,
        rank: int,
        seed: int,
        last: Literal["drop", "keep"],
    ) -> None:
        self.n_cases, self.sharing, self.rank = n_cases, sharing, rank
        self.seed, self.last = seed, last
        self.epoch = 0
        self.batch = 0
        if self.batches_per_epoch == 0:
            raise refuse(
                "training set",
                f"at least one global batch of {sharing.global_batch} cases",
                f"{n_cases} cases",
                "use more cases, a smaller global batch, or keep the incomplete last batch",
            )

    @property
    def batches_per_epoch(self) -> int:
        """Updates of one epoch."""
        whole, rest = divmod(self.n_cases, self.sharing.global_batch)
        return whole + (self.last == "keep" and rest > 0)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the shuffled positions of all cases in `epoch`, shape (N,)."""
        return named_rng(self.seed, "order", str(epoch)).permutation(self.n_cases)

    def pieces(self, order: NDArray[np.int64], batch: int) -> list[Piece]:
        """Return this rank's micro-batches of global batch number `batch`; never none.

        A rank left without a case by an incomplete last batch repeats the first micro-batch
        with share 0: DDP needs a backward pass of every rank.
        """
        sharing = self.sharing
        start = batch * sharing.global_batch
        cases = order[start : start + sharing.global_batch]
        cuts = range(0, len(cases), sharing.micro_batch)
        parts = [cases[cut : cut + sharing.micro_batch] for cut in cuts]
        mine = parts[self.rank :: sharing.world_size]
        if not mine:
            return [Piece(parts[0], 0.0)]
        return [Piece(part, len(part) * sharing.world_size / len(cases)) for part in mine]

    def remaining(self) -> Iterator[Piece]:
        """Yield this rank's micro-batches from the position to the end of the epoch."""
        order, first = self.order(self.epoch), self.batch
        for batch in range(first, self.batches_per_epoch):
            yield from self.pieces(order, batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the draws of `remaining`, with the epoch as it is now."""
        epoch = self.epoch
        for piece in self.remaining():
            yield [Draw(int(index), epoch) for index in piece.indices]

    def advance(self) -> None:
        """Count one global batch as used; after the last one the next epoch begins."""
        self.batch += 1
        if self.batch == self.batches_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""
        self.epoch, self.batch = state["epoch"], state["batch"]
