"""Saved states: whole, of this training, and loaded by a safe loader."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from workflow_scripts.problems import InputError
from workflow_scripts.training import random_states
from workflow_scripts.training.fingerprint import code_digest, differences, fingerprint
from workflow_scripts.training.random_states import Generators
from workflow_scripts.training.state import StateStore


def store_with(folder: Path, *steps: int, **fingerprint: str) -> StateStore:
    store = StateStore(folder, fingerprint)
    for step in steps:
        store.save({"weights": torch.full((3,), float(step)), "step": step}, step, {})
    return store


def test_the_newest_state_comes_back_and_only_two_are_kept(tmp_path: Path) -> None:
    store = store_with(tmp_path, 1, 2, 30)
    found = store.find()
    assert found is not None
    assert found.step == 30
    assert torch.equal(store.load(found)["weights"], torch.full((3,), 30.0))
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "state-00000002.pt",
        "state-00000030.pt",
    ]


def test_without_a_state_the_training_starts_from_the_beginning(tmp_path: Path) -> None:
    assert store_with(tmp_path).find() is None


@pytest.mark.parametrize("damage", ["cut", "card", "gone"])
def test_a_damaged_newest_state_is_passed_over_and_removed(tmp_path: Path, damage: str) -> None:
    store = store_with(tmp_path, 1, 2)
    newest = tmp_path / "state-00000002.pt"
    if damage == "cut":
        newest.write_bytes(newest.read_bytes()[:-10])
    elif damage == "card":
        newest.with_suffix(".json").write_text('{"step": 2')
    else:
        newest.unlink()
    found = store.find()
    assert found is not None
    assert found.step == 1
    assert not newest.with_suffix(".json").exists()


def test_when_no_state_is_whole_it_is_said_and_nothing_is_removed(tmp_path: Path) -> None:
    store = store_with(tmp_path, 1)
    (tmp_path / "state-00000001.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected a whole saved state, found state-00000001\.pt"):
        store.find()
    assert (tmp_path / "state-00000001.json").exists()
    fresh = StateStore(tmp_path, {}, "fresh")
    assert fresh.find() is None
    assert not list(tmp_path.glob("state-*"))


def test_a_state_of_something_else_is_refused_line_by_line(tmp_path: Path) -> None:
    store_with(tmp_path, 1, code="old", world_size="2", torch="2.15")
    with pytest.raises(InputError) as refused:
        store_with(tmp_path, code="new", world_size="4", torch="2.15").find()
    keys = [problem.where.rsplit(": ", 1)[1] for problem in refused.value.problems]
    assert keys == ["code", "world_size"]
    assert "--on-mismatch fresh" in str(refused.value)


def test_a_state_that_is_not_plain_data_cannot_be_loaded(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    state = store.save({"weights": Path("x")}, 1, {})
    with pytest.raises(Exception, match="Weights only load failed"):
        store.load(state)


def test_every_random_state_survives_a_safe_file(tmp_path: Path) -> None:
    generators: Generators = {
        "numpy": np.random.default_rng(5),
        "old": np.random.Generator(np.random.MT19937(5)),
        "torch": torch.Generator().manual_seed(5),
    }

    def draws() -> list[float]:
        named = [
            float(torch.rand((), generator=generator))
            if isinstance(generator, torch.Generator)
            else generator.normal()
            for generator in generators.values()
        ]
        legacy = np.random.normal()  # noqa: NPY002
        return [random.gauss(0, 1), legacy, float(torch.rand(())), *named]

    draws()  # leaves a cached second Gaussian behind in Python's and NumPy's generators
    store = store_with(tmp_path)
    saved = store.save({"streams": random_states.capture(generators)}, 1, {})
    expected = draws()
    random_states.restore(store.load(saved)["streams"], generators)
    assert draws() == expected


def test_other_named_generators_are_refused() -> None:
    state = random_states.capture({"mask": np.random.default_rng(0)})
    with pytest.raises(ValueError, match=r"expected \['mask'\], found \[\]"):
        random_states.restore(state, {})


def test_the_fingerprint_sees_option_data_and_code_and_names_them(tmp_path: Path) -> None:
    manifest, code = tmp_path / "manifest.parquet", tmp_path / "code"
    code.mkdir()
    (code / "loss.py").write_text("loss = 1")
    manifest.write_text("a")

    def now(rate: float) -> dict[str, str]:
        return fingerprint({"optimiser": {"lr": rate}}, {"manifest": manifest}, [code], 4)

    before = now(0.1)
    assert now(0.1) == before
    manifest.write_text("b")
    (code / "loss.py").write_text("loss = 2")
    wheres = [problem.where for problem in differences(now(0.2), before, "state")]
    assert wheres == ["state: code", "state: config.optimiser.lr", "state: file.manifest"]


def test_moved_code_has_the_same_digest_and_renamed_code_another(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "system").mkdir(parents=True)
        (tmp_path / place / "system" / "loss.py").write_text("loss = 1")
    here, there = tmp_path / "here" / "system", tmp_path / "there" / "system"
    assert code_digest([here]) == code_digest([there])
    (there / "loss.py").rename(there / "losses.py")
    assert code_digest([here]) != code_digest([there])
