"""Figures of a multi-label table: findings as bars, reliability, causality maps.

Run by hand::

    python -m workflow_scripts.report.findings_figures --kind bars --files T.csv --out F.png
    python -m workflow_scripts.report.findings_figures --kind reliability --files P1.parquet ...
    python -m workflow_scripts.report.findings_figures --kind maps --prior P.csv --files M.csv ...

Bars and reliability show the corrected protocol where it was run. A map's name is its path's part
`{protocol}/{variant}/seed{seed}`; the maps of a variant's seeds are averaged.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.metrics.calibration import chance_of, reliability
from workflow_scripts.metrics.statistics import Floats
from workflow_scripts.predictions import PHANTOM
from workflow_scripts.problems import refuse
from workflow_scripts.report.figures import GREY, PALE, RC, SUFFIXES, save
from workflow_scripts.report.kinds.multilabel import ID, OOD, SCORE, TRUTH
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.metric_catalogue import CHEST_FINDINGS, finding_name
from workflow_scripts.report.predictions import Header, read_case_columns, read_headers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours; the hatch says the same in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
COLUMNS = (ID, OOD)
PREFERRED = "corrected"
RUN_OF = re.compile(r"/(?P<protocol>[a-z]+)/(?P<variant>[a-z_]+)/seed(?P<seed>\d+)/")


def bars(values: Sequence[Value]) -> Figure:
    """Return the AUC of each finding, ID above OOD, one bar for each variant's first head."""
    from matplotlib.figure import Figure

    chosen = _preferred([value.protocol for value in values])
    own = [value for value in values if value.protocol == chosen]
    rows = _first_heads(own)
    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    for axis, column in zip(figure.subplots(2, 1, sharex=True), COLUMNS, strict=True):
        _finding_bars(axis, column, rows, own)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
    warn(figure, f"AUC of each finding, {chosen} protocol", values[0].data == PHANTOM)
    return figure


def _finding_bars(axis: Axes, column: str, rows: Sequence[str], values: Sequence[Value]) -> None:
    """Draw one group of bars a finding, with intervals; an undefined value has no bar."""
    found = {(v.row, v.metric): v for v in values if v.column == column}
    width = 0.8 / len(rows)
    for number, row in enumerate(rows):
        for place, finding in enumerate(CHEST_FINDINGS):
            value = found.get((row, f"auc_{finding_name(finding)}"))
            if value is None or math.isnan(value.value):
                continue
            x = place + (number - (len(rows) - 1) / 2) * width
            axis.bar(
                x, 100 * value.value, width, color=COLOURS[number % len(COLOURS)],
                hatch=HATCHES[number % len(HATCHES)], edgecolor="white", linewidth=0.3,
                label=row if place == 0 else None,
            )  # fmt: skip
            ends = (100 * value.ci_low, 100 * value.ci_high)
            axis.plot((x, x), ends, color=GREY, linewidth=0.9)
    axis.axhline(50, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    axis.set_xticks(range(len(CHEST_FINDINGS)), CHEST_FINDINGS, rotation=20, ha="right")
    axis.set_ylim(0, 100)
    axis.set_ylabel("AUC (%)")
    axis.set_title(column, fontsize=8, loc="left", fontweight="bold")


def calibration(headers: Sequence[Header]) -> Figure:
    """Return stated against happened, all findings together: a panel a column, a line a variant."""
    from matplotlib.figure import Figure

    chosen = _preferred([header.protocol for header in headers])
    own = [header for header in headers if header.protocol == chosen]
    variants = list(dict.fromkeys(header.row for header in own))
    figure = Figure(figsize=(6.6, 3.5), layout="constrained")
    for axis, column in zip(figure.subplots(1, 2, sharey=True), COLUMNS, strict=True):
        axis.plot((0, 1), (0, 1), color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
        for number, variant in enumerate(variants):
            part = [h for h in own if (h.row, h.column) == (variant, column)]
            if part:
                _reliability_line(axis, part, variant, COLOURS[number % len(COLOURS)])
        axis.set_title(column, fontsize=8, loc="left", fontweight="bold")
        axis.set_xlabel("stated chance (mean of the bin)")
        axis.set_aspect("equal")
        axis.grid(color=PALE, linewidth=0.5)
    figure.axes[0].set_ylabel("share of images with the finding")
    handles, labels = figure.axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
    title = f"Reliability over all findings and seeds, {chosen} protocol; area: cases of the bin"
    warn(figure, title, any(h.data == PHANTOM for h in headers))
    return figure


def _reliability_line(axis: Axes, headers: Sequence[Header], variant: str, colour: str) -> None:
    """Draw the reliability of a variant's first head over all seeds."""
    present: list[Floats] = []
    chance: list[Floats] = []
    for header in headers:
        columns = read_case_columns(header)
        findings = [name.removeprefix(TRUTH) for name in columns if name.startswith(TRUTH)]
        first = next(name for name in columns if name.startswith(SCORE))
        head = first.removeprefix(SCORE).removesuffix(f"_{findings[0]}")
        for finding in findings:
            present.append(columns[f"{TRUTH}{finding}"].astype(float))
            chance.append(chance_of(columns[f"{SCORE}{head}_{finding}"]))
    found = reliability(np.concatenate(present), np.concatenate(chance))
    filled = found.cases > 0
    stated, happened = found.stated[filled], found.happened[filled]
    axis.plot(stated, happened, color=colour, linewidth=1.1, label=f"{variant}, {head}")
    size = 60 * found.cases[filled] / found.cases.sum()
    axis.scatter(stated, happened, s=4 + size, color=colour, linewidths=0)


def maps(prior: Path, files: Sequence[Path]) -> Figure:
    """Return the task prior and each variant's mean causality map as heat maps, causes down."""
    from matplotlib.figure import Figure

    names, wanted = read_map(prior)
    panels = {"task prior": wanted, **_mean_maps(files)}
    n_across = min(3, len(panels))
    n_down = math.ceil(len(panels) / n_across)
    figure = Figure(figsize=(3.0 * n_across + 0.6, 2.8 * n_down + 0.5), layout="constrained")
    axes = figure.subplots(n_down, n_across, squeeze=False)
    lowest = len(panels) - n_across  # from this panel on nothing stands below
    for number, (axis, (title, values)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        picture = axis.imshow(values, cmap="viridis", vmin=0)
        figure.colorbar(picture, ax=axis, shrink=0.8)
        axis.set_title(title, fontsize=8, loc="left", fontweight="bold")
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axis.set_yticks(range(len(names)), names, fontsize=6)
        axis.set_xlabel("effect" if number >= lowest else "")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel("cause")
    return figure


def _mean_maps(files: Sequence[Path]) -> dict[str, Floats]:
    """Return the mean over the seeds of each protocol and variant."""
    found: dict[str, list[Floats]] = {}
    for file in files:
        match = RUN_OF.search(file.as_posix())
        if match is None:
            step = "give the maps of the rule crocodile_test"
            raise refuse(str(file), "a path with {protocol}/{variant}/seed{seed}", "none", step)
        name = f"{match['variant']}, {match['protocol']}"
        found.setdefault(name, []).append(read_map(file)[1])
    return {name: np.mean(parts, axis=0) for name, parts in found.items()}


def read_map(path: Path) -> tuple[list[str], Floats]:
    """Return the findings and the matrix of a map's CSV, rows causes; an empty field is NaN."""
    if not path.is_file():
        raise refuse(str(path), "a map as CSV", "nothing", "check the path, or run its rule first")
    with path.open(encoding="utf-8", newline="") as handle:
        lines = list(csv.reader(handle))
    names = lines[0][1:]
    if [line[0] for line in lines[1:]] != names:
        raise refuse(str(path), "the same findings down and across", str(lines[0]), "repair it")
    return names, np.array([[float(x) if x else math.nan for x in line[1:]] for line in lines[1:]])


def _first_heads(values: Sequence[Value]) -> list[str]:
    """Return the first row of each variant: its primary head."""
    rows = dict.fromkeys(value.row for value in values)
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row.split(",")[0], row)
    return list(first.values())


def _preferred(protocols: Sequence[str]) -> str:
    """Return the protocol to show: what a user should believe, where it was run."""
    return PREFERRED if PREFERRED in protocols else protocols[0]


def warn(figure: Figure, title: str, is_phantom: bool) -> None:
    """Add the title and, for phantoms, the warning."""
    warning = "\nPHANTOM: synthetic patients; says nothing about real data" if is_phantom else ""
    figure.suptitle(f"{title}{warning}", x=0.01, ha="left", fontsize=9, fontweight="bold")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one figure."""
    parser = argparse.ArgumentParser(description="Draw a figure of a multi-label table.")
    parser.add_argument(
        "--kind", choices=("bars", "reliability", "maps"), required=True, help="of figure"
    )
    parser.add_argument("--files", type=Path, nargs="+", required=True, help="what it is made from")
    parser.add_argument("--prior", type=Path, help="task prior as CSV, for maps")
    parser.add_argument("--phantom", action="store_true", help="maps: of synthetic patients")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .png or .svg")
    given = parser.parse_args(arguments)
    if given.out.suffix not in SUFFIXES:
        found = given.out.suffix or "no suffix"
        raise refuse("--out", " or ".join(SUFFIXES), found, "rename the picture")
    if given.kind == "maps" and given.prior is None:
        raise refuse("--prior", "the task prior for maps", "none", "name its CSV")
    from matplotlib import rc_context

    with rc_context(RC):
        if given.kind == "bars":
            figure = bars(read_values(given.files[0]))
        elif given.kind == "reliability":
            figure = calibration(read_headers(given.files))
        else:
            figure = maps(given.prior, given.files)
            warn(figure, "Causality maps, mean over ID test images and seeds", given.phantom)
        save(figure, given.out)


if __name__ == "__main__":
    sys.exit(run(main))
