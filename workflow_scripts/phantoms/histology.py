"""Microscope fields of synthetic breast tissue, stained with haematoxylin and eosin.

The four classes differ in what a pathologist looks at: the glands' shape, the cells within them,
and the nuclei's density, size and variety.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workflow_scripts.phantoms.fields import (
    Field,
    Grid,
    blur,
    clamp,
    fractal_noise,
    inside,
    smooth_noise,
    square_grid,
)
from workflow_scripts.phantoms.knobs import Knobs, Streams, shows_confounder

Rng = np.random.Generator

# Optical density per channel of the two stains (Ruifrok and Johnston 2001, rows normalised).
HAEMATOXYLIN: Final = (0.650, 0.704, 0.286)
EOSIN: Final = (0.105, 0.930, 0.350)


@dataclass(frozen=True, slots=True)
class Tissue:
    """What a class looks like at `disease_signal` 1; lengths in half image sides.

    Attributes:
        n_glands: ducts and lobules in the field.
        gland_radius: mean.
        irregularity: of the glands' outline; 0 is round.
        lumen: share of the gland's radius that is empty; 0 is a solid nest.
        layers: rows of nuclei between lumen and outline.
        nucleus_radius: mean.
        pleomorphism: spread of nuclear size and shape.
        stroma_cells: nuclei scattered between the glands.
        invading: share of those that are tumour cells, in cords and clusters.
        darkness: of tumour nuclei.
    """

    n_glands: int
    gland_radius: float
    irregularity: float
    lumen: float
    layers: int
    nucleus_radius: float
    pleomorphism: float
    stroma_cells: int
    invading: float
    darkness: float


CLASSES: Final[dict[str, Tissue]] = {
    "Normal": Tissue(5, 0.22, 0.05, 0.62, 1, 0.018, 0.10, 130, 0.0, 0.85),
    "Benign": Tissue(9, 0.25, 0.22, 0.50, 2, 0.019, 0.16, 200, 0.0, 0.90),
    "InSitu": Tissue(4, 0.42, 0.07, 0.14, 7, 0.025, 0.24, 150, 0.0, 1.0),
    "Invasive": Tissue(3, 0.13, 0.40, 0.15, 2, 0.025, 0.34, 800, 0.80, 1.05),
}


# One row a nucleus: x, y, radius, elongation, direction (radians), depth of its stain.
Nuclei = NDArray[np.float64]


class Gland(NamedTuple):
    """A duct or lobule: centre, mean radius, and the waves of its outline (height, phase)."""

    x: float
    y: float
    radius: float
    waves: tuple[tuple[float, float], ...]


def render_histology(
    streams: Streams, image_id: str, label: str, knobs: Knobs, size: int = 256
) -> NDArray[np.uint8]:
    """Draw one microscope field.

    Args:
        streams: the patient's random streams; `streams("image", image_id)` is the image's own.
        image_id: names the image.
        label: one of `CLASSES`.
        knobs: strengths; at `disease_signal` 0 every class looks normal.
        size: pixels along a side.

    Returns:
        RGB, shape (size, size, 3).

    Raises:
        ValueError: if `label` is unknown.
    """
    if label not in CLASSES:
        raise ValueError(f"no such class: {label!r}; choose one of {', '.join(CLASSES)}")
    rng = streams("image", image_id)
    tissue = _toned_down(CLASSES[label], knobs.disease_signal)
    glands = _place_glands(rng, tissue)
    grid = square_grid(size)
    softness = 0.012 * (1 + 4 * knobs.contour_ambiguity)
    stained = [_gland_fields(grid, gland, tissue, softness) for gland in glands]
    of_glands = [_gland_nuclei(rng, gland, tissue) for gland in glands]
    nuclei = np.concatenate([*of_glands, _stroma_nuclei(rng, glands, tissue)])
    chromatin = _draw_nuclei(rng, nuclei, size, 0.003 * (1 + 2 * knobs.contour_ambiguity))
    picture = _stain(rng, grid, stained, chromatin, streams("stain"), knobs)
    return _on_slide(rng, picture, label != "Normal", knobs)


def _toned_down(tissue: Tissue, signal: float) -> Tissue:
    """Return the tissue between the normal one (signal 0) and itself (1), or beyond."""
    normal = CLASSES["Normal"]

    def mix(name: str) -> float:
        start, end = getattr(normal, name), getattr(tissue, name)
        return float(start + signal * (end - start))

    return Tissue(
        n_glands=round(mix("n_glands")),
        gland_radius=max(0.06, mix("gland_radius")),
        irregularity=mix("irregularity"),
        lumen=float(np.clip(mix("lumen"), 0, 0.8)),
        layers=max(1, round(mix("layers"))),
        nucleus_radius=mix("nucleus_radius"),
        pleomorphism=max(0.0, mix("pleomorphism")),
        stroma_cells=max(0, round(mix("stroma_cells"))),
        invading=float(np.clip(mix("invading"), 0, 1)),
        darkness=mix("darkness"),
    )


def _place_glands(rng: Rng, tissue: Tissue) -> list[Gland]:
    """Place glands that keep some distance; fewer where there is no room."""
    glands: list[Gland] = []
    for _ in range(40 * tissue.n_glands):
        if len(glands) == tissue.n_glands:
            break
        x, y = rng.uniform(-1.05, 1.05, 2).tolist()
        radius = tissue.gland_radius * rng.uniform(0.75, 1.3)
        waves = tuple(
            (tissue.irregularity * rng.normal() / math.sqrt(wave), rng.uniform(0, 2 * math.pi))
            for wave in (2, 3, 4, 5)
        )
        if all(math.hypot(x - o.x, y - o.y) > 1.08 * (radius + o.radius) for o in glands):
            glands.append(Gland(x, y, radius, waves))
    return glands


def _outline(gland: Gland, angle: Field) -> Field:
    """Return the gland's radius in each direction."""
    radius = np.ones_like(angle)
    for wave, (height, phase) in enumerate(gland.waves, start=2):
        radius += height * np.cos(wave * angle + phase)
    return gland.radius * clamp(radius, 0.35, 1.9)


def _gland_fields(grid: Grid, gland: Gland, tissue: Tissue, softness: float) -> tuple[Field, Field]:
    """Return where the gland's cells are and where its lumen is."""
    dx, dy = grid.x - gland.x, grid.y - gland.y
    distance = np.hypot(dx, dy)
    edge = _outline(gland, np.arctan2(dy, dx))
    whole = inside(edge - distance, softness)
    lumen = inside(tissue.lumen * edge - distance, softness)
    return whole, lumen


def _gland_nuclei(rng: Rng, gland: Gland, tissue: Tissue) -> Nuclei:
    """Line the gland with `layers` rows of nuclei, pointing to its middle."""
    rows = []
    for layer in range(tissue.layers):
        # A single row of cells stands at the outer border, several fill the wall evenly.
        depth = (layer + 0.5) / tissue.layers if tissue.layers > 1 else 0.45
        share = 1 - depth * (1 - tissue.lumen)
        around = 2 * math.pi * gland.radius * share
        n_nuclei = max(3, round(around / (2.7 * tissue.nucleus_radius)))
        start = rng.uniform(0, 2 * math.pi)
        direction = start + 2 * math.pi * np.arange(n_nuclei) / n_nuclei
        direction += rng.normal(0, 0.04 + 0.07 * tissue.pleomorphism, n_nuclei)
        distance = _outline(gland, direction) * share
        distance = distance + rng.normal(0, 0.35 * tissue.nucleus_radius, n_nuclei)
        x = gland.x + distance * np.cos(direction)
        y = gland.y + distance * np.sin(direction)
        rows.append(_nuclei(rng, x, y, direction, tissue))
    return np.concatenate(rows)


def _nuclei(rng: Rng, x: Field, y: Field, direction: Field, tissue: Tissue) -> Nuclei:
    """Return nuclei of the tissue's size, variety and stain at the places (x, y)."""
    n_nuclei, spread = len(x), tissue.pleomorphism
    radius = tissue.nucleus_radius * np.exp(rng.normal(0, spread, n_nuclei))
    elongation = 1.25 + np.abs(rng.normal(0, 0.25 + 0.6 * spread, n_nuclei))
    turned = direction + rng.normal(0, 0.2 + spread, n_nuclei)
    stain = tissue.darkness * rng.uniform(0.75, 1.1, n_nuclei)
    return np.column_stack([x, y, radius, elongation, turned, stain])


def _stroma_nuclei(rng: Rng, glands: list[Gland], tissue: Tissue) -> Nuclei:
    """Scatter spindle cells between the glands, and tumour cells in cords where they invade."""
    n_tumour = round(tissue.stroma_cells * tissue.invading)
    n_spindles = tissue.stroma_cells - n_tumour
    x, y = rng.uniform(-1.05, 1.05, (2, n_spindles))
    angle = rng.uniform(0, math.pi) + 0.7 * np.sin(2.1 * x + 1.7 * y)
    angle += rng.normal(0, 0.25, n_spindles)
    thin, long = np.full(n_spindles, 0.011), rng.uniform(2.6, 3.6, n_spindles)
    spindles = np.column_stack([x, y, thin, long, angle, np.full(n_spindles, 0.75)])
    places = np.array(_cords(rng, n_tumour, tissue.nucleus_radius)).reshape(-1, 2)
    turned = rng.uniform(0, math.pi, n_tumour)
    nuclei = np.concatenate([spindles, _nuclei(rng, places[:, 0], places[:, 1], turned, tissue)])
    free = np.ones(len(nuclei), dtype=bool)
    for gland in glands:
        away = np.hypot(nuclei[:, 0] - gland.x, nuclei[:, 1] - gland.y)
        free &= away >= 1.05 * gland.radius
    return nuclei[free]


def _cords(rng: Rng, n_cells: int, radius: float) -> list[tuple[float, float]]:
    """Return the places of cells that grow in winding rows and small heaps."""
    places: list[tuple[float, float]] = []
    while len(places) < n_cells:
        x, y = rng.uniform(-1.1, 1.1, 2).tolist()
        angle, width = rng.uniform(0, 2 * math.pi), int(rng.integers(1, 4))
        for _ in range(int(rng.integers(6, 26))):
            angle += rng.normal(0, 0.28)
            x, y = x + 2.7 * radius * math.cos(angle), y + 2.7 * radius * math.sin(angle)
            for row in range(width):
                aside = 2.7 * radius * (row - (width - 1) / 2)
                jitter = rng.normal(0, 0.35 * radius, 2)
                places.append(
                    (
                        float(x - aside * math.sin(angle) + jitter[0]),
                        float(y + aside * math.cos(angle) + jitter[1]),
                    )
                )
    return places[:n_cells]


def _draw_nuclei(rng: Rng, nuclei: Nuclei, size: int, softness: float) -> Field:
    """Return the depth of the nuclear stain: darker rims, mottled chromatin."""
    x, y, radius, elongation, direction, stain = nuclei.T[:, :, None]
    turn = np.linspace(0, 2 * math.pi, 13)[:-1]
    along = radius * np.sqrt(elongation) * np.cos(turn)
    across = radius / np.sqrt(elongation) * np.sin(turn)
    corner_x = x + along * np.cos(direction) - across * np.sin(direction)
    corner_y = y + along * np.sin(direction) + across * np.cos(direction)
    corners = ((np.stack([corner_x, corner_y], axis=-1) + 1) * size).reshape(len(nuclei), -1)
    levels = np.rint(170 * np.minimum(stain[:, 0], 1.45)).astype(int).tolist()
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    for corner, level in zip(corners.tolist(), levels, strict=True):
        pen.polygon(corner, fill=round(0.82 * level), outline=level)
    drawn = np.asarray(canvas.resize((size, size), Image.Resampling.BOX)).astype(np.float32) / 170
    mottle = 1 + 0.22 * fractal_noise(rng, size, 60, 2)
    return blur(drawn, softness) * clamp(mottle, 0.5, 1.6)


def _stain(
    rng: Rng,
    grid: Grid,
    glands: list[tuple[Field, Field]],
    chromatin: Field,
    batch: Rng,
    knobs: Knobs,
) -> Field:
    """Return the transmitted light, RGB in [0, 1], of tissue with two stains (Beer-Lambert)."""
    size = grid.size
    cells, lumens = np.zeros_like(grid.x), np.zeros_like(grid.x)
    for whole, lumen in glands:
        cells, lumens = np.maximum(cells, whole), np.maximum(lumens, lumen)
    # Tumour cells outside glands lie in their own pale cytoplasm, never in a gap.
    crowd = clamp(5 * blur(chromatin, 0.028) - 0.9, 0, 1)
    cells = np.maximum(cells, crowd * (1 - lumens))
    fibres = fractal_noise(rng, size, 9, 3)
    # Ridges of warped noise look like bundles of collagen with gaps between them.
    wave = np.sin(7 * (grid.x * math.cos(1.1) + grid.y * math.sin(1.1)) + 2.2 * fibres)
    stroma = 0.36 + 0.06 * fibres + 0.09 * wave
    gaps = clamp(2.2 * smooth_noise(rng, size, 6) - 2.6, 0, 1)
    eosin = stroma * (1 - gaps) * (1 - cells) + (0.30 + 0.04 * fibres) * cells
    eosin *= 1 - 0.97 * lumens
    haematoxylin = 0.95 * chromatin * (1 - 0.9 * lumens) + 0.20 * cells * (1 - lumens) + 0.03
    shift = knobs.domain_shift
    strength = np.exp(batch.normal(0, 0.06 * (1 + shift), 2)) * (1 - 0.25 * shift, 1 + 0.35 * shift)
    density = np.stack(
        [
            float(strength[0]) * haematoxylin * blue
            + float(strength[1]) * clamp(eosin, 0, 2) * pink
            for blue, pink in zip(HAEMATOXYLIN, EOSIN, strict=True)
        ],
        axis=-1,
    )
    return np.exp(-1.55 * density)


def _on_slide(rng: Rng, light: Field, is_ill: bool, knobs: Knobs) -> NDArray[np.uint8]:
    """Add what the slide and the camera add: uneven light, folds, dust, ink, noise."""
    size = len(light)
    grid = square_grid(size)
    level = knobs.artefact_level
    tilt = rng.normal(0, 0.04 * (0.5 + level), 2)
    light = light * (0.955 + float(tilt[0]) * grid.x + float(tilt[1]) * grid.y)[..., None]
    for _ in range(int(rng.poisson(0.5 * level))):
        angle, place = rng.uniform(0, math.pi), rng.uniform(-0.7, 0.7)
        across = grid.x * math.cos(angle) + grid.y * math.sin(angle) - place
        across = across + 0.06 * fractal_noise(rng, size, 4, 2)
        fold = inside(rng.uniform(0.02, 0.06) - np.abs(across), 0.012)
        light = light * (1 - 0.45 * fold)[..., None]
    if shows_confounder(rng, is_ill, knobs.confounder_strength):
        light = _with_ink(rng, light, grid)
    blurred = np.stack(
        [blur(light[..., channel], 0.0025 * (1 + knobs.domain_shift)) for channel in range(3)], -1
    )
    sigma = 0.012 * (1 + 1.5 * knobs.domain_shift)
    noise = rng.standard_normal(blurred.shape, dtype=np.float32)
    return clamp(255 * (blurred + sigma * noise), 0, 255).astype(np.uint8)


def _with_ink(rng: Rng, light: Field, grid: Grid) -> Field:
    """Cover one corner with a stroke of green pen, as slides are marked for the scanner."""
    corner_x, corner_y = (float(value) for value in rng.choice([-1.0, 1.0], 2))
    reach = rng.uniform(0.14, 0.20)
    distance = (2 - corner_x * grid.x - corner_y * grid.y) * 0.707
    ink = inside(reach - distance + 0.03 * fractal_noise(rng, grid.size, 5, 2), 0.02)
    colour = np.array([0.12, 0.45, 0.28], dtype=np.float32)
    return light * (1 - ink[..., None] * (1 - colour))
