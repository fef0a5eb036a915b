"""Which images the invariance measure looks at, and which make the statistics of the features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse

Rows = NDArray[np.int64]
SMALL = 1000  # a data set below this makes its statistics from all images (released code)
STATISTICS_SHARE = 0.1  # of a larger one (released code)
RELEASED_SEED = 0  # of NumPy's global generator (released code)


def released_rows(n_images: int, n_drawn: int) -> tuple[Rows, Rows]:
    """Return the images of the statistics and those that are judged, as the released code does.

    The released code skips the first draw where it finds its statistics on disk, which moves the
    second; these are the draws of a first run.

    Args:
        n_images: training and test images in the released order.
        n_drawn: images to judge (released code: 100).

    Returns:
        Positions in the released order; both draws are with replacement.

    >>> [rows[:4].tolist() for rows in released_rows(138, 4)]
    [[0, 1, 2, 3], [47, 117, 67, 103]]

    Source: SSL transfer, spec 11.1 and 11.2.
    """
    state = np.random.RandomState(RELEASED_SEED)
    statistics = np.arange(n_images)
    if n_images >= SMALL:
        statistics = state.choice(n_images, max(SMALL, int(STATISTICS_SHARE * n_images)))
    return statistics.astype(np.int64), state.choice(n_images, n_drawn).astype(np.int64)


def one_a_patient(patients: NDArray[np.int64], n_drawn: int, rng: np.random.Generator) -> Rows:
    """Return images of different patients, sorted.

    Args:
        patients: patient number of each image, shape (N,).
        n_drawn: images wanted; fewer patients give one image each.
        rng: the source of the draw.

    Raises:
        InputError: no image.
    """
    if len(patients) == 0:
        raise refuse("images to judge", "at least one", "none", "look at quarantine.csv")
    order = rng.permutation(len(patients))
    _, first = np.unique(patients[order], return_index=True)  # of each patient, in random order
    return np.sort(order[np.sort(first)[:n_drawn]]).astype(np.int64)
