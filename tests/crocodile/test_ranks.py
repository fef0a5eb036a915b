"""The same training on one rank and on two, and after a SIGKILL."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests.crocodile.hospitals import (
    Hospital,
    predicting_words,
    training_words,
    write_experiment,
)
from tests.crocodile.ranks import run_ranks

TRAIN, PREDICT = (f"workflow_scripts.crocodile.{name}" for name in ("train", "predict"))


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> list[Hospital]:
    return write_experiment(tmp_path_factory.mktemp("hospitals"))


@pytest.mark.parametrize(
    ("variant", "protocol"),
    [("full", "corrected"), ("full", "released"), ("causal_cxr", "corrected")],
)
def test_one_rank_and_two_train_and_score_alike(
    variant: str, protocol: str, hospitals: list[Hospital], tmp_path: Path
) -> None:
    """Dropout is off: its noise belongs to a rank. The intervention's shuffle is on."""
    histories, weights, scores = [], [], []
    for world_size in (1, 2):
        out = tmp_path / str(world_size)
        words = training_words(hospitals, out, variant, protocol, training={"epochs": 1})
        ended = run_ranks(TRAIN, words, tmp_path / "told", world_size)
        assert ended.statuses == [0] * world_size, ended.told
        assert json.loads((out / "training.json").read_text())["world_size"] == world_size
        histories.append(pd.read_csv(out / "history.csv"))
        weights.append(load_file(out / "model.safetensors"))
        words = predicting_words(out, "ID", hospitals[:3])
        ended = run_ranks(PREDICT, words, tmp_path / "told", world_size)
        assert ended.statuses == [0] * world_size, ended.told
        table = pd.read_parquet(out / "ID.parquet")
        scores.append(table.filter(like="score_").to_numpy())
    alone, together = histories
    assert alone[["step", "metric"]].equals(together[["step", "metric"]])
    # gradients and losses are summed in another order, in float32
    np.testing.assert_allclose(together["value"], alone["value"], rtol=1e-3, atol=1e-4)
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[0].items():
        np.testing.assert_allclose(weights[1][name], values, atol=1e-3, err_msg=name)
    np.testing.assert_allclose(scores[1], scores[0], atol=5e-3)


def test_after_a_kill_the_training_ends_with_the_same_bytes(
    hospitals: list[Hospital], tmp_path: Path
) -> None:
    drops = {"dropout": 0.1, "intervention_dropout": 0.3}  # torch's own stream must survive too
    words = {
        name: training_words(hospitals, tmp_path / name, network=drops, **{"save-minutes": 0})
        for name in ("whole", "torn")
    }
    assert run_ranks(TRAIN, words["whole"], tmp_path / "told").statuses == [0]
    killed = run_ranks(TRAIN, words["torn"], tmp_path / "told", kill_at=5)
    assert killed.statuses == [-9]
    assert not (tmp_path / "torn/model.safetensors").exists()
    ended = run_ranks(TRAIN, words["torn"], tmp_path / "told")
    assert ended.statuses == [0], ended.told
    assert "going on from" in ended.told
    for file in ("model.safetensors", "history.csv", "training.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "torn" / file).read_bytes()


def test_more_ranks_than_validation_batches_still_agree(
    hospitals: list[Hospital], tmp_path: Path
) -> None:
    """A rank without a validation image takes part and knows no columns of its own."""
    words = training_words(
        hospitals, tmp_path / "out", "baseline", training={"epochs": 1, "evaluation_batch": 64}
    )
    ended = run_ranks(TRAIN, words, tmp_path / "told", world_size=2)
    assert ended.statuses == [0, 0], ended.told
