"""What the doctor says, and how it asks other programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "unknown"
PATIENCE_S = 30  # for SLURM's own programs on a busy cluster

Ask = Callable[[Sequence[str]], str | None]


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: the thing.
        status: ok, warning, problem, or unknown (cannot be looked at here).
        found: what is so.
        next_step: what to do; empty when nothing is.
    """

    what: str
    status: str
    found: str
    next_step: str = ""


def ask(command: Sequence[str]) -> str | None:
    """Return what a program prints, or None if it is not there or fails."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return None
    return None if result.returncode else result.stdout
