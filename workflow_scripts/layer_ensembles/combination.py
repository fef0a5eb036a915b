"""One segmentation out of several predictions.

Source: spec section 5; golden `combination_order` shows that `mean` and `mean_logits` differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.layer_ensembles.protocols import Combination
from workflow_scripts.layer_ensembles.staple import binary_staple_mask, label_staple
from workflow_scripts.metrics.uncertainty import softmax

Floats = NDArray[np.float64]


def combine(
    logits: NDArray[np.floating],
    probabilities: Floats,
    how: Combination,
    threshold: float | None = None,
) -> NDArray[np.int64]:
    """Return the label map of T predictions, shape (*S,); ties go to the lowest class.

    Args:
        logits: shape (T, C, *S).
        probabilities: their softmax.
        how: `mean` of the probabilities, `staple` of the T label maps (`staple_released`: every
            voxel of two classes with a probability of 1e-6 is foreground), the `last` prediction,
            or the softmax of the mean logits.
        threshold: probability that a foreground class needs; None: the most likely class.
    """
    if how in ("staple", "staple_released"):
        labels = probabilities.argmax(axis=1)
        if logits.shape[1] > 2:
            return label_staple(labels)
        return binary_staple_mask(labels == 1, released=how == "staple_released").astype(np.int64)
    if how == "mean":
        joined = probabilities.mean(axis=0)
    elif how == "last":
        joined = probabilities[-1]
    else:
        joined = softmax(logits.mean(axis=0, keepdims=True))[0]
    label: NDArray[np.int64] = joined.argmax(axis=0)
    if threshold is not None:
        label = np.where(joined.max(axis=0) > threshold, label, 0)
    return label
