"""Numbers of single cases: the mean over cases of each, with a patient-bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import statistics
from workflow_scripts.problems import refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import AGAIN, read_case_columns

SCORE = "score_"
Floats = NDArray[np.float64]


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return the mean of every number of every cell, the cell's metric first."""
    return map_cells(partial(cell_values, resampling=resampling), cells, jobs)


def cell_values(cell: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return the values of one cell; a number that is undefined for a case has no mean.

    Raises:
        InputError: the cell's metric is not among the numbers of its cases.
    """
    seeds = [read_case_columns(header) for header in cell]
    first = cell[0]
    names = [name.removeprefix(SCORE) for name in seeds[0] if name.startswith(SCORE)]
    if first.metric not in names:
        expected = f"the column {SCORE}{first.metric}"
        raise refuse(str(first.path), expected, ", ".join(seeds[0]), AGAIN)
    values = []
    for name in sorted(names, key=lambda name: name != first.metric):
        scores = [seed[SCORE + name] for seed in seeds]
        patients = np.concatenate([seed["patient_id"] for seed in seeds])
        stream = ("patient bootstrap", first.table, first.protocol, first.column)
        rng = named_rng(resampling.seed, *stream)
        bounds = mean_bounds(np.concatenate(scores), patients, rng, resampling.resamples)
        kind = "none" if math.isnan(bounds[0]) else "patient bootstrap"
        per_seed = [float(np.mean(one)) for one in scores]
        values.append(value_of(cell, name, per_seed, bounds, len(scores[0]), kind))
    return tuple(values)


def mean_bounds(
    values: Floats, patients: NDArray[np.object_], rng: np.random.Generator, n_resamples: int
) -> tuple[float, float]:
    """Return the 95 % interval of a mean over cases when patients are drawn anew.

    NaN where a case is undefined, or there are fewer than two patients.
    """
    place, n_patients = statistics.patient_numbers(patients.astype(str))
    if n_patients < 2 or not n_resamples or not np.isfinite(values).all():
        return math.nan, math.nan
    sums = np.bincount(place, weights=values, minlength=n_patients)
    counts = np.bincount(place, minlength=n_patients)
    interval = statistics.percentile_interval(
        lambda drawn: float((drawn @ sums) / (drawn @ counts)), n_patients, rng, n_resamples
    )
    return interval.low, interval.high
