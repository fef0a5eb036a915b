"""The knobs of a phantom: how strongly each thing that the papers study is present."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

# Random streams of one patient: the same words give the same numbers, so that what belongs to
# the patient ("anatomy") stays the same in every image, and an image has its own ("image", id).
Streams = Callable[..., np.random.Generator]


@dataclass(frozen=True, slots=True)
class Knobs:
    """Strengths without unit; 0 switches off, 1 is what a reader of real images would expect.

    Attributes:
        disease_signal: how visible findings are; at 0 images do not depend on the disease.
        domain_shift: another hospital: tone curve, noise, sharpness and marker.
        confounder_strength: how often a mark without medical meaning (chest: the `PORTABLE`
            label; histology: pen ink) goes with disease: 0 as often in health, 1 always and only,
            -1 the reverse: always and only in health.
        confounder_finding: the finding that the mark goes with instead of any disease (chest).
        attribute_signal: how much sex and age show.
        contour_ambiguity: blur of the borders of organs and findings.
        artefact_level: leads, tubes, folds, dust, uneven light.
    """

    disease_signal: float = 1.0
    domain_shift: float = 0.0
    confounder_strength: float = 0.0
    attribute_signal: float = 1.0
    contour_ambiguity: float = 0.0
    artefact_level: float = 0.2
    confounder_finding: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "confounder_finding":
                if not isinstance(value, str):
                    raise ValueError(f"{field.name}: expected a finding, got {value!r}")
                continue
            lowest, highest = (-1.0, 1.0) if field.name == "confounder_strength" else (0.0, 3.0)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not lowest <= value <= highest:
                raise ValueError(f"{field.name}: expected {lowest:g} to {highest:g}, got {value!r}")


def shows_confounder(rng: np.random.Generator, is_ill: bool, strength: float) -> bool:
    """Draw whether the meaningless mark is there; half of all images at strength 0."""
    share = 0.5 + 0.5 * strength * (1 if is_ill else -1)
    return bool(rng.random() < share)
