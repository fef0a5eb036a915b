"""Contours as text, as polygons, and as masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def contour_text(points: NDArray[np.int_]) -> str:
    """Return a polygon, shape (N, 2) of x and y, as `x,y x,y ...`.

    >>> contour_text(np.array([[1, 2], [3, 4]]))
    '1,2 3,4'
    """
    return " ".join(f"{x},{y}" for x, y in points.tolist())


def contour_points(text: str) -> NDArray[np.int_]:
    """Return the polygon that `contour_text` wrote, shape (N, 2)."""
    return np.array([[int(number) for number in pair.split(",")] for pair in text.split()])


def contour_problem(points: NDArray[np.int_], rows: int, columns: int) -> str | None:
    """Return why a polygon cannot outline something in an image of this size; None if it can.

    >>> contour_problem(np.array([[0, 0], [4, 0], [4, 9]]), rows=9, columns=9)
    'contour leaves the image: x 0 to 4 of 9, y 0 to 9 of 9'
    """
    if len(np.unique(points, axis=0)) < 3:
        return f"contour of {len(np.unique(points, axis=0))} points encloses nothing"
    low, high = points.min(axis=0), points.max(axis=0)
    if low.min() < 0 or high[0] >= columns or high[1] >= rows:
        return (
            f"contour leaves the image: x {low[0]} to {high[0]} of {columns}, "
            f"y {low[1]} to {high[1]} of {rows}"
        )
    x, y = (points - points[0]).T  # near the origin: no precision is lost
    if np.dot(x, np.roll(y, 1)) == np.dot(y, np.roll(x, 1)):
        return "contour encloses no area"
    return None


def fill_contour(points: NDArray[np.int_], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the mask, shape (rows, columns), of the closed polygon; its line belongs to it.

    Source: BCDR distributes outlines, not masks; the released code's masks are unpublished
    (spec section 3.1). Ours: filled as common tools do it.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (columns, rows))
    ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in points], outline=1, fill=1)
    return np.asarray(canvas, dtype=np.uint8)
