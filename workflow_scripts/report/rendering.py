"""A table as a reader of the paper knows it: checkpoints down, data sets across, in percent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workflow_scripts.report.long_form import CHANCE, Value

DASH = "–"  # an undefined value  # noqa: RUF001
PHANTOM_WARNING = (
    "PHANTOM: made from synthetic patients to show that the workflow runs; "
    "says nothing about real data."
)
METRIC_NAMES = {
    "accuracy": "accuracy",
    "mean_per_class_accuracy": "mean per-class accuracy",
    "auc": "AUC",
}
INTERVAL_LEGENDS = {
    "episodes": "mean ± half width of the 95 % interval over episodes",
    "patient bootstrap": "value [95 % interval of the patient bootstrap]",
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
    "–": "--",  # noqa: RUF001
}
MARKDOWN_SPECIAL = {"\\": "\\\\", "|": "\\|", "*": "\\*", "<": "&lt;", "`": "\\`"}


@dataclass(frozen=True, slots=True)
class Block:
    """The part of a table that one protocol made.

    Attributes:
        protocol: `released` or `corrected`.
        rows, columns: their names, in the order of first appearance.
        metrics: the metric shown in each column.
        values: the value shown at (row, column); a cell that was not run is absent.
        chance: the chance level of each column as text; empty where it is unknown.
        best: the cells that hold the highest value of their column.
    """

    protocol: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    values: dict[tuple[str, str], Value]
    chance: tuple[str, ...]
    best: frozenset[tuple[str, str]]

    @property
    def is_phantom(self) -> bool:
        """Whether any of its numbers was made from synthetic patients."""
        return any(value.is_phantom for value in self.values.values())


def blocks(values: Sequence[Value]) -> tuple[Block, ...]:
    """Part the values of one table by protocol, in the order of first appearance.

    A cell shows its first metric: the paper's (docs/reference/tables.md); `chance` stands apart.
    """
    protocols = _in_order(value.protocol for value in values)
    return tuple(_block(name, [v for v in values if v.protocol == name]) for name in protocols)


def _block(protocol: str, values: Sequence[Value]) -> Block:
    """Return the block of the values of one protocol."""
    shown: dict[tuple[str, str], Value] = {}
    chance: dict[str, list[float]] = {}
    for value in values:
        if value.metric == CHANCE:
            chance.setdefault(value.column, []).append(value.value)
        else:
            shown.setdefault((value.row, value.column), value)
    columns = _in_order(column for _, column in shown)
    metric = {column: value.metric for (_, column), value in shown.items()}
    return Block(
        protocol=protocol,
        rows=_in_order(row for row, _ in shown),
        columns=columns,
        metrics=tuple(metric[column] for column in columns),
        values=shown,
        chance=tuple(_chance_text(chance.get(column, [])) for column in columns),
        best=frozenset().union(*(_best_of(shown, column) for column in columns)),
    )


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names once each, in the order of first appearance."""
    return tuple(dict.fromkeys(names))


def _chance_text(levels: Sequence[float]) -> str:
    """Return the chance level of a column; a range where its rows differ; empty without one."""
    texts = sorted({percent(level) for level in levels if not math.isnan(level)})
    return texts[0] if len(texts) == 1 else " to ".join((texts[0], texts[-1])) if texts else ""


def _best_of(shown: dict[tuple[str, str], Value], column: str) -> frozenset[tuple[str, str]]:
    """Return the cells with the highest printed value; none where fewer than two are defined."""
    defined = {
        cell: round(100 * value.value, 2)
        for cell, value in shown.items()
        if cell[1] == column and not math.isnan(value.value)
    }
    if len(defined) < 2:
        return frozenset()
    highest = max(defined.values())
    return frozenset(cell for cell, value in defined.items() if value == highest)


def percent(fraction: float) -> str:
    """Return a fraction in percent with the paper's two decimals; a dash where undefined."""
    return DASH if math.isnan(fraction) else f"{100 * fraction:.2f}"


def entry(value: Value) -> str:
    """Return what stands in a cell.

    Symmetric intervals (episodes) as `value ± half width`, others as `value [low, high]`.
    """
    if math.isnan(value.value) or math.isnan(value.ci_low) or math.isnan(value.ci_high):
        return percent(value.value)
    if value.interval == "episodes":
        return f"{percent(value.value)} ± {percent(value.half_width)}"
    return f"{percent(value.value)} [{percent(value.ci_low)}, {percent(value.ci_high)}]"


def legend(block: Block) -> str:
    """Return what the numbers of a block are, in one paragraph."""
    values = block.values.values()
    kinds = [INTERVAL_LEGENDS.get(kind, kind) for kind in sorted({v.interval for v in values})]
    unit = "episodes" if all(v.interval == "episodes" for v in values) else "cases"
    counts, seeds = sorted({v.n for v in values}), sorted({v.seeds for v in values})
    parts = [
        f"Percent; {' or '.join(kinds)}.",
        f"{_span(counts)} {unit} a cell, {_span(seeds)} seed{'s' * (seeds != [1])}.",
        f"Bold: highest of its column. {DASH}: undefined. Empty: not run.",
    ]
    return " ".join(parts)


def _span(counts: Sequence[int]) -> str:
    """Return one count, or the first and the last of several."""
    low, high = f"{counts[0]:,}", f"{counts[-1]:,}"
    return low if low == high else f"{low} to {high}"


def heading(column: str, metric: str) -> str:
    """Return the heading of a column."""
    return f"{column}, {METRIC_NAMES.get(metric, metric)}"


def cells_of(block: Block, row: str) -> list[tuple[str, bool]]:
    """Return the text of each cell of a row and whether it is bold; empty where not run."""
    return [
        (entry(block.values[row, c]), (row, c) in block.best) if (row, c) in block.values
        else ("", False)
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
            f"## Protocol: {block.protocol}",
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
    headings = [heading(c, m) for c, m in zip(block.columns, block.metrics, strict=True)]
    grid = [["checkpoint", *headings, *data]]
    for row in block.rows:
        texts = [f"**{text}**" if bold else text for text, bold in cells_of(block, row)]
        grid.append([escape(row, MARKDOWN_SPECIAL), *texts, *[data_of(block, row)] * len(data)])
    if any(block.chance):
        grid.append(["*chance level*", *block.chance, *[""] * len(data)])
    grid[0] = [escape(text, MARKDOWN_SPECIAL) for text in grid[0]]
    ruler = [":---", *["---:"] * len(headings), *[":---"] * len(data)]
    return [f"| {' | '.join(line)} |" for line in (grid[0], ruler, *grid[1:])]


def latex(table: str, all_blocks: Sequence[Block]) -> str:
    """Return the table as LaTeX, one `table` environment a protocol; needs package booktabs."""
    parts = [r"% Needs \usepackage{booktabs}."]
    for block in all_blocks:
        caption = f"{table}, protocol {block.protocol}. {legend(block)}"
        if block.is_phantom:
            caption = f"{PHANTOM_WARNING} {caption}"
        spec = "l" + "r" * len(block.columns) + "l" * block.is_phantom
        parts += [
            r"\begin{table}[htbp]",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape(caption, LATEX_SPECIAL)}}}",
            rf"\label{{tab:{table}-{block.protocol}}}",
            rf"\begin{{tabular}}{{{spec}}}",
            *_latex_grid(block),
            r"\end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


def _latex_grid(block: Block) -> list[str]:
    """Return the lines between the `tabular` commands; names over metrics, as they are long."""
    data = [["data"], [""], ["PHANTOM"]] if block.is_phantom else [[], [], []]
    metrics = [METRIC_NAMES.get(metric, metric) for metric in block.metrics]
    lines = [
        r"\toprule",
        _latex_line(["checkpoint", *block.columns, *data[0]]),
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
