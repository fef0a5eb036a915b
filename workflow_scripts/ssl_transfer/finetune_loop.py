"""The training loop of fine-tuning: all weights, SGD with Nesterov momentum, cosine to zero.

Source: SSL transfer, spec section 7. The pieces are those of `workflow_scripts/training`
(docs/explanation/training.md), so a run can be killed at any moment and resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from workflow_scripts.metrics.classification import (
    accuracy,
    binary_roc_auc,
    mean_per_class_accuracy,
    predicted_class,
    roc_auc,
)
from workflow_scripts.problems import refuse
from workflow_scripts.ssl_transfer.features import Forward, input_batches
from workflow_scripts.ssl_transfer.finetune_data import (
    StoredRows,
    Task,
    TrainingImages,
    cropped_views,
    stored_views,
)
from workflow_scripts.ssl_transfer.training_protocols import FinetuneOptions
from workflow_scripts.training import streams
from workflow_scripts.training.accumulation import BatchSharing
from workflow_scripts.training.batches import TrainingBatches
from workflow_scripts.training.devices import Devices
from workflow_scripts.training.evaluation import evaluation_batches, gather_cases, share_buffers
from workflow_scripts.training.metric_log import MetricLog
from workflow_scripts.training.sampler import TrainingSampler
from workflow_scripts.training.schedules import cosine_to_zero, scale_learning_rates
from workflow_scripts.training.selection import KeptWeights, Selection, SelectionRule
from workflow_scripts.training.session import SessionOptions, Stateful, TrainingSession
from workflow_scripts.training.state import StateStore

if TYPE_CHECKING:
    import pandas as pd

MOMENTUM = 0.9  # spec section 7
EVALUATION_BATCH = 64  # images; the logits do not depend on it
LOSS_EVERY = 20  # steps behind one row of the loss; ours
Logits = NDArray[np.float32]


class Classifier(nn.Module):
    """A backbone and a linear head, all of it trained."""

    def __init__(self, backbone: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(n_features, n_classes)

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, C)
        """Return class scores."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


class Setting(NamedTuple):
    """What one training is about.

    Attributes:
        given: the command line.
        options: of the protocol.
        task: data set, parts, pixels.
        devices: where it runs.
    """

    given: argparse.Namespace
    options: FinetuneOptions
    task: Task
    devices: Devices


class Pieces(NamedTuple):
    """What the loop works with; see `training/smoke.py`."""

    network: Classifier
    model: Any  # Fabric's own class, without a public name
    optimiser: Optimizer
    stepper: Optimizer
    batches: TrainingBatches
    selection: Selection
    best: KeptWeights
    log: MetricLog


def rule_of(metric: str, options: FinetuneOptions, patience: int | None) -> SelectionRule:
    """Return when training stops and which weights are tested.

    A value equal to the best counts as new best, as released. Without patience nothing stops:
    that is the search, where an undefined value never wins.
    """
    return SelectionRule(
        f"val_{metric}",
        split="val",
        direction="max",
        equal_resets=True,
        patience=patience or None,
        keep=options.keep,
        undefined_is_best=options.undefined_is_best and bool(patience),
    )


def score(metric: str, options: FinetuneOptions, truth: NDArray[np.int64], logits: Logits) -> float:
    """Return the metric that selects, on validation images; a fraction, NaN where undefined."""
    predicted = predicted_class(logits)
    if metric == "accuracy":
        return accuracy(truth, predicted).value
    if metric == "mean_per_class_accuracy":
        return mean_per_class_accuracy(truth, predicted, options.undefined_recall_is_nan).value
    if metric == "auc":
        is_hard = options.hard_auc and logits.shape[1] == 2
        return (binary_roc_auc(truth, predicted) if is_hard else roc_auc(truth, logits)).value
    choices = "accuracy, mean_per_class_accuracy or auc"
    raise refuse("metric", choices, repr(metric), "correct the configuration")


def assemble(
    setting: Setting, backbone: nn.Module, n_features: int, sharing: BatchSharing
) -> Pieces:
    """Make network, optimiser and batches, all from the seed."""
    given, options, task, devices = setting
    fabric, ranks, _ = devices
    streams.seed_process(given.seed, ranks.rank)
    with streams.initialised(given.seed, "finetune", "head"):
        network = Classifier(backbone, n_features, len(task.classes)).train()
    as_channels_last(network)
    optimiser = SGD(
        network.parameters(),
        lr=given.lr,
        momentum=MOMENTUM,
        weight_decay=given.weight_decay,
        nesterov=True,
    )
    model, stepper = fabric.setup(network, optimiser)
    images = training_images(given, task)
    sampler = TrainingSampler(len(images), sharing, ranks.rank, given.seed, last="keep")
    batches = TrainingBatches(
        images,  # type: ignore[arg-type]  # indexed by draws
        sampler,
        workers=given.workers,
        move=fabric.to_device,
        pin_memory=given.gpus > 0,
    )
    log = MetricLog(ranks, given.history, None, every=LOSS_EVERY)
    selection = Selection(rule_of(given.metric, options, given.patience))
    return Pieces(network, model, optimiser, stepper, batches, selection, KeptWeights(), log)


def training_images(given: argparse.Namespace, task: Task) -> TrainingImages:
    """Return the images that train: without early stopping those of validation too (spec 7)."""
    import pandas as pd

    rows = task.parts.training
    if not given.validate:
        rows = pd.concat([rows, task.parts.validation]).sort_values("image_id")
    side = task.store.images.shape[1]
    views = cropped_views(given, rows, side) if given.augment else stored_views(task, rows)
    return TrainingImages(views, rows["label"].to_numpy(), task.to_input, given.seed)


def as_channels_last(network: nn.Module) -> nn.Module:
    """Return the network with its convolutions in the layout that runs fastest."""
    import torch

    return network.to(memory_format=torch.channels_last)


def train(setting: Setting, pieces: Pieces, session: TrainingSession) -> None:
    """Train to the end, from the newest state; ends the process when the job's time is over."""
    given = setting.given
    for step in session.steps():
        update(setting, pieces, step)
        is_check = (step + 1) % given.check_every == 0 or step + 1 == given.steps
        if is_check and given.validate:
            _check(setting, pieces, session, step + 1)


def update(setting: Setting, pieces: Pieces, step: int) -> None:
    """Do one update of the weights with one global batch."""
    import torch

    fabric = setting.devices.fabric
    scale_learning_rates(pieces.optimiser, cosine_to_zero(step, setting.given.steps))
    for micro in pieces.batches.next_batch():
        images, labels = micro.data
        images = images.contiguous(memory_format=torch.channels_last)
        with fabric.no_backward_sync(pieces.model, enabled=not micro.is_last):
            loss = cross_entropy(pieces.model(images), labels)
            fabric.backward(loss * micro.share)
        pieces.log.add_loss("train_loss", loss, micro.share)
    pieces.stepper.step()
    pieces.stepper.zero_grad()


def _check(setting: Setting, pieces: Pieces, session: TrainingSession, step: int) -> None:
    """Validate; keep the weights if they are the best, stop if the patience is used up."""
    rows = setting.task.parts.validation
    logits = predict(setting, pieces.network, rows)
    value = score(setting.given.metric, setting.options, rows["label"].to_numpy(), logits)
    pieces.log.record(step, session.epoch, pieces.selection.rule.metric, value)
    if pieces.selection.observe(value, step):
        pieces.best.keep(pieces.network)
    if pieces.selection.should_stop:
        session.stop()


def predict(setting: Setting, network: nn.Module, rows: pd.DataFrame) -> Logits:
    """Return the logits of stored images, shape (N, C), on every rank.

    Args:
        setting: of the training.
        network: the bare network, not the wrapper of Fabric.
        rows: of the task's parts.
    """
    import torch

    given, _, task, devices = setting
    share_buffers(devices.ranks, network)
    network.eval()
    batches = evaluation_batches(len(rows), EVALUATION_BATCH, devices.ranks)
    mine = np.array([row for batch in batches for row in batch], dtype=np.int64)
    images = StoredRows(task.store.images, rows["store_row"].to_numpy()[mine])
    device = "cuda" if given.gpus else "cpu"
    how = Forward(device, "fp32", EVALUATION_BATCH, loaders=max(1, given.workers))
    parts = [np.empty((0, len(task.classes)), np.float32)]
    with torch.inference_mode(), devices.fabric.autocast():
        for batch in input_batches(cast("NDArray[np.uint8]", images), task.to_input, how):
            moved = devices.fabric.to_device(batch).contiguous(memory_format=torch.channels_last)
            parts.append(network(moved).float().cpu().numpy())
    network.train()
    ids = rows["image_id"].to_numpy()
    columns = {"logits": np.concatenate(parts)}
    gathered = gather_cases(devices.ranks, ids[mine].tolist(), columns, ids.tolist())
    logits: Logits = gathered["logits"]
    return logits


def open_session(
    setting: Setting, pieces: Pieces, belongs_to: Mapping[str, str]
) -> TrainingSession:
    """Name everything that must survive a kill, and what a saved state must belong to."""
    given, _, _, devices = setting
    parts: dict[str, Stateful] = {
        "network": pieces.network,
        "optimiser": pieces.optimiser,
        "batches": pieces.batches,
        "selection": pieces.selection,
        "best weights": pieces.best,
    }
    if devices.scaler is not None:
        parts["scaler"] = devices.scaler
    store = StateStore(given.state, dict(belongs_to), given.on_mismatch)
    length = SessionOptions(given.steps, given.minutes, given.save_minutes, given.started)
    batches = pieces.batches
    return TrainingSession(
        devices.ranks, store, parts, {}, pieces.log, lambda: batches.epoch, length
    )
