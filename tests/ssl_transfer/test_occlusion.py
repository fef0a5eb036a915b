from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.networks.resnet import DEPTHS, resnet
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.occlusion import (
    Occlusion,
    attentive_diffusion,
    dense_scorer,
    per_image_statistics,
    saliency_map,
    score_positions,
)
from workflow_scripts.ssl_transfer.windowed_resnet import WindowedResNet

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
MAPS = arrays.arrays(np.float64, (5, 4), elements=st.floats(0, 8, width=16))


class GoldenFeatures(nn.Module):
    """f(x) = relu(W flatten(x)), as the golden entry says."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weights.T).relu()


def all_scores(scorer: Any, side: int, occlusion: Occlusion, batch: int = 7) -> np.ndarray:
    places = occlusion.places(side)
    return np.stack([*score_positions(scorer, places, places, batch)])


def random_network(name: str, seed: int = 0) -> nn.Module:
    """Return a backbone whose batch normalisation has statistics that differ from channel to
    channel."""
    torch.manual_seed(seed)
    network = resnet(name)
    network.fc = nn.Identity()  # type: ignore[assignment]
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
    return network.eval()


@pytest.mark.parametrize("case", GOLDEN["occlusion_saliency"]["cases"])
def test_map_and_diffusion_are_the_golden_ones(case: dict[str, Any]) -> None:
    entry = GOLDEN["occlusion_saliency"]
    image = torch.tensor(entry["image_chw"])
    network = GoldenFeatures(entry["W"])
    occlusion = Occlusion(window=case["size"])
    fill = torch.tensor([float(case["fill_value"])])
    scorer = dense_scorer(network, image, occlusion.window, fill, batch=7)
    found = saliency_map(all_scores(scorer, image.shape[1], occlusion), image.shape[1], occlusion)
    np.testing.assert_allclose(found, case["saliency_map"], atol=1e-6)
    diffusion = 100 * attentive_diffusion(found)
    assert diffusion == pytest.approx(case["attentive_diffusion_percent"])


@pytest.mark.parametrize("case", GOLDEN["attentive_diffusion"])
def test_attentive_diffusion_is_the_golden_one(case: dict[str, Any]) -> None:
    found = 100 * attentive_diffusion(np.array(case["map"]))
    assert found == pytest.approx(case["attentive_diffusion_percent"])


@given(MAPS)
def test_diffusion_is_a_share_below_one_and_knows_no_scale(values: np.ndarray) -> None:
    share = attentive_diffusion(values)
    assert 0 <= share < 1
    # powers of two and sums that float64 holds exactly
    assert attentive_diffusion(4 * values + 16) == share
    assert attentive_diffusion(np.full_like(values, 3.0)) == 0


def test_diffusion_of_an_undefined_map_is_undefined() -> None:
    assert np.isnan(attentive_diffusion(np.array([[1.0, np.nan]])))


@settings(max_examples=20)
@given(st.integers(2, 5), st.integers(1, 5), st.integers(0, 6), st.integers(0, 99))
def test_map_is_the_mean_over_the_windows_that_cover_a_pixel(
    window: int, stride: int, more: int, seed: int
) -> None:
    occlusion = Occlusion(window, min(stride, window))
    side = 2 * window - 1 + more
    places = occlusion.places(side)
    scores = np.random.default_rng(seed).random((len(places), len(places)))
    sums, counts = np.zeros((2, side, side))
    for i, row in enumerate(places):
        for j, column in enumerate(places):
            sums[row : row + window, column : column + window] += scores[i, j]
            counts[row : row + window, column : column + window] += 1
    inside = slice(window - 1, side - window + 1)
    found = saliency_map(scores, side, occlusion)
    if (counts[inside, inside] > 0).all():
        expected = sums[inside, inside] / counts[inside, inside]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_published_size_gives_54289_positions_and_a_map_of_224() -> None:
    occlusion = Occlusion()
    places = occlusion.places(242)
    assert len(places) ** 2 == 54_289
    assert saliency_map(np.ones((233, 233)), 242, occlusion).shape == (224, 224)


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (4, 5), (4, 0)])
def test_a_window_that_leaves_pixels_out_is_refused(window: int, stride: int) -> None:
    with pytest.raises(InputError, match="stride of at least 1"):
        Occlusion(window, stride)


def test_an_image_without_a_fully_covered_pixel_is_refused() -> None:
    with pytest.raises(InputError, match="at least 19 px"):
        Occlusion(10).places(18)


def test_hiding_nothing_moves_nothing() -> None:
    image = torch.zeros(3, 40, 40)
    network = random_network("resnet18")
    window = WindowedResNet(network, image, 10, torch.zeros(3))  # type: ignore[arg-type]
    dense = dense_scorer(network, image, 10, torch.zeros(3), batch=2)
    rows = np.array([0, 17])
    assert dense(rows, rows).max() == 0
    assert window(rows, rows).max() < 1e-6  # patches round otherwise than whole maps


@pytest.mark.parametrize("side", [33, 64, 70])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_windowed_scores_equal_whole_forward_passes(name: str, side: int) -> None:
    assert name in DEPTHS
    torch.manual_seed(side)
    image, fill = torch.randn(3, side, side), torch.randn(3)
    network = random_network(name)
    windowed = WindowedResNet(network, image, 10, fill)  # type: ignore[arg-type]
    dense = dense_scorer(network, image, 10, fill, batch=1)
    last = side - 10
    rows = np.array([0, 0, 3, last // 2, last, last, 1, 7])
    columns = np.array([0, last, 5, last // 2, 0, last, 8, 8])
    expected = np.concatenate([dense(rows[i : i + 1], columns[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(windowed(rows, columns), expected, atol=1e-6)
    # a batch of neighbours, as the step makes them
    neighbours = np.arange(5)
    expected = np.concatenate([dense(rows[:1] + 2, neighbours[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(windowed(np.full(5, 2), neighbours), expected, atol=1e-6)


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121"])
def test_statistics_of_each_image_equal_training_mode_one_at_a_time(architecture: str) -> None:
    torch.manual_seed(1)
    network = build_backbone("torchvision", architecture)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        batched = per_image_statistics(network)(images)
        one_by_one = torch.cat([network.train()(image[None]) for image in images])
    torch.testing.assert_close(batched, one_by_one, atol=2e-5, rtol=1e-4)


def test_released_batch_normalisation_of_one_image_is_instance_normalisation() -> None:
    assert GOLDEN["batchnorm_single_image_equivalence"]["max_abs_diff"] == 0
    norm = nn.BatchNorm2d(4)
    nn.init.uniform_(norm.weight)
    image = torch.randn(1, 4, 5, 5)
    changed = per_image_statistics(nn.Sequential(norm))
    assert torch.equal(changed(image), norm.train()(image))
