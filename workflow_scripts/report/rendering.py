"""A table as a reader of the paper knows it: checkpoints down, data sets across."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import (
    CHANCE,
    CONSTANT,
    HIGHER,
    LOWER,
    MORE_METRICS,
    NEITHER,
    SHOWN_METRICS,
    UNRANKED,
    metric_named,
    p_value_of,
    row_title,
)

DASH = "–"  # an undefined value  # noqa: RUF001
MARK, LEVEL = "*", 0.05  # behind a value that differs from its baseline; level of the test
WIDE = 85  # letters a row from which a LaTeX table is made as narrow as the text (ours)
PHANTOM_WARNING = (
    "PHANTOM: made from synthetic patients to show that the workflow runs; "
    "says nothing about real data."
)
INTERVAL_LEGENDS = {
    "episodes": "mean ± half width of the 95 % interval over episodes",
    "patient bootstrap": "value [95 % interval of the patient bootstrap]",
    "normal": "value ± 1.96 standard errors",
    "fisher": "value [95 % interval by Fisher's transform]",
    "none": "value without interval",
}
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "*": r"$^{*}$",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "ρ": r"$\rho$",  # noqa: RUF001
    "–": "--",  # noqa: RUF001
}
T = TypeVar("T")
MARKDOWN_SPECIAL = {"\\": "\\\\", "|": "\\|", "*": "\\*", "<": "&lt;", "`": "\\`"}


class Column(NamedTuple):
    """One column of a rendered table."""

    name: str
    metric: str


@dataclass(frozen=True, slots=True)
class Block:
    """The part of a table that one protocol made.

    Attributes:
        protocol: `released`, `paper` or `corrected`.
        row_title: what its rows are, such as checkpoints.
        rows, columns: in the order of first appearance.
        values: the value shown at (row, column); a cell that was not run is absent.
        chance: the chance level of each column as text; empty where it is unknown.
        best: the cells that hold the best value of their column.
        marked: the cells that differ from their baseline, by a test that stands beside them.
        is_tested: whether any of its cells has such a test.
        part: what a further part of the page shows; empty for the table itself.
    """

    protocol: str
    row_title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    values: dict[tuple[str, Column], Value]
    chance: tuple[str, ...]
    best: frozenset[tuple[str, Column]]
    marked: frozenset[tuple[str, Column]] = frozenset()
    is_tested: bool = False
    part: str = ""

    @property
    def is_phantom(self) -> bool:
        """Whether any of its numbers was made from synthetic patients."""
        return any(value.is_phantom for value in self.values.values())


def blocks(values: Sequence[Value]) -> tuple[Block, ...]:
    """Part the values of one table by protocol, in the order of first appearance.

    A cell shows its first metric, the paper's, or those of `SHOWN_METRICS`
    (docs/reference/tables.md); `chance` stands apart.
    """
    protocols = _in_order(value.protocol for value in values)
    return tuple(_block(name, [v for v in values if v.protocol == name]) for name in protocols)


def more_blocks(values: Sequence[Value]) -> tuple[Block, ...]:
    """Return the further parts of a table's page (`MORE_METRICS`), protocol by protocol."""
    found = []
    for protocol in _in_order(value.protocol for value in values):
        for part, metrics in MORE_METRICS.get(values[0].table, {}).items():
            own = [v for v in values if v.protocol == protocol and v.metric in metrics]
            found += [_part(protocol, part, own)] if own else []
    return tuple(found)


def _part(protocol: str, part: str, values: Sequence[Value]) -> Block:
    """Return a further part; it has no chance level, which belongs to a cell's first metric."""
    shown = {(value.row, Column(value.column, value.metric)): value for value in values}
    columns = _in_order(column for _, column in shown)
    return Block(
        protocol=protocol,
        row_title=row_title(values[0].table),
        rows=_in_order(row for row, _ in shown),
        columns=columns,
        values=shown,
        chance=("",) * len(columns),
        best=frozenset().union(*(_best_of(shown, column, ()) for column in columns)),
        part=part,
    )


def _block(protocol: str, values: Sequence[Value]) -> Block:
    """Return the block of the values of one protocol."""
    table = values[0].table
    first: dict[tuple[str, str], str] = {}  # each cell's first metric
    shown: dict[tuple[str, Column], Value] = {}
    chance: dict[str, list[float]] = {}
    flagged = {(v.row, v.column) for v in values if v.metric == CONSTANT and v.value > 0}
    for value in values:
        if value.metric == CHANCE:
            chance.setdefault(value.column, []).append(value.value)
            continue
        own = first.setdefault((value.row, value.column), value.metric)
        if value.metric in SHOWN_METRICS.get(table, (own,)):
            shown[value.row, Column(value.column, value.metric)] = value
    columns = _in_order(column for _, column in shown)
    p_values = _p_values(values, shown)
    ranked = () if table in UNRANKED else columns
    return Block(
        protocol=protocol,
        row_title=row_title(table),
        rows=_in_order(row for row, _ in shown),
        columns=columns,
        values=shown,
        chance=_chance_texts(columns, chance),
        best=frozenset().union(*(_best_of(shown, column, flagged) for column in ranked)),
        marked=frozenset(cell for cell, p_value in p_values.items() if p_value < LEVEL),
        is_tested=bool(p_values),
    )


def _p_values(
    values: Sequence[Value], shown: Mapping[tuple[str, Column], Value]
) -> dict[tuple[str, Column], float]:
    """Return the p-value of each shown cell that is tested against a baseline."""
    known = {(value.row, value.column, value.metric): value.value for value in values}
    places = {cell: (cell[0], cell[1].name, p_value_of(cell[1].metric)) for cell in shown}
    return {cell: known[place] for cell, place in places.items() if place in known}


def _in_order(items: Iterable[T]) -> tuple[T, ...]:
    """Return the items once each, in the order of first appearance."""
    return tuple(dict.fromkeys(items))


def _chance_texts(
    columns: Sequence[Column], chance: Mapping[str, Sequence[float]]
) -> tuple[str, ...]:
    """Return the chance level of each column; it belongs to a cell's first metric."""
    firsts = {column.name: column for column in reversed(columns)}
    return tuple(
        _chance_text(chance.get(column.name, [])) if firsts[column.name] == column else ""
        for column in columns
    )


def _chance_text(levels: Sequence[float]) -> str:
    """Return the chance level of a column; a range where its rows differ; empty without one."""
    texts = sorted({printed(level, CHANCE) for level in levels if not math.isnan(level)})
    return texts[0] if len(texts) == 1 else " to ".join((texts[0], texts[-1])) if texts else ""


def _best_of(
    shown: dict[tuple[str, Column], Value], column: Column, flagged: Collection[tuple[str, str]]
) -> frozenset[tuple[str, Column]]:
    """Return the cells with the best printed value; none where fewer than two are defined.

    A flagged cell predicts one class for everybody: it has no gap, and wins nothing by that.
    """
    metric = metric_named(column.metric)
    defined = {
        cell: metric.printed(value.value)
        for cell, value in shown.items()
        if cell[1] == column
        and not math.isnan(value.value)
        and (value.row, value.column) not in flagged
    }
    if len(defined) < 2 or metric.better == NEITHER:
        return frozenset()
    best = {HIGHER: max, LOWER: min}[metric.better](defined.values())
    return frozenset(cell for cell, value in defined.items() if value == best)


def printed(value: float, metric: str) -> str:
    """Return a stored value in the metric's unit and decimals; a dash where undefined.

    >>> printed(0.7, "accuracy")
    '70.00'
    """
    how = metric_named(metric)
    return DASH if math.isnan(value) else f"{how.scale * value:.{how.decimals}f}"


def entry(value: Value) -> str:
    """Return what stands in a cell.

    Symmetric intervals (episodes) as `value ± half width`, others as `value [low, high]`.
    """
    text, low, high = (printed(x, value.metric) for x in (value.value, value.ci_low, value.ci_high))
    if DASH in (text, low, high):
        return text
    if value.interval == "episodes":
        return f"{text} ± {printed(value.half_width, value.metric)}"
    return f"{text} [{low}, {high}]"


def legend(block: Block) -> str:
    """Return what the numbers of a block are, in one paragraph."""
    values = block.values.values()
    kinds = [INTERVAL_LEGENDS.get(kind, kind) for kind in sorted({v.interval for v in values})]
    unit = "episodes" if all(v.interval == "episodes" for v in values) else "cases"
    counts, seeds = sorted({v.n for v in values}), sorted({v.seeds for v in values})
    parts = [
        f"{_upper_first(' or '.join(kinds))}.",
        f"{_span(counts)} {unit} a cell, {_span(seeds)} seed{'s' * (seeds != [1])}.",
        f"{'Bold: best of its column. ' * bool(block.best)}{DASH}: undefined. Empty: not run.",
    ]
    untrained = dict.fromkeys(row for (row, _), v in block.values.items() if v.is_untrained)
    if untrained:
        parts.append(f"Untrained, seeded weights: {', '.join(untrained)}.")
    if block.is_tested:
        parts.append(
            f"{MARK}: differs from the row it is compared with "
            f"(two-sided Wilcoxon signed-rank test, Holm, p < {LEVEL})."
        )
    return " ".join(parts)


def _span(counts: Sequence[int]) -> str:
    """Return one count, or the first and the last of several."""
    low, high = f"{counts[0]:,}", f"{counts[-1]:,}"
    return low if low == high else f"{low} to {high}"


def _upper_first(text: str) -> str:
    """Return the text with a capital at its start."""
    return text[:1].upper() + text[1:]


def heading(column: Column) -> str:
    """Return the heading of a column, with its unit."""
    return f"{column.name}, {metric_named(column.metric).heading}"


def cells_of(block: Block, row: str) -> list[tuple[str, bool]]:
    """Return the text of each cell of a row and whether it is bold; empty where not run.

    A value that differs from its baseline ends with MARK.
    """
    return [
        (
            entry(block.values[row, c]) + MARK * ((row, c) in block.marked),
            (row, c) in block.best,
        ) if (row, c) in block.values else ("", False)
        for c in block.columns
    ]  # fmt: skip


def data_of(block: Block, row: str) -> str:
    """Return what column `data` says of a row: PHANTOM, or nothing."""
    return "PHANTOM" if any(v.is_phantom for (r, _), v in block.values.items() if r == row) else ""


def escape(text: str, special: dict[str, str]) -> str:
    """Return the text with its special characters written as the format wants them."""
    return "".join(special.get(character, character) for character in text)


def markdown(table: str, all_blocks: Sequence[Block]) -> str:
    """Return the table as a Markdown page."""
    phantom = any(block.is_phantom for block in all_blocks)
    lines = [f"# {table}{' (PHANTOM)' * phantom}", ""]
    if phantom:
        lines += [f"**{PHANTOM_WARNING}**", ""]
    for block in all_blocks:
        lines += [
            f"## Protocol: {', '.join(filter(None, (block.protocol, block.part)))}",
            "",
            *_markdown_grid(block),
            "",
            legend(block),
            "",
        ]
    return "\n".join(lines)


def _markdown_grid(block: Block) -> list[str]:
    """Return the lines of a block's grid."""
    data = ["data"] * block.is_phantom
    grid = [[block.row_title, *map(heading, block.columns), *data]]
    for row in block.rows:
        cells = [(escape(text, MARKDOWN_SPECIAL), bold) for text, bold in cells_of(block, row)]
        texts = [f"**{text}**" if bold else text for text, bold in cells]
        grid.append([escape(row, MARKDOWN_SPECIAL), *texts, *[data_of(block, row)] * len(data)])
    if any(block.chance):
        grid.append(["*chance level*", *block.chance, *[""] * len(data)])
    grid[0] = [escape(text, MARKDOWN_SPECIAL) for text in grid[0]]
    ruler = [":---", *["---:"] * len(block.columns), *[":---"] * len(data)]
    return [f"| {' | '.join(line)} |" for line in (grid[0], ruler, *grid[1:])]


def latex(table: str, all_blocks: Sequence[Block]) -> str:
    """Return the table as LaTeX, one `table` environment a protocol.

    Needs the packages booktabs, and graphicx where a table is wide.
    """
    parts = [r"% Needs \usepackage{booktabs,graphicx}."]
    for block in all_blocks:
        caption = f"{table}, protocol {block.protocol}. {legend(block)}"
        if block.is_phantom:
            caption = f"{PHANTOM_WARNING} {caption}"
        spec = "l" + "r" * len(block.columns) + "l" * block.is_phantom
        is_wide = _letters(block) > WIDE
        parts += [
            r"\begin{table}[htbp]",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape(caption, LATEX_SPECIAL)}}}",
            rf"\label{{tab:{table}-{block.protocol}}}",
            *[r"\resizebox{\textwidth}{!}{%"] * is_wide,
            rf"\begin{{tabular}}{{{spec}}}",
            *_latex_grid(block),
            r"\end{tabular}" + "}" * is_wide,
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


def _letters(block: Block) -> int:
    """Return how many letters a row of a block needs, its widest entries side by side."""
    lines = [[row, *(text for text, _ in cells_of(block, row))] for row in block.rows]
    heads = [column.name for column in block.columns]
    metrics = [metric_named(column.metric).heading for column in block.columns]
    lines += [[block.row_title, *heads], ["", *metrics]]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    return sum(widths) + 2 * len(widths) + len("PHANTOM") * block.is_phantom


def _latex_grid(block: Block) -> list[str]:
    """Return the lines between the `tabular` commands; names over metrics, as they are long."""
    data = [["data"], [""], ["PHANTOM"]] if block.is_phantom else [[], [], []]
    names = [column.name for column in block.columns]
    metrics = [metric_named(column.metric).heading for column in block.columns]
    lines = [
        r"\toprule",
        _latex_line([block.row_title, *names, *data[0]]),
        _latex_line(["", *metrics, *data[1]]),
        r"\midrule",
    ]
    for row in block.rows:
        texts = [
            rf"\textbf{{{escape(text, LATEX_SPECIAL)}}}" if bold else escape(text, LATEX_SPECIAL)
            for text, bold in cells_of(block, row)
        ]
        marks = [data_of(block, row)] * len(data[0])
        lines.append(" & ".join([escape(row, LATEX_SPECIAL), *texts, *marks]) + r" \\")
    if any(block.chance):
        lines += [r"\midrule", _latex_line(["chance level", *block.chance, *data[1]])]
    return [*lines, r"\bottomrule"]


def _latex_line(texts: Sequence[str]) -> str:
    """Return one line of a `tabular`, escaped."""
    return " & ".join(escape(text, LATEX_SPECIAL) for text in texts) + r" \\"
