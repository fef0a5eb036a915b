"""Can a printed number be what it says: a whole number of cases out of all cases?

A proportion of `n` test cases is k / n for a whole k. A printed value with no such k within its
rounding was made from other cases, or is a misprint. `results/published/test_cases.csv` says how
many cases stand behind a printed number, where that is known; behind a correlation stand points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from workflow_scripts.problems import InputError, Problem
from workflow_scripts.report.long_form import read_csv
from workflow_scripts.report.published import SCALES, Published

COLUMNS = ("system", "table", "row", "column", "metric", "n", "source")
PROPORTIONS = ("percent", "fraction")  # units
MEANS = ("dsc", "dice")  # metrics in these units that are no count of cases
POSSIBLE, IMPOSSIBLE, ALWAYS, UNKNOWN = "possible", "impossible", "any value is possible", ""
Key = tuple[str, str, str, str, str]


def granularity(value: float, decimals: int, scale: float, n: int) -> tuple[str, str]:
    """Return whether a printed proportion is some k / n within its rounding, and why.

    Args:
        value: as printed; NaN where the paper could not be read.
        decimals: of the printed value.
        scale: printed unit of the whole: 100 for percent, 1 for a fraction.
        n: cases behind it.

    >>> granularity(69.00, 2, 100.0, 800)
    ('possible', '552 / 800 = 69.00')
    >>> granularity(39.7, 1, 100.0, 200)
    ('impossible', '79 / 200 = 39.5 and 80 / 200 = 40.0 are the nearest')
    """
    if math.isnan(value):
        return UNKNOWN, ""
    half = 0.5 * 10.0**-decimals  # of the printed digit
    if scale / n <= 2 * half:
        return ALWAYS, f"steps of 1 / {n} are finer than the printed digits"
    below = math.floor(value / scale * n)
    nearest = [k for k in (below, below + 1) if 0 <= k <= n]
    shown = [f"{k} / {n} = {scale * k / n:.{decimals}f}" for k in nearest]
    dust = 1e-9 * scale  # the ends belong to the interval: half a digit may round either way
    fitting = [
        text
        for k, text in zip(nearest, shown, strict=True)
        if abs(scale * k / n - value) <= half + dust
    ]
    if fitting:
        return POSSIBLE, " or ".join(fitting)
    return IMPOSSIBLE, f"{' and '.join(shown)} are the nearest"


def count_behind(cell: Published, cases: Mapping[Key, int]) -> int | None:
    """Return how many cases stand behind a printed number; None where that is not known."""
    return cases.get(cell.key) or cases.get((cell.system, cell.table, "", cell.column, cell.metric))


def granularity_of(cell: Published, cases: Mapping[Key, int]) -> tuple[str, str]:
    """Return the check of one printed number; unknown where no count is known."""
    n = count_behind(cell, cases)
    if not n or cell.unit not in PROPORTIONS or cell.metric.startswith(MEANS):
        return UNKNOWN, ""
    return granularity(cell.value, cell.decimals, SCALES[cell.unit], n)


def read_test_cases(path: Path, published: Sequence[Published]) -> dict[Key, int]:
    """Return how many cases stand behind printed numbers; an empty row means every row.

    Raises:
        InputError: a count that is no positive integer, a line given twice, or one that fits no
            printed number.
    """
    cases: dict[Key, int] = {}
    problems = []
    known = {key for cell in published for key in (cell.key, (*cell.key[:2], "", *cell.key[3:]))}
    for i, line in enumerate(read_csv(path, COLUMNS), 1):
        key = (line["system"], line["table"], line["row"], line["column"], line["metric"])
        where = f"{path} row {i}"
        if not line["n"].isdecimal() or int(line["n"]) < 1:
            step = "count the test cases"
            problems.append(Problem(f"{where} n", "a positive integer", repr(line["n"]), step))
            continue
        if key not in known or key in cases:
            found = " / ".join(key)
            step = "compare it with results/published"
            problems.append(Problem(where, "a printed number, once", found, step))
        cases[key] = int(line["n"])
    if problems:
        raise InputError(problems)
    return cases
