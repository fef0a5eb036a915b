"""What the kinds of predictions share: a cell, how its values are drawn, worked out and made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from workflow_scripts.metrics import statistics
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import CHANCE
from workflow_scripts.report.predictions import Header

POOL_BYTES = 4 << 20  # ours: with smaller predictions the processes' start-up costs more
Cell = tuple[Header, ...]  # one header a seed


@dataclass(frozen=True, slots=True)
class Resampling:
    """How the patient bootstrap draws."""

    seed: int
    resamples: int  # 0: no bootstrap


def map_cells(
    work: Callable[[Cell], Sequence[Value]], cells: Sequence[Cell], jobs: int
) -> tuple[Value, ...]:
    """Return the values of all cells in their order, worked out by up to `jobs` processes."""
    n_bytes = sum(header.path.stat().st_size for cell in cells for header in cell)
    if jobs == 1 or len(cells) == 1 or n_bytes < POOL_BYTES:
        return tuple(value for cell in cells for value in work(cell))
    # spawn: a forked child may inherit a lock that one of pyarrow's threads holds
    with ProcessPoolExecutor(min(jobs, len(cells)), get_context("spawn")) as pool:
        return tuple(value for values in pool.map(work, cells) for value in values)


def value_of(
    headers: Sequence[Header], metric: str, per_seed: Sequence[float],
    bounds: tuple[float, float], n: int, interval: str,
) -> Value:  # fmt: skip
    """Return the value of one metric of a cell: the mean over the seeds, NaN if one is undefined.

    Args:
        headers: of the cell, one a seed; the first says where the value stands.
        metric: a name of the catalogue.
        per_seed: its value for each seed.
        bounds: ends of the interval of the mean; NaN without one.
        n: cases or episodes behind it.
        interval: kind of the interval; docs/reference/tables.md.
    """
    first = headers[0]
    return Value(
        system=first.system,
        table=first.table,
        row=first.row,
        column=first.column,
        metric=metric,
        value=float(np.mean(per_seed)),
        ci_low=bounds[0],
        ci_high=bounds[1],
        n=n,
        seeds=len(headers),
        data=first.data,
        protocol=first.protocol,
        interval=interval,
        seed_std=math.nan if metric == CHANCE else statistics.seed_spread(per_seed),
    )
