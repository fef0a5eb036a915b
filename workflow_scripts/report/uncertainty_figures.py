"""Figures of segmentation with uncertainty: quality control, and the sweep over skipped heads.

    python -m workflow_scripts.report.uncertainty_figures --quality-control A.parquet B.parquet \
        --out quality_control.png
    python -m workflow_scripts.report.uncertainty_figures --skips skips.csv --out skips.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.files import write_atomic
from workflow_scripts.metrics.quality_control import (
    area_under,
    fractions,
    quality_control_curve,
    reference_lines,
)
from workflow_scripts.predictions import PHANTOM
from workflow_scripts.problems import refuse
from workflow_scripts.report.figures import DPI, GREY, PALE, RC
from workflow_scripts.report.kinds.uncertainty import (
    FLAGGED_GOAL,
    Scores,
    control_curve,
    read_scores,
)
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.predictions import read_headers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {"multi_head": "-.", "deep_ensembles": "--"}  # equal curves stay visible
COLOURS = {"multi_head": "#56B4E9", "deep_ensembles": "#E69F00", "layer_ensembles": "#0072B2"}
PANEL_WIDTH, PANEL_HEIGHT = 3.1, 2.7  # inches
PANELS_A_ROW = 4
TITLE = 8  # points
BAND = 0.1  # standard deviations over cases, up and down (Fig. 3)
PRINTED_SKIPS = (1, 3, 5, 7, 9)  # at which Fig. 3 prints the Dice


class Panel(NamedTuple):
    """One panel of the quality-control figure: the runs of a protocol, data set and structure."""

    protocol: str
    column: str
    suffix: str
    scores: tuple[Scores, ...]


def panels_of(paths: Sequence[Path]) -> list[Panel]:
    """Return the panels, in the order of the files; the first seed of each run is drawn."""
    headers = read_headers(paths)
    first = min((header.seed for header in headers), default=0)
    firsts = [header for header in headers if header.seed == first]
    groups: dict[tuple[str, str], list[Scores]] = {}
    for header in firsts:
        key = (header.protocol, header.column)
        groups.setdefault(key, []).extend(read_scores((header,)))
    panels = []
    for (protocol, column), scores in groups.items():
        suffixes = [n.removeprefix("is_bad") for n in scores[0].columns if n.startswith("is_bad")]
        panels += [Panel(protocol, column, suffix, tuple(scores)) for suffix in suffixes]
    return panels


def quality_control(panels: Sequence[Panel]) -> Figure:
    """Return Fig. 2: bad cases left against the fraction flagged, for each method."""
    figure, axes = _canvas(len(panels))
    for axis, panel in zip(axes, panels, strict=False):
        _draw_control(axis, panel)
    data = {one.header.data for panel in panels for one in panel.scores}
    seed = panels[0].scores[0].header.seed
    _title(figure, f"Segmentation quality control, seed {seed}", PHANTOM in data)
    return figure


def _draw_control(axis: Axes, panel: Panel) -> None:
    ideals = []
    for one in panel.scores:
        curve = control_curve(one, panel.suffix)
        dice = np.nan_to_num(one.columns[f"dsc{panel.suffix}"], nan=1.0)  # undefined: never bad
        ideals.append(quality_control_curve(one.columns[f"is_bad{panel.suffix}"] > 0, -dice))
        label = f"{one.header.row}, AUC {area_under(curve):.3f}"
        colour, style = COLOURS.get(one.header.row, GREY), STYLES.get(one.header.row, "-")
        axis.plot(fractions(), curve, style, color=colour, label=label, lw=1.4)
    start, corner, lowest = reference_lines(ideals)
    axis.fill([0, corner, 0], [start, lowest, 0], color=PALE, label="ideal", zorder=0)
    axis.plot([0, 1], [start, 0], "k", lw=0.6, label="random")
    axis.axhline(FLAGGED_GOAL, color="k", ls=":", lw=0.8, label="5 %")
    structure = panel.suffix.removeprefix("_").upper() or "all structures"
    axis.set_title(f"{panel.column}, {structure} ({panel.protocol})", fontsize=TITLE)
    axis.set(
        xlabel="fraction flagged",
        ylabel="bad cases left",
        xlim=(0, 1),
        ylim=(0, max(1.6 * start, 2 * FLAGGED_GOAL)),
    )
    axis.legend(fontsize=6, loc="upper right", framealpha=0.8, edgecolor="none")


def skips(values: Sequence[Value]) -> Figure:
    """Return Fig. 3: NLL against the number of heads left out, Dice in numbers."""
    places = list(dict.fromkeys((one.protocol, one.column) for one in values))
    figure, axes = _canvas(len(places))
    for axis, (protocol, column) in zip(axes, places, strict=False):
        here = [one for one in values if (one.protocol, one.column) == (protocol, column)]
        _draw_sweep(axis, here)
        axis.set_title(f"{column} ({protocol})", fontsize=TITLE)
        axis.set(xlabel="heads left out", ylabel="NLL (nat)")
    _title(figure, "NLL and Dice when the first heads are left out", values[0].data == PHANTOM)
    return figure


def _draw_sweep(axis: Axes, values: Sequence[Value]) -> None:
    found = {(one.row, one.metric): one.value for one in values}
    rows = [row for row in dict.fromkeys(one.row for one in values) if row.startswith("skip ")]
    numbers = np.array([int(row.removeprefix("skip ")) for row in rows])
    nll = np.array([found[row, "nll"] for row in rows])
    spread = np.array([found[row, "nll_std"] for row in rows])
    colour = COLOURS["layer_ensembles"]
    axis.plot(
        numbers, nll, color=colour, marker="o", ms=3, label="layer ensembles (DSC at the points)"
    )
    axis.fill_between(numbers, nll - BAND * spread, nll + BAND * spread, color=colour, alpha=0.2)
    if ("deep_ensembles", "nll") in found:
        level, dice, std = (found["deep_ensembles", name] for name in ("nll", "dsc", "dsc_std"))
        label = f"deep ensembles, DSC {dice:.3f} ({std:.2f})"
        axis.axhline(level, color=COLOURS["deep_ensembles"], ls="--", label=label)
    printed = [n for n in numbers if n in PRINTED_SKIPS] or numbers.tolist()
    for number in printed:
        dice, std = found[f"skip {number}", "dsc"], found[f"skip {number}", "dsc_std"]
        at = (number, float(nll[numbers.tolist().index(number)]))
        words = f"{dice:.3f}\n({std:.2f})"
        axis.annotate(words, at, (0, 6), textcoords="offset points", ha="center", size=5)
    axis.margins(y=0.25)
    axis.legend(fontsize=6, frameon=False)


def _canvas(n: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure and its `n` panels; the others are hidden."""
    from matplotlib.figure import Figure

    across = min(n, PANELS_A_ROW)
    down = -(-n // across)
    figure = Figure((PANEL_WIDTH * across, PANEL_HEIGHT * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[n:]:
        axis.set_visible(False)
    return figure, list(axes)


def _title(figure: Figure, words: str, is_phantom: bool) -> None:
    warning = "\nPHANTOM: synthetic patients, says nothing about real data" * is_phantom
    figure.suptitle(words + warning, fontsize=8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one of the two figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--quality-control",
        type=Path,
        nargs="+",
        metavar="PARQUET",
        help="draw quality control from these predictions",
    )
    what.add_argument(
        "--skips", type=Path, metavar="CSV", help="draw the heads left out from this table"
    )
    parser.add_argument("--out", type=Path, required=True, help="figure to write (.png, .svg)")
    given = parser.parse_args(arguments)
    import matplotlib

    with matplotlib.rc_context(RC):
        if given.skips:
            figure = skips(read_values(given.skips))
        else:
            panels = panels_of(given.quality_control)
            if not panels:
                step = "give the cells of the correlation table"
                raise refuse("--quality-control", "files with column is_bad", "none", step)
            figure = quality_control(panels)
        write_atomic(given.out, lambda partial: figure.savefig(partial, dpi=DPI))


if __name__ == "__main__":
    sys.exit(run(main))
