from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints.published_files import CASES, D121, MOCO, R18, R50, TIMM_R18, VIT, Case
from workflow_scripts.checkpoints.backbone import classifier_prefixes, expected_tensors
from workflow_scripts.checkpoints.certificate import fixed_input, load_checked
from workflow_scripts.checkpoints.conversion import (
    prove_complete,
    select_keys,
    with_counters,
)
from workflow_scripts.checkpoints.file_kind import is_phantom
from workflow_scripts.checkpoints.formats import format_named, format_names
from workflow_scripts.checkpoints.synthetic import phantom_tensors
from workflow_scripts.problems import InputError

GOLDEN = json.loads(Path("tests/golden/ssl_transfer.json").read_text(encoding="utf-8"))
PhantomFile = Callable[[Case], Path]
Converted = Callable[[Case], tuple[Path, Path]]

# Prefix and heads of each published file: spec section 2.2.
CLEANING = {
    "moco-v2": ("module.encoder_q.", ("fc.",)),
    "swav": ("module.", ("projection_head.", "prototypes.")),
    "pirl": ("module.encoder.", ()),
    "mimic-chexpert": ("model.encoder_q.", ("classifier.",)),
    "moco-cxr d121": ("module.encoder_q.", ("classifier.",)),
    "moco-cxr r18": ("module.encoder_q.", ("fc.",)),
}


def test_every_format_has_a_case() -> None:
    assert {case.format for case in CASES} == set(format_names())


@pytest.mark.parametrize("golden", GOLDEN["checkpoint_key_cleaning"], ids=lambda g: g["model"])
def test_the_published_keys_are_cleaned_as_in_the_golden_file(golden: dict[str, object]) -> None:
    prefix, heads = CLEANING[str(golden["model"])]
    chosen, ignored = select_keys(list(golden["keys"]), prefix, heads)  # type: ignore[call-overload]
    assert chosen == golden["kept"]
    assert set(ignored) == set(golden["keys"]) - set(chosen)  # type: ignore[call-overload]


@pytest.mark.parametrize("case", [R50, R18, D121], ids=lambda case: case.architecture)
def test_a_backbone_has_as_many_tensors_as_the_paper_s_prepared_file(case: Case) -> None:
    assert len(expected_tensors("torchvision", case.architecture)) == case.n_tensors


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.format}-{case.architecture}")
def test_every_tensor_of_a_written_file_is_read_back(case: Case, phantom_file: PhantomFile) -> None:
    module = format_named(case.format)
    expected = expected_tensors(module.LIBRARY, case.architecture)
    converted = with_counters(module.read(phantom_file(case), case.architecture), expected)
    prove_complete("phantom", converted, expected)
    assert len(converted.tensors) == len(converted.key_map) == case.n_tensors
    truth = phantom_tensors(module.LIBRARY, case.architecture, seed=5)
    for line in converted.key_map:
        if line.source is not None:
            assert torch.equal(converted.tensors[line.target], truth[line.target]), line


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.format}-{case.architecture}")
def test_a_phantom_file_says_that_it_is_one(case: Case, phantom_file: PhantomFile) -> None:
    assert is_phantom(phantom_file(case))


@pytest.mark.parametrize("case", [R18, VIT, MOCO], ids=lambda case: case.architecture)
def test_a_phantom_file_depends_on_its_seed_alone(
    case: Case, phantom_file: PhantomFile, tmp_path: Path
) -> None:
    digests = [hashlib.sha256(phantom_file(case).read_bytes()).hexdigest()]
    for seed in (5, 6):
        path = tmp_path / f"{seed}-{case.file}"
        format_named(case.format).write_phantom(path, case.architecture, seed)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def torchvision_own(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Let torchvision itself load the file, from where it keeps its downloads."""
    from torchvision import models

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    network: nn.Module = models.get_model(case.architecture, weights="IMAGENET1K_V1")
    return network.eval()


def close_features(network: nn.Module, expected: Tensor, image: Tensor) -> bool:
    with torch.inference_mode():
        gap = (network(image) - expected).abs().max()
    return bool(gap <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize("case", [R18, R50, D121], ids=lambda case: case.architecture)
def test_features_equal_those_of_torchvision_loading_the_same_file(
    case: Case,
    phantom_file: PhantomFile,
    converted: Converted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / case.file).symlink_to(phantom_file(case))
    own = torchvision_own(case, tmp_path, monkeypatch)
    seen: list[Tensor] = []
    classifier = own.get_submodule(classifier_prefixes("torchvision", case.architecture)[0][:-1])
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        own(fixed_input(64))
    network, _ = load_checked(*converted(case))
    assert close_features(network, seen[0], fixed_input(64))


def test_densenet_features_are_relu_and_average_pool_of_the_last_map(converted: Converted) -> None:
    network, _ = load_checked(*converted(D121))
    image = fixed_input(64)
    with torch.inference_mode():
        last_map = network.get_submodule("features")(image)
        features = nn.functional.adaptive_avg_pool2d(torch.relu(last_map), 1).flatten(1)
    assert (features >= 0).all()
    assert close_features(network, features, image)


def test_moco_features_equal_those_of_a_resnet_with_the_query_encoder(
    phantom_file: PhantomFile, converted: Converted
) -> None:
    from torchvision import models

    content = torch.load(phantom_file(MOCO), weights_only=True)
    assert set(content) == {"epoch", "arch", "state_dict", "optimizer"}
    own = models.resnet50(weights=None)
    heads = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 128))
    own.fc = heads  # as main_moco builds it with --mlp
    prefix = "module.encoder_q."
    own.load_state_dict({k.removeprefix(prefix): v for k, v in content["state_dict"].items()})
    own.fc = nn.Identity()
    with torch.inference_mode():
        expected = own.eval()(fixed_input(64))
    network, certificate = load_checked(*converted(MOCO))
    assert close_features(network, expected, fixed_input(64))
    assert certificate["feature_dim"] == 2048


def test_moco_ignores_key_encoder_queue_and_heads(
    phantom_file: PhantomFile, tmp_path: Path
) -> None:
    content = torch.load(phantom_file(MOCO), weights_only=True)
    state = content["state_dict"]
    state["module.encoder_k.conv1.weight"] = torch.full((64, 3, 7, 7), 7.0)
    state["module.queue"] = torch.zeros(128, 8)
    state["module.queue_ptr"] = torch.zeros(1, dtype=torch.int64)
    path = tmp_path / "moco.pth.tar"
    torch.save(content, path)
    converted = format_named("moco_v2").read(path, "resnet50")
    assert len(converted.tensors) == 318
    assert {"module.queue", "module.encoder_k.conv1.weight"} < set(converted.ignored)
    assert torch.equal(converted.tensors["conv1.weight"], state["module.encoder_q.conv1.weight"])


@pytest.mark.parametrize("case", [VIT, TIMM_R18], ids=lambda case: case.architecture)
def test_timm_features_equal_timm_s_own_before_its_classifier(
    case: Case, phantom_file: PhantomFile, converted: Converted
) -> None:
    import timm
    from timm.models import load_checkpoint

    own = timm.create_model(case.architecture).eval()
    load_checkpoint(own, str(phantom_file(case)), strict=True)
    image = fixed_input(224 if case is VIT else 64)
    with torch.inference_mode():
        expected = own.forward_head(own.forward_features(image), pre_logits=True)
    network, _ = load_checked(*converted(case))
    assert close_features(network, expected, image)


def test_a_file_older_than_batch_counters_gets_zeros_and_the_key_map_says_so(
    phantom_file: PhantomFile,
) -> None:
    expected = expected_tensors("torchvision", "densenet121")
    read = format_named("torchvision").read(phantom_file(D121), "densenet121")
    assert not any(name.endswith("num_batches_tracked") for name in read.tensors)
    added = [line for line in with_counters(read, expected).key_map if line.source is None]
    assert len(added) == 121
    assert all(line.transform.startswith("zero") for line in added)


def test_a_file_that_lacks_one_batch_counter_only_is_refused(phantom_file: PhantomFile) -> None:
    expected = expected_tensors("torchvision", "resnet18")
    read = format_named("torchvision").read(phantom_file(R18), "resnet18")
    del read.tensors["bn1.num_batches_tracked"]
    with pytest.raises(InputError, match=r"1 missing: bn1\.num_batches_tracked"):
        prove_complete("file", with_counters(read, expected), expected)


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"moco_v3.*did you mean 'moco_v2'"):
        format_named("moco_v3")
