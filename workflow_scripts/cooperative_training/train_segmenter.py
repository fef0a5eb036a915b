"""Step: train the five sub-networks by one method on one list of patients.

Each update sees half a batch of augmented slices and the same slices as stored; hard examples are
made from the codes of this very batch. Every few epochs the slow network's output is judged on
the validation slices, and the best weights are kept (spec section 10).

    python -m workflow_scripts.cooperative_training.train_segmenter --method cooperative \\
        --protocol corrected --list 10_cv_0 --images inplane137.images.npy ... --state state/x
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_scripts.command_line import run
from workflow_scripts.cooperative_training.methods import METHODS
from workflow_scripts.cooperative_training.patients import Patients, check_leaks, patients_of
from workflow_scripts.cooperative_training.protocols import TRAINING, TrainingProtocol
from workflow_scripts.cooperative_training.tested import read_manifest
from workflow_scripts.files import sha256_of, write_json, write_safetensors
from workflow_scripts.problems import refuse
from workflow_scripts.training.accumulation import share_batch
from workflow_scripts.training.devices import Devices, add_device_arguments, request_of, set_up
from workflow_scripts.training.fingerprint import fingerprint
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.selection import KeptWeights, Selection, SelectionRule
from workflow_scripts.training.session import (
    SessionOptions,
    TrainingSession,
    add_session_arguments,
)
from workflow_scripts.training.state import StateStore

if TYPE_CHECKING:
    import torch

    from workflow_scripts.cooperative_training.networks import CooperativeNetworks
    from workflow_scripts.cooperative_training.slices import Slices
    from workflow_scripts.cooperative_training.step import CooperativeStep
    from workflow_scripts.cooperative_training.validation import Validation
    from workflow_scripts.training.accumulation import BatchSharing
    from workflow_scripts.training.batches import MicroBatch, TrainingBatches

logger = logging.getLogger(__name__)
RULE = SelectionRule(
    # strictly greater than before, from -10000 on (spec section 10)
    "val_mean_iou",
    split="val",
    direction="max",
    equal_resets=False,
    patience=None,
    keep="best",
)


class Run(NamedTuple):
    """What was asked for, on which devices."""

    options: argparse.Namespace
    protocol: TrainingProtocol
    devices: Devices
    sharing: BatchSharing
    patients: Patients
    patients_space: str  # the manifest's name space of patients


class Pieces(NamedTuple):
    """What the loop works with.

    Attributes:
        step: bare module of the loss; holds the networks.
        model: the same as Fabric wraps it.
        optimiser, stepper: bare, and as Fabric wraps it.
        batches: endless global batches.
        validation: judges the networks.
        selection, best, log: as in `training.smoke`.
    """

    step: CooperativeStep
    model: Any  # Fabric's own class, without a public name
    optimiser: torch.optim.Optimizer
    stepper: torch.optim.Optimizer
    batches: TrainingBatches
    validation: Validation
    selection: Selection
    best: KeptWeights
    log: MetricLog

    @property
    def networks(self) -> CooperativeNetworks:
        """The bare networks."""
        return self.step.networks


def make_step(run: Run) -> CooperativeStep:
    """Make the networks, the same on every rank, and the loss around them."""
    import torch

    from workflow_scripts.cooperative_training.networks import CooperativeNetworks
    from workflow_scripts.cooperative_training.step import CooperativeStep
    from workflow_scripts.training import streams

    method = METHODS[run.options.method]
    streams.seed_process(run.options.seed, run.devices.ranks.rank)
    with streams.initialised(run.options.seed, "networks"):
        networks = CooperativeNetworks(run.options.width, method.sharing, run.protocol.image_output)
    networks = networks.to(memory_format=torch.channels_last)  # faster, same numbers but rounding
    return CooperativeStep(networks, method, run.protocol.has_label_loss)


def make_slices(run: Run) -> tuple[Slices, Validation]:
    """Open the store and find the slices to train on and to validate on."""
    from workflow_scripts.cooperative_training.augmentation import NO_AUGMENTATION, Policy
    from workflow_scripts.cooperative_training.slices import Sizes, Slices
    from workflow_scripts.cooperative_training.validation import Validation
    from workflow_scripts.datasets.volume_reader import VolumeStore

    given = run.options
    store = VolumeStore(given.images, given.masks, given.index)
    sizes = Sizes(given.window, given.crop)
    made = partial(Slices, store, sizes=sizes, seed=given.seed, where=str(given.index))
    train = made(run.patients.train, policy=Policy(), empty=run.protocol.empty_training_slices)
    val = made(run.patients.val, policy=NO_AUGMENTATION, empty=run.protocol.empty_validation_slices)
    return train, Validation(val, run.devices, run.protocol.validation_passes)


def assemble(run: Run) -> Pieces:
    """Make networks, optimiser and batches, all from the seed.

    One Adam over all parameters: as five that are stepped together (as released).
    """
    import torch

    from workflow_scripts.cooperative_training.slices import join_items
    from workflow_scripts.training.batches import TrainingBatches
    from workflow_scripts.training.sampler import TrainingSampler

    given, (fabric, ranks, _) = run.options, run.devices
    step = make_step(run)
    trained = [one for one in step.parameters() if one.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=given.lr)
    model, stepper = fabric.setup(step, optimiser)
    slices, validation = make_slices(run)
    batches = TrainingBatches(
        slices,  # type: ignore[arg-type]  # indexed by draws
        TrainingSampler(len(slices), run.sharing, ranks.rank, given.seed, last="keep"),
        workers=given.workers,
        move=fabric.to_device,
        collate=join_items,
        pin_memory=given.gpus > 0,
    )
    log = MetricLog(ranks, given.history, None, every=batches.sampler.batches_per_epoch)
    return Pieces(
        *(step, model, optimiser, stepper, batches, validation),
        *(Selection(RULE), KeptWeights(), log),
    )


def open_session(run: Run, pieces: Pieces) -> TrainingSession:
    """Name everything that must survive a kill, and what a saved state must belong to."""
    given = run.options
    parts: dict[str, Any] = {
        "networks": pieces.networks,
        "optimiser": pieces.optimiser,
        "batches": pieces.batches,
        "selection": pieces.selection,
        "best weights": pieces.best,
    }
    if run.devices.scaler is not None:
        parts["scaler"] = run.devices.scaler
    names = ("method", "protocol", "list", "seed", "epochs", "batch_size", "lr", "width", "window")
    config = {name: getattr(given, name) for name in (*names, "crop", "precision")}
    config |= {"max_updates": given.max_updates, "validate_every": given.validate_every}
    belongs_to = fingerprint(
        config | asdict(run.protocol),
        files={name: getattr(given, name) for name in ("images", "masks", "index", "manifest")},
        code=[Path(__file__).parent],
        world_size=run.devices.ranks.world_size,
    )
    store = StateStore(given.state, belongs_to, given.on_mismatch)
    length = SessionOptions(
        n_updates(run, pieces), given.minutes, given.save_minutes, given.started
    )
    batches = pieces.batches
    return TrainingSession(
        run.devices.ranks, store, parts, {}, pieces.log, lambda: batches.epoch, length
    )


def n_updates(run: Run, pieces: Pieces) -> int:
    """Return the updates of the whole training.

    The released limit of 50,000 iterations never acts; ours does where it is given.
    """
    updates: int = run.options.epochs * pieces.batches.sampler.batches_per_epoch
    return min(updates, run.options.max_updates or updates)


def train(run: Run) -> None:
    """Train, and write weights and record; ends early when the job's time is over."""
    pieces = assemble(run)
    with open_session(run, pieces) as session:
        per_epoch = pieces.batches.sampler.batches_per_epoch
        every = run.options.validate_every * per_epoch
        last = session.options.steps
        pieces.networks.train()
        for step in session.steps():
            for number, micro in enumerate(pieces.batches.next_batch()):
                update(run, pieces, micro, step, number)
            pieces.stepper.step()
            pieces.stepper.zero_grad()
            if (step + 1) % every == 0 or step + 1 == last:
                value = pieces.validation.mean_iou(pieces.networks)
                pieces.log.record(step + 1, session.epoch, RULE.metric, value)
                if pieces.selection.observe(value, step + 1):
                    pieces.best.keep(pieces.networks)
        write_outputs(run, pieces)
        session.forget()  # the outputs are written, nothing is left to go on with


def update(run: Run, pieces: Pieces, micro: MicroBatch, step: int, number: int) -> None:
    """Add one micro-batch's gradient."""
    from workflow_scripts.cooperative_training.slices import Sizes, make_batch
    from workflow_scripts.cooperative_training.step import UpdateStreams

    fabric, ranks, _ = run.devices
    place = ranks.rank + number * ranks.world_size  # of the micro-batch in the global batch
    streams = UpdateStreams(run.options.seed, step, place, fabric.device)
    sizes = Sizes(run.options.window, run.options.crop)
    batch = make_batch(micro.data, sizes, streams.generator("noise"), run.protocol.clamps_noise)
    with fabric.no_backward_sync(pieces.model, enabled=not micro.is_last):
        loss, terms = pieces.model(batch, streams)
        fabric.backward(loss * micro.share)
    pieces.log.add_loss("loss/total", loss, micro.share)
    for name, value in terms.items():
        pieces.log.add_loss(f"loss/{name}", value, micro.share)


def write_outputs(run: Run, pieces: Pieces) -> None:
    """Write the best weights and what they are, on rank 0."""
    if not run.devices.ranks.is_first:
        return
    from safetensors.torch import save

    pieces.best.restore(pieces.networks)
    weights = {key: one.contiguous().cpu() for key, one in pieces.networks.state_dict().items()}
    given, selection = run.options, pieces.selection
    write_safetensors(given.weights, save(weights))
    write_json(
        given.out,
        {
            "method": given.method,
            "protocol": given.protocol,
            "list": given.list,
            "seed": given.seed,
            "dataset": given.dataset,
            "width": given.width,
            "window": given.window,
            "crop": given.crop,
            "epochs": given.epochs,
            "batch_size": given.batch_size,
            "lr": given.lr,
            "updates": n_updates(run, pieces),
            "precision": given.precision,
            "world_size": run.sharing.world_size,
            "patients": run.patients._asdict(),
            "patients_space": run.patients_space,
            "slices": len(pieces.batches.sampler.order(0)),
            "best_val_mean_iou": selection.best if selection.best_step >= 0 else None,
            "best_step": selection.best_step,
            "weights_sha256": sha256_of(given.weights),
            "options": asdict(run.protocol),
        },
    )


def batch_of(options: argparse.Namespace, processes: int) -> BatchSharing:
    """Share half a batch: each slice comes twice, augmented and as stored (spec section 4)."""
    return share_batch(max(1, options.batch_size // 2), processes, options.micro_batch)


def protocol_of(options: argparse.Namespace) -> TrainingProtocol:
    """Return the protocol with the overlap that was asked for; `released` keeps its lists."""
    protocol = TRAINING[options.protocol]
    is_open = options.overlap and protocol.overlap == "refuse"
    return replace(protocol, overlap=options.overlap) if is_open else protocol


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, set up the devices, train."""
    started = time.monotonic()
    given = _parser().parse_args(arguments)
    given.started = started
    if min(given.epochs, given.validate_every, given.batch_size, given.width) < 1:
        found = f"{given.epochs}, {given.validate_every}, {given.batch_size}, {given.width}"
        expected = "epochs, validation interval, batch size and width of at least 1"
        raise refuse("command line", expected, found, "correct the configuration")
    protocol = protocol_of(given)
    manifest, about = read_manifest(given.manifest)
    patients = patients_of(manifest, given.list, protocol.overlap, str(given.manifest))
    files = manifest["sha256"][manifest["patient_id"].isin(patients.in_both)].nunique()
    check_leaks(given.leak_free, given.list, len(patients.in_both), files)
    if patients.in_both:
        logger.warning(
            "%s has %s in training and validation: %s",
            *(given.list, ", ".join(patients.in_both), protocol.overlap),
        )
    request = request_of(given)
    sharing = batch_of(given, request.processes)
    devices = set_up(request)
    train(Run(given, protocol, devices, sharing, patients, about["patients"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="voxels of the volume store")
    parser.add_argument("--masks", type=Path, required=True, help="its classes")
    parser.add_argument("--index", type=Path, required=True, help="its index")
    parser.add_argument("--manifest", type=Path, required=True, help="who is in which split")
    parser.add_argument("--leak-free", type=Path, required=True, help="leak certificate")
    parser.add_argument("--dataset", required=True, help="name of the data set, for the record")
    parser.add_argument(
        "--method",
        choices=list(METHODS),
        required=True,
        help="row of the table; cooperative_training/methods.py",
    )
    parser.add_argument(
        "--protocol",
        choices=list(TRAINING),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--list", required=True, help="released list, such as 10_cv_0, or split")
    help_text = "corrected: patients in training and validation do not validate (else refused)"
    parser.add_argument("--overlap", choices=["leave_out"], help=help_text)
    add = partial(parser.add_argument, metavar="N")
    add("--seed", type=int, required=True, help="start of all random streams")
    add("--epochs", type=int, default=600, help="passes over the slices (spec section 10)")
    add("--max-updates", type=int, help="end after so many updates, if that is earlier")
    add("--batch-size", type=int, default=20, help="slices of a batch, half of them augmented")
    add("--micro-batch", type=int, help="slices of one forward pass; default: all of a rank")
    add("--lr", type=float, default=1e-4, help="learning rate of Adam")
    add("--width", type=int, default=16, help="channels of the first layer")
    add("--window", type=int, default=224, help="pixels of the augmentation's window")
    add("--crop", type=int, default=192, help="pixels of the networks' input")
    add("--validate-every", type=int, default=1, help="epochs between two validations")
    add("--workers", type=int, default=0, help="processes that load ahead")
    parser.add_argument("--weights", type=Path, required=True, help="best weights (safetensors)")
    parser.add_argument("--out", type=Path, required=True, help="record of the training (JSON)")
    parser.add_argument("--history", type=Path, help="CSV of losses and validation")
    add_device_arguments(parser)
    add_session_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
