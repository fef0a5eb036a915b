"""A network that TensorFlow, JAX or timm computes, converted, computes the same in torch."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.checkpoints.published_files import run_convert
from tests.zoo.same_padding import with_same_padding, with_same_pool
from workflow_scripts.checkpoints.certificate import load_checked
from workflow_scripts.checkpoints.formats import simclr_tf
from workflow_scripts.checkpoints.safe_pickle import read_pickle
from workflow_scripts.problems import InputError

TOLERANCE = 1e-4  # of the largest feature; found: 2e-7 (TensorFlow), 3e-7 (Haiku)
Written = Callable[[str], Path]
Change = Callable[[nn.Module], nn.Module]


def converted(
    source: Path, format_name: str, folder: Path, architecture: str = "resnet50"
) -> tuple[nn.Module, dict[str, Any]]:
    options = {"format": format_name, "architecture": architecture, "normalisation": "none"}
    options["size_px"] = 224 if "vit" in architecture else 64  # type: ignore[assignment]
    return load_checked(*run_convert(folder, options, source))


def features(network: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        values: NDArray[np.float32] = network(torch.from_numpy(images.copy())).numpy()
    return values


def gap(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference, relative to the largest feature."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


CASES = [
    ("tensorflow_simclr", "ResNet50_1x.zip", "simclr_tf", with_same_pool, 0.05),
    ("haiku_byol", "pretrain_res50x1.pkl", "byol_haiku", with_same_padding, 0.25),
]


@pytest.mark.parametrize(("script", "file", "format_name", "same", "apart"), CASES)
def test_features_are_the_framework_s_own(
    script: str,
    file: str,
    format_name: str,
    same: Change,
    apart: float,
    written: Written,
    tmp_path: Path,
) -> None:
    folder = written(script)
    stored = np.load(folder / "expected.npz")
    network, certificate = converted(folder / file, format_name, tmp_path)
    assert certificate["missing"] == certificate["unexpected"] == []
    assert certificate["feature_dim"] == 2048
    # As the product runs it, with torchvision's padding: close, and known not to be equal.
    product = features(network, stored["images"])
    assert 1e-4 < gap(product, stored["features"]) < apart
    assert np.corrcoef(product.ravel(), stored["features"].ravel())[0, 1] > 0.99
    # The weights alone, with the padding made the framework's.
    assert gap(features(same(network), stored["images"]), stored["features"]) < TOLERANCE


@pytest.mark.parametrize("variant", ["jax_arrays.pkl", "old_mapping.pkl"])
def test_every_way_of_pickling_haiku_s_arrays_gives_the_same_backbone(
    variant: str, written: Written, tmp_path: Path
) -> None:
    folder = written("haiku_byol")
    _, first = converted(folder / "pretrain_res50x1.pkl", "byol_haiku", tmp_path / "first")
    _, second = converted(folder / variant, "byol_haiku", tmp_path / "second")
    assert first["backbone_sha256"] == second["backbone_sha256"]


def test_a_swapped_pair_of_layers_would_be_noticed(written: Written, tmp_path: Path) -> None:
    folder = written("haiku_byol")
    stored = np.load(folder / "expected.npz")
    network, _ = converted(folder / "pretrain_res50x1.pkl", "byol_haiku", tmp_path)
    block = network.layer3[1]
    block.bn1, block.bn2 = block.bn2, block.bn1
    assert gap(features(with_same_padding(network), stored["images"]), stored["features"]) > 0.01


def test_a_malicious_pickle_made_by_dill_is_refused(frameworks_python: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "weights.pkl", tmp_path / "touched"
    code = (
        "import dill, os, sys\n"
        "class Bad:\n"
        "    def __reduce__(self): return os.system, (f'touch {sys.argv[2]}',)\n"
        "dill.dump({'experiment_state': Bad(), 'f': lambda: 1}, open(sys.argv[1], 'wb'))\n"
    )
    subprocess.run([frameworks_python, "-c", code, str(path), str(mark)], check=True)
    with pytest.raises(InputError, match="nothing of it was run"):
        read_pickle(path)
    assert not mark.exists()


def test_tensorflow_reads_the_phantom_that_we_write(frameworks_python: str, tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "ResNet50_1x.zip"
    simclr_tf.write_phantom(path, "resnet50", seed=0)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "reader = tf.train.load_checkpoint(sys.argv[1])\n"
        "names = reader.get_variable_to_shape_map()\n"
        "np.savez(sys.argv[2], **{name: reader.get_tensor(name) for name in names})\n"
    )
    out = tmp_path / "read.npz"
    prefix = tmp_path / "ResNet50_1x" / "model.ckpt-225206"
    subprocess.run([frameworks_python, "-c", code, str(prefix), str(out)], check=True)
    read = simclr_tf.read(path, "resnet50")
    theirs = np.load(out)
    assert set(theirs) == {line.source for line in read.key_map} | set(read.ignored)
    for line in read.key_map:
        values = theirs[line.source]
        values = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values
        np.testing.assert_array_equal(read.tensors[line.target], values)


@pytest.mark.parametrize(
    ("suffix", "pool"), [("", "token"), ("+pooled", "avg")], ids=["token", "pooled"]
)
def test_a_vit_b_saved_as_a_masked_autoencoder_gives_timm_s_features(
    suffix: str, pool: str, tmp_path: Path
) -> None:
    import timm

    torch.manual_seed(0)
    name = "vit_base_patch16_224"
    network = timm.create_model(name, num_classes=0, global_pool="token").eval()
    encoder = network.state_dict()
    content = {
        "model": encoder | {"mask_token": torch.zeros(1, 1, 512)},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": []},
        "epoch": 799,
        "scaler": {},
        "args": argparse.Namespace(model="mae_vit_base_patch16", lr=None),
    }
    path = tmp_path / "vit-b_CXR_0.5M_mae.pth"
    torch.save(content, path)
    theirs = timm.create_model(name, num_classes=0, global_pool=pool).eval()
    theirs.load_state_dict(encoder, strict=False)
    found, certificate = converted(path, "mae_vit", tmp_path, name + suffix)
    assert certificate["parameters"] == 85_798_656  # pooled: fc_norm instead of norm
    images = np.random.default_rng(0).random((2, 3, 224, 224), dtype=np.float32)
    assert gap(features(found, images), features(theirs, images)) < TOLERANCE
