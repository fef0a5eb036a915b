"""STAPLE: one segmentation out of several raters, each weighted by how reliable it seems.

Raters are the exit heads. SimpleITK does the work, as in the released code; what it leaves open
(masks without or full of foreground, where its equations divide by 0) is decided here.

Source: Warfield et al., IEEE TMI 2004; spec section 5, golden `staple`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEGLIGIBLE = 1e-6  # foreground probability that the released code sets to 0
UNDECIDED = 0  # label where two labels are equally likely (released code)


def binary_staple(masks: NDArray[np.bool_]) -> Floats:
    """Return the probability of foreground of each voxel, shape (T, *S) to (*S,).

    Where the raters agree on no foreground at all, or on nothing but foreground, they are right.
    """
    import SimpleITK as sitk

    if not masks.any() or masks.all():
        return np.asarray(masks[0], dtype=np.float64)
    found = sitk.STAPLE(_images(masks), 1.0)  # type: ignore[no-untyped-call]
    raw: Floats = sitk.GetArrayFromImage(found).reshape(masks.shape[1:])
    probability: Floats = np.nan_to_num(raw, nan=0.5)  # 0 / 0: certain raters contradict each other
    return probability


def binary_staple_mask(masks: NDArray[np.bool_], *, released: bool) -> NDArray[np.bool_]:
    """Return the combined mask, shape (T, *S) to (*S,).

    Args:
        masks: of the raters.
        released: every voxel with a probability of 1e-6 or more is foreground (released code);
            otherwise those with more than one half.
    """
    probability = binary_staple(masks)
    return probability >= NEGLIGIBLE if released else probability > 0.5


def label_staple(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the combined label map of T label maps, shape (T, *S) to (*S,).

    The label with the largest weight; 0 where two are equally likely.
    """
    import SimpleITK as sitk

    if not labels.any():
        return np.asarray(labels[0], dtype=np.int64)
    found = sitk.MultiLabelSTAPLE(_images(labels), UNDECIDED)  # type: ignore[no-untyped-call]
    combined: NDArray[np.int64] = sitk.GetArrayFromImage(found).astype(np.int64)
    whole: NDArray[np.int64] = combined.reshape(labels.shape[1:])
    return whole


def _images(maps: NDArray[Any]) -> list[Any]:
    """Return T flat images: the equations know no neighbours."""
    import SimpleITK as sitk

    return [sitk.GetImageFromArray(one.reshape(1, -1).astype(np.uint8)) for one in maps]
