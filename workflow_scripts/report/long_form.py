"""Long form: one line a value, the only form in which a table's numbers are stored."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from workflow_scripts.files import write_text
from workflow_scripts.predictions import PHANTOM, UNTRAINED
from workflow_scripts.problems import InputError, Problem, nearest, refuse
from workflow_scripts.report.metric_catalogue import METRICS, metric_named

PROTOCOLS = ("paper", "released", "corrected")
RELEASED = "released"  # as the released code did
PRINTED = ("released", "paper")  # the protocols that printed numbers came from
DECIMALS = 6  # of stored fractions; one of 100,000 cases moves the fifth
DIGITS = 7  # of stored numbers that are no fractions
NEXT_STEP = "make the table again with workflow_scripts.report.table"


@dataclass(frozen=True, slots=True)
class Value:
    """One number of a table, with all that is needed to judge it.

    Attributes:
        system, table, row, column, metric: what the number is; the metric is in the catalogue.
        value: as stored, fractions for percentages; NaN where the metric is undefined.
        ci_low, ci_high: ends of its interval; NaN where there is none.
        n: cases (or episodes) behind it.
        seeds: number of seeds it is the mean of.
        data: `phantom`, or the data set (with UNTRAINED where the weights are seeded).
        protocol: one of PROTOCOLS.
        interval: kind of the interval: `episodes`, `patient bootstrap` or `none`.
        seed_std: standard deviation over the seeds (ddof 1); NaN for one seed.
    """

    system: str
    table: str
    row: str
    column: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    seeds: int
    data: str
    protocol: str
    interval: str
    seed_std: float

    @property
    def is_phantom(self) -> bool:
        """Whether the number was made from synthetic patients."""
        return self.data == PHANTOM

    @property
    def is_untrained(self) -> bool:
        """Whether the number was made with seeded weights instead of the checkpoint's."""
        return self.data.endswith(UNTRAINED)

    @property
    def cell(self) -> tuple[str, str, str]:
        """Where the number stands: protocol, row, column."""
        return self.protocol, self.row, self.column

    @property
    def half_width(self) -> float:
        """Half the interval's width; the longer arm, as an arm may end early at 0 or 1."""
        return max(self.value - self.ci_low, self.ci_high - self.value)


COLUMNS = tuple(field.name for field in fields(Value))
NUMBERS = ("value", "ci_low", "ci_high", "seed_std")
COUNTS = ("n", "seeds")


def as_text(number: float, decimals: int = DECIMALS) -> str:
    """Return the number with fixed decimals; empty where undefined.

    >>> as_text(0.5), as_text(float("nan")), as_text(-0.0000001)
    ('0.500000', '', '0.000000')
    """
    return "" if math.isnan(number) else f"{round(number, decimals) + 0.0:.{decimals}f}"


def csv_text(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a CSV file's text with one kind of line end, so that equal content is equal bytes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return buffer.getvalue()


def write_values(path: Path, values: Iterable[Value]) -> None:
    """Write the values as CSV in their order.

    Percentages are stored as fractions with six decimals, other numbers with seven digits.
    """
    write_text(path, csv_text(COLUMNS, map(_csv_line, values)))


def _csv_line(value: Value) -> list[str]:
    """Return the fields of one value, in the order of COLUMNS."""
    is_fraction = metric_named(value.metric).unit == "%"
    as_stored = as_text if is_fraction else _digits
    return [
        as_stored(x) if isinstance(x := getattr(value, name), float) else str(x) for name in COLUMNS
    ]


def _digits(number: float) -> str:
    """Return the number with seven digits; empty where undefined."""
    return "" if math.isnan(number) else f"{number + 0.0:.{DIGITS}g}"


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the lines of a CSV file as texts.

    Raises:
        InputError: the file is missing, has other columns than `columns`, a line with too few or
            too many fields, or no line at all.
    """
    if not path.is_file():
        raise refuse(str(path), "a CSV file", "nothing", "check the path, or run its rule first")
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.reader(handle)
        found = tuple(next(reader, ()))
        if found != tuple(columns):
            expected, shown = ", ".join(columns), ", ".join(found) or "an empty file"
            raise refuse(str(path), f"the columns {expected}", shown, "give a file of this kind")
        lines = list(reader)
    bad = [
        Problem(f"{path} row {i}", f"{len(columns)} fields", f"{len(line)}", "repair the line")
        for i, line in enumerate(lines, 1)
        if len(line) != len(columns)
    ]
    if bad:
        raise InputError(bad)
    if not lines:
        raise refuse(str(path), "at least one row", "only the header", "run its rule again")
    return [dict(zip(columns, line, strict=True)) for line in lines]


def number(text: str) -> float:
    """Return the number in `text`; NaN for an empty text; ValueError for anything else."""
    if not text:
        return math.nan
    parsed = float(text)
    if not math.isfinite(parsed):
        raise ValueError(text)
    return parsed


def read_values(path: Path) -> tuple[Value, ...]:
    """Return the values of a table's CSV file, in its order.

    Raises:
        InputError: everything wrong with the file at once: columns, numbers, values outside
            their range, one value given twice.
    """
    values, problems, seen = [], [], set()
    for i, line in enumerate(read_csv(path, COLUMNS), 1):
        where = f"{path} row {i}"
        try:
            value = _value_of(line)
        except ValueError as error:
            problems.append(Problem(where, "a number", str(error), NEXT_STEP))
            continue
        problems += _range_problems(where, value)
        if value.protocol not in PROTOCOLS:
            expected = " or ".join(PROTOCOLS)
            problems.append(Problem(f"{where} protocol", expected, value.protocol, NEXT_STEP))
        key = (value.system, value.table, *value.cell, value.metric)
        if key in seen:
            problems.append(Problem(where, "each value once", " / ".join(key), NEXT_STEP))
        seen.add(key)
        values.append(value)
    if problems:
        raise InputError(problems)
    return tuple(values)


def _range_problems(where: str, value: Value) -> list[Problem]:
    """Return the numbers outside the range that the catalogue gives their metric."""
    if value.metric not in METRICS:
        step = nearest(value.metric, METRICS)
        return [Problem(f"{where} metric", "one of the catalogue", repr(value.metric), step)]
    metric = METRICS[value.metric]
    bounds = dict.fromkeys(("value", "ci_low", "ci_high"), (metric.low, metric.high))
    bounds["seed_std"] = (0.0, metric.high - metric.low)
    return [
        Problem(f"{where} {name}", f"{low:g} to {high:g}", f"{x:g}", NEXT_STEP)
        for name, (low, high) in bounds.items()
        if not (math.isnan(x := getattr(value, name)) or low <= x <= high)
    ]


def _value_of(line: Mapping[str, str]) -> Value:
    """Return the value in one CSV line; ValueError for a field that is no number."""
    numbers = {name: number(line[name]) for name in NUMBERS}
    counts = {name: int(line[name]) for name in COUNTS}
    texts = {k: v for k, v in line.items() if k not in numbers and k not in counts}
    return Value(**texts, **numbers, **counts)  # type: ignore[arg-type]  # names are COLUMNS
