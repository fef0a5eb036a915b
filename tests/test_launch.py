"""One rule starts one process, several, or several on each of several nodes."""

from __future__ import annotations

import argparse
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts import launch
from workflow_scripts.launch import Geometry, minutes_for, time_left_minutes
from workflow_scripts.problems import InputError

WORDS = ["package.training", "--steps", "5"]


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_slurms_notation_of_time_is_read(days: int, hours: int, minutes: int, s: int) -> None:
    expected = (days * 24 + hours) * 60 + minutes + s / 60
    assert time_left_minutes(f"{days}-{hours:02}:{minutes:02}:{s:02}\n") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["UNLIMITED", "INVALID", "", "NOT_SET"])
def test_no_time_limit_is_no_number(text: str) -> None:
    assert time_left_minutes(text) is None


def test_outside_a_job_the_limit_is_the_rules() -> None:
    assert minutes_for(30, None) == 30


def test_in_a_job_slurm_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said = argparse.Namespace(stdout="12:30\n")
    monkeypatch.setattr(launch.subprocess, "run", lambda *_, **__: said)
    assert minutes_for(30, "7") == 12.5
    assert minutes_for(10, "7") == 10


def test_one_process_is_started_plainly() -> None:
    command = launch.on_this_node(Geometry(1, 1, 0, 8), 30, WORDS)
    assert command[:2] == [sys.executable, "-m"]
    assert command[2:5] == WORDS
    assert command[5:] == ["--gpus=0", "--nodes=1", "--world-size=1", "--minutes=30.00"]


def test_several_processes_are_started_by_torchrun() -> None:
    command = launch.on_this_node(Geometry(1, 4, 4, 32), 30, WORDS)
    assert "torch.distributed.run" in command
    assert "--nproc-per-node=4" in command
    assert "--world-size=4" in command


def test_across_nodes_everything_is_spelt_out_for_srun() -> None:
    command = launch.across_nodes(Geometry(2, 4, 4, 32), 30, WORDS)
    step = command[: command.index(sys.executable)]
    assert step == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1",
                    "--cpus-per-task=32", "--kill-on-bad-exit=1", "--gres=gpu:4"]  # fmt: skip
    assert "--on-node" in command
    assert command[-3:] == WORDS
    on_cpus = launch.across_nodes(Geometry(2, 4, 0, 32), 30, WORDS)
    assert not [word for word in on_cpus if "gres" in word]


def test_each_node_knows_its_rank_and_where_to_meet() -> None:
    command = launch.on_one_of(Geometry(2, 4, 0, 32), 30, WORDS, 1, "lrdn0001", 40007)
    assert "--node-rank=1" in command
    assert "--master-addr=lrdn0001" in command
    assert "--master-port=20007" in command
    assert "--world-size=8" in command


def test_two_nodes_without_srun_are_refused() -> None:
    with pytest.raises(InputError, match="mpi: srun for more than one node"):
        launch.main(["--nodes", "2", "--minutes", "5", "-m", *WORDS])
