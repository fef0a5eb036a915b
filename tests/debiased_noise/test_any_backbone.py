"""Any backbone of the zoo can be edited: constants, equalised histograms, gray input, any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.debiased_noise.conftest import Files
from workflow_scripts.checkpoints import convert
from workflow_scripts.datasets.pixels import histogram_levels, histogram_normalize, network_input
from workflow_scripts.debiased_noise import attribute_classifier, black_box, embed, white_box
from workflow_scripts.debiased_noise.equalisation import equalised
from workflow_scripts.debiased_noise.foundation import FoundationModel, preparation
from workflow_scripts.debiased_noise.noise_edit import read_edit
from workflow_scripts.problems import InputError

CPU = torch.device("cpu")
STORED = np.random.default_rng(0).integers(20, 200, (3, 16, 16, 3), dtype=np.uint8)


def card(normalisation: str, channels: str = "RGB") -> dict[str, Any]:
    constants = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    own = constants if normalisation == "mean_std" else {"mean": None, "std": None}
    return {"size": 16, "channels": channels, "normalisation": normalisation, **own}


@pytest.mark.parametrize("normalisation", ["none", "mean_std", "histogram"])
def test_unedited_pixels_become_the_input_that_other_steps_give_the_network(
    normalisation: str,
) -> None:
    pixels = torch.from_numpy(network_input(STORED, "none"))
    about = card(normalisation)
    wanted = network_input(STORED, normalisation, about["mean"] or (), about["std"] or ())
    found = preparation(about, CPU)(pixels)
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-5, atol=2e-3)


def test_equalisation_of_edited_images_is_the_specified_one() -> None:
    rng = np.random.default_rng(1)
    images = rng.normal(0.5, 0.2, (2, 3, 24, 24)).astype(np.float32)  # outside [0, 1] as well
    found = equalised(torch.from_numpy(images)).numpy()
    for one, wanted in zip(found, images, strict=True):
        np.testing.assert_allclose(one, histogram_normalize(wanted), rtol=1e-4, atol=2e-2)
    flat = np.full((1, 1, 4, 4), 0.3, np.float32)
    np.testing.assert_allclose(
        equalised(torch.from_numpy(flat)).numpy()[0], histogram_normalize(flat[0])
    )
    assert histogram_levels(STORED[0]).max() == 255


def test_gradient_of_the_equalisation_is_the_slope_at_a_fixed_histogram() -> None:
    images = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    equalised(images).sum().backward()
    values = images.detach().flatten().double().numpy()
    edges = np.histogram_bin_edges(values, bins=256)
    share = 255 * np.cumsum(np.histogram(values, edges)[0]) / values.size
    width = edges[1] - edges[0]
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, 255)
    slope = np.append(np.diff(share), 0.0)[bins] / width
    inside = np.abs((values - edges[bins]) / width - 0.5) < 0.49  # float32 at an edge may differ
    found = images.grad.flatten().double().numpy()
    np.testing.assert_allclose(found[inside], slope[inside], rtol=1e-3)


def test_a_gray_network_sees_the_mean_of_the_channels() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten())
    model = FoundationModel(network, card("none", "gray"))
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model.embed(images), images.mean(dim=1).flatten(1))
    assert preparation(card("histogram", "gray"), CPU)(images).shape == (2, 1, 16, 16)
    with pytest.raises(InputError, match="gray network"):
        preparation(card("mean_std", "gray"), CPU)


@pytest.mark.parametrize(
    ("architecture", "normalisation"), [("test_vit+pooled", "histogram"), ("test_resnet", "none")]
)
def test_other_backbones_are_edited_by_the_same_commands(
    files: Files, tmp_path: Path, architecture: str, normalisation: str
) -> None:
    options = {
        "format": "timm", "architecture": architecture, "weights": "seeded", "seed": 4,
        "size_px": 32, "normalisation": normalisation, "pretraining": "none", "licence": "none",
    }  # fmt: skip
    model = ["--backbone", str(tmp_path / "b.safetensors")]
    model += ["--certificate", str(tmp_path / "c.json")]
    convert.main(["--checkpoint", "other", "--options", json.dumps(options), *model])
    embeddings, classifier = str(tmp_path / "e.npz"), str(tmp_path / "a.safetensors")
    card = ["--card", files.path("card.json")]
    embed.main([*model, *files.images, *card, "--out", embeddings])
    attribute_classifier.main(
        [
            *files.cohort, "--embeddings", embeddings, "--protocol", "corrected", "--epochs", "20",
            "--lr", "0.02", "--images-per-batch", "16", "--state", str(tmp_path / "s1"),
            "--out", classifier,
        ]
    )  # fmt: skip
    common = [*model, *files.images, *files.cohort, "--classifier", classifier]
    common += ["--images-per-batch", "16"]
    edits = [tmp_path / "white.safetensors", tmp_path / "black.safetensors"]
    white_box.main(
        [
            *common, "--protocol", "corrected", "--epochs", "2", "--lr", "0.01",
            "--state", str(tmp_path / "s2"), "--out", str(edits[0]),
        ]
    )  # fmt: skip
    black_box.main(
        [
            *common, "--form", "paper", "--updates", "2", "--sampled-steps", "2",
            "--state", str(tmp_path / "s3"), "--out", str(edits[1]),
        ]
    )  # fmt: skip
    for edit in edits:
        noise, about = read_edit(edit, 32)
        assert np.abs(noise).max() > 0
        assert about["checkpoint"] == "other"
    assert read_edit(edits[0])[1]["losses"][-1] < read_edit(edits[0])[1]["losses"][0]
