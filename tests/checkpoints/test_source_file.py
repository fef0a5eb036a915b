from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.checkpoints.published_files import D121, R18, VIT, Case
from workflow_scripts.checkpoints.file_kind import is_phantom
from workflow_scripts.checkpoints.formats import format_named
from workflow_scripts.checkpoints.source_file import read_torch
from workflow_scripts.problems import InputError

PhantomFile = Callable[[Case], Path]


def refusal(path: Path, name: str = "torchvision", architecture: str = "resnet18") -> str:
    with pytest.raises(InputError) as caught:
        format_named(name).read(path, architecture)
    return str(caught.value)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return path


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.pth")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "an empty file" in refusal(written(tmp_path, b""))


def test_a_web_page_is_refused_as_what_it_is(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, b"\n<!DOCTYPE html><html>Sign in</html>"))
    assert "found a web page" in message
    assert "open the address in a browser" in message


def test_a_git_lfs_pointer_is_refused_as_what_it_is(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    assert "git lfs pull" in refusal(written(tmp_path, pointer), "timm")


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    assert "a file written by torch.save" in refusal(written(tmp_path, b"GIF89a" * 100))


@pytest.mark.parametrize("case", [R18, D121, VIT], ids=lambda case: case.architecture)
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    case: Case, share: float, phantom_file: PhantomFile, tmp_path: Path
) -> None:
    content = phantom_file(case).read_bytes()
    path = written(tmp_path, content[: int(share * len(content))])
    assert "download the file again" in refusal(path, case.format, case.architecture)


class Malicious:
    """Runs code when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zip_format", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_runs_none(tmp_path: Path, zip_format: bool) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "it-ran"
    torch.save({"a": Malicious(trace)}, path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(InputError, match="tensors, numbers and texts only"):
        read_torch(path)
    assert not trace.exists()


def test_a_file_whose_name_gives_another_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    assert "begins with f37072fd" in refusal(path)


def test_a_file_without_state_dict_is_refused_with_the_keys_it_has(tmp_path: Path) -> None:
    path = tmp_path / "other.pth.tar"
    torch.save({"model": {}, "epoch": 1}, path)
    assert "expected key 'state_dict', found keys model, epoch" in refusal(path, "moco_v2")


def test_a_file_without_the_prefix_is_refused_with_the_names_it_has(tmp_path: Path) -> None:
    path = tmp_path / "other.pth.tar"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, path)
    message = refusal(path, "moco_v2")
    assert "begin with 'module.encoder_q.', found names conv1.weight" in message


def test_a_training_file_is_refused_where_a_bare_state_dict_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "training.pth"
    torch.save({"state_dict": {}, "epoch": 1}, path)
    assert "tensors only, found something else under state_dict, epoch" in refusal(path)


def test_two_names_for_one_tensor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixed.pth"
    layer = "features.denseblock1.denselayer1"
    torch.save(
        {f"{layer}.norm1.bias": torch.zeros(1), f"{layer}.norm.1.bias": torch.zeros(1)}, path
    )
    assert "mixes two naming styles" in refusal(path, "torchvision", "densenet121")


def test_a_file_that_nobody_marked_is_no_phantom(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"weight": torch.zeros(5000)}, path)
    assert not is_phantom(path)
