"""Segmentations: Dice and HD95 of structures in volumes, and paired tests against a baseline.

A file has one row a structure of a volume: `score_dice`, `score_hd95_mm`, and beside them
`structure, test_set, vendor, reference_voxels, predicted_voxels, compared_with`. The columns of
the table are the test sets in the files (a corrupted data set has one for each corruption), the
vendors of a test set that has several, and the average over the test sets, where `dice_gain` is
what a row has more than its baseline (the abstract's claim). The column `average` is over the
paper's six test sets and no others, as the ledger compares it. A volume without a
structure in reference and prediction has no Dice (or 0, released); without it in one of the two
it has no HD95. Undefined values are left out of means and counted.

The unit of a paired test is the patient: the mean of all of a patient's values in a test set,
over structures, frames, draws and seeds. Holm's adjustment covers the comparisons of one test
set and protocol. The test knows nothing of training again: `dice_seeds_above` counts the seeds in
which the row's mean is above its baseline's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import statistics
from workflow_scripts.problems import InputError, Problem
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import Header, read_case_columns

SCORES = {"dice": "score_dice", "hd95_mm": "score_hd95_mm"}
AVERAGE = "average"  # column: mean over the paper's test sets
PAPERS_SETS = frozenset(  # Table 1 (spec section 14)
    ("ACDC", "M&Ms", "RandomBias", "RandomGhosting", "RandomMotion", "RandomSpike")
)
NO_BOUNDS = (math.nan, math.nan)
Columns = Mapping[str, NDArray[Any]]
NEEDED = (
    "structure",
    "test_set",
    "vendor",
    "reference_voxels",
    "predicted_voxels",
    *SCORES.values(),
)


class Part(NamedTuple):
    """One column of one row: the same test set (or vendor) of every seed.

    Attributes:
        headers: one a seed; they say where the values stand, but for the column.
        column: of the table.
        is_set: a whole test set, not one vendor of it.
        seeds: columns of each seed, rows of this part only.
    """

    headers: Cell
    column: str
    is_set: bool
    seeds: list[Columns]


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values: each part's, then averages and paired tests."""
    del jobs  # a few thousand rows a file: one process is quick
    parts = [part for cell in cells for part in parts_of(cell)]
    tests = paired_tests([part for part in parts if part.is_set])
    values: list[Value] = []
    for part in parts:
        values += part_values(part, resampling)
        values += tests.get(_place(part), [])
    means = averages(values, parts)
    return (*values, *means, *gains(means, parts))


def _place(part: Part) -> tuple[str, str, str]:
    return part.headers[0].protocol, part.headers[0].row, part.column


def parts_of(cell: Cell) -> Iterator[Part]:
    """Yield the parts of a cell: its test sets in their order, each followed by its vendors.

    Raises:
        InputError: a file without a column, or seeds with other cases.
    """
    seeds = [_read(header) for header in cell]
    for header, seed in zip(cell[1:], seeds[1:], strict=True):
        if any(not np.array_equal(seed[k], seeds[0][k]) for k in ("image_id", "structure")):
            expected, advice = f"the cases of {cell[0].path}", "score all seeds on one test set"
            raise InputError([Problem(str(header.path), expected, "other cases", advice)])
    sets, vendors = seeds[0]["test_set"], seeds[0]["vendor"]
    for name in dict.fromkeys(sets):
        yield Part(cell, str(name), True, [_rows(seed, sets == name) for seed in seeds])
        known = sorted({str(one) for one in vendors[sets == name] if one is not None})
        for vendor in known if len(known) > 1 else []:
            chosen = (sets == name) & (vendors == vendor)
            yield Part(cell, f"{name}: {vendor}", False, [_rows(seed, chosen) for seed in seeds])


def _read(header: Header) -> Columns:
    columns = read_case_columns(header)
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        expected, advice = ", ".join(NEEDED), "score again"
        raise InputError([Problem(str(header.path), expected, f"no {missing[0]}", advice)])
    return columns


def _rows(columns: Columns, chosen: NDArray[np.bool_]) -> Columns:
    return {name: values[chosen] for name, values in columns.items()}


def part_values(part: Part, resampling: Resampling) -> list[Value]:
    """Return Dice and HD95 over all structures, then by structure, then what is undefined."""
    first = part.seeds[0]
    structures = list(dict.fromkeys(first["structure"]))
    everything = np.ones(len(first["structure"]), dtype=bool)
    chosen = {"": everything} | {f"_{one.lower()}": first["structure"] == one for one in structures}
    values = []
    for metric, column in SCORES.items():
        for suffix, rows in chosen.items():
            name = f"dice{suffix}" if metric == "dice" else f"hd95{suffix}_mm"
            scores = [seed[column][rows] for seed in part.seeds]
            patients = first["patient_id"][rows]
            values.append(_mean_value(part, name, scores, patients, resampling))
    reference = [seed["reference_voxels"] > 0 for seed in part.seeds]
    predicted = [seed["predicted_voxels"] > 0 for seed in part.seeds]
    pairs = list(zip(reference, predicted, strict=True))
    counts = {
        "both_empty": [float((~a & ~b).sum()) for a, b in pairs],
        "one_empty": [float((a ^ b).sum()) for a, b in pairs],
    }
    n = len(everything)
    return [
        *values,
        *(_value(part, name, found, NO_BOUNDS, n, "none") for name, found in counts.items()),
    ]


def _mean_value(
    part: Part,
    metric: str,
    scores: list[NDArray[np.float64]],
    patients: NDArray[Any],
    resampling: Resampling,
) -> Value:
    """Return the mean of the defined scores, over seeds, with a patient-bootstrap interval."""
    per_seed = [_mean(one) for one in scores]
    n_defined = int(min(np.isfinite(one).sum() for one in scores))
    bounds, kind = NO_BOUNDS, "none"
    if resampling.resamples and not np.isnan(per_seed).any():
        first = part.headers[0]
        # no row in the stream: all methods are judged on the same resamples
        stream = ("patient bootstrap", first.table, first.protocol, part.column, metric)
        rng = named_rng(resampling.seed, *stream)
        interval = mean_interval_over_patients(scores, patients, rng, resampling.resamples)
        if not math.isnan(interval.low):
            bounds, kind = (interval.low, interval.high), "patient bootstrap"
    return _value(part, metric, per_seed, bounds, n_defined, kind)


def _value(
    part: Part, metric: str, per_seed: Sequence[float], bounds: tuple[float, float], n: int,
    interval: str,
) -> Value:  # fmt: skip
    return replace(
        value_of(part.headers, metric, per_seed, bounds, n, interval), column=part.column
    )


def _mean(scores: NDArray[np.float64]) -> float:
    defined = scores[np.isfinite(scores)]
    return float(defined.mean()) if len(defined) else math.nan


def mean_interval_over_patients(
    scores: Sequence[NDArray[np.float64]],
    patients: NDArray[Any],
    rng: np.random.Generator,
    n_resamples: int,
) -> statistics.Interval:
    """Return the interval of the mean over seeds of the mean score when patients are drawn anew.

    Args:
        scores: of each seed, shape (N,); NaN is left out.
        patients: of each row, shape (N,).
        rng: source of the resamples.
        n_resamples: how many.
    """
    place, n_patients = statistics.patient_numbers(patients.astype(str))
    totals, counts = (
        np.stack([_by_patient(values, place, n_patients) for values in part])
        for part in (
            [np.nan_to_num(one) for one in scores],
            [np.isfinite(one).astype(np.float64) for one in scores],
        )
    )  # (S, patients) each

    def statistic(drawn: NDArray[np.int64]) -> float:
        behind = counts @ drawn
        return float((totals @ drawn / behind).mean()) if (behind > 0).all() else math.nan

    return statistics.percentile_interval(statistic, n_patients, rng, n_resamples)


def _by_patient(
    values: NDArray[np.float64], place: NDArray[np.int64], n_patients: int
) -> NDArray[np.float64]:
    return np.bincount(place, weights=values, minlength=n_patients).astype(np.float64)


def averaged_sets(parts: Sequence[Part]) -> dict[str, frozenset[str]]:
    """Return the columns of averages, each with its test sets: the paper's, and all if others."""
    sets = frozenset(part.column for part in parts if part.is_set)
    found = {AVERAGE: PAPERS_SETS} if sets >= PAPERS_SETS else {}
    if len(sets) > 1 and sets != PAPERS_SETS:
        found[f"{AVERAGE} of {len(sets)} test sets"] = sets
    return found


def averages(values: Sequence[Value], parts: Sequence[Part]) -> list[Value]:
    """Return each row's mean over its test sets, where it has several (Table 1's last columns).

    Only rows with all test sets of an average have it.
    """
    found: dict[tuple[str, str, str, str], list[Value]] = {}
    chosen = averaged_sets(parts)
    for value in values:
        for name, sets in chosen.items():
            if value.metric in SCORES and value.column in sets:
                key = (name, value.protocol, value.row, value.metric)
                found.setdefault(key, []).append(value)
    return [
        replace(
            columns[0],
            column=name,
            value=float(np.mean([value.value for value in columns])),
            ci_low=math.nan,
            ci_high=math.nan,
            n=sum(value.n for value in columns),
            interval="none",
            seed_std=math.nan,
        )
        for (name, *_), columns in found.items()
        if len(columns) == len(chosen[name])
    ]


def gains(means: Sequence[Value], parts: Sequence[Part]) -> list[Value]:
    """Return how much higher each row's average Dice is than its baseline's.

    In Dice, and as a share of the baseline's: the paper's abstract does not say which it means.
    """
    dice = {(mean.protocol, mean.row, mean.column): mean for mean in means if mean.metric == "dice"}
    baselines = {_place(part)[:2]: baseline_of(part) for part in parts}
    found = []
    for (protocol, row, column), ours in dice.items():
        name = baselines[protocol, row]
        if name == row or (protocol, name, column) not in dice:
            continue
        theirs = dice[protocol, name, column].value
        gain = ours.value - theirs
        share = gain / theirs if theirs else math.nan
        found.append(replace(ours, metric="dice_gain", value=gain))
        found.append(replace(ours, metric="dice_gain_relative", value=share))
    return found


def baseline_of(part: Part) -> str:
    """Return the row that a part is compared with."""
    return str(part.seeds[0].get("compared_with", np.array([None]))[0])


def paired_tests(parts: Sequence[Part]) -> dict[tuple[str, str, str], list[Value]]:
    """Return the tests of each part against its baseline, by its place in the table."""
    at = {_place(part): part for part in parts}
    found: dict[tuple[str, str], list[tuple[Part, Part, statistics.PairedTest]]] = {}
    for part in parts:
        protocol, row, column = _place(part)
        name = baseline_of(part)
        baseline = at.get((protocol, name, column))
        if baseline is None or name == row:
            continue
        test = statistics.paired_wilcoxon(*_paired(part, baseline))
        found.setdefault((protocol, column), []).append((part, baseline, test))
    values: dict[tuple[str, str, str], list[Value]] = {}
    for tests in found.values():
        adjusted = statistics.holm([test.p_value for *_, test in tests])
        for (part, baseline, test), p_value in zip(tests, adjusted, strict=True):
            above = seeds_above(part, baseline)
            values[_place(part)] = _test_values(part, test, float(p_value), above)
    return values


def seeds_above(part: Part, baseline: Part) -> float:
    """Return in how many seeds of both the mean Dice is above the baseline's."""
    means = [
        {
            header.seed: _mean(seed["score_dice"])
            for header, seed in zip(one.headers, one.seeds, strict=True)
        }
        for one in (part, baseline)
    ]
    return float(sum(means[0][seed] > means[1][seed] for seed in means[0].keys() & means[1].keys()))


def _test_values(
    part: Part, test: statistics.PairedTest, p_value: float, above: float
) -> list[Value]:
    numbers = {
        "dice_p_value": p_value,
        "dice_effect": test.effect,
        "dice_median_difference": test.median_difference,
        "dice_seeds_above": above,
    }
    n_seeds = len(part.headers)
    return [
        replace(_value(part, name, [number] * n_seeds, NO_BOUNDS, test.n_pairs, "none"),
                seed_std=math.nan)
        for name, number in numbers.items()
    ]  # fmt: skip


def _paired(part: Part, baseline: Part) -> tuple[list[float], list[float]]:
    """Return the mean Dice of each patient whom both have, method first."""
    first, second = patient_means(part.seeds), patient_means(baseline.seeds)
    both = sorted(set(first) & set(second))
    return [first[one] for one in both], [second[one] for one in both]


def patient_means(seeds: Sequence[Columns], column: str = "score_dice") -> dict[str, float]:
    """Return the mean of each patient's defined scores, over rows and seeds."""
    patients = np.concatenate([seed["patient_id"].astype(str) for seed in seeds])
    scores = np.concatenate([seed[column] for seed in seeds])
    return {str(one): _mean(scores[patients == one]) for one in np.unique(patients)}
