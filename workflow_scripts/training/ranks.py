"""This process among the processes of one training, and how they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from workflow_scripts.problems import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Rank and world size, with the few collective calls that a training needs.

    All calls move Python objects over gloo on the CPU, so they never wait for a GPU's queue of
    kernels. Every rank has to make the same calls in the same order.

    Attributes:
        rank: this process, 0 to `world_size` - 1; rank 0 writes files.
        world_size: number of processes.
        group: the gloo process group; None is torch's default group.
    """

    rank: int = 0
    world_size: int = 1
    group: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Return every rank's `value`, in rank order, on every rank."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[T | None] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return cast("list[T]", values)

    def broadcast(self, value: T) -> T:
        """Return rank 0's `value` on every rank."""
        if self.world_size == 1:
            return value
        import torch.distributed as dist

        box: list[T] = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def on_first(self, act: Callable[[], T]) -> T:
        """Let rank 0 `act` and return its result on every rank; a refusal is raised on every rank.

        Without this, a refused input on rank 0 would leave the other ranks waiting for ever.
        """
        outcome: tuple[T | None, InputError | None] = (None, None)
        if self.is_first:
            try:
                outcome = (act(), None)
            except InputError as error:
                outcome = (None, error)
        problems = self.broadcast(outcome[1].problems if outcome[1] else None)
        if problems:
            raise InputError(problems)
        return cast("T", self.broadcast(outcome[0]))


def ranks_of(rank: int, world_size: int) -> Ranks:
    """Return the ranks of torch's running process group, with a gloo group of their own.

    NCCL's own group would queue each message behind the kernels of the GPU; hence a second one.
    """
    if world_size == 1:
        return Ranks()
    import torch.distributed as dist

    group = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
    return Ranks(rank, world_size, group)
