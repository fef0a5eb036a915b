"""Numbers of single cases in several versions, such as invariance under transforms.

The metrics are the file's columns `score_{metric}`. Where a case has several versions (column
`version`), the mean over cases is taken for each version, then over the versions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import statistics
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import AGAIN, Header, read_case_columns

SCORE = "score_"
Columns = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values of all cells, the header's metric first in each."""
    return map_cells(partial(cell_values, resampling=resampling), cells, jobs)


def cell_values(cell: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return the mean of each score with its patient-bootstrap interval.

    Seeds may look at other cases, so the interval is that of a single seed; several have none,
    nor has a score that is the same everywhere.
    """
    files = [read_case_columns(header) for header in cell]
    metrics = _metrics(cell, files)
    values = []
    for metric in metrics:
        grids = [by_version(columns, SCORE + metric) for columns in files]
        per_seed = [mean_over_versions(grid, np.ones(len(grid))) for grid in grids]
        bounds, kind = (math.nan, math.nan), "none"
        may_vary = len(np.unique(grids[0])) > 1 and not math.isnan(per_seed[0])
        if len(cell) == 1 and resampling.resamples and may_vary:
            interval = _interval(cell[0], files[0], grids[0], resampling)
            bounds = (interval.low, interval.high)
            kind = "none" if math.isnan(interval.low) else "patient bootstrap"
        values.append(value_of(cell, metric, per_seed, bounds, len(grids[0]), kind))
    return tuple(values)


def by_version(columns: Columns, name: str) -> Floats:
    """Return a score as one row a case and one column a version, shape (N, K)."""
    n_versions = int(columns["version"].max()) + 1 if "version" in columns else 1
    return np.asarray(columns[name], dtype=np.float64).reshape(-1, n_versions)


def mean_over_versions(grid: Floats, weights: Floats) -> float:
    """Return the weighted mean over cases, undefined ones left out, then over versions.

    NaN where a version has no defined case.

    >>> mean_over_versions(np.array([[1.0, 0.0], [math.nan, 0.5]]), np.ones(2))
    0.625
    """
    defined = ~np.isnan(grid)
    totals = weights @ defined
    if not totals.all():
        return math.nan
    return float(((weights @ np.where(defined, grid, 0.0)) / totals).mean())


def _interval(
    header: Header, columns: Columns, grid: Floats, resampling: Resampling
) -> statistics.Interval:
    """Return the interval when patients are drawn anew; the stream bears no row."""
    patients = columns["patient_id"].reshape(len(grid), -1)[:, 0].astype(np.str_)
    place, n_patients = statistics.patient_numbers(patients)
    stream = ("patient bootstrap", header.table, header.protocol, header.column)
    return statistics.percentile_interval(
        lambda drawn: mean_over_versions(grid, drawn[place].astype(np.float64)),
        n_patients, named_rng(resampling.seed, *stream), resampling.resamples,
    )  # fmt: skip


def _metrics(cell: Cell, files: Sequence[Columns]) -> list[str]:
    """Return the metrics of a cell, the header's first.

    Raises:
        InputError: a file has other scores than the first, lacks the header's metric, or does not
            hold every version of every case.
    """
    names = [name.removeprefix(SCORE) for name in files[0] if name.startswith(SCORE)]
    first = cell[0].metric
    if first not in names:
        raise refuse(str(cell[0].path), f"a column {SCORE}{first}", ", ".join(files[0]), AGAIN)
    problems = []
    for header, columns in zip(cell, files, strict=True):
        if sorted(name for name in columns if name.startswith(SCORE)) != sorted(
            SCORE + name for name in names
        ):
            found, step = ", ".join(columns), "make all seeds of a cell alike"
            problems.append(Problem(str(header.path), f"the scores of {cell[0].path}", found, step))
        version = columns.get("version")
        if version is not None:
            count = int(version.max()) + 1
            expected = f"versions 0 to {count - 1} of each case, in order"
            whole = len(version) % count == 0
            if not whole or (version.reshape(-1, count) != np.arange(count)).any():
                problems.append(Problem(str(header.path), expected, "other rows", AGAIN))
    if problems:
        raise InputError(problems)
    return [first, *(name for name in names if name != first)]
