"""Predictions of every kind as the trust matrix sees them.

Whatever a model predicts, a test set of it is reduced to four things: the measure that its paper
reports, as a function of the weights of patients; the chances that it stated and what happened;
which of its predictions were wrong, with its own doubt about each; and who the patients are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.acdc_c import CORRUPTIONS
from workflow_scripts.metrics.calibration import chance_of
from workflow_scripts.metrics.group_gaps import mean_of_draws, mean_of_statistics
from workflow_scripts.metrics.ranking import roc_auc_of_draws
from workflow_scripts.metrics.statistics import Counts, Floats, ManyStatistic
from workflow_scripts.metrics.uncertainty import entropy, softmax
from workflow_scripts.problems import refuse
from workflow_scripts.report.kinds.multilabel import NO_FINDING, SCORE, TRUTH
from workflow_scripts.report.predictions import AGAIN, Header, read_case_columns

Columns = Mapping[str, NDArray[Any]]
Rows = NDArray[np.bool_]
# from the chosen cases, shape (N,), and the unit of each, to the measure of the units' weights
Performance = Callable[[Rows, Counts], ManyStatistic]
AGE_YEARS = 60.0  # the older group is above it (debiased noise spec)
GROUPS = ("sex", "age")
ARTEFACTS = "artefacts"  # test set: the copies with an artefact of each kind together


@dataclass(frozen=True, slots=True)
class Judged:
    """One seed's cases of one test set.

    Attributes:
        header: what the file says it is.
        measure: the metric's name in the catalogue, such as `accuracy`.
        performance: that metric.
        case_ids, patients: shape (N,).
        groups: `sex` (1 male) and `age` (1 above 60): 1, 0 or NaN where unknown, shape (N,).
        present, chance: what happened and what was stated, shape (N, K); K is 0 where no chance
            was stated.
        wrong, doubt: of each prediction, shape (M,); its case, shape (M,). M is 0 as above.
        head: whose scores these are, of several; empty for one.
    """

    header: Header
    measure: str
    performance: Performance
    case_ids: NDArray[np.str_]
    patients: NDArray[np.str_]
    groups: dict[str, Floats]
    present: NDArray[np.bool_]
    chance: Floats
    wrong: NDArray[np.bool_]
    doubt: Floats
    case: Counts
    head: str = ""


def read_judged(header: Header) -> dict[str, Judged]:
    """Return the test sets in a predictions file, by the column of the table they stand in."""
    columns = dict(read_case_columns(header))
    sets = columns.get("test_set")
    parts = [columns[name] for name in ("image_id", "structure", "test_set") if name in columns]
    columns["case_id"] = np.array([" ".join(map(str, names)) for names in zip(*parts, strict=True)])
    if sets is None:
        return {header.column: _judged(header, columns)}
    joined = np.array([ARTEFACTS if name in CORRUPTIONS else str(name) for name in sets])
    return {
        name: _judged(header, {k: v[joined == name] for k, v in columns.items()})
        for name in dict.fromkeys(joined.tolist())
    }


def _judged(header: Header, columns: Columns) -> Judged:
    """Return one test set, its cases sorted."""
    order = np.argsort(columns["case_id"], kind="stable")
    return KINDS[header.kind](header, {name: column[order] for name, column in columns.items()})


def _classification(header: Header, columns: Columns) -> Judged:
    """Return a classifier's test set: logits `score_0`, `score_1`, ... and the class `truth`."""
    n_classes = sum(name.removeprefix(SCORE).isdecimal() for name in columns)
    return _classes(header, columns, [columns[f"{SCORE}{i}"] for i in range(n_classes)])


def _fairness(header: Header, columns: Columns) -> Judged:
    """Return a disease classifier's test set: two logits and the label `truth`."""
    return _classes(header, columns, [columns[f"{SCORE}no_finding"], columns[f"{SCORE}disease"]])


def _classes(header: Header, columns: Columns, logits: list[Floats]) -> Judged:
    """Return a test set of one class a case."""
    scores, truth = np.stack(logits, axis=1), columns["truth"].astype(np.int64)  # (N, C)
    stated = softmax(scores.T[None])[0]  # (C, N)
    wrong = scores.argmax(axis=1) != truth
    is_pair = scores.shape[1] == 2
    if header.metric == "auc" and is_pair:
        margin = scores[:, 1] - scores[:, 0]
        measure: str = "auc"
        performance = _auc(truth == 1, margin)
    else:
        measure, performance = "accuracy", _mean((~wrong).astype(np.float64))
    chosen = slice(1, 2) if is_pair else slice(None)  # of two classes one says everything
    happened = np.arange(scores.shape[1])[:, None] == truth  # (C, N)
    return Judged(
        header, measure, performance, **_who(columns),
        present=happened[chosen].T, chance=stated[chosen].T,
        wrong=wrong, doubt=entropy(stated, 0.0), case=np.arange(len(truth)),
    )  # fmt: skip


def _multilabel(header: Header, columns: Columns) -> Judged:
    """Return the first head's test set: a logit and a truth for each finding."""
    findings = [name.removeprefix(TRUTH) for name in columns if name.startswith(TRUTH)]
    head = first_head(columns)
    logits = np.stack([columns[f"{SCORE}{head}_{name}"] for name in findings], axis=1)  # (N, K)
    present = np.stack([columns[f"{TRUTH}{name}"] == 1 for name in findings], axis=1)
    chance = chance_of(logits)
    judged = [i for i, name in enumerate(findings) if name != NO_FINDING]

    def performance(rows: Rows, place: Counts) -> ManyStatistic:
        return mean_of_statistics(
            [roc_auc_of_draws(present[rows, i], logits[rows, i], place) for i in judged]
        )

    return Judged(
        header, "mean_auc", performance, **_who(columns), present=present, chance=chance,
        wrong=((chance > 0.5) != present).ravel(),
        doubt=entropy(np.stack([chance, 1 - chance]), 0.0).ravel(),
        case=np.repeat(np.arange(len(present)), len(findings)), head=head,
    )  # fmt: skip


def first_head(columns: Columns) -> str:
    """Return the head whose scores come first: the one that the variant predicts with."""
    finding = next(name for name in columns if name.startswith(TRUTH)).removeprefix(TRUTH)
    name = next(n for n in columns if n.startswith(SCORE) and n.endswith(f"_{finding}"))
    return name.removeprefix(SCORE).removesuffix(f"_{finding}")


def _segmentation(header: Header, columns: Columns) -> Judged:
    """Return a segmenter's test set: one Dice a structure of a volume, or one a case."""
    name = next((f"{SCORE}{n}" for n in ("dice", "dsc") if f"{SCORE}{n}" in columns), None)
    if name is None:
        raise refuse(str(header.path), "score_dice or score_dsc", "neither", AGAIN)
    n = len(columns["case_id"])
    return Judged(
        header, "dice", _mean(columns[name]), **_who(columns),
        present=np.zeros((n, 0), dtype=bool), chance=np.zeros((n, 0)),
        wrong=np.zeros(0, dtype=bool), doubt=np.zeros(0), case=np.zeros(0, dtype=np.int64),
    )  # fmt: skip


KINDS: dict[str, Callable[[Header, Columns], Judged]] = {
    "classification": _classification,
    "fairness": _fairness,
    "multilabel": _multilabel,
    "segmentation": _segmentation,
    "uncertainty": _segmentation,
}


def _mean(values: Floats) -> Performance:
    return lambda rows, place: mean_of_draws(values[rows], place)


def _auc(positive: Rows, score: Floats) -> Performance:
    return lambda rows, place: roc_auc_of_draws(positive[rows], score[rows], place)


def _who(columns: Columns) -> dict[str, Any]:
    """Return ids, patients and groups of the cases."""
    sex, age = columns.get("sex"), columns.get("age_years")
    n = len(columns["case_id"])
    unknown = np.full(n, math.nan)
    groups = dict.fromkeys(GROUPS, unknown)
    if sex is not None:
        groups["sex"] = np.array([{"M": 1.0, "F": 0.0}.get(one, math.nan) for one in sex])
    if age is not None and age.dtype.kind == "f":
        groups["age"] = np.where(np.isnan(age), math.nan, (age > AGE_YEARS).astype(np.float64))
    patients = columns["patient_id"].astype(str)
    return {"case_ids": columns["case_id"], "patients": patients, "groups": groups}
