"""Findings of chest X-rays, named as ChestX-ray14 names them, and tuberculosis.

A finding changes the body's shape before it is drawn (`SHAPE_CHANGES`), adds opacities to the
lungs (`OPACITIES`), or both. Its random stream is the patient's, so that a mass stays where it is
from one image to the next. `strength` is the knob `disease_signal`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from workflow_scripts.phantoms.chest_anatomy import SIDES, Anatomy, cage_edge
from workflow_scripts.phantoms.fields import (
    Field,
    Grid,
    blob,
    clamp,
    ellipse_distance,
    fractal_noise,
    inside,
    smooth_noise,
)

Rng = np.random.Generator


@dataclass(slots=True)
class Scene:
    """What is drawn so far; findings add to `opacity`, `air`, `overlay` and take from `vessels`.

    All fields have the shape (size, size); `edge` is the distance of the rib cage's wall from the
    midline in each row of the body, lungs and heart are soft masks in [0, 1], the others
    attenuation (1 is the densest organ).
    """

    grid: Grid
    anatomy: Anatomy
    softness: float
    edge: Field
    lungs: dict[int, Field]
    heart: Field
    vessels: Field
    opacity: Field
    air: Field
    overlay: Field


def _side(rng: Rng) -> int:
    """Draw the affected side; the first draw of a stream, so shape and opacity agree."""
    return SIDES[int(rng.integers(2))]


def _cage_edge_at(y: float, anatomy: Anatomy) -> float:
    return float(cage_edge(np.array(y, dtype=np.float32), anatomy))


def _place(
    rng: Rng, scene: Scene, side: int, radius: float, zone: tuple[float, float] = (0.15, 0.9)
) -> tuple[float, float]:
    """Draw a place within a lung: `zone` is the share of the way from its top to its bottom."""
    anatomy = scene.anatomy
    top, bottom = anatomy.apex + 0.06 + radius, anatomy.dome_of(side) - radius
    y = top + (bottom - top) * rng.uniform(*zone)
    wall = _cage_edge_at(y, anatomy) - radius - 0.02
    # Below the hila the left half of the heart covers the inner part of the lung.
    inner = 0.16 + radius + (0.16 if side > 0 and y > 0.0 else 0.0)
    return side * rng.uniform(min(inner, wall - 0.02), wall), y


def _cardiomegaly(anatomy: Anatomy, rng: Rng, strength: float) -> Anatomy:
    # A heart wider than half of the chest is enlarged; sick hearts here reach 0.57 to 0.70.
    target = rng.uniform(0.57, 0.70)
    ratio = anatomy.cardiothoracic_ratio + strength * (target - anatomy.cardiothoracic_ratio)
    return replace(
        anatomy,
        cardiothoracic_ratio=ratio,
        vessel_density=anatomy.vessel_density * (1 + 0.15 * strength),
    )


def _raised_dome(anatomy: Anatomy, rng: Rng, strength: float) -> Anatomy:
    side, rise = _side(rng), strength * rng.uniform(0.08, 0.16)
    right, left = anatomy.dome
    return replace(anatomy, dome=(right - rise, left) if side < 0 else (right, left - rise))


def _hyperinflated(anatomy: Anatomy, rng: Rng, strength: float) -> Anatomy:
    fall = strength * rng.uniform(0.10, 0.16)
    return replace(
        anatomy,
        dome=(anatomy.dome[0] + fall, anatomy.dome[1] + fall),
        dome_curve=anatomy.dome_curve * (1 - 0.55 * min(strength, 1.0)),
        lung_air=anatomy.lung_air * (1 + 0.13 * strength),
        vessel_density=anatomy.vessel_density * max(0.0, 1 - 0.4 * strength),
        cardiothoracic_ratio=anatomy.cardiothoracic_ratio * (1 - 0.12 * min(strength, 1.0)),
    )


def _atelectasis(scene: Scene, rng: Rng, strength: float) -> None:
    """Plates of airless lung above a raised half of the diaphragm."""
    side = _side(rng)
    dome = scene.anatomy.dome_of(side)
    for number in range(int(rng.integers(2, 4))):
        x = side * rng.uniform(0.32, 0.46)
        centre = (x, dome - 0.05 - 0.065 * number + rng.normal(0, 0.01))
        radii = (rng.uniform(0.14, 0.24), rng.uniform(0.011, 0.019))
        plate = ellipse_distance(scene.grid, centre, radii, side * rng.uniform(-0.30, 0.05))
        scene.opacity += np.float32(0.17 * strength) * inside(plate, 0.7 * scene.softness)
    haze = blob(scene.grid, (side * 0.36, dome), (0.22, 0.075))
    scene.opacity += np.float32(0.15 * strength) * haze


def _effusion(scene: Scene, rng: Rng, strength: float) -> None:
    """Fluid that fills the angle between ribs and diaphragm, rising along the wall."""
    first = _side(rng)
    sides = SIDES if rng.random() < 0.3 else (first,)
    for side in sides:
        u = scene.grid.x * side
        edge = np.maximum(scene.edge, 0.05)
        across = clamp(u / edge, 0, 1.05)
        level = scene.anatomy.dome_of(side) - rng.uniform(0.02, 0.26)
        climb = np.float32(rng.uniform(0.12, 0.24)) * across**5
        surface = np.float32(level) - climb + 0.03 * (1 - across)
        fluid = inside(scene.grid.y - surface, 0.035 + scene.softness) * (u > 0)
        scene.opacity += np.float32(0.37 * strength) * fluid
        scene.vessels *= 1 - np.float32(min(strength, 1.0)) * fluid


def _patch(
    scene: Scene, rng: Rng, centre: tuple[float, float], radii: tuple[float, float], fluff: float
) -> Field:
    """Return a cloud in [0, 1]: `fluff` 0 is even, 1 breaks up into spots."""
    cloud = fractal_noise(rng, scene.grid.size, 11, 3)
    shape = 1.35 * blob(scene.grid, centre, radii) * (1 + np.float32(fluff) * cloud)
    return clamp(shape - 0.18, 0, 1)


def _infiltration(scene: Scene, rng: Rng, strength: float) -> None:
    """Ill-defined patches in one or both lungs."""
    first = _side(rng)
    for side in (first, first, -first)[: int(rng.integers(2, 4))]:
        radii = (rng.uniform(0.09, 0.15), rng.uniform(0.10, 0.18))
        centre = _place(rng, scene, side, 0.10, (0.35, 0.95))
        scene.opacity += np.float32(0.20 * strength) * _patch(scene, rng, centre, radii, 0.9)


def _consolidation(scene: Scene, rng: Rng, strength: float) -> None:
    """One dense lobe part in which the vessels disappear."""
    side = _side(rng)
    centre = _place(rng, scene, side, 0.10, (0.4, 0.95))
    radii = (rng.uniform(0.11, 0.16), rng.uniform(0.10, 0.16))
    field = _patch(scene, rng, centre, radii, 0.30)
    scene.opacity += np.float32(0.30 * strength) * field
    scene.vessels *= 1 - np.float32(0.8 * min(strength, 1.0)) * field


def _round_opacity(scene: Scene, rng: Rng, side: int, radius: float, density: float) -> None:
    """Add a ball: densest in the middle, its border slightly lobed."""
    x, y = _place(rng, scene, side, radius)
    dx, dy = scene.grid.x - np.float32(x), scene.grid.y - np.float32(y)
    angle = np.arctan2(dy, dx)
    lobes = sum(
        rng.normal(0, 0.045) * np.cos(wave * angle + np.float32(rng.uniform(0, 6.3)))
        for wave in (2, 3, 5)
    )
    share = np.hypot(dx, dy) / np.float32(radius) - lobes
    depth = np.sqrt(clamp(1 - share * share, 0, 1))
    border = inside((1 - share) * np.float32(radius), scene.softness)
    scene.opacity += np.float32(density) * border * (0.55 + 0.45 * depth)


def _mass(scene: Scene, rng: Rng, strength: float) -> None:
    """One opacity wider than 3 cm (the image is about 40 cm wide)."""
    _round_opacity(scene, rng, _side(rng), rng.uniform(0.090, 0.15), 0.25 * strength)


def _nodule(scene: Scene, rng: Rng, strength: float) -> None:
    """One to three opacities of 1 to 2 cm."""
    first = _side(rng)
    for _ in range(int(rng.integers(1, 4))):
        side = first if rng.random() < 0.6 else -first
        _round_opacity(scene, rng, side, rng.uniform(0.028, 0.048), 0.20 * strength)


def _pneumothorax(scene: Scene, rng: Rng, strength: float) -> None:
    """Air between ribs and lung: a fine white line, and beyond it no vessels."""
    side = _side(rng)
    gap = rng.uniform(0.09, 0.19)
    shrunk = replace(
        scene.anatomy,
        apex=scene.anatomy.apex + 1.35 * gap,
        half_width=scene.anatomy.half_width - rng.uniform(0.55, 0.85) * gap,
    )
    from_edge = cage_edge(scene.grid.y, shrunk) - scene.grid.x * side
    steepness = np.hypot(*np.gradient(from_edge)) * np.float32(scene.grid.size / 2)
    distance = from_edge / np.maximum(steepness, 1)
    lung = scene.lungs[side]
    outside = inside(-distance, 0.006) * lung
    visible = np.float32(min(strength, 1.0))
    scene.vessels *= 1 - visible * outside
    scene.air += np.float32(0.055 * strength) * outside
    line = np.exp(-((distance / np.float32(0.0075 + 0.4 * (scene.softness - 0.01))) ** 2)) * lung
    scene.opacity += np.float32(0.13 * strength) * line
    scene.opacity += np.float32(0.05 * strength) * inside(distance, 0.02) * lung


def _edema(scene: Scene, rng: Rng, strength: float) -> None:
    """Haze that spreads from both hila like wings."""
    for side in SIDES:
        centre = (side * rng.uniform(0.26, 0.32), rng.uniform(-0.06, 0.04))
        field = _patch(scene, rng, centre, (0.15, 0.24), 0.35)
        scene.opacity += np.float32(0.20 * strength) * field
    scene.vessels *= np.float32(1 + 0.3 * strength)


def _fibrosis(scene: Scene, rng: Rng, strength: float) -> None:
    """A net of strands at the bases and along the wall."""
    net = np.exp(-np.abs(smooth_noise(rng, scene.grid.size, 34)) * 3.0)
    net += np.exp(-np.abs(smooth_noise(rng, scene.grid.size, 48)) * 3.0)
    for side in SIDES:
        where = blob(scene.grid, (side * 0.46, scene.anatomy.dome_of(side) - 0.06), (0.2, 0.22))
        scene.opacity += np.float32(0.11 * strength) * net * where


def _pleural_thickening(scene: Scene, rng: Rng, strength: float) -> None:
    """A dense seam along the chest wall."""
    side = _side(rng)
    middle, reach = rng.uniform(-0.45, 0.2), rng.uniform(0.20, 0.32)
    u = scene.grid.x * side
    from_wall = scene.edge - u
    along = np.exp(-(((scene.grid.y - np.float32(middle)) / np.float32(reach)) ** 4))
    thick = np.float32(rng.uniform(0.035, 0.06)) * along
    scene.opacity += np.float32(0.24 * strength) * inside(thick - from_wall, 0.012) * (u > 0)


def _hernia(scene: Scene, rng: Rng, strength: float) -> None:
    """A part of the stomach behind the heart, with air over a fluid level."""
    centre = (rng.uniform(-0.04, 0.08), min(scene.anatomy.dome) - rng.uniform(0.02, 0.08))
    radius = rng.uniform(0.11, 0.15)
    ball = inside(ellipse_distance(scene.grid, centre, (radius, radius)), 0.012)
    above = inside(np.float32(centre[1]) - scene.grid.y, 0.006)
    scene.overlay += np.float32(strength) * ball * (0.06 - 0.17 * above)


def _tuberculosis(scene: Scene, rng: Rng, strength: float) -> None:
    """Spots, strands and often a cavity in the upper lung, on one side or both."""
    first = _side(rng)
    for side in (first, -first) if rng.random() < 0.45 else (first,):
        centre = _place(rng, scene, side, 0.06, (0.08, 0.32))
        field = _patch(scene, rng, centre, (rng.uniform(0.10, 0.15), 0.13), 1.0)
        scene.opacity += np.float32(0.22 * strength) * field
        for _ in range(int(rng.integers(8, 18))):
            offset = rng.normal(0, (0.11, 0.15))
            spot = (centre[0] + offset[0], centre[1] + 0.05 + offset[1])
            radius = rng.uniform(0.010, 0.019)
            scene.opacity += np.float32(0.13 * strength) * blob(scene.grid, spot, (radius, radius))
        if rng.random() < 0.5:
            _cavity(scene, rng, centre, strength)
    if rng.random() < 0.2:
        _effusion(scene, rng, 0.8 * strength)


def _cavity(scene: Scene, rng: Rng, centre: tuple[float, float], strength: float) -> None:
    radius = rng.uniform(0.055, 0.085)
    radii = (radius, radius * rng.uniform(0.85, 1.15))
    distance = ellipse_distance(scene.grid, centre, radii)
    wall = np.exp(-(((distance - 0.012) / 0.014) ** 2))
    hole = inside(distance - 0.02, 0.012)
    scene.opacity *= 1 - np.float32(0.85 * min(strength, 1.0)) * hole
    scene.opacity += np.float32(0.20 * strength) * wall
    scene.air += np.float32(0.03 * strength) * hole


SHAPE_CHANGES: Final[dict[str, Callable[[Anatomy, Rng, float], Anatomy]]] = {
    "Atelectasis": _raised_dome,
    "Cardiomegaly": _cardiomegaly,
    "Emphysema": _hyperinflated,
}

OPACITIES: Final[dict[str, Callable[[Scene, Rng, float], None]]] = {
    "Atelectasis": _atelectasis,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Effusion": _effusion,
    "Fibrosis": _fibrosis,
    "Hernia": _hernia,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pleural_Thickening": _pleural_thickening,
    "Pneumonia": _consolidation,
    "Pneumothorax": _pneumothorax,
    "Tuberculosis": _tuberculosis,
}
