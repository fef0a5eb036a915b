"""The methods that are compared: rows of the table. Light on purpose: the rules import it.

`standard` and `cooperative` are the paper's two; the others leave one part out or put an
image-space augmentation in the place of the latent one. Source: spec sections 6, 9 and 13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MaskKind = Literal["random", "dropout", "spatial", "channel"]
Sharing = Literal["separate", "share_code", "without_filter"]
ImageSpace = Literal["none", "random_windows", "outside_windows", "random_convolutions"]


@dataclass(frozen=True, slots=True)
class Method:
    """What one method trains with.

    Attributes:
        image_code: hard images are made from the masked image code.
        shape_code: hard segmentations are made from the masked shape code.
        mask_type: kind of mask of both codes.
        sharing: what the two decoders read.
        is_separate: the slow network's losses do not reach the fast one.
        image_space: hard images come from this augmentation instead of the image code.
    """

    image_code: bool = True
    shape_code: bool = True
    mask_type: MaskKind = "random"
    sharing: Sharing = "separate"
    is_separate: bool = False
    image_space: ImageSpace = "none"


METHODS: dict[str, Method] = {
    "standard": Method(image_code=False, shape_code=False),
    "cooperative": Method(),
    # the paper's second variant, as far as the sources tell: generated images only
    "images_only": Method(shape_code=False),
    "segmentations_only": Method(image_code=False),
    "dropout_masks": Method(mask_type="dropout"),
    "channel_masks": Method(mask_type="channel"),
    "spatial_masks": Method(mask_type="spatial"),
    "shared_code": Method(sharing="share_code"),
    "without_filter": Method(sharing="without_filter"),
    "separate_training": Method(is_separate=True),
    # image-space augmentation in place of latent masks; which four the paper has is not known
    "random_windows": Method(image_code=False, shape_code=False, image_space="random_windows"),
    "outside_windows": Method(image_code=False, shape_code=False, image_space="outside_windows"),
    "random_convolutions": Method(
        image_code=False, shape_code=False, image_space="random_convolutions"
    ),
}
BASELINE = "standard"  # what the others are tested against
