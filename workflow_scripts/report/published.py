"""Published values: the numbers that the papers print, as printed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.problems import InputError, Problem
from workflow_scripts.report.long_form import number, read_csv

COLUMNS = (
    "system", "table", "row", "column", "metric", "value", "spread", "unit", "source", "note",
    "tolerance", "tolerance_reason",
)  # fmt: skip
SCALES = {"percent": 100.0, "fraction": 1.0}  # from our fractions to the unit as printed
REPAIR = "compare the line with the paper and repair it"


@dataclass(frozen=True, slots=True)
class Published:
    """One printed number.

    Attributes:
        system, table, row, column, metric: what it is; the same words as in our tables.
        value: as printed, in `unit`.
        spread: the printed half width or standard deviation, in `unit`; NaN where none is printed.
        unit: `percent` or `fraction`.
        source: where it is printed.
        note: what is known against it, such as a suspected paste error.
        tolerance: largest difference that counts as reproduced, in `unit`.
        tolerance_reason: why; decided before our results.
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
            cell = Published(**texts, **numbers)  # type: ignore[arg-type]  # names are COLUMNS
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
    for name, may_be_empty in (("value", False), ("spread", True), ("tolerance", False)):
        try:
            parsed = number(line[name])
        except ValueError:
            parsed = -1.0
        if parsed < 0 or (math.isnan(parsed) and not may_be_empty):
            expected = "a number of at least 0"
            problems.append(Problem(f"{where} {name}", expected, repr(line[name]), REPAIR))
    if line["unit"] not in SCALES:
        problems.append(Problem(f"{where} unit", " or ".join(SCALES), repr(line["unit"]), REPAIR))
    problems += [
        Problem(f"{where} {name}", "a text", "nothing", REPAIR)
        for name in ("system", "table", "row", "column", "metric", "source", "tolerance_reason")
        if not line[name].strip()
    ]
    return problems
