"""What a child process of the training tests does: one training, with an accident if asked.

Started by `conftest.py` in a process that has imported torch already; `JOB` says what to do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.command_line import run
from workflow_scripts.training import metric_log, smoke, state

JOB: dict[str, Any] = globals()["JOB"]  # given by the parent


def at_call(number: int, accident: Callable[[], Any], real: Callable[..., Any]) -> Any:
    """Return `real`, with `accident` just before its call number `number` (from 1)."""
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            accident()
        return real(*arguments, **named)

    return counted


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(accident: str, number: int) -> None:
    """Arrange the accident at step (or save) `number`, counted from 1 in this process."""
    if accident == "killed before the update":
        torch.optim.SGD.step = at_call(number, die, torch.optim.SGD.step)
    elif accident == "killed in the forward pass":
        smoke.scale_learning_rates = at_call(number, die, smoke.scale_learning_rates)
    elif accident == "killed after the update":
        metric_log.MetricLog.end_step = at_call(number, die, metric_log.MetricLog.end_step)
    elif accident == "killed between state and card":
        state.write_json = at_call(number, die, state.write_json)
    elif accident == "killed while writing the state":
        real = torch.save

        def half(content: Any, path: Path) -> None:
            real(content, path)
            os.truncate(path, path.stat().st_size // 2)
            die()

        state.write_atomic = at_call(
            number, lambda: setattr(torch, "save", half), state.write_atomic
        )
    elif accident == "killed while writing the outputs":
        smoke.write_json = at_call(number, die, smoke.write_json)
    elif accident == "SIGTERM":
        smoke.scale_learning_rates = at_call(
            number, lambda: os.kill(os.getpid(), signal.SIGTERM), smoke.scale_learning_rates
        )
    elif accident == "NaN loss":
        poison(number)
    elif accident == "out of memory":

        def fail() -> None:
            torch.empty(1 << 60)  # torch's own words for an allocation that does not fit

        smoke.scale_learning_rates = at_call(number, fail, smoke.scale_learning_rates)
    elif accident == "disk full":

        def full() -> None:
            raise OSError(28, "No space left on device")

        state.write_json = at_call(number, full, state.write_json)
    elif accident:
        raise ValueError(accident)


def poison(number: int) -> None:
    """Make the weights NaN at the start of update `number`, so that its loss is."""
    networks: list[torch.nn.Module] = []
    make = smoke.make_network

    def remember(*arguments: Any) -> torch.nn.Module:
        networks.append(make(*arguments))
        return networks[-1]

    def spoil() -> None:
        with torch.no_grad():
            next(networks[0].parameters()).fill_(float("nan"))

    smoke.make_network = remember
    smoke.scale_learning_rates = at_call(number, spoil, smoke.scale_learning_rates)


def go() -> None:
    """Run the training of `JOB`; everything that it says goes to a file."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # data loading, as in a plain process
    os.environ.update(JOB["environment"])
    told = os.open(JOB["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(told, 1)
    os.dup2(told, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    prepare(JOB["accident"], JOB["number"])
    try:
        status = run(smoke.main, JOB["arguments"])
    except SystemExit as end:  # as the interpreter itself treats it
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        status = end.code if isinstance(end.code, int) else 1
    sys.stderr.flush()
    os._exit(status)


go()
