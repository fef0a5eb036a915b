"""Features that are not finite are refused, not averaged away."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer import invariance
from workflow_scripts.ssl_transfer.finite import require_finite
from workflow_scripts.ssl_transfer.occlusion import dense_scorer
from workflow_scripts.ssl_transfer.windowed_resnet import WindowedResNet

PLACE = np.array([0], dtype=np.int64)


class Broken(nn.Module):
    """Features of which one is not finite where the image is bright."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean, torch.where(mean > 0.5, torch.inf, mean)], dim=1)


def test_the_message_counts() -> None:
    require_finite(np.ones(3), "scores")
    with pytest.raises(InputError, match="scores: expected finite numbers, found 2 of 4 not"):
        require_finite(np.array([1.0, np.nan, np.inf, 0.0]), "scores")


def test_a_saliency_map_of_features_that_overflow_is_refused() -> None:
    image, black = torch.ones(3, 8, 8), torch.zeros(3)
    with pytest.raises(InputError, match="features of the image and its occluded versions"):
        dense_scorer(Broken(), image, 4, black, 2)(PLACE, PLACE)
    network: Any = build_backbone("torchvision", "resnet18")
    scorer = WindowedResNet(network.eval(), torch.zeros(3, 40, 40), 4, torch.full((3,), torch.nan))
    with pytest.raises(InputError, match="1 of 1 not finite"):
        scorer(PLACE, PLACE)


@pytest.mark.parametrize("batch_norm", ["eval", "batch"])
def test_invariance_of_features_that_overflow_is_refused(batch_norm: str) -> None:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    views = invariance.Views(pixels, pixels + 255, pd.DataFrame(), {"k": 1})

    def to_input(images: np.ndarray) -> np.ndarray:
        return (images / np.float32(255)).transpose(0, 3, 1, 2).astype(np.float32)

    given = argparse.Namespace(gpus=0, batch_norm=batch_norm, batch_size=2)
    with pytest.raises(InputError, match=r"transformed images: .* found 2 of 4"):
        invariance.forward(Broken(), views, (to_input, to_input), given)
