from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.datasets.pixels import histogram_normalize
from workflow_scripts.networks.deep_image_prior import Generator
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.layers import layer_features, layer_names
from workflow_scripts.ssl_transfer.reconstruction import preprocessing
from workflow_scripts.ssl_transfer.training_protocols import RECONSTRUCTION

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())


def test_generator_has_the_golden_layers() -> None:
    golden = GOLDEN["dip_network"]
    generator = Generator()
    assert sum(one.numel() for one in generator.parameters()) == golden["n_parameters"]
    parts = list(generator.modules())
    assert sum(isinstance(part, nn.BatchNorm2d) for part in parts) == golden["n_bn"]
    found = [
        [part.in_channels, part.out_channels, part.kernel_size[0], part.stride[0],
         part.padding[0], part.bias is not None]
        for part in parts
        if isinstance(part, nn.Conv2d)
    ]  # fmt: skip
    assert found == [line[2:] for line in golden["conv_list_in_registration_order"]]
    with torch.no_grad():
        assert generator(torch.rand(1, 32, 256, 256)).shape == (1, 3, 256, 256)


def test_tiny_forward_is_the_golden_one() -> None:
    golden = GOLDEN["dip_tiny_forward"]
    generator = Generator(n_in=2, channels=(2, 3), kernels=(3, 3), n_skip=1)
    named = list(generator.named_parameters())
    assert [list(one.shape) for _, one in named] == [
        shape for _, shape in golden["named_parameters"]
    ]
    with torch.no_grad():
        for i, (name, one) in enumerate(named):
            flat = torch.arange(one.numel())
            if one.ndim == 4:
                values = ((7 * flat + 3 * i) % 13) / 13 - 0.45
            elif name.endswith("bias"):
                values = ((flat + i) % 5) / 10
            else:
                values = torch.ones(one.numel())
            one.copy_(values.view(one.shape))
        noise = (torch.arange(128) % 17 / 170).view(1, 2, 8, 8)
        found = generator(noise)[0]
    np.testing.assert_allclose(found, golden["output"], atol=2e-5)
    assert float(found.sum()) == pytest.approx(golden["output_sum"], abs=1e-3)


def test_layers_have_the_released_names_and_sizes() -> None:
    images = torch.rand(1, 3, 64, 64)
    for architecture, layer, shape in (
        ("resnet18", "layer4", (1, 512, 2, 2)),
        ("resnet18", "bn1", (1, 64, 32, 32)),
        ("resnet18", "fc", (1, 512)),
        ("densenet121", "layer4", (1, 1024, 2, 2)),
        ("densenet121", "transition3", (1, 512, 2, 2)),
    ):
        network = build_backbone("torchvision", architecture)
        assert layer_features(network, layer)(images).shape == shape
    assert layer_names(network).keys() >= {"conv0", "layer1", "norm5", "relu0", "pool0"}


def test_a_layer_is_what_it_computed_before_the_next_one_overwrote_it() -> None:
    network = build_backbone("torchvision", "resnet18")
    with torch.no_grad():
        assert float(layer_features(network, "bn1")(torch.randn(1, 3, 32, 32)).min()) < 0


def test_an_unknown_layer_is_refused_with_the_ones_there_are() -> None:
    network = build_backbone("torchvision", "resnet18")
    with pytest.raises(InputError, match=r"layer3.*did you mean"):
        layer_features(network, "layer5")


def test_equalisation_of_the_original_is_its_histogram_normalisation() -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (3, 16, 16)) // 5 * 5
    image = torch.from_numpy((stored / np.float32(255)).astype(np.float32))[None]
    card = {"normalisation": "histogram", "mean": None, "std": None}
    prepare = preprocessing(card, RECONSTRUCTION["corrected"], image)
    expected = histogram_normalize(image[0].numpy())
    np.testing.assert_allclose(prepare(image)[0].numpy(), expected, rtol=1e-5)
    moved = image.clone().requires_grad_()
    prepare(moved * 0.9).sum().backward()
    assert float(moved.grad.abs().max()) > 0


def test_released_reconstruction_sees_pixels_as_they_are() -> None:
    image = torch.rand(1, 3, 4, 4)
    card = {"normalisation": "mean_std", "mean": [0.5] * 3, "std": [0.25] * 3}
    assert torch.equal(preprocessing(card, RECONSTRUCTION["released"], image)(image), image)
    own = preprocessing(card, RECONSTRUCTION["corrected"], image)(image)
    torch.testing.assert_close(own, (image - 0.5) / 0.25)
