"""LPIPS equals the `lpips` package, and is a distance."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.checkpoints.synthetic import phantom_tensors
from workflow_scripts.ssl_transfer.lpips import SHAPES, Lpips, lpips_of, weights_file

SIZE_PX = 64


def seeded_trunk(name: str) -> nn.Module:
    """Return the convolutional part of a trunk as a checkpoint holds it, with seeded weights."""
    architecture = SHAPES[name].architecture
    network = build_backbone("torchvision", architecture)
    tensors = phantom_tensors("torchvision", architecture.split("+")[0], seed=3)
    network.load_state_dict({key: tensors[key] for key in network.state_dict()})
    return network.get_submodule("features")


@pytest.fixture(scope="module", params=sorted(SHAPES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ours(name: str) -> Lpips:
    return lpips_of(name, seeded_trunk(name))


def images(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, SIZE_PX, SIZE_PX, generator=generator) * 2 - 1


def test_distance_equals_the_package(
    name: str, ours: Lpips, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lpips
    from torchvision import models

    # the package asks torchvision for trained weights, which would come from the network
    for network in ("alexnet", "vgg16", "squeezenet1_1"):
        build = getattr(models, network)
        monkeypatch.setattr(models, network, lambda pretrained=True, build=build: build())
    theirs = lpips.LPIPS(net=SHAPES[name].weights, verbose=False)
    mine = itertools.chain.from_iterable(part.children() for part in ours.slices)
    trunk = itertools.chain.from_iterable(
        getattr(theirs.net, f"slice{i + 1}").children() for i in range(len(ours.slices))
    )
    for source, target in zip(mine, trunk, strict=True):
        target.load_state_dict(source.state_dict())
    first, second = images(2), images(2, seed=1)
    with torch.inference_mode():
        expected = theirs(first, second).flatten()
        torch.testing.assert_close(ours(first, second), expected, rtol=1e-5, atol=1e-7)
        assert (expected > 1e-3).all()


def test_it_is_zero_for_itself_symmetric_and_not_negative(ours: Lpips) -> None:
    first, second = images(2), images(2, seed=1)
    with torch.inference_mode():
        assert (ours(first, first) == 0).all()
        torch.testing.assert_close(ours(first, second), ours(second, first))
        assert (ours(first, second) > 0).all()


def test_layers_of_the_original_serve_every_reconstruction(ours: Lpips) -> None:
    original, others = images(1), images(3, seed=2)
    with torch.inference_mode():
        kept = ours.layers(original)
        expected = torch.cat([ours(original, other[None]) for other in others])
        found = ours.between(kept, ours.layers(others))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_no_channel_has_a_weight_below_zero(name: str) -> None:
    tensors = torch.load(weights_file(SHAPES[name].weights), map_location="cpu", weights_only=True)
    assert len(tensors) == len(SHAPES[name].ends)
    assert all((tensor >= 0).all() for tensor in tensors.values())
