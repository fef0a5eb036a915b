from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints.published_files import CASES, MOCO, R18, VIT, Case, entry, run_convert
from workflow_scripts.checkpoints.certificate import check, fixed_input, load_checked
from workflow_scripts.files import read_json, sha256_of, write_json
from workflow_scripts.problems import InputError

PhantomFile = Callable[[Case], Path]
Converted = Callable[[Case], tuple[Path, Path]]
CONTRACT = (
    "checkpoint format library architecture feature_dim parameters pretrained phantom source "
    "backbone_sha256 key_map ignored missing unexpected forward input pretraining licence"
)


@pytest.fixture
def pair(converted: Converted, tmp_path: Path) -> tuple[Path, Path]:
    """Return a copy of a proven backbone and its certificate, free to damage."""
    backbone, certificate = (
        Path(shutil.copy(path, tmp_path / path.name)) for path in converted(R18)
    )
    return backbone, certificate


def edit(certificate: Path, **fields: Any) -> None:
    write_json(certificate, read_json(certificate) | fields)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.format}-{case.architecture}")
def test_a_certificate_has_the_fields_of_the_file_contract(
    case: Case, converted: Converted, phantom_file: PhantomFile
) -> None:
    backbone, certificate = converted(case)
    content = read_json(certificate)
    assert list(content) == CONTRACT.split()
    assert content["missing"] == content["unexpected"] == []
    assert (content["phantom"], content["pretrained"]) == (True, False)
    assert content["source"]["sha256"] == sha256_of(phantom_file(case))
    assert content["backbone_sha256"] == sha256_of(backbone)
    assert {line["target"] for line in content["key_map"]} == set(load_file(backbone))


def test_a_file_that_is_no_phantom_counts_as_pretrained(
    phantom_file: PhantomFile, tmp_path: Path
) -> None:
    source = tmp_path / "my-own.pth"
    torch.save(torch.load(phantom_file(R18), weights_only=True), source)
    _, certificate = run_convert(tmp_path / "out", entry(R18), source)
    content = read_json(certificate)
    assert (content["phantom"], content["pretrained"]) == (False, True)


@pytest.mark.parametrize(
    ("normalisation", "kind", "mean", "std"),
    [
        ("imagenet", "mean_std", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("none", "none", None, None),
        ("histogram", "histogram", None, None),
        ({"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}, "mean_std", [0.5, 0.5, 0.5], [1, 1, 1]),
    ],
)
def test_the_certificate_carries_the_normalisation(
    normalisation: object, kind: str, mean: object, std: object, tmp_path: Path
) -> None:
    options = entry(R18, weights="seeded", seed=0) | {"normalisation": normalisation}
    _, certificate = run_convert(tmp_path, options, None)
    card = read_json(certificate)["input"]
    assert (card["normalisation"], card["mean"], card["std"]) == (kind, mean, std)
    assert (card["size"], card["channels"]) == (64, "RGB")


def test_an_altered_tensor_fails_the_check(pair: tuple[Path, Path]) -> None:
    backbone, certificate = pair
    tensors = load_file(backbone)
    tensors["layer4.1.bn2.bias"][0] += 1e-6
    save_file(tensors, backbone)
    with pytest.raises(InputError, match="the same names and shapes, other values"):
        check(backbone, certificate)


def test_a_renamed_tensor_fails_the_check_by_name(pair: tuple[Path, Path]) -> None:
    backbone, certificate = pair
    tensors = load_file(backbone)
    tensors["stem.weight"] = tensors.pop("conv1.weight")
    save_file(tensors, backbone)
    with pytest.raises(InputError) as caught:
        check(backbone, certificate)
    assert "missing conv1.weight" in str(caught.value)
    assert "unexpected stem.weight" in str(caught.value)


def test_a_truncated_backbone_fails_the_check(pair: tuple[Path, Path]) -> None:
    backbone, certificate = pair
    backbone.write_bytes(backbone.read_bytes()[:-1])
    with pytest.raises(InputError, match="expected a safetensors file"):
        check(backbone, certificate)


def test_a_certificate_of_another_backbone_fails_the_check(converted: Converted) -> None:
    with pytest.raises(InputError, match="missing"):
        check(converted(VIT)[0], converted(R18)[1])


def test_an_altered_backbone_whose_hash_was_forged_fails_the_forward_value(
    pair: tuple[Path, Path],
) -> None:
    backbone, certificate = pair
    tensors = load_file(backbone)
    tensors["bn1.weight"] *= 1.01
    save_file(tensors, backbone)
    edit(certificate, backbone_sha256=sha256_of(backbone))
    with pytest.raises(InputError, match=r"key 'forward'.*off by"):
        load_checked(backbone, certificate)


def test_a_certificate_with_another_architecture_is_refused(pair: tuple[Path, Path]) -> None:
    backbone, certificate = pair
    edit(certificate, architecture="resnet34")
    with pytest.raises(InputError, match="missing: "):
        load_checked(backbone, certificate)


@pytest.mark.parametrize("content", ["", "{}", '{"forward": 1'])
def test_a_file_that_is_no_certificate_is_refused(content: str, pair: tuple[Path, Path]) -> None:
    backbone, certificate = pair
    certificate.write_text(content)
    with pytest.raises(InputError, match="convert the checkpoint again"):
        check(backbone, certificate)


def test_a_missing_file_is_refused(pair: tuple[Path, Path]) -> None:
    backbone, certificate = pair
    certificate.unlink()
    with pytest.raises(InputError, match="convert the checkpoint first"):
        check(backbone, certificate)


def test_a_failed_conversion_leaves_no_certificate_of_an_older_one(
    pair: tuple[Path, Path], phantom_file: PhantomFile
) -> None:
    _, certificate = pair
    with pytest.raises(InputError):
        run_convert(certificate.parent, entry(VIT, size_px=100), phantom_file(VIT))
    assert not certificate.exists()


def test_the_certified_forward_value_is_that_of_the_network(converted: Converted) -> None:
    network, content = load_checked(*converted(MOCO))
    with torch.inference_mode():
        features = network(fixed_input(64))[0].double()
    assert content["forward"]["norm"] == pytest.approx(float(features.norm()), rel=1e-6)
    assert content["forward"]["first"] == pytest.approx(features[:8].tolist(), rel=1e-4)
    assert content["feature_dim"] == 2048


def test_the_fixed_image_is_integer_arithmetic() -> None:
    image = fixed_input(64)
    assert image.shape == (1, 3, 64, 64)
    row, column, channel = 10, 50, 2
    level = (31 * row + 17 * column + 7 * row * column + 101 * channel) % 256
    assert image[0, channel, row, column].item() == pytest.approx(level / 255, abs=1e-7)
    json.dumps(image[0, 0, 0].tolist(), allow_nan=False)
