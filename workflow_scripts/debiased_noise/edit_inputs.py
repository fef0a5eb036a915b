"""What both ways of training an edit read: the images, their attribute, and its classifier."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_scripts.debiased_noise.cohort import (
    Rows,
    add_cohort_arguments,
    read_cohort,
    require_both_groups,
)
from workflow_scripts.debiased_noise.embed import require_size
from workflow_scripts.debiased_noise.heads import read_head, require_same_model
from workflow_scripts.debiased_noise.objective import Head, Weights
from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    from torch import Tensor

    from workflow_scripts.datasets.pixels import Store


class EditInputs(NamedTuple):
    """The training images of an edit.

    Attributes:
        store: images; `rows` are those of the training split with a known attribute.
        rows: shape (N,).
        attribute: of these rows, shape (N,).
        head: the frozen attribute classifier.
        card: what the edit belongs to.
    """

    store: Store
    rows: Rows
    attribute: Tensor
    head: Head
    card: dict[str, Any]


def add_edit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add images, cohort, classifier, weights and output."""
    parser.add_argument("--store", type=Path, required=True, help="images, .npy")
    parser.add_argument("--index", type=Path, required=True, help="rows of the store, .parquet")
    add_cohort_arguments(parser)
    parser.add_argument("--classifier", type=Path, required=True, help="of the attribute (step 1)")
    parser.add_argument("--lambda-1", type=float, default=Weights().lambda_1, help="(%(default)s)")
    parser.add_argument(
        "--lambda-reg", type=float, default=Weights().lambda_reg, help="(%(default)s)"
    )
    parser.add_argument(
        "--images-per-batch", type=int, default=128, help="of one loss (%(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, help="edit to write, .safetensors")


def read_edit_inputs(
    given: argparse.Namespace, about: dict[str, Any], input_size: int, device: str
) -> EditInputs:
    """Return the inputs, proven to belong to one data set and one foundation model.

    Args:
        given: the command line.
        about: the foundation model: `checkpoint`, `backbone_sha256`, `phantom`.
        input_size: pixels a side of its images.
        device: where the losses are computed.
    """
    import torch

    from workflow_scripts.datasets.pixels import open_store

    store = open_store(given.store, given.index)
    require_size(store, input_size, given.store)
    cohort = read_cohort(given, store.image_id)
    rows = cohort.rows("train", known=True)
    require_both_groups(cohort, rows, f"{given.manifest} attribute {given.attribute}")
    head, card = read_head(given.classifier, device)
    require_same_model(given.classifier, card, about["backbone_sha256"])
    if card["attribute"] != given.attribute:
        expected = f"a classifier of {given.attribute}"
        raise refuse(str(given.classifier), expected, card["attribute"], "train one (step 1)")
    attribute = torch.from_numpy(cohort.attribute[rows]).to(device)
    origin = {
        "attribute": given.attribute,
        "dataset": cohort.card["dataset"],
        **about,
        "phantom": bool(about["phantom"] or cohort.card["phantom"]),
        "classifier_sha256": card["sha256"],
        "lambda_1": given.lambda_1,
        "lambda_reg": given.lambda_reg,
        "images_per_batch": given.images_per_batch,
        "train_images": len(rows),
        "seed": given.seed,
    }
    return EditInputs(store, rows, attribute, head, origin)
