"""A progress bar with the time left, which is a plain line now and then in a job's log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

LINE_EVERY_S = 60.0  # ours: a day's job writes 1,440 lines


class Progress:
    """Shows how far a training is, on rank 0 only.

    On a terminal a tqdm bar; else, as in a SLURM log, one whole line every `line_every_s`.

    Args:
        total: steps of the whole training.
        done: steps done by earlier attempts.
        enabled: whether this rank shows anything.
        stream: where to; None is stderr.
        line_every_s: seconds between two lines.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        total: int,
        done: int,
        enabled: bool = True,
        stream: TextIO | None = None,
        line_every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._first, self._done = total, done, done
        self._enabled, self._stream = enabled, stream or sys.stderr
        self._line_every_s, self._clock = line_every_s, clock
        self._start = self._last_line = clock()
        self._bar = None
        if enabled and self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="step", file=self._stream)

    def advance(self) -> None:
        """Count one step."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif self._enabled and (
            self._clock() - self._last_line >= self._line_every_s or self._done == self._total
        ):
            self._last_line = self._clock()
            self._stream.write(self.line() + "\n")
            self._stream.flush()

    def line(self) -> str:
        """Return one line: steps done, speed of this attempt, time left."""
        elapsed = max(self._clock() - self._start, 1e-9)
        speed = (self._done - self._first) / elapsed
        left = (self._total - self._done) / speed if speed > 0 else float("inf")
        return (
            f"step {self._done}/{self._total} ({self._done / self._total:.0%}), "
            f"{speed:.2f} steps/s, {duration(left)} left"
        )

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Return a length of time in words that fit a line.

    >>> duration(59.6), duration(3700), duration(float("inf"))
    ('1 min', '1 h 02 min', 'unknown time')
    """
    if seconds == float("inf"):
        return "unknown time"
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
