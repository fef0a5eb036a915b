"""What each metric of the tables is: its unit, range and better direction.

A new metric is one line here; docs/reference/tables.md says what the metric means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from workflow_scripts.problems import nearest, refuse

HIGHER, LOWER, NEITHER = "higher", "lower", "neither"
CHANCE = "chance"  # the chance level of a cell's first metric


@dataclass(frozen=True, slots=True)
class Metric:
    """How one metric is stored and printed.

    Attributes:
        title: heading of its column.
        better: `higher`, `lower` or `neither`: which values a table prints in bold.
        unit: what it is printed in; tables say it beside the title.
        scale: factor from the stored value to the printed one.
        decimals: printed.
        low, high: the range of stored values, ends included.
    """

    title: str
    better: str = HIGHER
    unit: str = "%"
    scale: float = 100.0
    decimals: int = 2
    low: float = 0.0
    high: float = 1.0

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def printed(self, value: float) -> float:
        """Return a stored value in the printed unit, rounded as it is printed."""
        return round(self.scale * value, self.decimals)


def plain(
    title: str, better: str, unit: str = "", low: float = 0.0, high: float = math.inf,
    decimals: int = 3,
) -> Metric:  # fmt: skip
    """Return a metric that is printed as it is stored."""
    return Metric(title, better, unit, 1.0, decimals, low, high)


METRICS: dict[str, Metric] = {
    CHANCE: Metric("chance level", NEITHER),
    "accuracy": Metric("accuracy"),
    "mean_per_class_accuracy": Metric("mean per-class accuracy"),
    "auc": Metric("AUC"),
    "p_value": plain("p", NEITHER, high=1.0, decimals=4),
}
# Tables that show several metrics of a cell, in this order; the others show each cell's first.
SHOWN_METRICS: dict[str, tuple[str, ...]] = {}
# What the rows of a table are, where they are not checkpoints.
ROW_TITLES: dict[str, str] = {}


def metric_named(name: str) -> Metric:
    """Return a metric.

    Raises:
        InputError: there is none of this name.
    """
    if name not in METRICS:
        step = f"{nearest(name, METRICS)}; a new one is a line in report/metric_catalogue.py"
        raise refuse("metric", "a metric of the catalogue", repr(name), step)
    return METRICS[name]


def row_title(table: str) -> str:
    """Return what the rows of a table are.

    >>> row_title("ssl_transfer_linear")
    'checkpoint'
    """
    return ROW_TITLES.get(table, "checkpoint")
