"""A training can be killed at any moment; the next attempt ends as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from workflow_scripts.training.failures import EXIT_SAVED_NOT_FINISHED

if TYPE_CHECKING:
    from tests.training.conftest import Trainings

STEPS = 40
LENGTH = ("--steps", str(STEPS))
# About every few steps, at moments that differ from run to run: results may not depend on them.
OFTEN = ("--save-minutes", "0.0005")
MOMENTS = ("killed in the forward pass", "killed before the update", "killed after the update")


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, trainings_in: Callable[[Path], Trainings]
) -> str:
    """Return the metrics of a training that nothing interrupted."""
    trainings = trainings_in(tmp_path_factory.mktemp("whole"))
    assert trainings.run(*LENGTH).statuses == [0]
    return trainings.text()


def cards(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("state-*.json"))]


def test_killed_at_any_of_20_random_steps_a_training_resumes_bit_equal(
    trainings: Trainings, whole: str
) -> None:
    steps = np.random.default_rng(20).integers(2, STEPS + 1, size=20)
    resumed = 0
    for number, step in enumerate(steps.tolist()):
        state = f"state-{number}"
        history = trainings.folder / f"history-{number}.csv"
        arguments = (*LENGTH, *OFTEN, "--history", str(history))
        killed = trainings.run(*arguments, accident=MOMENTS[number % 3], number=step, state=state)
        assert killed.statuses == [-9], killed.told
        ended = trainings.run(*arguments, state=state)
        assert ended.statuses == [0], ended.told
        resumed += "going on from" in ended.told
        assert trainings.text() == whole, f"{MOMENTS[number % 3]}, step {step}"
        lines = history.read_text().splitlines()
        assert len(lines) == len(set(lines)) == 1 + len(json.loads(whole)["history"])
    assert resumed >= 15  # else the test would prove little: most kills come after a save


@pytest.mark.parametrize(
    "accident", ["killed while writing the state", "killed between state and card"]
)
def test_killed_while_saving_it_resumes_from_the_state_before(
    trainings: Trainings, whole: str, accident: str
) -> None:
    every = (*LENGTH, "--save-minutes", "0")
    assert trainings.run(*every, accident=accident, number=12).statuses == [-9]
    ended = trainings.run(*every)
    # A state is two files; whichever of the 12 writes died, a state before it is whole.
    assert "going on from" in ended.told
    assert ended.statuses == [0]
    assert trainings.text() == whole
    assert not list((trainings.folder / "state").glob(".*partial*"))


def test_killed_again_and_again_it_still_ends_equal(trainings: Trainings, whole: str) -> None:
    for number in (9, 5, 7):  # steps of each attempt
        assert trainings.run(
            *LENGTH, "--save-minutes", "0", accident=MOMENTS[0], number=number
        ).statuses == [-9]
    assert trainings.run(*LENGTH).statuses == [0]
    assert trainings.text() == whole


def test_workers_that_load_ahead_change_nothing_killed_or_not(
    trainings: Trainings, whole: str
) -> None:
    loading = (*LENGTH, "--workers", "2", "--save-minutes", "0")
    assert trainings.run(*loading, accident=MOMENTS[1], number=9).statuses == [-9]
    ended = trainings.run(*loading)
    assert ended.statuses == [0], ended.told
    assert trainings.text() == whole


def test_sigterm_saves_and_ends_with_the_documented_status(
    trainings: Trainings, whole: str
) -> None:
    ended = trainings.run(*LENGTH, accident="SIGTERM", number=17)
    assert ended.statuses == [EXIT_SAVED_NOT_FINISHED] == [75]
    assert "SIGTERM received; saved after step 17" in ended.told
    assert [card["step"] for card in cards(trainings.folder / "state")] == [17]
    assert not (trainings.folder / "metrics.json").exists()
    assert trainings.run(*LENGTH).statuses == [0]
    assert trainings.text() == whole


def test_at_the_soft_deadline_it_saves_and_ends_with_the_documented_status(
    trainings: Trainings, whole: str
) -> None:
    ended = trainings.run(*LENGTH, "--minutes", "0.0001")
    assert ended.statuses == [EXIT_SAVED_NOT_FINISHED]
    assert "the job's time is almost used up; saved after step 1" in ended.told
    assert trainings.run(*LENGTH, "--minutes", "10").statuses == [0]
    assert trainings.text() == whole


def test_a_state_of_other_options_is_refused_by_name_or_dropped_when_asked(
    trainings: Trainings, whole: str
) -> None:
    trainings.run("--lr", "0.5", *LENGTH, accident="SIGTERM", number=3)
    ended = trainings.run(*LENGTH)
    assert ended.statuses == [1]
    assert "config.lr: expected 0.05 (this run), found 0.5 (saved state)" in ended.told
    assert "config.seed" not in ended.told
    assert trainings.run(*LENGTH, "--on-mismatch", "fresh").statuses == [0]
    assert trainings.text() == whole


def test_a_damaged_newest_state_gives_way_to_the_one_before(
    trainings: Trainings, whole: str
) -> None:
    trainings.run(*LENGTH, "--save-minutes", "0", accident=MOMENTS[0], number=12)
    older, newest = sorted((trainings.folder / "state").glob("state-*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    newest.write_bytes(content)
    ended = trainings.run(*LENGTH)
    assert f"{newest.name} is damaged" in ended.told
    assert f"falling back to the state before: {older}" in ended.told
    assert ended.statuses == [0]
    assert trainings.text() == whole


def test_a_nan_loss_names_its_step_and_the_last_good_state(trainings: Trainings) -> None:
    trainings.run(*LENGTH, accident="SIGTERM", number=12)
    ended = trainings.run(*LENGTH, accident="NaN loss", number=4)
    assert ended.statuses == [1]
    assert "train_loss is not finite at step 15 (epoch 2)" in ended.told
    assert "state-00000012.pt (after step 12)" in ended.told
    assert "Traceback" not in ended.told
    # The state on disk is from before the bad loss: the training can go on from it.
    assert trainings.run(*LENGTH).statuses == [0]


def test_out_of_memory_says_what_to_try(trainings: Trainings) -> None:
    ended = trainings.run(*LENGTH, accident="out of memory", number=6)
    assert ended.statuses == [1]
    assert "training failed: out of memory at step 5 (epoch 0)" in ended.told
    assert "last good state: none yet" in ended.told
    assert "a smaller micro-batch with the same global batch" in ended.told


def test_a_full_disk_leaves_the_state_before_untouched(trainings: Trainings, whole: str) -> None:
    ended = trainings.run(*LENGTH, "--save-minutes", "0", accident="disk full", number=5)
    assert ended.statuses == [1]
    assert "the state after step 5 cannot be written" in ended.told
    assert "state-00000004.pt (after step 4) (untouched)" in ended.told
    assert trainings.run(*LENGTH).statuses == [0]
    assert trainings.text() == whole


def test_a_training_that_stopped_early_is_not_trained_further_after_a_kill(
    trainings: Trainings,
) -> None:
    still = ("--steps", "60", "--check-every", "1", "--lr", "0")  # never better than at first
    killed = trainings.run(*still, accident="killed while writing the outputs", number=1)
    assert killed.statuses == [-9]
    assert "stopped early, after step 21 of 60" in killed.told
    ended = trainings.run(*still)
    assert ended.statuses == [0], ended.told
    assert "state-00000021.pt (after step 21)" in ended.told
    assert trainings.metrics()["history"][-1]["step"] == 21
    assert trainings.metrics()["best_step"] == 1


def test_a_finished_training_leaves_no_state_behind(trainings: Trainings) -> None:
    assert trainings.run("--steps", "3").statuses == [0]
    assert [path.name for path in (trainings.folder / "state").iterdir()] == ["lock"]
