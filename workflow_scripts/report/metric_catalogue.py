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


def _segmentation_with_uncertainty() -> dict[str, Metric]:
    """Return the metrics of the kind `uncertainty`, for all structures together and for each."""
    found: dict[str, Metric] = {}
    for suffix in ("", "_lv", "_myo", "_rv", "_mass"):
        structure = suffix.replace("_", " ").upper()
        for name, title, better, unit, high in (
            ("dsc", "Dice", HIGHER, "", 1.0),
            ("mhd_mm", "modified Hausdorff", LOWER, "mm", math.inf),
            ("mhd_px", "modified Hausdorff", LOWER, "px", math.inf),
            ("nll", "NLL", LOWER, "nat", math.inf),
        ):
            found[f"{name}{suffix}"] = plain(title + structure, better, unit, high=high)
            spread = f"{title}{structure}, std over cases"
            found[f"{name}{suffix}_std"] = plain(spread, NEITHER, unit)
            test = f"p of {title}{structure}, Wilcoxon, Holm"
            found[f"p_{name}{suffix}"] = plain(test, NEITHER, high=1.0, decimals=4)
        infinite = f"infinite distances{structure}"
        found[f"mhd_infinite{suffix}"] = plain(infinite, LOWER, "cases", decimals=0)
        found[f"qc_auc{suffix}"] = plain(f"quality control{structure}, AUC", LOWER, high=1.0)
    found["nll_infinite"] = plain("infinite NLL", LOWER, "cases", decimals=0)
    for quality, better_of in (("dsc", (LOWER, HIGHER)), ("mhd", (HIGHER, LOWER))):
        for sign in ("entropy", "mutual_information", "variance", "aula"):
            words = f"Spearman of {quality.upper()} and {sign.replace('_', ' ')}"
            better = better_of[sign == "aula"]
            found[f"spearman_{quality}_{sign}"] = plain(words, better, low=-1.0, high=1.0)
    return found


METRICS |= _segmentation_with_uncertainty()
# Tables that show several metrics of a cell, in this order; the others show each cell's first.
SHOWN_METRICS: dict[str, tuple[str, ...]] = {
    "layer_ensembles_segmentation": ("dsc", "dsc_std", "mhd_mm", "mhd_px", "nll", "p_dsc", "p_nll"),
    "layer_ensembles_correlation": (
        *(f"spearman_dsc_{one}" for one in ("entropy", "mutual_information", "variance", "aula")),
        *(f"spearman_mhd_{one}" for one in ("entropy", "mutual_information", "variance", "aula")),
        "qc_auc",
    ),
    "layer_ensembles_skips": ("nll", "nll_std", "dsc", "dsc_std"),
}
# What the rows of a table are, where they are not checkpoints.
ROW_TITLES: dict[str, str] = {
    "layer_ensembles_segmentation": "method",
    "layer_ensembles_correlation": "method",
    "layer_ensembles_skips": "heads left out",
}


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
