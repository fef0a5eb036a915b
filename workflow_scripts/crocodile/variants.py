"""The rows of the table: the ablations, the competitor and a plain baseline.

Source: CROCODILE spec section 8. Light on purpose: rules import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Variant:
    """What a row of the table has.

    Attributes:
        title: for tables and figures.
        is_plain: trunk, average pool and a linear layer; nothing of what follows.
        has_domain: the domain branch and its loss.
        has_contrast: image- and batch-level losses.
        has_prior: causality map and task prior.
        intervention: how Q and the shuffled Q-bar meet.
        kl_on_intervened: the uniform target is for the intervened logits, not the spurious ones.
        asl_scale: factor of the asymmetric loss.
    """

    title: str
    is_plain: bool = False
    has_domain: bool = False
    has_contrast: bool = False
    has_prior: bool = False
    intervention: Literal["add", "concatenate"] = "add"
    kl_on_intervened: bool = False
    asl_scale: float = 100.0  # released code

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that give scores of the findings, the table's first."""
        if self.is_plain:
            return ("plain",)
        both = ("intervened", "causal")
        return both if self.kl_on_intervened else (*both, "spurious")  # that one is untrained


VARIANTS: Final[dict[str, Variant]] = {
    "baseline": Variant("disease branch only"),
    "domain": Variant("+ domain branch", has_domain=True),
    "contrastive": Variant("+ contrastive losses", has_domain=True, has_contrast=True),
    "full": Variant("CROCODILE", has_domain=True, has_contrast=True, has_prior=True),
    # Nie et al., MICCAI 2023, as far as known: it concatenates, and both the uniform target and
    # the second asymmetric loss are for the intervened logits; asymmetric loss times 1000.
    "causal_cxr": Variant(
        "causal CXR classifier", intervention="concatenate", kl_on_intervened=True, asl_scale=1000.0
    ),
    "resnet_asl": Variant("trunk + ASL", is_plain=True),  # ours: a sanity baseline
}
