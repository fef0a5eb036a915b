"""Fairness against accuracy: one panel a column, one cross with both intervals a method.

    python -m workflow_scripts.report.fairness_plane --table debiased_noise_fairness.csv \
        --gap equalized_odds --out plane.png

The corner below and right is where one wants to be: accurate, without a gap. The gray band is the
gap that permuted groups give by chance; a method inside it cannot be told from a fair one.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.command_line import run
from workflow_scripts.problems import refuse
from workflow_scripts.report.figures import GREY, RC, STYLES, save
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.metric_catalogue import metric_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = "accuracy"
PANEL = (3.1, 3.0)  # inches
PANELS_A_ROW = 3
MARKERS = "oDs^vPX*<>ph"  # a method keeps its marker in every panel
Cell = Mapping[str, Value]  # metric -> value


def cells_of(values: Sequence[Value], gap: str) -> dict[tuple[str, str, str], dict[str, Value]]:
    """Return protocol, row, column -> level, gap and its null, where both are defined."""
    wanted = (LEVEL, gap, f"{gap}_null")
    cells: dict[tuple[str, str, str], dict[str, Value]] = {}
    for value in values:
        if value.metric in wanted and not math.isnan(value.value):
            cells.setdefault(value.cell, {})[value.metric] = value
    return {cell: found for cell, found in cells.items() if LEVEL in found and gap in found}


def plane(values: Sequence[Value], gap: str) -> Figure:
    """Return the figure of one table.

    Args:
        values: of the table.
        gap: a metric for which lower is better, such as `equalized_odds`.

    Raises:
        InputError: no cell has both accuracy and this gap.
    """
    from matplotlib.figure import Figure

    cells = cells_of(values, gap)
    if not cells:
        raise refuse("the table", f"accuracy and {gap}", "none", "choose another table or gap")
    columns = list(dict.fromkeys(column for _, _, column in cells))
    rows = list(dict.fromkeys(row for _, row, _ in cells))
    across = min(PANELS_A_ROW, len(columns))
    down = math.ceil(len(columns) / across)
    height = PANEL[1] * down + 0.75 + 0.16 * len(rows)
    figure = Figure(figsize=(max(6.4, PANEL[0] * across), height), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis, column in zip(axes[: len(columns)], columns, strict=True):
        inside = {cell: found for cell, found in cells.items() if cell[2] == column}
        _panel(axis, column, inside, rows, gap)
    for axis in axes[len(columns) :]:
        axis.set_visible(False)
    _legend(figure, cells, rows, is_phantom=any(value.is_phantom for value in values))
    return figure


def _panel(
    axis: Axes, column: str, cells: Mapping[tuple[str, str, str], Cell], rows: Sequence[str],
    gap: str,
) -> None:  # fmt: skip
    """Draw the methods of one column."""
    metrics = metric_named(LEVEL), metric_named(gap)
    nulls = [found[f"{gap}_null"].value for found in cells.values() if f"{gap}_null" in found]
    if nulls:
        axis.axhspan(0, metrics[1].scale * max(nulls), color="#E6E6E6", zorder=0)
    for (protocol, row, _), found in cells.items():
        colour = STYLES[protocol][0]
        x, y = metrics[0].scale * found[LEVEL].value, metrics[1].scale * found[gap].value
        for value, scale, is_across in (
            (found[LEVEL], metrics[0].scale, True), (found[gap], metrics[1].scale, False),
        ):  # fmt: skip
            if not math.isnan(value.ci_low):
                ends = (scale * value.ci_low, scale * value.ci_high)
                line = (ends, (y, y)) if is_across else ((x, x), ends)
                axis.plot(*line, color=colour, linewidth=0.9, alpha=0.55, zorder=2)
        marker = MARKERS[rows.index(row) % len(MARKERS)]
        axis.plot(x, y, marker, color=colour, markersize=5, zorder=3, markeredgewidth=0)
    axis.set_ylim(bottom=0)
    axis.set_title(column, fontsize=8, loc="left", fontweight="bold")
    axis.set_xlabel(metrics[0].heading)
    axis.set_ylabel(metrics[1].heading)


def _legend(
    figure: Figure, cells: Mapping[tuple[str, str, str], Cell], rows: Sequence[str],
    is_phantom: bool,
) -> None:  # fmt: skip
    """Name the methods and protocols, and say where phantoms were used."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [
        Line2D([], [], color=GREY, marker=MARKERS[i % len(MARKERS)], linestyle="", label=row)
        for i, row in enumerate(rows)
    ]
    for protocol in dict.fromkeys(protocol for protocol, _, _ in cells):
        label = f"{protocol} protocol, 95 % intervals"
        handles.append(Line2D([], [], color=STYLES[protocol][0], label=label))
    handles.append(Patch(color="#E6E6E6", label="mean gap of permuted groups"))
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False)
    title = "Fairness against accuracy: better is below and right"
    warning = "\nPHANTOM: synthetic patients; says nothing about real data"
    figure.suptitle(title + warning * is_phantom, x=0.01, ha="left", fontsize=9, fontweight="bold")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the plane of one table from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=Path, required=True, help="its CSV file")
    parser.add_argument("--gap", default="equalized_odds", help="metric of the vertical axis")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png or .svg")
    given = parser.parse_args(arguments)
    from matplotlib import rc_context

    with rc_context({**RC, "axes.spines.left": True}):
        save(plane(read_values(given.table), given.gap), given.out)


if __name__ == "__main__":
    sys.exit(run(main))
