"""Moving the pixels of a batch of slices: affine maps and elastic deformation, on any device.

The released code warps slice by slice in NumPy and SciPy. These functions give the same numbers
(golden `transforms`; tests against SciPy) for a batch at once. Coordinates are (row, column).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FILTER_PADDING = 12  # SciPy pads so much before it filters for the mode "nearest"
TRUNCATE = 4.0  # SciPy's Gaussian ends after so many standard deviations


def affine_matrices(
    degrees: Tensor, shift: Tensor, zoom: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return R.T.Z, which maps output to input coordinates about the centre.

    Args:
        degrees: rotation, shape (N,).
        shift: share of height and width, shape (N, 2).
        zoom: of height and width, below 1 magnifies, shape (N, 2).
        size: height and width.

    Returns:
        Linear parts (N, 2, 2) and offsets (N, 2), float64.
    """
    angle = torch.deg2rad(degrees.double())
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).reshape(-1, 2, 2)
    pixels = shift.double() * torch.tensor(size, dtype=torch.float64, device=shift.device)
    return rotation * zoom.double()[:, None], (rotation @ pixels[..., None])[..., 0]


def affine_places(linear: Tensor, offset: Tensor, size: tuple[int, int]) -> Tensor:
    """Return for each output pixel where it comes from, shape (N, 2, H, W), float64."""
    grid = _grid(size, linear.device)
    centre = torch.tensor([n / 2 - 0.5 for n in size], dtype=torch.float64, device=linear.device)
    from_centre = (grid - centre[:, None, None]).flatten(1)  # (2, HW)
    places = linear @ from_centre + (offset + centre)[..., None]
    return places.reshape(len(linear), 2, *size)


def _grid(size: tuple[int, int], device: torch.device) -> Tensor:
    axes = [torch.arange(n, dtype=torch.float64, device=device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sample_linear(images: Tensor, places: Tensor) -> Tensor:
    """Sample images (N, H, W) at places (N, 2, H', W') bilinearly.

    Coordinates are clamped to [0, N - 2], so that the last row and column are lost even where
    nothing moves (as released; golden `affine`).
    """
    height, width = images.shape[1:]
    row, column = places[:, 0].clamp(0, height - 2), places[:, 1].clamp(0, width - 2)
    top, left = row.floor(), column.floor()
    down, right = (row - top).to(images.dtype), (column - left).to(images.dtype)
    first = (top * width + left).long()
    at = _gatherer(images)
    upper = at(first) * (1 - right) + at(first + 1) * right
    lower = at(first + width) * (1 - right) + at(first + width + 1) * right
    return upper * (1 - down) + lower * down


def sample_nearest(labels: Tensor, places: Tensor) -> Tensor:
    """Sample labels (N, H, W) at the nearest pixel, half to even, clamped to the image."""
    height, width = labels.shape[1:]
    row = places[:, 0].clamp(0, height - 1).round()
    column = places[:, 1].clamp(0, width - 1).round()
    return _gatherer(labels)((row * width + column).long())


class _gatherer:  # reads as a function: at(index)
    """Take pixels of each image by their flat index, shape (N, H', W')."""

    def __init__(self, images: Tensor) -> None:
        self._flat = images.flatten(1)

    def __call__(self, index: Tensor) -> Tensor:
        return self._flat.gather(1, index.flatten(1)).reshape(index.shape)


def smooth(noise: Tensor, sigma: Tensor) -> Tensor:
    """Filter maps with a Gaussian, zero outside, as `scipy.ndimage.gaussian_filter`.

    Args:
        noise: shape (N, 2, H, W).
        sigma: pixels, shape (N,).
    """
    rows, columns = (_gaussian_matrix(n, sigma).to(noise.dtype) for n in noise.shape[2:])
    return rows[:, None] @ noise @ columns[:, None].transpose(-1, -2)


def _gaussian_matrix(n: int, sigma: Tensor) -> Tensor:
    """Return the matrix that filters an axis of length n, one a case, shape (N, n, n), float64."""
    sigma = sigma.double()
    radius = (TRUNCATE * sigma + 0.5).floor()
    reach = int(radius.max())
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64, device=sigma.device)
    kernel = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    kernel = kernel * (steps.abs() <= radius[:, None])
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    line = torch.arange(n, device=sigma.device)
    apart = line[:, None] - line  # (n, n)
    inside = kernel[:, (apart + reach).clamp(0, 2 * reach)]
    return inside * (apart.abs() <= reach)


def elastic(
    images: Tensor, labels: Tensor, displacement: Tensor, n_classes: int
) -> tuple[Tensor, Tensor]:
    """Move pixels by a field; cubic splines, beyond the border mirrored (labels: continued).

    A label is the highest class whose spline is at least 0.5, else background.

    Args:
        images: shape (N, H, W).
        labels: shape (N, H, W).
        displacement: along rows and columns, pixels, shape (N, 2, H, W).
        n_classes: background included.

    Source: spec section 5, step 7; golden `elastic`.
    """
    places = _grid((images.shape[1], images.shape[2]), images.device) + displacement
    moved = sample_cubic(images[:, None], places, "reflect")[:, 0]
    classes = torch.arange(1, n_classes, device=labels.device)
    one_hot = (labels[:, None] == classes[:, None, None]).to(images.dtype)
    is_class = sample_cubic(one_hot, places, "nearest") >= 0.5
    return moved, (is_class * classes[:, None, None]).amax(dim=1).to(labels.dtype)


def sample_cubic(images: Tensor, places: Tensor, mode: str) -> Tensor:
    """Sample with cubic splines, as `scipy.ndimage.map_coordinates`.

    Args:
        images: shape (N, C, H, W).
        places: shape (N, 2, H', W').
        mode: `reflect` or `nearest`, beyond the border.

    Returns:
        Shape (N, C, H', W').
    """
    height, width = images.shape[2:]
    rows, columns = (_filter_matrix(n, mode).to(images) for n in (height, width))
    coefficients = rows @ images @ columns.T
    padding = FILTER_PADDING if mode == "nearest" else 0
    indices, weights = zip(
        *(
            _spline_taps(places[:, axis], n, mode, padding)
            for axis, n in enumerate((height, width))
        ),
        strict=True,
    )
    flat = coefficients.flatten(2)
    result = torch.zeros(1, dtype=images.dtype, device=images.device)
    for row, row_weight in zip(indices[0], weights[0], strict=True):
        for column, column_weight in zip(indices[1], weights[1], strict=True):
            index = (row * coefficients.shape[3] + column).flatten(1)[:, None]
            taken = flat.gather(2, index.expand(-1, flat.shape[1], -1))
            weight = (row_weight * column_weight).to(images.dtype)
            result = result + taken.reshape(*flat.shape[:2], *row.shape[1:]) * weight[:, None]
    return result


def _spline_taps(
    place: Tensor, n: int, mode: str, padding: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the four coefficients' indices along an axis and their weights, each (N, H', W')."""
    last = n - 1 + 2 * padding
    place = place.double() + padding
    if mode == "nearest":
        place = place.clamp(0, last)
    first = place.floor()
    t = place - first  # in [0, 1)
    weights = [
        (1 - t) ** 3 / 6,
        (4 - 6 * t**2 + 3 * t**3) / 6,
        (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
        t**3 / 6,
    ]
    taps = [(first + step).long() for step in (-1, 0, 1, 2)]
    if mode == "nearest":
        return [tap.clamp(0, last) for tap in taps], weights
    period = 2 * n  # d c b a | a b c d | d c b a
    wrapped = [tap.remainder(period) for tap in taps]
    return [torch.minimum(tap, period - 1 - tap) for tap in wrapped], weights


@cache
def _filter_matrix(n: int, mode: str) -> Tensor:
    """Return what turns pixels of an axis into spline coefficients, float64.

    Shape (n, n), or (n + 24, n) for `nearest`, which SciPy pads. Filtering the columns of the
    identity gives the matrix of any linear filter.
    """
    from scipy.ndimage import spline_filter1d

    unit: NDArray[np.float64] = np.eye(n)
    if mode == "nearest":
        unit = np.pad(unit, ((FILTER_PADDING, FILTER_PADDING), (0, 0)), mode="edge")
    return torch.from_numpy(spline_filter1d(unit, 3, axis=0, mode=mode))
