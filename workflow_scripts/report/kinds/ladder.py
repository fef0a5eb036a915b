"""A ladder of artefacts: quality and agreement at each rung, and whether one tells the other.

A file has one row a volume at a rung: `corruption, severity, draw`, `score_dice`, `score_aula`,
`score_entropy`. The table has a column a rung and the column `whole ladder` with the rank
correlations over all rungs together. Undefined Dice is left out of means and pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.kinds.segmentation import mean_interval_over_patients
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import AGAIN, read_case_columns
from workflow_scripts.report.rank_values import rank_correlation

WHOLE, CLEAN = "whole ladder", "no artefact"  # columns
NONE = "none"  # corruption of the lowest rung
SCORES = ("dice", "aula", "entropy")
NEEDED = ("corruption", "severity", "draw", *(f"score_{name}" for name in SCORES))
Columns = dict[str, NDArray[Any]]


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values of all cells: each rung's, then those of the whole ladder."""
    return map_cells(partial(cell_values, resampling=resampling), cells, jobs)


def cell_values(cell: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return the values of one cell."""
    seeds = [_read(cell, number) for number in range(len(cell))]
    for header, seed in zip(cell[1:], seeds[1:], strict=True):
        if any(not np.array_equal(seed[k], seeds[0][k]) for k in ("image_id", *NEEDED[:3])):
            expected, step = f"the rungs and cases of {cell[0].path}", "score all seeds alike"
            raise InputError([Problem(str(header.path), expected, "others", step)])
    values: list[Value] = []
    pairs_of_first = zip(seeds[0]["corruption"], seeds[0]["severity"], strict=True)
    rungs = [rung_name(*one) for one in pairs_of_first]
    for rung in dict.fromkeys(rungs):
        chosen = np.array([name == rung for name in rungs])
        part = [{name: column[chosen] for name, column in seed.items()} for seed in seeds]
        named = tuple(replace(header, column=rung) for header in cell)
        values += [_mean(named, part, score, resampling) for score in SCORES]
    whole = tuple(replace(header, column=WHOLE) for header in cell)
    patients = [seed["patient_id"] for seed in seeds]
    for sign in SCORES[1:]:
        pairs = [(seed["score_dice"], seed[f"score_{sign}"]) for seed in seeds]
        values.append(rank_correlation(whole, f"spearman_dsc_{sign}", pairs, patients, resampling))
    return tuple(values)


def rung_name(corruption: str, severity: float) -> str:
    """Return the column of a rung.

    >>> rung_name("RandomBias", 0.5), rung_name("none", 0.0)
    ('RandomBias 0.5', 'no artefact')
    """
    return CLEAN if corruption == NONE else f"{corruption} {severity:g}"


def _read(cell: Cell, number: int) -> Columns:
    columns = read_case_columns(cell[number])
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        found = f"no {', '.join(missing)}"
        raise refuse(str(cell[number].path), ", ".join(NEEDED), found, AGAIN)
    return columns


def _mean(cell: Cell, seeds: Sequence[Columns], name: str, resampling: Resampling) -> Value:
    """Return the mean of a score at a rung, over its defined cases, then over seeds."""
    scores = [seed[f"score_{name}"] for seed in seeds]
    defined = [one[np.isfinite(one)] for one in scores]
    per_seed = [float(one.mean()) if len(one) else math.nan for one in defined]
    bounds = (math.nan, math.nan)
    if resampling.resamples and not np.isnan(per_seed).any():
        first = cell[0]
        # no row in the stream: all methods are judged on the same resamples
        stream = ("patient bootstrap", first.table, first.protocol, first.column)
        rng, patients = named_rng(resampling.seed, *stream), seeds[0]["patient_id"]
        found = mean_interval_over_patients(scores, patients, rng, resampling.resamples)
        bounds = (found.low, found.high)
    kind = "none" if math.isnan(bounds[0]) else "patient bootstrap"
    return value_of(cell, name, per_seed, bounds, min(map(len, defined)), kind)
