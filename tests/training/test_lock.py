"""Two trainings never write the same state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.training import lock
from workflow_scripts.training.failures import TrainingFailure
from workflow_scripts.training.lock import RECORD_BYTES, StateLock

HOLD = """
import sys, time
from pathlib import Path
from workflow_scripts.training.lock import StateLock
StateLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def another_process_holding(folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "SLURM_JOB_ID": "4711", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def record_of(folder: Path, **changes: object) -> None:
    owner = {"host": "lrdn0001", "pid": 1, "job": "42", "token": "theirs", "beat": 0, **changes}
    (folder / "lock").write_text(json.dumps(owner).ljust(RECORD_BYTES))


def test_a_second_writer_is_refused_and_told_who_holds_the_state(tmp_path: Path) -> None:
    with another_process_holding(tmp_path) as process:
        with pytest.raises(InputError) as refused:
            StateLock(tmp_path).acquire()
        assert f"in use by job 4711, process {process.pid} on" in str(refused.value)
        assert "scancel 4711" in str(refused.value)


def test_a_killed_holder_gives_way_at_once(tmp_path: Path) -> None:
    with another_process_holding(tmp_path) as process:
        process.kill()
        process.wait()
    begin = time.monotonic()
    holder = StateLock(tmp_path)
    holder.acquire()
    holder.release()
    assert time.monotonic() - begin < 5  # far below the time an owner elsewhere is watched


def test_the_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    holder = StateLock(tmp_path)
    holder.acquire()
    with pytest.raises(InputError, match="in use by"):
        StateLock(tmp_path).acquire()
    holder.check()  # the refused attempt took nothing away
    holder.release()
    holder.acquire()
    holder.release()


def test_an_owner_on_another_node_that_shows_no_life_is_replaced(tmp_path: Path) -> None:
    record_of(tmp_path)
    holder = StateLock(tmp_path, beat_s=0.02, watch_s=0.1)
    holder.acquire()
    holder.check()
    holder.release()


def test_an_owner_on_another_node_that_shows_life_is_respected(tmp_path: Path) -> None:
    record_of(tmp_path)
    beat = threading.Timer(0.05, lambda: record_of(tmp_path, beat=1))
    beat.start()
    with pytest.raises(InputError, match="in use by job 42, process 1 on lrdn0001"):
        StateLock(tmp_path, beat_s=0.02, watch_s=5).acquire()
    beat.join()


def test_a_released_lock_is_free_for_any_node_at_once(tmp_path: Path) -> None:
    holder = StateLock(tmp_path)
    holder.acquire()
    holder.release()
    assert (tmp_path / "lock").read_text() == ""


def test_the_holder_shows_signs_of_life(tmp_path: Path) -> None:
    holder = StateLock(tmp_path, beat_s=0.01)
    holder.acquire()
    end = time.monotonic() + 5
    while time.monotonic() < end and json.loads((tmp_path / "lock").read_text())["beat"] < 2:
        time.sleep(0.01)
    assert json.loads((tmp_path / "lock").read_text())["beat"] >= 2
    holder.release()


def test_a_holder_that_lost_the_state_writes_nothing_more(tmp_path: Path) -> None:
    holder = StateLock(tmp_path)
    holder.acquire()
    record_of(tmp_path)
    with pytest.raises(TrainingFailure, match="taken over by job 42"):
        holder.check()
    holder.release()
    assert "theirs" in (tmp_path / "lock").read_text()  # not ours to empty


def test_without_file_locks_the_signs_of_life_still_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    holder = StateLock(tmp_path, beat_s=0.01, watch_s=0.1)
    holder.acquire()
    lock._held.clear()  # as another process would see it
    with pytest.raises(InputError, match="in use by"):
        StateLock(tmp_path, beat_s=0.01, watch_s=5).acquire()
    holder.release()
