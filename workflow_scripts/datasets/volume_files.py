"""Judging an image with its reference mask, and reading both as a `Volume`.

One function proves what the manifest records and another reads for the store; both go through
the same checks, so what is in a manifest can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.contours import contour_points, contour_problem, fill_contour
from workflow_scripts.datasets.integrity import check_file
from workflow_scripts.datasets.nifti import (
    SPACING_TOLERANCE,
    Nifti,
    VolumeError,
    orientation_of,
    read_nifti,
)
from workflow_scripts.datasets.segmentation import Segmentation, Volume

MOST_SHIFT = 0.5  # ours: voxel widths by which image and mask grid may disagree in a corner
ONE_SLICE = "one_slice"
NO_ORIENTATION = "no_orientation"
SHOWN_VALUES = 5
FAINTEST, BRIGHTEST = 1e-20, 1e8  # ours: floats read as integers, or the reverse, lie beyond


class VolumeVerdict(NamedTuple):
    """What one look at image and mask says; numbers are NaN and 0, texts None where refused.

    Attributes:
        sha256, mask_sha256: of the files' bytes ("" when unreadable; None without a mask file).
        slices, rows, columns: shape.
        spacing_slice_mm, spacing_row_mm, spacing_column_mm: distance of voxel centres.
        orientation: where the file's axes point, such as `LPS`; None without size.
        flags: what is unusual and kept, such as `one_slice`, joined by `;`; None if nothing is.
        reason: why the row is refused; None if it is not.
    """

    sha256: str = ""
    mask_sha256: str | None = None
    slices: int = 0
    rows: int = 0
    columns: int = 0
    spacing_slice_mm: float = float("nan")
    spacing_row_mm: float = float("nan")
    spacing_column_mm: float = float("nan")
    orientation: str | None = None
    flags: str | None = None
    reason: str | None = None


class Checked(NamedTuple):
    """A volume with what only its files know."""

    volume: Volume
    sha256: str
    mask_sha256: str | None
    orientation: str | None
    flags: str | None


def check_rows(
    root: Path, rows: Sequence[dict[str, Any]], facts: Segmentation, modes: frozenset[str]
) -> list[VolumeVerdict]:
    """Judge a chunk of index rows; what one worker process does at a time."""
    return [check_row(root, row, facts, modes) for row in rows]


def check_row(
    root: Path, row: dict[str, Any], facts: Segmentation, modes: frozenset[str]
) -> VolumeVerdict:
    """Judge the image of `row` with its mask or contour."""
    try:
        found = read_checked(root, row, facts, modes)
    except VolumeError as error:
        return VolumeVerdict(reason=str(error))
    slices, rows, columns = found.volume.mask.shape
    spacing = found.volume.spacing_mm
    size = (slices, rows, columns, *spacing)
    return VolumeVerdict(found.sha256, found.mask_sha256, *size, found.orientation, found.flags)


def read_checked(
    root: Path, row: dict[str, Any], facts: Segmentation, modes: frozenset[str]
) -> Checked:
    """Read the image of `row` with its mask or contour.

    Args:
        root: the data set's folder.
        row: `path`, `mask_path`, `contour`, `frame_index`.
        facts: what the mask's values mean and which grids are believable.
        modes: Pillow modes that a two-dimensional image may have.

    Raises:
        VolumeError: the reason for the quarantine.
    """
    if isinstance(row["contour"], str):
        return _read_outlined(root / row["path"], row["contour"], modes)
    image, sha256 = _cached(root / row["path"])
    if not isinstance(row["mask_path"], str):
        raise VolumeError("no reference mask")
    try:
        mask, mask_sha256 = _cached(root / row["mask_path"])
    except VolumeError as error:
        raise VolumeError(f"mask: {error}") from None
    _check_spacing(image, facts)
    _check_same_grid(image, mask)
    frame = int(row["frame_index"])
    if not 0 <= frame < len(image.voxels):
        raise VolumeError(f"missing frame {frame}: the file holds {len(image.voxels)}")
    pixels = image.voxels[frame]
    if not np.isfinite(pixels).all():
        raise VolumeError(f"{int((~np.isfinite(pixels)).sum())} voxels are not finite")
    if pixels.min() == pixels.max():
        raise VolumeError(f"every voxel is {pixels.min():g}")
    largest = float(np.abs(pixels.astype(np.float64)).max())
    if not FAINTEST <= largest <= BRIGHTEST:
        raise VolumeError(f"values up to {largest:.3g}: no scanner stores these")
    classes = _classes(mask, frame, facts)
    flags = [ONE_SLICE] * (len(pixels) == 1) + [NO_ORIENTATION] * (not image.is_oriented)
    return Checked(
        Volume(pixels, classes, image.spacing_mm),
        sha256,
        mask_sha256,
        orientation_of(image.affine) if image.is_oriented else None,
        ";".join(flags) or None,
    )


@lru_cache(maxsize=2)
def _cached(path: Path) -> tuple[Nifti, str]:
    """Read a file once for its neighbouring frames; a worker process sees no file change."""
    return read_nifti(path)


def _check_spacing(image: Nifti, facts: Segmentation) -> None:
    """Refuse a spacing that no such scan has."""
    slice_mm, row_mm, column_mm = image.spacing_mm
    for name, value, limits in (
        ("slice distance", slice_mm, facts.slice_mm),
        ("row distance", row_mm, facts.in_plane_mm),
        ("column distance", column_mm, facts.in_plane_mm),
    ):
        if limits is not None and not limits[0] <= value <= limits[1]:
            raise VolumeError(
                f"wrong spacing: {name} {value:g} mm, expected {limits[0]:g} to {limits[1]:g}"
            )


def _check_same_grid(image: Nifti, mask: Nifti) -> None:
    """Refuse a mask that does not lie on the image's voxels."""
    if image.voxels.shape != mask.voxels.shape:
        found = f"{image.voxels.shape} and {mask.voxels.shape} (frames, slices, rows, columns)"
        raise VolumeError(f"image and mask grids differ: shapes {found}")
    if not np.allclose(image.spacing_mm, mask.spacing_mm, rtol=SPACING_TOLERANCE):
        raise VolumeError(
            f"image and mask grids differ: spacing {image.spacing_mm} and {mask.spacing_mm} mm"
        )
    if image.is_oriented != mask.is_oriented:
        return  # one header is silent about the place: nothing to compare
    last = np.array(image.voxels.shape[:0:-1]) - 1
    corners = np.array(np.meshgrid(*([0, n] for n in last), [1])).reshape(4, -1)[:3]
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    shift = np.linalg.norm(((image.affine - mask.affine) @ corners)[:3], axis=0).max()
    if shift > MOST_SHIFT * min(image.spacing_mm):
        raise VolumeError(f"image and mask grids differ: corners {shift:.1f} mm apart")


def _classes(mask: Nifti, frame: int, facts: Segmentation) -> NDArray[np.uint8]:
    """Return the classes of one frame of a mask, all of them known, some of them foreground."""
    if mask.is_scaled:
        raise VolumeError("mask: the header scales the labels")
    values = mask.voxels[frame]
    present = np.unique(values)
    unknown = present[~np.isin(present, list(facts.label_map))]
    if len(unknown):
        shown = ", ".join(f"{value:g}" for value in unknown[:SHOWN_VALUES].tolist())
        known = ", ".join(map(str, facts.label_map))
        raise VolumeError(f"mask: labels outside the map: {shown} (known: {known})")
    classes = facts.to_classes(values)
    if not classes.any():
        raise VolumeError("mask: nothing is labelled in this frame")
    return classes


def _read_outlined(path: Path, contour: str, modes: frozenset[str]) -> Checked:
    """Read a two-dimensional image with the filled outline as its mask."""
    from PIL import Image

    verdict = check_file(path, modes)
    if verdict.reason is not None:
        raise VolumeError(verdict.reason)
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image).copy()
    except (OSError, ValueError, SyntaxError) as error:
        raise VolumeError(f"pixels do not decode: {error}") from None
    points = contour_points(contour)
    problem = contour_problem(points, *pixels.shape[:2])
    if problem is not None:
        raise VolumeError(problem)
    if pixels.min() == pixels.max():
        raise VolumeError(f"every pixel is {pixels.min():g}")
    mask = fill_contour(points, *pixels.shape)
    volume = Volume(pixels[None], mask[None], (float("nan"),) * 3)
    return Checked(volume, verdict.sha256, None, None, None)
