"""From attenuation to a film: devices, markers, blur, noise, tone curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from workflow_scripts.phantoms.fields import (
    Field,
    blur,
    clamp,
    draw_lines,
    ellipse_distance,
    smooth_noise,
    square_grid,
)
from workflow_scripts.phantoms.knobs import Knobs, shows_confounder


def expose(
    picture: Field, rng: np.random.Generator, view: str, is_ill: bool, knobs: Knobs
) -> NDArray[np.uint8]:
    """Return the film of a map of attenuation.

    Args:
        picture: shape (S, S), 0 for air outside the body, 1 for the densest organ.
        rng: the image's own stream.
        view: `PA` or `AP`.
        is_ill: whether there is a finding that the confounder goes with.
        knobs: strengths.

    Returns:
        Gray levels, shape (S, S).
    """
    size = len(picture)
    shift = knobs.domain_shift
    low, high = rng.normal(0.12, 0.02), rng.normal(0.98, 0.025) - 0.06 * shift
    gamma = float(np.exp(rng.normal(0.0, 0.07))) * (1 + 0.55 * shift)
    picture = picture + 0.30 * _devices(rng, size, knobs.artefact_level)
    picture = blur(picture, 0.0025 * (1 + 1.2 * shift))
    grain = smooth_noise(rng, size, 200) + 0.6 * rng.standard_normal((size, size), dtype=np.float32)
    # Fewer photons arrive behind dense tissue, so it is noisier.
    sigma = np.float32(0.008 * (1 + 1.2 * shift)) * (0.5 + picture)
    value = clamp((picture + sigma * grain - low) / (high - low), 0, 1) ** np.float32(gamma)
    value = value + 0.16 * (value * value * (3 - 2 * value) - value)
    levels = clamp(255 * (0.02 + 0.93 * value), 0, 255)
    film = Image.fromarray(levels.astype(np.uint8))
    _mark(film, rng, view, shows_confounder(rng, is_ill, knobs.confounder_strength), shift)
    return np.asarray(film)


def _devices(rng: np.random.Generator, size: int, level: float) -> Field:
    """Return leads with electrodes, and tubes; on average `level` of each kind twice."""
    grid = square_grid(size)
    field = np.zeros((size, size), dtype=np.float32)
    lines = [np.empty((0, 6))]
    for _ in range(int(rng.poisson(1.2 * level))):
        x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.55, 0.3)
        disc = clamp(ellipse_distance(grid, (x, y), (0.032, 0.032)) * 120, 0, 1)
        field = np.maximum(field, 0.75 * disc)
        end = (float(rng.choice([-1.05, 1.05])), y - rng.uniform(0.1, 0.6))
        lines.append(_cable(rng, (x, y), end, 0.010))
    for _ in range(int(rng.poisson(0.8 * level))):
        end = (rng.normal(0.03, 0.05), rng.uniform(-0.45, 0.25))
        lines.append(_cable(rng, end, (rng.normal(0.0, 0.25), -1.05), 0.018))
    return np.maximum(field, draw_lines(np.concatenate(lines), size))


def _cable(
    rng: np.random.Generator, start: tuple[float, float], end: tuple[float, float], width: float
) -> NDArray[np.float64]:
    """Return a smooth bent line as short strokes, shape (24, 6); see `draw_lines`."""
    share = np.linspace(0, 1, 25)
    bend = rng.normal(0, 0.12, 2)
    x = start[0] + (end[0] - start[0]) * share + bend[0] * np.sin(np.pi * share)
    y = start[1] + (end[1] - start[1]) * share + bend[1] * np.sin(np.pi * share)
    look = np.broadcast_to([width, 0.55], (24, 2))
    return np.column_stack([x[:-1], y[:-1], x[1:], y[1:], look])


def _mark(
    film: Image.Image, rng: np.random.Generator, view: str, is_portable: bool, shift: float
) -> None:
    """Write the side letter, as hospitals differ in, and the confounding `PORTABLE`."""
    size = film.width
    pen = ImageDraw.Draw(film)
    x, y = (1.60 + rng.normal(0, 0.08)) / 2, (0.14 + abs(rng.normal(0, 0.06))) / 2
    height = max(6, round(size * (0.045 + 0.02 * min(shift, 1.0))))
    letters = "L" if shift < 0.5 else f"L {view}"
    font = ImageFont.load_default(height)
    pen.text((x * size, y * size), letters, fill=int(rng.integers(215, 250)), font=font)
    if is_portable:
        small = ImageFont.load_default(max(6, round(size * 0.034)))
        pen.text((0.035 * size, 0.05 * size), "PORTABLE", fill=235, font=small)
