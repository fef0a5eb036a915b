"""Step: train one variant on the source data sets, and keep the weights of the best validation.

    python -m workflow_scripts.crocodile.train --protocol corrected --variant full --seed 0 \\
        --manifests A.parquet B.parquet --cards ... --stores ... --indexes ... \\
        --leak-free leak_free.json --network '{...}' --training '{...}' --weights '{...}' \\
        --state state/full --model model.safetensors --record training.json --history history.csv

The order of the manifests gives the domains 0, 1, ... Selection is by the mean AUC of the variant's
first head on the validation split; the test split is never read here.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_scripts.command_line import run
from workflow_scripts.crocodile.cases import (
    Cases,
    Dataset,
    DatasetFiles,
    counts,
    network_input,
    read_dataset,
    require_every_domain,
    require_leak_free,
)
from workflow_scripts.crocodile.protocols import PROTOCOLS, CrocodileOptions
from workflow_scripts.crocodile.settings import LossWeights, Schedule, Shape, record
from workflow_scripts.crocodile.variants import VARIANTS, Variant
from workflow_scripts.datasets.chest_findings import NINE
from workflow_scripts.files import write_json, write_safetensors
from workflow_scripts.problems import refuse
from workflow_scripts.training import streams
from workflow_scripts.training.accumulation import BatchSharing, share_batch
from workflow_scripts.training.batches import MicroBatch, TrainingBatches
from workflow_scripts.training.devices import Devices, add_device_arguments, request_of, set_up
from workflow_scripts.training.failures import not_finite
from workflow_scripts.training.fingerprint import fingerprint
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.sampler import TrainingSampler
from workflow_scripts.training.schedules import one_cycle, scale_learning_rates
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

    from workflow_scripts.crocodile.model import Objective, Orders
    from workflow_scripts.crocodile.plain import PlainObjective

LOG_EVERY = 10  # updates behind one row of the history (ours)


class Plan(NamedTuple):
    """What is trained, as the command line asks for it."""

    protocol: str
    options: CrocodileOptions
    name: str
    variant: Variant
    shape: Shape
    schedule: Schedule
    weights: LossWeights
    seed: int


class Pieces(NamedTuple):
    """What the loop works with."""

    objective: Objective | PlainObjective  # bare; evaluated, saved, kept when best
    model: Any  # as Fabric wraps it; trained
    optimiser: torch.optim.Optimizer
    stepper: torch.optim.Optimizer
    batches: TrainingBatches
    validation: Cases
    selection: Selection
    best: KeptWeights
    log: MetricLog


def plan_of(given: argparse.Namespace) -> Plan:
    """Return what the command line asks for.

    Raises:
        InputError: numbers that do not fit.
    """
    return Plan(
        given.protocol,
        PROTOCOLS[given.protocol],
        given.variant,
        VARIANTS[given.variant],
        record(Shape, given.network, "--network"),
        record(Schedule, given.training, "--training"),
        record(LossWeights, given.weights, "--weights"),
        given.seed,
    )


def read_sources(given: argparse.Namespace, shape: Shape) -> list[Dataset]:
    """Return the source data sets, proven fit to train on.

    Raises:
        InputError: see `cases`.
    """
    lists = (given.manifests, given.cards, given.stores, given.indexes)
    if len({len(one) for one in lists}) != 1:
        found = ", ".join(str(len(one)) for one in lists)
        raise refuse("command line", "as many cards, stores, indexes as manifests", found, "add")
    require_leak_free(given.leak_free, given.manifests)
    files = [DatasetFiles(*paths) for paths in zip(*lists, strict=True)]
    sources = [read_dataset(one, NINE, shape.image_size) for one in files]
    require_every_domain(sources)
    return sources


def rule_of(plan: Plan) -> SelectionRule:
    """Return what counts as better: the mean validation AUC of the variant's first head."""
    metric = f"val_mean_auc_{plan.variant.heads[0]}"
    return SelectionRule(
        metric, "val", "max", equal_resets=False, patience=plan.schedule.patience, keep="best"
    )


def assemble(
    given: argparse.Namespace, plan: Plan, sources: list[Dataset], devices: Devices,
    sharing: BatchSharing,
) -> Pieces:  # fmt: skip
    """Make network, optimiser and batches, all from the seed."""
    import torch

    from workflow_scripts.crocodile import build

    fabric, ranks, _ = devices
    streams.seed_process(plan.seed, ranks.rank)
    with streams.initialised(plan.seed, "crocodile trunks"):
        n_trunks = 1 + plan.variant.has_domain
        trunks = [
            build.make_trunk(plan.shape, given.backbone, given.certificate) for _ in range(n_trunks)
        ]
    objective = build.make_objective(
        trunks, NINE, len(sources), plan.shape, plan.variant, plan.options, plan.weights, plan.seed
    )
    trained = [tensor for tensor in objective.parameters() if tensor.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=plan.schedule.learning_rate, weight_decay=plan.schedule.weight_decay
    )
    model, stepper = fabric.setup(objective, optimiser)
    training = Cases(sources, "train")
    batches = TrainingBatches(
        training,  # type: ignore[arg-type]  # indexed by draws
        TrainingSampler(len(training), sharing, ranks.rank, plan.seed, last="drop"),
        workers=given.workers,
        move=fabric.to_device,
        pin_memory=given.gpus > 0,
    )
    log = MetricLog(ranks, given.history, given.tensorboard, every=LOG_EVERY)
    return Pieces(
        objective, model, optimiser, stepper, batches, Cases(sources, "val"),
        Selection(rule_of(plan)), KeptWeights(), log,
    )  # fmt: skip


def open_session(
    given: argparse.Namespace, plan: Plan, devices: Devices, pieces: Pieces
) -> TrainingSession:
    """Name everything that must survive a kill, and what a saved state must belong to."""
    parts: dict[str, Stateful] = {
        "network": pieces.objective,
        "optimiser": pieces.optimiser,
        "batches": pieces.batches,
        "selection": pieces.selection,
        "best weights": pieces.best,
    }
    if devices.scaler is not None:
        parts["scaler"] = devices.scaler
    files = {f"manifest {i}": path for i, path in enumerate(given.manifests)}
    files |= {f"index {i}": path for i, path in enumerate(given.indexes)}
    if given.certificate is not None:
        files["certificate"] = given.certificate
    config = {
        "protocol": plan.protocol,
        "variant": plan.name,
        "seed": plan.seed,
        "network": asdict(plan.shape),
        "training": asdict(plan.schedule),
        "weights": asdict(plan.weights),
        "precision": given.precision,
    }
    found = fingerprint(config, files, [Path(__file__).parent], devices.ranks.world_size)
    store = StateStore(given.state, found, given.on_mismatch)
    steps = plan.schedule.epochs * pieces.batches.sampler.batches_per_epoch
    length = SessionOptions(steps, given.minutes, given.save_minutes, given.started)
    return TrainingSession(
        devices.ranks, store, parts, {}, pieces.log, lambda: pieces.batches.epoch, length
    )


def shuffled(count: int, seed: int, step: int, number: int, device: torch.device) -> Orders:
    """Draw whose spurious embeddings each image is given, in each branch by itself.

    Args:
        count: images of the micro-batch.
        seed: of the training.
        step: updates done.
        number: of the micro-batch in its global batch, on all ranks together: so the draw is the
            same for any number of ranks, and after a kill.
        device: of the images.
    """
    import torch

    from workflow_scripts.crocodile.model import Orders

    own = streams.torch_generator(seed, "intervention", str(step), str(number))
    disease, domain = (torch.randperm(count, generator=own).to(device) for _ in range(2))
    return Orders(disease, domain)


def train(
    given: argparse.Namespace, plan: Plan, sources: list[Dataset], devices: Devices,
    sharing: BatchSharing,
) -> None:  # fmt: skip
    """Train, and write model and record; ends early when the job's time is over."""
    pieces = assemble(given, plan, sources, devices, sharing)
    selection = pieces.selection
    with open_session(given, plan, devices, pieces) as session:
        total_steps, per_epoch = session.options.steps, pieces.batches.sampler.batches_per_epoch
        for step in session.steps():
            follow_cycle(pieces.optimiser, step, total_steps)
            for turn, micro in enumerate(pieces.batches.next_batch()):
                number = turn * devices.ranks.world_size + devices.ranks.rank
                learn(plan, micro, step, number, pieces, devices)
            pieces.stepper.step()
            pieces.stepper.zero_grad()
            if (step + 1) % per_epoch == 0:
                value = validate(plan, pieces, devices, session)
                if selection.observe(value, step + 1):
                    pieces.best.keep(pieces.objective)
                if selection.should_stop:
                    session.stop()
        write_outputs(given, plan, sources, devices, pieces)
        session.forget()  # the outputs are written, nothing is left to go on with


def follow_cycle(optimiser: torch.optim.Optimizer, step: int, total_steps: int) -> None:
    """Set learning rate and beta1 of one step of the cycle; beta1 moves against the rate."""
    cycle = one_cycle(step, total_steps)
    scale_learning_rates(optimiser, cycle.factor)
    for group in optimiser.param_groups:
        group["betas"] = (cycle.beta1, group["betas"][1])


def learn(
    plan: Plan, micro: MicroBatch, step: int, number: int, pieces: Pieces, devices: Devices
) -> None:
    """Add the gradients of micro-batch `number` of the update after `step` of them."""
    from workflow_scripts.crocodile.model import total

    images, labels, domains = micro.data
    inputs = network_input(images)
    orders = shuffled(len(images), plan.seed, step, number, inputs.device)
    with devices.fabric.no_backward_sync(pieces.model, enabled=not micro.is_last):
        terms = pieces.model(inputs, labels, domains, orders)
        loss = total(terms)
        devices.fabric.backward(loss * micro.share)
    pieces.log.add_loss("train_loss", loss, micro.share)
    for name, value in terms.items():
        pieces.log.add_loss(f"train_{name}", value, micro.share)


def validate(plan: Plan, pieces: Pieces, devices: Devices, session: TrainingSession) -> float:
    """Write one validation into the history and return the value that selects.

    Raises:
        TrainingFailure: a logit is not finite.
    """
    import numpy as np

    from workflow_scripts.crocodile.evaluation import evaluate, validation_metrics

    shuffle_seed = plan.seed if plan.options.shuffle_in_evaluation else None
    found = evaluate(
        pieces.objective, pieces.validation, devices, plan.schedule.evaluation_batch, shuffle_seed,
        with_loss=True,
    )  # fmt: skip
    step = session.step + 1  # the update under way counts
    for head in plan.variant.heads:
        if not np.isfinite(found[head]).all():
            name = f"a validation logit of the {head} head"
            raise not_finite(name, session.step, session.epoch, session.last_good)
    metrics = validation_metrics(found, pieces.validation, NINE)
    for name, value in metrics.items():
        pieces.log.record(step, session.epoch, name, value)
    return metrics[pieces.selection.rule.metric]


def write_outputs(
    given: argparse.Namespace, plan: Plan, sources: list[Dataset], devices: Devices, pieces: Pieces
) -> None:
    """Write the best weights, and the record that rebuilds the network."""
    from safetensors.torch import save

    from workflow_scripts.crocodile import build

    pieces.best.restore(pieces.objective)
    if not devices.ranks.is_first:
        return
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in pieces.objective.model.state_dict().items()
    }
    write_safetensors(given.model, save(weights))
    selection = pieces.selection
    origin = build.about_trunk(plan.shape, given.backbone, given.certificate)
    content = {
        "protocol": plan.protocol,
        "variant": plan.name,
        "seed": plan.seed,
        "findings": list(NINE),
        "sources": [one.name for one in sources],
        "phantom": origin.is_phantom or any(one.is_phantom for one in sources),
        "network": asdict(plan.shape),
        "architecture": origin.architecture,
        "training": asdict(plan.schedule),
        "weights": asdict(plan.weights),
        "precision": given.precision,
        "world_size": devices.ranks.world_size,
        "selected_on": selection.rule.metric,
        "best": None if math.isnan(selection.best) else selection.best,
        "best_step": selection.best_step,
        "quarantined": {one.name: one.quarantined for one in sources},
        "cases": {split: counts(Cases(sources, split), NINE) for split in ("train", "val")},
    }
    write_json(given.record, content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add(
        "--protocol",
        choices=sorted(PROTOCOLS),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    add("--variant", choices=sorted(VARIANTS), required=True, help="row of the table")
    add("--seed", type=int, required=True, help="start of all random streams")
    for name in ("manifests", "cards", "stores", "indexes"):
        add(f"--{name}", type=Path, nargs="+", required=True, help="of the source data sets")
    add("--leak-free", type=Path, required=True, help="certificate of the experiment")
    add("--backbone", type=Path, help="weights of the trunk (.safetensors)")
    add("--certificate", type=Path, help="of the backbone")
    add("--network", required=True, help="size of the network, JSON")
    add("--training", required=True, help="length and speed, JSON")
    add("--weights", required=True, help="factors of the loss terms, JSON")
    add("--workers", type=int, default=0, help="processes that load ahead")
    add("--model", type=Path, required=True, help="weights to write (.safetensors)")
    add("--record", type=Path, required=True, help="what was trained, to write (.json)")
    add("--history", type=Path, help="CSV of the metric history")
    add("--tensorboard", type=Path, help="folder of TensorBoard's files")
    add_device_arguments(parser)
    add_session_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, set up the devices, train."""
    started = time.monotonic()
    given = _parser().parse_args(arguments)
    given.started = started
    plan = plan_of(given)
    request = request_of(given)
    schedule = plan.schedule
    sharing = share_batch(schedule.global_batch, request.processes, schedule.micro_batch)
    sources = read_sources(given, plan.shape)
    has_dead_weights = plan.options.spurious_layers == "all" or plan.variant.kl_on_intervened
    devices = set_up(request, find_unused_parameters=has_dead_weights, sync_buffers=False)
    train(given, plan, sources, devices, sharing)


if __name__ == "__main__":
    sys.exit(run(main))
