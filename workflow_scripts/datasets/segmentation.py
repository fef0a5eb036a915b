"""What a segmentation data set adds: masks and their meaning, volumes and their spacing.

A layout with `segmentation` reads an index whose rows also have `SEGMENTATION_COLUMNS`, and its
writer takes a renderer that returns a `Volume`. Array axes are slice, row, column (D, H, W): the
axes of a NIfTI file in reverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SEGMENTATION_COLUMNS = (
    "mask_path",  # reference mask, relative to the folder; None where it is a contour
    "contour",  # closed polygon in pixels, `x,y x,y ...`; None where it is a file
    "frame",  # ED or ES; None where nothing moves
    "frame_index",  # position along the file's time axis; 0 where it holds one frame
    "vendor",
    "center",
    "group",  # disease group, such as DCM
)
FRAMES = ("ED", "ES")
CARDIAC_CLASSES = ("background", "LV", "MYO", "RV")  # target order (golden acdc_label_remap)
CARDIAC_IN_PLANE_MM = (0.4, 4.0)  # ours: beyond it a cardiac image is taken for mislabelled
CARDIAC_SLICE_MM = (2.0, 25.0)  # ours: short-axis slices are 5 to 10 mm apart


class Volume(NamedTuple):
    """A stack of slices with its reference.

    Attributes:
        image: gray values, shape (D, H, W).
        mask: class of each voxel in the order of the card's `classes`, shape (D, H, W), uint8.
        spacing_mm: distance of voxel centres along D, H and W.
    """

    image: NDArray[Any]
    mask: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """What the masks of a data set mean, and which grids can be believed.

    Attributes:
        label_map: value in the mask file to class; every other value is refused.
        in_plane_mm: lowest and highest believable pixel spacing; None: pixels without size.
        slice_mm: the same for the distance of slices.
    """

    label_map: Mapping[int, int]
    in_plane_mm: tuple[float, float] | None = CARDIAC_IN_PLANE_MM
    slice_mm: tuple[float, float] | None = CARDIAC_SLICE_MM

    def to_classes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the classes of mask values that `label_map` holds.

        >>> Segmentation(label_map={0: 0, 1: 3, 2: 2, 3: 1}).to_classes(np.array([0, 1, 2, 3]))
        array([0, 3, 2, 1], dtype=uint8)
        """
        return map_labels(values, self.label_map)

    def to_values(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return what the mask file holds for `classes`; the reverse of `to_classes`."""
        return map_labels(classes, {after: before for before, after in self.label_map.items()})


def map_labels(values: NDArray[Any], label_map: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return `values`, all keys of `label_map`, exchanged for what it says."""
    table = np.zeros(max(label_map) + 1, dtype=np.uint8)
    table[list(label_map)] = list(label_map.values())
    return table[values.astype(np.intp)]
