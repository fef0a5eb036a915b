"""Step 2, black box: learn the noise edit by GeZO, from embeddings alone.

    python -m workflow_scripts.debiased_noise.black_box --api http://127.0.0.1:8008 \
        --form paper --store exact224.npy --index exact224.parquet --manifest manifest.parquet \
        --card card.json --leak-free leak_free.json --state state/gezo \
        --classifier attribute_classifier.safetensors --out noise_edit.safetensors

The model is a backbone in this process or a service; either way the search sees `embed(images)`.
Draws depend on the seed and the number of the update alone, so an interrupted search goes on to
the same edit. When the service is away, or the budget spent, the search is saved and stops.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise import gezo
from workflow_scripts.debiased_noise.gezo import Accept, Form, Position, Settings
from workflow_scripts.debiased_noise.objective import Weights, edit_loss
from workflow_scripts.debiased_noise.queries import (
    BlackBox,
    BudgetExhausted,
    QueryCount,
    ServiceUnavailable,
)
from workflow_scripts.problems import refuse
from workflow_scripts.training.failures import SavedNotFinished, TrainingFailure, not_finite

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.debiased_noise.access import Access
    from workflow_scripts.debiased_noise.edit_inputs import EditInputs
    from workflow_scripts.training.devices import Devices
    from workflow_scripts.training.session import Stateful, TrainingSession

log = logging.getLogger(__name__)
UPDATES = 50  # released code: one a so-called epoch


class Search:
    """Where the search is, as a part of the saved state."""

    def __init__(self, side: int, settings: Settings) -> None:
        import torch

        zeros = torch.zeros(side, side)
        self.position = Position(zeros, zeros.clone(), settings.init_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return self.position._asdict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved position."""
        self.position = Position(**state)


class Course:
    """What each update tried and chose, as a part of the saved state."""

    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []

    def add(self, update: gezo.Update) -> None:
        """Take one update."""
        self.updates.append(
            {
                "best_loss": update.best.loss,
                "sign": update.best.sign,
                "accepted": update.accepted,
                "step": update.position.step,
                "l2_norm": float(update.position.noise.norm()),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the updates so far."""
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take saved updates back."""
        self.updates = list(state["updates"])


@dataclass(frozen=True, slots=True)
class Batches:
    """The two batches behind one update, and what their loss is."""

    box: BlackBox
    inputs: EditInputs
    weights: Weights
    images: tuple[Tensor, ...]
    attribute: tuple[Tensor, ...]

    def loss_of(self, noise: Tensor, batch: int) -> float:
        """Return the loss of an edit on one batch; a query of all its images."""
        import torch

        from workflow_scripts.debiased_noise.noise_edit import edited

        with torch.no_grad():
            embeddings = self.box.embed(edited(self.images[batch], noise))
            logits = self.inputs.head.logits(embeddings.to(self.inputs.head.weight.device))
            return float(edit_loss(logits, self.attribute[batch], noise, self.weights))


def draws_of(seed: int, update: int, n_draws: int, side: int) -> Tensor:
    """Return the standard normal directions of one update, shape (C, H, W)."""
    import torch

    from workflow_scripts.training.streams import torch_generator

    return torch.randn(n_draws, side, side, generator=torch_generator(seed, "gezo", str(update)))


def batches_of(
    given: argparse.Namespace, access: Access, inputs: EditInputs, update: int
) -> Batches:
    """Return the first two batches of the order of one update (spec 7.1, item 5)."""
    from workflow_scripts.debiased_noise.foundation import pixels
    from workflow_scripts.debiased_noise.order import released_order

    size = given.images_per_batch
    order = released_order(len(inputs.rows), update, given.seed)
    parts = [order[size * i : size * (i + 1)] for i in range(gezo.N_BATCHES)]
    return Batches(
        access.box,
        inputs,
        Weights(given.lambda_1, given.lambda_reg),
        tuple(pixels(inputs.store.images, inputs.rows[part]) for part in parts),
        tuple(inputs.attribute[part].cpu() for part in parts),
    )


@contextmanager
def saved_when_refused(session: TrainingSession) -> Iterator[None]:
    """Save and stop when the model is out of reach, so that the next attempt goes on from here.

    The queries of the unfinished update stay counted: they were sent.
    """
    try:
        yield
    except ServiceUnavailable as error:
        session.save()
        end = SavedNotFinished(str(error), session.step)
        log.warning("%s", end)
        raise end from error
    except BudgetExhausted as error:
        session.save()
        raise TrainingFailure(
            f"search stopped: {error}; saved after update {session.step}; next step: start it "
            "again with a larger --query-budget, it goes on from there"
        ) from error
    except FloatingPointError as error:
        where = (session.step, session.epoch, session.last_good)
        raise not_finite("the loss of a direction", *where) from error


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    from workflow_scripts.debiased_noise.access import add_access_arguments
    from workflow_scripts.debiased_noise.edit_inputs import add_edit_arguments
    from workflow_scripts.debiased_noise.step_session import add_training_arguments

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_access_arguments(parser)
    add_edit_arguments(parser)
    published = Settings()
    parser.add_argument("--form", choices=get_args(Form), required=True, help="of GeZO")
    parser.add_argument("--updates", type=int, default=UPDATES, help="(%(default)s)")
    parser.add_argument(
        "--init-step", type=float, default=published.init_step, help="pixel units (%(default)s)"
    )
    parser.add_argument(
        "--sampled-steps", type=int, default=published.sampled_steps, help="directions an update"
    )
    parser.add_argument("--momentum", type=float, default=published.momentum, help="paper's form")
    parser.add_argument(
        "--accept",
        choices=get_args(Accept),
        default=published.accept,
        help="take every update, or only those that lower the loss",
    )
    add_training_arguments(parser)
    return parser


def require_budget(given: argparse.Namespace, settings: Settings, n_images: int) -> int:
    """Return the image queries of the whole search; refuse a budget that cannot be enough."""
    size = given.images_per_batch
    if n_images < gezo.N_BATCHES * size:
        expected = f"at least {gezo.N_BATCHES} batches of {size} training images"
        raise refuse("training images", expected, str(n_images), "use smaller batches")
    planned: int = size * gezo.planned_batch_queries(given.form, settings, given.updates)
    if given.query_budget is not None and given.query_budget < planned:
        raise refuse(
            "--query-budget",
            f"at least {planned} images, which {given.updates} updates need without any retry",
            str(given.query_budget),
            "raise it, or lower --updates, --sampled-steps or --images-per-batch",
        )
    return planned


def search(
    given: argparse.Namespace,
    devices: Devices,
    access: Access,
    inputs: EditInputs,
    queries: QueryCount,
    settings: Settings,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Search for the edit, over any number of attempts; return it and what each update did."""
    import torch

    from workflow_scripts.debiased_noise.order import IndexBatches, NoiseSampler
    from workflow_scripts.debiased_noise.step_session import loss_log, open_session

    found = Search(access.input_size, settings)
    course = Course()
    # the sampler only counts: each update looks at the first batches of its own order
    counter = IndexBatches(NoiseSampler(1, 1, "keep", given.seed))
    history = loss_log(given, devices, every=1)
    config = {**inputs.card, "form": given.form, "updates": given.updates, **settings._asdict()}
    files = {name: getattr(given, name) for name in ("manifest", "index", "classifier")}
    parts: dict[str, Stateful] = {"search": found, "queries": queries, "course": course}
    update_of = {"released": gezo.released_update, "paper": gezo.paper_update}[given.form]
    with open_session(
        given, devices, parts, counter, given.updates, history, config, files
    ) as session:
        for step in session.steps():
            draws = draws_of(given.seed, step, settings.sampled_steps, access.input_size)
            batches = batches_of(given, access, inputs, step)
            with saved_when_refused(session):
                update = update_of(found.position, list(draws), batches.loss_of, settings)
            counter.next_batch()
            found.position = update.position
            course.add(update)
            history.add_loss("best_loss", torch.tensor(update.best.loss), 1.0)
    return found.position.noise, course.updates


def main(arguments: Sequence[str] | None = None) -> None:
    """Search for an edit from the command line."""
    given = build_parser().parse_args(arguments)

    from workflow_scripts.debiased_noise.access import open_box
    from workflow_scripts.debiased_noise.edit_inputs import read_edit_inputs
    from workflow_scripts.debiased_noise.noise_edit import norms, write_edit
    from workflow_scripts.debiased_noise.step_session import set_up_one

    settings = Settings(given.init_step, given.sampled_steps, given.momentum, given.accept)
    queries = QueryCount(given.query_budget)
    devices = set_up_one(given)
    try:
        access = open_box(given, queries, str(devices.fabric.device))
    except ServiceUnavailable as error:
        raise refuse(given.api, "a service that answers", str(error), "start it") from error
    inputs = read_edit_inputs(given, access.about, access.input_size, "cpu")
    planned = require_budget(given, settings, len(inputs.rows))
    noise, updates = search(given, devices, access, inputs, queries, settings)
    card = {
        "method": f"gezo_{given.form}",
        **inputs.card,
        **settings._asdict(),
        "updates": given.updates,
        "through": "service" if access.url else "process",
        "image_queries": queries.images,
        "image_queries_planned": planned,
        "image_queries_of_the_released_code": planned * (2 if given.form == "released" else 1),
        "course": updates,
    }
    write_edit(given.out, noise.numpy(), card)
    log.info("%s: %s, %d image queries", given.out, norms(noise.numpy()), queries.images)


if __name__ == "__main__":
    sys.exit(run(main))
