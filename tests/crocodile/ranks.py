"""Trainings in processes of their own: several ranks, or one that is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.training.conftest import free_port, torchrun

LIMIT_S = 120  # a child that hangs is a failure


class Ended(NamedTuple):
    """What the processes left behind."""

    statuses: list[int]
    told: str


def run_ranks(
    module: str, arguments: Sequence[str], told: Path, world_size: int = 1, kill_at: int = 0
) -> Ended:
    """Run a step on so many ranks, as torchrun starts them.

    Args:
        module: of the step.
        arguments: its command line, without the world size.
        told: file for what the processes say.
        world_size: number of processes.
        kill_at: SIGKILL before this update (from 1) of the training; 0: never.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "lightning.fabric"])
    port, children = free_port(), []
    for rank in range(world_size):
        many = torchrun(rank, world_size, port) if world_size > 1 else {}
        words = [*arguments, "--world-size", str(world_size)]
        child: Any = context.Process(target=_work, args=(module, words, many, str(told), kill_at))
        child.start()
        children.append(child)
    for child in children:
        child.join(LIMIT_S)
        if child.exitcode is None:
            child.kill()
            child.join()
    return Ended([child.exitcode for child in children], told.read_text())


def _work(
    module: str, arguments: list[str], environment: dict[str, str], told: str, kill_at: int
) -> None:
    """Run the step in this process; everything that it says goes to a file."""
    import importlib

    import torch

    torch.set_num_threads(1)
    os.environ.update(environment)
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    step = importlib.import_module(module)
    if kill_at:
        _kill_before(step, kill_at)
    from workflow_scripts.command_line import run

    os._exit(run(step.main, arguments))


def _kill_before(step: Any, number: int) -> None:
    real, calls = step.follow_cycle, 0

    def follow_cycle(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)

    step.follow_cycle = follow_cycle
