"""The protocols of fine-tuning, saliency and reconstruction, option by option.

As `protocols.py`, from which `docs/reference/protocols.md` is made too. Light: the rules import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflow_scripts.protocol_option import option
from workflow_scripts.ssl_transfer.protocols import Protocol

NORMALISATION_WHY = (
    "`imagenet`: no run was given `--no-norm`, so that checkpoints pretrained on other ranges "
    "(SimCLR: pixels in [0, 1]) got ImageNet's mean and standard deviation"
)


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """How all weights are trained, and which are tested."""

    geometry: str = option("validation and test: shorter side 224, centre crop", "released code")
    normalisation: Literal["own", "imagenet"] = option(NORMALISATION_WHY, "released run script")
    split_column: str = option(
        "the released split parts the images of a patient in some data sets", "released code"
    )
    validation_by_patient: bool = option(
        "released: a fifth of the training images, shuffled with seed 0; corrected: whole "
        "patients, as for the linear probe",
        "released code",
    )
    keep: Literal["best", "last"] = option(
        "the released copy of the best weights is an alias of the live ones, so that going back "
        "changes nothing and the last weights are tested",
        "released code (golden `early_stopping_alias`)",
    )
    hard_auc: bool = option(
        "where AUC is the metric that selects: the released one is computed on predicted classes, "
        "which makes it (sensitivity + specificity) / 2; corrected: on the scores. The table "
        "holds the AUC of the scores in both",
        "released code",
    )
    undefined_recall_is_nan: bool = option(
        "as for the linear probe: a class that is only predicted makes the mean per-class "
        "accuracy undefined",
        "released code",
    )
    undefined_is_best: bool = option(
        "a value counts as worse only where it is below the best, which an undefined one is not: "
        "in the released code it becomes the best and the patience starts anew. It never wins the "
        "search in either",
        "released code",
    )


@dataclass(frozen=True, slots=True)
class SaliencyOptions:
    """What the occluded network sees."""

    normalisation: Literal["own", "imagenet"] = option(NORMALISATION_WHY, "released run script")
    fill: Literal["zero", "mean"] = option(
        "the hidden square is 0 after normalisation: mean gray for most checkpoints, black or "
        "below black for others; `mean`: the image's own mean color, the same for all",
        "released code",
    )
    image_parts: tuple[str, ...] = option(
        "parts of the split that images are drawn from where none is named; the printed maps are "
        "of one image a data set",
        "ours",
    )


@dataclass(frozen=True, slots=True)
class ReconstructionOptions:
    """What the deep image prior is asked to match."""

    normalisation: Literal["own", "none"] = option(
        "`none`: the backbone sees pixels in [0, 1], whatever it was pretrained on",
        "released code",
    )
    extra_updates: int = option(
        "updates beyond the asked number: the released loop runs while n <= max_iter",
        "released code",
    )
    volume_slice: Literal["fifth", "middle"] = option(
        "of a CT volume the released code reconstructs slice 5, its values cut at 0 and 255 "
        "without a window; saliency, and `middle`, take the windowed slice of all other steps",
        "released code; the cut is what Pillow does (spec 8.1)",
    )
    lossy_files: bool = option(
        "the released reconstruction is saved under the image's name: where that ends in `.jpg`, "
        "`.jpeg` or `.mha` it goes through JPEG before its perceptual distance is measured",
        "released code",
    )


FINETUNE: dict[Protocol, FinetuneOptions] = {
    "released": FinetuneOptions(
        geometry="short224",
        normalisation="imagenet",
        split_column="split_released",
        validation_by_patient=False,
        keep="last",
        hard_auc=True,
        undefined_recall_is_nan=True,
        undefined_is_best=True,
    ),
    "corrected": FinetuneOptions(
        geometry="short224",
        normalisation="own",
        split_column="split",
        validation_by_patient=True,
        keep="best",
        hard_auc=False,
        undefined_recall_is_nan=False,
        undefined_is_best=False,
    ),
}

SALIENCY: dict[Protocol, SaliencyOptions] = {
    "released": SaliencyOptions(
        normalisation="imagenet",
        fill="zero",
        image_parts=("train", "val", "test"),
    ),
    "corrected": SaliencyOptions(normalisation="own", fill="mean", image_parts=("test",)),
}

RECONSTRUCTION: dict[Protocol, ReconstructionOptions] = {
    "released": ReconstructionOptions(
        normalisation="none", extra_updates=1, volume_slice="fifth", lossy_files=True
    ),
    "corrected": ReconstructionOptions(
        normalisation="own", extra_updates=0, volume_slice="middle", lossy_files=False
    ),
}
