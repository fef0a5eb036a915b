"""Edits on disk: the released format in and out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise import edit_file
from workflow_scripts.debiased_noise.noise_edit import (
    card_path,
    gaussian_edit,
    norms,
    read_edit,
    write_edit,
)
from workflow_scripts.problems import InputError

NOISE = np.random.default_rng(0).normal(scale=0.02, size=(224, 224)).astype(np.float32)


class Layer(torch.nn.Module):
    """The released code's layer, as far as its file is concerned."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.nn.Parameter(torch.zeros(224, 224))


def test_a_released_edit_is_imported_and_exported_to_the_same_values(tmp_path: Path) -> None:
    layer = Layer()
    layer.noise.data = torch.from_numpy(NOISE.copy())
    torch.save(layer.state_dict(), tmp_path / "dne_layer.pt")
    ours = tmp_path / "noise_edit.safetensors"
    edit_file.main(["import", "--file", str(tmp_path / "dne_layer.pt"), "--out", str(ours)])
    noise, card = read_edit(ours, 224)
    np.testing.assert_array_equal(noise, NOISE)
    assert card["method"] == "imported"
    assert card["source"]["file"] == "dne_layer.pt"
    assert card["l2_norm"] == pytest.approx(float(np.linalg.norm(NOISE.astype(float))))
    edit_file.main(["export", "--edit", str(ours), "--out", str(tmp_path / "back.pt")])
    again = Layer()
    again.load_state_dict(torch.load(tmp_path / "back.pt", weights_only=True))
    np.testing.assert_array_equal(again.noise.detach().numpy(), NOISE)
    size = (tmp_path / "back.pt").stat().st_size
    assert 200_704 < size < 204_000  # 202 kB, as the released file (spec 2)


def test_the_wrapper_of_data_parallel_training_is_taken_off(tmp_path: Path) -> None:
    torch.save({"module.noise": torch.from_numpy(NOISE)}, tmp_path / "a.pt")
    np.testing.assert_array_equal(edit_file.read_released(tmp_path / "a.pt"), NOISE)


BAD = NOISE.copy()
BAD[3, 4] = np.inf


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"noise": torch.zeros(112, 112)}, "shape (224, 224)"),
        ({"noise": torch.zeros(224, 224, dtype=torch.float64)}, "float64"),
        ({"noise": torch.zeros(1, 224, 224)}, "shape (1, 224, 224)"),
        ({"noise": torch.from_numpy(BAD)}, "1 of 50176 not finite"),
        ({"noise": torch.zeros(224, 224), "head": torch.zeros(2)}, "found noise, head"),
        ({"weight": torch.zeros(224, 224)}, "found weight"),
        ({"noise": 3}, "a tensor"),
        (torch.zeros(224, 224), "the key 'noise'"),
    ],
)
def test_other_contents_are_refused(
    tmp_path: Path, content: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dne_layer.pt"
    torch.save(content, path)
    words = ["import", "--file", str(path), "--out", str(tmp_path / "out.safetensors")]
    assert run(edit_file.main, words) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"noise": Evil()}, tmp_path / "evil.pt")
    for name in ("evil.pt", "absent.pt"):
        with pytest.raises(InputError):
            edit_file.read_released(tmp_path / name)
    (tmp_path / "text.pt").write_text("not a torch file")
    with pytest.raises(InputError):
        edit_file.read_released(tmp_path / "text.pt")
    assert not (tmp_path / "ran").exists()


def test_an_edit_with_the_card_of_another_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    for path, values in ((one, NOISE), (other, 2 * NOISE)):
        write_edit(path, values, {"method": "x"})
    card_path(one).write_bytes(card_path(other).read_bytes())
    with pytest.raises(InputError, match="the card of sha256"):
        read_edit(one)
    card_path(one).unlink()
    with pytest.raises(InputError, match="expected a file"):
        read_edit(one)
    with pytest.raises(InputError, match=r"shape \(96, 96\)"):
        read_edit(other, 96)
    with pytest.raises(InputError, match="finite values"):
        write_edit(tmp_path / "bad.safetensors", BAD, {})


def test_gaussian_noise_has_the_wanted_norm() -> None:
    noise = gaussian_edit((64, 64), 6.7, np.random.default_rng(0))
    assert norms(noise)["l2_norm"] == pytest.approx(6.7, rel=1e-5)
    assert abs(norms(noise)["mean"]) < 0.02
    assert norms(gaussian_edit((8, 8), 0.0, np.random.default_rng(0)))["l2_norm"] == 0
