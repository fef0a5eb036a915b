"""One rank correlation of a cell: mean over the seeds, interval of the patient bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics.rank_correlation import bootstrap_spearman, spearman
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, value_of
from workflow_scripts.report.long_form import Value

Floats = NDArray[np.float64]


def rank_correlation(
    cell: Cell,
    metric: str,
    pairs: Sequence[tuple[Floats, Floats]],
    patients: Sequence[NDArray[np.object_]],
    resampling: Resampling,
) -> Value:
    """Return Spearman's correlation of two columns; its interval spans those of the seeds.

    Args:
        cell: headers, one a seed.
        metric: name of the correlation.
        pairs: both columns of each seed, shape (N,) each.
        patients: of each seed's cases, shape (N,).
        resampling: of the bootstrap; its stream bears no row.
    """
    found = [spearman(x, y) for x, y in pairs]
    bounds = (math.nan, math.nan)
    if resampling.resamples and not np.isnan(found).any():
        stream = ("patient bootstrap", cell[0].table, cell[0].column)
        intervals = [
            bootstrap_spearman(x, y, one, named_rng(resampling.seed, *stream), resampling.resamples)
            for (x, y), one in zip(pairs, patients, strict=True)
        ]
        bounds = (min(one.low for one in intervals), max(one.high for one in intervals))
    n = min(int((np.isfinite(x) & np.isfinite(y)).sum()) for x, y in pairs)
    kind = "none" if math.isnan(bounds[0]) else "patient bootstrap"
    return value_of(cell, metric, found, bounds, n, kind)
