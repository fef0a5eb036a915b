"""Small coloured pictures of ten kinds of things, as stand-ins for natural images of 32 x 32.

Simple drawings: each class has its outline, its usual surroundings and free colours, so that
neither colour nor place alone tells the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workflow_scripts.phantoms.knobs import Knobs, Streams

Rng = np.random.Generator
Colour = tuple[int, int, int]
Pen = ImageDraw.ImageDraw

SCALE: Final = 8  # drawn larger, then shrunk: soft edges
UNIT: Final = 32 * SCALE  # pixels of the drawing
SKIES: Final = ((120, 170, 225), (170, 190, 215), (215, 225, 235), (90, 130, 190))
GRASS: Final = ((70, 120, 55), (115, 140, 70), (150, 135, 85), (60, 95, 60))
ROADS: Final = ((110, 110, 112), (150, 148, 140), (85, 88, 95))
WATERS: Final = ((40, 80, 120), (60, 110, 140), (95, 135, 150))
ROOMS: Final = ((170, 145, 120), (125, 120, 130), (190, 180, 165), (95, 75, 65))
FURS: Final = ((185, 130, 75), (90, 70, 60), (215, 205, 190), (60, 58, 60), (150, 140, 130))


def _box(pen: Pen, x: float, y: float, to_x: float, to_y: float, fill: Colour) -> None:
    pen.rectangle([x * UNIT, y * UNIT, to_x * UNIT, to_y * UNIT], fill=fill)


def _oval(pen: Pen, x: float, y: float, across: float, along: float, fill: Colour) -> None:
    box = [(x - across) * UNIT, (y - along) * UNIT, (x + across) * UNIT, (y + along) * UNIT]
    pen.ellipse(box, fill=fill)


def _shape(pen: Pen, corners: list[tuple[float, float]], fill: Colour) -> None:
    pen.polygon([(x * UNIT, y * UNIT) for x, y in corners], fill=fill)


def _any(rng: Rng) -> Colour:
    return tuple(int(c) for c in rng.integers(30, 235, 3))  # type: ignore[return-value]


def _of(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _airplane(pen: Pen, rng: Rng) -> None:
    body = _of(rng, ((235, 235, 240), (190, 195, 205), (120, 130, 145)))
    _oval(pen, 0.50, 0.50, 0.38, 0.065, body)
    _shape(pen, [(0.42, 0.50), (0.60, 0.50), (0.38, 0.80), (0.28, 0.80)], _darker(body))
    _shape(pen, [(0.46, 0.48), (0.58, 0.48), (0.44, 0.26), (0.36, 0.26)], _darker(body))
    _shape(pen, [(0.13, 0.48), (0.25, 0.48), (0.15, 0.28), (0.08, 0.28)], _any(rng))


def _automobile(pen: Pen, rng: Rng) -> None:
    paint = _any(rng)
    _shape(pen, [(0.26, 0.50), (0.36, 0.34), (0.66, 0.34), (0.78, 0.50)], paint)
    _shape(pen, [(0.31, 0.49), (0.38, 0.38), (0.64, 0.38), (0.71, 0.49)], (150, 190, 210))
    _box(pen, 0.12, 0.48, 0.90, 0.66, paint)
    for x in (0.28, 0.74):
        _oval(pen, x, 0.67, 0.085, 0.085, (25, 25, 28))
        _oval(pen, x, 0.67, 0.040, 0.040, (170, 170, 175))


def _bird(pen: Pen, rng: Rng) -> None:
    feathers = _any(rng)
    _oval(pen, 0.48, 0.55, 0.22, 0.15, feathers)
    _oval(pen, 0.69, 0.38, 0.10, 0.10, feathers)
    _shape(pen, [(0.78, 0.36), (0.90, 0.40), (0.78, 0.43)], (230, 170, 50))
    _shape(pen, [(0.32, 0.52), (0.60, 0.50), (0.36, 0.78)], _darker(feathers))
    _shape(pen, [(0.30, 0.54), (0.10, 0.66), (0.14, 0.54)], _darker(feathers))
    for x in (0.46, 0.54):
        _box(pen, x, 0.68, x + 0.02, 0.86, (90, 70, 40))
    _oval(pen, 0.72, 0.36, 0.02, 0.02, (10, 10, 10))


def _cat(pen: Pen, rng: Rng) -> None:
    fur = _of(rng, FURS)
    _oval(pen, 0.50, 0.92, 0.28, 0.26, _darker(fur))
    for x, tip in ((0.33, 0.24), (0.67, 0.76)):
        _shape(pen, [(x - 0.10, 0.36), (tip, 0.12), (x + 0.10, 0.30)], fur)
    _oval(pen, 0.50, 0.46, 0.27, 0.23, fur)
    for x in (0.40, 0.60):
        _oval(pen, x, 0.42, 0.05, 0.045, (150, 190, 70))
        _oval(pen, x, 0.42, 0.015, 0.045, (10, 10, 10))
    _shape(pen, [(0.46, 0.52), (0.54, 0.52), (0.50, 0.57)], (200, 120, 120))


def _deer(pen: Pen, rng: Rng) -> None:
    coat = _of(rng, ((150, 100, 55), (120, 85, 55), (175, 130, 80)))
    _oval(pen, 0.42, 0.58, 0.24, 0.12, coat)
    _shape(pen, [(0.58, 0.56), (0.66, 0.30), (0.74, 0.32), (0.66, 0.62)], coat)
    _oval(pen, 0.75, 0.31, 0.095, 0.055, coat)
    for x in (0.24, 0.32, 0.54, 0.61):
        _box(pen, x, 0.64, x + 0.035, 0.92, _darker(coat))
    for lean in (-0.13, 0.08):
        horn = [(0.70, 0.27), (0.70 + lean, 0.12), (0.70 + lean * 1.9, 0.04)]
        pen.line([(x * UNIT, y * UNIT) for x, y in horn], fill=(85, 65, 40), width=UNIT // 36)
        twig = [(0.70 + lean, 0.12), (0.70 + lean * 0.3, 0.03)]
        pen.line([(x * UNIT, y * UNIT) for x, y in twig], fill=(85, 65, 40), width=UNIT // 40)


def _dog(pen: Pen, rng: Rng) -> None:
    fur = _of(rng, FURS)
    _oval(pen, 0.50, 0.95, 0.30, 0.26, _darker(fur))
    _oval(pen, 0.50, 0.44, 0.22, 0.24, fur)
    for x in (0.27, 0.73):
        _oval(pen, x, 0.46, 0.085, 0.22, _darker(fur))
    _oval(pen, 0.50, 0.58, 0.12, 0.12, tuple(min(255, c + 25) for c in fur))  # type: ignore[arg-type]
    _oval(pen, 0.50, 0.53, 0.05, 0.035, (20, 18, 18))
    for x in (0.42, 0.58):
        _oval(pen, x, 0.38, 0.03, 0.03, (30, 20, 15))
    _oval(pen, 0.50, 0.68, 0.035, 0.06, (205, 95, 105))


def _frog(pen: Pen, rng: Rng) -> None:
    skin = _of(rng, ((80, 140, 50), (110, 125, 45), (60, 105, 60), (135, 110, 60)))
    for x in (0.20, 0.80):
        _oval(pen, x, 0.72, 0.14, 0.10, _darker(skin))
    _oval(pen, 0.50, 0.60, 0.32, 0.22, skin)
    for x in (0.34, 0.66):
        _oval(pen, x, 0.38, 0.09, 0.09, skin)
        _oval(pen, x, 0.37, 0.05, 0.05, (225, 205, 90))
        _oval(pen, x, 0.37, 0.02, 0.035, (10, 10, 10))
    _box(pen, 0.30, 0.60, 0.70, 0.62, _darker(_darker(skin)))


def _horse(pen: Pen, rng: Rng) -> None:
    coat = _of(rng, ((95, 55, 35), (140, 85, 50), (55, 45, 42), (205, 195, 185)))
    _oval(pen, 0.45, 0.50, 0.27, 0.14, coat)
    _shape(pen, [(0.60, 0.48), (0.70, 0.18), (0.82, 0.22), (0.72, 0.56)], coat)
    _shape(pen, [(0.70, 0.16), (0.80, 0.14), (0.94, 0.34), (0.86, 0.38)], coat)
    _shape(pen, [(0.58, 0.42), (0.66, 0.14), (0.72, 0.16), (0.64, 0.44)], _darker(_darker(coat)))
    _shape(pen, [(0.20, 0.44), (0.06, 0.50), (0.10, 0.80), (0.17, 0.56)], _darker(_darker(coat)))
    for x in (0.24, 0.33, 0.55, 0.63):
        _box(pen, x, 0.56, x + 0.055, 0.93, _darker(coat))


def _ship(pen: Pen, rng: Rng) -> None:
    hull = _any(rng)
    _shape(pen, [(0.06, 0.54), (0.95, 0.54), (0.82, 0.74), (0.18, 0.74)], hull)
    _box(pen, 0.32, 0.42, 0.70, 0.54, (235, 235, 230))
    _box(pen, 0.42, 0.30, 0.60, 0.42, (215, 215, 215))
    _box(pen, 0.48, 0.14, 0.54, 0.30, _any(rng))
    for x in (0.38, 0.48, 0.58):
        _box(pen, x, 0.46, x + 0.05, 0.50, (60, 80, 100))


def _truck(pen: Pen, rng: Rng) -> None:
    load, cab = _any(rng), _any(rng)
    _box(pen, 0.06, 0.22, 0.64, 0.68, load)
    _shape(pen, [(0.66, 0.68), (0.66, 0.36), (0.82, 0.36), (0.93, 0.52), (0.93, 0.68)], cab)
    _shape(pen, [(0.72, 0.50), (0.72, 0.40), (0.80, 0.40), (0.87, 0.50)], (150, 190, 210))
    for x in (0.18, 0.36, 0.80):
        _oval(pen, x, 0.71, 0.085, 0.085, (22, 22, 24))
        _oval(pen, x, 0.71, 0.035, 0.035, (160, 160, 165))


def _darker(colour: Colour) -> Colour:
    red, green, blue = (int(0.72 * c) for c in colour)
    return red, green, blue


Thing = Callable[[Pen, Rng], None]

THINGS: Final[dict[str, tuple[Thing, tuple[Colour, ...], tuple[Colour, ...]]]] = {
    "airplane": (_airplane, SKIES, SKIES),
    "automobile": (_automobile, (*SKIES, *GRASS), ROADS),
    "bird": (_bird, (*SKIES, *GRASS), GRASS),
    "cat": (_cat, ROOMS, ROOMS),
    "deer": (_deer, (*GRASS, *SKIES), GRASS),
    "dog": (_dog, (*ROOMS, *GRASS), (*ROOMS, *GRASS)),
    "frog": (_frog, GRASS, (*GRASS, *WATERS)),
    "horse": (_horse, (*SKIES, *GRASS), GRASS),
    "ship": (_ship, SKIES, WATERS),
    "truck": (_truck, (*SKIES, *GRASS), ROADS),
}


def render_thing(streams: Streams, image_id: str, name: str, knobs: Knobs) -> NDArray[np.uint8]:
    """Draw one picture.

    Args:
        streams: random streams; `streams("image", image_id)` is the picture's own.
        image_id: names the picture.
        name: one of `THINGS`.
        knobs: `disease_signal` is how visible the thing is before its surroundings; `domain_shift`
            takes colour away.

    Returns:
        RGB, shape (32, 32, 3).

    Raises:
        ValueError: if the thing is unknown.
    """
    if name not in THINGS:
        raise ValueError(f"no such thing: {name!r}; choose one of {', '.join(THINGS)}")
    rng = streams("image", image_id)
    thing, skies, grounds = THINGS[name]
    scene = _surroundings(rng, skies, grounds)
    with_thing = scene.copy()
    layer, mask = Image.new("RGB", scene.size), Image.new("L", scene.size)
    thing(ImageDraw.Draw(layer), rng)
    shown = Image.fromarray((np.asarray(layer).max(axis=2) > 0).astype(np.uint8) * 255)
    mask.paste(shown)
    turn, size = rng.normal(0, 6), rng.uniform(0.78, 1.08)
    place = tuple((rng.normal(0, 0.045, 2) * UNIT).tolist())
    mirrored = rng.random() < 0.5
    for picture in (layer, mask):
        posed = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture
        picture.paste(_posed(posed, turn, size, place))
    with_thing.paste(layer, mask=mask)
    visible = min(1.0, knobs.disease_signal)
    small = Image.blend(scene, with_thing, visible).resize((32, 32), Image.Resampling.BOX)
    return _developed(rng, np.asarray(small).astype(np.float32), knobs)


def _surroundings(rng: Rng, skies: tuple[Colour, ...], grounds: tuple[Colour, ...]) -> Image.Image:
    """Return background above a horizon and ground below it."""
    scene = Image.new("RGB", (UNIT, UNIT), _of(rng, skies))
    _box(ImageDraw.Draw(scene), 0, rng.uniform(0.5, 0.75), 1, 1, _of(rng, grounds))
    return scene


def _posed(picture: Image.Image, turn: float, size: float, place: tuple[float, ...]) -> Image.Image:
    """Return a layer turned, shrunk or enlarged about its middle, and moved."""
    half = UNIT / 2
    step = 1 / size
    data = (step, 0, half - step * (half + place[0]), 0, step, half - step * (half + place[1]))
    return picture.rotate(turn).transform(picture.size, Image.Transform.AFFINE, data)


def _developed(rng: Rng, pixels: NDArray[np.float32], knobs: Knobs) -> NDArray[np.uint8]:
    """Add light, colour cast, texture and noise."""
    coarse = Image.fromarray(rng.standard_normal((7, 7)).astype(np.float32))
    texture = np.asarray(coarse.resize((32, 32), Image.Resampling.BICUBIC))
    light = math.exp(rng.normal(0, 0.12)) * (1 + 0.07 * texture)
    pixels = pixels * light[..., None].astype(np.float32)
    gray = pixels.mean(axis=2, keepdims=True)
    pixels = gray + (pixels - gray) * np.float32(max(0.0, 1 - 0.6 * knobs.domain_shift))
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(pixels + 6 * (1 + knobs.domain_shift) * noise, 0, 255).astype(np.uint8)
