"""One writer a state folder: an orphaned job and a restarted controller must not share one.

Two guards, because a cluster's file system may not carry locks from node to node:

1. A POSIX record lock. The kernel frees it when its process dies, however it dies, and forked
   data-loading workers do not inherit it (a `flock` would live on in them).
2. A record in the file: host, process, job, and a count that the owner keeps raising. A record
   from another node whose count stands still belongs to a dead owner. Only change is looked at,
   never a clock, so nodes need not agree on the time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from workflow_scripts.problems import InputError, refuse
from workflow_scripts.training.failures import TrainingFailure

BEAT_S = 10.0  # ours: an owner raises its count this often
WATCH_S = 45.0  # ours: so long a count must stand still, which outlasts a slow file system
RECORD_BYTES = 512  # fixed, so that a record is replaced by one write
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # e.g. Lustre mounted without flock

logger = logging.getLogger(__name__)
_held: set[str] = set()  # folders held by this process: record locks do not see a process's own


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a state folder."""

    host: str
    pid: int
    job: str
    token: str
    beat: int = 0

    def __str__(self) -> str:
        return f"job {self.job or 'none'}, process {self.pid} on {self.host}"


class StateLock:
    """Exclusive use of a state folder, from `acquire` to `release`.

    Args:
        folder: the state folder; made if missing.
        beat_s: seconds between two signs of life.
        watch_s: seconds without a sign after which an owner on another node counts as dead.
    """

    def __init__(self, folder: Path, beat_s: float = BEAT_S, watch_s: float = WATCH_S) -> None:
        self.path = folder / "lock"
        self._beat_s, self._watch_s = beat_s, watch_s
        self._owner = Owner(
            socket.gethostname(), os.getpid(), os.environ.get("SLURM_JOB_ID", ""), ""
        )
        self._file = -1
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the folder, or raise `InputError` naming who holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        key = str(self.path.resolve())
        if key in _held:
            raise self._refusal(self._owner)
        with ExitStack() as on_refusal:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            on_refusal.callback(os.close, self._file)
            has_locks = self._try_kernel_lock()
            self._wait_for_silence(has_locks)
            self._claim(has_locks)
            on_refusal.pop_all()
        _held.add(key)
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name="state lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `TrainingFailure` if another process took over; called before every save."""
        found = self._read()
        if found is None or found.token != self._owner.token:
            raise TrainingFailure(
                f"training failed: the state folder {self.path.parent} was taken over by "
                f"{found or 'someone who released it'}; this process was silent for too long "
                "(suspended?); next step: nothing, the other one goes on; this one wrote nothing"
            )

    def release(self) -> None:
        """Give the folder back; the next owner need not wait."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        found = self._read()
        if found is not None and found.token == self._owner.token:
            os.ftruncate(self._file, 0)
        os.close(self._file)
        _held.discard(str(self.path.resolve()))

    def _try_kernel_lock(self) -> bool:
        """Return whether the file system has locks; refuse if another process holds ours."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                logger.warning("%s: no file locks here, watching signs of life", self.path)
                return False
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise self._refusal(self._read()) from error
            raise
        return True

    def _wait_for_silence(self, has_locks: bool) -> None:
        """Return when no living owner is left; refuse as soon as one shows a sign of life."""
        first = self._read()
        if first is None:
            return
        if has_locks and first.host == self._owner.host:  # its kernel lock is gone: it is dead
            logger.info("%s: left behind by %s, taken over", self.path, first)
            return
        logger.info("%s: held by %s, watching it for %g s", self.path, first, self._watch_s)
        end = time.monotonic() + self._watch_s
        while time.monotonic() < end:
            time.sleep(min(1.0, self._beat_s / 2))
            now = self._read()
            if now is None:
                return
            if now != first:
                raise self._refusal(now)
        logger.info("%s: no sign of life from %s, taken over", self.path, first)

    def _claim(self, has_locks: bool) -> None:
        """Write our record; without file locks look again whether someone else did, too."""
        self._owner = Owner(
            self._owner.host, self._owner.pid, self._owner.job, secrets.token_hex(8)
        )
        self._write(self._owner)
        if has_locks:
            return
        time.sleep(2 * self._beat_s)
        found = self._read()
        if found is None or found.token != self._owner.token:
            raise self._refusal(found)

    def _beat(self) -> None:
        """Raise the count until released, or until someone else took over."""
        count = 0
        while not self._stop.wait(self._beat_s):
            found = self._read()
            if found is None or found.token != self._owner.token:
                return
            count += 1
            self._write(Owner(**{**asdict(self._owner), "beat": count}))

    def _write(self, owner: Owner) -> None:
        text = json.dumps(asdict(owner)).ljust(RECORD_BYTES)
        os.pwrite(self._file, text.encode(), 0)

    def _read(self) -> Owner | None:
        text = os.pread(self._file, RECORD_BYTES, 0).decode().strip()
        return Owner(**json.loads(text)) if text else None

    def _refusal(self, owner: Owner | None) -> InputError:
        job = (
            f"wait for it, or end it (scancel {owner.job})"
            if owner and owner.job
            else ("wait for it, or end it")
        )
        return refuse(
            str(self.path),
            "a state folder that no other training is writing to",
            f"in use by {owner or 'a process that is just starting'}",
            f"{job}, then start again; two writers would spoil each other's state",
        )
