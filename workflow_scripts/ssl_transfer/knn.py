"""Step: classify the test images by their nearest training images among frozen features.

Cheap beside the linear probe, and without anything to fit: what a backbone's own notion of
likeness says. Ours; the paper has no such table, so there is the protocol `corrected` only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.metrics.representation import neighbour_votes
from workflow_scripts.predictions import write_predictions
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.ssl_transfer.cases import (
    SYSTEM,
    Cases,
    add_case_arguments,
    case_paths,
    read_cases,
)
from workflow_scripts.ssl_transfer.protocols import LINEAR

TABLE = "ssl_transfer_knn"
N_NEIGHBOURS = 20  # ours, within the range of the DINO evaluation (10 to 200)
TEMPERATURE = 0.07  # Wu et al. 2018, section 3.4
FLOOR = 1e-6  # votes that every class has at least, so that a logarithm exists; ours
MORE = "give the data set more images, or ask for fewer neighbours"


def main(arguments: Sequence[str] | None = None) -> None:
    """Vote and write one row a test image."""
    given = _parser().parse_args(arguments)
    if given.protocol != "corrected":
        raise refuse("--protocol", "corrected", given.protocol, "no released code has this step")
    options = LINEAR["corrected"]
    cases = read_cases(case_paths(given), options, given.finding)
    seen = cases.table[cases.table["feature_row"] >= 0]
    train, test = (seen[(seen["part"] == "test") == is_test] for is_test in (False, True))
    _check(cases, len(train), len(test), given.neighbours, given.temperature)
    votes = neighbour_votes(
        cases.features[train["feature_row"]],
        train["label"].to_numpy(),
        cases.features[test["feature_row"]],
        given.neighbours,
        given.temperature,
        len(cases.classes),
    )
    scores = np.log((votes + FLOOR) / (1 + FLOOR * len(cases.classes)))
    chosen = {"geometry": options.geometry, "normalisation": options.normalisation}
    chosen |= {"n_neighbours": given.neighbours, "temperature": given.temperature}
    write_predictions(
        given.out,
        test.assign(split=test["part"]),
        truth=test["label"].to_numpy(),
        scores=scores,
        metadata={
            "system": SYSTEM,
            "table": TABLE,
            "row": cases.certificate["checkpoint"],
            "column": given.column or cases.card["dataset"],
            "protocol": given.protocol,
            "seed": given.seed,
            "kind": "classification",
            "metric": cases.card["metric"],
            "classes": cases.classes,
            "data": cases.data,
            "checkpoint": cases.certificate["checkpoint"],
            "dataset": cases.card["dataset"],
            "options": {**cases.options, **chosen},
            "diagnostics": {**cases.diagnostics, "training_images": len(train)},
        },
    )


def _check(cases: Cases, n_train: int, n_test: int, neighbours: int, temperature: float) -> None:
    """Raise unless there are images to vote and to classify."""
    problems = []
    if not 1 <= neighbours <= n_train:
        expected = f"1 to {n_train}, the training images of {cases.card['dataset']}"
        problems.append(Problem("--neighbours", expected, str(neighbours), MORE))
    if n_test == 0:
        problems.append(Problem("test part", "at least one image", "none", MORE))
    if not temperature > 0:
        step = f"the usual value is {TEMPERATURE}"
        problems.append(Problem("--temperature", "a number above 0", str(temperature), step))
    if problems:
        raise InputError(problems)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_case_arguments(parser)
    words = f"neighbours that vote ({N_NEIGHBOURS})"
    parser.add_argument("--neighbours", type=int, default=N_NEIGHBOURS, help=words)
    words = f"of the votes ({TEMPERATURE})"
    parser.add_argument("--temperature", type=float, default=TEMPERATURE, help=words)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
