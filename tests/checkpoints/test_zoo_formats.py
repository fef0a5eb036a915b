"""Names, transposes and variants of the zoo's formats, against golden maps and hand-made files."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.checkpoints.published_files import (
    BYOL,
    D121,
    MAE,
    R18,
    SIMCLR,
    Case,
    entry,
    run_convert,
)
from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.checkpoints.certificate import load_checked
from workflow_scripts.checkpoints.crc32c import crc32c, walked
from workflow_scripts.checkpoints.formats import byol_haiku, mae_vit, simclr_tf, swav
from workflow_scripts.checkpoints.synthetic import phantom_tensors
from workflow_scripts.checkpoints.tensor_bundle import read_index, read_tensor, write_bundle
from workflow_scripts.files import read_json
from workflow_scripts.problems import InputError

GOLDEN = json.loads(Path("tests/golden/ssl_transfer.json").read_text(encoding="utf-8"))
DNE = json.loads(Path("tests/golden/dne.json").read_text(encoding="utf-8"))
PhantomFile = Callable[[Case], Path]


# SimCLR


def test_simclr_s_names_are_the_golden_ones() -> None:
    golden = GOLDEN["simclr_name_map"]
    names = simclr_tf.layer_names("resnet50")
    assert [convolution for convolution, _ in names] == golden["conv"]
    assert [norm for _, norm in names] == golden["bn"]


def test_simclr_s_suffixes_count_as_numbers() -> None:
    names = simclr_tf.layer_names("resnet50")
    assert simclr_tf.target_name("base_model/conv2d/kernel", names) == "conv1.weight"
    assert simclr_tf.target_name("base_model/conv2d_10/kernel", names) == "layer1.2.conv3.weight"
    assert simclr_tf.target_name("base_model/conv2d_2/kernel", names) == "layer1.0.conv1.weight"


@pytest.mark.parametrize(
    "variable",
    [
        "global_step",
        "base_model/conv2d_1/kernel/Momentum",
        "base_model/batch_normalization_3/gamma/LARSOptimizer",
        "head_supervised/linear_layer/dense/kernel",
        "head_contrastive/nl_0/batch_normalization/gamma",
        "base_model/conv2d/gamma",
    ],
)
def test_simclr_s_heads_slots_and_counters_are_ignored(variable: str) -> None:
    assert simclr_tf.target_name(variable, simclr_tf.layer_names("resnet50")) is None


def test_a_layer_too_many_in_simclr_s_file_is_refused_by_name(tmp_path: Path) -> None:
    variables = {f"base_model/conv2d_{n}/kernel": np.zeros((1, 1, 1, 1), "f4") for n in (3, 53)}
    path = tmp_path / "ResNet50_1x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        index, shard = write_bundle(variables)
        archive.writestr("model.ckpt-1.index", index)
        archive.writestr("model.ckpt-1.data-00000-of-00001", shard)
    options = entry(SIMCLR)
    with pytest.raises(InputError, match=r"unexpected: base_model/conv2d_53/kernel"):
        run_convert(tmp_path, options, path)


def test_simclr_s_unpacked_files_are_read_as_well(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).random((7, 7, 3, 64), dtype=np.float32)
    index, shard = write_bundle({"base_model/conv2d/kernel": kernel})
    path = tmp_path / "model.ckpt-225206.index"
    path.write_bytes(index)
    with pytest.raises(InputError, match=r"model\.ckpt-225206\.data-00000-of-00001"):
        simclr_tf.read(path, "resnet50")
    data = tmp_path / "model.ckpt-225206.data-00000-of-00001"
    data.write_bytes(shard)
    tensors = simclr_tf.read(path, "resnet50").tensors
    np.testing.assert_array_equal(tensors["conv1.weight"], kernel.transpose(3, 2, 0, 1))
    data.write_bytes(shard[:-4])
    with pytest.raises(InputError, match=f"{kernel.nbytes} bytes for shape"):
        simclr_tf.read(path, "resnet50")


def test_the_hub_module_in_simclr_s_zip_is_passed_over(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).random((7, 7, 3, 64), dtype=np.float32)
    index, shard = write_bundle({"base_model/conv2d/kernel": kernel})
    other_index, other_shard = write_bundle({"base_model/conv2d/kernel": 2 * kernel})
    path = tmp_path / "ResNet50_1x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ResNet50_1x/hub/variables/variables.index", other_index)
        archive.writestr("ResNet50_1x/hub/variables/variables.data-00000-of-00001", other_shard)
        archive.writestr("ResNet50_1x/model.ckpt-225206.index", index)
        archive.writestr("ResNet50_1x/model.ckpt-225206.data-00000-of-00001", shard)
        archive.writestr("__MACOSX/ResNet50_1x/._model.ckpt-225206.index", b"a resource fork")
    tensors = simclr_tf.read(path, "resnet50").tensors
    np.testing.assert_array_equal(tensors["conv1.weight"], kernel.transpose(3, 2, 0, 1))


def test_a_zip_with_two_checkpoints_is_refused(tmp_path: Path) -> None:
    index, shard = write_bundle({"base_model/conv2d/kernel": np.zeros((7, 7, 3, 64), "f4")})
    path = tmp_path / "ResNet50_1x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for step in (1, 2):
            archive.writestr(f"model.ckpt-{step}.index", index)
            archive.writestr(f"model.ckpt-{step}.data-00000-of-00001", shard)
    with pytest.raises(InputError, match="one checkpoint"):
        simclr_tf.read(path, "resnet50")


# TensorFlow's bundle


@pytest.mark.parametrize("size", [0, 9, 4096, 4097, 8191, 8192, 65_537, 2_000_003])
def test_crc32c_in_lanes_is_that_of_a_plain_loop(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == walked(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


def test_crc32c_has_the_check_value_of_its_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, section B.4
    assert crc32c(bytes(32)) == 0x8A9136AA


@given(
    st.dictionaries(
        st.text("abc/_1", min_size=1, max_size=12),
        st.tuples(
            st.lists(st.integers(0, 3), max_size=3),
            st.sampled_from(["<f4", "<f8", "<i4", "<i8"]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_a_written_bundle_reads_back(shapes: dict[str, tuple[list[int], str]]) -> None:
    tensors = {
        name: np.arange(int(np.prod(shape))).reshape(shape).astype(kind)
        for name, (shape, kind) in shapes.items()
    }
    index, shard = write_bundle(tensors)
    entries = read_index("index", index)
    assert set(entries) == set(tensors)
    for name, tensor in tensors.items():
        found = read_tensor("index", name, entries[name], {0: shard})
        assert found.dtype == tensor.dtype
        np.testing.assert_array_equal(found, tensor)


BUNDLE = write_bundle({"a": np.arange(100, dtype="<f4"), "b": np.ones((2, 2), "<f4")})


@given(st.integers(0, len(BUNDLE[0]) - 1), st.integers(1, 255))
def test_a_changed_byte_of_an_index_never_yields_other_variables(at: int, change: int) -> None:
    index = bytearray(BUNDLE[0])
    index[at] ^= change
    try:
        entries = read_index("index", bytes(index))
    except InputError:
        return
    assert entries == read_index("index", BUNDLE[0])  # the byte was padding, or an empty block's


def test_a_changed_byte_of_the_data_is_refused() -> None:
    entries = read_index("index", BUNDLE[0])
    shard = bytearray(BUNDLE[1])
    shard[7] ^= 1
    with pytest.raises(InputError, match="variable 'a': expected checksum"):
        read_tensor("index", "a", entries["a"], {0: bytes(shard)})


def test_a_missing_shard_is_refused() -> None:
    entries = read_index("index", BUNDLE[0])
    with pytest.raises(InputError, match="400 bytes for shape"):
        read_tensor("index", "a", entries["a"], {})


# BYOL


def test_byol_s_names_are_the_golden_ones() -> None:
    golden = GOLDEN["byol_name_map"]
    for table in (value for value in golden.values() if isinstance(value, dict)):
        found = {module: byol_haiku.target_module(module) for module in table}
        assert found == table


@pytest.mark.parametrize(
    "module", ["projector/linear", "predictor/batch_norm", "classifier", "res_net50/~/logits"]
)
def test_byol_s_heads_are_ignored(module: str) -> None:
    assert byol_haiku.target_module(module) is None


def test_a_record_written_by_dill_names_its_fields(
    phantom_file: PhantomFile, tmp_path: Path
) -> None:

    content = phantom_file(BYOL).read_bytes()
    state = byol_haiku.experiment_state(phantom_file(BYOL))
    names = [name.encode() for name in ("_ByolExperimentState",)]
    assert all(name in content for name in names)
    assert list(state)[:4] == list(byol_haiku.RECORD)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "no dictionary"),
        ({"step": 1}, "keys step"),
        ({"experiment_state": {"online_params": {}}}, "fields online_params"),
        (
            {"experiment_state": {"online_params": {"m": 1}, "online_state": {}}},
            "field 'online_params'",
        ),
        (
            {"experiment_state": {"online_params": {"m": {"w": 1}}, "online_state": {}}},
            "res_net50/~/initial_conv",
        ),
        (
            {
                "experiment_state": {
                    "online_params": {"res_net50/~/initial_conv": {"w": "text"}},
                    "online_state": {},
                }
            },
            "expected an array, found a str",
        ),
    ],
)
def test_another_pickle_is_refused_with_what_it_holds(
    content: object, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError) as refusal:
        byol_haiku.read(path, "resnet50")
    assert words in str(refusal.value)


@pytest.mark.parametrize("module", [simclr_tf, byol_haiku])
def test_a_kernel_that_is_not_symmetric_is_transposed(module: Any) -> None:
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # HWIO
    turned = kernel.transpose(module.HWIO_TO_OIHW)
    assert turned.shape == (5, 4, 2, 3)
    assert turned[1, 2, 0, 1] == kernel[0, 1, 2, 1]
    np.testing.assert_array_equal(turned.transpose(module.OIHW_TO_HWIO), kernel)


def test_swav_s_file_reads_the_same_with_and_without_a_wrapper(tmp_path: Path) -> None:
    bare = {"module.conv1.weight": torch.ones(2, 2), "module.prototypes.weight": torch.ones(3)}
    for name, content in {"bare": bare, "wrapped": {"epoch": 1, "state_dict": bare}}.items():
        torch.save(content, tmp_path / name)
        assert list(swav.read(tmp_path / name, "resnet50").tensors) == ["conv1.weight"]


# The masked autoencoder


def test_resized_positions_are_the_golden_ones() -> None:
    golden = DNE["I_pos_embed_2x2_to_3x3"]
    found = mae_vit.resize_positions(torch.tensor(golden["pos_embed"]), 10)
    torch.testing.assert_close(found, torch.tensor(golden["out"]), atol=1e-6, rtol=1e-6)


def test_positions_of_a_grid_that_is_not_square_are_refused() -> None:
    with pytest.raises(InputError, match="two square grids"):
        mae_vit.resize_positions(torch.zeros(1, 7, 2), 10)


def test_the_phantom_of_vit_b_has_as_many_parameters_as_the_published_file() -> None:
    with torch.device("meta"):
        encoder = dict(build_backbone("timm", "vit_base_patch16_224").state_dict())
    shapes = mae_vit.decoder_shapes(encoder)
    count = sum(one.numel() for one in encoder.values())
    assert count == 85_798_656  # DNE spec section 2
    assert count + sum(int(np.prod(shape)) for shape in shapes.values()) == 111_907_840  # 4.3


def mae_backbone(architecture: str, source: Path, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    options = {"format": "mae_vit", "architecture": architecture, "normalisation": "none"}
    options["size_px"] = 384 if "384" in architecture else 224
    backbone, certificate = run_convert(folder, options, source)
    return load_checked(backbone, certificate)


def test_the_two_read_outs_are_timm_s_own(phantom_file: PhantomFile, tmp_path: Path) -> None:
    import timm

    truth = phantom_tensors("timm", MAE.architecture, seed=5)
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for suffix, pool in (("", "token"), ("+pooled", "avg")):
        network = timm.create_model(MAE.architecture, num_classes=0, global_pool=pool).eval()
        network.load_state_dict({k: v for k, v in truth.items() if "head" not in k}, strict=False)
        found, certificate = mae_backbone(
            MAE.architecture + suffix, phantom_file(MAE), tmp_path / pool
        )
        with torch.inference_mode():
            torch.testing.assert_close(found(image), network(image))
        assert certificate["architecture"] == MAE.architecture + suffix
    fresh = [line for line in certificate["key_map"] if line["target"].startswith("fc_norm")]
    assert [line["transform"][:5] for line in fresh] == ["fresh", "fresh"]
    assert "norm.weight" in certificate["ignored"]


def test_a_larger_grid_gets_resized_positions(phantom_file: PhantomFile, tmp_path: Path) -> None:
    _, certificate = mae_backbone("vit_tiny_patch16_384", phantom_file(MAE), tmp_path)
    (line,) = (one for one in certificate["key_map"] if one["target"] == "pos_embed")
    assert line["shape"] == [1, 577, 192]
    assert line["transform"] == "grid resized from 196 to 576 (bicubic), class token kept"


# Variants


def test_a_gray_trunk_sees_the_mean_of_the_three_channels(
    phantom_file: PhantomFile, tmp_path: Path
) -> None:
    options = entry(R18, architecture="resnet18+gray", normalisation="none")
    network, certificate = load_checked(*run_convert(tmp_path, options, phantom_file(R18)))
    rgb = phantom_tensors("torchvision", "resnet18", seed=5)["conv1.weight"]
    torch.testing.assert_close(network.conv1.weight, rgb.mean(1, keepdim=True))
    assert certificate["input"]["channels"] == "gray"
    (line,) = (one for one in certificate["key_map"] if one["target"] == "conv1.weight")
    assert line["transform"] == "mean over the three input channels"
    assert line["shape"] == [64, 1, 7, 7]
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    colour = build_backbone("torchvision", "resnet18")
    truth = phantom_tensors("torchvision", "resnet18", seed=5)
    colour.load_state_dict({k: v for k, v in truth.items() if not k.startswith("fc.")})
    with torch.inference_mode():  # a third of each channel is the mean kernel's response
        torch.testing.assert_close(network(image), colour(image.expand(-1, 3, -1, -1) / 3))


@pytest.mark.parametrize(
    ("case", "width"),
    [(Case("torchvision", "squeezenet1_1", "squeezenet1_1.pth", 52), 512), (D121, 1024)],
)
def test_the_features_alone_are_kept(
    case: Case, width: int, phantom_file: PhantomFile, tmp_path: Path
) -> None:
    options = entry(case, architecture=f"{case.architecture}+features")
    backbone, certificate = run_convert(tmp_path, options, phantom_file(case))
    content = read_json(certificate)
    assert content["feature_dim"] == width
    assert all(line["target"].startswith("features.") for line in content["key_map"])
    assert any(name.startswith("classifier.") for name in content["ignored"])
    load_checked(backbone, certificate)


@pytest.mark.parametrize(
    ("format_name", "architecture", "words"),
    [
        ("torchvision", "resnet18+grey", "a variant for torchvision: gray, features"),
        ("torchvision", "resnet18+pooled", "a variant for torchvision: gray, features"),
        ("timm", "vit_tiny_patch16_224+features", "a variant for timm: gray, pooled"),
        ("torchvision", "resnet18+features", "a network with a part 'features'"),
        ("simclr_tf", "resnet101", "one of resnet50 for format 'simclr_tf'"),
    ],
)
def test_a_variant_that_does_not_exist_is_refused(
    format_name: str, architecture: str, words: str, phantom_file: PhantomFile, tmp_path: Path
) -> None:
    options = entry(R18, format=format_name, architecture=architecture)
    with pytest.raises(InputError) as refusal:
        run_convert(tmp_path, options, phantom_file(R18))
    assert words in str(refusal.value)


def test_a_record_known_by_reference_alone_is_read_in_the_published_order(tmp_path: Path) -> None:
    """What pickle, unlike dill, writes of a named tuple: its class's name and bare values."""
    name = "res_net50/~/initial_conv"
    kernels = [{name: {"w": np.full((1, 1, 2, 3), value, "f4")}} for value in (1, 2)]
    statistics = {"res_net50/~/initial_batchnorm/~/mean_ema": {"average": np.ones((1, 1, 1, 3))}}
    record = byol_haiku._Global("byol.byol_experiment", "_ByolExperimentState")
    state = byol_haiku._Call(record, *kernels, statistics, {}, None)
    path = tmp_path / "weights.pkl"
    with path.open("wb") as handle:
        byol_haiku._Pickler(handle, protocol=4).dump({"experiment_state": state})
    tensors = byol_haiku.read(path, "resnet50").tensors
    assert torch.equal(tensors["conv1.weight"], torch.ones(3, 2, 1, 1))  # online, not target
    assert tensors["bn1.running_mean"].tolist() == [1.0, 1.0, 1.0]
