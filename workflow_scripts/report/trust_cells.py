"""What one cell of the trust matrix shows, and how it stands to its yardstick."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import CHANCE, CONSTANT, metric_named
from workflow_scripts.report.rendering import (
    LATEX_SPECIAL,
    LEVEL,
    MARKDOWN_SPECIAL,
    PHANTOM_WARNING,
    escape,
)
from workflow_scripts.report.trust_columns import COLUMNS, FEWEST_PATIENTS

BETTER, WORSE, OPEN, PLAIN = "better", "worse", "open", "plain"
MARKS = {BETTER: " ▲", WORSE: " ▼", OPEN: "", PLAIN: ""}
LEGEND = {
    BETTER: "▲ better than its yardstick",
    WORSE: "▼ worse than its yardstick",
    OPEN: "cannot be told from it with these cases",
    PLAIN: "no yardstick, or no interval",
}
YARDSTICKS = (
    "Yardsticks: the chance level (AUC, accuracy), no drop, a calibrated forecast (ECE), the "
    "permutation null (gaps), no connection between doubt and error (rank correlation with Dice: "
    "good above 0 for AULA, below 0 for entropy). After the word chance: what chance alone gives."
)
WORDS = {  # what stands below a number; other metrics are not drawn
    "mean_auc": "mean AUC", "auc": "AUC", "accuracy": "accuracy", "dice": "Dice", "aula": "AULA",
    "ece": "ECE", "nll": "NLL (nat)", "eo_p": "EO_p", "error_auc": "AUC, entropy",
    "spearman_dsc_aula": "ρ, AULA", "spearman_dsc_entropy": "ρ, entropy",  # noqa: RUF001
}  # fmt: skip


class Shown(NamedTuple):
    """What stands in one cell; the interval may be empty."""

    number: str
    interval: str
    words: str
    finding: str


def shown(values: Mapping[str, Value]) -> Shown | None:
    """Return what a cell shows, from its values by metric; None where nothing is drawn."""
    known = {name: name.removesuffix("_drop").removesuffix("_gap") for name in values}
    drawn = [name for name, measure in known.items() if measure in WORDS]
    # what is lost or differs before a level, then in the order of the cell: its paper's first
    drawn.sort(key=lambda name: name == known[name])
    if not drawn:
        return None
    name = drawn[0]
    value, words = values[name], WORDS[known[name]]
    number, ends = text_of(value.value, name), (value.ci_low, value.ci_high)
    interval = ""
    if not math.isnan(value.ci_low):
        interval = f"[{', '.join(text_of(end, name) for end in ends)}]"
    null = values.get(f"{name}_null")
    if null is not None:
        words += f", chance {text_of(null.value, name)}"
    constant = values.get(CONSTANT)
    if constant is not None and constant.value > 0:  # one class for everybody has no gap
        words += ", constant prediction"
    return Shown(number, interval, words, finding(name, value, values))


def text_of(number: float, name: str) -> str:
    """Return a value of a metric: percent with one decimal, others with two.

    >>> text_of(0.179, "ece"), text_of(0.121, "nll")
    ('17.9', '0.12')
    """
    if math.isnan(number):
        return "undefined"
    metric = metric_named(name)
    return f"{metric.scale * number:.{1 if metric.scale != 1 else 2}f}"


def finding(name: str, value: Value, values: Mapping[str, Value]) -> str:
    """Return how a value stands to its yardstick."""
    if math.isnan(value.value):
        return PLAIN
    p_value = values.get(f"{name}_p")
    if p_value is not None:  # a gap, an ECE: more than chance gives is worse
        return WORSE if p_value.value < LEVEL else OPEN
    yardstick, sign = _yardstick(name, values)
    if math.isnan(yardstick) or math.isnan(value.ci_low):
        return PLAIN
    if value.ci_low == value.ci_high:  # a bootstrap that never varied knows nothing
        return OPEN
    low, high = sorted((sign * (value.ci_low - yardstick), sign * (value.ci_high - yardstick)))
    return BETTER if low > 0 else WORSE if high < 0 else OPEN


def _yardstick(name: str, values: Mapping[str, Value]) -> tuple[float, int]:
    """Return what a value is held against, and 1 where larger is better, else -1."""
    if name.endswith("_drop"):
        return 0.0, -1
    if name in ("mean_auc", "auc", "error_auc"):
        return 0.5, 1
    if name == "accuracy" and next(iter(values)) == "accuracy" and CHANCE in values:
        return values[CHANCE].value, 1  # the chance level belongs to a cell's first metric
    if name == "spearman_dsc_aula":
        return 0.0, 1
    if name == "spearman_dsc_entropy":
        return 0.0, -1
    return math.nan, 1


def best_protocol(values: Sequence[Value]) -> dict[str, list[Value]]:
    """Return the values of each row in the protocol to believe; another is named behind it."""
    rows: dict[str, list[Value]] = {}
    for row in dict.fromkeys(value.row for value in values):
        own = [value for value in values if value.row == row]
        protocols = list(dict.fromkeys(value.protocol for value in own))
        chosen = "corrected" if "corrected" in protocols else protocols[0]
        label = row if chosen == "corrected" else f"{row} ({chosen})"
        rows[label] = [value for value in own if value.protocol == chosen]
    return rows


Grid = tuple[list[str], list[list[str]]]  # headings, rows of texts


def grid(values: Sequence[Value]) -> Grid:
    """Return the matrix as texts: a row a model, a column an aspect, empty where not measured."""
    rows = best_protocol(values)
    present = {value.column for value in values}
    columns = [name for name in COLUMNS if name in present]
    lines = []
    for label, cells in rows.items():
        line = [label]
        for column in columns:
            own = {value.metric: value for value in cells if value.column == column}
            line.append(_text(shown(own)))
        lines.append(line)
    return ["system: model", *columns], lines


def _text(cell: Shown | None) -> str:
    """Return one cell as text.

    >>> _text(Shown("17.9", "[15.9, 21.1]", "ECE, chance 4.5", WORSE))
    '17.9 ▼ [15.9, 21.1] ECE, chance 4.5'
    """
    if cell is None:
        return ""
    return " ".join(
        filter(None, (f"{cell.number}{MARKS[cell.finding]}", cell.interval, cell.words))
    )


def legend_text() -> str:
    """Return what marks and numbers mean, in one paragraph."""
    marks = "; ".join(text for text in LEGEND.values() if text[0] in "▲▼")
    return (
        f"{marks}; without a mark it cannot be told with these cases, or there is no yardstick. "
        f"{YARDSTICKS} Percent, but for rho (Spearman), AULA and NLL. Fewer than {FEWEST_PATIENTS} "
        "patients: no interval. Compare down a column within one system only. Of 20 cells without "
        "any effect, about one is marked. Empty: not measured."
    )


def markdown_page(values: Sequence[Value]) -> str:
    """Return the matrix as a Markdown page."""
    is_phantom = any(value.is_phantom for value in values)
    head, *lines = _all_lines(values)
    texts = [head, ["---"] * len(head), *lines]
    page = [f"# trust_matrix{' (PHANTOM)' * is_phantom}", ""]
    page += [f"**{PHANTOM_WARNING}**", ""] * is_phantom
    page += [f"| {' | '.join(escape(t, MARKDOWN_SPECIAL) for t in line)} |" for line in texts]
    return "\n".join([*page, "", legend_text(), ""])


def latex_table(values: Sequence[Value]) -> str:
    """Return the matrix as a LaTeX table; needs the packages booktabs and graphicx."""
    is_phantom = any(value.is_phantom for value in values)
    head, *lines = ([escape(t, LATEX_SPECIAL) for t in line] for line in (_all_lines(values)))
    caption = f"{PHANTOM_WARNING} " * is_phantom + f"Trust matrix. {legend_text()}"
    return "\n".join([
        r"% Needs \usepackage{booktabs,graphicx}.",
        r"\begin{table}[htbp]", r"\centering",
        rf"\caption{{{escape(caption, LATEX_SPECIAL)}}}", r"\label{tab:trust_matrix}",
        r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{{'l' * len(head)}}}", r"\toprule",
        " & ".join(head) + r" \\", r"\midrule",
        *(" & ".join(line) + r" \\" for line in lines),
        r"\bottomrule", r"\end{tabular}}", r"\end{table}", "",
    ])  # fmt: skip


def _all_lines(values: Sequence[Value]) -> list[list[str]]:
    head, lines = grid(values)
    return [head, *lines]
