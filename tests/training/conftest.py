"""Child processes for the training tests, forked from one that has imported torch already.

An import of torch and Fabric takes 10 to 15 seconds of CPU; dozens of killed trainings share one.
"""

from __future__ import annotations

import json
import multiprocessing
import runpy
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(__file__).with_name("scenario.py")
LIMIT_S = 120  # a child that hangs is a failure


@dataclass
class Ended:
    """What a training left behind."""

    statuses: list[int]
    told: str


@dataclass
class Trainings:
    """Runs trainings of `smoke` in child processes, in one folder."""

    folder: Path
    context: ForkServerContext
    _number: int = field(default=0)

    def start(
        self,
        *arguments: str,
        accident: str = "",
        number: int = 0,
        world_size: int = 1,
        launched: int | None = None,
        launcher: Callable[[int, int, int], dict[str, str]] | None = None,
        ranks_hit: Sequence[int] | None = None,
        state: str = "state",
        out: str = "metrics.json",
    ) -> Callable[[], Ended]:
        """Start a training and return a function that waits for its end."""
        self._number += 1
        told = self.folder / f"told-{self._number}.txt"
        launched = launched or world_size
        port = free_port()
        children = []
        for rank in range(launched):
            is_hit = ranks_hit is None or rank in ranks_hit
            job = {
                "arguments": [
                    *("--state", str(self.folder / state), "--out", str(self.folder / out)),
                    *("--world-size", str(world_size), *arguments),
                ],
                "environment": (launcher or torchrun)(rank, launched, port) if launched > 1 else {},
                "told": str(told),
                "accident": accident if is_hit else "",
                "number": number,
            }
            child: BaseProcess = self.context.Process(
                target=runpy.run_path, args=(str(SCENARIO), {"JOB": job}, "scenario")
            )
            child.start()
            children.append(child)

        def wait() -> Ended:
            for child in children:
                child.join(LIMIT_S)
                if child.exitcode is None:
                    child.kill()
                    child.join()
            statuses = [child.exitcode or 0 for child in children]
            return Ended(statuses, told.read_text() if told.exists() else "")

        return wait

    def run(self, *arguments: str, **named: Any) -> Ended:
        """Run a training to its end."""
        return self.start(*arguments, **named)()

    def text(self, name: str = "metrics.json") -> str:
        """Return what a training wrote, as text."""
        return (self.folder / name).read_text()

    def metrics(self, name: str = "metrics.json") -> dict[str, Any]:
        """Return what a training wrote."""
        content: dict[str, Any] = json.loads(self.text(name))
        return content


def torchrun(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Return the variables that torchrun sets for its workers."""
    return {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def srun(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Return the variables that `srun --ntasks-per-node` sets for its tasks, on one node."""
    return {
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(world_size),
        "SLURM_NTASKS": str(world_size),
        "SLURM_NTASKS_PER_NODE": str(world_size),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def trainings_in() -> Callable[[Path], Trainings]:
    context = multiprocessing.get_context("forkserver")
    # torch._dynamo is what the first step of any torch optimiser imports.
    context.set_forkserver_preload(
        ["torch", "torch._dynamo", "lightning.fabric", "workflow_scripts.training.smoke"]
    )
    return lambda folder: Trainings(folder, context)


@pytest.fixture
def slurm_ranks() -> Callable[[int, int, int], dict[str, str]]:
    return srun


@pytest.fixture
def trainings(tmp_path: Path, trainings_in: Callable[[Path], Trainings]) -> Trainings:
    return trainings_in(tmp_path)
