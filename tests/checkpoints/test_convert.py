from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.checkpoints.published_files import R18, R50, VIT, Case, entry, run_convert
from workflow_scripts.checkpoints import convert, phantom
from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.checkpoints.file_kind import is_phantom
from workflow_scripts.checkpoints.synthetic import seeded_tensors
from workflow_scripts.files import read_json, sha256_of, write_json
from workflow_scripts.problems import InputError

PhantomFile = Callable[[Case], Path]
State = dict[str, Tensor]
SEEDED = {"weights": "seeded", "seed": 3}


def refusal(tmp_path: Path, options: dict[str, object], source: Path | None) -> str:
    """Return the message of a refused conversion, which must leave no file behind."""
    out = tmp_path / "out"
    with pytest.raises(InputError) as caught:
        run_convert(out, options, source)
    assert not out.exists()
    return str(caught.value)


def drop(state: State) -> None:
    del state["layer1.0.conv1.weight"]


def add(state: State) -> None:
    state["layer9.weight"] = torch.zeros(1)


def misshape(state: State) -> None:
    state["bn1.weight"] = torch.zeros(65)


def halve(state: State) -> None:
    state["bn1.weight"] = state["bn1.weight"].half()


def poison(state: State) -> None:
    state["bn1.running_var"][7] = torch.nan


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (drop, "found 1 missing: layer1.0.conv1.weight"),
        (add, "found 1 unexpected: layer9.weight"),
        (misshape, "'bn1.weight': expected float32 of shape (64,), found float32 of shape (65,)"),
        (halve, "'bn1.weight': expected float32 of shape (64,), found float16 of shape (64,)"),
        (poison, "'bn1.running_var': expected finite values, found 1 not finite"),
    ],
)
def test_a_damaged_tensor_is_named_and_nothing_is_written(
    damage: Callable[[State], None], expected: str, phantom_file: PhantomFile, tmp_path: Path
) -> None:
    state = torch.load(phantom_file(R18), weights_only=True)
    damage(state)
    path = tmp_path / "damaged.pth"
    torch.save(state, path)
    assert expected in refusal(tmp_path, entry(R18), path)


def test_all_damages_are_reported_at_once(phantom_file: PhantomFile, tmp_path: Path) -> None:
    state = torch.load(phantom_file(R18), weights_only=True)
    for damage in (drop, add, misshape, poison):
        damage(state)
    path = tmp_path / "damaged.pth"
    torch.save(state, path)
    assert len(refusal(tmp_path, entry(R18), path).splitlines()) == 4


def test_the_file_of_another_architecture_is_refused(
    phantom_file: PhantomFile, tmp_path: Path
) -> None:
    message = refusal(tmp_path, entry(R50), phantom_file(R18))
    assert "missing: " in message
    assert "check 'format' and 'architecture'" in message


@pytest.mark.parametrize(
    ("format_name", "architecture", "nearest"),
    [
        ("torchvision", "resnet5O", "resnet50"),
        ("timm", "vit_tiny_patch16_244", "vit_tiny_patch16_224"),
    ],
)
def test_an_unknown_architecture_is_refused_with_the_nearest(
    format_name: str, architecture: str, nearest: str, tmp_path: Path
) -> None:
    options = {"format": format_name, "architecture": architecture, "normalisation": "none"}
    assert f"did you mean {nearest!r}?" in refusal(tmp_path, options | SEEDED, None)


def test_an_unknown_timm_weight_tag_is_refused(tmp_path: Path) -> None:
    options = {"format": "timm", "architecture": "resnet18.nope", "normalisation": "none"}
    assert "write 'resnet18'" in refusal(tmp_path, options | SEEDED, None)


def test_a_checkpoint_without_file_is_refused(tmp_path: Path) -> None:
    assert "name it with --source" in refusal(tmp_path, entry(R18), None)


def test_seeded_weights_with_a_file_are_refused(phantom_file: PhantomFile, tmp_path: Path) -> None:
    assert "leave --source out" in refusal(tmp_path, entry(R18, **SEEDED), phantom_file(R18))


def test_a_library_that_is_not_the_format_s_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, entry(R18, library="timm", **SEEDED), None)
    assert "'torchvision', the library of format 'torchvision'" in message


def test_a_side_that_the_network_cannot_take_is_refused(
    phantom_file: PhantomFile, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="set size_px"):
        run_convert(tmp_path, entry(VIT, size_px=100), phantom_file(VIT))
    assert not (tmp_path / "certificate.json").exists()


def test_seeded_weights_are_the_library_s_initialisation_and_untrained(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    torch.manual_seed(3)
    expected = build_backbone("torchvision", "resnet18").state_dict()
    backbone, certificate = run_convert(tmp_path, entry(R18, **SEEDED), None)
    found = load_file(backbone)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    content = read_json(certificate)
    assert (content["pretrained"], content["phantom"]) == (False, False)
    assert content["source"] == {"file": None, "url": None, "sha256": None, "seed": 3}


def test_seeding_weights_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    seeded_tensors("torchvision", "resnet18", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_two_conversions_give_identical_files(phantom_file: PhantomFile, tmp_path: Path) -> None:
    first, second = (
        [path.read_bytes() for path in run_convert(tmp_path / n, entry(R18), phantom_file(R18))]
        for n in ("a", "b")
    )
    assert first == second


def test_one_process_writes_the_phantoms_of_a_configuration(tmp_path: Path) -> None:
    checkpoints = {
        "one": entry(R18, file="data/models/resnet18-f37072fd.pth", seed=1),
        "two": entry(VIT, file="model.safetensors"),
        "baseline": entry(R18, **SEEDED),
    }
    phantom.main(["--all", json.dumps(checkpoints), "--out-dir", str(tmp_path)])
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["model.safetensors", "resnet18-f37072fd.pth"]
    assert all(is_phantom(path) for path in tmp_path.iterdir())


def test_phantoms_that_would_overwrite_each_other_are_refused(tmp_path: Path) -> None:
    checkpoints = {"one": entry(R18, file="a.pth"), "two": entry(R18, file="b/a.pth")}
    with pytest.raises(InputError, match=r"checkpoint 'two' key 'file'.*a file name of its own"):
        phantom.main(["--all", json.dumps(checkpoints), "--out-dir", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_the_proven_file_is_refused(
    phantom_file: PhantomFile, tmp_path: Path
) -> None:
    source, receipt = phantom_file(R18), tmp_path / "receipt.json"
    write_json(receipt, {"sha256": sha256_of(source)})
    convert.require_receipt(source, receipt)
    write_json(receipt, {"sha256": "0" * 64})
    for path in (source, tmp_path / "absent.pth", None):
        with pytest.raises(InputError, match=r"receipt\.json and run the download again"):
            convert.require_receipt(path, receipt)


def test_one_phantom_serves_the_variants_of_its_network(tmp_path: Path) -> None:
    """CROCODILE's gray trunk and the supervised baseline are made from the same file."""
    plain = entry(R18, file=R18.file)
    gray = plain | {"architecture": "resnet18+gray", "normalisation": "none"}
    text = json.dumps({"supervised": plain, "trunk": gray})
    assert list(phantom.planned(text, tmp_path)) == [tmp_path / R18.file]
    phantom.main(["--out-dir", str(tmp_path), "--all", text])
    for number, options in enumerate((plain, gray)):
        run_convert(tmp_path / str(number), options, tmp_path / R18.file)
