"""Volumes of any size through trained networks, and weights that do not belong to their record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from workflow_scripts.cooperative_training import inference
from workflow_scripts.cooperative_training.augmentation import rescale
from workflow_scripts.cooperative_training.inference import Segmenter, device_of, load_segmenter
from workflow_scripts.cooperative_training.networks import CooperativeNetworks
from workflow_scripts.files import sha256_of
from workflow_scripts.problems import InputError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(3)
    return Segmenter(CooperativeNetworks(width=2).eval(), {"crop": 16}, CPU)


def gray(slices: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).random((slices, rows, columns)).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 16), (2, 21, 30), (2, 11, 9), (2, 17, 12)])
def test_a_volume_of_any_size_keeps_its_size(
    segmenter: Segmenter, shape: tuple[int, int, int]
) -> None:
    found = segmenter.segment(gray(*shape), [0, 1], rescales_slices=False)
    assert sorted(found) == [0, 1]
    for labels in found.values():
        assert labels.shape == shape
        assert labels.dtype == np.uint8
        assert labels.max() < 4


def test_outside_the_crop_is_background_and_inside_is_what_the_networks_say(
    segmenter: Segmenter,
) -> None:
    image = gray(2, 20, 25)
    labels = segmenter.segment(image, [0], rescales_slices=False)[0]
    inner = (slice(None), slice(2, 18), slice(4, 20))
    with torch.inference_mode():
        logits = segmenter.networks.segment(torch.from_numpy(image[inner].copy())[:, None])
    np.testing.assert_array_equal(labels[inner], logits.argmax(1))
    outside = labels.copy()
    outside[inner] = 0
    assert not outside.any()


def test_each_number_of_corrections_is_what_predict_gives(segmenter: Segmenter) -> None:
    image = gray(4, 16, 16)
    found = segmenter.segment(image, [0, 1, 3], rescales_slices=False)
    for number, labels in found.items():
        with torch.inference_mode():
            logits = segmenter.networks.predict(torch.from_numpy(image)[:, None], number)
        np.testing.assert_array_equal(labels, logits.argmax(1))
    assert not np.array_equal(found[0], found[1])


def test_chunks_of_slices_are_the_whole_volume(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = gray(11, 16, 16)  # one more than a chunk
    together = segmenter.segment(image, [1], rescales_slices=False)[1]
    monkeypatch.setattr(inference, "CHUNK", 1)
    np.testing.assert_array_equal(segmenter.segment(image, [1], rescales_slices=False)[1], together)


def test_slices_are_rescaled_only_where_asked(segmenter: Segmenter) -> None:
    image = 0.2 + 0.1 * gray(2, 16, 16)
    stored = segmenter.segment(image, [0], rescales_slices=False)[0]
    rescaled = segmenter.segment(image, [0], rescales_slices=True)[0]
    by_hand = rescale(torch.from_numpy(image)).numpy()
    expected = segmenter.segment(by_hand, [0], rescales_slices=False)[0]
    np.testing.assert_array_equal(rescaled, expected)
    assert not np.array_equal(stored, rescaled)


def test_weights_of_another_training_are_refused(tmp_path: Path) -> None:
    weights, record = tmp_path / "weights.safetensors", tmp_path / "training.json"
    networks = CooperativeNetworks(width=2)
    save_file(networks.state_dict(), weights)
    about = {"method": "cooperative", "protocol": "corrected", "width": 2, "crop": 16}
    record.write_text(json.dumps({**about, "weights_sha256": sha256_of(weights)}))
    found = load_segmenter(weights, record, CPU)
    assert not found.networks.training
    assert torch.equal(
        found.networks.image_decoder.final_conv.weight, networks.image_decoder.final_conv.weight
    )
    record.write_text(json.dumps({**about, "weights_sha256": "0" * 64}))
    with pytest.raises(InputError, match=r"weights\.safetensors: expected the weights of"):
        load_segmenter(weights, record, CPU)
    record.write_text(json.dumps({**about, "width": 4, "weights_sha256": sha256_of(weights)}))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_segmenter(weights, record, CPU)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(0) == CPU
    with pytest.raises(InputError, match="expected a GPU, found none visible"):
        device_of(1)
