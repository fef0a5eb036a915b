"""A complete training in one file, on made-up images: how a system uses the shared pieces.

It also proves a machine: the same command runs on a laptop, under torchrun and in a SLURM job,
can be killed at any moment, and ends with the same metrics.

    python -m workflow_scripts.training.smoke --state state/smoke --out metrics.json
    torchrun --standalone --nproc-per-node=2 -m workflow_scripts.training.smoke \\
        --world-size 2 --state state/smoke --out metrics.json
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import write_json
from workflow_scripts.randomness import named_rng
from workflow_scripts.training import streams
from workflow_scripts.training.accumulation import BatchSharing, share_batch
from workflow_scripts.training.batches import TrainingBatches
from workflow_scripts.training.devices import Devices, add_device_arguments, request_of, set_up
from workflow_scripts.training.evaluation import evaluation_batches, gather_cases, share_buffers
from workflow_scripts.training.fingerprint import fingerprint
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.sampler import Draw, TrainingSampler
from workflow_scripts.training.schedules import cosine_to_zero, scale_learning_rates
from workflow_scripts.training.selection import KeptWeights, Selection, SelectionRule
from workflow_scripts.training.session import (
    SessionOptions,
    Stateful,
    TrainingSession,
    add_session_arguments,
)
from workflow_scripts.training.state import StateStore

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SIZE = 8  # pixels a side
CASES = {"train": 90, "val": 37, "test": 41}  # odd on purpose: no world size divides them
RULE = SelectionRule(
    "val_accuracy", split="val", direction="max", equal_resets=False, patience=20, keep="best"
)


def make_cases(seed: int, split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Make noise images, half of them with a bright blob, and their labels.

    Returns:
        Images, shape (N, 1, H, W), and labels 0 or 1, shape (N,).
    """
    rng = named_rng(seed, "smoke", split)
    labels = rng.integers(0, 2, CASES[split])
    images = rng.normal(size=(CASES[split], 1, SIZE, SIZE))
    images[:, :, 2:5, 2:5] += labels[:, None, None, None]
    return images.astype(np.float32), labels


class TrainingCases:
    """The training images, each with its own noise in each epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.images, self.labels = make_cases(seed, "train")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        """Return image and label; the noise is the same whoever loads the case, and when."""
        import torch

        with streams.case_streams(self.seed, draw.epoch, draw.case) as rng:
            noise = rng.normal(scale=0.1, size=self.images[draw.case].shape)
            image = torch.from_numpy((self.images[draw.case] + noise).astype(np.float32))
            if torch.rand(()) < 0.5:  # as torchvision's transforms draw: torch's own generator
                image = image.transpose(1, 2)
        return image, int(self.labels[draw.case])


def make_network(seed: int, dropout: float) -> torch.nn.Module:
    """Make a small convolutional network, the same on every rank."""
    from torch import nn

    with streams.initialised(seed, "network"):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(8 * 16, 2),
        )


def predict(network: torch.nn.Module, devices: Devices, seed: int, split: str) -> dict[str, Any]:
    """Return truth and logits of every case of `split`, on every rank.

    Args:
        network: the bare network, not the wrapper of Fabric.
        devices: of the training.
        seed: of the data.
        split: which cases.
    """
    import torch

    images, labels = make_cases(seed, split)
    ids = [f"{split}-{number:03d}" for number in range(len(labels))]
    share_buffers(devices.ranks, network)
    network.eval()
    mine: list[int] = []
    logits = [np.empty((0, 2), np.float32)]
    with torch.inference_mode(), devices.fabric.autocast():
        for batch in evaluation_batches(len(ids), 16, devices.ranks):
            inputs = devices.fabric.to_device(torch.from_numpy(images[batch]))
            logits.append(network(inputs).float().cpu().numpy())
            mine += batch
    network.train()
    columns: dict[str, NDArray[Any]] = {"logits": np.concatenate(logits), "truth": labels[mine]}
    return gather_cases(devices.ranks, [ids[row] for row in mine], columns, ids)


def accuracy(cases: dict[str, Any]) -> float:
    """Return the share of cases whose larger logit is the truth's."""
    return float(np.mean(cases["logits"].argmax(axis=1) == cases["truth"]))


def train(options: argparse.Namespace, devices: Devices, sharing: BatchSharing) -> None:
    """Train, and write the metrics; ends early when the job's time is over."""
    import torch

    fabric, ranks, scaler = devices
    streams.seed_process(options.seed, ranks.rank)
    network = make_network(options.seed, options.dropout)
    optimiser = torch.optim.SGD(network.parameters(), lr=options.lr, momentum=0.9)
    model, stepper = fabric.setup(network, optimiser)

    cases = TrainingCases(options.seed)
    sampler = TrainingSampler(len(cases), sharing, ranks.rank, options.seed, last="keep")
    batches = TrainingBatches(
        cases,  # type: ignore[arg-type]  # indexed by draws
        sampler,
        workers=options.workers,
        move=fabric.to_device,
        pin_memory=options.gpus > 0,
    )
    selection, best = Selection(RULE), KeptWeights()
    log = MetricLog(ranks, options.log, options.tensorboard, every=10)
    store = StateStore(options.state, _fingerprint(options, ranks.world_size), options.on_mismatch)
    parts: dict[str, Stateful] = {
        "network": network,
        "optimiser": optimiser,
        "batches": batches,
        "selection": selection,
        "best weights": best,
    }
    if scaler is not None:
        parts["scaler"] = scaler
    length = SessionOptions(options.steps, options.minutes, options.save_minutes, options.started)

    with TrainingSession(ranks, store, parts, {}, log, lambda: batches.epoch, length) as session:
        for step in session.steps():
            scale_learning_rates(optimiser, cosine_to_zero(step, options.steps))
            for micro in batches.next_batch():
                images, labels = micro.data
                with fabric.no_backward_sync(model, enabled=not micro.is_last):
                    loss = torch.nn.functional.cross_entropy(model(images), labels)
                    fabric.backward(loss * micro.share)
                log.add_loss("train_loss", loss, micro.share)
            stepper.step()
            stepper.zero_grad()
            if (step + 1) % options.check_every == 0:
                value = accuracy(predict(network, devices, options.seed, RULE.split))
                log.record(step + 1, session.epoch, RULE.metric, value)
                if selection.observe(value, step + 1):
                    best.keep(network)
                if selection.should_stop:
                    session.stop()
        if RULE.keep == "best":
            best.restore(network)
        tested = predict(network, devices, options.seed, "test")
        if ranks.is_first:
            write_json(options.out, _report(options, sharing, session, selection, network, tested))
        session.forget()


def _fingerprint(options: argparse.Namespace, world_size: int) -> dict[str, str]:
    """Return what a saved state must share with this run: all that changes the result."""
    config = {
        "seed": options.seed,
        "steps": options.steps,
        "lr": options.lr,
        "dropout": options.dropout,
        "global_batch": options.global_batch,
        "micro_batch": options.micro_batch,
        "check_every": options.check_every,
        "precision": options.precision,
    }
    return fingerprint(config, files={}, code=[], world_size=world_size)


def _report(
    options: argparse.Namespace,
    sharing: BatchSharing,
    session: TrainingSession,
    selection: Selection,
    network: torch.nn.Module,
    tested: dict[str, Any],
) -> dict[str, Any]:
    """Return what the run found; equal for a run that was interrupted and one that was not."""
    weights = hashlib.sha256()
    for tensor in network.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "test_accuracy": accuracy(tested),
        "test_cases": len(tested["truth"]),
        "best_val_accuracy": selection.best,
        "best_step": selection.best_step,
        "steps": session.step,
        "history": [row._asdict() for row in session.log.rows],
        "test_logits": [[float(value) for value in row] for row in tested["logits"]],
        "weights_sha256": weights.hexdigest(),
        "world_size": sharing.world_size,
        "accumulated_passes": sharing.passes,
        "precision": options.precision,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, set up the devices, train."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = partial(parser.add_argument, metavar="N")
    add("--seed", type=int, default=0, help="start of all random streams")
    add("--steps", type=int, default=60, help="updates of the weights")
    add("--global-batch", type=int, default=16, help="cases behind one update")
    add("--micro-batch", type=int, help="cases of one forward pass; default: as many as fit")
    add("--lr", type=float, default=0.05, help="learning rate at the first step")
    add("--dropout", type=float, default=0.1, help="share of features dropped in training")
    add("--check-every", type=int, default=10, help="steps between two validations")
    add("--workers", type=int, default=0, help="processes that load ahead")
    parser.add_argument("--out", type=Path, required=True, help="metrics, written at the end")
    parser.add_argument("--log", type=Path, help="CSV of the metric history")
    parser.add_argument("--tensorboard", type=Path, help="folder of TensorBoard's files")
    add_device_arguments(parser)
    add_session_arguments(parser)
    options = parser.parse_args(arguments)
    options.started = started
    request = request_of(options)
    sharing = share_batch(options.global_batch, request.processes, options.micro_batch)
    train(options, set_up(request), sharing)


if __name__ == "__main__":
    sys.exit(run(main))
