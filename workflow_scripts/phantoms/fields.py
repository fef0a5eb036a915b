"""Drawing with fields: arrays over an image, soft masks in [0, 1], smooth noise.

Coordinates run from -1 to 1, x to the right and y down, so a phantom looks the same at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.floating]  # float32 throughout; numpy's types promise less


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


def clamp(field: Field, low: float, high: float) -> Field:
    """Return `field` with its values limited to `low` and `high`."""
    clamped: Field = np.clip(field, low, high)
    return clamped


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


def draw_lines(lines: NDArray[np.float64], size: int) -> Field:
    """Return a field with straight strokes, drawn one over the other, antialiased.

    Args:
        lines: shape (N, 6): x and y of one end, of the other, width, height in [0, 1].
        size: pixels along a side.
    """
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    ends = ((lines[:, :4] + 1) * size).tolist()
    widths = np.maximum(1, np.rint(lines[:, 4] * size)).astype(int).tolist()
    levels = np.rint(255 * np.minimum(lines[:, 5], 1)).astype(int).tolist()
    for end, width, level in zip(ends, widths, levels, strict=True):
        pen.line(end, fill=level, width=width)
    small = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32) / np.float32(255)
