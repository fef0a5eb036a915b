"""Figures of segmentations: chosen cases, hard examples, Dice by severity of artefacts.

    python -m workflow_scripts.report.segmentation_figures --kind cases --inputs pictures.npz \\
        --title "ACDC, cooperative" --out cases.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.predictions import PHANTOM
from workflow_scripts.randomness import named_rng
from workflow_scripts.report.figures import RC, save
from workflow_scripts.report.findings_figures import warn
from workflow_scripts.report.kinds.segmentation import mean_interval_over_patients
from workflow_scripts.report.predictions import read_case_columns, read_headers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#E69F00", "#56B4E9", "#009E73")  # LV, MYO, RV (Okabe and Ito)
STRUCTURES = ("LV", "MYO", "RV")
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
PANEL = 1.7  # inches
NONE = "none"
N_RESAMPLES = 500  # of the bands; the table's intervals have more
Arrays = dict[str, NDArray[Any]]


class Measured(NamedTuple):
    """What a row of panels shows: column of the scores, label, factor to the shown unit."""

    column: str
    label: str
    scale: float


DICE = Measured("score_dice", "mean 3D Dice (%)", 100.0)
LADDERS: dict[str, tuple[Measured, ...]] = {
    "severity": (DICE,),
    "agreement": (
        DICE,
        Measured("score_aula", "layer agreement (AULA)", 1.0),
        Measured("score_entropy", "mean entropy (nat)", 1.0),
    ),
}


def cases_figure(arrays: Arrays, title: str) -> Figure:
    """Return the best, the median and the worst case: image, reference, each segmentation."""
    from matplotlib.figure import Figure

    passes = [int(number) for number in arrays["passes"]]
    ranks = [rank for rank in ("best", "median", "worst") if f"{rank}_image" in arrays]
    n_columns = 2 + len(passes)
    size = (PANEL * n_columns, PANEL * max(1, len(ranks)) + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(max(1, len(ranks)), n_columns, squeeze=False)
    for row, rank in enumerate(ranks):
        image = arrays[f"{rank}_image"]
        _picture(axes[row, 0], image, None, f"{rank}\n{arrays[f'{rank}_name']}")
        _picture(axes[row, 1], image, arrays[f"{rank}_truth"], "reference")
        for column, number in enumerate(passes):
            dice = float(arrays[f"{rank}_dice"][column])
            name = "FTN" if number == 0 else f"FTN + {number} x STN"
            labels = arrays[f"{rank}_pass{number}"]
            _picture(axes[row, 2 + column], image, labels, f"{name}\nDice {100 * dice:.1f} %")
    _structure_legend(figure)
    warn(figure, title, str(arrays["data"]) == PHANTOM)
    return figure


def hard_examples_figure(arrays: Arrays, title: str) -> Figure:
    """Return what masking makes of one slice: images, segmentations and their entropy."""
    from matplotlib.figure import Figure

    kinds, thresholds = list(arrays["kinds"]), list(arrays["thresholds"])
    n_columns = 1 + len(kinds) * len(thresholds)
    figure = Figure(figsize=(0.95 * n_columns, 4.0), layout="constrained")
    axes = figure.subplots(3, n_columns, squeeze=False)
    image, truth = arrays["image"], arrays["truth"]
    _picture(axes[0, 0], image, None, "slice")
    _picture(axes[1, 0], image, truth, "reference")
    _picture(axes[2, 0], arrays["reconstruction"], None, "unmasked D$_i$(z)")
    places = [(k, t) for k in range(len(kinds)) for t in range(len(thresholds))]
    for column, (k, t) in enumerate(places, 1):
        name = f"{kinds[k]}\n{thresholds[t]:g}"
        _picture(axes[0, column], arrays["corrupted_image"][k, t], None, name)
        _picture(axes[1, column], image, arrays["corrupted_labels"][k, t], "")
        shown = axes[2, column].imshow(arrays["entropy"][k, t], cmap="magma", vmin=0, vmax=2)
        axes[2, column].axis("off")
    figure.colorbar(shown, ax=axes[2, :].tolist(), label="entropy (bits)", shrink=0.9, aspect=8)
    _structure_legend(figure)
    warn(figure, title, str(arrays["data"]) == PHANTOM)
    return figure


def _picture(axis: Axes, image: NDArray[Any], labels: NDArray[Any] | None, title: str) -> None:
    """Draw a slice with its structures on it, if any."""
    from matplotlib.colors import to_rgba

    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    if labels is not None:
        overlay = np.zeros((*labels.shape, 4))
        for number, colour in enumerate(COLOURS, 1):
            overlay[labels == number] = to_rgba(colour, 0.55)
        axis.imshow(overlay)
    axis.set_title(title, fontsize=6)
    axis.axis("off")


def _structure_legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=c, label=s) for c, s in zip(COLOURS, STRUCTURES, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7, frameon=False)


def severity_figure(
    paths: Sequence[Path], title: str, measures: Sequence[Measured] = (DICE,)
) -> Figure:
    """Return means by strength of each artefact, a line a row of the table.

    The band is the patient bootstrap's 95 % interval of the mean over the seeds.

    Args:
        paths: scores, one row a case at a strength.
        title: of the figure.
        measures: what is drawn, a row of panels each.
    """
    from matplotlib.figure import Figure

    rows: dict[str, list[Arrays]] = {}
    headers = read_headers(paths)
    for header in headers:
        rows.setdefault(header.row, []).append(read_case_columns(header))
    first = next(iter(rows.values()))[0]
    corruptions = [one for one in dict.fromkeys(first["corruption"]) if one != NONE]
    size = (2.0 * len(corruptions) + 0.6, 1.2 + 1.9 * len(measures))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(measures), len(corruptions), sharey="row", squeeze=False)
    for measure, panels in zip(measures, axes, strict=True):
        panels[0].set_ylabel(measure.label)
        for axis, corruption in zip(panels, corruptions, strict=True):
            for number, (row, seeds) in enumerate(rows.items()):
                style = (LINES[number % len(LINES)], MARKERS[number % len(MARKERS)])
                _line(axis, seeds, (measure, corruption), row, style)
    for axis, corruption in zip(axes[0], corruptions, strict=True):
        axis.set_title(corruption, fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("share of the drawn strength", fontsize=7)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=7, frameon=False)
    warn(figure, title, any(header.data == PHANTOM for header in headers))
    return figure


def _line(
    axis: Axes, seeds: Sequence[Arrays], what: tuple[Measured, str], row: str,
    style: tuple[str, str],
) -> None:  # fmt: skip
    """Draw one method's line and band in one panel, of a measure and an artefact."""
    (column, _, scale), corruption = what
    points = []
    for severity in sorted(set(seeds[0]["severity"])):
        kind = NONE if severity == 0 else corruption
        chosen = [(one["severity"] == severity) & (one["corruption"] == kind) for one in seeds]
        pairs = list(zip(seeds, chosen, strict=True))
        scores = [one[column][rows] for one, rows in pairs]
        patients = seeds[0]["patient_id"][chosen[0]]
        rng = named_rng(0, "severity band", corruption, str(severity))
        interval = mean_interval_over_patients(scores, patients, rng, N_RESAMPLES)
        mean = np.mean([np.nanmean(one) for one in scores])
        points.append((severity, scale * mean, scale * interval.low, scale * interval.high))
    x, y, low, high = map(np.array, zip(*points, strict=True))
    axis.plot(x, y, color=style[0], marker=style[1], markersize=3.5, linewidth=1.2, label=row)
    axis.fill_between(x, low, high, color=style[0], alpha=0.15, linewidth=0)
    axis.grid(axis="y", color="#E6E6E6", linewidth=0.5)


def draw(kind: str, paths: Sequence[Path], title: str) -> Figure:
    """Return a figure; everything drawn from phantoms says so."""
    import matplotlib as mpl

    with mpl.rc_context(RC):
        if kind in LADDERS:
            return severity_figure(paths, title, LADDERS[kind])
        with np.load(paths[0], allow_pickle=False) as stored:
            arrays = dict(stored)
        maker: Callable[[Arrays, str], Figure]
        maker = cases_figure if kind == "cases" else hard_examples_figure
        return maker(arrays, title)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--kind", choices=("cases", "hard_examples", *LADDERS), required=True, help="of figure"
    )
    parser.add_argument("--inputs", type=Path, nargs="+", required=True, help="arrays or scores")
    parser.add_argument("--title", required=True, help="of the figure")
    parser.add_argument("--out", type=Path, required=True, help="the picture (.png)")
    given = parser.parse_args(arguments)
    save(draw(given.kind, given.inputs, given.title), given.out)


if __name__ == "__main__":
    sys.exit(run(main))
