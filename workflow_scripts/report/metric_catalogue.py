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


def finding_name(finding: str) -> str:
    """Return a finding as the end of a metric's name.

    >>> finding_name("Lung Opacity")
    'lung_opacity'
    """
    return finding.lower().replace(" ", "_")


def _with_drop(metrics: dict[str, Metric]) -> dict[str, Metric]:
    """Return metrics of ranking, and what each loses from ID to OOD (ID minus OOD)."""
    drops = {
        f"{name}_drop": Metric(one.title, LOWER, low=-1.0)  # its column is `drop`
        for name, one in metrics.items()
    }
    return metrics | drops


CHEST_FINDINGS = (  # the nine of CROCODILE
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Lung Opacity",
    "No Finding", "Pneumonia", "Pneumothorax",
)  # fmt: skip
MULTI_LABEL = _with_drop(
    {
        "mean_auc": Metric("mean AUC without No Finding"),
        "map": Metric("mAP"),
        "mean_auc_female": Metric("mean AUC, women"),
        "mean_auc_male": Metric("mean AUC, men"),
        "mean_auc_below_40": Metric("mean AUC, below 40 years"),
        "mean_auc_40_to_60": Metric("mean AUC, 40 to 60 years"),
        "mean_auc_from_60": Metric("mean AUC, from 60 years"),
        **{f"auc_{finding_name(name)}": Metric(f"AUC {name}") for name in CHEST_FINDINGS},
        **{f"ap_{finding_name(name)}": Metric(f"AP {name}") for name in CHEST_FINDINGS},
    }
)
METRICS: dict[str, Metric] = {
    **MULTI_LABEL,
    "ece": Metric("mean ECE", LOWER),
    "brier": Metric("mean Brier score", LOWER, "", 1.0, 4),
    CHANCE: Metric("chance level", NEITHER),
    "accuracy": Metric("accuracy"),
    "mean_per_class_accuracy": Metric("mean per-class accuracy"),
    "auc": Metric("AUC"),
    "attentive_diffusion": Metric("attentive diffusion", NEITHER),
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
    "crocodile_id_ood": ("mean_auc", "map", "ece", "brier", "mean_auc_drop", "map_drop"),
    "ssl_transfer_invariance": ("whitened_cosine", "images_per_dimension"),
    "ssl_transfer_correlations": ("pearson_r", "p_value"),
}
# What the rows of a table are, where they are not checkpoints.
ROW_TITLES: dict[str, str] = {
    "crocodile_id_ood": "variant, head",
    "ssl_transfer_correlations": "against",
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
