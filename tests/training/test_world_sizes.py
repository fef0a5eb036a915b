"""The same training on 1, 2 and 4 ranks, started as torchrun starts them (gloo)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from workflow_scripts.training.failures import EXIT_SAVED_NOT_FINISHED

if TYPE_CHECKING:
    from tests.training.conftest import Trainings

# Micro-batches of 4 for every world size. No dropout: its noise belongs to a rank.
EQUAL = ("--steps", "20", "--dropout", "0", "--micro-batch", "4", "--workers", "0")


def test_world_sizes_1_2_and_4_give_equal_metrics_on_the_same_cases(trainings: Trainings) -> None:
    found = {}
    for world_size in (1, 2, 4):
        name = f"metrics-{world_size}.json"
        ended = trainings.run(*EQUAL, world_size=world_size, state=f"state-{world_size}", out=name)
        assert ended.statuses == [0] * world_size, ended.told
        found[world_size] = trainings.metrics(name)
    alone = found[1]
    assert alone["test_cases"] == 41  # no world size divides it: nothing is padded or dropped
    for world_size in (2, 4):
        other = found[world_size]
        assert other["accumulated_passes"] == 4 // world_size
        assert other["test_cases"] == 41
        assert other["test_accuracy"] == alone["test_accuracy"]
        assert other["best_step"] == alone["best_step"]
        # The ranks' gradients are added in another order: float32 rounding over 20 updates.
        np.testing.assert_allclose(other["test_logits"], alone["test_logits"], atol=2e-6)
        for row, expected in zip(other["history"], alone["history"], strict=True):
            assert row["metric"] == expected["metric"]
            assert row["value"] == pytest.approx(expected["value"], abs=2e-6)


def test_accumulation_gives_the_update_of_the_big_batch(trainings: Trainings) -> None:
    for micro_batch in ("16", "2"):
        arguments = ("--steps", "10", "--dropout", "0", "--micro-batch", micro_batch)
        ended = trainings.run(*arguments, out=f"{micro_batch}.json")
        assert ended.statuses == [0], ended.told
    big, small = trainings.metrics("16.json"), trainings.metrics("2.json")
    assert (big["accumulated_passes"], small["accumulated_passes"]) == (1, 8)
    # The last global batch of an epoch has 10 cases: its pieces weigh by their cases.
    np.testing.assert_allclose(small["test_logits"], big["test_logits"], atol=2e-6)


def test_two_ranks_killed_together_resume_bit_equal(trainings: Trainings) -> None:
    arguments = ("--steps", "20", "--save-minutes", "0")
    assert trainings.run(*arguments, world_size=2, state="a", out="a.json").statuses == [0, 0]
    killed = trainings.run(
        *arguments, world_size=2, accident="killed before the update", number=9, state="b"
    )
    assert killed.statuses == [-9, -9]
    ended = trainings.run(*arguments, world_size=2, state="b", out="b.json")
    assert ended.statuses == [0, 0]
    assert "going on from" in ended.told
    assert trainings.text("b.json") == trainings.text("a.json")


def test_slurms_own_ranks_train_as_torchruns_do(
    trainings: Trainings, slurm_ranks: Callable[[int, int, int], dict[str, str]]
) -> None:
    arguments = ("--steps", "10")
    first = trainings.run(*arguments, world_size=2, out="torchrun.json")
    assert first.statuses == [0, 0], first.told
    ended = trainings.run(*arguments, world_size=2, out="srun.json", launcher=slurm_ranks)
    assert ended.statuses == [0, 0], ended.told
    assert "world size 2 (slurm)" in ended.told
    assert trainings.text("srun.json") == trainings.text("torchrun.json")


def test_bf16_trains_and_says_so(trainings: Trainings) -> None:
    assert trainings.run("--steps", "10", out="fp32.json").statuses == [0]
    ended = trainings.run("--steps", "10", "--precision", "bf16", out="bf16.json")
    assert ended.statuses == [0], ended.told
    exact, mixed = trainings.metrics("fp32.json"), trainings.metrics("bf16.json")
    assert mixed["precision"] == "bf16"
    assert mixed["test_logits"] != exact["test_logits"]
    np.testing.assert_allclose(mixed["test_logits"], exact["test_logits"], atol=0.1)


def test_sigterm_to_one_rank_saves_and_stops_all(trainings: Trainings) -> None:
    arguments = ("--steps", "4000")
    ended = trainings.run(*arguments, world_size=2, accident="SIGTERM", number=3, ranks_hit=[1])
    assert ended.statuses == [EXIT_SAVED_NOT_FINISHED] * 2, ended.told
    assert ended.told.count("SIGTERM received; saved after step") == 1  # rank 0 speaks


def test_a_nan_loss_ends_every_rank_with_the_message(trainings: Trainings) -> None:
    ended = trainings.run(
        "--steps", "20", world_size=2, accident="NaN loss", number=4, ranks_hit=[1]
    )
    assert ended.statuses == [1, 1]
    assert ended.told.count("train_loss is not finite at step 3") == 2


def test_a_state_of_another_world_size_is_refused_on_every_rank(trainings: Trainings) -> None:
    trainings.run("--steps", "20", accident="SIGTERM", number=3)
    ended = trainings.run("--steps", "20", world_size=2)
    assert ended.statuses == [1, 1]
    assert ended.told.count("world_size: expected 2 (this run), found 1 (saved state)") == 2


def test_fewer_processes_than_asked_are_refused(trainings: Trainings) -> None:
    ended = trainings.run("--steps", "20", world_size=2, launched=1)
    assert ended.statuses == [1]
    assert "world size: expected 2 processes (as asked), found 1 (started by: alone)" in ended.told
    assert "torchrun --nnodes=1 --nproc-per-node=2" in ended.told
