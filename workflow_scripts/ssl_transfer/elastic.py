"""Elastic deformation: a random affine map and a smooth random displacement of each pixel.

The released code took it from albumentations, in its approximate form: the displacement field is
blurred by a kernel of 17 pixels whatever the width of the Gaussian. Its generator was not seeded,
so its images cannot be drawn again; no printed number rests on it.
Source: SSL transfer, spec 11.3; Simard et al., 2003. Amplitudes: the library's defaults of the
time (not stated in the spec).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KERNEL_RADIUS = 8  # pixels: a kernel of 17
DISPLACEMENT_PX = 1.0  # of a pixel before the blur, at most
CORNER_SHIFT_PX = 50.0  # of each corner of the affine map, at most


def deformed(
    pixels: NDArray[np.uint8], sigma: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return an image after a random deformation, mirrored at its borders.

    Args:
        pixels: shape (H, W, 3), uint8.
        sigma: standard deviation of the Gaussian that smooths the displacements, pixels.
        rng: draws the affine map and the displacements.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width = pixels.shape[:2]
    matrix = random_affine(height, width, rng)
    noise = rng.uniform(-DISPLACEMENT_PX, DISPLACEMENT_PX, size=(2, height, width))
    shift = [
        gaussian_filter(field, sigma, mode="mirror", truncate=KERNEL_RADIUS / sigma)
        for field in noise
    ]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    at = np.stack([columns + shift[0], rows + shift[1], np.ones((height, width))])  # (3, H, W)
    x, y = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix)[:2], at)
    planes = [
        map_coordinates(pixels[..., channel].astype(np.float64), [y, x], order=1, mode="mirror")
        for channel in range(pixels.shape[2])
    ]
    levels: NDArray[np.uint8] = np.rint(np.stack(planes, axis=-1)).astype(np.uint8)
    return levels


def random_affine(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the affine map, shape (3, 3), that moves three corners of a central square at random.

    It acts on columns (x, y, 1).
    """
    centre, arm = np.array([height, width]) // 2, min(height, width) // 3
    corners = centre + arm * np.array([[1, 1], [1, -1], [-1, -1]])  # (3, 2)
    moved = corners + rng.uniform(-CORNER_SHIFT_PX, CORNER_SHIFT_PX, size=(3, 2))
    source, target = (np.vstack([points.T, np.ones(3)]) for points in (corners, moved))
    return np.asarray(target @ np.linalg.inv(source))
