"""Loading the batches that the sampler plans: one global batch an update, in micro-batches."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_scripts.training.sampler import TrainingSampler
from workflow_scripts.training.streams import torch_generator

if TYPE_CHECKING:
    from torch.utils.data import Dataset


class MicroBatch(NamedTuple):
    """What one forward pass sees.

    Attributes:
        data: the collated cases, on the training's device.
        share: multiply the mean loss by it before the backward pass (see `sampler.Piece`).
        is_last: the gradients of the ranks are averaged in this backward pass.
    """

    data: Any
    share: float
    is_last: bool


class TrainingBatches:
    """Endless global batches of a data set that takes `Draw`s.

    Args:
        dataset: gives one case for a `Draw`; its randomness comes from `case_streams`.
        sampler: plans the batches and keeps the position.
        workers: processes that load ahead; 0 loads in this process.
        move: brings a collated batch to the device, such as `fabric.to_device`.
        collate: joins cases; None is torch's.
        pin_memory: page-locked batches, for faster copies to a GPU.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: TrainingSampler,
        *,
        workers: int = 0,
        move: Callable[[Any], Any] = lambda data: data,
        collate: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
    ) -> None:
        from torch.utils.data import DataLoader

        self.sampler, self._move = sampler, move
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_sigterm_to_the_trainer,
            # Its own generator: a new iterator after a resume must not move torch's stream.
            generator=torch_generator(0, "loader"),
        )
        self._loaded: Iterator[Any] | None = None
        self._order_epoch = -1

    @property
    def epoch(self) -> int:
        """The epoch of the next global batch, counted from 0."""
        return self.sampler.epoch

    def next_batch(self) -> Iterator[MicroBatch]:
        """Yield this rank's micro-batches of the next global batch, then count it as used."""
        if self._loaded is None or self._order_epoch != self.sampler.epoch:
            self._order_epoch = self.sampler.epoch
            self._order = self.sampler.order(self.sampler.epoch)
            self._loaded = iter(self._loader)
        pieces = self.sampler.pieces(self._order, self.sampler.batch)
        for number, piece in enumerate(pieces, 1):
            yield MicroBatch(self._move(next(self._loaded)), piece.share, number == len(pieces))
        self.sampler.advance()

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position; what was loaded ahead is dropped."""
        self.sampler.load_state_dict(state)
        self._loaded = None


def _leave_sigterm_to_the_trainer(_: int) -> None:
    """Let a worker outlive SIGTERM, which SLURM sends to all: the trainer still has to save."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
