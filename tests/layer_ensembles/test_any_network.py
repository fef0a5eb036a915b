"""Heads on networks of others: torchvision's, timm's, compiled, copied and saved."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from workflow_scripts.layer_ensembles.inference import predict
from workflow_scripts.layer_ensembles.wrapper import attach_heads, head_logits, total_loss
from workflow_scripts.problems import InputError

Make = Callable[[], nn.Module]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
BARE = {"weights": None, "weights_backbone": None}


class TimmSegmenter(nn.Module):
    """A timm trunk with a 1 x 1 convolution on its deepest features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = timm.create_model("resnet10t", features_only=True)
        self.head = nn.Conv2d(512, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.body(x)[-1])
        return nn.functional.interpolate(logits, size=x.shape[-2:], mode="bilinear")


class TokenSegmenter(nn.Module):
    """A timm transformer whose tokens are laid out on their grid."""

    def __init__(self) -> None:
        super().__init__()
        body = partial(timm.create_model, "vit_tiny_patch16_224", img_size=64, depth=3)
        self.body = body(num_classes=0)
        self.head = nn.Conv2d(192, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.body.forward_features(x)[:, 1:].transpose(1, 2).reshape(len(x), 192, 4, 4)
        return nn.functional.interpolate(self.head(grid), size=x.shape[-2:], mode="bilinear")


def timm_model(name: str, **options: Any) -> Make:
    return partial(timm.create_model, name, num_classes=3, **options)


SEGMENTERS = {
    "fcn": (partial(models.segmentation.fcn_resnet50, num_classes=2, **BARE), None, 3),
    "lraspp": (
        partial(models.segmentation.lraspp_mobilenet_v3_large, num_classes=2, **BARE), None, 5,
    ),
    "timm features": (TimmSegmenter, None, 5),
    "timm tokens": (TokenSegmenter, r"body\.blocks\.\d", 3),
}  # fmt: skip
CLASSIFIERS = {
    "resnet": (partial(models.resnet18, num_classes=3), None, 5),
    "resnet by name": (partial(models.resnet18, num_classes=3), ["layer1", "layer3"], 2),
    "densenet": (partial(models.densenet121, num_classes=3), None, 5),
    "timm convnext": (timm_model("convnext_atto"), None, 4),
    "timm efficientnet": (timm_model("efficientnet_b0"), None, 5),
    "timm vit": (timm_model("vit_tiny_patch16_224", img_size=64, depth=3), r"blocks\.\d", 3),
    "timm swin": (
        timm_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2), r"layers\.\d", 4,
    ),
}  # fmt: skip


def prepared(make: Make, task: Any, n_classes: int, layers: Any) -> Any:
    torch.manual_seed(0)
    return attach_heads(make(), IMAGES[:1], task, n_classes, layers)


def assert_every_head_learns(network: Any) -> None:
    total_loss(network.train()(IMAGES), lambda logits: logits.square().mean()).backward()
    trained = [part for head in network.output_heads for part in head if hasattr(part, "weight")]
    assert len(trained) == len(network.layer_names)
    assert all(float(part.weight.grad.abs().sum()) > 0 for part in trained)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmentation_networks_give_a_map_a_layer(name: str) -> None:
    make, layers, n_layers = SEGMENTERS[name]
    network = prepared(make, "segmentation", 2, layers)
    assert len(network.layer_names) == n_layers
    assert_every_head_learns(network)
    found = predict(network, IMAGES)
    assert [one.label.shape for one in found] == [one.entropy.shape for one in found]
    assert found[0].label.shape == (64, 64)
    assert all(0 <= one.aula <= 1 for one in found)
    shapes = {tuple(one.shape) for one in head_logits(network(IMAGES))}
    assert shapes == {(2, 2, 64, 64)}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_give_logits_a_layer(name: str) -> None:
    make, layers, n_layers = CLASSIFIERS[name]
    network = prepared(make, "classification", 3, layers)
    assert len(network.layer_names) == n_layers
    assert_every_head_learns(network)
    found = predict(network, IMAGES)[0]
    assert found.label.shape == ()
    assert 0 <= float(found.mutual_information) <= float(found.entropy) <= math.log(3)
    assert math.isnan(found.aula)


@pytest.mark.parametrize("make", [partial(models.resnet18, num_classes=2),
                                  partial(timm.create_model, "resnet10t", num_classes=2)],
                         ids=["torchvision", "timm"])  # fmt: skip
def test_regression_has_mean_and_variance_of_the_layers(make: Make) -> None:
    network = prepared(make, "regression", 2, None)
    assert_every_head_learns(network)
    found = predict(network, IMAGES, skip=1)
    with torch.no_grad():
        targets = torch.stack(head_logits(network.eval()(IMAGES))[1:]).double()
    torch.testing.assert_close(torch.tensor(found[1].label), targets[:, 1].mean(dim=0))
    spread = targets[:, 1].var(dim=0, correction=0)
    torch.testing.assert_close(torch.tensor(found[1].variance), spread)


def test_swin_is_found_with_its_channels_last_and_windows_are_no_maps() -> None:
    network = prepared(CLASSIFIERS["timm swin"][0], "classification", 3, None)
    assert network.layer_names[:3] == ("layers.0", "layers.1", "layers.2")
    assert network.in_channels[:3] == (96, 192, 384)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_compiled_network_gives_the_same_and_trains(task: str) -> None:
    make, n_classes = (
        (TimmSegmenter, 2) if task == "segmentation" else (CLASSIFIERS["resnet"][0], 3)
    )
    network = prepared(make, task, n_classes, None).eval()
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        pairs = zip(head_logits(compiled(IMAGES)), head_logits(network(IMAGES)), strict=True)
        for found, expected in pairs:
            torch.testing.assert_close(found, expected)
    if task == "classification":
        total_loss(compiled(IMAGES), lambda logits: logits.square().mean()).backward()
        assert all(head[3].weight.grad is not None for head in network.output_heads)


def test_a_copy_and_a_saved_network_listen_to_their_own_layers() -> None:
    network = prepared(CLASSIFIERS["resnet"][0], "classification", 3, None).eval()
    expected = [one.detach() for one in head_logits(network(IMAGES))]
    other = copy.deepcopy(network)
    for part in other.parameters():
        part.data.add_(0.01)
    assert not any(
        torch.equal(a, b) for a, b in zip(head_logits(other(IMAGES)), expected, strict=True)
    )
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)  # our own file of a moment ago
    assert all(torch.equal(a, b) for a, b in zip(head_logits(again(IMAGES)), expected, strict=True))


def test_images_that_a_stride_does_not_divide_are_refused() -> None:
    network = prepared(SEGMENTERS["lraspp"][0], "segmentation", 2, None)
    with pytest.raises(ValueError, match=r"gives \(72, 72\) pixels, the network \(70, 70\): pad"):
        predict(network, torch.randn(1, 3, 70, 70))
    layers = ["backbone.2"]  # of stride 4; the deepest has 16, more than the image
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"'backbone\.2': expected maps whose sides are those of"):
        attach_heads(
            SEGMENTERS["lraspp"][0](), torch.zeros(1, 3, 14, 14), "segmentation", 2, layers
        )


@pytest.mark.parametrize("sides", [(100, 70), (300, 70), (70, 300)])
def test_classifiers_take_sides_that_no_stride_divides(sides: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *sides)
    make = CLASSIFIERS["resnet"][0]
    network = attach_heads(make(), images[:1], "classification", 3)
    assert network.layer_names == ("relu", "layer1", "layer2", "layer3", "layer4")
    assert len(predict(network, images)) == 2
