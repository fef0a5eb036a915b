"""From the image store to network input: float32, bit-identical to the torchvision transforms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse

Normalisation = Literal["mean_std", "none", "histogram"]
Levels = NDArray[np.float32]  # result of each of the 256 gray levels

N_BINS = 256  # of the histogram normalisation (ssl_transfer spec 4.2)


class Store(NamedTuple):
    """An image store, open for reading.

    Attributes:
        images: shape (N, H, W, 3 or 1), uint8, mapped from the file and not in memory.
        image_id: row i of `images` shows image `image_id[i]`.
        sha256: of the bytes of that image's file.
    """

    images: NDArray[np.uint8]
    image_id: tuple[str, ...]
    sha256: tuple[str, ...]


def open_store(store_path: Path, index_path: Path) -> Store:
    """Open a store and its index.

    Raises:
        InputError: if the two files do not belong together.
    """
    import pyarrow.parquet as pq

    images = np.load(store_path, mmap_mode="r")
    index = pq.ParquetFile(index_path).read().to_pydict()  # read_table would import pandas
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(index["image_id"]):
        raise refuse(
            str(store_path),
            f"uint8 images for the {len(index['image_id'])} rows of {index_path}",
            f"{images.dtype} of shape {images.shape}",
            "delete both files and build the store again",
        )
    return Store(images, tuple(index["image_id"]), tuple(index["sha256"]))


def network_input(
    batch: NDArray[np.uint8],
    normalisation: Normalisation,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return a batch of stored images as the float32 input of a network.

    Args:
        batch: stored pixels, shape (N, H, W, 3).
        normalisation: `none` gives values in [0, 1]; `mean_std` subtracts `mean` and divides by
            `std` after that; `histogram` equalises each image instead, values in (0, 255].
        mean: of the three channels, for `mean_std` only.
        std: of the three channels, for `mean_std` only.
        out: filled and returned where given, shape (N, 3, H, W); a loop that hands in the same
            array saves more time than the arithmetic costs.

    Returns:
        Shape (N, 3, H, W).

    Raises:
        ValueError: if `normalisation` is unknown or lacks its constants.
    """
    count, height, width, channels = batch.shape
    if out is None:
        out = np.empty((count, channels, height, width), dtype=np.float32)
    if normalisation == "histogram":
        for image, result in zip(batch, out, strict=True):
            np.take(histogram_levels(image), image.transpose(2, 0, 1), out=result, mode="clip")
    elif normalisation == "mean_std":
        _standardise(batch, _constants(mean, "mean"), _constants(std, "std"), out)
    elif normalisation == "none":
        np.divide(batch.transpose(0, 3, 1, 2), np.float32(255), out=out)
    else:
        raise ValueError(f"normalisation {normalisation!r} is not mean_std, none or histogram")
    return out


def _standardise(
    batch: NDArray[np.uint8],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    # One plane at a time stays in the processor's cache. The order of operations (divide,
    # subtract, divide, each in float32) is that of ToTensor and Normalize, to the last bit.
    for image, planes in zip(batch, out, strict=True):
        for channel, plane in enumerate(planes):
            np.divide(image[..., channel], np.float32(255), out=plane)
            plane -= mean[channel]
            plane /= std[channel]


def _constants(values: Sequence[float], name: str) -> NDArray[np.float32]:
    if len(values) != 3 or (name == "std" and not all(value > 0 for value in values)):
        raise ValueError(f"{name}: expected three numbers (std above 0), got {values}")
    return np.asarray(values, dtype=np.float32)


def histogram_levels(image: NDArray[np.uint8], n_bins: int = N_BINS) -> Levels:
    """Return each gray level after `histogram_normalize` of a stored image, shape (256,).

    A pixel's result depends on its level alone, so at most 256 are there to compute; 0 stands
    for a level that does not occur in `image`.
    """
    counts = np.bincount(image.reshape(-1), minlength=256)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    present = counts > 0
    result = np.zeros(256, dtype=np.float32)
    result[present] = _equalise(levels[present], counts[present], n_bins)
    return result


def histogram_normalize(image: NDArray[np.float32], n_bins: int = N_BINS) -> NDArray[np.float32]:
    """Equalise the histogram of an image: all channels share one histogram.

    Args:
        image: shape (C, H, W), any range.
        n_bins: equal bins between the smallest and the largest value.

    Returns:
        255 times the share of pixels up to the value's place between the left bin edges, same
        shape; values in (0, 255], the smallest being 255 times the share of the first bin.

    Source: ssl_transfer spec 4.2, used by the mimic-chexpert checkpoints.

    >>> histogram_normalize(np.array([[[0.0, 0.25], [0.5, 1.0]]], dtype=np.float32), 4).tolist()
    [[[63.75, 127.5], [191.25, 255.0]]]
    """
    flat = image.reshape(-1)
    return _equalise(flat, np.ones(flat.size, dtype=np.int64), n_bins).reshape(image.shape)


def _equalise(
    values: NDArray[np.float32], counts: NDArray[np.int64], n_bins: int
) -> NDArray[np.float32]:
    # Integer counts keep the sum exact, so that levels with counts and single pixels agree.
    edges = np.histogram_bin_edges(values, bins=n_bins)
    where = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
    histogram = np.bincount(where, weights=counts, minlength=n_bins)
    share = 255 * np.cumsum(histogram) / counts.sum()
    equalised: NDArray[np.float64] = np.interp(values, edges[:-1], share)
    return equalised.astype(np.float32)
