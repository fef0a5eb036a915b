"""What steps 1 and 3 share: where the embeddings come from, and one trained head."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from workflow_scripts.debiased_noise.cohort import Cohort, Rows, read_cohort
from workflow_scripts.debiased_noise.embeddings import Embeddings, read_embeddings
from workflow_scripts.debiased_noise.linear_probe import (
    Course,
    Recipe,
    Schedule,
    Source,
    make_head,
    make_optimiser,
    train_head,
)
from workflow_scripts.debiased_noise.order import IndexBatches, NoiseSampler
from workflow_scripts.debiased_noise.step_session import loss_log, open_session
from workflow_scripts.files import read_json
from workflow_scripts.problems import refuse
from workflow_scripts.training.session import Stateful
from workflow_scripts.training.streams import seed_process

if TYPE_CHECKING:
    import torch
    from torch import nn

    from workflow_scripts.training.devices import Devices

LIVE = ("backbone", "certificate", "store", "index")  # what stochastic depth needs


class Trained(NamedTuple):
    """A trained head, its mean loss over each epoch, and what it was at the end of some."""

    head: nn.Linear
    train_losses: list[float]
    course: Course

    @property
    def train_loss(self) -> float:
        """The mean loss over the last epoch, NaN without one."""
        return self.train_losses[-1] if self.train_losses else float("nan")


def add_probe_arguments(parser: argparse.ArgumentParser, recipe: Recipe) -> None:
    """Add embeddings, the live network that `released` needs, and the length of the training."""
    parser.add_argument("--embeddings", type=Path, required=True, help="of all images, .npz")
    for name in LIVE:
        parser.add_argument(f"--{name}", type=Path, help="needed for --protocol released")
    parser.add_argument("--edit", type=Path, help="noise edit of the embeddings, if there is one")
    parser.add_argument(
        "--protocol",
        choices=("released", "corrected"),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--epochs", type=int, default=recipe.epochs, help="passes (%(default)s)")
    parser.add_argument("--lr", type=float, default=recipe.lr, help="highest (%(default)s)")
    parser.add_argument(
        "--schedule",
        choices=get_args(Schedule),
        default=recipe.schedule,
        help="of the learning rate (%(default)s)",
    )
    parser.add_argument(
        "--images-per-batch", type=int, default=recipe.batch_size, help="behind one update"
    )


def recipe_of(given: argparse.Namespace, published: Recipe) -> Recipe:
    """Return the recipe with the command line's changes."""
    from dataclasses import replace

    return replace(
        published,
        epochs=given.epochs,
        lr=given.lr,
        batch_size=given.images_per_batch,
        schedule=given.schedule,
    )


def read_inputs(given: argparse.Namespace) -> tuple[Embeddings, Cohort]:
    """Return embeddings and cohort, proven to be of one data set and one edit."""
    dataset = read_json(given.card).get("dataset")
    embeddings = read_embeddings(given.embeddings, {"dataset": dataset})
    edit_sha256 = None
    if given.edit is not None:
        from workflow_scripts.debiased_noise.noise_edit import read_edit

        edit_sha256 = read_edit(given.edit)[1]["sha256"]
    if embeddings.provenance["edit_sha256"] != edit_sha256:
        found = f"edit {embeddings.provenance['edit_sha256']}"
        advice = "give --edit the file that the embeddings were made with"
        raise refuse(str(given.embeddings), f"embeddings of edit {edit_sha256}", found, advice)
    return embeddings, read_cohort(given, embeddings.image_id)


def source_of(
    given: argparse.Namespace, embeddings: Embeddings, rows: Rows, rate: float, devices: Devices
) -> Source:
    """Return where the training embeddings come from: the cache, or a live network.

    Args:
        given: the command line.
        embeddings: cached, of all images.
        rows: of the training images in them.
        rate: of stochastic depth; 0 uses the cache.
        devices: where the head is trained.
    """
    import torch

    device = devices.fabric.device
    if rate == 0:
        values = torch.from_numpy(embeddings.values[rows]).to(device)
        return lambda positions: values[positions]
    return _live_source(given, embeddings, rows, rate, device)


def _live_source(
    given: argparse.Namespace, embeddings: Embeddings, rows: Rows, rate: float, device: torch.device
) -> Source:
    """Return embeddings of the frozen network in training mode, as the released code has them."""
    import torch

    from workflow_scripts.datasets.pixels import open_store
    from workflow_scripts.debiased_noise.foundation import load_foundation, pixels
    from workflow_scripts.debiased_noise.noise_edit import edited, read_edit
    from workflow_scripts.debiased_noise.stochastic_depth import add_stochastic_depth

    absent = [f"--{name}" for name in LIVE if getattr(given, name) is None]
    if absent:
        expected = "the frozen network and the images, for stochastic depth"
        raise refuse("--protocol released", expected, f"no {', '.join(absent)}", "give them")
    model, certificate = load_foundation(given.backbone, given.certificate, str(device))
    store = open_store(given.store, given.index)
    same_model = certificate["backbone_sha256"] == embeddings.provenance["backbone_sha256"]
    if not same_model or store.image_id != embeddings.image_id:
        found = "another backbone" if not same_model else "other images"
        raise refuse(str(given.embeddings), "embeddings of this backbone and store", found, "redo")
    add_stochastic_depth(model.network, rate)
    model.network.train()
    noise = torch.zeros(())
    if given.edit is not None:
        noise = torch.from_numpy(read_edit(given.edit, model.input_size)[0])

    def look(positions: Rows) -> torch.Tensor:
        with torch.no_grad():
            images = edited(pixels(store.images, rows[positions]), noise)
            return model.forward(images.to(device)).float()

    return look


def train_probe(
    given: argparse.Namespace,
    devices: Devices,
    recipe: Recipe,
    embeddings: Embeddings,
    cohort: Cohort,
    rows: Rows,
    targets: np.ndarray,
    rate: float,
    cells: Rows | None,
    config: Mapping[str, Any],
) -> Trained:
    """Train a head on the images of `rows`, over any number of attempts.

    Args:
        given: the command line.
        devices: of `set_up_one`.
        recipe: how.
        embeddings: cached, of all images.
        cohort: of the same images.
        rows: training images.
        targets: of the training images, shape (len(rows), 2).
        rate: of stochastic depth.
        cells: subgroup of each training image, for equal subgroups; None: as they are.
        config: what else changes the result.
    """
    import torch

    device = devices.fabric.device
    seed_process(given.seed, 0)
    head = make_head(embeddings.values.shape[1], recipe, given.seed).to(device)
    optimiser = make_optimiser(head, recipe)
    sampler = NoiseSampler(len(rows), recipe.batch_size, recipe.last, given.seed, cells)
    batches = IndexBatches(sampler)
    log = loss_log(given, devices, sampler.batches_per_epoch)
    config = {**asdict(recipe), "seed": given.seed, "stochastic_depth": rate, **config}
    config |= {"attribute": given.attribute, "balanced": cells is not None}
    files = {"embeddings": given.embeddings, "manifest": given.manifest}
    source, course = source_of(given, embeddings, rows, rate, devices), Course(recipe.epochs)
    wanted = torch.from_numpy(np.ascontiguousarray(targets, np.float32)).to(device)
    n_steps = recipe.epochs * sampler.batches_per_epoch
    parts: dict[str, Stateful] = {"head": head, "optimiser": optimiser, "course": course}
    with open_session(given, devices, parts, batches, n_steps, log, config, files) as session:
        train_head(session, head, optimiser, batches, source, wanted, recipe, log, course)
    losses = [row.value for row in log.rows if row.metric == "train_loss"]
    return Trained(head.cpu(), losses, course)
