"""Step 3: train the disease classifier on embeddings, edited or not, and write its predictions.

    python -m workflow_scripts.debiased_noise.disease_head --embeddings embeddings.npz \
        --manifest manifest.parquet --card card.json --leak-free leak_free.json \
        --protocol corrected --method erm --read-out pooled \
        --frozen attribute_classifier.safetensors --frozen-embeddings embeddings.npz \
        --retrained retrained.safetensors \
        --state state/head --out predictions.parquet

Beside the disease's logits stand what two attribute classifiers make of the same embeddings: the
frozen one that the edit was trained against, and one trained anew on the edited images.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.datasets.biased_split import ATTRIBUTES
from workflow_scripts.debiased_noise.cohort import UNKNOWN, Cohort, Rows, group_codes
from workflow_scripts.debiased_noise.embeddings import Embeddings, read_embeddings
from workflow_scripts.debiased_noise.linear_probe import DISEASE_RECIPE
from workflow_scripts.debiased_noise.protocols import (
    BALANCED,
    HEAD,
    IMPORTED,
    METHODS,
    WITHOUT_EDIT,
)
from workflow_scripts.debiased_noise.step_session import add_training_arguments
from workflow_scripts.metrics import fairness
from workflow_scripts.predictions import data_name, write_case_scores
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from workflow_scripts.debiased_noise.probe_step import Trained

log = logging.getLogger(__name__)
TABLE, COURSE = "debiased_noise_fairness", "debiased_noise_course"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    from workflow_scripts.debiased_noise.cohort import add_cohort_arguments
    from workflow_scripts.debiased_noise.probe_step import add_probe_arguments

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_probe_arguments(parser, DISEASE_RECIPE)
    add_cohort_arguments(parser)
    add_training_arguments(parser)
    parser.add_argument("--method", choices=tuple(METHODS), required=True, help="row of the table")
    parser.add_argument("--read-out", required=True, help="its name in the table's rows")
    parser.add_argument("--table", default=TABLE, help="that they are for (%(default)s)")
    parser.add_argument("--frozen", type=Path, required=True, help="attribute classifier (step 1)")
    parser.add_argument(
        "--frozen-embeddings",
        type=Path,
        required=True,
        help="embeddings it is for, of the same images with the same edit",
    )
    parser.add_argument("--retrained", type=Path, required=True, help="trained on --embeddings")
    parser.add_argument("--column", help="begins the column's name; default: the disease")
    parser.add_argument("--course", type=Path, help="predictions at some epochs to write, .parquet")
    parser.add_argument("--out", type=Path, required=True, help="predictions to write, .parquet")
    return parser


def attribute_margins(
    given: argparse.Namespace, embeddings: Embeddings, rows: Rows
) -> dict[str, np.ndarray]:
    """Return what both attribute classifiers say of each test image, shape (N,) each.

    Raises:
        InputError: classifiers or embeddings of another model, edit or attribute.
    """
    from workflow_scripts.debiased_noise.heads import margins, read_head, require_same_model

    same = {name: embeddings.provenance[name] for name in ("dataset", "edit_sha256")}
    seen = {
        "frozen": (given.frozen, read_embeddings(given.frozen_embeddings, same)),
        "retrained": (given.retrained, embeddings),
    }
    found = {}
    for name, (path, values) in seen.items():
        head, card = read_head(path)
        require_same_model(path, card, values.provenance["backbone_sha256"])
        if card["attribute"] != given.attribute or values.image_id != embeddings.image_id:
            expected = f"a classifier of {given.attribute}, embeddings of the same images"
            raise refuse(str(path), expected, card["attribute"], "give the files of one run")
        if name == "retrained" and card["edit_sha256"] != same["edit_sha256"]:
            expected = f"a classifier trained on edit {same['edit_sha256']}"
            raise refuse(str(path), expected, str(card["edit_sha256"]), "train it again")
        found[f"attribute_{name}"] = margins(head, values.values[rows])
    return found


def group_columns(cohort: Cohort, rows: Rows) -> dict[str, np.ndarray]:
    """Return each test image's group by every attribute, NaN where unknown."""
    table = cohort.table.iloc[rows]
    groups = {}
    for attribute in ATTRIBUTES:
        codes = group_codes(table, attribute).astype(np.float64)
        groups[f"group_{attribute}"] = np.where(codes == UNKNOWN, np.nan, codes)
    return groups


def metadata_of(
    given: argparse.Namespace, embeddings: Embeddings, cohort: Cohort, diagnostics: dict[str, Any]
) -> dict[str, Any]:
    """Return what the predictions say of themselves."""
    origin = embeddings.provenance
    options = {
        "method": given.method,
        "read_out": given.read_out,
        "attribute": given.attribute,
        "epochs": given.epochs,
        "lr": given.lr,
        "schedule": given.schedule,
        "images_per_batch": given.images_per_batch,
        "stochastic_depth": HEAD[given.protocol].stochastic_depth,
        "edit_sha256": origin["edit_sha256"],
        "edit": origin["edit"],
        "biased_split": cohort.card.get("biased_split"),
    }
    is_phantom = bool(origin["phantom"] or cohort.card["phantom"])
    return {
        "system": "debiased_noise",
        "table": given.table,
        "row": f"{METHODS[given.method]}, {given.read_out}",
        "column": f"{given.column or cohort.classes[1]}, {fairness.ATTRIBUTES[given.attribute]}",
        "protocol": given.protocol,
        "seed": given.seed,
        "kind": "fairness",
        "metric": "accuracy",
        "classes": list(cohort.classes),
        "data": data_name(str(origin["dataset"]), is_phantom, origin["pretrained"]),
        "checkpoint": origin["checkpoint"],
        "dataset": origin["dataset"],
        "options": options,
        "diagnostics": diagnostics,
    }


def require_edit_of_row(given: argparse.Namespace, embeddings: Embeddings) -> None:
    """Refuse an edit that was made in another way, or against another attribute, than the row."""
    if (given.edit is None) != (given.method in WITHOUT_EDIT):
        found = "none" if given.edit is None else str(given.edit)
        expected = "--edit for an edit's row, and for no other"
        raise refuse(f"--method {given.method}", expected, found, "correct the two")
    edit = embeddings.provenance["edit"]
    if edit is None or edit["method"] == IMPORTED:
        return
    if (edit["method"], edit.get("attribute")) != (given.method, given.attribute):
        expected = f"an edit by {given.method} against {given.attribute}"
        found = f"one by {edit['method']} against {edit.get('attribute')}"
        raise refuse(str(given.edit), expected, found, "give the edit of this row")


def training_rows(given: argparse.Namespace, cohort: Cohort) -> tuple[Rows, Rows | None]:
    """Return the training images, and their subgroups where each shall count the same."""
    is_balanced = given.method == BALANCED
    rows = cohort.rows("train", known=is_balanced)
    if not is_balanced:
        return rows, None
    cells = cohort.cells()[rows]
    if len(np.unique(cells)) < 4:
        expected = "training images in all four subgroups"
        found = f"images in {len(np.unique(cells))}"
        raise refuse(str(given.manifest), expected, found, f"leave out the row {BALANCED}")
    return rows, cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a disease classifier from the command line."""
    given = build_parser().parse_args(arguments)

    from workflow_scripts.debiased_noise.probe_step import read_inputs, recipe_of, train_probe
    from workflow_scripts.debiased_noise.step_session import set_up_one

    embeddings, cohort = read_inputs(given)
    require_edit_of_row(given, embeddings)
    test = cohort.rows("test", one_class=True)
    if len(test) == 0:
        raise refuse(str(given.manifest), "test images", "none", "choose another split policy")
    said = attribute_margins(given, embeddings, test)
    rows, cells = training_rows(given, cohort)
    rate, config = HEAD[given.protocol].stochastic_depth, {"method": given.method}
    trained = train_probe(
        given, set_up_one(given), recipe_of(given, DISEASE_RECIPE), embeddings, cohort, rows,
        cohort.targets[rows], rate, cells, config,
    )  # fmt: skip
    groups = {"truth": cohort.label[test], **group_columns(cohort, test)}
    groups["hidden"] = np.full(len(test), given.attribute)  # what the attribute margins are of
    diagnostics = {
        "train_loss": trained.train_loss,
        "train_images": len(rows),
        "test_images": len(test),
        "test_images_without_one_class": len(cohort.rows("test")) - len(test),
    }
    metadata = metadata_of(given, embeddings, cohort, diagnostics)
    cases, values = cohort.table.iloc[test], embeddings.values[test]
    scores = logits(values, trained.head.weight, trained.head.bias)
    last = {"train_loss": np.full(len(test), trained.train_loss)}
    write_case_scores(given.out, cases, {**scores, **said}, metadata, {**groups, **last})
    if given.course:
        write_course(given.course, trained, values, cases, metadata, groups)
    log.info("%s: %d test images, train loss %.4f", given.out, len(test), trained.train_loss)


def logits(values: np.ndarray, weight: Tensor, bias: Tensor) -> dict[str, np.ndarray]:
    """Return both logits of embeddings (N, F), in double precision, shape (N,) each."""
    factors, shift = (one.detach().double().numpy() for one in (weight, bias))
    both = values.astype(np.float64) @ factors.T + shift
    return {"no_finding": both[:, 0], "disease": both[:, 1]}


def write_course(
    path: Path,
    trained: Trained,
    values: np.ndarray,
    cases: pd.DataFrame,
    metadata: dict[str, Any],
    groups: dict[str, np.ndarray],
) -> None:
    """Write the logits of the test images at some epochs, and the training loss of each."""
    scores, losses = {}, {}
    for epoch, (weight, bias) in sorted(trained.course.heads.items()):
        for name, column in logits(values, weight, bias).items():
            scores[f"{name}_epoch_{epoch}"] = column
        losses[f"train_loss_epoch_{epoch}"] = np.full(len(values), trained.train_losses[epoch])
    about = {**metadata, "table": COURSE, "kind": "fairness_course"}
    write_case_scores(path, cases, scores, about, {**groups, **losses})


if __name__ == "__main__":
    sys.exit(run(main))
