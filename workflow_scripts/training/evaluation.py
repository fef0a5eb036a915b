"""Evaluating every case exactly once, on any number of ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.training.ranks import Ranks

if TYPE_CHECKING:
    import torch


def evaluation_batches(n_cases: int, batch_size: int, ranks: Ranks) -> list[list[int]]:
    """Return this rank's batches, for a DataLoader's `batch_sampler`; nothing is padded.

    The cases are cut into the same batches for any number of ranks, and the ranks take them in
    turn: a rank may have fewer than another, or none. So no case counts twice, and a forward
    pass sees the same cases together everywhere.

    >>> evaluation_batches(5, 2, Ranks(rank=1, world_size=2))
    [[2, 3]]
    """
    starts = range(ranks.rank * batch_size, n_cases, batch_size * ranks.world_size)
    return [list(range(start, min(start + batch_size, n_cases))) for start in starts]


def gather_cases(
    ranks: Ranks,
    case_ids: Sequence[str],
    columns: Mapping[str, NDArray[Any]],
    expected: Sequence[str],
) -> dict[str, NDArray[Any]]:
    """Bring together what the ranks computed; every rank gets all of it.

    Args:
        ranks: of the training.
        case_ids: of this rank's cases, n_r of them.
        columns: arrays of this rank, first axis n_r; may be none when n_r is 0.
        expected: every case that must be there once, in the order of the result.

    Returns:
        The columns with first axis `len(expected)`, in that order.

    Raises:
        RuntimeError: if a case is missing, twice, or unknown.
    """
    gathered = ranks.gather((list(case_ids), dict(columns)))
    found = [case for ids, _ in gathered for case in ids]
    wrong = {
        "missing": sorted(set(expected) - set(found)),
        "unknown": sorted(set(found) - set(expected)),
        "twice": sorted(case for case, times in Counter(found).items() if times > 1),
    }
    if any(wrong.values()):
        told = "; ".join(f"{len(cases)} {kind}: {cases[:3]}" for kind, cases in wrong.items())
        raise RuntimeError(f"evaluation of {len(expected)} cases is not complete: {told}")
    place = {case: row for row, case in enumerate(found)}
    rows = np.array([place[case] for case in expected], dtype=np.int64)
    filled = [parts for ids, parts in gathered if ids] or [gathered[0][1]]
    return {name: np.concatenate([parts[name] for parts in filled])[rows] for name in filled[0]}


def share_buffers(ranks: Ranks, module: torch.nn.Module) -> None:
    """Give every rank rank 0's buffers (running statistics), before an evaluation.

    Call the bare module afterwards, not DDP's wrapper: that one would wait in `forward` for
    ranks that have fewer batches.
    """
    if ranks.world_size == 1:
        return
    import torch

    own = {name: buffer.cpu() for name, buffer in module.named_buffers()}
    first = ranks.broadcast(own if ranks.is_first else {})
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(first[name])
