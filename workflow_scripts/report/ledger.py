"""The ledger: our value beside each printed one, with a verdict.

Run by hand::

    python -m workflow_scripts.report.ledger --published results/published/*.csv \
        --tables results/tables/*.csv --csv results/tables/ledger.csv --markdown ledger.md

What each verdict means: docs/reference/tables.md.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.report.granularity import (
    IMPOSSIBLE,
    POSSIBLE,
    count_behind,
    granularity_of,
    read_test_cases,
)
from workflow_scripts.report.long_form import (
    PRINTED,
    Value,
    as_text,
    csv_text,
    read_values,
)
from workflow_scripts.report.metric_catalogue import CHANCE
from workflow_scripts.report.protocol_differences import Difference, differences
from workflow_scripts.report.published import SCALES, Published, read_published
from workflow_scripts.report.rendering import MARKDOWN_SPECIAL, PHANTOM_WARNING, escape

# The verdicts, strongest first: of several values of ours, a cell counts with the strongest.
REPRODUCED, OUTSIDE = "reproduced", "outside"
NO_ACCESS, NOT_COMPARABLE, NOT_RUN = "no access", "not comparable", "not run"
VERDICTS = (REPRODUCED, OUTSIDE, NO_ACCESS, NOT_COMPARABLE, NOT_RUN)
COLUMNS = (
    "system", "table", "row", "column", "metric", "protocol", "published", "spread", "unit",
    "ours", "ours_low", "ours_high", "ours_seed_std", "difference", "tolerance", "verdict",
    "reason", "data", "n", "seeds", "source", "note", "tolerance_reason", "granularity",
    "granularity_reason", "could_explain",
)  # fmt: skip
DECIMALS = 4  # of numbers in the printed unit; papers print two
# Intervals over the rows of a table (other checkpoints), which are the same here and in print
OVER_ROWS = ("fisher", "normal")
OF_TABLES = ("ssl_transfer_correlations", "ssl_transfer_domain_averages")  # n: rows or columns
SCALED = ("scaled_average",)  # metrics whose values depend on all rows of their column
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: a printed number and one value of ours, or none."""

    published: Published
    ours: Value | None
    verdict: str
    reason: str
    granularity: str = ""  # is the printed value a possible count of cases (granularity.py)
    granularity_reason: str = ""

    @property
    def could_explain(self) -> tuple[Difference, ...]:
        """The options in which the protocols differ, for a value that is outside."""
        if self.verdict != OUTSIDE:
            return ()
        return differences(self.published.table)

    @property
    def scale(self) -> float:
        """Factor from our fractions to the printed unit."""
        return SCALES[self.published.unit]

    @property
    def difference(self) -> float:
        """Ours minus printed, in the printed unit; NaN without a value of ours."""
        return difference(self.published, self.ours) if self.ours else math.nan


def difference(published: Published, ours: Value) -> float:
    """Return ours minus printed in the printed unit, free of rounding dust."""
    return round(SCALES[published.unit] * ours.value - published.value, DECIMALS)


def judge(
    published: Published,
    ours: Value | None,
    no_access: frozenset[str],
    n_printed: int | None = None,
) -> tuple[str, str]:
    """Return the verdict on a printed number and its reason.

    Args:
        published: the printed number.
        ours: our value of the same metric in the same cell; None if there is none.
        no_access: data sets and checkpoints that cannot be had.
        n_printed: test cases behind the printed number; None where that is not known. With as
            many cases of ours the draw of the cases is no reason to withhold a verdict.
    """
    if math.isnan(published.value):
        return NO_ACCESS, "the printed value could not be read"
    if ours is None:
        missing = sorted(no_access & {published.row, published.column.split(" ")[0]})
        if missing:
            return NO_ACCESS, f"no access to {' and '.join(missing)}"
        return NOT_RUN, "no value of ours"
    if ours.is_phantom:
        return NOT_COMPARABLE, "phantom: made from synthetic patients"
    if ours.is_untrained:
        return NOT_COMPARABLE, "untrained: seeded weights in place of the checkpoint's"
    if ours.protocol not in PRINTED:
        printed = " or ".join(PRINTED)
        return NOT_COMPARABLE, f"protocol: ours {ours.protocol}, printed {printed}"
    if math.isnan(ours.value):
        return NOT_COMPARABLE, "undefined: the metric has no value on our cases"
    half_width = SCALES[published.unit] * ours.half_width
    has_as_many = n_printed is not None and ours.n >= n_printed
    is_wide = half_width > published.tolerance and ours.interval not in OVER_ROWS
    if is_wide and not has_as_many:
        return NOT_COMPARABLE, (
            f"too few cases: our interval of ± {shown(half_width, published)} is wider than the "
            "tolerance"
        )
    off = abs(difference(published, ours))
    verdict = REPRODUCED if off <= published.tolerance else OUTSIDE
    relation = "within" if verdict == REPRODUCED else "beyond"
    texts = shown(off, published), shown(published.tolerance, published)
    return verdict, f"difference {texts[0]} {relation} the tolerance {texts[1]}"


def ours_shown(entry: Entry) -> str:
    """Return our value with its interval and its spread over seeds, as far as they are known."""
    ours, cell = entry.ours, entry.published
    if ours is None:
        return ""
    texts = [shown(entry.scale * x, cell) for x in (ours.value, ours.ci_low, ours.ci_high)]
    interval = f" [{texts[1]}, {texts[2]}]" if texts[1] and texts[2] else ""
    spread = shown(entry.scale * ours.seed_std, cell)
    return f"{texts[0]}{interval}{f', seeds ± {spread}' if spread else ''}"


def shown(number: float, published: Published) -> str:
    """Return a number in the printed unit for a reader: two decimals of percent and millimetres."""
    return as_text(number, 2 if published.unit in ("percent", "mm") else DECIMALS)


def make_ledger(
    published: Sequence[Published],
    values: Iterable[Value],
    no_access: frozenset[str],
    cases: Mapping[Key, int] | None = None,
) -> tuple[Entry, ...]:
    """Return one entry for each printed number and protocol of ours, one if there is none.

    Args:
        published: the printed numbers.
        values: ours.
        no_access: data sets and checkpoints that cannot be had.
        cases: how many test cases stand behind printed numbers, where that is known.
    """
    counts = cases or {}
    ours: dict[Key, list[Value | None]] = {}
    rows: dict[tuple[str, ...], set[str]] = {}  # of scaled columns, ours by protocol
    for one in values:
        key = (one.system, one.table, one.row, one.column, one.metric)
        ours.setdefault(key, []).append(one)
        if one.metric in SCALED and not math.isnan(one.value):
            rows.setdefault((one.table, one.column, one.protocol), set()).add(one.row)
    for cell in published:
        if cell.metric in SCALED:
            rows.setdefault((cell.table, cell.column), set()).add(cell.row)
    entries = []
    for cell in published:
        for value in ours.get(cell.key) or [None]:
            n_printed = count_behind(cell, counts)
            verdict = judge(cell, value, no_access, n_printed)
            if value and verdict[0] in (REPRODUCED, OUTSIDE):
                other = _other_rows(cell, value, n_printed, rows)
                verdict = (NOT_COMPARABLE, other) if other else verdict
            entries.append(Entry(cell, value, *verdict, *granularity_of(cell, counts)))
    return tuple(entries)


def _other_rows(
    cell: Published, ours: Value, n_printed: int | None, rows: Mapping[tuple[str, ...], set[str]]
) -> str:
    """Return why a number made from tables has other rows or columns than in print, or nothing."""
    if cell.metric in SCALED:
        printed = rows[cell.table, cell.column]
        found = rows[cell.table, cell.column, ours.protocol]
        if found != printed:
            return f"other rows: ours {len(found)}, printed {len(printed)}"
    if cell.table in OF_TABLES and n_printed and ours.n != n_printed:
        what = "columns" if cell.metric in SCALED else "rows"
        return f"other {what}: ours {ours.n}, printed {n_printed}"
    return ""


def count_cells(judged: Iterable[tuple[Key, str]]) -> dict[str, Counter[str]]:
    """Return for each table how many printed numbers have which verdict.

    Args:
        judged: what each printed number is, and a verdict on it; the strongest of several counts.
    """
    strongest: dict[Key, str] = {}
    for key, verdict in judged:
        strongest[key] = min(strongest.get(key, NOT_RUN), verdict, key=VERDICTS.index)
    counts: dict[str, Counter[str]] = {}
    for (_, table, *_), verdict in strongest.items():
        counts.setdefault(table, Counter())[verdict] += 1
    return counts


def ledger_csv(entries: Iterable[Entry]) -> str:
    """Return the ledger as CSV; numbers in the printed unit."""
    return csv_text(COLUMNS, (_csv_line(entry) for entry in entries))


def _csv_line(entry: Entry) -> list[str]:
    """Return the fields of one entry, in the order of COLUMNS."""
    cell, ours = entry.published, entry.ours
    numbers = [cell.value, cell.spread]
    found = [math.nan] * 4
    if ours:
        found = [ours.value, ours.ci_low, ours.ci_high, ours.seed_std]
    return [
        cell.system, cell.table, cell.row, cell.column, cell.metric, ours.protocol if ours else "",
        *(as_text(x, DECIMALS) for x in numbers), cell.unit,
        *(as_text(entry.scale * x, DECIMALS) for x in found),
        as_text(entry.difference, DECIMALS), as_text(cell.tolerance, DECIMALS),
        entry.verdict, entry.reason, ours.data if ours else "",
        str(ours.n) if ours else "", str(ours.seeds) if ours else "",
        cell.source, cell.note, cell.tolerance_reason, entry.granularity, entry.granularity_reason,
        "; ".join(one.text for one in entry.could_explain),
    ]  # fmt: skip


def summary_lines(counts: Mapping[str, Counter[str]]) -> list[str]:
    """Return a Markdown grid of the counts, one line a table and a total."""
    total = sum(counts.values(), Counter[str]())
    lines = [
        f"| printed table | {' | '.join(VERDICTS)} | cells |",
        f"| :--- |{' ---: |' * (len(VERDICTS) + 1)}",
    ]
    for name, count in [*counts.items(), ("**all**", total)]:
        numbers = [*(str(count[verdict]) for verdict in VERDICTS), str(count.total())]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return lines


def ledger_markdown(entries: Sequence[Entry], n_unmatched: int) -> str:
    """Return the ledger as a Markdown page, the counts first.

    Args:
        entries: the ledger.
        n_unmatched: how many values of ours no paper prints.
    """
    lines = ["# Ledger: ours beside the printed values", ""]
    if any(entry.ours and entry.ours.is_phantom for entry in entries):
        lines += [f"**{PHANTOM_WARNING}**", ""]
    lines += [
        *summary_lines(count_cells((e.published.key, e.verdict) for e in entries)), "",
        "Each printed number counts once, with its strongest verdict. "
        f"Values of ours without a printed counterpart, left out: {n_unmatched}.", "",
        *granularity_lines(entries),
    ]  # fmt: skip
    for table in dict.fromkeys(entry.published.table for entry in entries):
        lines += _markdown_grid(table, [e for e in entries if e.published.table == table])
    return "\n".join(lines)


def granularity_lines(entries: Sequence[Entry]) -> list[str]:
    """Return how many printed numbers are a possible count of cases, and those that are not."""
    checked = {e.published.key: e for e in entries if e.granularity}
    counts = Counter(entry.granularity for entry in checked.values())
    lines = [
        f"Printed proportions whose number of test cases is known: {len(checked)}; "
        f"{counts[POSSIBLE]} are a possible k / n within rounding, {counts[IMPOSSIBLE]} are not, "
        f"{len(checked) - counts[POSSIBLE] - counts[IMPOSSIBLE]} are printed too coarsely to tell.",
        "",
    ]
    for entry in checked.values():
        if entry.granularity == IMPOSSIBLE:
            where = " / ".join(entry.published.key[1:])
            text = f"{where}: {entry.published.value:g}; {entry.granularity_reason}"
            lines += [f"- {escape(text, MARKDOWN_SPECIAL)}", ""]
    return lines


def explanation_lines(entries: Sequence[Entry]) -> list[str]:
    """Return what could explain the values of one table that are outside."""
    options = dict.fromkeys(one for entry in entries for one in entry.could_explain)
    if not options:
        return []
    lines = ["Outside: the protocols differ in these options, each of which could explain it.", ""]
    texts = (f"- {one.text}: {one.why}" for one in options)
    return [*lines, *(escape(text, MARKDOWN_SPECIAL) for text in texts), ""]


def _markdown_grid(table: str, entries: Sequence[Entry]) -> list[str]:
    """Return the section of one printed table; cells with a value of ours come first."""
    lines = [
        f"## {table}", "",
        "| row | column | metric | printed | ours | protocol | difference | tolerance | verdict "
        "| reason | note |",
        "| :--- | :--- | :--- | ---: | ---: | :--- | ---: | ---: | :--- | :--- | :--- |",
    ]  # fmt: skip
    for entry in sorted(entries, key=lambda entry: entry.ours is None):
        cell, ours = entry.published, entry.ours
        spread = "" if math.isnan(cell.spread) else f" ± {shown(cell.spread, cell)}"
        texts = [
            cell.row, cell.column, cell.metric, f"{shown(cell.value, cell)}{spread}",
            ours_shown(entry), ours.protocol if ours else "",
            shown(entry.difference, cell), shown(cell.tolerance, cell),
            entry.verdict, entry.reason, cell.note,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(escape(text, MARKDOWN_SPECIAL) for text in texts)} |")
    return [*lines, "", *explanation_lines(entries)]


def read_tables(paths: Iterable[Path]) -> tuple[Value, ...]:
    """Return the values of several tables; one value in two of them is refused."""
    values: list[Value] = []
    problems = []
    seen: dict[tuple[str, ...], Path] = {}
    for path in paths:
        for value in read_values(path):
            key = (value.system, value.table, *value.cell, value.metric)
            if key in seen:
                found = f"{' / '.join(key)} in {seen[key]} too"
                problems.append(Problem(str(path), "a value once", found, "give each table once"))
            seen[key] = path
            values.append(value)
    if problems:
        raise InputError(problems)
    return tuple(values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the ledger of some published values and tables."""
    parser = argparse.ArgumentParser(description="Set our values beside the printed ones.")
    parser.add_argument(
        "--published",
        type=Path,
        nargs="+",
        required=True,
        metavar="CSV",
        help="the printed numbers",
    )
    parser.add_argument(
        "--tables", type=Path, nargs="*", default=[], metavar="CSV", help="tables in the long form"
    )
    parser.add_argument(
        "--no-access",
        nargs="*",
        default=[],
        metavar="NAME",
        help="data sets and checkpoints that cannot be had; their cells are not merely 'not run'",
    )
    parser.add_argument("--test-cases", type=Path, metavar="CSV",
                        help="how many test cases stand behind printed numbers")  # fmt: skip
    parser.add_argument("--csv", type=Path, required=True, help="the ledger to write")
    parser.add_argument("--markdown", type=Path, required=True, help="the same as a page")
    options = parser.parse_args(arguments)
    published, values = read_published(options.published), read_tables(options.tables)
    names = {n for cell in published for n in (cell.row, cell.column.split(" ")[0])}
    unknown = sorted(set(options.no_access) - names)
    if unknown:
        known = ", ".join(sorted(names))
        raise refuse("--no-access", f"one of {known}", ", ".join(unknown), "correct the name")
    cases = read_test_cases(options.test_cases, published) if options.test_cases else {}
    entries = make_ledger(published, values, frozenset(options.no_access), cases)
    n_ours = sum(value.metric != CHANCE for value in values)
    n_unmatched = n_ours - sum(entry.ours is not None for entry in entries)
    write_text(options.csv, ledger_csv(entries))
    write_text(options.markdown, ledger_markdown(entries, n_unmatched))


if __name__ == "__main__":
    sys.exit(run(main))
