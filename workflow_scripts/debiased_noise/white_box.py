"""Step 2, white box: learn the noise edit by gradient descent through the frozen model.

    python -m workflow_scripts.debiased_noise.white_box --backbone backbone.safetensors \
        --certificate certificate.json --store exact224.npy --index exact224.parquet \
        --manifest manifest.parquet --card card.json --leak-free leak_free.json \
        --classifier attribute_classifier.safetensors --protocol corrected \
        --state state/white_box --out noise_edit.safetensors

Model and classifier are in evaluation mode and take no gradient; the edit is the only parameter.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise.objective import Head, Weights, edit_loss
from workflow_scripts.debiased_noise.protocols import EDIT, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from workflow_scripts.debiased_noise.edit_inputs import EditInputs
    from workflow_scripts.debiased_noise.foundation import FoundationModel
    from workflow_scripts.training.devices import Devices
    from workflow_scripts.training.session import Stateful

log = logging.getLogger(__name__)
LR = 5e-5  # pixel units; fixed in the released code
EPOCHS = 25  # README command


def accumulate_gradient(
    noise: Tensor,
    model: FoundationModel,
    head: Head,
    images: Tensor,
    attribute: Tensor,
    weights: Weights,
    micro_batch: int,
) -> Tensor:
    """Add the gradient of one batch's loss to `noise.grad`, and return the loss.

    Args:
        noise: the edit, requires gradient, shape (H, W).
        model: frozen.
        head: the frozen attribute classifier.
        images: shape (N, 3, H, W).
        attribute: shape (N,).
        weights: of the loss.
        micro_batch: images of one pass; the loss is that of the whole batch.
    """
    import torch

    from workflow_scripts.debiased_noise.noise_edit import edited

    total = torch.zeros((), device=noise.device)
    parts = (torch.split(one, micro_batch) for one in (images, attribute))
    for part, codes in zip(*parts, strict=True):
        logits = head.logits(model.forward(edited(part, noise)))
        # the norm counts once for the batch: each part carries its share of it
        loss = edit_loss(logits, codes, noise, weights) * (len(part) / len(images))
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        total = total + loss.detach()
    return total


def restart(optimiser: torch.optim.Optimizer) -> None:
    """Forget moments and step count, as the new Adam that the released code makes each epoch."""
    optimiser.state.clear()


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    from workflow_scripts.debiased_noise.edit_inputs import add_edit_arguments
    from workflow_scripts.debiased_noise.step_session import add_training_arguments

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--certificate", type=Path, required=True, help="of the backbone, .json")
    add_edit_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=get_args(Protocol),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes (%(default)s)")
    parser.add_argument("--lr", type=float, default=LR, help="pixel units (%(default)s)")
    parser.add_argument("--micro-batch", type=int, default=128, help="images of one pass")
    add_training_arguments(parser)
    return parser


def train(
    given: argparse.Namespace, devices: Devices, model: FoundationModel, inputs: EditInputs
) -> tuple[Tensor, list[float]]:
    """Train the edit, over any number of attempts; return it and the mean loss of each epoch."""
    import torch

    from workflow_scripts.debiased_noise.foundation import pixels
    from workflow_scripts.debiased_noise.order import IndexBatches, NoiseSampler
    from workflow_scripts.debiased_noise.step_session import loss_log, open_session

    options, weights = EDIT[given.protocol], Weights(given.lambda_1, given.lambda_reg)
    side, device = model.input_size, devices.fabric.device
    edit = torch.nn.ParameterDict({"noise": torch.nn.Parameter(torch.zeros(side, side))}).to(device)
    noise = edit["noise"]
    optimiser = torch.optim.Adam([noise], lr=given.lr)
    sampler = NoiseSampler(len(inputs.rows), given.images_per_batch, "drop", given.seed)
    batches, per_epoch = IndexBatches(sampler), sampler.batches_per_epoch
    history = loss_log(given, devices, per_epoch)
    config: dict[str, Any] = {**inputs.card, "epochs": given.epochs, "lr": given.lr}
    config |= {"protocol": given.protocol, "micro_batch": given.micro_batch}
    files = {name: getattr(given, name) for name in ("manifest", "index", "classifier")}
    parts: dict[str, Stateful] = {"edit": edit, "optimiser": optimiser}
    n_steps = given.epochs * per_epoch
    with open_session(given, devices, parts, batches, n_steps, history, config, files) as session:
        for _ in session.steps():
            if options.adam_restarts and sampler.batch == 0:
                restart(optimiser)
            positions = batches.next_batch()
            images = pixels(inputs.store.images, inputs.rows[positions]).to(device)
            optimiser.zero_grad()
            loss = accumulate_gradient(
                noise, model, inputs.head, images, inputs.attribute[positions], weights,
                given.micro_batch,
            )  # fmt: skip
            optimiser.step()
            history.add_loss("edit_loss", loss, 1.0)
    return noise.detach().cpu(), [row.value for row in history.rows if row.metric == "edit_loss"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train an edit from the command line."""
    given = build_parser().parse_args(arguments)

    from workflow_scripts.debiased_noise.edit_inputs import read_edit_inputs
    from workflow_scripts.debiased_noise.foundation import ABOUT, load_foundation
    from workflow_scripts.debiased_noise.noise_edit import norms, write_edit
    from workflow_scripts.debiased_noise.step_session import set_up_one

    devices = set_up_one(given)
    device = str(devices.fabric.device)
    model, certificate = load_foundation(given.backbone, given.certificate, device)
    about = {name: certificate[name] for name in ABOUT}
    inputs = read_edit_inputs(given, about, model.input_size, device)
    noise, losses = train(given, devices, model, inputs)
    card = {
        "method": "white_box",
        "protocol": given.protocol,
        **inputs.card,
        "epochs": given.epochs,
        "lr": given.lr,
        "losses": losses,
    }
    write_edit(given.out, noise.numpy(), card)
    log.info("%s: %s", given.out, norms(noise.numpy()))


if __name__ == "__main__":
    sys.exit(run(main))
