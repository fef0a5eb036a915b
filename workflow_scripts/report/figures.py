"""A table as a picture: one panel a data set, one dot a checkpoint, its interval, chance level.

Run by hand::

    python -m workflow_scripts.report.figures --table T.csv --kind dots --out T.png

The suffix of `--out` chooses the format: `.png` (200 dpi) or `.svg`; equal tables give equal bytes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.command_line import run
from workflow_scripts.files import write_atomic
from workflow_scripts.problems import refuse
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.metric_catalogue import CHANCE, DRAWN_METRICS, metric_named
from workflow_scripts.report.rendering import Block, Column, blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
DPI = 200
PANELS_A_ROW = 4
PANEL_WIDTH, ROW_HEIGHT, HEADROOM = 2.1, 0.19, 0.75  # inches; a panel's height grows with its rows
LABEL_WIDTH = 1.75  # inches for the checkpoints' names
LEGEND_WIDTH = 1.4  # inches for an entry of the legend; more entries go to a second line
# Okabe and Ito's colours that print apart in grey as well; the marker says the same
STYLES = {"released": ("#0072B2", "o"), "corrected": ("#D55E00", "D"), "paper": ("#009E73", "s")}
GREY, PALE = "#595959", "#E6E6E6"
RC: dict[Any, Any] = {
    "font.size": 8.0,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "svg.hashsalt": "steadfast",  # names inside the file do not change from run to run
    "svg.fonttype": "path",
}


def dots(values: Sequence[Value]) -> Figure:
    """Return a dot plot of one table, in the metrics' units.

    Protocols share the panels, each with its colour and marker. A value that is undefined or was
    not run has no dot; a column without any has no panel, unless no column has one.
    """
    from matplotlib.figure import Figure

    parts = [part for part in blocks(values) if _defined(part)] or blocks(values)
    columns = _shown_columns(values[0].table, parts)
    rows = list(dict.fromkeys(row for part in parts for row in part.rows))
    n_across = min(PANELS_A_ROW, len(columns))
    n_down = math.ceil(len(columns) / n_across)
    panel_height = HEADROOM + ROW_HEIGHT * len(rows) * (1 if len(parts) == 1 else 1.35)
    width = max(LABEL_WIDTH + PANEL_WIDTH * n_across, 5.2)
    figure = Figure(figsize=(width, panel_height * n_down + 0.9), layout="constrained")
    axes = figure.subplots(n_down, n_across, sharey=True, squeeze=False)
    for axis, column in zip(axes.flat[: len(columns)], columns, strict=True):
        _panel(axis, column, rows, parts)
        if column.name not in {c.name for c in columns[: columns.index(column)]}:
            _chance_lines(axis, column.name, values)  # it belongs to the first metric of a cell
    for axis in axes.flat[len(columns) :]:
        axis.set_visible(False)
    _decorate(figure, values, parts)
    return figure


def _shown_columns(table: str, parts: Sequence[Block]) -> list[Column]:
    """Return the columns of all protocols that have a defined value; all where none has."""
    found = dict.fromkeys(column for part in parts for column in part.columns)
    drawn = DRAWN_METRICS.get(table)
    columns = [column for column in found if drawn is None or column.metric in drawn]
    defined = {column for part in parts for column in _defined(part)}
    return [column for column in columns if column in defined or not defined]


def _defined(part: Block) -> set[Column]:
    """Return the columns of a protocol that have a defined value."""
    return {column for (_, column), value in part.values.items() if not math.isnan(value.value)}


def _panel(axis: Axes, column: Column, rows: Sequence[str], parts: Sequence[Block]) -> None:
    """Draw the dots and intervals of one column; the first row stands on top."""
    metric = metric_named(column.metric)
    scale = metric.scale
    for i, part in enumerate(parts):
        colour, marker = STYLES[part.protocol]
        offset = 0.36 * (i - (len(parts) - 1) / 2)
        for place, row in enumerate(rows):
            value = part.values.get((row, column))
            if value is None or math.isnan(value.value):
                continue
            y = place + offset
            if not math.isnan(value.ci_low):
                ends = (scale * value.ci_low, scale * value.ci_high)
                axis.plot(ends, (y, y), color=colour, linewidth=1.2, alpha=0.7, zorder=2)
            axis.plot(
                scale * value.value, y, marker, color=colour, markersize=3.4, zorder=3,
                markeredgewidth=0,
            )  # fmt: skip
    for place in range(len(rows)):
        axis.axhline(place, color=PALE, linewidth=0.6, zorder=0)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(axis="y", length=0)
    axis.margins(x=0.08)
    axis.set_title(column.name, fontsize=8, loc="left", fontweight="bold")
    axis.set_xlabel(metric.heading)


def _chance_lines(axis: Axes, column: str, values: Sequence[Value]) -> None:
    """Draw the chance level of a column; protocols that judge other cases may differ in it."""
    for level in sorted({v.value for v in values if v.metric == CHANCE and v.column == column}):
        axis.axvline(100 * level, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)


def _decorate(figure: Figure, values: Sequence[Value], parts: Sequence[Block]) -> None:
    """Add the title, the legend and, for phantoms, the warning across every panel."""
    from matplotlib.lines import Line2D

    is_phantom = any(part.is_phantom for part in parts)
    warning = "\nPHANTOM: synthetic patients; says nothing about real data" if is_phantom else ""
    title = f"{values[0].table}{warning}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    handles = []
    for part in parts:
        colour, marker = STYLES[part.protocol]
        label = f"{part.protocol} protocol"
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, label=label))
    if any(not math.isnan(value.ci_low) for value in values):
        handles.append(Line2D([], [], color=GREY, linewidth=1.3, label="95 % interval"))
    if any(value.metric == CHANCE for value in values):
        dashes = (0, (4, 2))
        handles.append(
            Line2D([], [], color=GREY, linewidth=0.9, linestyle=dashes, label="chance level")
        )
    n_across = max(1, min(len(handles), int(figure.get_figwidth() / LEGEND_WIDTH)))
    figure.legend(handles=handles, loc="outside lower left", ncols=n_across, frameon=False)
    for axis in figure.axes if is_phantom else ():
        axis.text(
            0.5, 0.5, "PHANTOM", transform=axis.transAxes, rotation=30, zorder=0.5,
            ha="center", va="center", fontsize=18, color="#E3E3E3", fontweight="bold",
        )  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG or SVG without the date and the versions that made it."""
    blank = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}[path.suffix]
    write_atomic(path, lambda partial: figure.savefig(partial, dpi=DPI, metadata=blank))


KINDS: dict[str, Callable[[Sequence[Value]], Figure]] = {"dots": dots}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one figure of one table."""
    parser = argparse.ArgumentParser(description="Draw a table of long form.")
    parser.add_argument("--table", type=Path, required=True, help="its CSV file")
    parser.add_argument("--kind", choices=sorted(KINDS), default="dots", help="of figure")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png or .svg")
    options = parser.parse_args(arguments)
    if options.out.suffix not in SUFFIXES:
        found = options.out.suffix or "no suffix"
        raise refuse("--out", " or ".join(SUFFIXES), found, "rename the picture")
    values = read_values(options.table)
    from matplotlib import rc_context

    with rc_context(RC):
        save(KINDS[options.kind](values), options.out)


if __name__ == "__main__":
    sys.exit(run(main))
