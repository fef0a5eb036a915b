"""Mammograms of synthetic patients: a compressed breast with one outlined mass.

Coordinates: x from the chest wall (0) to the nipple, y down, in half image heights from the
middle; a right breast is mirrored. The same radius around the mass makes picture and outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.phantoms.fields import (
    Field,
    Grid,
    blur,
    draw_lines,
    fractal_noise,
    inside,
    smooth_noise,
    square_grid,
)
from workflow_scripts.phantoms.knobs import Knobs, Streams

N_POINTS = 48  # of an outline; BCDR's have some dozens
WIDTH_SHARE = 0.72  # width of the stored image over its height, as film mammograms
STRAY = 0.10  # spread of a reader's radius at ambiguity 1, share of the radius


@dataclass(frozen=True, slots=True)
class MammogramCase:
    """What is true of one image.

    Attributes:
        image_id: names the image's own random stream.
        view: `left CC`, `right CC`, `left MLO` or `right MLO`.
        is_malignant: spiculated and irregular, or round and smooth.
        lesion: names the lesion, which looks alike in both views.
    """

    image_id: str
    view: str
    is_malignant: bool
    lesion: str = "1"


@dataclass(frozen=True, slots=True)
class Breast:
    """A patient's breast; lengths in half image heights.

    Attributes:
        reach: from the chest wall to the nipple.
        half: half its height at the chest wall.
        sag: how far the nipple lies below the middle.
        density: share of fibroglandular tissue, 0 to 1.
    """

    reach: float
    half: float
    sag: float
    density: float


def draw_breast(rng: np.random.Generator) -> Breast:
    """Draw a patient's breast."""
    spread = rng.normal(0, 1, 3)
    return Breast(
        reach=float(0.98 + 0.12 * spread[0]),
        half=float(0.80 + 0.06 * spread[1]),
        sag=float(0.06 + 0.05 * spread[2]),
        density=float(rng.beta(2.2, 2.2)),
    )


@dataclass(frozen=True, slots=True)
class Mass:
    """A lesion: place, size, and radius over equal angles as shares of the size."""

    x: float
    y: float
    radius: float
    contour: NDArray[np.float64]
    contrast: float


def draw_mass(rng: np.random.Generator, breast: Breast, case: MammogramCase, signal: float) -> Mass:
    """Draw a lesion within the breast."""
    along, across = rng.uniform(0.22, 0.62), rng.uniform(-0.45, 0.45)
    x = breast.reach * along
    y = breast.sag * along + breast.half * across * np.sqrt(1 - along**2)
    angles = np.linspace(0, 2 * np.pi, N_POINTS, endpoint=False)
    rough = (0.16, 0.11, 0.07) if case.is_malignant else (0.10, 0.04, 0.01)
    contour = 1 + sum(
        rough[band] * rng.normal() * np.cos(waves * angles + rng.uniform(0, 2 * np.pi))
        for band, waves in enumerate((2, 3, 6))
    )
    radius = rng.uniform(0.075, 0.155)
    contrast = (0.30 if case.is_malignant else 0.20) * signal * rng.uniform(0.8, 1.2)
    return Mass(float(x), float(y), float(radius), np.clip(contour, 0.5, 1.6), float(contrast))


def render_mammogram(
    streams: Streams, case: MammogramCase, knobs: Knobs, size: int = 384
) -> tuple[NDArray[np.uint8], NDArray[np.int_]]:
    """Draw one mammogram and the outline that a reader made.

    Args:
        streams: the patient's random streams: `streams("anatomy")`, `streams("tissue", side)` and
            `streams("lesion", name)` are shared by views, `streams("image", image_id)` is not.
        case: what the image shows.
        knobs: strengths; `contour_ambiguity` blurs the mass and lets the outline stray.
        size: rows; the image has 0.72 as many columns.

    Returns:
        Gray levels (rows, columns), and the outline in pixels, shape (48, 2) of x and y.

    Raises:
        ValueError: if the view is unknown.
    """
    side, _, projection = case.view.partition(" ")
    if side not in ("left", "right") or projection not in ("CC", "MLO"):
        raise ValueError(f"no such view: {case.view}")
    breast = draw_breast(streams("anatomy"))
    mass = draw_mass(streams("lesion", case.lesion), breast, case, knobs.disease_signal)
    grid = square_grid(size)
    grid = Grid(grid.x + 1, grid.y)
    skin, glands = _breast(breast, grid, streams("tissue", side, projection), projection)
    picture = glands + _lesion(mass, grid, case, knobs, streams("lesion", case.lesion, "threads"))
    if projection == "MLO":
        picture = picture + 0.30 * _pectoral(grid, streams("anatomy", "pectoral"))
    picture = picture * skin
    film = _film(picture, skin, knobs, streams("image", case.image_id), size)
    outline = _outline(mass, knobs, streams("reader", case.image_id), size)
    columns = round(WIDTH_SHARE * size)
    film = film[:, :columns]
    outline[:, 0] = np.clip(outline[:, 0], 0, columns - 1)
    outline[:, 1] = np.clip(outline[:, 1], 0, size - 1)
    if side == "right":
        film, outline[:, 0] = film[:, ::-1], columns - 1 - outline[:, 0]
    return np.ascontiguousarray(film), outline


def _breast(
    breast: Breast, grid: Grid, rng: np.random.Generator, projection: str
) -> tuple[Field, Field]:
    """Return where the breast is, thinning towards its edge, and its tissue."""
    size = grid.size
    half = breast.half * (1.08 if projection == "MLO" else 1.0)
    below = grid.y - np.float32(breast.sag) * grid.x
    wave = 0.012 * smooth_noise(rng, size, 5)
    distance = 1 - np.hypot(grid.x / breast.reach, np.abs(below) ** 1.15 / half) + wave
    skin = inside(distance, 0.012)
    thickness = np.clip(distance / 0.16, 0, 1) ** 0.6
    coarse = fractal_noise(rng, size, 5, 4)
    centre = np.exp(-(((grid.x / breast.reach - 0.48) / 0.34) ** 2) - (below / (0.62 * half)) ** 2)
    share = inside((centre * (0.35 + 1.3 * breast.density) - 0.42 + 0.22 * coarse) / 0.30, 1.0)
    fine = fractal_noise(rng, size, 22, 3)
    tissue = 0.26 + 0.035 * coarse + share * (0.24 + 0.07 * fine)
    strands = _strands(rng, breast, size)
    nipple = np.hypot(grid.x - breast.reach + 0.015, grid.y - breast.sag)
    tissue = tissue * thickness + strands * thickness + 0.10 * np.exp(-((nipple / 0.035) ** 2))
    rim = 0.10 * np.exp(-(((distance - 0.006) / 0.010) ** 2))
    return skin, (tissue + rim).astype(np.float32)


def _strands(rng: np.random.Generator, breast: Breast, size: int) -> Field:
    """Return ligaments and ducts that run towards the nipple, and a few vessels."""
    lines = []
    for _ in range(46):
        start = rng.uniform(0.05, 0.75) * breast.reach
        height = rng.uniform(-0.62, 0.62) * breast.half
        length, width = rng.uniform(0.10, 0.34), rng.uniform(0.003, 0.009)
        slope = (breast.sag - height) * rng.uniform(0.2, 0.9) + rng.normal(0, 0.15)
        x, y = start - 1, height
        for _ in range(3):
            to = (x + length / 3, y + slope * length / 3 + rng.normal(0, 0.012))
            lines.append((x, y, *to, width, rng.uniform(0.25, 0.7)))
            x, y = to
    return 0.16 * blur(draw_lines(np.array(lines), size), 0.004)


def _pectoral(grid: Grid, rng: np.random.Generator) -> Field:
    """Return the chest muscle of an oblique view: a bright wedge at the top."""
    slope = 1.25 + 0.15 * rng.normal()
    line = np.float32(0.52 + 0.05 * rng.normal()) - grid.x - (grid.y + 1) / np.float32(2 * slope)
    return inside(line, 0.02)


def _lesion(
    mass: Mass, grid: Grid, case: MammogramCase, knobs: Knobs, rng: np.random.Generator
) -> Field:
    """Return the brightness that the mass adds."""
    dx, dy = grid.x - np.float32(mass.x), grid.y - np.float32(mass.y)
    angle = np.arctan2(dy, dx) % np.float32(2 * np.pi)
    knots = np.append(mass.contour, mass.contour[0])
    border = np.interp(angle, np.linspace(0, 2 * np.pi, N_POINTS + 1), knots) * mass.radius
    distance = np.hypot(dx, dy) / border
    soft = (0.20 if case.is_malignant else 0.08) * (1 + 2.5 * knobs.contour_ambiguity)
    body: Field = inside((1 - distance) / np.float32(soft), 1.0) * (1.15 - 0.25 * distance)
    if case.is_malignant:
        lines = []
        for turn in np.linspace(0, 2 * np.pi, 22, endpoint=False) + rng.normal(0, 0.12, 22):
            reach = mass.radius * rng.uniform(1.25, 2.1)
            near = (
                mass.x - 1 + 0.7 * mass.radius * np.cos(turn),
                mass.y + 0.7 * mass.radius * np.sin(turn),
            )
            bend = turn + rng.normal(0, 0.06)
            far = (mass.x - 1 + reach * np.cos(bend), mass.y + reach * np.sin(bend))
            lines.append((*near, *far, 0.007, 0.8))
        body = np.maximum(body, 0.55 * blur(draw_lines(np.array(lines), grid.size), 0.005))
    ripple = 1 + 0.10 * smooth_noise(rng, grid.size, 40)
    return (mass.contrast * body * ripple).astype(np.float32)


def _film(
    picture: Field, skin: Field, knobs: Knobs, rng: np.random.Generator, size: int
) -> NDArray[np.uint8]:
    """Return gray levels: tone, grain, scratches, and the black film around the breast."""
    bright = 1 - np.exp(-1.5 * np.clip(picture, 0, None))  # film never quite saturates
    tone = bright ** np.float32(1.0 + 0.35 * knobs.domain_shift)
    grain = (0.012 + 0.02 * knobs.domain_shift) * rng.standard_normal(
        (size, size), dtype=np.float32
    )
    image = blur(tone + grain * (0.3 + skin), 0.9 / size)
    if knobs.artefact_level > 0:
        n_scratches = rng.poisson(3 * knobs.artefact_level)
        ends = rng.uniform(-1, 1, (n_scratches, 4))
        lines = np.array([(*end, 0.003, 0.5) for end in ends.tolist()]).reshape(-1, 6)
        image = image + 0.25 * knobs.artefact_level * draw_lines(lines, size)
    gray: NDArray[np.uint8] = np.round(255 * np.clip(1.25 * image, 0, 1)).astype(np.uint8)
    return gray


def _outline(mass: Mass, knobs: Knobs, rng: np.random.Generator, size: int) -> NDArray[np.int_]:
    """Return the reader's polygon in pixels of the unmirrored image."""
    angles = np.linspace(0, 2 * np.pi, N_POINTS, endpoint=False)
    stray = sum(
        rng.normal() * np.cos(waves * angles + rng.uniform(0, 2 * np.pi)) for waves in (1, 2, 3, 5)
    )
    radius = mass.radius * mass.contour * (1 + STRAY * knobs.contour_ambiguity * stray)
    x = (mass.x + radius * np.cos(angles)) * size / 2 - 0.5
    y = (mass.y + 1 + radius * np.sin(angles)) * size / 2 - 0.5
    points: NDArray[np.int_] = np.round(np.stack([x, y], axis=1)).astype(int)
    return points
