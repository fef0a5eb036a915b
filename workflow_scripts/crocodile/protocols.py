"""The protocols of CROCODILE: what the released code did, and what is sound.

Every difference is an option here, with its reason; docs/reference/protocols.md is made from this
list. What cannot be run as released is not an option: see docs/explanation/crocodile.md.
Light on purpose: rules import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflow_scripts.protocol_option import option

Protocol = Literal["released", "corrected"]


@dataclass(frozen=True, slots=True)
class CrocodileOptions:
    """How the network computes and what it is trained to."""

    transformer_passes: Literal[1, 2] = option(
        "the released code runs each transformer twice a step, once for Q and once for Q-bar, so "
        "that in training the two come from different dropout masks; one pass gives both",
        "released code",
    )
    complement_before_dropout: bool = option(
        "whether the complement 1 - A is taken of the attention before its dropout; the class is "
        "missing from the released repository, its description says after",
        "author's note",
    )
    spurious_residual: Literal["output", "input"] = option(
        "the released spurious feed-forward output is added to itself; corrected adds its input",
        "released code",
    )
    spurious_layers: Literal["all", "last"] = option(
        "only the last decoder layer's spurious path is used; the released network carries those "
        "of the other layers as well, which never get a gradient",
        "released code",
    )
    window_form: Literal["unfold", "matrix"] = option(
        "49 copies of keys and values, or the scores of the windows out of one matrix product; "
        "equal up to rounding",
        "ours; memory and speed",
    )
    scorer: Literal["flat", "pair"] = option(
        "the released scorer is one linear map of all pairs at once that is never trained, a fixed "
        "random projection; corrected scores each pair by itself, and is trained with the network. "
        "It has a hidden layer: a linear score of a pair is a sum of two numbers, which cannot fit "
        "this target (an exclusive or) better than the constant 0.5",
        "released code; ours",
    )
    scorer_target: Literal["one_short", "exact"] = option(
        "the released target lacks its last one: 53 of 54", "released code"
    )
    disease_groups: Literal["label_values", "per_class"] = option(
        "the released batch loss takes rows whose label is 0 or 1 in any class, so that which "
        "class is lost and `same` equals `different`; corrected compares, class by class, the "
        "embeddings of that class",
        "released code",
    )
    empty_group: Literal["zero", "skip"] = option(
        "a label that leaves no row makes the whole released batch loss zero; corrected skips it",
        "released code",
    )
    map_shift: Literal["batch", "row"] = option(
        "a negative entry anywhere in the batch makes the released code add each row's absolute "
        "minimum to it, also to positive rows; corrected always subtracts each row's minimum",
        "released code",
    )
    shuffle_in_evaluation: bool = option(
        "the released intervention mixes in a random batch mate in evaluation too, so that scores "
        "depend on the batch; corrected adds the image's own spurious embedding",
        "released code",
    )


PROTOCOLS: dict[Protocol, CrocodileOptions] = {
    "released": CrocodileOptions(
        transformer_passes=2,
        complement_before_dropout=False,
        spurious_residual="output",
        spurious_layers="all",
        window_form="unfold",
        scorer="flat",
        scorer_target="one_short",
        disease_groups="label_values",
        empty_group="zero",
        map_shift="batch",
        shuffle_in_evaluation=True,
    ),
    "corrected": CrocodileOptions(
        transformer_passes=1,
        complement_before_dropout=False,
        spurious_residual="input",
        spurious_layers="last",
        window_form="matrix",
        scorer="pair",
        scorer_target="exact",
        disease_groups="per_class",
        empty_group="skip",
        map_shift="row",
        shuffle_in_evaluation=False,
    ),
}
