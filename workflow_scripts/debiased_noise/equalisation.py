"""Histogram equalisation of edited images, for checkpoints that were pretrained on it.

The same function of an image as `datasets.pixels.histogram_normalize`, on tensors. It belongs to
the model, behind the edit: what is equalised is the edited image, with its own histogram.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow_scripts.datasets.pixels import N_BINS

if TYPE_CHECKING:
    from torch import Tensor


def equalised(images: Tensor) -> Tensor:
    """Return equalised images, values in (0, 255]; all channels of an image share a histogram.

    A gradient sees each image's histogram as fixed: it is the slope of the curve from pixel to
    result at that pixel, and leaves out that the curve moves when all pixels do. White-box edits
    use it; GeZO asks for no gradient.

    Args:
        images: shape (N, C, H, W), any range.

    Source: ssl_transfer spec 4.2, used by the mimic-chexpert checkpoints.
    """
    import torch

    flat = images.flatten(1)  # (N, P)
    with torch.no_grad():
        low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
        is_flat = low == high  # NumPy's bins of a constant: half a unit to both sides
        low = torch.where(is_flat, low - 0.5, low)
        width = torch.where(is_flat, torch.ones_like(low), high - low) / N_BINS
        bins = ((flat - low) / width).long().clamp(0, N_BINS - 1)
        counts = flat.new_zeros(len(flat), N_BINS).scatter_add_(1, bins, torch.ones_like(flat))
        share = 255 * counts.cumsum(1) / flat.shape[1]  # (N, bins), at the bins' left edges
        left = bins.clamp(max=N_BINS - 2)
        start, rise = share.gather(1, left), share.diff(dim=1).gather(1, left)
    place = ((flat - low) / width).clamp(max=N_BINS - 1)  # right of the last edge: as there
    return (start + (place - left) * rise).view_as(images)
