"""One training from its first step to its last, over any number of attempts."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from workflow_scripts.training import failures, random_states
from workflow_scripts.training.deadline import Watch
from workflow_scripts.training.lock import StateLock
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.progress import Progress
from workflow_scripts.training.ranks import Ranks
from workflow_scripts.training.state import StateStore

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything whose state can be taken and put back: network, optimiser, sampler, scaler."""

    def state_dict(self) -> Any:  # noqa: ANN401
        """Return the state."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:  # noqa: ANN401
        """Take a state back."""
        ...


class SessionOptions(NamedTuple):
    """How long, and how often to save.

    Attributes:
        steps: updates of the whole training.
        minutes: the job's time limit; None: no limit.
        save_minutes: time between two regular saves.
        started: `time.monotonic()` at the start of the process; None: now.
    """

    steps: int
    minutes: float | None = None
    save_minutes: float = 15.0  # ours: at most so much work is lost to a dead node
    started: float | None = None


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every training's command line has: where its state lives, and its time."""
    parser.add_argument("--state", type=Path, required=True, help="folder of the saved states")
    parser.add_argument("--minutes", type=float, help="the job's time limit; save before it")
    parser.add_argument(
        "--save-minutes", type=float, default=15.0, help="minutes between two saves"
    )
    parser.add_argument(
        "--on-mismatch",
        choices=("refuse", "fresh"),
        default="refuse",
        help="a saved state of other options, data or code: refuse it, or start from the beginning",
    )


class TrainingSession:
    """Holds a training's state together; the loop itself stays in the system.

    Use it as a context around the loop::

        with TrainingSession(ranks, store, parts, {}, log, epoch, options) as session:
            for step in session.steps():
                ...  # one update of the weights
                if selection.should_stop:
                    session.stop()

    Inside the context the state folder is locked, SIGTERM asks for a save, and a failed
    allocation ends with what to try. Each pass of the loop is one update; a state is saved
    only between two of them.

    Args:
        ranks: of the training.
        store: the states on disk.
        parts: all that must survive a kill and is equal on every rank, by name. Bare networks
            and optimisers, not the wrappers of Fabric or DDP.
        generators: named random generators of this rank.
        log: the metric history (saved as well).
        epoch: tells the epoch of the next update, counted from 0.
        options: length and times.

    Attributes:
        step: updates done.
        epoch: of the update under way, or of the last one.
        is_finished: no update is left to do.
    """

    def __init__(
        self,
        ranks: Ranks,
        store: StateStore,
        parts: Mapping[str, Stateful],
        generators: random_states.Generators,
        log: MetricLog,
        epoch: Callable[[], int],
        options: SessionOptions,
    ) -> None:
        self.ranks, self.store, self.log, self.options = ranks, store, log, options
        self.step, self.is_finished = 0, False
        self._parts: dict[str, Stateful] = {**parts, "metric log": log}
        self.epoch = 0
        self._generators, self._epoch_of_next = generators, epoch
        self._watch = Watch(ranks, options.minutes, options.save_minutes, started=options.started)
        self._open = ExitStack()

    def __enter__(self) -> TrainingSession:
        """Lock the state folder and go to the newest state, if there is one."""
        with ExitStack() as stack:
            if self.ranks.is_first:
                lock = StateLock(self.store.folder)
                self._check_lock: Callable[[], None] = lock.check
            self.ranks.on_first(lambda: lock.acquire())
            if self.ranks.is_first:
                stack.callback(lock.release)
            self._resume()
            self.log.open(self.step)
            stack.callback(self.log.close)
            self._watch.listen()
            stack.callback(self._watch.close)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Release everything; turn a failed allocation into a message that says what to try."""
        self._open.close()
        if error is not None and failures.is_out_of_memory(error):
            raise failures.out_of_memory(error, self.step, self.epoch, self.last_good) from error

    @property
    def last_good(self) -> str:
        """The newest whole state, in words."""
        return str(self.store.last_good or "none yet")

    def steps(self) -> Iterator[int]:
        """Yield the number of each update still to do, from 0; save and stop when it is time.

        Raises:
            SavedNotFinished: at the deadline and on SIGTERM, when the state is on disk.
            TrainingFailure: if a loss is not finite, or the state cannot be written.
        """
        progress = Progress(self.options.steps, self.step, enabled=self.ranks.is_first)
        try:
            while self.step < self.options.steps and not self.is_finished:
                self.epoch = self._epoch_of_next()
                yield self.step
                self.step += 1
                self.log.end_step(self.step, self.epoch, self.last_good)
                progress.advance()
                self._save_or_stop()
        finally:
            progress.close()
        self._finish()

    def stop(self) -> None:
        """End the training with the update under way, as early stopping does."""
        self.is_finished = True

    def forget(self) -> None:
        """Remove the saved states: the outputs are written, nothing is left to go on with."""
        if self.ranks.is_first:
            self.store.clear()

    def save(self) -> None:
        """Save the state after the last whole update; all ranks together."""
        begin = time.monotonic()
        self.log.settle(self.step, self.last_good)
        streams = self.ranks.gather(random_states.capture(self._generators))
        failure: str | None = None
        if self.ranks.is_first:
            try:
                self._write(streams)
            except failures.TrainingFailure as error:
                failure = str(error)
            except OSError as error:
                failure = str(
                    failures.not_saved(error, str(self.store.folder), self.step, self.last_good)
                )
        failure = self.ranks.broadcast(failure)
        if failure:
            raise failures.TrainingFailure(failure)
        self._watch.saved(time.monotonic() - begin)

    def _write(self, streams: list[dict[str, Any]]) -> None:
        """Write the state, on rank 0."""
        self._check_lock()
        content = {
            "step": self.step,
            "epoch": self.epoch,
            "is_finished": self.is_finished,
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "streams": streams,
        }
        note = {
            "steps": self.options.steps,
            "epoch": self.epoch,
            "is_finished": self.is_finished,
        }
        state = self.store.save(content, self.step, note)
        logger.info("saved %s", state)

    def _resume(self) -> None:
        """Put the newest state back, if there is one; every rank reads the same file."""
        found = self.ranks.on_first(self.store.find)
        if found is None:
            return
        self.store.last_good = found
        content = self.store.load(found)
        if set(content["parts"]) != set(self._parts):
            raise ValueError(
                f"parts: expected {sorted(content['parts'])}, found {sorted(self._parts)}"
            )
        for name, part in self._parts.items():
            part.load_state_dict(content["parts"][name])
        random_states.restore(content["streams"][self.ranks.rank], self._generators)
        self.step, self.epoch = content["step"], content["epoch"]
        self.is_finished = content["is_finished"]
        if self.ranks.is_first:
            logger.info("going on from %s", found)

    def _save_or_stop(self) -> None:
        """Save when it is time; leave when the job has to end before the training does."""
        decision = self._watch.after_step()
        is_over = self.is_finished or self.step == self.options.steps
        if is_over or not decision.save:
            return
        self.save()
        if decision.stop:
            end = failures.SavedNotFinished(decision.stop, self.step)
            if self.ranks.is_first:
                logger.warning("%s", end)
            raise end

    def _finish(self) -> None:
        """Save the finished training, so that a kill before its outputs costs no step."""
        if self.is_finished and self.store.last_good and self.store.last_good.step == self.step:
            return
        if self.is_finished and self.ranks.is_first:
            logger.info("stopped early, after step %d of %d", self.step, self.options.steps)
        self.is_finished = True
        self.log.settle(self.step, self.last_good)
        self.log.write_means(self.step, self.epoch)
        self.save()
