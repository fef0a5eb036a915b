"""Single-label classification: accuracies and AUC with patient-bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from workflow_scripts.metrics import classification, statistics
from workflow_scripts.problems import InputError, Problem
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import RELEASED, Value
from workflow_scripts.report.metric_catalogue import CHANCE
from workflow_scripts.report.predictions import Cases, Header, read_cases

METRICS = ("accuracy", "mean_per_class_accuracy", "auc")


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values of all cells, the paper's metric first in each, the chance level last."""
    return map_cells(partial(cell_values, resampling=resampling), cells, jobs)


def cell_values(cell: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return the values of one cell."""
    cases = _same_order(cell, [read_cases(header) for header in cell])
    return classification_values(cell, cases, resampling)


def classification_values(
    headers: Sequence[Header], cases: Sequence[Cases], resampling: Resampling
) -> tuple[Value, ...]:
    """Return accuracy, mean per-class accuracy, AUC and chance level of a classification cell.

    Args:
        headers: one a seed.
        cases: the cases of each seed, in one order.
        resampling: of the patient bootstrap. Its stream bears no row, so that the checkpoints of
            a column are judged on the same resamples, and one resample serves all seeds.
    """
    first = headers[0]
    others = [name for name in METRICS if name != first.metric]
    n = len(cases[0].truth)
    values = []
    for metric in (first.metric, *others):
        per_seed = [metric_of(metric, case, first.protocol) for case in cases]
        bounds = (math.nan, math.nan)
        if resampling.resamples and not np.isnan(per_seed).any():
            stream = ("patient bootstrap", first.table, first.protocol, first.column)
            interval = patient_interval(metric, cases, resampling, *stream)
            bounds = (interval.low, interval.high)
        kind = "none" if math.isnan(bounds[0]) else "patient bootstrap"
        values.append(value_of(headers, metric, per_seed, bounds, n, kind))
    chance = [chance_level(first.metric, cases[0])] * len(headers)
    return (*values, value_of(headers, CHANCE, chance, (math.nan, math.nan), n, "none"))


def metric_of(metric: str, cases: Cases, protocol: str) -> float:
    """Return one metric of one seed; NaN where it is undefined.

    The released code lets a class that is predicted but has no case make the mean undefined.
    """
    predicted = classification.predicted_class(cases.scores)
    if metric == "accuracy":
        return classification.accuracy(cases.truth, predicted).value
    if metric == "mean_per_class_accuracy":
        is_released = protocol == RELEASED
        return classification.mean_per_class_accuracy(cases.truth, predicted, is_released).value
    return classification.roc_auc(cases.truth, cases.scores).value


def patient_interval(
    metric: str, cases: Sequence[Cases], resampling: Resampling, *stream: str
) -> statistics.Interval:
    """Return the bootstrap interval of the mean over seeds when patients are drawn anew.

    The seeds hold the same cases, so the accuracies of the stacked cases are the means over the
    seeds; the AUC ranks within a seed and is averaged after.
    """
    rng, n_resamples = named_rng(resampling.seed, *stream), resampling.resamples
    if metric == "auc":
        return _auc_interval(cases, rng, n_resamples)
    bootstrap = {
        "accuracy": statistics.bootstrap_accuracy,
        "mean_per_class_accuracy": statistics.bootstrap_mean_per_class_accuracy,
    }[metric]
    return bootstrap(
        np.concatenate([case.truth for case in cases]),
        np.concatenate([classification.predicted_class(case.scores) for case in cases]),
        np.concatenate([case.patient_id for case in cases]),
        rng,
        n_resamples,
    )


def _auc_interval(
    cases: Sequence[Cases], rng: np.random.Generator, n_resamples: int
) -> statistics.Interval:
    """Return the bootstrap interval of the mean over seeds of the AUC."""
    place, n_patients = statistics.patient_numbers(cases[0].patient_id)
    areas = []
    for case in cases:
        columns = classification.class_margins(case.scores)
        classes = [1] if columns.shape[1] == 1 else range(columns.shape[1])
        for index, column in zip(classes, columns.T, strict=True):
            areas.append(statistics.weighted_roc_auc(case.truth == index, column, place))
    return statistics.percentile_interval(
        lambda drawn: float(np.mean([area(drawn) for area in areas])),
        n_patients, rng, n_resamples,
    )  # fmt: skip


def chance_level(metric: str, cases: Cases) -> float:
    """Return what a constant prediction reaches.

    Accuracy: the share of the most frequent class. Mean per-class accuracy: one over the number
    of classes that have a case. AUC: one half.
    """
    if metric == "auc":
        return 0.5
    counts = np.bincount(cases.truth)
    if metric == "accuracy":
        return float(counts.max() / counts.sum())
    return 1 / int((counts > 0).sum())


def _same_order(headers: Sequence[Header], cases: Sequence[Cases]) -> list[Cases]:
    """Return the cases of every seed sorted by image; seeds with other cases are refused."""
    ordered = [_sorted(case) for case in cases]
    problems = []
    for header, case in zip(headers[1:], ordered[1:], strict=True):
        differing = [
            name
            for name in ("image_id", "patient_id", "truth")
            if not np.array_equal(getattr(case, name), getattr(ordered[0], name))
        ]
        if differing or case.scores.shape != ordered[0].scores.shape:
            found = f"other {', '.join(differing) or 'classes'}"
            expected = f"the cases of {headers[0].path}"
            step = "make all seeds of a cell from one manifest"
            problems.append(Problem(str(header.path), expected, found, step))
    if problems:
        raise InputError(problems)
    return ordered


def _sorted(cases: Cases) -> Cases:
    """Return the cases sorted by image."""
    order = np.argsort(cases.image_id, kind="stable")
    return Cases(
        truth=cases.truth[order],
        scores=cases.scores[order],
        image_id=cases.image_id[order],
        patient_id=cases.patient_id[order],
        episode=None,
    )
