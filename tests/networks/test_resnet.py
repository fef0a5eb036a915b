"""Our residual networks are torchvision's, loaded faster."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from workflow_scripts.networks.resnet import DEPTHS, resnet


@pytest.mark.parametrize("name", DEPTHS)
def test_tensors_have_the_names_order_and_shapes_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = resnet(name).state_dict(), models.get_model(name, weights=None).state_dict()
    assert [(key, value.shape) for key, value in ours.items()] == [
        (key, value.shape) for key, value in theirs.items()
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_one_seed_gives_the_tensors_and_scores_of_torchvision(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        ours = resnet(name).eval()
        torch.manual_seed(3)
        theirs = models.get_model(name, weights=None).eval()
        images = torch.randn(2, 3, 70, 64)
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
