"""One module a kind of predictions: how the values of a table are worked out from them.

A kind's module defines `table_values(cells, resampling, jobs)`; the predictions name their kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from workflow_scripts.report.cells import Cell, Resampling
from workflow_scripts.report.long_form import Value


class Kind(Protocol):
    """What a kind's module offers."""

    def table_values(
        self, cells: Sequence[Cell], resampling: Resampling, jobs: int
    ) -> tuple[Value, ...]:
        """Return the values of all cells of one kind of a table, in the cells' order."""
        ...


def kind_named(name: str) -> Kind:
    """Return the module of a kind; reading the predictions has proved that there is one."""
    return cast(Kind, import_module(f"workflow_scripts.report.kinds.{name}"))
