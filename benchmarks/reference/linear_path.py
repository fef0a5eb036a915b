"""The regularisation path the plain way: scikit-learn in a loop, with its default threads."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression


def coefficients(
    features: NDArray[np.float32], labels: NDArray[np.int64], path: list[float]
) -> NDArray[np.float32]:
    """Return the coefficients of each fit, shape (C values, classes, F); warm along `path`."""
    model = LogisticRegression(warm_start=True)
    found = []
    for c in path:
        model.C = c
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # as the released code
            found.append(model.fit(features, labels).coef_.copy())
    return np.stack(found)
