"""Step: fine-tune one backbone on one data set, all weights, and test it.

The paper asks what a checkpoint is worth as a starting point: a linear head is put on the
backbone and both are trained for 5,000 updates; a part of the training images says when to stop.
It can be killed at any moment and goes on when it is started again (docs/how-to/resume.md).

    python -m workflow_scripts.ssl_transfer.finetune --backbone backbone.safetensors \
        --certificate certificate.json --manifest manifest.parquet --card card.json \
        --leak-free leak_free.json --store short224.npy --index short224.parquet \
        --root data/bach --protocol corrected --state state/finetune --out predictions.parquet
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workflow_scripts.command_line import run
from workflow_scripts.files import read_json
from workflow_scripts.predictions import data_name, write_predictions
from workflow_scripts.problems import refuse, require_files
from workflow_scripts.speed import tune_allocator
from workflow_scripts.ssl_transfer.cases import SYSTEM
from workflow_scripts.ssl_transfer.finetune_data import Task, add_task_arguments, read_task
from workflow_scripts.ssl_transfer.finetune_grid import Candidate, best_candidate
from workflow_scripts.ssl_transfer.finite import require_finite
from workflow_scripts.ssl_transfer.training_protocols import FINETUNE
from workflow_scripts.training.accumulation import share_batch
from workflow_scripts.training.devices import add_device_arguments, request_of, set_up
from workflow_scripts.training.fingerprint import fingerprint
from workflow_scripts.training.session import add_session_arguments

TABLE = "ssl_transfer_finetune"
METRICS = ("accuracy", "mean_per_class_accuracy", "auc")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test, write one row a test image."""
    started = time.monotonic()
    parser = build_parser((__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--candidates",
        type=Path,
        nargs="*",
        default=[],
        help="what the search found (.json); the best gives learning rate and weight decay",
    )
    parser.add_argument("--column", help="column in the table (default: the data set)")
    given = parser.parse_args(arguments)
    given.started, given.validate = started, given.patience > 0
    require_files(given.candidates)
    found = [Candidate(**read_json(path)) for path in given.candidates]
    if found:
        chosen = best_candidate(found)
        given.lr, given.weight_decay = chosen.lr, chosen.weight_decay
    fine_tune(given, found)


def fine_tune(given: argparse.Namespace, found: Sequence[Candidate]) -> None:
    """Train with early stopping, test the kept weights, write the predictions."""
    from workflow_scripts.ssl_transfer.finetune_loop import open_session, predict, train

    setting, pieces, certificate, belongs_to = prepare(given)
    task, devices = setting.task, setting.devices
    with open_session(setting, pieces, belongs_to) as session:
        train(setting, pieces, session)
        if setting.options.keep == "best":
            pieces.best.restore(pieces.network)
        logits = predict(setting, pieces.network, task.parts.test)
        require_finite(logits, "scores of the test images")
        if devices.ranks.is_first:
            selection = pieces.selection
            result = {
                "updates": session.step,
                "best_step": selection.best_step,
                "best_validation": defined(selection.best),
                "search": [asdict(one) for one in found],
                "history": [row._asdict() for row in pieces.log.rows],
            }
            _write(given, task, certificate, logits, {**result, **_places(given, devices)})
        session.forget()  # the outputs are written, nothing is left to go on with


def prepare(given: argparse.Namespace) -> tuple[Any, Any, dict[str, Any], dict[str, str]]:
    """Return setting, pieces, certificate and fingerprint of a training."""
    from workflow_scripts.checkpoints.certificate import load_checked
    from workflow_scripts.ssl_transfer.finetune_loop import Setting, assemble

    _check_numbers(given)
    tune_allocator()
    options = FINETUNE[given.protocol]
    backbone, certificate = load_checked(given.backbone, given.certificate)
    task = read_task(given, options, certificate)
    given.metric = given.metric or task.card["metric"]
    request = request_of(given)
    sharing = share_batch(given.batch_size, request.processes, given.micro_batch)
    setting = Setting(given, options, task, set_up(request))
    pieces = assemble(setting, backbone, certificate["feature_dim"], sharing)
    return setting, pieces, certificate, _fingerprint(given, request.processes)


def defined(value: float) -> float | None:
    """Return a number that JSON has: NaN becomes None."""
    return None if value != value else value


def _write(
    given: argparse.Namespace,
    task: Task,
    certificate: Mapping[str, Any],
    logits: Any,  # noqa: ANN401, an array of numpy, which is not imported here
    diagnostics: Mapping[str, Any],
) -> None:
    card, parts = task.card, task.parts
    is_phantom = card["phantom"] or certificate["phantom"]
    named = ("lr", "weight_decay", "steps", "batch_size", "check_every", "patience", "augment")
    chosen = {name: getattr(given, name) for name in (*named, "precision", "finding")}
    counts = {
        "training_images": len(parts.training) + (0 if given.validate else len(parts.validation)),
        "validation_images": len(parts.validation) if given.validate else 0,
        "test_images": len(parts.test),
        "split_leak": task.leak,
    }
    write_predictions(
        given.out,
        parts.test.assign(split=parts.test["part"]),
        truth=parts.test["label"].to_numpy(),
        scores=logits.astype("float64"),
        metadata={
            "system": SYSTEM,
            "table": TABLE,
            "row": certificate["checkpoint"],
            "column": given.column or card["dataset"],
            "protocol": given.protocol,
            "seed": given.seed,
            "kind": "classification",
            "metric": given.metric,
            "classes": task.classes,
            "data": data_name(card["dataset"], is_phantom, certificate["pretrained"]),
            "checkpoint": certificate["checkpoint"],
            "dataset": card["dataset"],
            "options": {**asdict(FINETUNE[given.protocol]), **chosen,
                        "label_policy": card.get("label_policy")},
            "diagnostics": {**counts, **diagnostics},
        },
    )  # fmt: skip


def _places(given: argparse.Namespace, devices: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"world_size": devices.ranks.world_size, "gpus": given.gpus}


def _fingerprint(given: argparse.Namespace, world_size: int) -> dict[str, str]:
    """Return what a saved state must share with this run: all that changes the result."""
    names = (
        *("protocol", "seed", "lr", "weight_decay", "steps", "batch_size", "micro_batch"),
        *("check_every", "patience", "validate", "augment", "metric", "finding", "precision"),
        "bit_depth",
    )
    config = {name: getattr(given, name) for name in names}
    files = {
        "backbone": given.backbone,
        "certificate": given.certificate,
        "manifest": given.manifest,
        "leak certificate": given.leak_free,
        "store index": given.index,
    }
    here, datasets = Path(__file__).parent, Path(__file__).parents[1] / "datasets"
    code = [*sorted(here.glob("finetune*.py")), here / "crops.py", here / "parts.py"]
    code += [here / "validation.py", datasets / "decoded.py", datasets / "pixels.py"]
    return fingerprint(config, files=files, code=code, world_size=world_size)


def _check_numbers(given: argparse.Namespace) -> None:
    lowest = {"steps": 1, "batch_size": 1, "check_every": 1, "patience": 0, "workers": 0}
    for name, low in lowest.items():
        if getattr(given, name) < low:
            option = "--" + name.replace("_", "-")
            found = str(getattr(given, name))
            raise refuse(option, f"at least {low}", found, "give a larger number")
    if given.lr <= 0 or given.weight_decay < 0:
        found = f"{given.lr} and {given.weight_decay}"
        raise refuse("--lr and --weight-decay", "positive, not negative", found, "correct them")


def build_parser(description: str) -> argparse.ArgumentParser:
    """Return what fine-tuning and its search have in common on the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--backbone", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--certificate", type=Path, required=True, help="of the backbone, .json")
    add_task_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=list(FINETUNE),
        required=True,
        help="bundle of options; docs/reference/protocols.md",
    )
    parser.add_argument("--seed", type=int, default=0, help="of head, order and crops (0)")
    for name, kind, value, meaning in (
        ("lr", float, 1e-2, "learning rate at the first step"),  # spec section 7
        ("weight-decay", float, 1e-8, "factor of the L2 penalty"),  # spec section 7
        ("steps", int, 5000, "updates of the weights"),  # spec section 7
        ("batch-size", int, 64, "images behind one update"),  # spec section 7
        ("check-every", int, 200, "updates between two validations"),  # spec section 7
        ("patience", int, 3, "validations without a new best before the end; 0: no early "
         "stopping, the validation images train too"),  # spec section 7
        ("workers", int, 0, "processes that load ahead"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=value, help=f"{meaning} ({value})")
    parser.add_argument(
        "--micro-batch",
        type=int,
        help="images of one forward pass, over which batch normalisation takes its statistics; "
        "default: all of a rank",
    )
    parser.add_argument(
        "--no-augment", dest="augment", action="store_false", help="train on the stored pixels"
    )
    parser.add_argument("--metric", choices=METRICS, help="that selects (default: the card's)")
    parser.add_argument("--history", type=Path, help="CSV of losses and validations to write")
    parser.add_argument("--out", type=Path, required=True, help="what to write")
    add_device_arguments(parser)
    add_session_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
