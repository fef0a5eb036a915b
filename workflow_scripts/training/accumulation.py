"""Keeping the published global batch on fewer (or more) GPUs. The learning rate never moves."""

from __future__ import annotations

from dataclasses import dataclass

from workflow_scripts.problems import refuse


@dataclass(frozen=True, slots=True)
class BatchSharing:
    """How one update's cases are shared out.

    A global batch is cut into micro-batches of `micro_batch` cases, always in the same way; the
    ranks take them in turn and add up their gradients. So what a network sees together (batch
    normalisation, losses within a batch) does not depend on the number of GPUs.

    Attributes:
        global_batch: cases behind one update of the weights.
        micro_batch: cases of one forward pass on one device.
        world_size: processes that share the work.
    """

    global_batch: int
    micro_batch: int
    world_size: int

    @property
    def passes(self) -> int:
        """Forward passes that each rank accumulates for one update."""
        return self.global_batch // (self.micro_batch * self.world_size)


def share_batch(
    global_batch: int,
    world_size: int,
    micro_batch: int | None = None,
    largest_micro_batch: int | None = None,
) -> BatchSharing:
    """Share `global_batch` over `world_size` processes, or refuse and name the choices.

    Args:
        global_batch: the published number of cases behind one update.
        world_size: processes at hand.
        micro_batch: the published number of cases a GPU saw at once, where the result depends
            on it (batch normalisation, losses within a batch); None: free.
        largest_micro_batch: what fits into memory when `micro_batch` is free; None: anything.

    Raises:
        InputError: if the published batch cannot be kept exactly.

    >>> share_batch(288, world_size=4, micro_batch=12).passes  # published on 24 GPUs
    6
    """
    if min(global_batch, world_size, micro_batch or 1, largest_micro_batch or 1) < 1:
        raise refuse(
            "batch",
            "sizes of at least 1",
            f"global {global_batch}, world size {world_size}, micro {micro_batch}",
            "correct the configuration",
        )
    if micro_batch is not None:
        return _with_micro_batch(global_batch, world_size, micro_batch)
    if global_batch % world_size:
        raise _cannot_share(f"global batch {global_batch}", world_size, divisors(global_batch))
    share = global_batch // world_size
    limit = largest_micro_batch or share
    return BatchSharing(
        global_batch, max(size for size in divisors(share) if size <= limit), world_size
    )


def _with_micro_batch(global_batch: int, world_size: int, micro_batch: int) -> BatchSharing:
    if global_batch % micro_batch:
        sizes = ", ".join(map(str, divisors(global_batch)))
        raise refuse(
            "micro-batch",
            f"a divisor of the global batch {global_batch}: {sizes}",
            str(micro_batch),
            "choose one of them; the learning rate belongs to the global batch, so that stays",
        )
    pieces = global_batch // micro_batch
    if pieces % world_size:
        what = f"global batch {global_batch} in {pieces} micro-batches of {micro_batch}"
        raise _cannot_share(what, world_size, divisors(pieces))
    return BatchSharing(global_batch, micro_batch, world_size)


def _cannot_share(what: str, world_size: int, choices: list[int]) -> Exception:
    return refuse(
        "world size",
        f"a number of processes that shares {what} evenly: {', '.join(map(str, choices))}",
        str(world_size),
        "ask for one of these numbers of GPUs; another global batch is another experiment and "
        "needs its own learning rate in the configuration",
    )


def divisors(number: int) -> list[int]:
    """Return the divisors of `number`, smallest first.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
