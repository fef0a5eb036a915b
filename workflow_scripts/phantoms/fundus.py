"""Photographs of the back of synthetic eyes: disc, macula, vessels, and what diseases add.

Everything is laid out for a right eye, in which the optic disc lies on the right of the picture
and the macula left of it; a left eye is its mirror image. One patient's eyes share pigment, disc
and cup; the course of the vessels is each eye's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.phantoms.fields import (
    Field,
    Grid,
    blob,
    blur,
    clamp,
    draw_lines,
    ellipse_distance,
    fractal_noise,
    inside,
    smooth_noise,
    square_grid,
)
from workflow_scripts.phantoms.fundus_lesions import LESIONS, Retina, picture_places
from workflow_scripts.phantoms.knobs import Knobs, Streams, shows_confounder

Rng = np.random.Generator

FIELD_RADIUS: Final = 0.955  # of the round picture, half image sides; 45 degrees of the retina
PIGMENTS: Final = ((0.82, 0.40, 0.19), (0.72, 0.31, 0.12), (0.60, 0.24, 0.09))  # fair to dark
DISC_COLOUR: Final = (1.0, 0.79, 0.50)
CUP_COLOUR: Final = (1.0, 0.93, 0.76)
# Heading of the arcades where they leave the disc, and how they turn: radians, counter-clockwise.
ARCADES: Final = ((1.95, 1.05), (-1.95, -1.05), (0.95, -0.55), (-0.95, 0.55))


@dataclass(frozen=True, slots=True)
class EyeCase:
    """What is true of one photograph.

    Attributes:
        image_id: names the image's own random stream.
        side: `left` or `right`.
        disease: a name of `LESIONS`; None for a healthy eye.
        age_years: clouds the lens; NaN where unknown.
    """

    image_id: str
    side: str = "right"
    disease: str | None = None
    age_years: float = float("nan")


@dataclass(frozen=True, slots=True)
class Eye:
    """The patient's share: lengths in half image sides.

    Attributes:
        pigment: colour of the retina, RGB in [0, 1].
        disc: centre of the optic disc.
        disc_radii: half axes, across and along.
        disc_tilt: radians.
        cup_ratio: of the disc's radius.
        fovea: centre of the macula.
        tessellation: how much the vessels of the choroid show.
    """

    pigment: tuple[float, float, float]
    disc: tuple[float, float]
    disc_radii: tuple[float, float]
    disc_tilt: float
    cup_ratio: float
    fovea: tuple[float, float]
    tessellation: float


def render_fundus(
    streams: Streams, case: EyeCase, knobs: Knobs, size: int = 256
) -> NDArray[np.uint8]:
    """Draw one photograph.

    Args:
        streams: the patient's random streams: `streams("eyes")` belongs to both eyes,
            `streams("eye", side)` to one, `streams("image", image_id)` to the photograph.
        case: what the image shows.
        knobs: strengths; at `disease_signal` 0 every eye looks healthy.
        size: pixels along a side.

    Returns:
        RGB, shape (size, size, 3), black outside the round field.

    Raises:
        ValueError: if the disease or the side is unknown.
    """
    if case.side not in ("left", "right") or case.disease not in (None, *LESIONS):
        raise ValueError(f"no such side or disease: {case.side} {case.disease}")
    own = streams("eye", case.side)
    eye = _draw_eye(streams("eyes"), own)
    grid = _posed(streams("image", case.image_id), square_grid(size), case.side)
    softness = 0.012 * (1 + 4 * knobs.contour_ambiguity)
    retina = Retina(grid, eye.fovea, eye.disc, max(eye.disc_radii), softness)
    if case.disease is not None and knobs.disease_signal > 0:
        rng = streams("lesions", case.side, case.disease)
        LESIONS[case.disease](retina, rng, knobs.disease_signal)
        eye = _reshaped(eye, retina)
    picture = _retina(streams("choroid", case.side), grid, eye)
    picture = _with_disc(retina.paint_under(picture), grid, eye, softness)
    picture = retina.paint_over(picture * _vessel_light(own, grid, eye))
    return _photograph(
        streams("image", case.image_id, "camera"),
        picture,
        bool(case.disease),
        case.age_years,
        knobs,
    )


def _draw_eye(both: Rng, own: Rng) -> Eye:
    """Return an eye: most of it is the patient's, some its own."""
    shade = both.uniform(0, len(PIGMENTS) - 1)
    pigment = [
        float(np.interp(shade, range(len(PIGMENTS)), c)) for c in zip(*PIGMENTS, strict=True)
    ]
    radius = both.normal(0.130, 0.008)
    cup = float(np.clip(both.normal(0.40, 0.08), 0.2, 0.65))
    tessellation = both.uniform(0.0, 0.25)
    distance = both.normal(0.66, 0.02)
    disc = (0.50 + own.normal(0, 0.025), own.normal(-0.02, 0.02))
    return Eye(
        pigment=(pigment[0], pigment[1], pigment[2]),
        disc=disc,
        disc_radii=(radius * 0.93, radius * 1.05),
        disc_tilt=own.normal(0, 0.1),
        cup_ratio=cup,
        fovea=(disc[0] - distance, disc[1] + 0.06 + own.normal(0, 0.01)),
        tessellation=tessellation,
    )


def _reshaped(eye: Eye, retina: Retina) -> Eye:
    """Return the eye with what a disease does to its disc and its choroid."""
    across, along = eye.disc_radii
    return replace(
        eye,
        disc_radii=(across * (1 - 0.42 * retina.disc_squeeze), along),
        disc_tilt=eye.disc_tilt + 0.5 * retina.disc_squeeze,
        tessellation=eye.tessellation + retina.tessellation,
    )


def _posed(rng: Rng, grid: Grid, side: str) -> Grid:
    """Return the place in a right eye that each point of the picture shows."""
    shift_x, shift_y, turn = rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.05)
    mirror = np.float32(-1.0 if side == "left" else 1.0)
    x, y = mirror * grid.x - np.float32(shift_x), grid.y - np.float32(shift_y)
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    return Grid(cos * x - sin * y, sin * x + cos * y)


def _retina(rng: Rng, grid: Grid, eye: Eye) -> Field:
    """Return the retina without vessels, RGB, shape (size, size, 3)."""
    size = grid.size
    cloud = fractal_noise(rng, size, 5, 3)
    light = 1.04 - 0.20 * (grid.x**2 + grid.y**2) + 0.035 * cloud
    light = light * (1 - 0.30 * blob(grid, eye.fovea, (0.13, 0.12)))
    light = light * (1 - 0.22 * blob(grid, eye.fovea, (0.045, 0.045)))
    # Ridges of warped noise look like the net of the choroid's vessels.
    wave = np.abs(smooth_noise(rng, size, 17) + 0.7 * smooth_noise(rng, size, 30))
    net = clamp(1.15 - 1.5 * wave, 0, 1) * (1 - 0.8 * blob(grid, eye.fovea, (0.16, 0.16)))
    fibres = blob(grid, eye.disc, (0.34, 0.28))
    base = np.array(eye.pigment, dtype=np.float32)
    picture: Field = light[..., None] * base
    pale = np.array([0.085, 0.105, 0.065], dtype=np.float32)
    picture = picture + (eye.tessellation * (net - 0.35))[..., None] * pale
    lit: Field = picture + fibres[..., None] * np.array([0.03, 0.045, 0.02], dtype=np.float32)
    return lit


def _with_disc(picture: Field, grid: Grid, eye: Eye, softness: float) -> Field:
    """Add the optic disc with its cup."""
    distance = ellipse_distance(grid, eye.disc, eye.disc_radii, eye.disc_tilt)
    rim = inside(distance, 2.2 * softness)
    centre = (eye.disc[0] - 0.012, eye.disc[1])
    radii = (eye.disc_radii[0] * eye.cup_ratio, eye.disc_radii[1] * eye.cup_ratio)
    cup = inside(ellipse_distance(grid, centre, radii, eye.disc_tilt), 3 * softness)
    colour = np.array(DISC_COLOUR, np.float32)
    disc: Field = colour + cup[..., None] * (np.array(CUP_COLOUR, np.float32) - colour)
    # The nasal side of the rim is thicker, so it is redder.
    across = clamp((grid.x - np.float32(eye.disc[0])) / np.float32(eye.disc_radii[0]), -1, 1)
    disc = disc * (1 - 0.09 * (across + 1) * (1 - cup))[..., None]
    with_disc: Field = picture + 0.92 * rim[..., None] * (disc - picture)
    return with_disc


def _vessel_light(rng: Rng, grid: Grid, eye: Eye) -> Field:
    """Return the share of the light that arteries and veins let pass, RGB."""
    light: Field = np.ones((grid.size, grid.size, 3), dtype=np.float32)
    arteries, veins = _tree(rng, eye, 0.0155, 0.10), _tree(rng, eye, 0.0205, -0.06)
    for lines, loss in ((veins, (0.33, 0.52, 0.50)), (arteries, (0.17, 0.42, 0.44))):
        drawn = lines.copy()
        drawn[:, 0:2] = picture_places(grid, lines[:, 0:2])
        drawn[:, 2:4] = picture_places(grid, lines[:, 2:4])
        depth = blur(draw_lines(drawn, grid.size), 0.004)
        light = light * (1 - depth[..., None] * np.array(loss, dtype=np.float32))
    return light


def _tree(rng: Rng, eye: Eye, width: float, aside: float) -> NDArray[np.float64]:
    """Return one system of vessels as strokes; see `draw_lines`."""
    strokes: list[tuple[float, float, float, float, float, float]] = []
    for heading, turning in ARCADES:
        start = heading + aside * np.sign(heading) + rng.normal(0, 0.08)
        scale = 1.0 if abs(heading) > 1.5 else 0.8  # the nasal vessels are finer
        _grow(rng, strokes, eye.disc, start, turning + rng.normal(0, 0.1), scale * width, eye, 3)
    return np.array(strokes)


def _grow(
    rng: Rng,
    strokes: list[tuple[float, float, float, float, float, float]],
    place: tuple[float, float],
    heading: float,
    turning: float,
    width: float,
    eye: Eye,
    depth: int,
) -> None:
    """Follow one vessel over the retina, with branches to both sides."""
    x, y = place
    step = 0.035
    length = {3: 46, 2: 20, 1: 11}[depth]
    side = 1 if rng.random() < 0.5 else -1
    for number in range(length):
        heading += step * turning + rng.normal(0, 0.055)
        to_x, to_y = x + step * math.cos(heading), y - step * math.sin(heading)
        if math.hypot(to_x, to_y) > 1.1 or width < 0.0035:
            return
        if math.hypot(to_x - eye.fovea[0], to_y - eye.fovea[1]) < 0.13:
            return  # the centre of the macula has no vessels
        strokes.append((x, y, to_x, to_y, width, min(1.0, 0.45 + 30 * width)))
        x, y, width = to_x, to_y, width * 0.982
        if depth > 1 and number > 2 and number % 5 == 0 and rng.random() < 0.85:
            away = side * rng.uniform(0.5, 0.95)
            bend = -side * rng.uniform(0.2, 1.2)
            _grow(rng, strokes, (x, y), heading + away, bend, 0.62 * width, eye, depth - 1)
            side = -side


def _photograph(
    rng: Rng, picture: Field, is_ill: bool, age_years: float, knobs: Knobs
) -> NDArray[np.uint8]:
    """Add lens, light, camera and the round field."""
    size = len(picture)
    grid = square_grid(size)
    shift, level = knobs.domain_shift, knobs.artefact_level
    age = 50.0 if math.isnan(age_years) else age_years
    clouded = 0.0035 * knobs.attribute_signal * max(0.0, age - 45) + 0.06 * level * rng.random()
    haze = np.array([0.62, 0.52, 0.36], dtype=np.float32)
    picture = picture + np.float32(0.35 * clouded) * (haze - picture)
    tilt = rng.normal(0, 0.05 + 0.12 * level, 2)
    light = 1 + float(tilt[0]) * grid.x + float(tilt[1]) * grid.y
    light *= 1 + rng.normal(0, 0.05) - 0.12 * shift
    cast = np.exp(rng.normal(0, 0.03, 3) + shift * np.array([-0.10, 0.10, 0.28]))
    picture = picture * light[..., None] * cast.astype(np.float32)
    for _ in range(int(rng.poisson(0.6 * level))):  # dust on the lens
        spot = blob(grid, (rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.7)), (0.02, 0.02))
        picture = picture + 0.12 * spot[..., None]
    width = 0.003 * (1 + 1.6 * shift)
    picture = np.stack([blur(picture[..., c], width) for c in range(3)], axis=-1)
    noise = rng.standard_normal((size, size, 1), dtype=np.float32)
    picture = picture + np.float32(0.011 * (1 + shift)) * noise
    field = inside(FIELD_RADIUS - np.hypot(grid.x, grid.y), 0.012)
    if shows_confounder(rng, is_ill, knobs.confounder_strength):
        field = np.maximum(field, _notch(grid))
    return clamp(255 * picture * field[..., None], 0, 255).astype(np.uint8)


def _notch(grid: Grid) -> Field:
    """Return the tab that some cameras leave at the border of the field: no medical meaning."""
    corner = 0.7071 * FIELD_RADIUS
    dx, dy = np.abs(grid.x - corner), np.abs(grid.y + corner)
    return inside(0.075 - np.maximum(dx, dy), 0.01)
