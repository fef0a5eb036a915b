"""How well a segmentation agrees with its reference: overlap, and distances in millimetres.

A mask is any array whose non-zero entries are foreground, so a label map means the union of its
structures. Two masks that are both empty have no overlap and no distance: `both_empty` says what
that case counts as (NaN: undefined, to be counted beside the mean). If only one is empty, Dice
is 0 and every distance infinite.

Definitions, named because programs differ:

- *surface*: foreground voxels with a face neighbour that is background; outside the array is
  background (mask minus its erosion by the face-connected element).
- *Hausdorff distance*: largest distance from a surface voxel of one mask to the other's surface.
- *HD95*: 95th percentile (linear interpolation) of the distances of both directions together, as
  in MedPy's `hd95`; others take the larger of two percentiles, which is never smaller by much.
- *modified Hausdorff distance* (Dubuisson and Jain): the larger of the two mean distances, over
  all foreground voxels, not the surface alone (layer ensembles, released code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

HD_PERCENTILE = 95.0


def dice(a: ArrayLike, b: ArrayLike, both_empty: float = math.nan) -> float:
    """Return 2 |A and B| / (|A| + |B|) of two masks of one shape.

    >>> dice([[1, 1, 0]], [[0, 1, 1]])
    0.5
    """
    first, second = _masks(a, b)
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else both_empty


def dice_per_class(
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    n_classes: int,
    both_empty: float = math.nan,
) -> Floats:
    """Return the Dice of classes 1 to C-1 of two label maps of one shape, shape (C-1,).

    >>> dice_per_class(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]), 3)
    array([1.        , 0.66666667])
    """
    table = confusion_matrix(truth, prediction, n_classes)
    total = table.sum(axis=0) + table.sum(axis=1)
    found = np.full(n_classes, both_empty)
    np.divide(2 * np.diag(table), total, out=found, where=total > 0)
    return found[1:]


def confusion_matrix(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], n_classes: int
) -> Counts:
    """Count voxels by true class (rows) and predicted class (columns), shape (C, C)."""
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} does not fit prediction {prediction.shape}")
    pairs = truth.ravel().astype(np.int64) * n_classes + prediction.ravel()
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_iou(confusion: Counts) -> Floats:
    """Return each class's intersection over union; NaN for one neither there nor predicted.

    Args:
        confusion: true class by predicted class, shape (C, C).
    """
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    found = np.full(len(confusion), math.nan)
    np.divide(hits, union, out=found, where=union > 0)
    return found


def mean_iou(confusion: Counts) -> float:
    """Return the mean of the defined entries of `class_iou`, background included."""
    found = class_iou(confusion)
    return float(np.nanmean(found)) if np.isfinite(found).any() else math.nan


def hausdorff(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], both_empty: float = math.nan
) -> float:
    """Return the Hausdorff distance of the surfaces, in mm.

    Args:
        a: mask of any number of axes.
        b: mask of the same shape.
        spacing_mm: distance of voxel centres along each axis.
        both_empty: value where neither has a voxel.

    >>> hausdorff([[1, 0, 0, 0]], [[1, 0, 0, 1]], (1.0, 2.0))
    6.0
    """
    return _largest(a, b, spacing_mm, both_empty, 100.0)


def hausdorff_95(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], both_empty: float = math.nan
) -> float:
    """Return the 95th percentile of the surface distances of both directions, in mm.

    Arguments as `hausdorff`.
    """
    return _largest(a, b, spacing_mm, both_empty, HD_PERCENTILE)


def modified_hausdorff(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], both_empty: float = math.nan
) -> float:
    """Return the larger mean distance from the voxels of one mask to the other, in mm.

    Arguments as `hausdorff`.

    >>> modified_hausdorff([[1, 0, 0, 0]], [[1, 0, 0, 1]], (1.0, 2.0))
    3.0
    """
    first, second = _in_common_box(*_masks(a, b))
    if not (first.any() and second.any()):
        return _empty_distance(first, second, both_empty)
    there = distances_to(second, spacing_mm)[first]
    back = distances_to(first, spacing_mm)[second]
    return float(max(there.mean(), back.mean()))


def surface_distances(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float]
) -> tuple[Floats, Floats]:
    """Return the distance of each surface voxel of one mask to the other's surface, in mm.

    Arguments as `hausdorff`; both masks have foreground.

    Returns:
        From a to b, shape (surface voxels of a,), and from b to a.
    """
    first, second = (surface(mask) for mask in _in_common_box(*_masks(a, b)))
    there = distances_to(second, spacing_mm)[first]
    return there, distances_to(first, spacing_mm)[second]


def surface(mask: Mask) -> Mask:
    """Return the foreground voxels with a face neighbour in the background, same shape.

    >>> surface(np.ones((3, 3), dtype=bool)).sum()
    np.int64(8)
    """
    inner = np.pad(mask, 1)  # outside the array is background
    kept = mask.copy()
    for axis in range(mask.ndim):
        for shift in (-1, 1):
            kept &= np.roll(inner, shift, axis)[(slice(1, -1),) * mask.ndim]
    return mask & ~kept


def distances_to(mask: Mask, spacing_mm: Sequence[float]) -> Floats:
    """Return the exact Euclidean distance of every voxel to the nearest of `mask`, in mm."""
    from scipy.ndimage import distance_transform_edt

    if len(spacing_mm) != mask.ndim:
        raise ValueError(f"{len(spacing_mm)} spacings for {mask.ndim} axes")
    if not all(math.isfinite(step) and step > 0 for step in spacing_mm):
        raise ValueError(f"spacing {tuple(spacing_mm)} mm: expected finite and positive")
    found: Floats = distance_transform_edt(~mask, sampling=tuple(spacing_mm))
    return found


def _largest(
    a: ArrayLike, b: ArrayLike, spacing_mm: Sequence[float], both_empty: float, percentile: float
) -> float:
    first, second = _masks(a, b)
    if not (first.any() and second.any()):
        return _empty_distance(first, second, both_empty)
    both = np.concatenate(surface_distances(first, second, spacing_mm))
    return float(np.percentile(both, percentile))


def _empty_distance(first: Mask, second: Mask, both_empty: float) -> float:
    return math.inf if first.any() or second.any() else both_empty


def _masks(a: ArrayLike, b: ArrayLike) -> tuple[Mask, Mask]:
    first, second = np.asarray(a) != 0, np.asarray(b) != 0
    if first.shape != second.shape:
        raise ValueError(f"masks of shapes {first.shape} and {second.shape}")
    return first, second


def _in_common_box(first: Mask, second: Mask) -> tuple[Mask, Mask]:
    """Cut both to the box of their union: outside is background, so nothing changes but time."""
    either = first | second
    box = []
    for axis in range(either.ndim):
        others = tuple(other for other in range(either.ndim) if other != axis)
        found = np.flatnonzero(either.any(axis=others))
        box.append(slice(found[0], found[-1] + 1) if len(found) else slice(0, 0))
    return first[tuple(box)], second[tuple(box)]
