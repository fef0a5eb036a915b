"""What each metric of the tables is: its unit, range and better direction.

A new metric is one line here; docs/reference/tables.md says what the metric means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from workflow_scripts.problems import nearest, refuse

INF = math.inf
HIGHER, LOWER, NEITHER = "higher", "lower", "neither"
CHANCE = "chance"  # the chance level of a cell's first metric
CONSTANT = "constant_prediction"  # a cell that predicts one class has no gap, and wins nothing


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


def _with_null(gaps: dict[str, Metric]) -> dict[str, Metric]:
    """Return gaps between groups, and what each is when the groups are dealt anew."""
    found = dict(gaps)
    for name, gap in gaps.items():
        chance = f"{gap.title} by chance"
        found[f"{name}_null"] = replace(gap, title=chance, better=NEITHER)
        found[f"{name}_null_high"] = replace(gap, title=f"{chance}, 95 % quantile", better=NEITHER)
        found[f"{name}_p"] = plain(f"p of {gap.title}", NEITHER, high=1.0, decimals=4)
    return found


FAIRNESS_GAPS = _with_null(
    {
        "eo_n": Metric("EO_n gap", LOWER),
        "eo_p": Metric("EO_p gap", LOWER),
        "coded_di": plain("coded DI: |1 - TPR ratio|", LOWER),
        "disparate_impact": plain("|1 - disparate impact|", LOWER),
        "demographic_parity": Metric("demographic parity gap", LOWER),
        "equalized_odds": Metric("equalized odds gap, max", LOWER),
        "equalized_odds_mean": Metric("equalized odds gap, mean", LOWER),
        "accuracy_gap": Metric("accuracy gap", LOWER),
        "auc_gap": Metric("AUC gap", LOWER),
        "mean_auc_gap": Metric("mean AUC gap", LOWER),
        "dice_gap": Metric("Dice gap", LOWER),
    }
)
METRICS: dict[str, Metric] = {
    **MULTI_LABEL,
    "ece": Metric("mean ECE", LOWER),
    "ece_null": Metric("mean ECE of a calibrated forecast", NEITHER),
    "ece_p": plain("p of mean ECE", NEITHER, high=1.0, decimals=4),
    "brier": Metric("mean Brier score", LOWER, "", 1.0, 4),
    "error_auc": Metric("AUC of telling errors by entropy"),
    **{
        f"{name}_drop": Metric(f"{title} drop", LOWER, low=-1.0)
        for name, title in (("accuracy", "accuracy"), ("auc", "AUC"), ("dice", "Dice"))
    },
    CHANCE: Metric("chance level", NEITHER),
    "accuracy": Metric("accuracy"),
    "mean_per_class_accuracy": Metric("mean per-class accuracy"),
    "auc": Metric("AUC"),
    "attentive_diffusion": Metric("attentive diffusion", NEITHER),
    "worst_subgroup": Metric("worst subgroup"),
    **FAIRNESS_GAPS,
    "accuracy_negatives_in": Metric("negatives of the group"),
    "accuracy_positives_in": Metric("positives of the group"),
    "accuracy_negatives_out": Metric("negatives of the others"),
    "accuracy_positives_out": Metric("positives of the others"),
    "positive_rate_in": Metric("positive rate of the group", NEITHER),
    "positive_rate_out": Metric("positive rate of the others", NEITHER),
    "auc_in": Metric("AUC of the group"),
    "auc_out": Metric("AUC of the others"),
    "auc_worst": Metric("AUC of the worse group"),
    "train_loss": plain("training loss", NEITHER, decimals=4),
    "test_loss": plain("test loss", LOWER, decimals=4),
    **{
        f"test_loss_{label}_{group}": plain(f"test loss, {label} of the {words}", LOWER, decimals=4)
        for label in ("negatives", "positives")
        for group, words in (("in", "group"), ("out", "others"))
    },
    "leak_frozen": Metric("attribute found, frozen head", NEITHER),
    "leak_frozen_auc": Metric("attribute AUC, frozen head", NEITHER),
    "leak_retrained": Metric("attribute found, re-trained head", NEITHER),
    "leak_retrained_auc": Metric("attribute AUC, re-trained head", NEITHER),
    CONSTANT: Metric("seeds that predict one class only", NEITHER, decimals=0),
    "dice": Metric("Dice"),
    **{f"dice_{one}": Metric(f"Dice {one.upper()}") for one in ("lv", "myo", "rv")},
    "hd95_mm": plain("HD95", LOWER, "mm", decimals=2),
    **{
        f"hd95_{one}_mm": plain(f"HD95 {one.upper()}", LOWER, "mm", decimals=2)
        for one in ("lv", "myo", "rv")
    },
    "both_empty": plain("structures empty in both", NEITHER, decimals=1),
    "one_empty": plain("structures empty in one", NEITHER, decimals=1),
    "aula": plain("AULA, share of its largest", HIGHER, high=1.0),
    "entropy": plain("mean entropy", LOWER, "nat"),
    "dice_p_value": plain("p (Dice, Holm)", NEITHER, high=1.0, decimals=4),
    "dice_effect": plain("rank-biserial effect (Dice)", NEITHER, low=-1.0, high=1.0),
    "dice_median_difference": Metric("median difference of Dice", NEITHER, low=-1.0),
    "dice_seeds_above": plain("seeds above standard training (Dice)", NEITHER, decimals=0),
    "dice_gain": Metric("gain of Dice over standard training", low=-1.0),
    "dice_gain_relative": Metric(
        "relative gain of Dice over standard training", low=-1.0, high=INF
    ),
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
        control = f"quality control{structure}"
        for name, title in (
            ("auc", "AUC"),
            ("start", "bad cases"),
            ("flagged_5", "flagged until 5 % are bad"),
            ("flagged_0", "flagged until none is bad"),
        ):
            found[f"qc_{name}{suffix}"] = plain(f"{control}, {title}", LOWER, high=1.0)
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
    "crocodile_id_ood": ("mean_auc", "map", "ece", "brier", "mean_auc_drop", "map_drop"),
    "ssl_transfer_invariance": ("whitened_cosine", "images_per_dimension"),
    "ssl_transfer_correlations": ("pearson_r", "p_value"),
    "cooperative_training_dice": ("dice", "hd95_mm"),
    "cooperative_training_agreement": (
        *("dice", "aula", "spearman_dsc_aula", "spearman_dsc_entropy"),
    ),
    "layer_ensembles_segmentation": ("dsc", "dsc_std", "mhd_mm", "mhd_px", "nll"),
    "layer_ensembles_correlation": (
        *(f"spearman_dsc_{one}" for one in ("entropy", "mutual_information", "variance", "aula")),
        *(f"spearman_mhd_{one}" for one in ("entropy", "mutual_information", "variance", "aula")),
        *("qc_auc", "qc_start", "qc_flagged_5"),
    ),
    "layer_ensembles_skips": ("nll", "nll_std", "dsc", "dsc_std"),
    "trust_matrix": (
        *("mean_auc", "auc", "accuracy", "dice", "aula"),
        *("mean_auc_drop", "auc_drop", "accuracy_drop", "dice_drop", "ece", "ece_null", "nll"),
        *("mean_auc_gap", "mean_auc_gap_null", "auc_gap", "auc_gap_null", "accuracy_gap"),
        *("accuracy_gap_null", "dice_gap", "dice_gap_null", "eo_p", "eo_p_null"),
        *("error_auc", "spearman_dsc_entropy", "spearman_dsc_aula"),
    ),
    "debiased_noise_fairness": (
        *("accuracy", "worst_subgroup", "eo_n", "eo_n_null", "eo_p", "eo_p_null"),
        *("coded_di", "constant_prediction", "leak_frozen", "leak_retrained"),
    ),
    "debiased_noise_course": ("train_loss", "test_loss", "accuracy", "eo_n", "eo_p"),
    "debiased_noise_backbones": (
        *("accuracy", "worst_subgroup", "equalized_odds", "equalized_odds_null"),
        *("constant_prediction", "leak_frozen", "leak_retrained"),
    ),
}
# Further parts of a table's Markdown page, under their headings.
MORE_METRICS: dict[str, dict[str, tuple[str, ...]]] = {
    "crocodile_id_ood": {
        "AUC of each finding": tuple(f"auc_{finding_name(one)}" for one in CHEST_FINDINGS),
        "AP of each finding": tuple(f"ap_{finding_name(one)}" for one in CHEST_FINDINGS),
        "subgroups": (
            *("mean_auc_female", "mean_auc_male"),
            *("mean_auc_below_40", "mean_auc_40_to_60", "mean_auc_from_60"),
        ),
    },
    "cooperative_training_dice": {
        "against standard training": (
            *("dice_median_difference", "dice_effect", "dice_p_value", "dice_seeds_above"),
            *("dice_gain", "dice_gain_relative"),
        ),
        "structures": (
            *("dice_lv", "dice_myo", "dice_rv", "hd95_lv_mm", "hd95_myo_mm", "hd95_rv_mm"),
            *("both_empty", "one_empty"),
        ),
    },
}
# Tables whose rows were judged on different data: no row is the best of a column.
UNRANKED = ("trust_matrix",)
# Tables whose dot plot shows fewer metrics than the table; figures of their own show the rest.
DRAWN_METRICS: dict[str, tuple[str, ...]] = {
    "debiased_noise_fairness": ("accuracy", "worst_subgroup"),
    "debiased_noise_backbones": ("accuracy", "worst_subgroup", "leak_retrained"),
}
# What the rows of a table are, where they are not checkpoints.
ROW_TITLES: dict[str, str] = {
    "crocodile_id_ood": "variant, head",
    "trust_matrix": "system: model",
    "ssl_transfer_correlations": "transfer",
    "cooperative_training_dice": "method, training patients, networks",
    "cooperative_training_agreement": "method, training patients, networks",
    "layer_ensembles_segmentation": "method",
    "layer_ensembles_correlation": "method",
    "layer_ensembles_skips": "heads left out",
    "debiased_noise_fairness": "method, read-out",
    "debiased_noise_course": "method, read-out, epoch",
    "debiased_noise_backbones": "method, backbone",
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


def p_value_of(metric: str) -> str:
    """Return the name of a metric's p-value against a baseline; there need not be one.

    >>> p_value_of("nll"), p_value_of("dice")
    ('p_nll', 'dice_p_value')
    """
    behind = f"{metric}_p_value"
    return behind if behind in METRICS else f"p_{metric}"


def row_title(table: str) -> str:
    """Return what the rows of a table are.

    >>> row_title("ssl_transfer_linear")
    'checkpoint'
    """
    return ROW_TITLES.get(table, "checkpoint")
