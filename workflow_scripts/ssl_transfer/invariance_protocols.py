"""How invariance is measured: what the released code did, and what is sound.

`docs/reference/protocols.md` is made from this list. Light on purpose, as `protocols`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflow_scripts.protocol_option import option
from workflow_scripts.ssl_transfer.protocols import Protocol


@dataclass(frozen=True, slots=True)
class InvarianceOptions:
    """How images are drawn, transformed, seen and compared."""

    geometry: str = option(
        "shorter side 256, bilinear, centre crop 224: a shift of up to 16 pixels shows no border",
        "released code",
    )
    multi_view_geometry: str = option(
        "two views are ordinary images, seen as in the linear probe", "released code"
    )
    normalisation: Literal["own", "none"] = option(
        "`own`: as the checkpoint's certificate says it was pretrained", "released run script"
    )
    transformed_normalisation: Literal["own", "imagenet"] = option(
        "the released code equalises the histogram of the clean image of a checkpoint that needs "
        "it, but gives its transformed images ImageNet's mean and std: even the identity then "
        "changes the feature, and similarities are near 0 whatever the checkpoint knows",
        "released code",
    )
    with_replacement: bool = option(
        "released: images are drawn with replacement from training and test images in the "
        "released order, by NumPy's old generator with seed 0, after the draw of the statistics; "
        "corrected: each patient at most once, by a stream of the data set's name, so that every "
        "checkpoint, transform and run sees the same images",
        "released code",
    )
    sampled_statistics: bool = option(
        "released: mean and covariance of data sets of 1,000 images or more come from a tenth of "
        "them (at least 1,000), drawn with replacement; corrected: from all",
        "released code",
    )
    covariance: Literal["sample", "shrunk"] = option(
        "with no more images than feature dimensions the sample covariance has directions without "
        "variance, which the released code blows up a millionfold: the similarity then counts "
        "identical versions and nothing else. `shrunk` (Ledoit and Wolf) has an inverse there and "
        "agrees with it where there are many images",
        "released code; ours",
    )
    cross_fitted: bool = option(
        "the released statistics contain the images that they judge: a clean image then lies where "
        "the covariance is known and its transformed version where it is not, so that with few "
        "images the similarity is near 0 whatever the transform did. corrected: patients are "
        "parted in two halves, and each half is judged by the statistics of the other",
        "ours; measured on features with known covariance",
    )
    resize_first: bool = option(
        "released: an image is transformed in its original size, where a shift by 16 pixels means "
        "little to one data set and much to another; corrected: after the resize",
        "released code",
    )
    extra_shear_degrees: float = option(
        "along x in translation and scale, by mistake", "released code"
    )


INVARIANCE: dict[Protocol, InvarianceOptions] = {
    "released": InvarianceOptions(
        geometry="short256",
        multi_view_geometry="short224",
        normalisation="own",
        transformed_normalisation="imagenet",
        with_replacement=True,
        sampled_statistics=True,
        covariance="sample",
        cross_fitted=False,
        resize_first=False,
        extra_shear_degrees=1.0,
    ),
    "corrected": InvarianceOptions(
        geometry="short256",
        multi_view_geometry="short224",
        normalisation="own",
        transformed_normalisation="own",
        with_replacement=False,
        sampled_statistics=False,
        covariance="shrunk",
        cross_fitted=True,
        resize_first=True,
        extra_shear_degrees=0.0,
    ),
}
