"""Linear CKA of two checkpoints from each image's share of its sums."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workflow_scripts.metrics.representation import Alignment, cka
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import Header, read_case_columns

METRICS = {"cka": "unbiased_", "cka_biased": ""}  # and what begins the names of their sums


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return the unbiased and the plain estimate of each cell; no interval."""
    return map_cells(cell_values, cells, jobs)


def cell_values(cell: Cell) -> tuple[Value, ...]:
    """Return both estimates of one cell."""
    files = [sums_of(header) for header in cell]
    n_images = len(files[0]["cka"].xy)
    nowhere = (math.nan, math.nan)
    return tuple(
        value_of(cell, name, [cka(sums[name]) for sums in files], nowhere, n_images, "none")
        for name in METRICS
    )


def sums_of(header: Header) -> dict[str, Alignment]:
    """Return the sums of both estimates in a predictions file."""
    columns = read_case_columns(header)
    return {
        name: Alignment(*(columns[f"score_{start}{part}"] for part in Alignment._fields))
        for name, start in METRICS.items()
    }
