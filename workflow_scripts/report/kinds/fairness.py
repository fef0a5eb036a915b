"""Fairness of a two-class classifier, for every attribute that the cases know.

Each gap stands beside its permutation null (mean and p-value) and its patient-bootstrap interval;
accuracy and the share of positive predictions of each group stand there too, because a classifier
that predicts one class for everybody has no gap at all. Definitions: metrics/fairness.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import fairness
from workflow_scripts.metrics.classification import accuracy, binary_roc_auc
from workflow_scripts.metrics.statistics import (
    patient_numbers,
    percentile_interval,
    weighted_roc_auc,
)
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import CHANCE
from workflow_scripts.report.predictions import Header, read_case_columns

Floats = NDArray[np.float64]
NO_BOUNDS = (math.nan, math.nan)
GROUPS = {  # column of the cases -> attribute as the table's columns say it
    "group_sex": "sex",
    "group_age_years": "age over 60",
    "group_race": "race White",
}
LEAKS = ("frozen", "retrained")  # classifiers of the attribute; their margins are columns
NEEDED = ("truth", "score_no_finding", "score_disease", "patient_id", "image_id")
AGAIN = "make the file again with debiased_noise.disease_head"


class Seed(NamedTuple):
    """The cases of one seed whose group is known, sorted by image; every field has shape (N,)."""

    group: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    margin: Floats  # logit of the disease minus that of No Finding
    leaks: dict[str, Floats]  # margins of the attribute classifiers
    patients: NDArray[Any]

    @property
    def counts(self) -> fairness.Counts:
        """Cases by group, label and prediction, shape (2, 2, 2)."""
        return fairness.outcome_counts(self.group, self.truth, self.predicted)

    @property
    def units(self) -> fairness.Units:
        """The same by patient."""
        return fairness.units_of(self.group, self.truth, self.predicted, self.patients)


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values of all cells: one column for each attribute that both groups have."""
    return map_cells(partial(cell_values, resampling=resampling), cells, jobs)


def cell_values(cell: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return the values of one cell, attribute by attribute."""
    seeds = [_sorted_columns(header) for header in cell]
    _require_same_cases(cell, seeds)
    values: list[Value] = []
    for column, attribute in GROUPS.items():
        cases = [_seed(columns, column) for columns in seeds if column in columns]
        if len(cases) == len(seeds) and set(cases[0].group) == {0, 1}:
            named = f"{cell[0].column}, {attribute}"
            found = attribute_values(cell, cases, attribute, resampling)
            values += [replace(value, column=named) for value in found]
    if not values:
        expected = "cases with and without an attribute"
        raise refuse(str(cell[0].path), expected, "none with both", AGAIN)
    return tuple(values)


def attribute_values(
    headers: Sequence[Header], seeds: Sequence[Seed], attribute: str, resampling: Resampling
) -> Iterator[Value]:
    """Yield all values of one cell for one attribute.

    Args:
        headers: one a seed.
        seeds: the cases of each.
        attribute: its name, for the random streams. They bear no row, so that the methods of a
            column are judged on the same resamples.
        resampling: of bootstrap and permutations.
    """
    n = len(seeds[0].truth)
    stream = (headers[0].table, headers[0].protocol, headers[0].column, attribute)
    one = partial(value_of, headers)
    drawn = [_drawn(seed, resampling, "patient bootstrap", *stream) for seed in seeds]
    dealt = [_dealt(seed, resampling, "permutation", *stream) for seed in seeds]
    for name, measure in (fairness.LEVELS | fairness.GAPS).items():
        per_seed = [float(measure(seed.counts)) for seed in seeds]
        bounds = _bounds(measure, drawn, per_seed)
        count = n
        if name == "worst_subgroup":
            count = min(fairness.worst_subgroup_count(seed.counts) for seed in seeds)
        yield one(name, per_seed, bounds, count, _kind(bounds))
        if name in fairness.GAPS and resampling.resamples:
            yield from _null_values(headers, name, measure, per_seed, dealt, n)
    yield from _subgroup_values(headers, seeds)
    yield from _auc_values(headers, seeds, resampling, stream)
    yield from _leak_values(headers, seeds)
    constant = [float(fairness.is_constant(seed.counts)) for seed in seeds]
    yield one("constant_prediction", constant, NO_BOUNDS, n, "none")
    share = float(np.bincount(seeds[0].truth).max() / n)
    yield one(CHANCE, [share] * len(headers), NO_BOUNDS, n, "none")


def _drawn(seed: Seed, resampling: Resampling, *stream: str) -> fairness.Counts:
    """Return the counts of the bootstrap's resamples; every seed is drawn alike."""
    rng = named_rng(resampling.seed, *stream)
    if not resampling.resamples:
        return np.zeros((0, 2, 2, 2), dtype=np.int64)
    return fairness.bootstrap_counts(seed.units, rng, resampling.resamples)


def _dealt(seed: Seed, resampling: Resampling, *stream: str) -> fairness.Counts:
    """Return the counts of the permutations; every seed is dealt alike."""
    rng = named_rng(resampling.seed, *stream)
    if not resampling.resamples:
        return np.zeros((0, 2, 2, 2), dtype=np.int64)
    return fairness.permuted_counts(seed.units, rng, resampling.resamples)


def _bounds(
    measure: fairness.Measure, drawn: Sequence[fairness.Counts], per_seed: Sequence[float]
) -> tuple[float, float]:
    """Return the interval of the mean over the seeds; none where the value is undefined."""
    if np.isnan(per_seed).any() or len(drawn[0]) == 0:
        return NO_BOUNDS
    return fairness.percentiles(np.mean([measure(counts) for counts in drawn], axis=0))


def _kind(bounds: tuple[float, float]) -> str:
    return "none" if math.isnan(bounds[0]) else "patient bootstrap"


def _null_values(
    headers: Sequence[Header], name: str, measure: fairness.Measure, per_seed: Sequence[float],
    dealt: Sequence[fairness.Counts], n: int,
) -> Iterator[Value]:  # fmt: skip
    """Yield mean and p-value of a gap under permutation: of the mean over the seeds."""
    permuted = np.mean([measure(counts) for counts in dealt], axis=0)
    null = fairness.permutation_null(float(np.mean(per_seed)), permuted)
    for suffix, value in (("null", null.mean), ("p", null.p_value)):
        yield value_of(headers, f"{name}_{suffix}", [value] * len(headers), NO_BOUNDS, n, "none")


def _subgroup_values(headers: Sequence[Header], seeds: Sequence[Seed]) -> Iterator[Value]:
    """Yield accuracy of each subgroup with its count, and the positive rate of each group."""
    sizes = seeds[0].counts.sum(axis=-1)  # (G, Y)
    for group, group_name in ((1, "in"), (0, "out")):
        for label, label_name in ((0, "negatives"), (1, "positives")):
            rates = [float(fairness.subgroup_accuracy(seed.counts)[group, label]) for seed in seeds]
            metric, n = f"accuracy_{label_name}_{group_name}", int(sizes[group, label])
            yield value_of(headers, metric, rates, NO_BOUNDS, n, "none")
        rates = [float(fairness.positive_rate(seed.counts)[group]) for seed in seeds]
        n = int(sizes[group].sum())
        yield value_of(headers, f"positive_rate_{group_name}", rates, NO_BOUNDS, n, "none")


def _auc_values(
    headers: Sequence[Header], seeds: Sequence[Seed], resampling: Resampling, stream: Sequence[str]
) -> Iterator[Value]:
    """Yield the AUC of all cases with its interval, of each group, and their gap and worst."""
    n = len(seeds[0].truth)
    per_seed = [binary_roc_auc(seed.truth, seed.margin).value for seed in seeds]
    bounds = NO_BOUNDS
    if resampling.resamples and not np.isnan(per_seed).any():
        place, n_patients = patient_numbers(seeds[0].patients)
        areas = [weighted_roc_auc(seed.truth == 1, seed.margin, place) for seed in seeds]
        statistic: Callable[[Any], float] = lambda drawn: float(  # noqa: E731
            np.mean([area(drawn) for area in areas])
        )
        rng = named_rng(resampling.seed, "patient bootstrap", *stream, "auc")
        bounds = percentile_interval(statistic, n_patients, rng, resampling.resamples)[:2]
    yield value_of(headers, "auc", per_seed, bounds, n, _kind(bounds))
    pairs = np.array([fairness.group_auc(s.group, s.truth, s.margin) for s in seeds])  # (S, 2)
    groups = {"auc_in": pairs[:, 0], "auc_out": pairs[:, 1]}
    groups |= {"auc_gap": np.abs(pairs[:, 0] - pairs[:, 1]), "auc_worst": pairs.min(axis=1)}
    for metric, values in groups.items():
        yield value_of(headers, metric, values.tolist(), NO_BOUNDS, n, "none")


def _leak_values(headers: Sequence[Header], seeds: Sequence[Seed]) -> Iterator[Value]:
    """Yield how well the attribute is found, where the classifiers are of this attribute."""
    n = len(seeds[0].truth)
    for name in LEAKS:
        if name not in seeds[0].leaks:
            continue
        pairs = [(seed.group, seed.leaks[name]) for seed in seeds]
        right = [accuracy(group, (margin > 0).astype(int)).value for group, margin in pairs]
        areas = [binary_roc_auc(group, margin).value for group, margin in pairs]
        for metric, per_seed in ((f"leak_{name}", right), (f"leak_{name}_auc", areas)):
            yield value_of(headers, metric, per_seed, NO_BOUNDS, n, "none")


def _sorted_columns(header: Header) -> dict[str, NDArray[Any]]:
    """Return the columns of a file sorted by image; one that misses a column is refused."""
    columns = read_case_columns(header)
    absent = [name for name in NEEDED if name not in columns]
    if absent or not np.isin(columns["truth"], (0, 1)).all():
        found = f"no {', '.join(absent)}" if absent else "other labels"
        raise refuse(str(header.path), "labels 0 or 1 and two logits", found, AGAIN)
    scores = [columns["score_no_finding"], columns["score_disease"]]
    if np.isnan(scores).any():
        raise refuse(str(header.path), "logits of every case", "undefined ones", AGAIN)
    order = np.argsort(columns["image_id"].astype(str), kind="stable")
    return {name: column[order] for name, column in columns.items()}


def _seed(columns: dict[str, NDArray[Any]], group_column: str) -> Seed:
    """Return the cases whose group is known; a tie of the logits is predicted negative."""
    known = ~np.isnan(columns[group_column].astype(np.float64))
    margin = columns["score_disease"] - columns["score_no_finding"]
    # the attribute classifiers speak of the attribute that the edit hides only
    hidden = str(columns.get("hidden", np.array([""]))[0])
    leaks = {
        name: columns[f"score_attribute_{name}"][known]
        for name in LEAKS
        if f"score_attribute_{name}" in columns and group_column == f"group_{hidden}"
    }
    return Seed(
        group=columns[group_column][known].astype(np.int64),
        truth=columns["truth"][known].astype(np.int64),
        predicted=(margin[known] > 0).astype(np.int64),
        margin=margin[known],
        leaks=leaks,
        patients=columns["patient_id"][known].astype(str),
    )


def _require_same_cases(cell: Cell, seeds: Sequence[dict[str, NDArray[Any]]]) -> None:
    """Refuse seeds of a cell with other cases, labels or groups."""
    problems = []
    for header, columns in zip(cell[1:], seeds[1:], strict=True):
        for name in ("image_id", "patient_id", "truth", *GROUPS):
            one, other = seeds[0].get(name), columns.get(name)
            if (one is None) != (other is None) or (
                one is not None and other is not None and not _equal(one, other)
            ):
                expected = f"the {name} of {cell[0].path}"
                step = "make all seeds of a cell from one manifest"
                problems.append(Problem(str(header.path), expected, "another", step))
    if problems:
        raise InputError(problems)


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Tell whether two columns hold the same, NaN equal to NaN."""
    is_number = one.dtype.kind == "f"
    return bool(np.array_equal(one, other, equal_nan=is_number))
