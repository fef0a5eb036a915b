"""What lies around the heart in a short-axis view: chest wall, lungs, liver, spine, aorta."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workflow_scripts.phantoms.fields import Field, inside, smooth_noise

SOFT_MM = 1.8


class Signals(NamedTuple):
    """How bright each tissue is in a balanced steady-state image, 0 to about 1."""

    blood: float = 0.86
    myocardium: float = 0.30
    fat: float = 0.92
    muscle: float = 0.27
    liver: float = 0.40
    marrow: float = 0.50
    lung: float = 0.05


class Body(NamedTuple):
    """One patient's trunk; lengths in mm.

    Attributes:
        half: half width and half height of the trunk.
        fat: thickness of the fat below the skin.
        dome: centre (x, y) and half axes of the liver under the diaphragm.
        spine: centre of the vertebra.
        texture_seed: of the tissues' fine structure.
    """

    half: tuple[float, float]
    fat: float
    dome: tuple[float, float, float, float]
    spine: tuple[float, float]
    texture_seed: int


def draw_thorax(rng: np.random.Generator, heart: tuple[float, float], reach: float) -> Body:
    """Draw a trunk that fits around a heart of radius `reach` at `heart`."""
    spread = [float(value) for value in rng.normal(0, 1, 8)]
    half = (158 + 9 * spread[0], 112 + 7 * spread[1])
    dome = (
        heart[0] - 58 + 8 * spread[2],
        heart[1] + reach + 52 + 5 * spread[3],
        92 + 6 * spread[4],
        56 + 5 * spread[5],
    )
    spine = (heart[0] + 14 + 6 * spread[6], half[1] - 34)
    fat = 11 + 5 * abs(spread[7])
    return Body(half, fat, dome, spine, int(rng.integers(2**31)))


def thorax(body: Body, signals: Signals, x: Field, y: Field, n_slices: int) -> Field:
    """Return the trunk without the heart, shape (D, H, W), for mm coordinates (1, W) and (H, 1)."""
    size = len(y)
    rng = np.random.default_rng(body.texture_seed)
    coarse, fine = smooth_noise(rng, size, 9), smooth_noise(rng, size, 40)
    ripple = 3.0 * coarse
    skin = _ellipse(x, y, (0.0, 0.0), body.half)
    around = np.arctan2(y, x)
    wall = skin - body.fat - 0.25 * ripple
    cavity = wall - 17 - 4 * np.cos(14 * around)  # ribs and muscles between them
    picture = 0.01 * np.ones_like(skin)
    picture = _cover(picture, skin, signals.fat * (1 + 0.05 * fine))
    picture = _cover(picture, wall, signals.muscle * (1 + 0.22 * fine))
    rib = np.exp(-(((wall - 9) / 3.2) ** 2)) * np.clip(np.cos(14 * around) * 2, 0, 1)
    picture = picture + rib * (signals.marrow - picture)
    lung = signals.lung * (1 + 0.5 * np.clip(fine, 0, 2)) + 0.30 * np.clip(fine - 1.55, 0, 1)
    picture = _cover(picture, cavity, lung)
    middle = _ellipse(x, y, (body.spine[0] - 8, 8.0), (34.0, 84.0)) + ripple
    picture = _cover(picture, np.minimum(middle, cavity), signals.fat * 0.40 * (1 + 0.12 * coarse))
    stack = np.repeat(picture[None], n_slices, axis=0)
    steps = np.linspace(0, 1, n_slices, dtype=np.float32)[:, None, None]
    rise = 26 * steps  # the apex lies lower: the diaphragm comes up in the last slices
    dome = _ellipse(x, y + rise, body.dome[:2], body.dome[2:]) + 0.5 * ripple
    vessels = 0.5 * np.clip(smooth_noise(rng, size, 26) - 1.3, 0, 1)
    stack = _cover(stack, np.minimum(dome, cavity), signals.liver * (1 + 0.06 * fine) + vessels)
    stomach_at = (body.dome[0] + 118, body.dome[1] + 12)
    stomach = np.minimum(_ellipse(x, y + rise, stomach_at, (40.0, 34.0)) + 0.5 * ripple, cavity)
    stack = _cover(stack, stomach, signals.muscle * (1.2 + 0.3 * coarse))
    vertebra = _ellipse(x, y, body.spine, (20.0, 16.0))
    stack = _cover(stack, vertebra + 2.5, 0.12)
    stack = _cover(stack, vertebra, signals.marrow * (1 + 0.1 * fine))
    canal = _ellipse(x, y, (body.spine[0], body.spine[1] + 24), (9.0, 7.0))
    stack = _cover(stack, canal, 0.75)
    aorta = _ellipse(x, y, (body.spine[0] + 21, body.spine[1] - 19), (10.5, 10.5))
    return _cover(stack, aorta, signals.blood)


def _ellipse(x: Field, y: Field, centre: tuple[float, float], half: tuple[float, float]) -> Field:
    """Return the approximate distance in mm to an ellipse's border, positive inside."""
    across = np.hypot((x - np.float32(centre[0])) / half[0], (y - np.float32(centre[1])) / half[1])
    distance: Field = ((1 - across) * np.float32(min(half))).astype(np.float32)
    return distance


def _cover(below: Field, distance: Field, signal: float | Field) -> Field:
    share = inside(distance, SOFT_MM)
    return below + share * (signal - below)
