"""What diseases add to a retina: haemorrhages, exudates, new vessels, drusen, atrophy.

A disease draws layers: how much of the retina's colour each replaces, and by which colour. Grades
of diabetic retinopathy follow the usual scale: 1 microaneurysms only, 2 more than these, 3 many
haemorrhages in all quadrants, 4 new vessels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workflow_scripts.phantoms.fields import (
    Field,
    Grid,
    blur,
    clamp,
    ellipse_distance,
    fractal_noise,
    inside,
)

Rng = np.random.Generator
Place = tuple[float, float]
Colour = tuple[float, float, float]
Layer = tuple[Field, Colour]

BLOOD: Final = (0.30, 0.045, 0.03)
EXUDATE: Final = (0.99, 0.90, 0.48)
COTTON: Final = (0.93, 0.84, 0.66)
DRUSE: Final = (0.96, 0.76, 0.38)
ATROPHY: Final = (0.97, 0.86, 0.60)
SCLERA: Final = (1.00, 0.95, 0.80)


@dataclass(slots=True)
class Retina:
    """Where lesions go, and what they did.

    Attributes:
        grid: place in a right eye that each point of the picture shows.
        fovea, disc: centres.
        disc_radius: of the optic disc.
        softness: of a sharp border.
        layers: opacity (size, size) and colour, in the order in which they cover each other.
        ground: the same, for what lies under vessels and disc.
        disc_squeeze: 1 for a disc that lies on its side.
        tessellation: added to the eye's own.
    """

    grid: Grid
    fovea: Place
    disc: Place
    disc_radius: float
    softness: float
    layers: list[Layer] = field(default_factory=list)
    ground: list[Layer] = field(default_factory=list)
    disc_squeeze: float = 0.0
    tessellation: float = 0.0

    def add(self, opacity: Field, colour: Colour, signal: float, under: bool = False) -> None:
        """Put a layer on top (`under` the vessels); no signal makes it more than opaque."""
        (self.ground if under else self.layers).append((clamp(signal * opacity, 0, 1), colour))

    def paint_under(self, picture: Field) -> Field:
        """Return the picture of a retina without vessels, with what lies under them."""
        return _painted(picture, self.ground)

    def paint_over(self, picture: Field) -> Field:
        """Return the whole picture with what lies over vessels and disc."""
        return _painted(picture, self.layers)


def _painted(picture: Field, layers: Sequence[Layer]) -> Field:
    """Return the picture with layers over it."""
    for opacity, colour in layers:
        picture = picture + opacity[..., None] * (np.array(colour, np.float32) - picture)
    return picture


def spots(
    retina: Retina, places: NDArray[np.float64], radii: NDArray[np.float64], rough: float, rng: Rng
) -> Field:
    """Return filled patches with wavy outlines, 1 inside.

    Args:
        retina: gives the pose.
        places: shape (N, 2), in the eye.
        radii: shape (N, 2), across and along, half image sides.
        rough: height of the waves of the outline.
        rng: outlines and directions.
    """
    size = retina.grid.size
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    turn = np.linspace(0, 2 * math.pi, 17)[:-1]
    angles = rng.uniform(0, math.pi, (len(places), 1))
    waves = 1 + rough * rng.normal(0, 1, (len(places), 16))
    u, v = radii[:, :1] * np.cos(turn) * waves, radii[:, 1:] * np.sin(turn) * waves
    x = places[:, :1] + u * np.cos(angles) - v * np.sin(angles)
    y = places[:, 1:] + u * np.sin(angles) + v * np.cos(angles)
    corners = picture_places(retina.grid, np.column_stack([x.ravel(), y.ravel()]))
    for outline in ((corners + 1) * size).reshape(len(places), 32).tolist():
        pen.polygon(outline, fill=255)
    small = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32) / np.float32(255)


def picture_places(grid: Grid, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the picture shows places of the eye; both in half image sides, shape (N, 2)."""
    size = grid.size
    inner = 1 - 1 / size  # the coordinate of the outermost pixel centres
    seen = np.array([[-inner, -inner, 1], [inner, -inner, 1], [-inner, inner, 1]])
    rows, columns = [0, 0, -1], [0, -1, 0]
    eye = np.column_stack([grid.x[rows, columns], grid.y[rows, columns], np.ones(3)])
    affine = np.linalg.solve(eye.astype(np.float64), seen[:, :2])
    shown: NDArray[np.float64] = np.column_stack([places, np.ones(len(places))]) @ affine
    return shown


def _anywhere(rng: Rng, retina: Retina, count: int, low: float = 0.08) -> NDArray[np.float64]:
    """Return places over the whole field, evenly over the quadrants, off fovea and disc."""
    places: list[Place] = []
    while len(places) < count:
        quadrant = len(places) % 4
        radius, angle = 0.86 * math.sqrt(rng.random()), (quadrant + rng.random()) * math.pi / 2
        place = (radius * math.cos(angle), radius * math.sin(angle))
        far = math.dist(place, retina.fovea) > low
        if far and math.dist(place, retina.disc) > 1.3 * retina.disc_radius:
            places.append(place)
    return np.array(places).reshape(-1, 2)


def _round_radii(rng: Rng, low: float, high: float, count: int) -> NDArray[np.float64]:
    """Return nearly round half axes, shape (count, 2)."""
    radius = rng.uniform(low, high, (count, 1))
    return np.asarray(radius * rng.uniform(0.8, 1.25, (count, 2)))


def _microaneurysms(retina: Retina, rng: Rng, count: int, signal: float) -> None:
    """Small dark dots, most of them round the macula."""
    near = np.array(retina.fovea) + rng.normal(0, 0.24, (count - count // 3, 2))
    places = np.concatenate([near, _anywhere(rng, retina, count // 3)])
    dots = spots(retina, places, _round_radii(rng, 0.007, 0.012, count), 0.05, rng)
    retina.add(0.80 * blur(dots, 0.003), BLOOD, signal)


def _haemorrhages(retina: Retina, rng: Rng, count: int, signal: float) -> None:
    """Blots, and flames that follow the nerve fibres."""
    places = _anywhere(rng, retina, count)
    radii = _round_radii(rng, 0.014, 0.040, count)
    flames = rng.random(count) < 0.35
    radii[flames] *= (0.5, 1.7)
    blots = blur(spots(retina, places, radii, 0.16, rng), 0.6 * retina.softness)
    retina.add(0.88 * blots, BLOOD, signal)


def _exudates(retina: Retina, rng: Rng, clusters: int, signal: float) -> None:
    """Bright waxy specks in rings and heaps near the macula."""
    places = []
    for _ in range(clusters):
        angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0.16, 0.34)
        x, y = retina.fovea[0] + away * math.cos(angle), retina.fovea[1] + away * math.sin(angle)
        count, radius = int(rng.integers(14, 34)), rng.uniform(0.05, 0.11)
        around = rng.uniform(0, 1.5 * math.pi, count)
        ring = np.abs(rng.normal(radius, 0.018, count))
        places.append(np.column_stack([x + ring * np.cos(around), y + ring * np.sin(around)]))
    where = np.concatenate(places)
    specks = spots(retina, where, _round_radii(rng, 0.006, 0.017, len(where)), 0.2, rng)
    retina.add(0.95 * blur(specks, 0.0035), EXUDATE, signal)


def _cotton_wool(retina: Retina, rng: Rng, count: int, signal: float) -> None:
    """Pale patches without a border, along the arcades."""
    places = _anywhere(rng, retina, count, low=0.3)
    patches = spots(retina, places, _round_radii(rng, 0.028, 0.050, count), 0.2, rng)
    retina.add(0.80 * blur(patches, 0.018), COTTON, signal)


def _new_vessels(retina: Retina, rng: Rng, signal: float) -> None:
    """Tangles of fine vessels on the disc and elsewhere; often blood in front of the retina."""
    size = retina.grid.size
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    sites = [retina.disc, *map(tuple, _anywhere(rng, retina, int(rng.integers(2, 4)), 0.3))]
    for site in sites:
        for _ in range(18):
            heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.55, 11))
            x = site[0] + np.cumsum(0.021 * np.cos(heading))
            y = site[1] + np.cumsum(0.021 * np.sin(heading))
            line = (picture_places(retina.grid, np.column_stack([x, y])) + 1) * size
            pen.line(line.ravel().tolist(), fill=210, width=max(1, size // 128))
    small = np.asarray(canvas.resize((size, size), Image.Resampling.BOX)).astype(np.float32) / 255
    retina.add(0.85 * blur(small, 0.0025), BLOOD, signal)
    if rng.random() < 0.6:  # a boat: level on top, round below
        x, y = _anywhere(rng, retina, 1, 0.3)[0]
        radius = rng.uniform(0.12, 0.20)
        bowl = inside(ellipse_distance(retina.grid, (x, y), (radius, 0.75 * radius)), 0.02)
        retina.add(0.92 * bowl * inside(retina.grid.y - np.float32(y), 0.015), BLOOD, signal)


def _count(rng: Rng, low: int, high: int, signal: float) -> int:
    """Draw a number of lesions; more signal makes more of them."""
    return max(1, round(signal * int(rng.integers(low, high))))


def _diabetic(grade: int) -> Lesion:
    """Return what draws one grade of diabetic retinopathy."""

    def draw(retina: Retina, rng: Rng, signal: float) -> None:
        dots = {1: (6, 14), 2: (18, 32), 3: (36, 60), 4: (28, 48)}[grade]
        _microaneurysms(retina, rng, _count(rng, *dots, signal), signal)
        if grade >= 2:
            blots = {2: (5, 10), 3: (24, 38), 4: (16, 28)}[grade]
            _haemorrhages(retina, rng, _count(rng, *blots, signal), signal)
            _exudates(retina, rng, int(rng.integers(1, 3)) + (grade > 2), signal)
        if grade >= 3:
            _cotton_wool(retina, rng, int(rng.integers(3, 7)), signal)
        if grade == 4:
            _new_vessels(retina, rng, signal)

    return draw


def _macular_degeneration(retina: Retina, rng: Rng, signal: float) -> None:
    """Drusen in the macula; late forms with atrophy or with blood under the retina."""
    count = _count(rng, 45, 95, signal)
    places = np.array(retina.fovea) + rng.normal(0, 0.17, (count, 2))
    soft = spots(retina, places, _round_radii(rng, 0.011, 0.032, count), 0.12, rng)
    retina.add(0.72 * blur(soft, 0.007), DRUSE, signal)
    form = rng.random()
    centre = np.array([retina.fovea]) + rng.normal(0, 0.03, (1, 2))
    if form < 0.3:
        patch = spots(retina, centre, _round_radii(rng, 0.13, 0.20, 1), 0.10, rng)
        retina.add(0.75 * blur(patch, 0.008), ATROPHY, signal)
    elif form < 0.65:
        pool = spots(retina, centre, _round_radii(rng, 0.12, 0.22, 1), 0.13, rng)
        retina.add(0.72 * blur(pool, 0.02), BLOOD, signal)
        scar = spots(retina, centre, _round_radii(rng, 0.05, 0.09, 1), 0.2, rng)
        retina.add(0.80 * blur(scar, 0.015), ATROPHY, signal)


def _myopia(pathologic: bool) -> Lesion:
    """Return what draws high myopia, or its pathologic form."""

    def draw(retina: Retina, rng: Rng, signal: float) -> None:
        strength = 1.0 if pathologic else 0.45
        retina.tessellation = signal * (1.1 if pathologic else 0.75)
        retina.disc_squeeze = min(1.2, signal * strength * rng.uniform(0.8, 1.1))
        # A crescent of bare sclera on the temporal side of the disc, or all round it.
        width = retina.disc_radius * (rng.uniform(0.75, 1.3) if pathologic else 0.32)
        centre = (retina.disc[0] - 0.75 * width, retina.disc[1])
        radii = (retina.disc_radius + width, retina.disc_radius + 0.55 * width)
        crescent = inside(ellipse_distance(retina.grid, centre, radii), 1.5 * retina.softness)
        wave = 1 + 0.12 * fractal_noise(rng, retina.grid.size, 6, 2)
        retina.add(0.85 * crescent * wave, SCLERA, signal, under=True)
        if pathologic:
            count = int(rng.integers(3, 8))
            places = np.array(retina.fovea) + rng.normal(0, 0.20, (count, 2))
            patches = spots(retina, places, _round_radii(rng, 0.045, 0.13, count), 0.13, rng)
            retina.add(0.80 * blur(patches, 0.9 * retina.softness), SCLERA, signal, under=True)

    return draw


Lesion = Callable[[Retina, Rng, float], None]

LESIONS: Final[dict[str, Lesion]] = {
    **{f"diabetic retinopathy {grade}": _diabetic(grade) for grade in (1, 2, 3, 4)},
    "macular degeneration": _macular_degeneration,
    "high myopia": _myopia(pathologic=False),
    "pathologic myopia": _myopia(pathologic=True),
}
