"""Chest CT of synthetic patients, in Hounsfield units, with the opacities of COVID-19.

A volume is a stack of axial slices from the lungs' bases to their tops, upright as a radiologist
sees them: the patient's right at the left, the front at the top. Ground glass lies as in the real
disease: on both sides, under the pleura, more at the back and below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    square_grid,
)
from workflow_scripts.phantoms.knobs import Knobs, Streams, shows_confounder

Rng = np.random.Generator

AIR_HU: Final = -1000.0
OUTSIDE_HU: Final = -2048.0  # scanners write such values outside the round field of view
LUNG_HU: Final = -860.0
FAT_HU: Final = -100.0
MUSCLE_HU: Final = 50.0
BLOOD_HU: Final = 130.0  # with some contrast agent
MARROW_HU: Final = 320.0
CORTEX_HU: Final = 1150.0  # far outside the window of the released code


@dataclass(frozen=True, slots=True)
class Trunk:
    """The patient's anatomy; lengths in half image sides.

    Attributes:
        half_width, half_depth: of the body.
        fat: thickness of the layer under the skin.
        lung_width, lung_depth: half axes of a lung in its widest slice.
        heart: half axis in its widest slice.
        lung_hu: of healthy lung, without its vessels.
    """

    half_width: float
    half_depth: float
    fat: float
    lung_width: float
    lung_depth: float
    heart: float
    lung_hu: float


@dataclass(frozen=True, slots=True)
class Patch:
    """One opacity: centre (x, y, height), radius, all in half image sides, and its depth."""

    x: float
    y: float
    height: float
    radius: float
    hounsfield: float


def render_ct(
    streams: Streams, severity: int, knobs: Knobs, size: int = 256, n_slices: int = 7
) -> NDArray[np.int16]:
    """Draw one volume.

    Args:
        streams: the patient's random streams.
        severity: 0 healthy, 1 COVID-19, 2 severe COVID-19.
        knobs: strengths; at `disease_signal` 0 every lung looks healthy.
        size: rows and columns.
        n_slices: from the bases (first) to the tops of the lungs; more than the 6 that the
            released reconstruction needs.

    Returns:
        Hounsfield units, shape (n_slices, size, size).

    Raises:
        ValueError: if the severity is unknown.
    """
    if severity not in (0, 1, 2):
        raise ValueError(f"severity 0, 1 or 2, not {severity!r}")
    trunk = _draw_trunk(streams("anatomy"), knobs)
    patches = _draw_patches(streams("covid"), severity, knobs.disease_signal, trunk)
    has_lead = shows_confounder(streams("image"), severity > 0, knobs.confounder_strength)
    heights = np.linspace(-1, 1, n_slices + 2)[1:-1]
    slices = [
        _slice(streams, number, float(height), trunk, patches, has_lead, knobs, size)
        for number, height in enumerate(heights)
    ]
    return np.stack(slices)


def _draw_trunk(rng: Rng, knobs: Knobs) -> Trunk:
    size = math.exp(rng.normal(0, 0.05))
    half_depth = 0.56 * size * math.exp(rng.normal(0, 0.04))
    return Trunk(
        half_width=0.80 * size,
        half_depth=half_depth,
        fat=0.045 + abs(rng.normal(0, 0.025)),
        lung_width=0.265 * size * math.exp(rng.normal(0, 0.02)),
        lung_depth=0.69 * half_depth * math.exp(rng.normal(0, 0.02)),
        heart=0.235 * math.exp(rng.normal(0, 0.06)),
        lung_hu=LUNG_HU + rng.normal(0, 12),
    )


def _draw_patches(rng: Rng, severity: int, signal: float, trunk: Trunk) -> list[Patch]:
    """Place opacities along the outer and back wall of both lungs."""
    count = round(min(signal, 1.5) * int(rng.integers(*((0, 1), (9, 16), (22, 36))[severity])))
    patches = []
    for number in range(count):
        side = -1 if number % 2 else 1
        # 0 points outwards, pi / 2 to the back.
        angle = float(np.clip(rng.normal(0.9, 0.7), -0.9, 2.2))
        share = rng.uniform(0.72, 1.0)
        x = side * (0.40 + share * trunk.lung_width * math.cos(angle))
        y = 0.02 + share * trunk.lung_depth * math.sin(angle)
        height = float(np.clip(rng.normal(-0.1, 0.45), -0.9, 0.9))
        radius = rng.uniform(0.07, 0.15) * (1.35 if severity == 2 else 1.0)
        solid = rng.random() < (0.45 if severity == 2 else 0.12)
        gain = (520.0 if solid else rng.uniform(260, 400)) * min(signal, 1.5)
        patches.append(Patch(x, y, height, radius, gain))
    return patches


def _slice(
    streams: Streams,
    number: int,
    height: float,
    trunk: Trunk,
    patches: list[Patch],
    has_lead: bool,
    knobs: Knobs,
    size: int,
) -> NDArray[np.int16]:
    """Return one axial slice."""
    grid = square_grid(size)
    rng = streams("slice", str(number))
    soft = 0.012 * (1 + 4 * knobs.contour_ambiguity)
    body = inside(ellipse_distance(grid, (0, 0.04), (trunk.half_width, trunk.half_depth)), soft)
    shell = (trunk.half_width - trunk.fat, trunk.half_depth - trunk.fat)
    muscle = inside(ellipse_distance(grid, (0, 0.04), shell), soft)
    hounsfield = np.full_like(grid.x, AIR_HU)
    hounsfield += body * (FAT_HU - AIR_HU) + muscle * (MUSCLE_HU - FAT_HU)
    hounsfield += 14 * fractal_noise(rng, size, 18, 2) * muscle
    lungs = _lungs(grid, trunk, height, soft)
    air = trunk.lung_hu + 70 * clamp(grid.y + 0.1, -0.5, 0.6)  # lying: denser at the back
    air += 16 * fractal_noise(rng, size, 26, 2)
    inner = air + _vessels(streams("vessels", str(number)), grid, lungs)
    inner += _opacities(streams("covid", str(number)), grid, patches, height)
    hounsfield += lungs * (clamp(inner, -990, 60) - hounsfield)
    hounsfield = _mediastinum(hounsfield, grid, trunk, height, soft)
    hounsfield = _bones(hounsfield, grid, trunk, height)
    hounsfield = _table(hounsfield, grid, has_lead, knobs.artefact_level, rng)
    sharp = blur(hounsfield, 0.0035 * (1 + 1.5 * knobs.domain_shift))
    noise = rng.standard_normal(sharp.shape, dtype=np.float32)
    sharp = sharp + np.float32(18 * (1 + 1.5 * knobs.domain_shift)) * blur(noise, 0.004) * 2
    sharp[np.hypot(grid.x, grid.y) > 1.0] = OUTSIDE_HU
    return np.rint(sharp).astype(np.int16)


def _box(grid: Grid, centre: tuple[float, float], reach: float) -> tuple[slice, slice]:
    """Return the rows and columns within `reach` of `centre`: small organs need no whole slice."""
    half = grid.size / 2

    def part(middle: float) -> slice:
        low, high = (math.floor((middle + end * reach + 1) * half) for end in (-1, 1))
        return slice(max(0, low), max(0, high + 1))

    return part(centre[1]), part(centre[0])


def _lungs(grid: Grid, trunk: Trunk, height: float, soft: float) -> Field:
    """Return both lungs: widest in the lower middle, narrow at the top."""
    scale = math.sqrt(max(0.06, 1 - 0.75 * max(height, 0) ** 2 - 0.35 * min(height, 0) ** 2))
    both = np.zeros_like(grid.x)
    for side in (-1, 1):
        centre = (side * 0.40, 0.02)
        radii = (trunk.lung_width * scale, trunk.lung_depth * scale)
        lung = inside(ellipse_distance(grid, centre, radii, side * 0.10), soft)
        # The inner wall is hollowed by the mediastinum, the back one by the spine.
        spine = inside(ellipse_distance(grid, (0, 0.36), (0.20, 0.17)), 2 * soft)
        both = np.maximum(both, lung * (1 - spine))
    if height < -0.55:  # the domes of the diaphragm: liver on one side, spleen on the other
        dome = -0.55 - height
        for side, size in ((-1, 1.25), (1, 0.95)):
            radii = (0.9 * dome**0.5 * trunk.lung_width * size, dome**0.5 * trunk.lung_depth * size)
            both *= 1 - inside(ellipse_distance(grid, (side * 0.38, -0.05), radii), 2 * soft)
    return both


def _opacities(rng: Rng, grid: Grid, patches: list[Patch], height: float) -> Field:
    """Return what ground glass and consolidation add, with the net of thickened septa in it."""
    added = np.zeros_like(grid.x)
    for patch in patches:
        # Heights run over the whole stack, which is about as long as a lung is deep.
        away = (height - patch.height) * 0.6
        if abs(away) < 2 * patch.radius:
            fade = math.exp(-0.5 * (away / patch.radius) ** 2)
            box = _box(grid, (patch.x, patch.y), 3 * patch.radius)
            here = Grid(grid.x[box], grid.y[box])
            spot = blob(here, (patch.x, patch.y), (patch.radius, 0.8 * patch.radius))
            gain = np.float32(fade * patch.hounsfield) * clamp(1.6 * spot, 0, 1)
            added[box] = np.maximum(added[box], gain)
    if not added.any():
        return added
    ragged = clamp(1 + 0.55 * fractal_noise(rng, grid.size, 12, 3), 0.15, 1.6)
    net = clamp(1 - 2.2 * np.abs(fractal_noise(rng, grid.size, 30, 1)), 0, 1)
    return added * (ragged + 0.28 * net)


def _vessels(rng: Rng, grid: Grid, lungs: Field) -> Field:
    """Return the lung vessels that lie in or cross the slice, thinner towards the wall."""
    lines = []
    for side in (-1.0, 1.0):
        count = 26
        angle = rng.uniform(-1.5, 1.6, count)
        start = rng.uniform(0.02, 0.22, count)
        length = rng.uniform(0.05, 0.14, count)
        x = side * (0.20 + start * np.cos(angle))
        y = 0.02 + 1.25 * start * np.sin(angle)
        to_x = x + side * length * np.cos(angle + rng.normal(0, 0.3, count))
        to_y = y + length * np.sin(angle + rng.normal(0, 0.3, count))
        width = np.clip(0.020 - 0.070 * start, 0.006, None)
        lines.append(np.column_stack([x, y, to_x, to_y, width, np.full(count, 0.7)]))
        dots = 60  # cut across
        away = np.sqrt(rng.uniform(0.0, 1.0, dots))
        turn = rng.uniform(0, 2 * math.pi, dots)
        x, y = side * 0.40 + 0.22 * away * np.cos(turn), 0.02 + 0.34 * away * np.sin(turn)
        width = rng.uniform(0.007, 0.016, dots)
        lines.append(np.column_stack([x, y, x + 0.004, y, width, np.full(dots, 0.7)]))
    drawn: Field = 760 * blur(draw_lines(np.concatenate(lines), grid.size), 0.004) * lungs
    return drawn


def _mediastinum(hounsfield: Field, grid: Grid, trunk: Trunk, height: float, soft: float) -> Field:
    """Add heart or great vessels, aorta, windpipe and gullet between the lungs."""

    def put(centre: tuple[float, float], radii: tuple[float, float], value: float) -> None:
        box = _box(grid, centre, max(radii) + 2 * soft)
        here = Grid(grid.x[box], grid.y[box])
        organ = inside(ellipse_distance(here, centre, radii, 0.35), soft)
        hounsfield[box] += organ * (np.float32(value) - hounsfield[box])

    width = trunk.heart
    put((0.0, -0.10), (0.19, 0.32), FAT_HU + 40)
    if height < 0.15:  # the heart leans to the patient's left, the right side of the picture
        reach = math.sqrt(max(0.1, 1 - ((height + 0.35) / 0.75) ** 2))
        put((0.10, -0.16), (1.45 * width * reach, 1.0 * width * reach), MUSCLE_HU)
        put((0.03, -0.18), (0.55 * width * reach, 0.60 * width * reach), BLOOD_HU)
        put((0.20, -0.10), (0.52 * width * reach, 0.40 * width * reach), BLOOD_HU + 20)
    else:
        put((-0.07, -0.22), (0.075, 0.075), BLOOD_HU)  # ascending aorta
        put((0.06, -0.20), (0.085, 0.060), BLOOD_HU)  # lung artery
        put((-0.11, -0.08), (0.045, 0.050), BLOOD_HU - 30)  # vena cava
    put((0.085, 0.22), (0.062, 0.062), BLOOD_HU)  # descending aorta
    put((0.03, 0.13), (0.028, 0.022), MUSCLE_HU)
    if height > -0.1:
        put((0.0, 0.04), (0.045, 0.042), AIR_HU)
    return hounsfield


def _bones(hounsfield: Field, grid: Grid, trunk: Trunk, height: float) -> Field:
    """Add spine, breastbone, ribs and, at the top, shoulder blades."""
    pieces = [((0.0, 0.38), (0.115, 0.095), 0.0), ((0.0, 0.535), (0.022, 0.065), 0.0)]
    pieces += [((side * 0.085, 0.485), (0.075, 0.025), side * 0.5) for side in (-1, 1)]
    pieces.append(((0.0, 0.055 - trunk.half_depth + trunk.fat), (0.085, 0.026), 0.0))
    for rib in range(7):
        for side in (-1, 1):
            turn = -1.25 + 0.42 * rib + 0.20 * math.sin(9 * height + 1.7 * rib)
            x = side * (trunk.half_width - trunk.fat - 0.055) * math.cos(turn)
            y = 0.04 + (trunk.half_depth - trunk.fat - 0.045) * math.sin(turn)
            along = math.atan2(0.62 * math.cos(turn), -side * math.sin(turn))
            pieces.append(((x, y), (0.075, 0.018), along))
    if height > 0.2:
        pieces += [((side * 0.56, 0.42), (0.16, 0.016), side * -0.75) for side in (-1, 1)]
    for centre, radii, angle in pieces:
        box = _box(grid, centre, max(radii) + 0.03)
        distance = ellipse_distance(Grid(grid.x[box], grid.y[box]), centre, radii, angle)
        bone, rim = inside(distance, 0.012), np.exp(-(((distance - 0.006) / 0.010) ** 2))
        value = MARROW_HU + (CORTEX_HU - MARROW_HU) * rim
        hounsfield[box] += bone * (value - hounsfield[box])
    return hounsfield


def _table(hounsfield: Field, grid: Grid, has_lead: bool, level: float, rng: Rng) -> Field:
    """Add the scanner's table, and a lead on the chest as a mark without meaning."""
    arc = grid.y - (0.74 - 0.10 * grid.x * grid.x)
    shell = np.exp(-((arc / 0.012) ** 2)) * inside(0.75 - np.abs(grid.x), 0.02)
    hounsfield = np.maximum(hounsfield, AIR_HU + 820 * shell)
    if has_lead:
        lead = inside(ellipse_distance(grid, (-0.36, -0.50), (0.030, 0.018)), 0.01)
        hounsfield = hounsfield + lead * (2400 - hounsfield)
    if level > 0:  # streaks between dense bones
        wave = np.cos(38 * (grid.x * math.sin(0.3) + grid.y) + rng.uniform(0, 6.3))
        hounsfield = hounsfield + 30 * level * wave * blob(grid, (0, 0.38), (0.6, 0.12))
    return hounsfield
