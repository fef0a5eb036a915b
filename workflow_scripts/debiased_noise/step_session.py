"""One resumable training of this system: the arguments and the session that all steps share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.debiased_noise.order import IndexBatches
from workflow_scripts.problems import refuse
from workflow_scripts.training.devices import (
    Devices,
    add_device_arguments,
    request_of,
    set_up,
)
from workflow_scripts.training.fingerprint import fingerprint
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.session import (
    SessionOptions,
    Stateful,
    TrainingSession,
    add_session_arguments,
)
from workflow_scripts.training.state import StateStore


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add seed, history, device and session options."""
    parser.add_argument("--seed", type=int, default=0, help="start of all random streams")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--history", type=Path, help="CSV of the loss, a row an epoch")
    add_device_arguments(parser)
    add_session_arguments(parser)
    parser.set_defaults(started=time.monotonic())


def set_up_one(given: argparse.Namespace) -> Devices:
    """Return the device of a training on one process.

    Raises:
        InputError: for more processes (a head or an edit is one small tensor, and GeZO's draws
            and choices would have to be shared; spec 14, B6), or mixed precision.
    """
    from workflow_scripts.speed import set_threads, tune_allocator

    request = request_of(given)
    if request.processes > 1:
        found = f"{request.processes} processes"
        raise refuse("--world-size, --gpus", "one process", found, "train on one GPU or the CPU")
    if request.precision not in ("fp32", "tf32"):
        advice = "leave it out; an edit is smaller than half precision tells apart"
        raise refuse("--precision", "fp32 or tf32", request.precision, advice)
    tune_allocator()
    devices = set_up(request)
    set_threads(given.threads)
    return devices


def open_session(
    given: argparse.Namespace,
    devices: Devices,
    parts: Mapping[str, Stateful],
    batches: IndexBatches,
    n_steps: int,
    log: MetricLog,
    config: Mapping[str, Any],
    files: Mapping[str, Path],
) -> TrainingSession:
    """Return the session of a training.

    Args:
        given: the command line.
        devices: of `set_up_one`.
        parts: all that must survive a kill, besides the batches.
        batches: of the training.
        n_steps: updates of the whole training.
        log: its history.
        config: every option that changes the result.
        files: what is read, by name.
    """
    own = fingerprint(config, files, [Path(__file__).parent], devices.ranks.world_size)
    store = StateStore(given.state, own, given.on_mismatch)
    length = SessionOptions(n_steps, given.minutes, given.save_minutes, given.started)
    everything: dict[str, Stateful] = {**parts, "batches": batches}
    return TrainingSession(devices.ranks, store, everything, {}, log, lambda: batches.epoch, length)


def loss_log(given: argparse.Namespace, devices: Devices, every: int) -> MetricLog:
    """Return the history of a training: one row of a loss every `every` updates."""
    return MetricLog(devices.ranks, given.history, None, every=max(1, every))
