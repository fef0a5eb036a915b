"""What the tests share: the repository's root, Snakemake, and one thread a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy or torch is imported: tests run in parallel

# Speed is shown in benchmarks/, never asserted; a gate draws the same examples each time.
settings.register_profile("steadfast", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("steadfast")

ROOT = Path(__file__).resolve().parent.parent

RunSnakemake = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def snakemake() -> RunSnakemake:
    """Run Snakemake in the repository; the result carries both outputs as text."""

    def run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", *words]
        environment = {
            **os.environ,
            "SLURM_ACCOUNT_NAME": "test_account",
            "PYTHONPATH": str(ROOT / "tests/offline"),  # the network is out of reach
        }
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    return run
