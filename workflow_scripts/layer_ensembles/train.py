"""Train one method on one data set; write the networks and the history.

    python -m workflow_scripts.layer_ensembles.train --method layer_ensembles \\
        --protocol corrected --seed 0 --images I.npy --masks M.npy --index I.parquet \\
        --manifest manifest.parquet --card card.json --leak-free leak_free.json \\
        --settings '{...}' --state state/run --out networks.safetensors

The members of deep ensembles are trained in turn within each update, each on its own batches; the
best epoch is that of their mean validation loss (spec section 2.4).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.files import write_safetensors
from workflow_scripts.layer_ensembles.cases import (
    Cases,
    TrainingSlices,
    add_case_arguments,
    as_tensors,
    read_cases,
    validation_slices,
)
from workflow_scripts.layer_ensembles.protocols import METHODS, OPTIONS, Loss
from workflow_scripts.layer_ensembles.settings import Settings, settings_from
from workflow_scripts.randomness import stream_seed
from workflow_scripts.speed import tune_allocator
from workflow_scripts.training import streams
from workflow_scripts.training.accumulation import BatchSharing, share_batch
from workflow_scripts.training.batches import TrainingBatches
from workflow_scripts.training.devices import Devices, add_device_arguments, request_of, set_up
from workflow_scripts.training.evaluation import evaluation_batches, gather_cases, share_buffers
from workflow_scripts.training.fingerprint import fingerprint
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.sampler import TrainingSampler
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

    from workflow_scripts.layer_ensembles.losses import Criterion

VALIDATION_BATCH = 10  # spec section 4


class Member(NamedTuple):
    """One network in training.

    Attributes:
        network: the bare network.
        model: as Fabric wraps it.
        optimiser: the bare optimiser.
        stepper: as Fabric wraps it.
        batches: its own global batches.
        plateau: lowers its learning rate.
    """

    network: torch.nn.Module
    model: Any  # Fabric's own class, without a public name
    optimiser: torch.optim.Optimizer
    stepper: torch.optim.Optimizer
    batches: TrainingBatches
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau


@dataclass(frozen=True, slots=True)
class Training:
    """What the loop works with."""

    given: argparse.Namespace
    settings: Settings
    cases: Cases
    devices: Devices
    members: tuple[Member, ...]
    networks: torch.nn.ModuleList
    criterion: Criterion
    selection: Selection
    best: KeptWeights
    log: MetricLog

    @property
    def steps_per_epoch(self) -> int:
        """Updates of one epoch."""
        return self.members[0].batches.sampler.batches_per_epoch


def loss_of(cases: Cases) -> Loss:
    """Return the name of the loss: Dice for one structure, cross-entropy for hearts."""
    return "weighted_cross_entropy" if cases.n_classes > 2 else cases.options.loss_2d


def assemble(given: argparse.Namespace, cases: Cases, settings: Settings, devices: Devices,
             sharing: BatchSharing) -> Training:  # fmt: skip
    """Make networks, optimisers and batches, all from the seed."""
    from workflow_scripts.layer_ensembles.losses import criterion_named
    from workflow_scripts.layer_ensembles.methods import make_members

    streams.seed_process(given.seed, devices.ranks.rank)
    networks = make_members(
        given.method,
        given.seed,
        settings.members,
        n_classes=cases.n_classes,
        widths=settings.widths,
        n_heads=settings.heads,
        options=cases.options,
    )
    members = tuple(
        _member(given, cases, settings, devices, sharing, network, number)
        for number, network in enumerate(networks)
    )
    rule = SelectionRule(
        "val_loss", split="val", direction="min", equal_resets=True,
        patience=settings.early_stopping_epochs, keep="best",
    )  # fmt: skip
    log = MetricLog(devices.ranks, given.history, given.tensorboard, every=settings.log_every)
    criterion = criterion_named(loss_of(cases))
    return Training(
        given, settings, cases, devices, members, networks, criterion, Selection(rule),
        KeptWeights(), log,
    )  # fmt: skip


def _member(given: argparse.Namespace, cases: Cases, settings: Settings, devices: Devices,
            sharing: BatchSharing, network: torch.nn.Module, number: int) -> Member:  # fmt: skip
    """Return one network with what trains it; its order of cases has its own stream."""
    import torch

    decays = given.method == "deep_ensembles" and not cases.is_volume  # released code: AdamW there
    kind = torch.optim.AdamW if decays else torch.optim.Adam
    optimiser = kind(network.parameters(), lr=settings.learning_rate)
    model, stepper = devices.fabric.setup(network, optimiser)
    seed = stream_seed(given.seed, "member", str(number))
    slices = TrainingSlices(cases, seed)
    batches = TrainingBatches(
        slices,  # type: ignore[arg-type]  # indexed by draws
        TrainingSampler(len(slices), sharing, devices.ranks.rank, seed, last="keep"),
        workers=given.workers,
        move=devices.fabric.to_device,
        pin_memory=given.gpus > 0,
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=settings.plateau_factor, patience=settings.plateau_epochs,
        min_lr=settings.lowest_learning_rate,
    )  # fmt: skip
    return Member(network, model, optimiser, stepper, batches, plateau)


def validation_loss(training: Training, network: torch.nn.Module, epoch: int) -> float:
    """Return the mean loss over the batches of validation slices, on every rank."""
    import torch

    from workflow_scripts.layer_ensembles.wrapper import head_logits

    cases, devices = training.cases, training.devices
    chosen = validation_slices(cases, training.given.seed, epoch)
    share_buffers(devices.ranks, network)
    network.eval()
    mine, losses = [], []
    with torch.inference_mode(), devices.fabric.autocast():
        batches = evaluation_batches(len(chosen), VALIDATION_BATCH, devices.ranks)
        for batch in batches:
            pairs = [_validation_slice(cases, *chosen[row]) for row in batch]
            images = devices.fabric.to_device(torch.stack([image for image, _ in pairs]))
            truth = devices.fabric.to_device(torch.stack([mask for _, mask in pairs]))
            heads = head_logits(network(images))
            judged = heads[-1:] if cases.options.validation == "last" else heads
            total = sum(float(training.criterion(one, truth)) for one in judged)
            mine.append(str(batch[0]))
            losses.append(total)
    network.train()
    expected = [str(first) for first in range(0, len(chosen), VALIDATION_BATCH)]
    found = gather_cases(devices.ranks, mine, {"loss": np.array(losses)}, expected)
    return float(found["loss"].mean())


def _validation_slice(cases: Cases, name: str, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, volume = cases.inputs(name)
    return as_tensors(image[number], volume.mask[number])


def train(training: Training, session: TrainingSession) -> None:
    """Run the loop; ends early when the job's time is over."""
    for step in session.steps():
        for member in training.members:
            _update(training, member)
        if (step + 1) % training.steps_per_epoch == 0:
            _judge(training, session, step + 1)


def _update(training: Training, member: Member) -> None:
    """Update one network once."""
    from workflow_scripts.layer_ensembles.wrapper import total_loss

    fabric = training.devices.fabric
    for micro in member.batches.next_batch():
        images, truth = micro.data
        with fabric.no_backward_sync(member.model, enabled=not micro.is_last):
            outputs = member.model(images)
            loss = total_loss(outputs, partial(training.criterion, truth=truth))
            fabric.backward(loss * micro.share)
        training.log.add_loss("train_loss", loss / len(training.members), micro.share)
    member.stepper.step()
    member.stepper.zero_grad()


def _judge(training: Training, session: TrainingSession, step: int) -> None:
    """Validate after an epoch: learning rates, best weights, early stopping."""
    losses = []
    for number, member in enumerate(training.members):
        loss = validation_loss(training, member.network, session.epoch)
        member.plateau.step(loss)
        losses.append(loss)
        if len(training.members) > 1:
            training.log.record(step, session.epoch, f"val_loss_{number}", loss)
    mean = float(np.mean(losses))
    training.log.record(step, session.epoch, "val_loss", mean)
    if training.selection.observe(mean, step):
        training.best.keep(training.networks)
    if training.selection.should_stop:
        session.stop()


def open_session(training: Training) -> TrainingSession:
    """Name everything that must survive a kill, and what a saved state must belong to."""
    given, devices = training.given, training.devices
    parts: dict[str, Stateful] = {
        "networks": training.networks,
        "selection": training.selection,
        "best weights": training.best,
    }
    for number, member in enumerate(training.members):
        parts[f"optimiser {number}"] = member.optimiser
        parts[f"batches {number}"] = member.batches
        parts[f"plateau {number}"] = member.plateau
    if devices.scaler is not None:
        parts["scaler"] = devices.scaler
    config = {
        "method": given.method, "protocol": given.protocol, "seed": given.seed,
        "reduction": given.reduction, "precision": given.precision,
        "settings": json.loads(given.settings),
    }  # fmt: skip
    files = {name: getattr(given, name) for name in ("manifest", "index", "images", "masks")}
    code = [Path(__file__).parent, Path(__file__).parents[1] / "networks"]
    store = StateStore(
        given.state, fingerprint(config, files, code, devices.ranks.world_size), given.on_mismatch
    )
    steps = training.settings.epochs * training.steps_per_epoch
    length = SessionOptions(steps, given.minutes, given.save_minutes, given.started)
    batches = training.members[0].batches
    return TrainingSession(
        devices.ranks, store, parts, {}, training.log, lambda: batches.epoch, length
    )


def save_networks(training: Training) -> None:
    """Write the best weights, with what a reader must know to build the networks again."""
    from safetensors.torch import save

    if not training.devices.ranks.is_first:
        return
    training.best.restore(training.networks)
    given = training.given
    metadata = {
        "method": given.method,
        "protocol": given.protocol,
        "seed": str(given.seed),
        "settings": given.settings,
        "reduction": str(given.reduction),
        "best_step": str(training.selection.best_step),
        "val_loss": repr(training.selection.best),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in training.networks.state_dict().items()}
    write_safetensors(given.out, save(tensors, metadata))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, set up the devices, train."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--method", choices=METHODS, required=True, help="row of the table")
    parser.add_argument(
        "--protocol",
        choices=sorted(OPTIONS),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--seed", type=int, required=True, help="starts all random streams")
    parser.add_argument("--settings", required=True, help="JSON; see settings.py")
    parser.add_argument("--workers", type=int, default=0, help="processes that load ahead")
    parser.add_argument("--out", type=Path, required=True, help="networks, .safetensors")
    parser.add_argument("--history", type=Path, help="CSV of the metric history")
    parser.add_argument("--tensorboard", type=Path, help="folder of TensorBoard's files")
    add_case_arguments(parser)
    add_device_arguments(parser)
    add_session_arguments(parser)
    given = parser.parse_args(arguments)
    given.started = started
    tune_allocator()
    settings = settings_from(given.settings)
    cases = read_cases(given, OPTIONS[given.protocol])
    request = request_of(given)
    # batch normalisation: the published batch is what the network sees together
    sharing = share_batch(settings.batch, request.processes, settings.batch)
    # the last decoder block has an attention that is never applied
    devices = set_up(request, find_unused_parameters=True)
    training = assemble(given, cases, settings, devices, sharing)
    with open_session(training) as session:
        train(training, session)
        save_networks(training)
        session.forget()


if __name__ == "__main__":
    sys.exit(run(main))
