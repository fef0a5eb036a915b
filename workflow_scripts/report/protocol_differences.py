"""In which options do the protocols differ? What could explain a number outside its tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from workflow_scripts.report.protocols_page import SECTIONS, shown

SSL = "SSL transfer: "
TRANSFERS = tuple(f"{SSL}{step}" for step in ("few-shot", "linear", "fine-tuning"))
DEBIASED = tuple(
    f"Debiased noise: {step}"
    for step in ("attribute classifier", "white-box edit", "disease classifier")
)
# the steps behind each printed table, as docs/reference/protocols.md titles them
STEPS: Mapping[str, tuple[str, ...]] = {
    "crocodile_id_ood": ("CROCODILE",),
    "ssl_transfer_few_shot": (f"{SSL}few-shot",),
    "ssl_transfer_linear": (f"{SSL}linear",),
    "ssl_transfer_finetune": (f"{SSL}fine-tuning",),
    "ssl_transfer_saliency": (f"{SSL}saliency",),
    "ssl_transfer_perceptual": (f"{SSL}reconstruction",),
    "ssl_transfer_invariance": (f"{SSL}invariance",),
    "ssl_transfer_correlations": (
        *TRANSFERS, f"{SSL}saliency", f"{SSL}reconstruction", f"{SSL}invariance",
    ),
    "ssl_transfer_domain_averages": TRANSFERS,
    "cooperative_training_dice": (
        "Cooperative training: training", "Cooperative training: scoring",
    ),
    # all three bundles; the other section of the page repeats two of them
    "layer_ensembles_segmentation": ("Layer ensembles: newest commit",),
    "layer_ensembles_correlation": ("Layer ensembles: newest commit",),
    "layer_ensembles_skips": ("Layer ensembles: newest commit",),
    "debiased_noise_fairness": DEBIASED,
    "debiased_noise_course": DEBIASED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """One option in which protocols differ.

    Attributes:
        step: what is done with it.
        name: of the option.
        values: protocol, and what it does as a reader would write it.
        why: what the option is about.
    """

    step: str
    name: str
    values: tuple[tuple[str, str], ...]
    why: str

    @property
    def text(self) -> str:
        """The option with what each protocol does.

        >>> Difference("test", "crop", (("released", "squash"), ("corrected", "whole")), "").text
        'test, crop (released: squash, corrected: whole)'
        """
        texts = ", ".join(f"{name}: {to}" for name, to in self.values)
        return f"{self.step}, {self.name} ({texts})"


def differences(
    table: str, sections: Sequence[tuple[str, Mapping[Any, Any]]] = SECTIONS
) -> tuple[Difference, ...]:
    """Return the options that differ between the protocols of a table's steps.

    A table that is not printed by a paper has none.

    Args:
        table: its name.
        sections: title and bundles of options, as docs/reference/protocols.md shows them.
    """
    wanted = STEPS.get(table, ())
    return tuple(
        one
        for title, bundles in sections
        if title in wanted
        for one in _differences(title.rpartition(": ")[2], bundles)
    )


def _differences(step: str, bundles: Mapping[Any, Any]) -> list[Difference]:
    """Return the options in which bundles of one step differ."""
    found = []
    for option in fields(next(iter(bundles.values()))):
        values = {name: getattr(bundle, option.name) for name, bundle in bundles.items()}
        if len({repr(value) for value in values.values()}) > 1:
            texts = tuple((str(name), shown(value)) for name, value in values.items())
            found.append(Difference(step, option.name, texts, option.metadata["why"]))
    return found
