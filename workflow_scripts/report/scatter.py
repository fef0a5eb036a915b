"""Scatter figures of SSL transfer: accuracy against one predictor, a panel a transfer column.

Run by hand::

    python -m workflow_scripts.report.scatter --tables results/tables/ssl_transfer_*.csv \
        --analysis '{...}' --predictor imagenet_top1 --out imagenet.png

The line is the weighted fit; r and p stand in the panel's title.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.metrics.correlation import fit_line, pearson
from workflow_scripts.predictions import PHANTOM
from workflow_scripts.problems import refuse
from workflow_scripts.report.correlations import parse_analysis
from workflow_scripts.report.figures import GREY, RC, STYLES, SUFFIXES, save
from workflow_scripts.report.metric_catalogue import metric_named
from workflow_scripts.report.transfer_points import Points, read_system, transfer_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_A_ROW = 4
PANEL_INCHES = (2.4, 2.2)
# Okabe and Ito's colours with a marker each, so that thirteen checkpoints can be told apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s")
NAMES = {  # of predictors; the others are named as in their table
    "imagenet_top1": "ImageNet top-1 accuracy (%)",
    "attentive_diffusion": "attentive diffusion (% of the map)",
    "lpips": "LPIPS, mean of three networks",
}
PERCENT = ("imagenet_top1", "attentive_diffusion")  # shown so; fractions in the tables


def scatter(sets: Sequence[Points], all_names: Sequence[str]) -> Figure:
    """Return one panel a set of points, the transfer in percent.

    Args:
        sets: of one predictor.
        all_names: checkpoints of all figures, so that one looks the same in each.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = {name for one in sets for name in one.checkpoints}
    names = [name for name in all_names if name in shown]
    n_across = min(max(PANELS_A_ROW, math.ceil(math.sqrt(len(sets)))), len(sets))
    n_down = math.ceil(len(sets) / n_across)
    legend_rows = math.ceil(len(names) / 4)
    size = (PANEL_INCHES[0] * n_across + 0.4, PANEL_INCHES[1] * n_down + 0.6 + 0.2 * legend_rows)
    figure = Figure(figsize=(max(size[0], 7.0), size[1]), layout="constrained")
    axes = figure.subplots(n_down, n_across, squeeze=False)
    for axis, points in zip(axes.flat[: len(sets)], sets, strict=True):
        _panel(axis, points, all_names)
    for axis in axes.flat[len(sets) :]:
        axis.set_visible(False)
    is_phantom = any(one.data == PHANTOM for one in sets)
    warning = "\nPHANTOM: synthetic patients; says nothing about real data" if is_phantom else ""
    title = f"transfer accuracy against {predictor_name(sets[0].predictor)}"
    figure.suptitle(f"{title}{warning}", x=0.01, ha="left", fontsize=9, fontweight="bold")
    handles = []
    for name in names:
        colour, marker = _look(all_names.index(name))
        handles.append(
            Line2D([], [], color=colour, marker=marker, linestyle="", markersize=4, label=name)
        )
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False)
    return figure


def predictor_name(predictor: str) -> str:
    """Return what an axis calls a predictor.

    >>> predictor_name("invariance_h_flip_batch"), predictor_name("lpips_vgg")
    ('whitened cosine under h_flip, batch statistics', 'LPIPS, vgg')
    """
    step, _, rest = predictor.partition("_")
    if step == "invariance":
        statistics = ", batch statistics" if rest.endswith("_batch") else ""
        return f"whitened cosine under {rest.removesuffix('_batch')}{statistics}"
    if step == "lpips" and rest:
        return f"LPIPS, {rest}"
    if step == "saliency":  # maps under another mode of batch normalisation
        return f"{NAMES['attentive_diffusion']}, {rest}"
    return NAMES.get(predictor, predictor)


def _look(number: int) -> tuple[str, str]:
    """Return colour and marker of a checkpoint."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def _panel(axis: Axes, points: Points, names: Sequence[str]) -> None:
    """Draw the points of one column, their intervals and the line through them."""
    is_percent = points.predictor in PERCENT or points.predictor.startswith("saliency_")
    scale = 100 if is_percent else 1
    xs = [scale * x for x in points.x]
    cells = zip(points.checkpoints, xs, points.y, points.low, points.high, strict=True)
    for name, x, y, low, high in cells:
        colour, marker = _look(names.index(name))
        if not math.isnan(low):
            ends = (100 * low, 100 * high)
            axis.plot((x, x), ends, color=colour, linewidth=0.9, alpha=0.6, zorder=2)
        axis.plot(x, 100 * y, marker, color=colour, markersize=4, zorder=3, markeredgewidth=0)
    line = fit_line(points.x, points.y, points.errors)
    if not math.isnan(line.slope):
        span = np.array([min(points.x), max(points.x)])
        heights = 100 * (line.intercept + line.slope * span)
        axis.plot(scale * span, heights, color=GREY, linewidth=1.0)
    r = pearson(points.x, points.y)
    said = "too few points" if math.isnan(r.r) else f"r = {r.r:.2f}, p = {r.p_value:.2f}"
    axis.set_title(f"{points.column}\n{points.protocol}; {said}", fontsize=7, loc="left",
                   color=STYLES[points.protocol][0])  # fmt: skip
    axis.set_xlabel(predictor_name(points.predictor), fontsize=7)
    axis.set_ylabel(metric_named(points.metric).heading, fontsize=7)
    axis.spines["left"].set_visible(True)
    if points.data == PHANTOM:
        axis.text(0.5, 0.5, "PHANTOM", transform=axis.transAxes, rotation=30, zorder=0.5,
                  ha="center", va="center", fontsize=18, color="#E3E3E3",
                  fontweight="bold")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the panels of one predictor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        required=True,
        metavar="CSV",
        help="tables in the long form",
    )
    parser.add_argument("--analysis", required=True, help="section of the configuration, JSON")
    parser.add_argument("--predictor", required=True, help="such as imagenet_top1, lpips")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png or .svg")
    given = parser.parse_args(arguments)
    if given.out.suffix not in SUFFIXES:
        found = given.out.suffix or "no suffix"
        raise refuse("--out", " or ".join(SUFFIXES), found, "rename the picture")
    analysis = parse_analysis(given.analysis)
    sets = transfer_points(read_system(given.tables), analysis["imagenet_top1"])
    names = list(dict.fromkeys(one.predictor for one in sets))
    chosen = [one for one in sets if one.predictor == given.predictor]
    if not chosen:
        found = given.predictor
        raise refuse("--predictor", f"one of {', '.join(names)}", found, "make its table first")
    from matplotlib import rc_context

    with rc_context(RC):
        all_names = sorted({name for one in sets for name in one.checkpoints})
        save(scatter(chosen, all_names), given.out)


if __name__ == "__main__":
    sys.exit(run(main))
