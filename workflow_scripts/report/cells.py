"""From predictions to the values of one cell: metric, mean over seeds, interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import classification, statistics
from workflow_scripts.problems import InputError, Problem
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.long_form import CHANCE, RELEASED, Value
from workflow_scripts.report.predictions import METRICS, Cases, Header, read_cases


@dataclass(frozen=True, slots=True)
class Resampling:
    """How the patient bootstrap draws."""

    seed: int
    resamples: int  # 0: no bootstrap


def cell_values(headers: Sequence[Header], resampling: Resampling) -> tuple[Value, ...]:
    """Return all values of one cell, the paper's metric first and the chance level last.

    Args:
        headers: the predictions of the cell, one a seed.
        resampling: of the patient bootstrap; few-shot does not use it.
    """
    cases = [read_cases(header) for header in headers]
    if headers[0].kind == "episodes":
        return episode_values(headers, cases)
    return classification_values(headers, _same_order(headers, cases), resampling)


def episode_values(headers: Sequence[Header], cases: Sequence[Cases]) -> tuple[Value, ...]:
    """Return mean episode accuracy and chance level of a few-shot cell.

    The interval of one seed is the paper's, 1.96 * std / sqrt(episodes). Seeds draw their episodes
    independently, so the variance of the mean of S seeds is the sum of theirs divided by S^2.
    """
    accuracies = [episode_accuracies(case) for case in cases]
    per_seed = [statistics.mean_interval(seed) for seed in accuracies]
    means = [seed.mean for seed in per_seed]
    half_width = math.hypot(*(seed.half_width for seed in per_seed)) / len(per_seed)
    mean = float(np.mean(means))
    n = sum(map(len, accuracies))
    bounds = (max(0.0, mean - half_width), min(1.0, mean + half_width))
    chance = 1 / cases[0].scores.shape[1]
    return (
        _value(headers, "accuracy", means, bounds, n, "episodes"),
        _value(headers, CHANCE, [chance] * len(headers), (math.nan, math.nan), n, "none"),
    )


def episode_accuracies(cases: Cases) -> NDArray[np.float64]:
    """Return the fraction of correct queries of each episode, in the order of its number."""
    if cases.episode is None:
        raise ValueError("the cases of a classification have no episodes")
    correct = cases.truth == classification.predicted_class(cases.scores)
    _, place = np.unique(cases.episode, return_inverse=True)
    return np.bincount(place, weights=correct) / np.bincount(place)


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
        values.append(_value(headers, metric, per_seed, bounds, n, kind))
    chance = [chance_level(first.metric, cases[0])] * len(headers)
    return (*values, _value(headers, CHANCE, chance, (math.nan, math.nan), n, "none"))


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


def _value(
    headers: Sequence[Header], metric: str, per_seed: Sequence[float],
    bounds: tuple[float, float], n: int, interval: str,
) -> Value:  # fmt: skip
    """Return the value of one metric: the mean over the seeds, NaN if any seed is undefined."""
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
