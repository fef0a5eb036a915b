"""The protocols of cooperative training: what the released code did, and what is sound.

`docs/reference/protocols.md` is made from these lists. Light on purpose: the rules import them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workflow_scripts.protocol_option import option

Protocol = Literal["released", "corrected"]


@dataclass(frozen=True, slots=True)
class TrainingProtocol:
    """How networks are trained and selected."""

    overlap: Literal["keep", "leave_out", "refuse"] = option(
        "patients whom a released list has in training and validation (10_cv_1: 002, 022; "
        "10_cv_4: 022) validate on their own training images; corrected refuses such a list, or "
        "takes them out of the validation where `training.overlap: leave_out` asks for it",
        "released split function",
    )
    empty_training_slices: Literal["replace", "keep"] = option(
        "a slice without foreground gives way to one of its volume with foreground, drawn anew in "
        "each epoch; ours draws it from the case's own stream",
        "released code",
    )
    empty_validation_slices: Literal["replace", "keep"] = option(
        "the same in validation, whose content then varies between epochs upstream (here it is "
        "drawn once); corrected validates on every slice as it is",
        "released code",
    )
    validation_passes: int = option(
        "corrections by the slow network before the mean IoU that selects the weights (0 in the "
        "first public release)",
        "released code",
    )
    image_output: Literal["sigmoid", "linear"] = option(
        "last activation of the image decoder (linear in the first public release)",
        "released code",
    )
    clamps_noise: bool = option(
        "noisy images stay in [0, 1] (not in the first public release)", "released code"
    )
    has_label_loss: bool = option(
        "the slow network also learns to copy the reference (only logged in the first public "
        "release)",
        "released code",
    )


@dataclass(frozen=True, slots=True)
class ScoringProtocol:
    """How volumes are segmented and scored."""

    test_intensity: Literal["stored", "slice"] = option(
        "test volumes are read as stored (percentiles 2 and 98 of the volume), as the second half "
        "of each training batch is; `slice` would rescale each slice",
        "released code, two frames",
    )
    scored_region: Literal["crop", "volume"] = option(
        "released: voxels outside the central crop are not scored, so a structure that the crop "
        "cuts off costs nothing; corrected: outside the crop the prediction is background",
        "released code",
    )
    both_empty_dice: float = option(
        "Dice where reference and prediction are both empty: 0 in MedPy 0.4.0; corrected: "
        "undefined, left out of the mean and counted",
        "released code with MedPy 0.4.0",
    )


TRAINING: dict[Protocol, TrainingProtocol] = {
    "released": TrainingProtocol(
        overlap="keep",
        empty_training_slices="replace",
        empty_validation_slices="replace",
        validation_passes=1,
        image_output="sigmoid",
        clamps_noise=True,
        has_label_loss=True,
    ),
    "corrected": TrainingProtocol(
        overlap="refuse",
        empty_training_slices="replace",
        empty_validation_slices="keep",
        validation_passes=1,
        image_output="sigmoid",
        clamps_noise=True,
        has_label_loss=True,
    ),
}

SCORING: dict[Protocol, ScoringProtocol] = {
    "released": ScoringProtocol(test_intensity="stored", scored_region="crop", both_empty_dice=0.0),
    "corrected": ScoringProtocol(
        test_intensity="stored", scored_region="volume", both_empty_dice=math.nan
    ),
}
