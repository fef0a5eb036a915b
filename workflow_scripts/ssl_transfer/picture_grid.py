"""A grid of pictures with names: what saliency and reconstruction figures are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.files import write_atomic
from workflow_scripts.predictions import PHANTOM

CELL_INCHES = 1.45
DPI = 150
Picture = tuple[NDArray[Any], str | None]  # pixels, and the color map of a gray one


def draw_grid(
    rows: Sequence[Sequence[Sequence[Picture]]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: Sequence[str],
    data: str,
    path: Path,
) -> None:
    """Write a figure of pictures.

    Args:
        rows: of cells; a cell is a list of pictures laid over each other, the later half seen
            through (alpha 0.6, as released).
        row_names: left of each row.
        column_names: above each column.
        title: lines above the figure.
        data: what it was made from; phantoms are named in the title.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    width = CELL_INCHES * max(2, len(column_names)) + 0.6
    warning = ["PHANTOM, no real patients"] if data == PHANTOM else []
    lines = [part for line in (*warning, *title) for part in wrap(line, int(14 * width))]
    size = (width, (CELL_INCHES + 0.12) * len(rows) + 0.45 + 0.15 * len(lines))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), len(column_names), squeeze=False)
    for row, (cells, name) in enumerate(zip(rows, row_names, strict=True)):
        for column, cell in enumerate(cells):
            place = axes[row, column]
            for layer, (pixels, colors) in enumerate(cell):
                place.imshow(pixels, cmap=colors, alpha=0.6 if layer else 1.0)
            place.set_xticks([])
            place.set_yticks([])
            if row == 0:
                place.set_title(column_names[column], fontsize=7)
            if column == 0:
                place.set_ylabel(name, fontsize=7)
    figure.suptitle("\n".join(lines), fontsize=8)
    save = partial(figure.savefig, metadata={"Software": None})
    write_atomic(path, save)


def stretched(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return values from 0 (their smallest) to 1 (their largest); zeros where all are equal."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not high > low:
        return np.zeros(values.shape)
    scaled: NDArray[np.float64] = (values.astype(np.float64) - low) / (high - low)
    return scaled
