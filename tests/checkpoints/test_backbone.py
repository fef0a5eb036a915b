from __future__ import annotations

import pytest
import torch
from torch import nn

from workflow_scripts.checkpoints.backbone import build_backbone, classifier_prefixes
from workflow_scripts.problems import InputError

# The smallest network of each torchvision family, and the width before its classifier.
FAMILIES = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "efficientnet_v2_s": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnext50_32x4d": 2048,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "swin_v2_t": 768,
    "vgg11_bn": 4096,
    "vit_b_32": 768,
    "wide_resnet50_2": 2048,
}


@pytest.mark.parametrize(("architecture", "width"), FAMILIES.items())
def test_a_torchvision_backbone_gives_what_its_classifier_took(
    architecture: str, width: int
) -> None:
    with torch.device("meta"):  # shapes only, nothing is computed
        network = build_backbone("torchvision", architecture)
        features = network(torch.empty(2, 3, 224, 224))
    assert features.shape == (2, width)


def test_a_regnet_backbone_gives_what_its_classifier_took() -> None:
    network = build_backbone("torchvision", "regnet_x_400mf")  # cannot be built without values
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 400)


@pytest.mark.parametrize(
    ("architecture", "prefixes"),
    [
        ("vit_tiny_patch16_224", ("head.",)),
        ("convnext_atto", ("head.fc.",)),  # head.norm stays, it is part of the features
        ("deit_tiny_distilled_patch16_224", ("head.", "head_dist.")),
    ],
)
def test_timm_names_its_classifiers(architecture: str, prefixes: tuple[str, ...]) -> None:
    assert classifier_prefixes("timm", architecture) == prefixes


def test_a_backbone_is_in_evaluation_mode() -> None:
    network = build_backbone("torchvision", "resnet18")
    assert not any(module.training for module in network.modules())
    assert not any(isinstance(module, nn.Linear) for module in network.modules())


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(InputError, match="one of timm, torchvision"):
        build_backbone("keras", "resnet50")
