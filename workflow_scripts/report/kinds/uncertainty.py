"""Segmentation with uncertainty: Dice, distance and NLL; correlations; quality control.

The predictions are per-case scores (`dsc`, `mhd_mm` or `mhd_px`, `nll`, `entropy`,
`mutual_information`, `variance`, and for layer ensembles `aula`), and the same for each structure
with its name behind. What each metric means: docs/explanation/layer_ensembles.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics.quality_control import (
    area_under,
    flagged_until,
    quality_control_curve,
)
from workflow_scripts.metrics.statistics import (
    Interval,
    holm,
    paired_wilcoxon,
    patient_numbers,
)
from workflow_scripts.problems import InputError, Problem
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.kinds.segmentation import mean_interval_over_patients
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import Header, read_case_columns
from workflow_scripts.report.rank_values import rank_correlation

Floats = NDArray[np.float64]
BASELINE = "layer_ensembles"  # the row that the others are tested against
CORRELATION, SKIPS = "layer_ensembles_correlation", "layer_ensembles_skips"
PAPER = "paper"  # its tables put the largest finite distance in place of an infinite one
QUALITIES, SIGNS = ("dsc", "mhd_mm", "mhd_px"), ("entropy", "mutual_information", "variance")
AREA = "aula"
FLAGGED_GOAL = 0.05  # of bad cases left (Fig. 2)
NO_BOUNDS = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers of one seed of a cell, cases sorted by image.

    Attributes:
        header: what the file says it is.
        columns: score name (without `score_`) to numbers, shape (N,); NaN where undefined.
        images: ids, shape (N,).
        patients: shape (N,).
    """

    header: Header
    columns: dict[str, Floats]
    images: NDArray[np.object_]
    patients: NDArray[np.object_]


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values of a table's cells, in their order."""
    if cells[0][0].table == CORRELATION:
        return map_cells(partial(correlation_values, resampling=resampling), cells, jobs)
    largest = largest_distances(cells)
    work = partial(quality_values, resampling=resampling, largest=largest)
    values = map_cells(work, cells, jobs)
    if cells[0][0].table == SKIPS:
        return values
    return (*values, *test_values(cells, largest))


def read_scores(cell: Cell) -> list[Scores]:
    """Return the numbers of every seed of a cell; seeds with other cases are refused."""
    found = []
    for header in cell:
        columns = read_case_columns(header)
        order = np.argsort(columns["image_id"].astype(str))
        numbers = {
            name.removeprefix("score_"): values[order]
            for name, values in columns.items()
            if name.startswith("score_")
        }
        images, patients = columns["image_id"][order], columns["patient_id"][order]
        found.append(Scores(header, numbers, images, patients))
    _same_cases(found)
    return found


def _same_cases(scores: Sequence[Scores]) -> None:
    """Raise where files that are compared case by case hold other cases."""
    first = scores[0]
    step = "make all of them from one manifest"
    problems = [
        Problem(str(one.header.path), f"the cases of {first.header.path}", "other cases", step)
        for one in scores[1:]
        if not np.array_equal(one.images, first.images)
    ]
    if problems:
        raise InputError(problems)


Place = tuple[str, str, str]  # protocol, column, name of the distance
Largest = dict[Place, float]


def largest_distances(cells: Sequence[Cell]) -> Largest:
    """Return the largest finite distance of all rows of a column, where the paper replaces.

    Only of all structures together: the paper's tables leave the single structures as they are.
    Without a finite distance in any row there is none: 0 would be a perfect score.
    """
    found: Largest = {}
    for cell in cells:
        for one in read_scores(cell) if cell[0].protocol == PAPER else []:
            for name in one.columns.keys() & set(QUALITIES[1:]):
                place = (one.header.protocol, one.header.column, name)
                finite = one.columns[name][np.isfinite(one.columns[name])]
                if len(finite):
                    found[place] = max(found.get(place, 0.0), float(finite.max()))
    return found


def cleaned(one: Scores, name: str, largest: Largest) -> Floats:
    """Return a score with infinite distances replaced where the paper does; else NaN."""
    values = one.columns[name]
    place = (one.header.protocol, one.header.column, name)
    if place not in largest:
        return values
    return np.where(one.columns["mhd_infinite"] > 0, largest[place], values)


def measured(one: Scores) -> list[str]:
    """Return the names of the qualities of a file, Dice of all structures first."""
    kinds = ("nll", *QUALITIES) if one.header.table == SKIPS else (*QUALITIES, "nll")
    names = [n for kind in kinds for n in one.columns if n == kind or n.startswith(f"{kind}_")]
    return [name for name in names if "infinite" not in name]


def quality_values(cell: Cell, resampling: Resampling, largest: Largest) -> tuple[Value, ...]:
    """Return mean, interval and spread over cases of each quality of a cell.

    The mean is over the cases where the value is defined; `n` counts them.
    """
    scores = read_scores(cell)
    values: list[Value] = []
    for name in measured(scores[0]):
        per_seed = [cleaned(one, name, largest) for one in scores]
        defined = [one[np.isfinite(one)] for one in per_seed]
        n = min(map(len, defined))
        means = [float(one.mean()) if len(one) else math.nan for one in defined]
        spreads = [float(one.std(ddof=1)) if len(one) > 1 else math.nan for one in defined]
        interval = mean_interval(scores, per_seed, resampling, name)
        bounds = (interval.low, interval.high)
        kind = "none" if math.isnan(interval.low) else "patient bootstrap"
        values.append(value_of(cell, name, means, bounds, n, kind))
        values.append(value_of(cell, f"{name}_std", spreads, NO_BOUNDS, n, "none"))
    for name in (n for n in scores[0].columns if "infinite" in n):
        counts = [float(one.columns[name].sum()) for one in scores]
        if sum(counts):
            values.append(value_of(cell, name, counts, NO_BOUNDS, len(scores[0].images), "none"))
    return tuple(values)


def mean_interval(
    scores: Sequence[Scores], per_seed: Sequence[Floats], resampling: Resampling, name: str
) -> Interval:
    """Return the interval of the mean over seeds of the mean over cases, patients drawn anew."""
    _, n_patients = patient_numbers(scores[0].patients)
    if not resampling.resamples:
        return Interval(math.nan, math.nan, n_patients, 0)
    header, patients = scores[0].header, scores[0].patients
    rng = named_rng(resampling.seed, "patient bootstrap", header.table, header.column, name)
    return mean_interval_over_patients(per_seed, patients, rng, resampling.resamples)


def test_values(cells: Sequence[Cell], largest: Largest) -> Iterator[Value]:
    """Yield the two-sided Wilcoxon tests of each row against layer ensembles.

    Paired by case, values averaged over seeds; p-values are adjusted by Holm for all tests of one
    protocol and column.
    """
    families: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        families.setdefault((cell[0].protocol, cell[0].column), []).append(cell)
    for family in families.values():
        baseline = next((read_scores(c) for c in family if c[0].row == BASELINE), None)
        others = [cell for cell in family if cell[0].row != BASELINE]
        if baseline is None:
            continue
        tests = [one for cell in others for one in _tests(cell, baseline, largest)]
        adjusted = holm([p for *_, p in tests])
        for (cell, name, n, _), p in zip(tests, adjusted.tolist(), strict=True):
            yield value_of(cell, f"p_{name}", [p], NO_BOUNDS, n, "none")


def _tests(
    cell: Cell, baseline: Sequence[Scores], largest: Largest
) -> Iterator[tuple[Cell, str, int, float]]:
    """Yield cell, quality, number of pairs and p of one row's tests."""
    scores = read_scores(cell)
    _same_cases([baseline[0], scores[0]])
    for name in measured(scores[0]):
        ours, theirs = (
            np.mean([cleaned(one, name, largest) for one in side], axis=0)
            for side in (baseline, scores)
        )
        found = paired_wilcoxon(ours, theirs)
        yield cell, name, found.n_pairs, found.p_value


def correlation_values(cell: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return Spearman's correlation of quality and uncertainty, and the quality-control area.

    With several seeds: the mean of their values; the interval spans the intervals of all seeds.
    """
    scores = read_scores(cell)
    first = scores[0].columns
    values: list[Value] = []
    for quality in (name for name in QUALITIES if name in first):
        signs = [sign for sign in (*SIGNS, AREA) if sign in first]
        values += [_correlation(cell, scores, quality, sign, resampling) for sign in signs]
    for suffix in (n.removeprefix("is_bad") for n in first if n.startswith("is_bad")):
        curves = [control_curve(one, suffix) for one in scores]
        values += control_values(cell, curves, suffix, len(scores[0].images))
    return tuple(values)


def _correlation(
    cell: Cell, scores: Sequence[Scores], quality: str, sign: str, resampling: Resampling
) -> Value:
    """Return the correlation of one quality with one uncertainty."""
    metric = f"spearman_{quality.partition('_')[0]}_{sign}"
    pairs = [(one.columns[quality], one.columns[sign]) for one in scores]
    return rank_correlation(cell, metric, pairs, [one.patients for one in scores], resampling)


def suspicion(one: Scores, suffix: str) -> Floats:
    """Return what orders the cases for quality control: low AULA, or a variance without it.

    The union is ordered by the image's variance, a structure by the variance of its probability
    (spec section 8).
    """
    if f"{AREA}{suffix}" in one.columns:
        return -one.columns[f"{AREA}{suffix}"]
    return one.columns[f"class_variance{suffix}" if suffix else "variance"]


def control_curve(one: Scores, suffix: str) -> Floats:
    """Return the quality-control curve of one seed."""
    is_bad = one.columns[f"is_bad{suffix}"] > 0
    return quality_control_curve(is_bad, suspicion(one, suffix))


def control_values(cell: Cell, curves: Sequence[Floats], suffix: str, n: int) -> list[Value]:
    """Return what Fig. 2 says in numbers: its area, where it starts, what has to be flagged."""
    read_off: dict[str, Callable[[Floats], float]] = {
        "qc_auc": area_under,
        "qc_start": lambda curve: float(curve[0]),
        "qc_flagged_5": partial(flagged_until, level=FLAGGED_GOAL),
        "qc_flagged_0": partial(flagged_until, level=0.0),
    }
    return [
        value_of(cell, f"{name}{suffix}", [read(one) for one in curves], NO_BOUNDS, n, "none")
        for name, read in read_off.items()
    ]
