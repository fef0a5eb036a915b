"""The metric history is written once, whatever happens in between."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from workflow_scripts.training.failures import TrainingFailure
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.progress import Progress
from workflow_scripts.training.ranks import Ranks


def steps(log: MetricLog, first: int, last: int, **changed: float) -> None:
    for step in range(first, last + 1):
        log.add_loss("loss", torch.tensor(changed.get(f"at_{step}", float(step))), 0.5)
        log.add_loss("loss", torch.tensor(float(step)), 0.5)  # a second micro-batch
        log.end_step(step, step // 5, "state-00000001.pt")


def test_rows_are_means_over_the_steps_since_the_last_row(tmp_path: Path) -> None:
    log = MetricLog(Ranks(), tmp_path / "history.csv", None, every=4)
    log.open(0)
    steps(log, 1, 9)
    assert (tmp_path / "history.csv").read_text() == (
        "step,epoch,metric,value\n4,0,loss,2.5\n8,1,loss,6.5\n"
    )


def test_a_save_in_between_and_a_resume_leave_the_rows_as_they_were(tmp_path: Path) -> None:
    whole = MetricLog(Ranks(), None, None, every=4)
    steps(whole, 1, 12)
    first = MetricLog(Ranks(), tmp_path / "history.csv", None, every=4)
    first.open(0)
    steps(first, 1, 6)
    first.settle(6, "")
    saved = first.state_dict()
    steps(first, 7, 11)  # lost with the killed process, but its row at 8 is in the file
    second = MetricLog(Ranks(), tmp_path / "history.csv", None, every=4)
    second.load_state_dict(saved)
    second.open(6)
    steps(second, 7, 12)
    assert second.rows == whole.rows
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "step,epoch,metric,value",
        *(f"{row.step},{row.epoch},{row.metric},{row.value}" for row in whole.rows),
    ]


def test_the_losses_of_the_ranks_are_summed_by_their_shares() -> None:
    class Two(Ranks):
        def gather(self, value: dict[str, list[float]]) -> list[object]:  # type: ignore[override]
            return [value, {name: [10.0] * len(values) for name, values in value.items()}]

    log = MetricLog(Two(0, 2), None, None, every=2)
    steps(log, 1, 2)
    assert log.rows[0].value == 10 + (1 + 2) / 2 / 2  # this rank's part is half its loss


def test_a_loss_that_is_not_finite_is_named_with_its_own_step_and_epoch() -> None:
    log = MetricLog(Ranks(), None, None, every=10)
    with pytest.raises(TrainingFailure) as failed:
        steps(log, 1, 10, at_4=float("inf"), at_7=float("nan"))
    assert "loss is not finite at step 3 (epoch 0)" in str(failed.value)  # steps count from 0
    assert "last good state: state-00000001.pt" in str(failed.value)


def test_tensorboard_gets_the_same_values(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricLog(Ranks(), None, tmp_path, every=2)
    log.open(0)
    steps(log, 1, 4)
    log.close()
    resumed = MetricLog(Ranks(), None, tmp_path, every=2)
    resumed.open(2)
    steps(resumed, 3, 4, at_4=5.0)
    resumed.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 1.5), (4, 3.75)]


def test_in_a_job_log_progress_is_one_whole_line_now_and_then() -> None:
    now = [0.0]
    out = io.StringIO()
    progress = Progress(1000, 900, stream=out, line_every_s=60, clock=lambda: now[0])
    for _ in range(100):
        now[0] += 2
        progress.advance()
    progress.close()
    assert out.getvalue().splitlines() == [
        "step 930/1000 (93%), 0.50 steps/s, 2 min left",
        "step 960/1000 (96%), 0.50 steps/s, 1 min left",
        "step 990/1000 (99%), 0.50 steps/s, 20 s left",
        "step 1000/1000 (100%), 0.50 steps/s, 0 s left",
    ]


def test_on_a_terminal_progress_is_a_bar_and_other_ranks_say_nothing() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, silent = Terminal(), io.StringIO()
    for progress in (
        Progress(2, 0, stream=out),
        Progress(2, 0, enabled=False, stream=silent),
    ):
        progress.advance()
        progress.advance()
        progress.close()
    assert "2/2" in out.getvalue()
    assert silent.getvalue() == ""
