"""When to save and when to stop, with a clock of our own."""

from __future__ import annotations

import os
import signal

import pytest

from workflow_scripts.training.deadline import Decision, Watch
from workflow_scripts.training.ranks import Ranks


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stop_times(minutes: float, step_s: float, **named: float) -> float:
    """Return the second at which a training of equal steps is told to stop."""
    clock = Clock()
    watch = Watch(Ranks(), minutes, 1e9, clock=clock, **named)
    while True:
        clock.now += step_s
        if watch.after_step().stop:
            return clock.now


@pytest.mark.parametrize(("minutes", "margin_s"), [(1440, 300), (30, 180), (2, 12)])
def test_it_stops_a_tenth_before_the_limit_but_at_most_5_minutes(
    minutes: float, margin_s: float
) -> None:
    # One more second-long step would pass the soft deadline.
    assert stop_times(minutes, 1.0) == minutes * 60 - margin_s - 1


def test_a_step_that_would_not_fit_any_more_is_not_begun() -> None:
    assert stop_times(10, 100.0, margin_minutes=1) == 500  # the next ends at 600 > 540


def test_the_time_that_a_save_takes_is_left() -> None:
    clock = Clock()
    watch = Watch(Ranks(), 10, 1e9, margin_minutes=1, clock=clock)
    watch.saved(60)
    while not watch.after_step().stop:
        clock.now += 1
    assert clock.now == 540 - 2 * 60 - 1  # room for a save twice as slow, and for a step


def test_time_before_the_training_counts() -> None:
    clock = Clock()
    clock.now = 3600
    watch = Watch(Ranks(), 60, 1e9, started=0.0, clock=clock)
    assert "almost used up" in watch.after_step().stop


def test_regular_saves_come_at_their_time_after_the_last_one() -> None:
    clock = Clock()
    watch = Watch(Ranks(), None, save_minutes=1, clock=clock)
    saves = []
    for second in range(10, 250, 10):
        clock.now = second
        if watch.after_step() == Decision(True, ""):
            saves.append(second)
            clock.now += 5  # the save itself
            watch.saved(5)
    assert saves == [60, 130, 200]


def test_sigterm_is_seen_after_the_step_and_left_alone_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    watch = Watch(Ranks(), None, 60)
    watch.listen()
    assert watch.after_step() == Decision(False, "")
    os.kill(os.getpid(), signal.SIGTERM)
    assert watch.after_step() == Decision(True, "SIGTERM received")
    watch.close()
    assert signal.getsignal(signal.SIGTERM) == before


def test_ranks_agree_every_few_seconds_and_not_at_every_step() -> None:
    clock = Clock()
    asked = []

    class Two(Ranks):
        def gather(self, value: object) -> list[object]:  # type: ignore[override]
            asked.append(clock.now)
            return [value, value]

    watch = Watch(Two(0, 2), None, 1e9, clock=clock)
    for _ in range(300):
        clock.now += 0.1
        watch.after_step()
    assert len(asked) == 7  # after the first step, then every 5 s of the 30
