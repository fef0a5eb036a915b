"""Which training images judge the regularisation: the released draw, and one by patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse

Rows = NDArray[np.int64]
VALIDATION_SHARE = 0.2  # of the training images (released code)
MAX_DRAWS = 1000  # tries before a sound validation part counts as impossible; ours


def released_validation(n_images: int, seed: int) -> tuple[Rows, Rows]:
    """Return validation and training positions as the released code shuffles them.

    Args:
        n_images: training images, in the released order.
        seed: of numpy's old global generator (released code: 0).

    Returns:
        The first floor(0.2 n) shuffled positions, and the rest. Patients may be in both.

    >>> released_validation(10, seed=0)[0].tolist()
    [2, 8]

    Source: SSL transfer, released code (golden `validation_split`).
    """
    order = np.random.RandomState(seed).permutation(n_images).astype(np.int64)
    n_validation = int(VALIDATION_SHARE * n_images)
    return order[:n_validation], order[n_validation:]


def validation_by_patient(
    labels: NDArray[np.int64], patients: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Return validation and training positions that share no patient.

    Whole patients, in random order, go to validation until it holds at least floor(0.2 n) of the
    n images (and at least one). A draw that leaves a class without a training image is repeated.

    Args:
        labels: class index of each image, shape (N,).
        patients: patient number (0, 1, ...) of each image, shape (N,).
        rng: the source of the draw.

    Raises:
        InputError: no such draw in `MAX_DRAWS` tries.

    Source: ours; the released code knows no patients.
    """
    sizes = np.bincount(patients)
    wanted = max(1, int(VALIDATION_SHARE * len(labels)))
    for _ in range(MAX_DRAWS):
        order = rng.permutation(len(sizes))
        n_drawn = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
        is_validation = np.isin(patients, order[:n_drawn])
        if set(labels[~is_validation]) == set(labels):
            return np.flatnonzero(is_validation), np.flatnonzero(~is_validation)
    n_patients = [len(np.unique(patients[labels == label])) for label in np.unique(labels)]
    raise refuse(
        "training images",
        "patients for both training and validation in every class",
        f"{', '.join(map(str, n_patients))} patients in the classes, {len(sizes)} in all",
        "add patients to the smallest class, or leave it out of the data set",
    )
