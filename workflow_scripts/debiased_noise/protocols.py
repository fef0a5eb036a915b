"""The protocols of debiased noise editing: what the released code did, and what is sound.

Light on purpose: the rules import it to know which files a protocol needs.
GeZO's two forms are rows of the table, not protocols: both are wanted side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["released", "corrected"]
BALANCED = "group_balanced"  # the one method that changes which images are seen how often
METHODS = {  # name in paths -> row of the table
    "erm": "ERM",
    BALANCED: "group-balanced",
    "white_box": "DNE white box",
    "gezo_released": "DNE GeZO released",
    "gezo_paper": "DNE GeZO paper",
    "gaussian_white_box": "Gaussian as white box",
    "gaussian_gezo_released": "Gaussian as GeZO released",
    "gaussian_gezo_paper": "Gaussian as GeZO paper",
}
WITHOUT_EDIT = ("erm", BALANCED)
IMPORTED = "imported"  # what the card of a released file says: it may stand for any row


def option(why: str, source: str) -> Any:  # noqa: ANN401, typed by the annotation of its field
    """Return a field that says why it exists and where its released value is from."""
    return field(metadata={"why": why, "source": source})


@dataclass(frozen=True, slots=True)
class AttributeOptions:
    """How the attribute classifier is trained (step 1)."""

    stochastic_depth: float = option(
        "share of the last block's residual branches that are skipped at random, with all others "
        "frozen: the released code leaves the network in training mode, and trains the head on "
        "embeddings that nobody will ever use it on; 0 reads cached embeddings",
        "released code",
    )


@dataclass(frozen=True, slots=True)
class EditOptions:
    """How the white-box edit is trained (step 2)."""

    adam_restarts: bool = option(
        "the released code makes a new Adam at every epoch, so that its moments start from zero "
        "each time and its first steps have full length whatever the gradient",
        "released code",
    )


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How the disease classifier is trained (step 3)."""

    stochastic_depth: float = option(
        "as in step 1, with another rate; 0 reads cached embeddings, which makes a run of hours "
        "one of minutes",
        "released code, README command",
    )


ATTRIBUTE: dict[Protocol, AttributeOptions] = {
    "released": AttributeOptions(stochastic_depth=0.1),
    "corrected": AttributeOptions(stochastic_depth=0.0),
}
EDIT: dict[Protocol, EditOptions] = {
    "released": EditOptions(adam_restarts=True),
    "corrected": EditOptions(adam_restarts=False),
}
HEAD: dict[Protocol, HeadOptions] = {
    "released": HeadOptions(stochastic_depth=0.2),
    "corrected": HeadOptions(stochastic_depth=0.0),
}
