"""Working grids: from a volume as published to the voxels that a network is trained on.

Resampling is separable: each axis has its own list of places to sample, so a window of the
result costs no more than the window. `linear` and `nearest` agree with SimpleITK and torchio
(golden vectors, tests), without their dependence on a version: the released code's call makes
SimpleITK 2.0 to 2.2 copy the first slice over the others (see `with_released_defect`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.nifti import VolumeError
from workflow_scripts.datasets.segmentation import Volume

Places = NDArray[np.float64]  # coordinates along one axis, in voxels of the input
Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]  # mm along D, H, W

ACDC_SPACING_MM = 1.36719  # in-plane, cooperative training (spec section 2.3)
PERCENTILES = (2.0, 98.0)  # of the whole volume (spec section 2.3)
MMS_SPACING_MM = (9.2, 1.32, 1.32)  # voxels that the released metrics assume (spec section 3.2)
MMS_CROP = (10, 128, 128)  # slices, rows, columns around the mask (spec section 3.2)
LESION_SIDE = 256  # pixels; the lesion's longest side becomes half of it (spec section 3.1)


def sample(values: NDArray[Any], places: Places, axis: int, kind: str) -> NDArray[Any]:
    """Return `values` sampled at `places` along `axis`, `linear` or `nearest`.

    Within half a voxel outside the array the border value is taken, beyond it 0.

    >>> sample(np.array([0.0, 2.0]), np.array([-0.4, 0.5, 1.4, 1.6]), 0, "linear")
    array([0., 1., 2., 0.])
    """
    n = values.shape[axis]
    is_inside = (places >= -0.5) & (places < n - 0.5)
    inner = np.clip(places, 0, n - 1)
    shape = [1] * values.ndim
    shape[axis] = len(places)
    if kind == "nearest":
        nearest = np.minimum(np.floor(inner + 0.5).astype(np.intp), n - 1)  # half goes up
        picked: NDArray[Any] = np.take(values, nearest, axis)
        picked *= is_inside.reshape(shape).astype(values.dtype)
        return picked
    lower = np.floor(inner).astype(np.intp)
    upper = np.minimum(lower + 1, n - 1)
    weight = (inner - lower).reshape(shape).astype(values.dtype)
    mixed: NDArray[Any] = np.take(values, lower, axis) * (1 - weight)
    mixed += np.take(values, upper, axis) * weight
    mixed *= is_inside.reshape(shape).astype(values.dtype)
    return mixed


def resample(volume: Volume, places: Mapping[int, Places], spacing_mm: Spacing) -> Volume:
    """Sample image (linear) and mask (nearest) at `places`, axis by axis."""
    image, mask = volume.image.astype(np.float32), volume.mask
    for axis, at in places.items():
        image = sample(image, at, axis, "linear")
        mask = sample(mask, at, axis, "nearest")
    return Volume(image, mask, spacing_mm)


def places_from_first(n: int, old_mm: float, new_mm: float) -> Places:
    """Return where the released code samples: the first voxel's centre stays where it is.

    Source: golden `resample_in_plane`; round(n * old / new) places, half to even.
    """
    length = int(np.round(n * old_mm / new_mm))
    return np.arange(length, dtype=np.float64) * (new_mm / old_mm)


def places_from_corner(n: int, old_mm: float, new_mm: float) -> Places:
    """Return where torchio samples: the volume's corner stays; a single voxel stays single.

    Source: golden `torchio_0_18_76`.
    """
    length = n if n == 1 else int(np.ceil(n * old_mm / new_mm))
    return (np.arange(length, dtype=np.float64) + 0.5) * (new_mm / old_mm) - 0.5


def normalise_percentiles(image: NDArray[Any]) -> Floats:
    """Clip a volume to its 2nd and 98th percentile and map these to 0 and 1.

    Source: released code (golden `minmax_2_98`).
    """
    low, high = np.percentile(image.astype(np.float32), PERCENTILES)
    clipped: Floats = np.clip(image.astype(np.float32), low, high)
    scaled: Floats = ((clipped - low) / (1e-10 + high - low)).astype(np.float32)
    return scaled


def resample_in_plane(volume: Volume, spacing_mm: float = ACDC_SPACING_MM) -> Volume:
    """Resample rows and columns; slices stay as they are.

    The released code asks for a slice spacing of -1, "keep", and hands it to SimpleITK. Ours
    keeps the slices, which is what it meant.
    """
    depth_mm, row_mm, column_mm = volume.spacing_mm
    n_rows, n_columns = volume.mask.shape[1:]
    places = {
        1: places_from_first(n_rows, row_mm, spacing_mm),
        2: places_from_first(n_columns, column_mm, spacing_mm),
    }
    return resample(volume, places, (depth_mm, spacing_mm, spacing_mm))


def with_released_defect(volume: Volume, spacing_mm: float = ACDC_SPACING_MM) -> Volume:
    """Resample as the released code does with SimpleITK 2.0 to 2.2; for comparison only.

    Every slice within half a slice distance (its index read as mm) repeats the first one, the
    others are 0, image and mask alike; a volume already at the spacing is passed on whole
    (spec section 2.4, executed).
    """
    depth_mm, row_mm, column_mm = volume.spacing_mm
    if abs(spacing_mm / row_mm + spacing_mm / column_mm + 1 - 3) < 1e-4:
        return volume
    right = resample_in_plane(volume, spacing_mm)
    repeats = (np.arange(len(right.mask)) <= depth_mm / 2)[:, None, None]
    image = np.where(repeats, right.image[:1], np.float32(0))
    return Volume(image, np.where(repeats, right.mask[:1], np.uint8(0)), right.spacing_mm)


def box_of(mask: NDArray[Any]) -> list[tuple[int, int]]:
    """Return the first and last index of the foreground along each axis.

    Raises:
        VolumeError: there is no foreground.
    """
    found = np.nonzero(mask)
    if not len(found[0]):
        raise VolumeError("no foreground to crop around")
    return [(int(index.min()), int(index.max())) for index in found]


def window_start(first: int, last: int, length: int) -> int:
    """Return where a window of `length` around a foreground from `first` to `last` begins.

    Source: golden `torchio_0_18_76`.
    """
    centre = (first + last + 1) / 2
    if (length % 2 == 0) != (centre == int(centre)):
        centre -= 0.5
    return int(centre - length / 2)


def cut(values: NDArray[Any], starts: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the window of `shape` that begins at `starts`, 0 where it leaves the array.

    >>> cut(np.array([1, 2, 3]), (-1,), (3,))
    array([0, 1, 2])
    """
    window = np.zeros(shape, dtype=values.dtype)
    source, target = [], []
    for start, length, n in zip(starts, shape, values.shape, strict=True):
        first, stop = max(start, 0), min(start + length, n)
        source.append(slice(first, max(stop, first)))
        target.append(slice(first - start, max(stop, first) - start))
    window[tuple(target)] = values[tuple(source)]
    return window


def crop_around_mask(volume: Volume, shape: tuple[int, int, int]) -> Volume:
    """Return the window of `shape` (D, H, W) centred on the foreground, padded with 0."""
    box = box_of(volume.mask)
    ends = zip(box, shape, strict=True)
    first_d, first_h, first_w = (window_start(*along, length) for along, length in ends)
    starts = (first_d, first_h, first_w)
    return Volume(
        cut(volume.image, starts, shape), cut(volume.mask, starts, shape), volume.spacing_mm
    )


def in_plane_137(volume: Volume) -> Volume:
    """Normalise by percentiles, then resample in-plane to 1.36719 mm (cooperative training)."""
    return resample_in_plane(volume._replace(image=normalise_percentiles(volume.image)))


def released_137(volume: Volume) -> Volume:
    """Do what `in_plane_137` does, with the released code's resampling defect."""
    return with_released_defect(volume._replace(image=normalise_percentiles(volume.image)))


def stored_137(volume: Volume) -> Volume:
    """Take a volume that was preprocessed already, as it is.

    Raises:
        VolumeError: its pixels are not 1.36719 mm wide.
    """
    if not np.allclose(volume.spacing_mm[1:], ACDC_SPACING_MM, rtol=1e-3):
        row_mm, column_mm = volume.spacing_mm[1:]
        raise VolumeError(f"pixels of {row_mm:g} x {column_mm:g} mm, expected {ACDC_SPACING_MM}")
    return volume._replace(image=volume.image.astype(np.float32))


def heart_128(volume: Volume) -> Volume:
    """Resample to 1.32 x 1.32 x 9.2 mm and crop 128 x 128 x 10 around the mask (layer ensembles).

    The reference decides the crop, at test time too: released, to be said in reports.
    """
    axes = zip(volume.mask.shape, volume.spacing_mm, MMS_SPACING_MM, strict=True)
    places = {axis: places_from_corner(*along) for axis, along in enumerate(axes)}
    return crop_around_mask(resample(volume, places, MMS_SPACING_MM), MMS_CROP)


def lesion_256(volume: Volume) -> Volume:
    """Zoom until the lesion's longest side is 128 pixels and crop 256 x 256 around it (BCDR).

    Only the window is sampled, with the places of the whole image's resampling. The reference
    decides the crop, at test time too: released, to be said in reports.
    """
    box = box_of(volume.mask)[1:]
    step = (max(last - first for first, last in box) + 1) / (LESION_SIDE / 2)
    windows: dict[int, Places] = {}
    coarse = volume.mask
    for axis, (first, last) in enumerate(box, start=1):
        everywhere = places_from_corner(volume.mask.shape[axis], 1.0, step)
        near = (everywhere > first - 1) & (everywhere < last + 1)
        coarse = sample(coarse, everywhere[near], axis, "nearest")
        windows[axis] = everywhere[near]
    for axis, (first, last) in enumerate(box_of(coarse)[1:], start=1):
        offset = int(np.round((windows[axis][0] + 0.5) / step - 0.5))
        start = window_start(first + offset, last + offset, LESION_SIDE)
        inside = places_from_corner(volume.mask.shape[axis], 1.0, step).size
        index = np.arange(start, start + LESION_SIDE)
        places = (index + 0.5) * step - 0.5
        windows[axis] = np.where((index >= 0) & (index < inside), places, -np.inf)  # padding
    return resample(volume, windows, (1.0, step, step))


GRIDS: dict[str, Callable[[Volume], Volume]] = {
    "inplane137": in_plane_137,
    "released137": released_137,
    "stored137": stored_137,
    "heart128": heart_128,
    "lesion256": lesion_256,
}
