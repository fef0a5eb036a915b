"""What a child process does: one training, killed at an update if asked; `JOB` says what."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from workflow_scripts.command_line import run
from workflow_scripts.cooperative_training import train_segmenter

JOB: dict[str, Any] = globals()["JOB"]  # given by the parent


def kill_before(number: int) -> None:
    """Let the process die, without a word, just before its update `number` (from 1)."""
    real, calls = train_segmenter.update, 0

    def update(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)

    train_segmenter.update = update  # type: ignore[assignment]  # same arguments


torch.set_num_threads(1)
os.environ.update(JOB["environment"])
told = os.open(JOB["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(told, 1)
os.dup2(told, 2)
sys.stderr = os.fdopen(2, "w", buffering=1)
if JOB["kill_at"]:
    kill_before(JOB["kill_at"])
status = run(train_segmenter.main, JOB["words"])
sys.stderr.flush()
sys.exit(status)
