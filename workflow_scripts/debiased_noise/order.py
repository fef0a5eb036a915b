"""In which order training images are seen: as the released code, or with equal subgroups."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.randomness import named_rng
from workflow_scripts.training.accumulation import share_batch
from workflow_scripts.training.sampler import TrainingSampler

Rows = NDArray[np.int64]


def released_order(n_cases: int, epoch: int, seed: int = 0) -> Rows:
    """Return the order of an epoch as torch's DistributedSampler has it on one process.

    Source: debiased noise spec sections 6 and 7.1 (golden `R_distributed_sampler`): the sampler's
    seed is 0 whatever the seed of the run. Asking again for the same epoch gives the same order.
    """
    import torch

    generator = torch.Generator().manual_seed(seed + epoch)
    return np.asarray(torch.randperm(n_cases, generator=generator).tolist(), dtype=np.int64)


def balanced_order(cells: Rows, epoch: int, seed: int) -> Rows:
    """Return N positions in which every subgroup is as frequent as any other, shape (N,).

    A cell's images come one after the other in a random order, and again from the start when
    they are used up: none is drawn twice before all were drawn once.

    Args:
        cells: subgroup of each case, shape (N,), any integers.
        epoch: counted from 0.
        seed: of the training.
    """
    rng = named_rng(seed, "balanced order", str(epoch))
    names = np.unique(cells)
    share, more = divmod(len(cells), len(names))
    drawn = []
    for number, name in enumerate(names):
        rows = np.flatnonzero(cells == name)
        wanted = share + (number < more)
        rounds = -(-wanted // len(rows))
        drawn.append(np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:wanted])
    return rng.permutation(np.concatenate(drawn)).astype(np.int64)


class NoiseSampler(TrainingSampler):
    """The shared sampler with the orders of this system, on one process.

    Args:
        n_cases: training images.
        batch_size: behind one update.
        last: an incomplete batch at the end of an epoch is dropped or kept.
        seed: of the order; the released code always has 0 for edits and heads.
        cells: subgroup of each case; None: the released order.
    """

    def __init__(
        self,
        n_cases: int,
        batch_size: int,
        last: Literal["drop", "keep"],
        seed: int,
        cells: Rows | None = None,
    ) -> None:
        super().__init__(n_cases, share_batch(batch_size, 1), rank=0, seed=seed, last=last)
        self.cells = cells

    def order(self, epoch: int) -> Rows:
        """Return the positions of all cases in `epoch`, shape (N,)."""
        if self.cells is None:
            return released_order(self.n_cases, epoch, self.seed)
        return balanced_order(self.cells, epoch, self.seed)


class IndexBatches:
    """Endless batches of positions; what lies there (pixels, embeddings) the loop fetches itself.

    Args:
        sampler: plans the batches and keeps the position.
    """

    def __init__(self, sampler: NoiseSampler) -> None:
        self.sampler = sampler
        self._order: tuple[int, Rows] | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, counted from 0."""
        return self.sampler.epoch

    def _positions(self) -> Rows:
        if self._order is None or self._order[0] != self.sampler.epoch:
            self._order = (self.sampler.epoch, self.sampler.order(self.sampler.epoch))
        return self._order[1]

    def next_batch(self) -> Rows:
        """Return the positions of the next batch, and count it as used."""
        piece = self.sampler.pieces(self._positions(), self.sampler.batch)[0]
        self.sampler.advance()
        return piece.indices

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""
        self.sampler.load_state_dict(state)
