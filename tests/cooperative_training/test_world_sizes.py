"""Cooperative training on several ranks (gloo), and killed without a word (SIGKILL)."""

from __future__ import annotations

import csv
import json
import multiprocessing
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.cooperative_training.archive import training_words, write_archive
from tests.training.conftest import LIMIT_S, free_port, torchrun

SCENARIO = Path(__file__).with_name("scenario.py")
# half batches of 4 slices, always in micro-batches of 1 slice (seen twice): what the norms see
# together does not depend on the ranks
WORDS: dict[str, Any] = {"batch-size": 8, "micro-batch": 1, "save-minutes": 0, "max-updates": 3}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_archive(tmp_path_factory.mktemp("acdc"))


def train(
    archive: dict[str, Path],
    out: Path,
    world_size: int = 1,
    kill_at: int = 0,
) -> list[int]:
    """Train in `world_size` processes; return their exit statuses."""
    out.mkdir(exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("torch", "torch._dynamo", "lightning.fabric"),
            "workflow_scripts.cooperative_training.step",
            "workflow_scripts.cooperative_training.train_segmenter",
        ]
    )
    words = training_words(archive, out, "cooperative", **WORDS, **{"world-size": world_size})
    children, port = [], free_port()
    for rank in range(world_size):
        job = {
            "words": words,
            "environment": torchrun(rank, world_size, port) if world_size > 1 else {},
            "told": str(out / "told.txt"),
            "kill_at": kill_at,
        }
        child = context.Process(target=runpy.run_path, args=(str(SCENARIO), {"JOB": job}))
        child.start()
        children.append(child)
    for child in children:
        child.join(LIMIT_S)
        if child.exitcode is None:
            child.kill()
            child.join()
    return [child.exitcode or 0 for child in children]


def losses(out: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with (out / "history.csv").open() as handle:
        for row in csv.DictReader(handle):
            if row["metric"].startswith("loss/"):
                found.setdefault(row["metric"], []).append(float(row["value"]))
    return found


@pytest.fixture(scope="module")
def alone(archive: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted training on one rank."""
    out = tmp_path_factory.mktemp("alone")
    assert train(archive, out) == [0], (out / "told.txt").read_text()
    return out


# A norm takes these biases away: their gradient is rounding, and Adam makes whole steps of it.
WITHOUT_EFFECT = re.compile(r"(conv|inc|code_decoupler)\.[03]\.bias|final_conv\.0\.bias")


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_number_of_ranks_changes_rounding_only(
    archive: dict[str, Path], alone: Path, tmp_path: Path, world_size: int
) -> None:
    statuses = train(archive, tmp_path, world_size)
    assert statuses == [0] * world_size, (tmp_path / "told.txt").read_text()
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["world_size"] == world_size
    one, several = losses(alone), losses(tmp_path)
    assert len(one) == 9  # the total and its eight terms
    assert one.keys() == several.keys()
    for name, values in one.items():
        np.testing.assert_allclose(several[name], values, rtol=1e-4, err_msg=name)
    first, second = (load_file(folder / "weights.safetensors") for folder in (alone, tmp_path))
    # running statistics are those of rank 0, which saw its own micro-batches
    buffers = re.compile(r"running_|num_batches_tracked")
    trained = [n for n in first if not buffers.search(n) and not WITHOUT_EFFECT.search(n)]
    assert len(trained) > 100
    apart = {name: np.abs(first[name] - second[name]).ravel() for name in trained}
    for name, values in apart.items():  # 3 steps of Adam go up to 3e-4
        assert len(values) < 16 or np.median(values) < 1e-5, name
    assert (np.concatenate(list(apart.values())) > 1e-5).mean() < 0.02


def test_a_killed_training_ends_with_the_same_bits(
    archive: dict[str, Path], alone: Path, tmp_path: Path
) -> None:
    assert train(archive, tmp_path, kill_at=11) == [-9]  # within the third update
    assert not (tmp_path / "weights.safetensors").exists()
    assert train(archive, tmp_path) == [0]
    assert "going on from" in (tmp_path / "told.txt").read_text()
    for name in ("weights.safetensors", "history.csv", "training.json"):
        assert (tmp_path / name).read_bytes() == (alone / name).read_bytes(), name
