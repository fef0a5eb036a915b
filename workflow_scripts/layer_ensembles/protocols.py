"""The protocols of layer ensembles: the paper's runs, the newest commit, and what is sound.

Every difference is an option here, with its reason. Light on purpose: the rules import it.

`paper` is the first public commit, which holds the names of the paper's runs; `released` is the
newest commit, whose path for hearts does not run (spec section 0).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["paper", "released", "corrected"]
Loss = Literal["dice_foreground", "dice_all", "weighted_cross_entropy"]
Combination = Literal["mean", "staple", "staple_released", "last", "mean_logits"]
METHODS = ("plain", "multi_head", "deep_ensembles", "layer_ensembles")


def option(why: str, source: str) -> Any:  # noqa: ANN401, typed by the annotation of its field
    """Return a field that says why it exists and where its value is from."""
    return field(metadata={"why": why, "source": source})


@dataclass(frozen=True, slots=True)
class Options:
    """How networks are trained and their heads combined and measured."""

    layers: Literal["stages", "relu"] = option(
        "which layers get a head. `stages`: five encoder stages and five decoder blocks (the last "
        "is the network's own output). `relu`: the nine named ReLUs, all in the encoder, and the "
        "network's own output",
        "both commits",
    )
    xavier: bool = option("initialisation of the heads; torch's default otherwise", "both commits")
    loss_2d: Loss = option(  # noqa: RUF009, frozen: an alias of a Literal
        "binary data. `dice_foreground` is the sigmoid of channel 1 alone: channel 0 stays as it "
        "was drawn, although prediction takes a softmax over both, so that probabilities are not "
        "calibrated (Plain's NLL of 2.3 beside a Dice of 0.87)",
        "both commits",
    )
    normalisation: Literal["crop", "mask"] = option(
        "`crop`: zero mean, unit deviation over the whole crop, after the augmentation. `mask`: "
        "range and z-norm from the pixels *inside the reference*, which a user does not have",
        "both commits",
    )
    redraw_random_convolution: bool = option(
        "the released augmentation draws its random convolution once and never again; the "
        "published idea draws it anew each time",
        "released code, executed",
    )
    swap_between_slices: bool = option(
        "the patch swap of a volume may move a patch to another slice", "released code"
    )
    validation: Literal["last", "sum"] = option(
        "which heads' loss decides about learning rate and best weights", "both commits"
    )
    validation_slices: Literal["random", "all"] = option(
        "of a volume: five at random each epoch, or all of them", "released code"
    )
    split_column: str = option(
        "the released split; patient numbers of different subsets count as one patient",
        "released code",
    )
    combine_heads: Combination = option(  # noqa: RUF009
        "how layer ensembles join their heads. STAPLE in the released code takes every voxel of "
        "probability 1e-6 for foreground; the newest commit averages logits and asks for a "
        "probability of 0.9",
        "both commits; for BCDR the published choice is unknown",
    )
    combine_others: Combination = option(  # noqa: RUF009
        "how the other methods join their predictions", "spec section 12"
    )
    threshold: float | None = option(
        "probability that a class needs; none: the most likely class", "newest commit"
    )
    infinite_distance: Literal["largest", "half_height", "excluded"] = option(
        "what a distance to an empty segmentation counts as: the largest finite one of all "
        "methods, half the image's height, or it is left out and counted",
        "both commits",
    )
    empty_dice: float = option(
        "Dice where reference and segmentation are both empty: 0 in the released code, which "
        "punishes a right answer; undefined (NaN) and counted otherwise",
        "released code",
    )


PAPER = Options(
    layers="stages",
    xavier=True,
    loss_2d="dice_foreground",
    normalisation="crop",
    redraw_random_convolution=False,
    swap_between_slices=True,
    validation="last",
    validation_slices="random",
    split_column="split_released",
    combine_heads="staple_released",
    combine_others="mean",
    threshold=None,
    infinite_distance="largest",
    empty_dice=0.0,
)

OPTIONS: dict[Protocol, Options] = {
    "paper": PAPER,
    "released": Options(
        layers="relu",
        xavier=False,
        loss_2d="dice_all",
        normalisation="mask",
        redraw_random_convolution=False,
        swap_between_slices=True,
        validation="sum",
        validation_slices="random",
        split_column="split_released",
        combine_heads="mean_logits",
        combine_others="mean_logits",
        threshold=0.9,
        infinite_distance="half_height",
        empty_dice=0.0,
    ),
    "corrected": Options(
        layers="stages",
        xavier=True,
        loss_2d="dice_all",
        normalisation="crop",
        redraw_random_convolution=True,
        swap_between_slices=False,
        validation="sum",
        validation_slices="all",
        split_column="split",
        combine_heads="mean",
        combine_others="mean",
        threshold=None,
        infinite_distance="excluded",
        empty_dice=float("nan"),
    ),
}
