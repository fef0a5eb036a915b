"""The trust matrix as a picture: one row a model, one column an aspect, one colour a finding.

Run by hand::

    python -m workflow_scripts.report.trust_figure --table trust_matrix.csv --out trust_matrix.png

A colour says how a number stands to its yardstick: the chance level, no drop, a calibrated
forecast, the permutation null, or no connection between doubt and error. What cannot be told from
the yardstick at this number of cases is gray, whatever the number is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.command_line import run
from workflow_scripts.problems import refuse
from workflow_scripts.report.figures import RC, SUFFIXES, save
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.trust_cells import (
    BETTER,
    LEGEND,
    MARKS,
    OPEN,
    PLAIN,
    WORSE,
    Shown,
    best_protocol,
    shown,
)
from workflow_scripts.report.trust_columns import COLUMNS, FEWEST_PATIENTS
from workflow_scripts.report.trust_columns import HIDDEN as HIDDEN_GAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACES = {  # tints of Okabe and Ito's blue and vermilion; a mark says the same
    BETTER: "#A9CFE8",
    WORSE: "#F3B48C",
    OPEN: "#E4E4E4",
    PLAIN: "#FFFFFF",
}
HEADINGS = {
    "ID": "in\ndistribution", "OOD": "out of\ndistribution", "drop": "drop\nID to OOD",
    "calibration, ID": "calibration\nID", "calibration, OOD": "calibration\nOOD",
    "gap by sex": "gap\nby sex", "gap by age (60)": "gap by age\n(60 years)",
    HIDDEN_GAP: "gap, hidden\nattribute", "uncertainty against error": "doubt tells\nerror",
    "artefacts": "drop with\nartefacts", "layer agreement": "layer\nagreement",
}  # fmt: skip
CELL, LETTER, HEAD, FOOT = (0.83, 0.34), 0.053, 0.75, 0.9  # inches; of 6.5 points, on average


def trust_figure(values: Sequence[Value]) -> Figure:
    """Return the picture of the matrix."""
    from matplotlib.figure import Figure

    rows = best_protocol(values)
    present = {value.column for value in values}
    columns = [name for name in COLUMNS if name in present]
    label = 0.2 + LETTER * max(map(len, rows), default=0)
    width = label + CELL[0] * len(columns) + 0.1
    height = HEAD + CELL[1] * len(rows) + FOOT
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes(
        (label / width, FOOT / height, 1 - (label + 0.1) / width, 1 - (HEAD + FOOT) / height)
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
    face = FACES[cell.finding]
    box = Rectangle((x + 0.03, y + 0.05), 0.94, 0.9, fc=face, ec="#9A9A9A", linewidth=0.4)
    axis.add_patch(box)
    number = f"{cell.number}{MARKS[cell.finding]}"
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
        Patch(facecolor=FACES[name], edgecolor="#9A9A9A", label=text)
        for name, text in LEGEND.items()
    ]
    legend = figure.legend(handles=handles, loc="lower left", ncols=4, frameon=False, fontsize=7)
    legend.set_in_layout(False)
    below = (
        "Percent, but for ρ (rank correlation with Dice: good above 0 for AULA, below 0 for "  # noqa: RUF001
        "entropy), AULA and NLL. Dot: not measured.\nFewer than "
        f"{FEWEST_PATIENTS} patients: no interval. Compare down a column within one system only. "
        "Of 20 cells without any effect, about one is coloured."
    )
    figure.text(0.01, 1 - 0.3 / figure.get_figheight(), "Trust matrix", fontsize=11,
                fontweight="bold", va="center")  # fmt: skip
    figure.text(0.01, 0.32 / figure.get_figheight(), below, fontsize=6.5, va="bottom")
    if is_phantom:
        warning = "PHANTOM: synthetic patients; says nothing about real data"
        figure.text(0.01, 0.66 / figure.get_figheight(), warning, fontsize=8, fontweight="bold",
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
