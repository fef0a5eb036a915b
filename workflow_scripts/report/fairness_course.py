"""Gap against training loss: one panel a column, one line a row through its epochs.

    python -m workflow_scripts.report.fairness_course --table debiased_noise_course.csv \
        --gap equalized_odds --out course.png

Training runs to the right, where the loss is smaller. An edit that only makes the disease harder
to learn moves a method back along the same line; one that helps lies below it at equal loss.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from workflow_scripts.command_line import run
from workflow_scripts.problems import refuse
from workflow_scripts.report.fairness_plane import (
    PANEL,
    PANELS_A_ROW,
    Looks,
    draw_table,
    looks_of,
    parts_of,
)
from workflow_scripts.report.figures import GREY
from workflow_scripts.report.findings_figures import warn
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import metric_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS = "train_loss"
ROW = re.compile(r"(?P<row>.+), epoch (?P<epoch>[0-9]+)")
Key = tuple[str, str, str]  # protocol, row without its epoch, column


class Point(NamedTuple):
    """One epoch of a training, in printed units; sorted by epoch."""

    epoch: int
    loss: float
    gap: float


def lines_of(values: Sequence[Value], gap: str) -> dict[Key, list[Point]]:
    """Return the epochs of each training at which loss and gap are defined."""
    cells: dict[tuple[str, str, str], dict[str, float]] = {}
    for value in values:
        if value.metric in (LOSS, gap) and not math.isnan(value.value):
            cells.setdefault(value.cell, {})[value.metric] = value.value
    lines: dict[Key, list[Point]] = {}
    scale = metric_named(gap).scale
    for (protocol, row, column), found in cells.items():
        named = ROW.fullmatch(row)
        if named and len(found) == 2:
            point = Point(int(named["epoch"]), found[LOSS], scale * found[gap])
            lines.setdefault((protocol, named["row"], column), []).append(point)
    return {key: sorted(points) for key, points in lines.items()}


def course(values: Sequence[Value], gap: str) -> Figure:
    """Return the figure of one table.

    Args:
        values: of the table; rows end in `, epoch E`.
        gap: a metric for which lower is better, such as `equalized_odds`.

    Raises:
        InputError: no row has an epoch, a training loss and this gap.
    """
    from matplotlib.figure import Figure

    lines = lines_of(values, gap)
    if not lines:
        expected = f"rows of epochs with {LOSS} and {gap}"
        raise refuse("the table", expected, "none", "choose another table or gap")
    columns = list(dict.fromkeys(column for _, _, column in lines))
    looks = looks_of([row for _, row, _ in lines])
    across = min(PANELS_A_ROW, len(columns))
    down = math.ceil(len(columns) / across)
    height = PANEL[1] * down + 0.75 + 0.05 * (len(looks.colours) + len(looks.markers) + 3)
    figure = Figure(figsize=(max(6.4, PANEL[0] * across), height), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis, column in zip(axes[: len(columns)], columns, strict=True):
        _panel(axis, column, {key: one for key, one in lines.items() if key[2] == column}, looks)
        axis.set_ylabel(metric_named(gap).heading)
    for axis in axes[len(columns) :]:
        axis.set_visible(False)
    _legend(figure, lines, looks, is_phantom=any(value.is_phantom for value in values))
    return figure


def _panel(axis: Axes, column: str, lines: Mapping[Key, list[Point]], looks: Looks) -> None:
    """Draw the trainings of one column; the last epoch has a marker."""
    for (protocol, row, _), points in lines.items():
        method, read_out = parts_of(row)
        colour = looks.colours[method]
        losses, gaps = [one.loss for one in points], [one.gap for one in points]
        style = ":" if protocol == "released" else "-"
        axis.plot(losses, gaps, style, color=colour, linewidth=1.1, zorder=2)
        axis.plot(losses[:-1], gaps[:-1], ".", color=colour, markersize=3, zorder=3)
        axis.plot(losses[-1], gaps[-1], looks.markers[read_out], color=colour, markersize=5.5)
    axis.invert_xaxis()
    axis.set_ylim(bottom=0)
    axis.set_title(column, fontsize=8, loc="left", fontweight="bold")
    axis.set_xlabel("training loss, falling to the right")


def _legend(
    figure: Figure, lines: Mapping[Key, list[Point]], looks: Looks, is_phantom: bool
) -> None:
    """Name methods, read-outs and protocols, and say where phantoms were used."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=2.5, label=name)
        for name, colour in looks.colours.items()
    ]
    handles += [
        Line2D([], [], color=GREY, marker=marker, linestyle="", label=f"{name}, last epoch")
        for name, marker in looks.markers.items()
    ]
    if any(protocol == "released" for protocol, _, _ in lines):
        handles.append(Line2D([], [], color=GREY, linestyle=":", label="released protocol"))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False)
    title = "Gap while training: an edit helps where its line lies below at equal loss"
    warn(figure, title, is_phantom)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the course of one table from the command line."""
    draw_table(arguments, (__doc__ or "").partition("\n")[0], course)


if __name__ == "__main__":
    sys.exit(run(main))
