"""Predictions with their uncertainty, for a network of your own with heads on it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from workflow_scripts.layer_ensembles.wrapper import LayerEnsembles, head_logits
from workflow_scripts.metrics import uncertainty

Floats = NDArray[np.float64]


class Prediction(NamedTuple):
    """What the network says about one image, and how sure it is.

    Attributes:
        label: class of each pixel (H, W), class of the image (), or the mean of the heads'
            targets (targets,) in a regression.
        entropy: predictive entropy, nat, shape of `label`; NaN in a regression.
        mutual_information: its part that the heads disagree about; NaN in a regression.
        variance: of the class probabilities over heads, summed over classes; of the targets in a
            regression.
        aula: layer agreement as a share of the largest, 0 to 1, of the foreground (all classes
            but 0): low is suspicious. NaN without masks, or with fewer than three predictions.
    """

    label: NDArray[np.number]
    entropy: Floats
    mutual_information: Floats
    variance: Floats
    aula: float


def predict(network: LayerEnsembles, images: torch.Tensor, skip: int = 0) -> list[Prediction]:
    """Return a prediction for each image of a batch, from one pass.

    Args:
        network: with its heads set; it is used in evaluation mode, and put back.
        images: what the network takes, shape (N, ...).
        skip: first heads to leave out; chosen on validation data, never on test data.

    Raises:
        ValueError: no head would be left, or the heads are not set.
    """
    if network.task is None:
        raise ValueError("set the output heads first")
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            heads = head_logits(network(images))
    finally:
        network.train(was_training)
    if not 0 <= skip < len(heads):
        raise ValueError(f"skip: expected 0 to {len(heads) - 1}, found {skip}")
    stacked = torch.stack(heads[skip:], dim=1).double().cpu().numpy()  # (N, T, C, ...)
    if network.task == "regression":
        return [_regression(one) for one in stacked]
    return [_classes(one) for one in stacked]


def _classes(logits: Floats) -> Prediction:
    """Return the prediction of one image from logits (T, C, *S)."""
    p = uncertainty.softmax(logits)
    maps = uncertainty.uncertainty_maps(p, "corrected")
    area = math.nan
    if p.ndim > 2:
        area = uncertainty.aula_share(uncertainty.layer_agreement(uncertainty.most_likely(p) > 0))
    return Prediction(p.mean(axis=0).argmax(axis=0), *maps, area)


def _regression(targets: Floats) -> Prediction:
    """Return the prediction of one image from targets (T, targets); ours, not the paper's."""
    undefined = np.full(targets.shape[1:], math.nan)
    mean, variance = targets.mean(axis=0), targets.var(axis=0)
    return Prediction(mean, undefined, undefined, variance, math.nan)
