"""Logistic regression on frozen features over a path of regularisation strengths.

`C` is meant everywhere as in the released code, whose model is a softmax with one weight vector a
class, also for two classes. scikit-learn fits two classes with a single vector; that is the same
model at 2C, with twice the coefficients and equal probabilities. `fit` does the doubling.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Features = NDArray[np.floating]
Labels = NDArray[np.int64]
Score = Callable[[Labels, Labels], float]  # truth, prediction -> larger is better, NaN undefined
N_C_VALUES = 45  # released code: quarter decades from 1e6 down to 1e-5


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit on the path.

    Attributes:
        c: regularisation strength, of the softmax model; smaller is stronger.
        score: on the validation images; NaN where the metric is undefined.
        n_iterations: of L-BFGS, at most the limit.
        converged: L-BFGS ended by itself: the largest component of the gradient of the mean
            objective fell below the tolerance, or float precision allows no further step.
    """

    c: float
    score: float
    n_iterations: int
    converged: bool


def c_values() -> NDArray[np.float64]:
    """Return the 45 strengths of the released code, descending from 1e6 to 1e-5.

    They are reciprocals of float32 weight decays, which the last digits show.
    """
    weight_decays = np.logspace(-6, 5, N_C_VALUES).astype(np.float32)
    return 1 / weight_decays.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Coordinates:
    """An exact change of coordinates in which a probe converges many times faster.

    The intercept is not penalised, so subtracting the training images' mean changes nothing but
    the intercept. With fewer images than feature dimensions the weights of the optimum lie in the
    span of the centred training images (the penalty drives all else to zero), and the penalty
    does not see a rotation: a few numbers a class are searched instead of thousands. Dividing by
    the images' mean distance from their mean is the same as a C larger by its square.

    Attributes:
        mean: of the training images, shape (F,).
        basis: orthonormal columns, shape (F, N), or None where N >= F.
        scale: root mean square distance of the training images from their mean; 1 if that is 0.
    """

    mean: Features
    basis: Features | None
    scale: float

    @classmethod
    def of(cls, features: Features) -> Coordinates:
        """Return the coordinates for training images of shape (N, F), finite."""
        mean = features.mean(axis=0)
        centred = features - mean
        scale = float(np.sqrt(np.square(centred).sum(axis=1).mean())) or 1.0
        if len(features) >= features.shape[1]:
            return cls(mean, None, scale)
        return cls(mean, np.linalg.qr(centred.T)[0], scale)

    def __call__(self, features: Features) -> Features:
        """Return images of shape (M, F) in these coordinates, shape (M, min(N, F))."""
        centred = (features - self.mean) / self.scale
        return centred if self.basis is None else centred @ self.basis


def probe(tolerance: float, max_iterations: int) -> LogisticRegression:
    """Return an unfitted model whose next fit starts from its last solution (L2, L-BFGS)."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(tol=tolerance, max_iter=max_iterations, warm_start=True)


def fit(model: LogisticRegression, features: Features, labels: Labels, c: float) -> bool:
    """Fit `model` at strength `c` and return whether it converged.

    Args:
        model: as `probe` makes it; warm after a first fit.
        features: shape (N, F), finite.
        labels: class index, shape (N,), every class of 0..C-1 present.
        c: of the softmax model, see the head of this file.
    """
    import sklearn
    from sklearn.exceptions import ConvergenceWarning

    # a plain float: a NumPy one would turn scikit-learn's float32 arithmetic into float64
    model.set_params(C=float(2 * c if labels.max() == 1 else c))
    with sklearn.config_context(assume_finite=True), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def search(
    model: LogisticRegression,
    training: tuple[Features, Labels],
    validation: tuple[Features, Labels],
    path: Sequence[float],
    score: Score,
    scale: float = 1.0,
) -> list[Fit]:
    """Fit along `path`, each fit starting from the one before, and score each on validation.

    `scale` is what the features were divided by: the strengths of `path` are those of the
    features as they were.
    """
    fits = []
    for c in path:
        converged = fit(model, *training, c * scale**2)
        prediction = model.predict(validation[0])
        n_iterations = int(model.n_iter_[0])
        fits.append(Fit(c, score(validation[1], prediction), n_iterations, converged))
    return fits


def best(fits: Sequence[Fit]) -> Fit:
    """Return the first fit with the highest score; NaN never wins.

    Along a descending path a tie keeps the larger C, along an ascending one the smaller. (The
    released code starts from 0, so that it has no choice at all where every fit scores 0.)

    Raises:
        InputError: if every score is undefined.

    Source: SSL transfer, released code (golden `linear_path`).
    """
    defined = [one for one in fits if not np.isnan(one.score)]
    if not defined:
        raise refuse(
            "validation images",
            "a C value with a defined score",
            f"{len(fits)} C values whose score is undefined",
            "give the data set more training images",
        )
    return max(defined, key=lambda one: one.score)  # max keeps the first of equals


def logits(model: LogisticRegression, features: Features) -> NDArray[np.float64]:
    """Return one logit a class, shape (N, C); softmax of them is the model's probability."""
    decision = np.asarray(model.decision_function(features), dtype=np.float64)
    if decision.ndim == 1:  # two classes: the released softmax has the weights +w and -w
        return np.stack([-decision / 2, decision / 2], axis=1)
    return decision
