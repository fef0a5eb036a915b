"""The trust matrix as a picture: one row a model, one column an aspect, one colour a finding.

Run by hand::

    python -m workflow_scripts.report.trust_figure --table trust_matrix.csv --out trust_matrix.png

A colour says how a number stands to its yardstick: the chance level, no drop, a calibrated
forecast, the permutation null, or no connection between doubt and error. What cannot be told from
the yardstick at this number of cases is gray, whatever the number is.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from workflow_scripts.command_line import run
from workflow_scripts.problems import refuse
from workflow_scripts.report.figures import RC, SUFFIXES, save
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.metric_catalogue import CHANCE, metric_named
from workflow_scripts.report.trust_columns import COLUMNS, FEWEST_PATIENTS
from workflow_scripts.report.trust_columns import HIDDEN as HIDDEN_GAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = 0.05
BETTER, WORSE, OPEN, PLAIN = "better", "worse", "open", "plain"
LOOKS = {  # face, mark: tints of Okabe and Ito's blue and vermilion; the mark says the same
    BETTER: ("#A9CFE8", "▲"),
    WORSE: ("#F3B48C", "▼"),
    OPEN: ("#E4E4E4", ""),
    PLAIN: ("#FFFFFF", ""),
}
LEGEND = {
    BETTER: "▲ better than its yardstick",
    WORSE: "▼ worse than its yardstick",
    OPEN: "cannot be told from it with these cases",
    PLAIN: "no yardstick, or no interval",
}
# the metrics of a column, the first that a row has is drawn
DRAWN = ("mean_auc", "auc", "accuracy", "dice", "aula", "ece", "nll", "eo_p", "error_auc",
         "spearman_dsc_aula", "spearman_dsc_entropy")  # fmt: skip
WORDS = {  # what stands below a number
    "mean_auc": "mean AUC", "auc": "AUC", "accuracy": "accuracy", "dice": "Dice", "aula": "AULA",
    "ece": "ECE", "nll": "NLL (nat)", "eo_p": "EO$_p$", "error_auc": "AUC, entropy",
    "spearman_dsc_aula": "ρ, AULA", "spearman_dsc_entropy": "ρ, entropy",  # noqa: RUF001
}  # fmt: skip
HEADINGS = {
    "ID": "in\ndistribution", "OOD": "out of\ndistribution", "drop": "drop\nID to OOD",
    "calibration, ID": "calibration\nID", "calibration, OOD": "calibration\nOOD",
    "gap by sex": "gap\nby sex", "gap by age (60)": "gap by age\n(60 years)",
    HIDDEN_GAP: "gap, hidden\nattribute", "uncertainty against error": "doubt tells\nerror",
    "artefacts": "drop with\nartefacts", "layer agreement": "layer\nagreement",
}  # fmt: skip
CELL, LABEL, HEAD, FOOT = (0.83, 0.34), 3.0, 0.75, 0.75  # inches


class Shown(NamedTuple):
    """What stands in one cell of the picture."""

    number: str
    words: str
    finding: str


def shown(values: Mapping[str, Value]) -> Shown | None:
    """Return what a cell shows, from its values by metric; None where nothing is drawn."""
    names = [name for name in values if name.endswith("_drop")]
    names += [name for name in values if name.endswith("_gap")]
    names += [name for name in DRAWN if name in values]
    name = next((one for one in names if one not in ("map_drop",)), None)
    if name is None:
        return None
    value = values[name]
    words = WORDS.get(name, metric_named(name).title)
    if name.endswith("_drop"):
        words = WORDS[name.removesuffix("_drop")]
    if name.endswith("_gap"):
        words = WORDS[name.removesuffix("_gap")]
    number = text_of(value)
    null = values.get(f"{name}_null")
    if null is not None:
        words += f", chance {text_of(null)}"
    return Shown(number, words, finding(name, value, values))


def text_of(value: Value) -> str:
    """Return a number for the picture: percent with one decimal, others with two."""
    if math.isnan(value.value):
        return "undefined"
    metric = metric_named(value.metric)
    return f"{metric.scale * value.value:.{1 if metric.scale != 1 else 2}f}"


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


def trust_figure(values: Sequence[Value]) -> Figure:
    """Return the picture of the matrix."""
    from matplotlib.figure import Figure

    rows = best_protocol(values)
    present = {value.column for value in values}
    columns = [name for name in COLUMNS if name in present]
    width = LABEL + CELL[0] * len(columns) + 0.1
    height = HEAD + CELL[1] * len(rows) + FOOT
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes(
        (LABEL / width, FOOT / height, 1 - (LABEL + 0.1) / width, 1 - (HEAD + FOOT) / height)
    )
    axis.set_xlim(0, len(columns))
    axis.set_ylim(len(rows), 0)
    for y, cells in enumerate(rows.values()):
        for x, column in enumerate(columns):
            own = {value.metric: value for value in cells if value.column == column}
            _cell(axis, x, y, shown(own))
    _frame(axis, list(rows), columns)
    _decorate(figure, is_phantom=any(value.is_phantom for value in values))
    return figure


def _cell(axis: Axes, x: int, y: int, cell: Shown | None) -> None:
    """Draw one cell; nothing where nothing was measured."""
    from matplotlib.patches import Rectangle

    if cell is None:
        axis.plot(x + 0.5, y + 0.5, ".", color="#C4C4C4", markersize=2)
        return
    face, mark = LOOKS[cell.finding]
    axis.add_patch(Rectangle((x + 0.03, y + 0.05), 0.94, 0.9, facecolor=face, edgecolor="#9A9A9A",
                             linewidth=0.4))  # fmt: skip
    number = f"{cell.number} {mark}" if mark else cell.number
    axis.text(x + 0.5, y + 0.37, number, ha="center", va="center", fontsize=7.5, fontweight="bold")
    axis.text(x + 0.5, y + 0.74, cell.words, ha="center", va="center", fontsize=4.6)


def _frame(axis: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Name rows and columns; a line parts the systems."""
    axis.set_xticks(
        [x + 0.5 for x in range(len(columns))], [HEADINGS.get(name, name) for name in columns],
        fontsize=7, fontweight="bold",
    )  # fmt: skip
    axis.xaxis.tick_top()
    axis.set_yticks([y + 0.5 for y in range(len(rows))], rows, fontsize=6.5)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    for y in range(1, len(rows)):
        if rows[y].partition(":")[0] != rows[y - 1].partition(":")[0]:
            axis.axhline(y, color="#404040", linewidth=0.9, xmin=-0.6, clip_on=False)


def _decorate(figure: Figure, is_phantom: bool) -> None:
    """Add legend and, for phantoms, the warning."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=LOOKS[name][0], edgecolor="#9A9A9A", label=text)
        for name, text in LEGEND.items()
    ]
    legend = figure.legend(handles=handles, loc="lower left", ncols=4, frameon=False, fontsize=7)
    legend.set_in_layout(False)
    below = (
        "Percent, but for ρ, AULA and NLL. Dot: not measured. Fewer than "  # noqa: RUF001
        f"{FEWEST_PATIENTS} patients: no interval. Compare down a column within one system only. "
        "Of 20 cells without any effect, about one is coloured."
    )
    figure.text(0.01, 1 - 0.3 / figure.get_figheight(), "Trust matrix", fontsize=11,
                fontweight="bold", va="center")  # fmt: skip
    figure.text(0.01, 0.32 / figure.get_figheight(), below, fontsize=6.5, va="bottom")
    if is_phantom:
        warning = "PHANTOM: synthetic patients; says nothing about real data"
        figure.text(0.01, 0.55 / figure.get_figheight(), warning, fontsize=8, fontweight="bold",
                    color="#B03A00", va="bottom")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the matrix."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="its CSV file")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png or .svg")
    given = parser.parse_args(arguments)
    if given.out.suffix not in SUFFIXES:
        found = given.out.suffix or "no suffix"
        raise refuse("--out", " or ".join(SUFFIXES), found, "rename the picture")
    values = read_values(given.table)
    from matplotlib import rc_context

    with rc_context(RC):
        save(trust_figure(values), given.out)


if __name__ == "__main__":
    sys.exit(run(main))
