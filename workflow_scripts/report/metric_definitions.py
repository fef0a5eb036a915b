"""Step: write the reference page of metric definitions, computed on one fixed example.

    python -m workflow_scripts.report.metric_definitions --out docs/reference/metric_definitions.md

Papers print `ECE`, `HD95` or `Dice` and mean different things. The page takes the same
predictions through the common definitions, so that no one compares unlike numbers.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.metrics.calibration import N_BINS
from workflow_scripts.metrics.calibration_variants import (
    Edges,
    classwise_ece,
    equal_mass_edges,
    equal_width_edges,
    maximum_error,
    root_mean_square_error,
    top_label_ece,
)
from workflow_scripts.metrics.segmentation import dice, hausdorff, hausdorff_95, modified_hausdorff
from workflow_scripts.metrics.segmentation_variants import (
    directed_95,
    larger_percentile_95,
    mean_percentile_95,
    pooled_voxel_percentile_95,
)
from workflow_scripts.metrics.uncertainty import softmax
from workflow_scripts.randomness import named_rng

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Error = Callable[[NDArray[np.int64], Floats, Edges, int], float]
Distance = Callable[[Mask, Mask, Sequence[float]], float]
SEED, N_CASES, N_CLASSES = 20, 2000, 5
SPACING_MM = (10.0, 1.5, 1.5)  # slices ten millimetres apart, as in cardiac MR
HEAD = """\
# Metric definitions: the same predictions, different numbers

Made by `make pages` (`workflow_scripts/report/metric_definitions.py`) from a synthetic example; do
not edit it by hand. A number means something only beside its definition: before you set ours
beside another paper's, find both in these tables. **Bold: what our tables hold.**
"""


BIN_NUMBERS = (10, N_BINS, 20, 100)
EDGES = {"equal width": equal_width_edges, "equal mass": equal_mass_edges}
ERRORS: dict[str, Error] = {
    "class-wise: each class against the rest, mean (Kull et al., 2019)": classwise_ece,
    "top label: confidence against accuracy (Guo et al., 2017)": top_label_ece,
    "top label, root of mean square (Hendrycks et al., 2019)": root_mean_square_error,
    "top label, largest bin (MCE)": maximum_error,
}
DISTANCES: dict[str, Distance] = {
    "HD95: surface voxels, both directions pooled, 95th percentile (MedPy)": hausdorff_95,
    "HD95: larger of the two directed 95th percentiles (MONAI)": larger_percentile_95,
    "HD95: mean of the two directed 95th percentiles": mean_percentile_95,
    "HD95: from the reference's surface to the prediction's alone": partial(directed_95, 0),
    "HD95: from the prediction's surface to the reference's alone": partial(directed_95, 1),
    "HD95: all foreground voxels, both directions pooled": pooled_voxel_percentile_95,
    "Hausdorff distance: the largest": hausdorff,
    "modified Hausdorff: larger mean over all foreground voxels (layer ensembles)": (
        modified_hausdorff
    ),
}
EMPTY = {
    "undefined: left out and counted (ours, `corrected`)": math.nan,
    "0 (MedPy 0.4.0; cooperative training and layer ensembles as released)": 0.0,
    "1 (MONAI with `ignore_empty=False`)": 1.0,
}


def example_scores() -> tuple[NDArray[np.int64], Floats]:
    """Return true classes, shape (N,), and stated chances (N, C) of an overconfident classifier.

    The truth is drawn from softmax(z); what is stated is softmax(2 z).
    """
    rng = named_rng(SEED, "metric definitions", "scores")
    logits = 1.5 * rng.normal(size=(N_CASES, N_CLASSES))
    logits[:, 0] += 1.0  # a class that is more frequent
    chance = softmax(logits.T[None])[0].T
    truth = (rng.random(N_CASES)[:, None] > chance.cumsum(axis=1)).sum(axis=1)
    return truth.clip(max=N_CLASSES - 1), softmax(2 * logits.T[None])[0].T


def example_masks() -> tuple[Mask, Mask]:
    """Return reference and prediction: a ball; a smaller one, moved, with a stray part.

    Shape (8, 64, 64) each.
    """
    z, y, x = np.indices((8, 64, 64))
    reference = (10 * (z - 3.5)) ** 2 + (1.5 * (y - 30)) ** 2 + (1.5 * (x - 30)) ** 2 < 28**2
    found = (10 * (z - 3.5)) ** 2 + (1.5 * (y - 33)) ** 2 + (1.5 * (x - 31)) ** 2 < 26**2
    found[5:7, 50:55, 48:54] = True
    return reference, found


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([HEAD, *calibration_section(), *distance_section(), *empty_section()])


def bold(text: str, is_ours: bool) -> str:
    """Return the text, bold where it is what our tables hold."""
    return f"**{text}**" if is_ours else text


def calibration_section() -> list[str]:
    """Return the section of the expected calibration error."""
    truth, chance = example_scores()
    lines = [
        "## Expected calibration error",
        "",
        f"{N_CASES:,} cases, {N_CLASSES} classes, a classifier whose logits are twice too large. "
        "In percent.",
        "",
        f"| of what | bins | {' | '.join(map(str, BIN_NUMBERS))} |",
        f"|---|---|{'---:|' * len(BIN_NUMBERS)}",
    ]
    for name, form in ERRORS.items():
        for kind, edges in EDGES.items():
            is_ours = (form, edges) == (classwise_ece, equal_width_edges)
            cells = [
                bold(f"{100 * form(truth, chance, edges, n):.2f}", is_ours and n == N_BINS)
                for n in BIN_NUMBERS
            ]
            lines.append(f"| {bold(name, is_ours)} | {kind} | {' | '.join(cells)} |")
    return [*lines, "", *two_class_lines(truth, chance)]


def two_class_lines(truth: NDArray[np.int64], chance: Floats) -> list[str]:
    """Return what differs for two classes: the first two of the example."""
    first = chance[:, :1] / (chance[:, :1] + chance[:, 1:2])
    two = truth < 2
    pair = np.hstack([first, 1 - first])[two]
    top, ours = (
        100 * form(truth[two], pair, equal_width_edges, N_BINS)
        for form in (top_label_ece, classwise_ece)
    )
    return [
        "Two classes (the first two of the example): the top label's ECE bins `max(p, 1 - p)`, "
        "which lies in [0.5, 1], so that half of the bins are empty; ours bins the chance of the "
        f"class itself. With {N_BINS} bins of equal width: top label {top:.2f}, "
        f"**ours {ours:.2f}**. Even a calibrated forecast has an ECE above 0: the trust matrix "
        "sets beside it what chance alone gives.",
        "",
    ]


def distance_section() -> list[str]:
    """Return the section of the 95 % Hausdorff distance."""
    reference, found = example_masks()
    lines = [
        "## HD95 and its relatives",
        "",
        f"A ball in 8 slices of 64 x 64 voxels of {SPACING_MM[0]:g} x {SPACING_MM[1]:g} x "
        f"{SPACING_MM[2]:g} mm; the prediction is smaller, moved, and has a stray part. Surface: "
        "foreground voxels with a face neighbour in the background. Dice "
        f"{100 * dice(reference, found):.2f} %.",
        "",
        "| definition | in mm | in voxels, spacing ignored |",
        "|---|---:|---:|",
    ]
    for name, distance in DISTANCES.items():
        is_ours = distance is hausdorff_95
        values = [distance(reference, found, spacing) for spacing in (SPACING_MM, (1.0,) * 3)]
        texts = [bold(f"{values[0]:.3f}", is_ours), f"{values[1]:.3f}"]
        lines.append(f"| {bold(name, is_ours)} | {' | '.join(texts)} |")
    planes = list(zip(reference, found, strict=True))
    flat = [
        [hausdorff_95(a, b, spacing) for a, b in planes] for spacing in (SPACING_MM[1:], (1.0, 1.0))
    ]
    both = [[one for one in values if math.isfinite(one)] for values in flat]
    name = f"HD95 slice by slice in 2D, mean over the {len(both[0])} slices with both"
    lines.append(f"| {name} | {np.mean(both[0]):.3f} | {np.mean(both[1]):.3f} |")
    return [*lines, ""]


def empty_section() -> list[str]:
    """Return the section of the Dice of empty masks."""
    reference, found = example_masks()
    none = np.zeros_like(reference)
    pairs = [(reference, found)] * 6 + [(reference, none)] + [(none, none)] * 3
    lines = [
        "## Dice where a mask is empty",
        "",
        f"{len(pairs)} cases: six with the structure in both masks, one that missed it, three "
        "where it is in neither. The mean over the cases, in percent.",
        "",
        "| empty in both counts as | cases | mean Dice |",
        "|---|---:|---:|",
    ]
    for name, value in EMPTY.items():
        scores = np.array([dice(*pair, both_empty=value) for pair in pairs])
        is_ours = math.isnan(value)
        mean = bold(f"{100 * np.nanmean(scores):.2f}", is_ours)
        lines.append(f"| {bold(name, is_ours)} | {int(np.isfinite(scores).sum())} | {mean} |")
    shared = sum(int((a & b).sum()) for a, b in pairs)
    total = sum(int(a.sum()) + int(b.sum()) for a, b in pairs)
    lines.append(f"| all voxels of all cases pooled | {len(pairs)} | {200 * shared / total:.2f} |")
    return [
        *lines,
        "",
        "Where one mask alone is empty, Dice is 0 and every distance infinite; our tables leave "
        "infinite distances out and count them (`one_empty`, `mhd_infinite`).",
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the page to write (.md)")
    write_text(parser.parse_args(arguments).out, page())


if __name__ == "__main__":
    sys.exit(run(main))
