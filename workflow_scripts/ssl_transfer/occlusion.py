"""Occlusion saliency: how far the features move when a small square of the image is hidden.

A gray square slides over the image; where hiding it moves the pooled features most, the network
looks. Attentive diffusion is the share of the map above its own mean: small where a few places
decide, large where many do.

Source: SSL transfer, spec section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse
from workflow_scripts.ssl_transfer.finite import require_finite

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = NDArray[np.float64]
Places = NDArray[np.int64]  # first row (or column) of each window, shape (N,)
Scorer = Callable[[Places, Places], Floats]


@dataclass(frozen=True, slots=True)
class Occlusion:
    """The square that hides a part of the image.

    Attributes:
        window: side, pixels.
        stride: pixels between two positions.
    """

    window: int = 10  # spec section 8
    stride: int = 1  # spec section 8

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise refuse(
                "occlusion",
                "a stride of at least 1 and at most the window, so that every pixel is hidden",
                f"window {self.window}, stride {self.stride}",
                "correct the configuration",
            )

    def places(self, side: int) -> Places:
        """Return the first row of every window along an image's side, in pixels.

        Raises:
            InputError: the image leaves no pixel that a full set of windows covers.
        """
        if side < 2 * self.window - 1:
            raise refuse(
                "occlusion",
                f"images of at least {2 * self.window - 1} px for a window of {self.window} px",
                f"{side} px",
                "take a smaller window",
            )
        return np.arange(0, side - self.window + 1, self.stride, dtype=np.int64)


def saliency_map(scores: Floats, side: int, occlusion: Occlusion) -> Floats:
    """Return the mean score of the windows that cover each pixel.

    Args:
        scores: of each position, shape (P, P).
        side: of the image, pixels.
        occlusion: window and stride.

    Returns:
        Shape (M, M), M = side - 2 (window - 1): the border that fewer windows cover is cut off.
    """
    places, size = occlusion.places(side), side - occlusion.window + 1
    dense, visited = np.zeros((2, size, size))
    dense[np.ix_(places, places)] = scores
    visited[np.ix_(places, places)] = 1
    hidden: Floats = _box_sums(dense, occlusion.window) / _box_sums(visited, occlusion.window)
    return hidden


def _box_sums(values: Floats, width: int) -> Floats:
    """Return the sum of every square of `width`, shape (H - width + 1, W - width + 1)."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums: Floats = (
        total[width:, width:] - total[:-width, width:] - total[width:, :-width]
        + total[:-width, :-width]
    )  # fmt: skip
    return sums


def attentive_diffusion(saliency: Floats) -> float:
    """Return the share of pixels above the map's mean, a fraction in [0, 1).

    NaN where the map is not defined (features of norm zero).

    >>> attentive_diffusion(np.array([[1.0, 3.0], [2.0, 2.0]]))
    0.25

    Source: SSL transfer, spec section 8 (golden `attentive_diffusion`, there in percent).
    """
    if not np.isfinite(saliency).all():
        return float("nan")
    return float((saliency > saliency.mean()).mean())


def score_positions(scorer: Scorer, rows: Places, columns: Places, batch: int) -> Iterator[Floats]:
    """Yield the scores of each row of positions, shape (P,).

    Args:
        scorer: gives the scores of windows at (rows, columns).
        rows: first rows of the windows, one result each.
        columns: first columns of the windows.
        batch: windows of one forward pass.
    """
    cuts = np.split(columns, range(batch, len(columns), batch))
    for row in rows:
        yield np.concatenate([scorer(np.full(len(cut), row), cut) for cut in cuts])


def dense_scorer(
    network: nn.Module, image: Tensor, window: int, fill: Tensor, batch: int
) -> Scorer:
    """Return a scorer that forwards each occluded image whole, for any network.

    Args:
        network: gives features (N, F) whose rows do not depend on the rest of the batch:
            in evaluation mode, or with `per_image_statistics`.
        image: network input, shape (C, H, W).
        window: side of the hidden square, pixels.
        fill: its color in the network's input range, shape (C,).
        batch: windows of one pass. The clean features come from a batch of this size too, so
            that both round alike.
    """
    import torch

    with torch.inference_mode():
        clean = network(image.expand(batch, *image.shape))[0].double()

    def score(rows: Places, columns: Places) -> Floats:
        """Return |f(x) - f(x occluded)| / |f(x)| of each window, shape (N,)."""
        with torch.inference_mode():
            hidden = image.repeat(len(rows), 1, 1, 1)
            for one, row, column in zip(hidden, rows.tolist(), columns.tolist(), strict=True):
                one[:, row : row + window, column : column + window] = fill[:, None, None]
            moved = (network(hidden).double() - clean).norm(dim=1)
            return relative(moved, clean)

    return score


def relative(moved: Tensor, clean: Tensor) -> Floats:
    """Return how far features moved relative to their length, shape (N,); NaN for a length of 0.

    Args:
        moved: distances, shape (N,).
        clean: features of the image, shape (F,).

    Raises:
        InputError: a distance that is not finite.
    """
    require_finite(moved.cpu().numpy(), "features of the image and its occluded versions")
    scores: Floats = (moved / clean.norm()).cpu().numpy()
    return scores


def per_image_statistics(network: nn.Module) -> nn.Module:
    """Return a copy whose batch normalisation uses the statistics of each image by itself.

    The released code leaves the backbone in training mode and forwards one image at a time;
    instance normalisation with the same scale and shift does that for a whole batch, exactly
    (golden `batchnorm_single_image_equivalence`).
    """
    import copy

    from torch import nn

    changed = copy.deepcopy(network)
    for name, part in list(changed.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            norm = nn.InstanceNorm2d(part.num_features, part.eps, affine=True)
            norm.weight, norm.bias = part.weight, part.bias
            parent, _, own = name.rpartition(".")
            setattr(changed.get_submodule(parent), own, norm)
    return changed.eval()
