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
from typing import TYPE_CHECKING, Any, NamedTuple

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
    images[:, :, 2:5, 2:5] += 0.6 * labels[:, None, None, None]
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


def weights_hash(network: torch.nn.Module) -> str:
    """Return the SHA-256 of all weights and buffers: equal only when every bit is."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Pieces(NamedTuple):
    """What the loop works with.

    Attributes:
        network: the bare network; evaluated, saved, and kept when best.
        model: the network as Fabric wraps it for precision and DDP; trained.
        optimiser: the bare optimiser; saved.
        stepper: the optimiser as Fabric wraps it; steps.
        batches: endless global batches.
        selection: follows `RULE`.
        best: the best weights so far.
        log: the metric history.
    """

    network: torch.nn.Module
    model: Any  # Fabric's own class, without a public name
    optimiser: torch.optim.Optimizer
    stepper: torch.optim.Optimizer
    batches: TrainingBatches
    selection: Selection
    best: KeptWeights
    log: MetricLog


def assemble(options: argparse.Namespace, devices: Devices, sharing: BatchSharing) -> Pieces:
    """Make network, optimiser and batches, all from the seed."""
    import torch

    fabric, ranks, _ = devices
    streams.seed_process(options.seed, ranks.rank)
    network = make_network(options.seed, options.dropout)
    optimiser = torch.optim.SGD(network.parameters(), lr=options.lr, momentum=0.9)
    model, stepper = fabric.setup(network, optimiser)
    cases = TrainingCases(options.seed)
    batches = TrainingBatches(
        cases,  # type: ignore[arg-type]  # indexed by draws
        TrainingSampler(len(cases), sharing, ranks.rank, options.seed, last="keep"),
        workers=options.workers,
        move=fabric.to_device,
        pin_memory=options.gpus > 0,
    )
    log = MetricLog(ranks, options.history, options.tensorboard, every=10)
    return Pieces(network, model, optimiser, stepper, batches, Selection(RULE), KeptWeights(), log)


def open_session(options: argparse.Namespace, devices: Devices, pieces: Pieces) -> TrainingSession:
    """Name everything that must survive a kill, and what a saved state must belong to."""
    parts: dict[str, Stateful] = {
        "network": pieces.network,
        "optimiser": pieces.optimiser,
        "batches": pieces.batches,
        "selection": pieces.selection,
        "best weights": pieces.best,
    }
    if devices.scaler is not None:
        parts["scaler"] = devices.scaler
    store = StateStore(
        options.state, _fingerprint(options, devices.ranks.world_size), options.on_mismatch
    )
    length = SessionOptions(options.steps, options.minutes, options.save_minutes, options.started)
    batches = pieces.batches
    return TrainingSession(
        devices.ranks, store, parts, {}, pieces.log, lambda: batches.epoch, length
    )


def train(options: argparse.Namespace, devices: Devices, sharing: BatchSharing) -> None:
    """Train, and write the metrics; ends early when the job's time is over."""
    from torch.nn.functional import cross_entropy

    pieces = assemble(options, devices, sharing)
    network, model, optimiser, stepper, batches, selection, best, log = pieces
    fabric = devices.fabric
    with open_session(options, devices, pieces) as session:
        for step in session.steps():
            scale_learning_rates(optimiser, cosine_to_zero(step, options.steps))
            for micro in batches.next_batch():
                images, labels = micro.data
                with fabric.no_backward_sync(model, enabled=not micro.is_last):
                    loss = cross_entropy(model(images), labels)
                    fabric.backward(loss * micro.share)
                log.add_loss("train_loss", loss, micro.share)
            stepper.step()
            stepper.zero_grad()
            if (step + 1) % options.check_every == 0 or step + 1 == options.steps:
                value = accuracy(predict(network, devices, options.seed, RULE.split))
                log.record(step + 1, session.epoch, RULE.metric, value)
                if selection.observe(value, step + 1):
                    best.keep(network)
                if selection.should_stop:
                    session.stop()
        report(options, devices, sharing, pieces)
        session.forget()  # the outputs are written, nothing is left to go on with


def report(
    options: argparse.Namespace, devices: Devices, sharing: BatchSharing, pieces: Pieces
) -> None:
    """Test the kept weights, and write what was found: equal for an interrupted run."""
    network, selection = pieces.network, pieces.selection
    last_weights = weights_hash(network)
    if RULE.keep == "best":
        pieces.best.restore(network)
    tested = predict(network, devices, options.seed, "test")
    found = {
        "test_accuracy": accuracy(tested),
        "test_cases": len(tested["truth"]),
        "test_logits": tested["logits"].astype(float).tolist(),
        "best_val_accuracy": selection.best,
        "best_step": selection.best_step,
        "history": [row._asdict() for row in pieces.log.rows],
        "kept_weights_sha256": weights_hash(network),
        "last_weights_sha256": last_weights,
        "world_size": sharing.world_size,
        "accumulated_passes": sharing.passes,
        "precision": options.precision,
    }
    if devices.ranks.is_first:
        write_json(options.out, found)


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, set up the devices, train."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = partial(parser.add_argument, metavar="N")
    add("--seed", type=int, default=0, help="start of all random streams")
    add("--steps", type=int, default=60, help="updates of the weights")
    add("--global-batch", type=int, default=16, help="cases behind one update")
    add("--micro-batch", type=int, help="cases of one forward pass; default: all of a rank")
    add("--lr", type=float, default=0.05, help="learning rate at the first step")
    add("--dropout", type=float, default=0.1, help="share of features dropped in training")
    add("--check-every", type=int, default=10, help="steps between two validations")
    add("--workers", type=int, default=0, help="processes that load ahead")
    parser.add_argument("--out", type=Path, required=True, help="metrics, written at the end")
    # Not "--log": torchrun takes the start of one of its own options for an ambiguous one.
    parser.add_argument("--history", type=Path, help="CSV of the metric history")
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
