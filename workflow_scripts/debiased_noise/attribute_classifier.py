"""Step 1: a linear classifier of the sensitive attribute on frozen embeddings.

    python -m workflow_scripts.debiased_noise.attribute_classifier --embeddings embeddings.npz \
        --manifest manifest.parquet --card card.json --leak-free leak_free.json \
        --protocol corrected --state state/attribute --out attribute_classifier.safetensors

On edited embeddings the same step measures what is left: a *re-trained* classifier finds an
attribute that only moved, where the frozen one of this step no longer does.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise.cohort import (
    Cohort,
    add_cohort_arguments,
    require_both_groups,
)
from workflow_scripts.debiased_noise.embeddings import Embeddings
from workflow_scripts.debiased_noise.linear_probe import ATTRIBUTE_RECIPE
from workflow_scripts.debiased_noise.protocols import ATTRIBUTE
from workflow_scripts.debiased_noise.step_session import add_training_arguments
from workflow_scripts.metrics.fairness import detection

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    from workflow_scripts.debiased_noise.probe_step import add_probe_arguments

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_probe_arguments(parser, ATTRIBUTE_RECIPE)
    add_cohort_arguments(parser)
    add_training_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="head to write, .safetensors")
    return parser


def found_by_split(head_margins: np.ndarray, cohort: Cohort) -> dict[str, dict[str, float | None]]:
    """Return accuracy, precision, recall and F1 of each split; undefined values are None."""
    report: dict[str, dict[str, float | None]] = {}
    for split in ("train", "val", "test"):
        rows = cohort.rows(split, known=True)
        found = detection(cohort.attribute[rows], (head_margins[rows] > 0).astype(int))
        report[split] = {"images": len(rows)} | {
            name: None if math.isnan(value) else value for name, value in found._asdict().items()
        }
    return report


def make_card(
    given: argparse.Namespace, embeddings: Embeddings, cohort: Cohort, more: dict[str, Any]
) -> dict[str, Any]:
    """Return what the head belongs to and how well it finds the attribute."""
    origin = embeddings.provenance
    train = cohort.rows("train")
    return {
        "attribute": given.attribute,
        "protocol": given.protocol,
        "seed": given.seed,
        **{name: origin[name] for name in ("checkpoint", "backbone_sha256", "dataset", "phantom")},
        "edit_sha256": origin["edit_sha256"],
        "train_images": len(train),
        "train_images_of_unknown_attribute": int((cohort.attribute[train] < 0).sum()),
        **more,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the attribute classifier from the command line."""
    given = build_parser().parse_args(arguments)

    from workflow_scripts.debiased_noise.heads import margins, write_head
    from workflow_scripts.debiased_noise.objective import Head
    from workflow_scripts.debiased_noise.probe_step import read_inputs, recipe_of, train_probe
    from workflow_scripts.debiased_noise.step_session import set_up_one

    embeddings, cohort = read_inputs(given)
    rows = cohort.rows("train", known=True)
    require_both_groups(cohort, rows, f"{given.manifest} attribute {given.attribute}")
    devices = set_up_one(given)
    recipe = recipe_of(given, ATTRIBUTE_RECIPE)
    rate = ATTRIBUTE[given.protocol].stochastic_depth
    targets = np.eye(2, dtype=np.float32)[cohort.attribute[rows]]
    trained = train_probe(
        given, devices, recipe, embeddings, cohort, rows, targets, rate, None, {"step": "attribute"}
    )
    head = Head(trained.head.weight.detach(), trained.head.bias.detach())
    found = found_by_split(margins(head, embeddings.values), cohort)
    card = make_card(given, embeddings, cohort, {"train_loss": trained.train_loss, "found": found})
    write_head(given.out, trained.head, card)
    log.info("%s: accuracy %s", given.out, {k: v["accuracy"] for k, v in found.items()})


if __name__ == "__main__":
    sys.exit(run(main))
