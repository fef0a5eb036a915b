"""When to save and when to stop, decided alike on every rank."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from workflow_scripts.training.ranks import Ranks

AGREE_EVERY_S = 5.0  # ours: well inside SLURM's 30 s between SIGTERM and SIGKILL (KillWait)
LARGEST_MARGIN_MINUTES = 5.0  # ours: time to save and to write what a step writes at its end


class Decision(NamedTuple):
    """What to do after a step."""

    save: bool
    stop: str  # the reason to stop, or ""


class _Times(NamedTuple):
    """What one rank's clock says."""

    elapsed_s: float
    step_s: float
    since_save_s: float
    longest_save_s: float


class Watch:
    """Looks at the clock and at SIGTERM after every step.

    Ranks must decide alike, or one would wait for ever for the others; they agree every few
    seconds, at a step that all of them know. Rank 0's clock counts; a SIGTERM to any rank does.

    Args:
        ranks: of the training.
        minutes: the job's time limit; None: no limit.
        save_minutes: time between two regular saves.
        margin_minutes: stop so long before the limit; None: a tenth of it, at most 5 minutes.
        started: when the job began, on `clock`; None: now.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        ranks: Ranks,
        minutes: float | None,
        save_minutes: float,
        margin_minutes: float | None = None,
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if margin_minutes is None:
            margin_minutes = min(LARGEST_MARGIN_MINUTES, (minutes or 0) / 10)
        self._ranks, self._clock = ranks, clock
        self._last_save = self._last_look = clock()
        self._start = self._last_look if started is None else started
        self._limit_s = None if minutes is None else (minutes - margin_minutes) * 60
        self._save_every_s = save_minutes * 60
        self._longest_save_s = 0.0
        self._steps_since_look, self._look_after = 0, 1
        self._got_sigterm = False
        self._handler_before: Any = None

    def listen(self) -> None:
        """From now on SIGTERM asks for a save instead of ending the process."""
        self._handler_before = signal.signal(signal.SIGTERM, self._on_sigterm)

    def close(self) -> None:
        """Handle SIGTERM as before `listen`."""
        signal.signal(signal.SIGTERM, self._handler_before or signal.SIG_DFL)

    def after_step(self) -> Decision:
        """Return what to do now; every rank gets the same answer after the same step."""
        self._steps_since_look += 1
        if self._steps_since_look < self._look_after:
            return Decision(False, "")
        now = self._clock()
        step_s = (now - self._last_look) / self._steps_since_look
        self._last_look, self._steps_since_look = now, 0
        times = _Times(now - self._start, step_s, now - self._last_save, self._longest_save_s)
        answers = self._ranks.gather((self._got_sigterm, times))
        times = answers[0][1]
        if self._ranks.world_size > 1:  # alone there is nobody to agree with: every step
            self._look_after = max(1, int(AGREE_EVERY_S / max(times.step_s, 1e-6)))
        if any(got_sigterm for got_sigterm, _ in answers):
            return Decision(True, "SIGTERM received")
        # Where the next look would be, with time to save there.
        ahead_s = times.elapsed_s + times.step_s * self._look_after + 2 * times.longest_save_s
        if self._limit_s is not None and ahead_s >= self._limit_s:
            return Decision(True, "the job's time is almost used up")
        return Decision(times.since_save_s >= self._save_every_s, "")

    def saved(self, seconds: float) -> None:
        """Note that a save has just ended, and that it took `seconds`."""
        self._longest_save_s = max(self._longest_save_s, seconds)
        self._last_save = self._last_look = self._clock()

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._got_sigterm = True
