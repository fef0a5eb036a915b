"""Drawing with fields: arrays over an image, soft masks in [0, 1], smooth noise.

Coordinates run from -1 to 1, x to the right and y down, so a phantom looks the same at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.float32]


class Grid(NamedTuple):
    """Coordinates of the pixel centres, each of shape (size, size)."""

    x: Field
    y: Field

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return len(self.x)


def square_grid(size: int) -> Grid:
    """Return the coordinates of an image of `size` by `size` pixels."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    return Grid(*np.meshgrid(axis, axis))


def inside(distance: Field, softness: float) -> Field:
    """Return 1 where `distance` is well above 0, 0 well below, and a smooth step between."""
    step = distance * (0.5 / softness)
    step += 0.5
    np.clip(step, 0, 1, out=step)
    result = 3 - 2 * step
    result *= step
    result *= step
    return result


def ellipse_distance(
    grid: Grid, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> Field:
    """Return the approximate distance to an ellipse's border, positive inside.

    Args:
        grid: coordinates.
        centre: (x, y).
        radii: half axes before the rotation, (along x, along y).
        angle: clockwise on screen, radians.
    """
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = grid.x - np.float32(centre[0]), grid.y - np.float32(centre[1])
    along = (cos * dx + sin * dy) / np.float32(radii[0])
    across = (cos * dy - sin * dx) / np.float32(radii[1])
    return (1 - np.sqrt(along * along + across * across)) * np.float32(min(radii))


def curve(y: Field, knots: Sequence[tuple[float, float]]) -> Field:
    """Return a smooth curve through about the `knots` (y, value), at each `y`."""
    heights, values = np.array(sorted(knots)).T
    table = np.linspace(-1.3, 1.3, 261)  # steps of 0.01
    bell = np.exp(-0.5 * (np.arange(-12, 13) / 4.0) ** 2)  # rounds the corners over 0.04
    padded = np.pad(np.interp(table, heights, values), 12, mode="edge")
    smooth = np.convolve(padded, bell / bell.sum(), mode="valid")
    return np.interp(y, table, smooth).astype(np.float32)


def blob(grid: Grid, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Return a Gaussian bump of height 1 with the standard deviations `radii`."""
    dx = (grid.x - np.float32(centre[0])) / np.float32(radii[0])
    dy = (grid.y - np.float32(centre[1])) / np.float32(radii[1])
    return np.exp(-0.5 * (dx * dx + dy * dy))


def smooth_noise(rng: np.random.Generator, size: int, cells: float) -> Field:
    """Return noise of about zero mean and unit spread, with `cells` bumps along a side.

    The numbers drawn do not depend on `size`, so a patient looks the same at any size.
    """
    n_cells = max(2, round(cells))
    coarse = rng.standard_normal((n_cells + 3, n_cells + 3)).astype(np.float32)
    # The outer cells serve the interpolation only.
    box = (1.0, 1.0, n_cells + 2.0, n_cells + 2.0)
    picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture) * 1.35  # interpolation lowers the spread


def fractal_noise(rng: np.random.Generator, size: int, cells: float, octaves: int) -> Field:
    """Return the sum of `octaves` smooth noises, each twice as fine and 0.6 as high."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        total += np.float32(0.6**octave) * smooth_noise(rng, size, cells * 2**octave)
    return total / np.float32(np.sqrt(sum(0.36**octave for octave in range(octaves))))


def blur(field: Field, width: float) -> Field:
    """Return `field` smoothed by a Gaussian of standard deviation `width` (image side = 2)."""
    from scipy.ndimage import gaussian_filter

    blurred: Field = gaussian_filter(field, width * len(field) / 2, mode="nearest", truncate=3.0)
    return blurred


class Line(NamedTuple):
    """A straight stroke from (x0, y0) to (x1, y1) of some width and height."""

    x0: float
    y0: float
    x1: float
    y1: float
    width: float
    height: float


def draw_lines(lines: list[Line], size: int) -> Field:
    """Return a field with `lines` drawn one over the other, antialiased."""
    side = 2 * size
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for x0, y0, x1, y1, width, height in lines:
        ends = [(value + 1) * size for value in (x0, y0, x1, y1)]
        pen.line(ends, fill=round(255 * min(height, 1.0)), width=max(1, round(width * size)))
    small = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32) / 255
