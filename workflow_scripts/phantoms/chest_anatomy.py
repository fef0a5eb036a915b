"""The body of a synthetic chest X-ray patient: sizes and places, drawn once a patient.

Lengths are in half image sides (the image runs from -1 to 1). `side` is -1 for the patient's
right lung, which is at the left of the image, and 1 for the left lung.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from workflow_scripts.phantoms.fields import Field, Grid, clamp, inside
from workflow_scripts.phantoms.knobs import Knobs

SIDES: Final = (-1, 1)
ADULT_YEARS: Final = 18.0


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Sizes and places of one patient.

    Attributes:
        half_width: of the rib cage at its widest.
        apex, widest: y of the lungs' tops and of the widest place.
        dome: y of the top of the right and the left half of the diaphragm.
        dome_curve: how steeply the diaphragm falls to the ribs.
        cardiothoracic_ratio: width of heart over width of rib cage; above 0.5 is enlarged.
        heart_share_left: share of the heart's width on the patient's left.
        aortic_knob: radius of the aortic arch's shadow.
        rib_spacing, rib_slope, rib_density: of the ribs.
        spine_curve: sideways amplitude.
        breast: thickness of the breast shadow.
        fat: added soft tissue.
        lung_air: darkness of the lungs.
        vessel_density: of the lung vessels.
        clavicle_rise: how much higher the lateral ends of the clavicles are.
    """

    half_width: float
    apex: float
    widest: float
    dome: tuple[float, float]
    dome_curve: float
    cardiothoracic_ratio: float
    heart_share_left: float
    aortic_knob: float
    rib_spacing: float
    rib_slope: float
    rib_density: float
    spine_curve: float
    breast: float
    fat: float
    lung_air: float
    vessel_density: float
    clavicle_rise: float

    def dome_of(self, side: int) -> float:
        """Return y of the diaphragm's top on `side`."""
        return self.dome[0] if side < 0 else self.dome[1]


def draw_anatomy(
    rng: np.random.Generator, sex: str | None, age_years: float, knobs: Knobs
) -> Anatomy:
    """Draw a patient; with `attribute_signal` 0 sex and age leave no trace.

    Args:
        rng: the patient's stream.
        sex: `F`, `M` or None, which looks like either.
        age_years: NaN looks like 50.
        knobs: strengths.
    """
    female = {"F": 1.0, "M": 0.0}.get(sex or "", float(rng.integers(2)))
    age = 50.0 if np.isnan(age_years) else age_years
    signal = knobs.attribute_signal
    femininity = 0.5 + (female - 0.5) * signal
    aging = (age - 50.0) / 30.0 * signal
    youth = max(0.0, (ADULT_YEARS - age) / ADULT_YEARS) * signal
    dome = 0.36 + rng.normal(0, 0.03) - 0.10 * youth
    return Anatomy(
        half_width=0.755 - 0.05 * femininity + rng.normal(0, 0.015) - 0.08 * youth,
        apex=-0.80 + rng.normal(0, 0.015) + 0.06 * youth,
        widest=0.26 + rng.normal(0, 0.02),
        dome=(dome, dome + 0.055 + rng.normal(0, 0.012)),
        dome_curve=0.19 + rng.normal(0, 0.02),
        cardiothoracic_ratio=0.445 + 0.015 * aging + 0.05 * youth + rng.normal(0, 0.015),
        heart_share_left=0.67 + rng.normal(0, 0.025),
        aortic_knob=float(np.clip(0.082 + 0.02 * aging + rng.normal(0, 0.006), 0.04, 0.14)),
        rib_spacing=0.128 + rng.normal(0, 0.004),
        rib_slope=0.34 + 0.05 * aging + rng.normal(0, 0.03),
        rib_density=float(np.clip(0.125 - 0.018 * aging + rng.normal(0, 0.012), 0.05, 0.17)),
        spine_curve=rng.normal(0, 0.006) * (1 + max(aging, 0)),
        breast=float(np.clip(rng.normal(0.16, 0.035), 0.08, 0.24)) * max(2 * femininity - 1, 0.0),
        fat=float(np.clip(rng.normal(0.03, 0.025), 0, 0.10)),
        lung_air=0.385 + rng.normal(0, 0.02) + 0.02 * aging,
        vessel_density=0.115 + 0.012 * aging + rng.normal(0, 0.01),
        clavicle_rise=0.17 + rng.normal(0, 0.03),
    )


def as_portable(anatomy: Anatomy) -> Anatomy:
    """Return the patient as an AP view shows them: lying, less air, the heart magnified."""
    return replace(
        anatomy,
        dome=(anatomy.dome[0] - 0.07, anatomy.dome[1] - 0.07),
        cardiothoracic_ratio=anatomy.cardiothoracic_ratio * 1.10,
        lung_air=anatomy.lung_air * 0.90,
        clavicle_rise=anatomy.clavicle_rise + 0.08,
    )


def cage_edge(y: Field, anatomy: Anatomy) -> Field:
    """Return the distance of the rib cage's inner wall from the midline at each height."""
    height = np.float32(anatomy.widest - anatomy.apex)
    up = clamp((anatomy.widest - y) / height, 0, 1)
    down = clamp(y - anatomy.widest, 0, 1)
    upper = np.sqrt(1 - up * up * np.sqrt(up))
    edge: Field = anatomy.half_width * upper * (1 - 0.18 * down * down)
    return edge


def diaphragm(u: Field, anatomy: Anatomy, side: int) -> Field:
    """Return y of the diaphragm at each distance `u` from the midline."""
    top = np.float32(0.50 * anatomy.half_width)
    lateral = clamp((u - top) / np.float32(0.5 * anatomy.half_width), 0, 2)
    medial = clamp((top - u) / top, 0, 2)
    fall = anatomy.dome_curve * lateral * lateral
    return np.float32(anatomy.dome_of(side)) + fall + 0.09 * medial * medial


def lung_mask(grid: Grid, edge: Field, anatomy: Anatomy, side: int, softness: float) -> Field:
    """Return one lung's field in [0, 1], with what the heart covers; `edge` is the cage's."""
    u = grid.x * side
    wall = inside(edge - u, softness)
    # The upper mediastinum is narrow; the hila and the heart lie over the lung.
    middle = 0.105 + 0.03 * clamp(grid.y + 0.5, 0, 1)
    medial = inside(u - middle, softness)
    return wall * medial * inside(diaphragm(u, anatomy, side) - grid.y, softness * 0.8)
