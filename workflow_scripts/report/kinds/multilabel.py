"""Several findings an image, several heads a network: ranking and calibration, ID, OOD and drop.

A row of the table is a variant's head. Intervals draw patients with replacement; that of a drop
draws the ID and the OOD patients independently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import statistics
from workflow_scripts.metrics.calibration import brier_of_draws, chance_of, ece_of_draws
from workflow_scripts.metrics.ranking import average_precision_of_draws, roc_auc_of_draws
from workflow_scripts.metrics.statistics import Counts, Floats, ManyStatistic
from workflow_scripts.problems import InputError, Problem
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import CHANCE, finding_name
from workflow_scripts.report.predictions import Header, read_case_columns

NO_FINDING = "No Finding"  # not in the mean AUC (CROCODILE spec section 9)
ID, OOD, DROP = "ID", "OOD", "drop"
TRUTH, SCORE = "truth_", "score_"
AGES = {"below_40": (0, 40), "40_to_60": (40, 60), "from_60": (60, math.inf)}  # years (ours)
SEXES = {"female": "F", "male": "M"}
Columns = Mapping[str, NDArray[Any]]


class HeadResult(NamedTuple):
    """What one head reached on one column of the table; M metrics, S seeds, R resamples."""

    per_seed: dict[str, list[float]]  # metric to S values
    resampled: dict[str, Floats]  # metric to means over the seeds, shape (R,)
    n: int  # cases
    n_patients: int
    group_n: dict[str, int]  # cases of each subgroup

    def cases_behind(self, metric: str) -> int:
        """Return how many cases a metric rests on: all, or those of its subgroup."""
        return self.group_n.get(metric.removeprefix("mean_auc_"), self.n)


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values: of each variant its heads, each ID, OOD and what is lost between them."""
    bundles: dict[tuple[str, str], list[Header]] = {}
    for cell in cells:
        bundles.setdefault((cell[0].protocol, cell[0].row), []).extend(cell)
    work = partial(variant_values, resampling=resampling)
    return map_cells(work, [tuple(headers) for headers in bundles.values()], jobs)


def variant_values(headers: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return the values of one variant; `headers` are of all its columns and seeds."""
    columns: dict[str, list[Header]] = {}
    for header in headers:
        columns.setdefault(header.column, []).append(header)
    found = {name: column_results(part, resampling) for name, part in columns.items()}
    values: list[Value] = []
    heads = list(dict.fromkeys(head for one in found.values() for head in one))
    for head in heads:
        for name, part in columns.items():
            named = [replace(header, row=f"{header.row}, {head}") for header in part]
            values += head_values(named, found[name][head])
        if ID in found and OOD in found:
            named = [
                replace(header, row=f"{header.row}, {head}", column=DROP) for header in columns[ID]
            ]
            values += drop_values(named, found[ID][head], found[OOD][head])
    return tuple(values)


def column_results(headers: Sequence[Header], resampling: Resampling) -> dict[str, HeadResult]:
    """Return what each head reached on one column, from its predictions of each seed."""
    read = [read_case_columns(header) for header in headers]
    _check_numbers(headers, read)
    seeds = _same_order(headers, read)
    first = seeds[0]
    findings = [name.removeprefix(TRUTH) for name in first if name.startswith(TRUTH)]
    heads = list(
        dict.fromkeys(
            name.removeprefix(SCORE).removesuffix(f"_{finding}")
            for name in first
            for finding in findings
            if name.startswith(SCORE) and name.endswith(f"_{finding}")
        )
    )
    # No row in the stream: all variants and heads of a column are judged on the same resamples.
    stream = ("patient bootstrap", headers[0].table, headers[0].protocol, headers[0].column)
    return {
        head: head_result(seeds, head, findings, named_rng(resampling.seed, *stream), resampling)
        for head in heads
    }


def head_result(
    seeds: Sequence[Columns], head: str, findings: Sequence[str], rng: np.random.Generator,
    resampling: Resampling,
) -> HeadResult:  # fmt: skip
    """Return the metrics of one head, for each seed and for each resample of the patients."""
    first = seeds[0]
    place, n_patients = statistics.patient_numbers(first["patient_id"].astype(str))
    everyone = np.ones((1, n_patients), dtype=np.int64)
    per_seed: dict[str, list[float]] = {}
    sums: dict[str, Floats] = {}
    draws_rng = rng.bit_generator.state
    for seed in seeds:
        names, parts = statistics_of(seed, head, findings, place)
        for name, value in summarised(names, _values(parts, everyone), findings).items():
            per_seed.setdefault(name, []).append(float(value[0]))
        if resampling.resamples:
            rng.bit_generator.state = draws_rng  # the same patients for every seed
            drawn = statistics.resampled(parts, n_patients, rng, resampling.resamples, len(place))
            for name, values in summarised(names, drawn, findings).items():
                sums[name] = sums.get(name, np.zeros(len(values))) + values / len(seeds)
    group_n = {name: int(chosen.sum()) for name, chosen in subgroups(first).items()}
    return HeadResult(per_seed, sums, len(place), n_patients, group_n)


def statistics_of(
    columns: Columns, head: str, findings: Sequence[str], place: Counts
) -> tuple[list[str], list[ManyStatistic]]:
    """Return the elementary metrics of one head: of each finding, and of each subgroup."""
    names: list[str] = []
    parts: list[ManyStatistic] = []
    groups = subgroups(columns)
    for finding in findings:
        present = columns[f"{TRUTH}{finding}"] == 1
        logits = columns[f"{SCORE}{head}_{finding}"]
        chance, own = chance_of(logits), finding_name(finding)
        names += [f"{metric}_{own}" for metric in ("auc", "ap", "ece", "brier")]
        parts += [roc_auc_of_draws(present, logits, place)]
        parts += [average_precision_of_draws(present, logits, place)]
        parts += [ece_of_draws(present, chance, place), brier_of_draws(present, chance, place)]
        for group, chosen in groups.items():
            names.append(f"auc_{own}/{group}")
            parts.append(roc_auc_of_draws(present[chosen], logits[chosen], place[chosen]))
    return names, parts


def subgroups(columns: Columns) -> dict[str, NDArray[np.bool_]]:
    """Return who belongs to each subgroup of sex and age; who is unknown belongs to none."""
    sex, age = columns["sex"], columns["age_years"]
    groups = {name: sex == letter for name, letter in SEXES.items()}
    return groups | {name: (age >= low) & (age < high) for name, (low, high) in AGES.items()}


def summarised(names: Sequence[str], values: Floats, findings: Sequence[str]) -> dict[str, Floats]:
    """Return the table's metrics from the elementary ones, shape (R,) each.

    A mean is undefined where one of its findings is.

    Args:
        names: of the M elementary metrics.
        values: shape (R, M).
        findings: all of them.
    """
    by_name = dict(zip(names, values.T, strict=True))
    every = [finding_name(finding) for finding in findings]
    judged = [finding_name(finding) for finding in findings if finding != NO_FINDING]
    groups = list(dict.fromkeys(name.split("/")[1] for name in names if "/" in name))

    def mean(prefix: str, chosen: Sequence[str], suffix: str = "") -> Floats:
        return np.asarray(np.mean([by_name[f"{prefix}_{name}{suffix}"] for name in chosen], axis=0))

    means = {
        "mean_auc": mean("auc", judged),
        "map": mean("ap", every),
        "ece": mean("ece", every),
        "brier": mean("brier", every),
    }
    of_groups = {f"mean_auc_{group}": mean("auc", judged, f"/{group}") for group in groups}
    single = {f"{metric}_{name}": by_name[f"{metric}_{name}"] for metric in ("auc", "ap")
              for name in every}  # fmt: skip
    return means | of_groups | single


def head_values(headers: Sequence[Header], result: HeadResult) -> list[Value]:
    """Return the values of one row and column; the chance level of the mean AUC last."""
    values = [
        _value(
            headers,
            name,
            per_seed,
            result.resampled.get(name),
            result.cases_behind(name),
            result.n_patients,
        )
        for name, per_seed in result.per_seed.items()
    ]
    no_bounds = (math.nan, math.nan)
    chance = value_of(headers, CHANCE, [0.5] * len(headers), no_bounds, result.n, "none")
    return [*values, chance]


def drop_values(headers: Sequence[Header], inside: HeadResult, outside: HeadResult) -> list[Value]:
    """Return what ranking loses from ID to OOD: ID minus OOD, of each seed and each resample."""
    values = []
    n_patients = min(inside.n_patients, outside.n_patients)
    for name, at_home in inside.per_seed.items():
        if name in ("ece", "brier"):  # not a loss of ranking; stated for ID and OOD
            continue
        away = outside.per_seed[name]
        lost = [a - b for a, b in zip(at_home, away, strict=True)]
        drawn = None
        if name in inside.resampled and name in outside.resampled:
            drawn = inside.resampled[name] - outside.resampled[name]
        n = inside.cases_behind(name) + outside.cases_behind(name)
        values.append(_value(headers, f"{name}_drop", lost, drawn, n, n_patients))
    return values


def _value(
    headers: Sequence[Header], name: str, per_seed: Sequence[float], drawn: Floats | None,
    n: int, n_patients: int,
) -> Value:  # fmt: skip
    bounds = (math.nan, math.nan)
    if drawn is not None and not np.isnan(per_seed).any():
        interval = statistics.central_interval(drawn, n_patients)
        bounds = (interval.low, interval.high)
    kind = "none" if math.isnan(bounds[0]) else "patient bootstrap"
    return value_of(headers, name, per_seed, bounds, n, kind)


def _values(parts: Sequence[ManyStatistic], drawn: Counts) -> Floats:
    return np.stack([part(drawn) for part in parts], axis=1)


def _check_numbers(headers: Sequence[Header], seeds: Sequence[Columns]) -> None:
    """Refuse truths that are neither 0 nor 1, and scores that are not numbers."""
    step = "make the predictions again"
    problems = []
    for header, columns in zip(headers, seeds, strict=True):
        for name, values in columns.items():
            if name.startswith(TRUTH) and not np.isin(values, (0, 1)).all():
                found = str(values[~np.isin(values, (0, 1))][0])
                problems.append(Problem(f"{header.path} column {name!r}", "0 or 1", found, step))
            if name.startswith(SCORE) and np.isnan(values.astype(np.float64)).any():
                found = f"{int(np.isnan(values).sum())} gaps"
                problems.append(Problem(f"{header.path} column {name!r}", "numbers", found, step))
    if problems:
        raise InputError(problems)


def _same_order(headers: Sequence[Header], seeds: list[dict[str, NDArray[Any]]]) -> list[Columns]:
    """Return the cases of every seed sorted by image; seeds with other cases are refused."""
    ordered = []
    for seed in seeds:
        order = np.argsort(seed["image_id"].astype(str), kind="stable")
        ordered.append({name: values[order] for name, values in seed.items()})
    first = ordered[0]
    fixed = ["image_id", "patient_id", *(name for name in first if name.startswith(TRUTH))]
    problems = []
    for header, seed in zip(headers[1:], ordered[1:], strict=True):
        wrong = [
            name
            for name in fixed
            if name not in seed or not np.array_equal(seed[name], first[name])
        ]
        if wrong or set(seed) != set(first):
            found = f"other {', '.join(wrong) or 'heads'}"
            expected = f"the cases of {headers[0].path}"
            step = "make all seeds of a cell from one manifest"
            problems.append(Problem(str(header.path), expected, found, step))
    if problems:
        raise InputError(problems)
    return list(ordered)
