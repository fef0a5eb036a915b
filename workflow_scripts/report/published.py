"""Published values: the numbers that the papers print, as printed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.problems import InputError, Problem, nearest
from workflow_scripts.report.long_form import number, read_csv
from workflow_scripts.report.metric_catalogue import METRICS

COLUMNS = (
    "system", "table", "row", "column", "metric", "value", "spread", "unit", "source", "note",
    "tolerance", "tolerance_reason",
)  # fmt: skip
# from our stored values to the unit as printed; `number`: as stored, such as a correlation
SCALES = {"percent": 100.0, "fraction": 1.0, "mm": 1.0, "nat": 1.0, "number": 1.0}
REPAIR = "compare the line with the paper and repair it"


@dataclass(frozen=True, slots=True)
class Published:
    """One printed number.

    Attributes:
        system, table, row, column, metric: what it is; the same words as in our tables.
        value: as printed, in `unit`; NaN where the paper could not be read (`note` says why).
        spread: the printed half width or standard deviation, in `unit`; NaN where none is printed.
        unit: one of SCALES.
        source: where it is printed.
        note: what is known against it, such as a suspected paste error.
        tolerance: largest difference that counts as reproduced, in `unit`.
        tolerance_reason: why; decided before our results.
        decimals: of the printed value.
    """

    system: str
    table: str
    row: str
    column: str
    metric: str
    value: float
    spread: float
    unit: str
    source: str
    note: str
    tolerance: float
    tolerance_reason: str
    decimals: int = 2

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What it is: system, table, row, column, metric."""
        return self.system, self.table, self.row, self.column, self.metric


def read_published(paths: Iterable[Path]) -> tuple[Published, ...]:
    """Return the printed numbers of all files, in their order.

    Raises:
        InputError: everything wrong at once: columns, numbers, units, a cell given twice, a
            tolerance without a reason.
    """
    cells: list[Published] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, ...], str] = {}
    for path in paths:
        for i, line in enumerate(read_csv(path, COLUMNS), 1):
            where = f"{path} row {i}"
            found = _line_problems(where, line)
            problems += found
            if found:
                continue
            numbers = {name: number(line[name]) for name in ("value", "spread", "tolerance")}
            texts = {name: text for name, text in line.items() if name not in numbers}
            decimals = len(line["value"].partition(".")[2])
            cell = Published(**texts, **numbers, decimals=decimals)  # type: ignore[arg-type]
            if cell.key in seen:
                problems.append(Problem(where, "each cell once", f"{seen[cell.key]} too", REPAIR))
            seen[cell.key] = where
            cells.append(cell)
    if problems:
        raise InputError(problems)
    return tuple(cells)


def _line_problems(where: str, line: dict[str, str]) -> list[Problem]:
    """Return what is wrong with one line."""
    problems = []
    metric = METRICS.get(line["metric"])
    lowest = metric.low if metric else 0.0
    unread = bool(line["note"].strip()) and not line["value"]
    for name, low, may_be_empty in (
        ("value", lowest * SCALES.get(line["unit"], 1.0), unread),
        ("spread", 0.0, True),
        ("tolerance", 0.0, False),
    ):
        try:
            parsed = number(line[name])
        except ValueError:
            parsed = -math.inf
        if parsed < low or (math.isnan(parsed) and not may_be_empty):
            expected = f"a number of at least {low:g}"
            problems.append(Problem(f"{where} {name}", expected, repr(line[name]), REPAIR))
    if metric is None:
        step = nearest(line["metric"], METRICS)
        problems.append(Problem(f"{where} metric", "one of the catalogue", line["metric"], step))
    if line["unit"] not in SCALES:
        problems.append(Problem(f"{where} unit", " or ".join(SCALES), repr(line["unit"]), REPAIR))
    problems += [
        Problem(f"{where} {name}", "a text", "nothing", REPAIR)
        for name in ("system", "table", "row", "column", "metric", "source", "tolerance_reason")
        if not line[name].strip()
    ]
    return problems
