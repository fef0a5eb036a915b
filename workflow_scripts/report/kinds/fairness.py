"""Fairness of a two-class classifier, for every attribute that the cases know.

Each gap stands beside its permutation null (mean and p-value) and its patient-bootstrap interval;
accuracy and the share of positive predictions of each group stand there too, because a classifier
that predicts one class for everybody has no gap at all. Definitions: metrics/fairness.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import fairness, fairness_resampling
from workflow_scripts.metrics.classification import accuracy, binary_roc_auc, margin_loss
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import CHANCE
from workflow_scripts.report.predictions import Header, read_case_columns

Floats = NDArray[np.float64]
NO_BOUNDS = (math.nan, math.nan)
LEAKS = ("frozen", "retrained")  # classifiers of the attribute; their margins are columns
NEEDED = (
    *("truth", "score_no_finding", "score_disease", "train_loss", "hidden"),
    *("patient_id", "image_id"),
)
AGAIN = "make the file again with debiased_noise.disease_head"


class Seed(NamedTuple):
    """The cases of one seed whose group is known, sorted by image; every field has shape (N,)."""

    group: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    no_finding: Floats  # logit of No Finding
    margin: Floats  # logit of the disease minus that of No Finding
    train_loss: float  # of the last epoch
    leaks: dict[str, Floats]  # margins of the attribute classifiers
    patients: NDArray[Any]

    @property
    def counts(self) -> fairness.Counts:
        """Cases by group, label and prediction, shape (2, 2, 2)."""
        return fairness.outcome_counts(self.group, self.truth, self.predicted)

    @property
    def units(self) -> fairness_resampling.Units:
        """The same by patient."""
        return fairness_resampling.units_of(self.group, self.truth, self.predicted, self.patients)


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values of all cells: one column for each attribute that both groups have."""
    return map_cells(partial(cell_values, resampling=resampling), cells, jobs)


def cell_values(cell: Cell, resampling: Resampling) -> tuple[Value, ...]:
    """Return the values of one cell, attribute by attribute."""
    seeds = [case_columns(header, read_case_columns(header)) for header in cell]
    require_same_cases(cell, seeds)
    values: list[Value] = []
    for name, attribute in fairness.ATTRIBUTES.items():
        column = f"group_{name}"
        cases = [seed_of(columns, column) for columns in seeds if column in columns]
        if len(cases) == len(seeds) and set(cases[0].group) == {0, 1}:
            # the column says what is hidden; another attribute that is looked at is named
            seen = "" if hidden_attribute(seeds[0]) == name else f"; by {attribute}"
            found = attribute_values(cell, cases, attribute, resampling)
            values += [replace(value, column=value.column + seen) for value in found]
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
    again = [resample(seed, resampling, *stream) for seed in seeds if resampling.resamples]
    for name, measure in (fairness.LEVELS | fairness.GAPS).items():
        per_seed = [float(measure(seed.counts)) for seed in seeds]
        count = n
        if name == "worst_subgroup":
            count = min(fairness.worst_subgroup_count(seed.counts) for seed in seeds)
        yield _estimate(headers, name, per_seed, [measure(one.drawn) for one in again], count)
        if name in fairness.GAPS:
            yield from _null_values(headers, name, per_seed, [measure(r.dealt) for r in again], n)
    yield from _subgroup_values(headers, seeds, again)
    yield from _auc_values(headers, seeds, again)
    yield from _loss_values(headers, seeds)
    yield from _leak_values(headers, seeds, again)
    constant = [float(fairness.is_constant(seed.counts)) for seed in seeds]
    yield value_of(headers, "constant_prediction", constant, NO_BOUNDS, n, "none")
    share = float(np.bincount(seeds[0].truth).max() / n)
    yield value_of(headers, CHANCE, [share] * len(headers), NO_BOUNDS, n, "none")


class Resampled(NamedTuple):
    """The cases of one seed, patients drawn and groups dealt R times; every seed alike."""

    drawn: fairness.Counts  # (R, 2, 2, 2), patient bootstrap
    dealt: fairness.Counts  # (R, 2, 2, 2), permutations of the groups
    areas: Floats  # (R, 3), patient bootstrap: AUC of all, in, out
    dealt_auc_gaps: Floats  # (R,)
    leaks: dict[str, Floats]  # (R, 2) each, patient bootstrap: accuracy, AUC


def resample(seed: Seed, resampling: Resampling, *stream: str) -> Resampled:
    """Return the resamples of one seed; each stream begins anew, so that all see the same."""

    def rng(name: str) -> np.random.Generator:
        return named_rng(resampling.seed, name, *stream)

    patients, groups, n = "patient bootstrap", "permutation", resampling.resamples
    units, cases = seed.units, (seed.truth, seed.margin)
    return Resampled(
        drawn=fairness_resampling.bootstrap_counts(units, rng(patients), n),
        dealt=fairness_resampling.permuted_counts(units, rng(groups), n),
        areas=fairness_resampling.bootstrap_aucs(units, *cases, rng(patients), n),
        dealt_auc_gaps=fairness_resampling.permuted_auc_gaps(units, *cases, rng(groups), n),
        leaks={
            name: fairness_resampling.bootstrap_leak(units, margin, rng(patients), n)
            for name, margin in seed.leaks.items()
        },
    )


def _estimate(
    headers: Sequence[Header], name: str, per_seed: Sequence[float], drawn: Sequence[Floats], n: int
) -> Value:
    """Return a value with the interval of its mean over the seeds; none where it is undefined.

    Args:
        headers: one a seed.
        name: of the metric.
        per_seed: its value for each seed.
        drawn: its values over the resamples for each seed, shape (R,) each; none: no interval.
        n: cases behind it.
    """
    bounds = NO_BOUNDS
    if len(drawn) and not np.isnan(per_seed).any():
        bounds = fairness_resampling.percentiles(np.mean(drawn, axis=0))
    kind = "none" if math.isnan(bounds[0]) else "patient bootstrap"
    return value_of(headers, name, per_seed, bounds, n, kind)


def _null_values(
    headers: Sequence[Header], name: str, per_seed: Sequence[float], dealt: Sequence[Floats], n: int
) -> Iterator[Value]:
    """Yield mean, 95 % quantile and p-value of a gap under permutation: of the mean over seeds."""
    if not len(dealt):
        return
    null = fairness_resampling.permutation_null(float(np.mean(per_seed)), np.mean(dealt, axis=0))
    for suffix, value in (("null", null.mean), ("null_high", null.high), ("p", null.p_value)):
        yield value_of(headers, f"{name}_{suffix}", [value] * len(headers), NO_BOUNDS, n, "none")


def _subgroup_values(
    headers: Sequence[Header], seeds: Sequence[Seed], again: Sequence[Resampled]
) -> Iterator[Value]:
    """Yield accuracy of each subgroup with its count, and the positive rate of each group."""
    sizes = seeds[0].counts.sum(axis=-1)  # (G, Y)
    right = [fairness.subgroup_accuracy(seed.counts) for seed in seeds]
    right_again = [fairness.subgroup_accuracy(one.drawn) for one in again]
    positive = [fairness.positive_rate(seed.counts) for seed in seeds]
    positive_again = [fairness.positive_rate(one.drawn) for one in again]
    for group, group_name in ((1, "in"), (0, "out")):
        for label, label_name in ((0, "negatives"), (1, "positives")):
            rates = [float(one[group, label]) for one in right]
            drawn = [one[:, group, label] for one in right_again]
            name, n = f"accuracy_{label_name}_{group_name}", int(sizes[group, label])
            yield _estimate(headers, name, rates, drawn, n)
        rates, n = [float(one[group]) for one in positive], int(sizes[group].sum())
        drawn = [one[:, group] for one in positive_again]
        yield _estimate(headers, f"positive_rate_{group_name}", rates, drawn, n)


def _auc_values(
    headers: Sequence[Header], seeds: Sequence[Seed], again: Sequence[Resampled]
) -> Iterator[Value]:
    """Yield the AUC of all cases and of each group, their gap with its null, and the worse."""
    n = len(seeds[0].truth)

    def named(areas: Floats) -> dict[str, Floats]:
        """Return each metric of (..., 3) areas; an undefined group leaves gap and worst so."""
        both = areas[..., 1:]
        gap, worst = np.abs(both[..., 0] - both[..., 1]), both.min(axis=-1)
        parts = zip(("auc", "auc_in", "auc_out"), np.moveaxis(areas, -1, 0), strict=True)
        return {**dict(parts), "auc_gap": gap, "auc_worst": worst}

    found = [
        named(np.array([
            binary_roc_auc(seed.truth, seed.margin).value,
            *fairness.group_auc(seed.group, seed.truth, seed.margin),
        ]))
        for seed in seeds
    ]  # fmt: skip
    drawn = [named(one.areas) for one in again]
    n_out, n_in = map(int, seeds[0].counts.sum(axis=(-1, -2)))
    of_worst = [n_in if one["auc_in"] == one["auc_worst"] else n_out for one in found]
    cases = {"auc_in": n_in, "auc_out": n_out, "auc_worst": min(of_worst)}
    for name in found[0]:
        per_seed = [float(one[name]) for one in found]
        count = cases.get(name, n)
        yield _estimate(headers, name, per_seed, [one[name] for one in drawn], count)
        if name == "auc_gap":
            dealt = [one.dealt_auc_gaps for one in again]
            yield from _null_values(headers, name, per_seed, dealt, n)


def _loss_values(headers: Sequence[Header], seeds: Sequence[Seed]) -> Iterator[Value]:
    """Yield the AUC of No Finding by its own logit, and the losses that the released code logs.

    Released evaluation: softmax cross-entropy, though sigmoids are trained (spec 9.1); of all test
    images, and of each subgroup alone.
    """
    n, sizes = len(seeds[0].truth), seeds[0].counts.sum(axis=-1)
    areas = [binary_roc_auc(1 - seed.truth, seed.no_finding).value for seed in seeds]
    yield _estimate(headers, "auc_no_finding", areas, (), n)
    yield _estimate(headers, "train_loss", [seed.train_loss for seed in seeds], (), n)
    losses = [margin_loss(seed.truth, seed.margin) for seed in seeds]
    yield _estimate(headers, "test_loss", [float(loss.mean()) for loss in losses], (), n)
    for group, group_name in ((1, "in"), (0, "out")):
        for label, label_name in ((0, "negatives"), (1, "positives")):
            means = [
                float(loss[(seed.group == group) & (seed.truth == label)].mean())
                for loss, seed in zip(losses, seeds, strict=True)
                if sizes[group, label]
            ] or [math.nan] * len(seeds)
            name, size = f"test_loss_{label_name}_{group_name}", int(sizes[group, label])
            yield _estimate(headers, name, means, (), size)


def _leak_values(
    headers: Sequence[Header], seeds: Sequence[Seed], again: Sequence[Resampled]
) -> Iterator[Value]:
    """Yield how well the attribute is found, where the classifiers are of this attribute."""
    n = len(seeds[0].truth)
    for name in seeds[0].leaks:
        pairs = [(seed.group, seed.leaks[name]) for seed in seeds]
        right = [accuracy(group, (margin > 0).astype(int)).value for group, margin in pairs]
        areas = [binary_roc_auc(group, margin).value for group, margin in pairs]
        drawn = [one.leaks[name] for one in again]
        yield _estimate(headers, f"leak_{name}", right, [one[:, 0] for one in drawn], n)
        yield _estimate(headers, f"leak_{name}_auc", areas, [one[:, 1] for one in drawn], n)


def case_columns(header: Header, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the columns of a file sorted by image; one that misses a column is refused."""
    absent = [name for name in NEEDED if name not in columns]
    if absent or not np.isin(columns["truth"], (0, 1)).all():
        found = f"no {', '.join(absent)}" if absent else "other labels"
        raise refuse(str(header.path), "labels 0 or 1 and two logits", found, AGAIN)
    scores = [columns["score_no_finding"], columns["score_disease"]]
    if np.isnan(scores).any():
        raise refuse(str(header.path), "logits of every case", "undefined ones", AGAIN)
    order = np.argsort(columns["image_id"].astype(str), kind="stable")
    return {name: column[order] for name, column in columns.items()}


def seed_of(columns: dict[str, NDArray[Any]], group_column: str) -> Seed:
    """Return the cases whose group is known; a tie of the logits is predicted negative."""
    known = ~np.isnan(columns[group_column].astype(np.float64))
    margin = columns["score_disease"] - columns["score_no_finding"]
    # the attribute classifiers speak of the attribute that the edit hides only
    leaks = {
        name: columns[f"score_attribute_{name}"][known]
        for name in LEAKS
        if f"score_attribute_{name}" in columns
        and group_column == f"group_{hidden_attribute(columns)}"
    }
    return Seed(
        group=columns[group_column][known].astype(np.int64),
        truth=columns["truth"][known].astype(np.int64),
        predicted=(margin[known] > 0).astype(np.int64),
        no_finding=columns["score_no_finding"][known],
        margin=margin[known],
        train_loss=float(columns["train_loss"][0]),
        leaks=leaks,
        patients=columns["patient_id"][known].astype(str),
    )


def hidden_attribute(columns: dict[str, NDArray[Any]]) -> str:
    """Return the attribute that the training images are biased by and an edit hides."""
    return str(columns["hidden"][0])


def require_same_cases(cell: Cell, seeds: Sequence[dict[str, NDArray[Any]]]) -> None:
    """Refuse seeds of a cell with other cases, labels or groups."""
    problems = []
    for header, columns in zip(cell[1:], seeds[1:], strict=True):
        groups = [f"group_{name}" for name in fairness.ATTRIBUTES]
        for name in ("image_id", "patient_id", "truth", "hidden", *groups):
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
