"""Uncertainty of an ensemble of predictions, per pixel, per image and from layer to layer.

An ensemble is T predictions of one image or volume: exit heads ordered by depth (layer
ensembles), or networks (deep ensembles). Logarithms are natural. Three definitions exist
(`DEFINITIONS`): `paper` (first commit), `released` (newest commit) and `corrected`; where they
differ, the functions below say how.

Source: Kushibar et al., Layer Ensembles, MICCAI 2022; spec sections 5 to 8.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.integer]
Definition = Literal["paper", "released", "corrected"]
DEFINITIONS: tuple[Definition, ...] = ("paper", "released", "corrected")
MAP_EPSILON = 1e-5  # inside each logarithm of a map, both generations of the released code
RELEASED_NLL_EPSILON = 1e-5  # newest commit; the first commit has none
RANGE_EPSILON = 1e-8  # added to the range in the min-max normalisation (released code)


class UncertaintyMaps(NamedTuple):
    """Uncertainty of every pixel, each of shape (*S,)."""

    entropy: Floats
    mutual_information: Floats
    variance: Floats


class ImageUncertainty(NamedTuple):
    """Uncertainty of one image, one number a map."""

    entropy: float
    mutual_information: float
    variance: float


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Return class probabilities of logits, shape (T, C, *S), over axis 1, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def log_softmax(logits: NDArray[np.floating]) -> Floats:
    """Return log-probabilities of logits, shape (T, C, *S), over axis 1, finite in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def entropy(probabilities: Floats, epsilon: float) -> Floats:
    """Return - sum_c p log(p + epsilon), shape (C, ...) to (...).

    Args:
        probabilities: of the classes, along the first axis.
        epsilon: added inside the logarithm; with 0 the limit 0 log 0 = 0 is taken.
    """
    if epsilon:
        logs = np.log(probabilities + epsilon)
    else:
        logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    logs *= probabilities
    result: Floats = -logs.sum(axis=0)
    return result


def uncertainty_maps(probabilities: Floats, definition: Definition) -> UncertaintyMaps:
    """Return the uncertainty of every pixel.

    Args:
        probabilities: of the T predictions, shape (T, C, *S).
        definition: `paper` and `released` add 1e-5 inside each logarithm and take the population
            variance of the argmax *label numbers*, so that confusing labels 0 and 3 counts nine
            times as much as 0 and 1; `corrected` adds nothing and sums the variances of the class
            probabilities, which does not depend on how classes are numbered.

    Source: spec section 7; golden `uncertainty_binary_head_commit_skip0`.
    """
    epsilon = 0.0 if definition == "corrected" else MAP_EPSILON
    total = entropy(probabilities.mean(axis=0), epsilon)
    own = entropy(np.moveaxis(probabilities, 1, 0), epsilon).mean(axis=0)  # of each, then mean
    if definition == "corrected":
        spread = probabilities.var(axis=0).sum(axis=0)
    else:
        spread = label_variance(probabilities.argmax(axis=1))
    return UncertaintyMaps(total, total - own, spread)


def label_variance(labels: Labels) -> Floats:
    """Return the population variance over T of label numbers, shape (T, *S) to (*S,).

    From whole-number sums, so that equal labels give exactly 0.
    """
    numbers: NDArray[np.int32] = labels.astype(np.int32)
    n = len(numbers)
    first, second = numbers.sum(axis=0), (numbers * numbers).sum(axis=0)
    result: Floats = (n * second - first * first) / float(n * n)
    return result


def class_variance(probabilities: Floats) -> Floats:
    """Return for each class the variance over T, summed over pixels, shape (T, C, *S) to (C,).

    Source: the score that orders deep ensembles by structure; golden `deep_ensembles_3d_block`.
    """
    spread = probabilities.var(axis=0)
    result: Floats = spread.reshape(len(spread), -1).sum(axis=1)
    return result


def minmax_normalise(values: Floats) -> Floats:
    """Return (x - min) / (max - min + 1e-8); a constant map becomes 0.

    Golden `minmax_normalise`.
    """
    low = values.min()
    result: Floats = (values - low) / (values.max() - low + RANGE_EPSILON)
    return result


def image_uncertainty(maps: UncertaintyMaps, definition: Definition) -> ImageUncertainty:
    """Return one number a map.

    `paper`: the sum of the min-max normalised map, which forgets how uncertain the most uncertain
    pixel is. `released`: the sum of the map. `corrected`: its mean, which does not depend on the
    number of pixels.
    """
    if definition == "paper":
        return ImageUncertainty(*(float(minmax_normalise(one).sum()) for one in maps))
    if definition == "released":
        return ImageUncertainty(*(float(one.sum()) for one in maps))
    return ImageUncertainty(*(float(one.mean()) for one in maps))


def negative_log_likelihood(
    logits: NDArray[np.floating], truth: Labels, definition: Definition
) -> float:
    """Return the mean over pixels of -log m_y, m the mean of the T softmax outputs.

    Args:
        logits: shape (T, C, *S).
        truth: class of each pixel, shape (*S,).
        definition: `paper` takes the logarithm of m in double precision and is inf where m_y is 0;
            `released` adds 1e-5; `corrected` stays in log space and is always finite.
    """
    index = truth[None, None].astype(np.int64)
    if definition == "corrected":
        logs = np.take_along_axis(log_softmax(logits), index, axis=1)[:, 0]  # (T, *S)
        top = logs.max(axis=0)
        log_mean = top + np.log(np.exp(logs - top).mean(axis=0))
        return float(-log_mean.mean())
    epsilon = RELEASED_NLL_EPSILON if definition == "released" else 0.0
    return nll_of(np.take_along_axis(softmax(logits), index, axis=1).mean(axis=0), epsilon)


def nll_of(probability_of_truth: Floats, epsilon: float) -> float:
    """Return the mean of -log(p + epsilon); inf where a p is 0 and nothing is added."""
    with np.errstate(divide="ignore"):
        return float(-np.log(probability_of_truth + epsilon).mean())


def layer_agreement(masks: NDArray[np.bool_]) -> Floats:
    """Return the Dice score of each mask with the next, shape (T, *S) to (T - 1,).

    Two empty masks agree with 0, not 1 (released code): a head that sees nothing is a warning.
    Golden `aula_binary_10heads`, `aula_two_empty_first_heads`.
    """
    flat = masks.reshape(len(masks), -1).astype(bool)
    sizes = np.count_nonzero(flat, axis=1)
    shared = np.count_nonzero(flat[1:] & flat[:-1], axis=1)
    return _dice(shared, sizes[1:] + sizes[:-1])


def agreement_with_last(masks: NDArray[np.bool_]) -> Floats:
    """Return the Dice score of each mask, the last included, with the last, shape (T,).

    An alternative that a branch of the released code takes; the paper's is `layer_agreement`.
    """
    flat = masks.reshape(len(masks), -1).astype(bool)
    sizes = np.count_nonzero(flat, axis=1)
    return _dice(np.count_nonzero(flat & flat[-1], axis=1), sizes + sizes[-1])


def _dice(shared: NDArray[np.intp], total: NDArray[np.intp]) -> Floats:
    result: Floats = np.where(total > 0, 2 * shared / np.maximum(total, 1), 0.0)
    return result


def aula(agreements: Floats) -> float:
    """Return the area under the layer agreement curve, trapezoids of width 1, in [0, T - 2].

    High on easy images, low on suspicious ones. With fewer than two agreements it is 0 (spec
    section 7); `aula_share` is undefined there.

    >>> aula(np.array([0.5, 1.0, 1.0]))
    1.75
    """
    return float((agreements[1:] + agreements[:-1]).sum() / 2)


def aula_share(agreements: Floats) -> float:
    """Return AULA as a share of its largest value T - 2; NaN with fewer than two agreements.

    Ours, for the corrected definition: comparable between numbers of heads.
    """
    return aula(agreements) / (len(agreements) - 1) if len(agreements) > 1 else math.nan


def released_aula(n_heads: int) -> float:
    """Return AULA as the newest commit computes it: T - 2 for every image, thus useless.

    Its agreement takes soft probabilities for masks; every pixel is foreground, so all agree.
    """
    return float(max(n_heads - 2, 0))


def prediction_depth(agreements: Floats, threshold: float = 0.95) -> int:
    """Return the first position from which on agreements change by at most 1 - threshold.

    Counted from 0; the number of agreements where even the last change is larger. Experimental in
    the released code (commented out). Golden `prediction_depth`.
    """
    depth = len(agreements)
    for position in reversed(range(len(agreements) - 1)):
        if abs(agreements[position + 1] - agreements[position]) > 1 - threshold:
            break
        depth = position
    return depth
