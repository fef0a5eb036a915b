"""How accuracy, gaps and losses of one classifier change while it is trained.

An edit that makes the disease harder to learn acts like stopping early: compare two methods at
equal training loss before a smaller gap is called an effect of the edit. Nothing is selected by
the course; the last epoch is the result. Definitions: kinds/fairness.py; here without resampling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from workflow_scripts.metrics import fairness
from workflow_scripts.problems import refuse
from workflow_scripts.report.cells import Cell, Resampling, map_cells
from workflow_scripts.report.kinds import fairness as last_epoch
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import read_case_columns

EPOCH = re.compile(r"score_disease_epoch_([0-9]+)")
OF_AN_EPOCH = ("score_no_finding", "score_disease", "train_loss")
ROW = "{row}, epoch {epoch}"


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return all values of all cells: a row for each epoch that was kept."""
    return map_cells(cell_values, cells, jobs)


def cell_values(cell: Cell) -> tuple[Value, ...]:
    """Return the values of one cell, epoch by epoch, for the attribute that is hidden."""
    columns = [read_case_columns(header) for header in cell]
    epochs = sorted(int(name[1]) for name in map(EPOCH.fullmatch, columns[0]) if name)
    if not epochs:
        raise refuse(str(cell[0].path), "logits of some epochs", "none", last_epoch.AGAIN)
    return tuple(value for epoch in epochs for value in _epoch_values(cell, columns, epoch))


def _epoch_values(
    cell: Cell, columns: Sequence[dict[str, NDArray[Any]]], epoch: int
) -> Iterator[Value]:
    """Yield the values of one epoch."""
    named = [
        {**one, **{name: one[f"{name}_epoch_{epoch}"] for name in OF_AN_EPOCH}} for one in columns
    ]
    seeds = [last_epoch.case_columns(header, one) for header, one in zip(cell, named, strict=True)]
    last_epoch.require_same_cases(cell, seeds)
    hidden = last_epoch.hidden_attribute(seeds[0])
    cases = [last_epoch.seed_of(one, f"group_{hidden}") for one in seeds]
    if set(cases[0].group) != {0, 1}:
        expected = f"cases with and without {fairness.ATTRIBUTES[hidden]}"
        raise refuse(str(cell[0].path), expected, "one group", last_epoch.AGAIN)
    for value in last_epoch.attribute_values(cell, cases, hidden, Resampling(0, 0)):
        yield replace(value, row=ROW.format(row=value.row, epoch=epoch))
