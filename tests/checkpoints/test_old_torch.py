from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from workflow_scripts.checkpoints.formats import format_named
from workflow_scripts.checkpoints.old_torch import save_old_torch


def content() -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "weight": torch.randn(3, 2, 5, generator=generator),
        "turned": torch.randn(4, 7, generator=generator).T,
        "counter": torch.tensor(7),
        "half": torch.randn(6, generator=generator).half(),
        "empty": torch.zeros(0),
    }
    return {"epoch": 3, "state": tensors}


def saved() -> bytes:
    handle = io.BytesIO()
    save_old_torch(content(), handle)
    return handle.getvalue()


def test_torch_reads_what_was_saved() -> None:
    found = torch.load(io.BytesIO(saved()), weights_only=True)
    expected = content()
    assert found["epoch"] == expected["epoch"]
    assert list(found["state"]) == list(expected["state"])
    for name, tensor in expected["state"].items():
        assert found["state"][name].dtype == tensor.dtype
        assert found["state"][name].stride() == tensor.stride()
        assert torch.equal(found["state"][name], tensor)


def test_only_the_names_of_storages_differ_from_a_file_of_torch() -> None:
    """One tensor: torch has nothing to order, and only its name of the storage is another."""
    one, ours, theirs = torch.arange(6.0), io.BytesIO(), io.BytesIO()
    save_old_torch({"one": one}, ours)
    torch.save({"one": one}, theirs, _use_new_zipfile_serialization=False)
    name = str(one.untyped_storage()._cdata).encode()

    def text(value: bytes) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value  # as a pickle has a text

    assert ours.getvalue().replace(text(b"0"), text(name)) == theirs.getvalue()


@pytest.mark.parametrize("file", ["densenet", "pirl", "moco_cxr"])
def test_a_phantom_of_the_old_format_has_the_same_bytes_each_time(
    file: str, tmp_path: Path
) -> None:
    name, architecture = {
        "densenet": ("torchvision", "densenet121"),
        "pirl": ("pirl", "resnet50"),
        "moco_cxr": ("moco_cxr", "densenet121"),
    }[file]
    paths = [tmp_path / "first.pth", tmp_path / "second.pth"]
    for path in paths:
        format_named(name).write_phantom(path, architecture, seed=1)
    assert paths[0].read_bytes() == paths[1].read_bytes()
