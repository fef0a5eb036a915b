"""Fairness against accuracy: one panel a column, one cross with both intervals a row.

    python -m workflow_scripts.report.fairness_plane --table debiased_noise_fairness.csv \
        --gap equalized_odds --out plane.png

The corner below and right is where one wants to be: accurate, without a gap. Rows are named
`method, read-out`: the method has a colour, the read-out a marker. The gray band holds 95 % of the
gaps of permuted groups; what lies inside cannot be told from a fair classifier.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise.protocols import METHODS
from workflow_scripts.problems import refuse
from workflow_scripts.report.figures import GREY, PALE, RC, save
from workflow_scripts.report.findings_figures import warn
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.metric_catalogue import metric_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = "accuracy"
PANEL = (3.1, 3.0)  # inches
PANELS_A_ROW = 3
# Okabe and Ito's, black and gray for the rows without an edit; a method keeps its own everywhere
PALETTE = ("#000000", "#8C8C8C", "#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7")
COLOURS = dict(zip(METHODS.values(), PALETTE, strict=True))
MARKERS = "oDs^vPX*<>phd8H"  # a read-out keeps its marker in every panel
LARGEST, SMALLEST = 9.0, 4.5  # points; of rows in one place all are seen, the first around the next
Cell = Mapping[str, Value]  # metric -> value


def cells_of(values: Sequence[Value], gap: str) -> dict[tuple[str, str, str], dict[str, Value]]:
    """Return protocol, row, column -> level, gap and its null, where both are defined."""
    wanted = (LEVEL, gap, f"{gap}_null_high")
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
    looks = looks_of([row for _, row, _ in cells])
    across = min(PANELS_A_ROW, len(columns))
    down = math.ceil(len(columns) / across)
    height = PANEL[1] * down + 0.75 + 0.05 * (len(looks.colours) + len(looks.markers) + 3)
    figure = Figure(figsize=(max(6.4, PANEL[0] * across), height), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis, column in zip(axes[: len(columns)], columns, strict=True):
        inside = {cell: found for cell, found in cells.items() if cell[2] == column}
        _panel(axis, column, inside, looks, gap)
    for axis in axes[len(columns) :]:
        axis.set_visible(False)
    _legend(figure, cells, looks, is_phantom=any(value.is_phantom for value in values))
    return figure


class Looks(NamedTuple):
    """How rows are drawn."""

    colours: dict[str, str]  # of each method
    markers: dict[str, str]  # of each read-out
    sizes: dict[str, float]  # of each row's marker, points


def looks_of(rows: Sequence[str]) -> Looks:
    """Return the looks of rows named `method, read-out`, in the order of first appearance."""
    rows = list(dict.fromkeys(rows))
    methods, read_outs = (
        list(dict.fromkeys(one)) for one in zip(*map(parts_of, rows), strict=True)
    )
    shrink = (LARGEST - SMALLEST) / max(1, len(rows) - 1)
    return Looks(
        {name: COLOURS.get(name, GREY) for name in methods},
        {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(read_outs)},
        {row: LARGEST - i * shrink for i, row in enumerate(rows)},
    )


def parts_of(row: str) -> tuple[str, str]:
    """Return method and read-out of a row.

    >>> parts_of("DNE white box, moco-v2")
    ('DNE white box', 'moco-v2')
    """
    method, _, read_out = row.rpartition(", ")
    return method, read_out


def _panel(
    axis: Axes, column: str, cells: Mapping[tuple[str, str, str], Cell], looks: Looks, gap: str
) -> None:
    """Draw the rows of one column; markers of the released protocol are hollow."""
    metrics = metric_named(LEVEL), metric_named(gap)
    high = f"{gap}_null_high"
    nulls = [found[high].value for found in cells.values() if high in found]
    if nulls:
        axis.axhspan(0, metrics[1].scale * max(nulls), color=PALE, zorder=0)
    for (protocol, row, _), found in cells.items():
        method, read_out = parts_of(row)
        colour = looks.colours[method]
        x, y = metrics[0].scale * found[LEVEL].value, metrics[1].scale * found[gap].value
        for value, scale, is_across in (
            (found[LEVEL], metrics[0].scale, True), (found[gap], metrics[1].scale, False),
        ):  # fmt: skip
            if not math.isnan(value.ci_low):
                ends = (scale * value.ci_low, scale * value.ci_high)
                line = (ends, (y, y)) if is_across else ((x, x), ends)
                axis.plot(*line, color=colour, linewidth=0.9, alpha=0.45, zorder=2)
        face = "white" if protocol == "released" else colour
        axis.plot(
            x, y, looks.markers[read_out], color=colour, markerfacecolor=face,
            markersize=looks.sizes[row], markeredgewidth=0.8, zorder=3,
            markeredgecolor=colour if protocol == "released" else "white",
        )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.set_title(column, fontsize=8, loc="left", fontweight="bold")
    axis.set_xlabel(metrics[0].heading)
    axis.set_ylabel(metrics[1].heading)


def _legend(
    figure: Figure, cells: Mapping[tuple[str, str, str], Cell], looks: Looks, is_phantom: bool
) -> None:
    """Name methods, read-outs and protocols, and say where phantoms were used."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, linewidth=2.5, label=name)
        for name, colour in looks.colours.items()
    ]
    handles += [
        Line2D([], [], color=GREY, marker=marker, linestyle="", label=name)
        for name, marker in looks.markers.items()
    ]
    if any(protocol == "released" for protocol, _, _ in cells):
        hollow: dict[str, Any] = {"marker": "o", "linestyle": "", "markerfacecolor": "white"}
        handles.append(Line2D([], [], color=GREY, label="hollow: released protocol", **hollow))
    handles.append(Line2D([], [], color=GREY, linewidth=0.9, label="95 % intervals"))
    handles.append(Patch(color=PALE, label="95 % of the gaps of permuted groups"))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False)
    title = "Fairness against accuracy: better is below and right"
    warn(figure, title, is_phantom)


def draw_table(
    arguments: Sequence[str] | None, about: str, draw: Callable[[Sequence[Value], str], Figure]
) -> None:
    """Draw a gap of one table from the command line.

    Args:
        arguments: the command line.
        about: its first words of help.
        draw: gets the table's values and the metric of the gap.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--table", type=Path, required=True, help="its CSV file")
    parser.add_argument("--gap", default="equalized_odds", help="metric of the vertical axis")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png or .svg")
    given = parser.parse_args(arguments)
    from matplotlib import rc_context

    with rc_context({**RC, "axes.spines.left": True}):
        save(draw(read_values(given.table), given.gap), given.out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the plane of one table from the command line."""
    draw_table(arguments, (__doc__ or "").partition("\n")[0], plane)


if __name__ == "__main__":
    sys.exit(run(main))
