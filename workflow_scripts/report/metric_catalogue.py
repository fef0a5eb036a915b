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
    "dice": Metric("Dice"),
    **{f"dice_{one}": Metric(f"Dice {one.upper()}") for one in ("lv", "myo", "rv")},
    "hd95_mm": plain("HD95", LOWER, "mm", decimals=2),
    **{
        f"hd95_{one}_mm": plain(f"HD95 {one.upper()}", LOWER, "mm", decimals=2)
        for one in ("lv", "myo", "rv")
    },
    "both_empty": plain("structures empty in both", NEITHER, decimals=1),
    "one_empty": plain("structures empty in one", NEITHER, decimals=1),
    "dice_p_value": plain("p (Dice, Holm)", NEITHER, high=1.0, decimals=4),
    "dice_effect": plain("rank-biserial effect (Dice)", NEITHER, low=-1.0, high=1.0),
    "dice_median_difference": Metric("median difference of Dice", NEITHER, low=-1.0),
    "p_value": plain("p", NEITHER, high=1.0, decimals=4),
    "whitened_cosine": plain("whitened cosine", HIGHER, low=-1.0, high=1.0),
    "cosine": plain("cosine", HIGHER, low=-1.0, high=1.0),
    "mahalanobis": plain("Mahalanobis distance", LOWER),
    "images_per_dimension": plain("images per feature dimension", NEITHER, decimals=2),
    "lpips": plain("LPIPS, mean of three networks", LOWER, decimals=4),
    "lpips_alexnet": plain("LPIPS, AlexNet", LOWER, decimals=4),
    "lpips_vgg": plain("LPIPS, VGG", LOWER, decimals=4),
    "lpips_squeezenet": plain("LPIPS, SqueezeNet", LOWER, decimals=4),
    "cka": plain("CKA", NEITHER, low=-math.inf, high=math.inf),
    "cka_biased": plain("CKA, biased", NEITHER, high=1.0),
    "pearson_r": plain("r", NEITHER, low=-1.0, high=1.0),
    "slope": plain("slope", NEITHER, low=-math.inf),
    "reduced_chi2": plain("reduced chi2", LOWER, decimals=2),
    "scaled_average": plain("scaled average", HIGHER, high=1.0),
}
# Tables that show several metrics of a cell, in this order; the others show each cell's first.
SHOWN_METRICS: dict[str, tuple[str, ...]] = {
    "ssl_transfer_invariance": ("whitened_cosine", "images_per_dimension"),
    "ssl_transfer_correlations": ("pearson_r", "p_value"),
    "cooperative_training_dice": ("dice", "hd95_mm"),
}
# What the rows of a table are, where they are not checkpoints.
ROW_TITLES: dict[str, str] = {
    "ssl_transfer_correlations": "against",
    "cooperative_training_dice": "method, training patients, networks",
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
