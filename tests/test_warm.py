"""A step forked from the warm process behaves as one started afresh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

STEP = """
import os, sys
print(os.getcwd(), os.environ["STEP_WORD"], *sys.argv[1:], flush=True)
sys.stderr.write("torch" in sys.modules and "warm" or "cold")
if sys.argv[1:] == ["wait"]:
    open("started", "w").write(str(os.getpid()))
    import time
    time.sleep(60)
if sys.argv[1:] == ["threads"]:
    print(__import__("torch").get_num_threads())
if sys.argv[1:] == ["die"]:
    os.kill(os.getpid(), 9)
sys.exit(int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdigit() else 0)
"""


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with a step of its own, and so a warm process of its own."""
    place = tmp_path_factory.mktemp("warm")
    (place / "step.py").write_text(STEP)
    (place / "workflow_scripts").symlink_to(root / "workflow_scripts")
    return place


def call(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workflow_scripts.warm", "-m", "step", *words],
        cwd=folder,
        env={**os.environ, "STEP_WORD": "hello", "TMPDIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_step_gets_folder_environment_arguments_and_warm_libraries(folder: Path) -> None:
    step = call(folder, "0", "a b")
    out, err = step.communicate(timeout=300)
    assert out.split() == [str(folder), "hello", "0", "a", "b"]
    assert err.startswith("warm")
    assert "CPU-s" in err.splitlines()[-1]
    assert step.returncode == 0


def test_step_has_its_own_callers_threads(folder: Path) -> None:
    """Not those of the caller that started the warm process: sums would differ in last bits."""
    for threads in ("1", "3", "2"):
        out, _ = call(folder, "threads", OMP_NUM_THREADS=threads).communicate(timeout=300)
        assert out.split()[-1] == threads


def test_exit_status_and_death_by_signal_are_passed_on(folder: Path) -> None:
    failed, killed = call(folder, "7"), call(folder, "die")
    failed.communicate(timeout=300)
    killed.communicate(timeout=300)
    assert failed.returncode == 7
    assert killed.returncode == -signal.SIGKILL


def test_step_ends_when_its_caller_is_killed(folder: Path) -> None:
    caller = call(folder, "wait")
    started = folder / "started"
    deadline = time.monotonic() + 300
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process = Path("/proc") / started.read_text()
    assert process.exists()
    caller.kill()
    caller.communicate(timeout=60)
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process.exists()
