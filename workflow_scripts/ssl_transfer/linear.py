"""Step: linear evaluation of one frozen backbone on one data set.

The paper asks how well a linear classifier reads the diagnosis from a checkpoint's features when
all training images are there: logistic regression, its strength chosen out of 45 on a part of the
training images, fitted again on all of them, judged on the test images.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.command_line import run
from workflow_scripts.files import write_text
from workflow_scripts.metrics.classification import accuracy, mean_per_class_accuracy
from workflow_scripts.predictions import write_predictions
from workflow_scripts.problems import refuse
from workflow_scripts.ssl_transfer.cases import (
    RELEASED_ORDER,
    SYSTEM,
    Cases,
    add_case_arguments,
    case_paths,
    read_cases,
    require_released_order,
)
from workflow_scripts.ssl_transfer.parts import Parts, split_images
from workflow_scripts.ssl_transfer.protocols import LINEAR, LinearOptions
from workflow_scripts.ssl_transfer.regularisation_path import (
    Coordinates,
    Fit,
    Score,
    best,
    c_values,
    fit,
    logits,
    probe,
    search,
)

if TYPE_CHECKING:
    import pandas as pd

TABLE = "ssl_transfer_linear"
Arrays = tuple[NDArray[np.floating], NDArray[np.int64]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What the linear evaluation found.

    Attributes:
        fits: the search, in the order of the path.
        chosen: the best of them.
        final: the last fit, on training and validation images; its score is NaN.
        scores: logits of the test images, shape (N, C).
    """

    fits: list[Fit]
    chosen: Fit
    final: Fit
    scores: NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, fit and judge; write one row a test image, and the path."""
    given = _parser().parse_args(arguments)
    if given.threads < 1:
        raise refuse("--threads", "at least 1", str(given.threads), "give a larger number")
    options = LINEAR[given.protocol]
    paths = case_paths(given)
    cases = read_cases(paths, options, given.finding)
    if not options.validation_by_patient:
        require_released_order(cases, paths.manifest)
    parts = split_parts(cases, options, given.seed)
    result = evaluate(cases, parts, options, given.threads)
    logger.info("chose C = %.3f of %d", result.chosen.c, len(result.fits))
    write_predictions(
        given.out,
        parts.test.assign(split=parts.test["part"]),
        truth=parts.test["label"].to_numpy(),
        scores=result.scores,
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
            "options": {**asdict(options), **cases.options, "threads": given.threads},
            "diagnostics": {**cases.diagnostics, **_diagnostics(parts, result)},
        },
    )
    write_text(given.path, _path_text(result))


def split_parts(cases: Cases, options: LinearOptions, seed: int) -> Parts:
    """Return the images of each part that have features; see `split_images`."""
    table = cases.table.assign(is_readable=cases.table["feature_row"] >= 0)
    by_patient = options.validation_by_patient
    return split_images(table, cases.classes, cases.card["dataset"], by_patient, seed)


def evaluate(cases: Cases, parts: Parts, options: LinearOptions, threads: int) -> Result:
    """Search the strength on the validation part, fit on all training images, score the test part.

    Args:
        cases: whose features are used.
        parts: as `split_parts` returns them.
        options: of the protocol.
        threads: of the linear algebra; one is fastest for small data sets (small products spend
            their time waiting for each other), and the number of threads alone moves fits that
            stop before they converge.
    """
    import pandas as pd
    import sklearn.linear_model  # noqa: F401, loads the libraries whose threads are limited
    from threadpoolctl import threadpool_limits

    def arrays(part: pd.DataFrame) -> Arrays:
        features = cases.features[part["feature_row"]].astype(options.precision)
        return features, part["label"].to_numpy()

    is_descending = options.c_order == "descending"
    path = c_values() if is_descending else c_values()[::-1]
    order = "image_id" if options.validation_by_patient else RELEASED_ORDER
    both = pd.concat([parts.training, parts.validation]).sort_values(order)
    score = score_of(cases.card["metric"], options)
    with threadpool_limits(limits=threads):
        model = probe(options.tolerance, options.max_iterations)
        training, validation, scale = _prepared(
            arrays(parts.training), arrays(parts.validation), options
        )
        fits = search(model, training, validation, path.tolist(), score, scale)
        del training, validation  # gigabytes for the largest data sets
        chosen = best(fits)
        if options.refit == "cold":
            model = probe(options.tolerance, options.max_iterations)
        training, test, scale = _prepared(arrays(both), arrays(parts.test), options)
        converged = fit(model, *training, chosen.c * scale**2)
        final = Fit(chosen.c, np.nan, int(model.n_iter_[0]), converged)
        return Result(fits, chosen, final, logits(model, test[0]))


def _prepared(
    training: Arrays, judged: Arrays, options: LinearOptions
) -> tuple[Arrays, Arrays, float]:
    """Return both parts in the protocol's coordinates, which the training part defines.

    The last value is what the features were divided by.
    """
    if options.coordinates == "features":
        return training, judged, 1.0
    to = Coordinates.of(training[0])
    return (to(training[0]), training[1]), (to(judged[0]), judged[1]), to.scale


def score_of(metric: str, options: LinearOptions) -> Score:
    """Return the function that judges a fit on the validation images: the paper's metric.

    Raises:
        InputError: if it is neither accuracy nor mean per-class accuracy.
    """
    if metric == "accuracy":
        return lambda truth, prediction: accuracy(truth, prediction).value
    if metric == "mean_per_class_accuracy":
        nan_rule = options.undefined_recall_is_nan
        return lambda truth, prediction: mean_per_class_accuracy(truth, prediction, nan_rule).value
    expected = "accuracy or mean_per_class_accuracy"
    raise refuse("card.json, metric", expected, repr(metric), "correct the metric of the data set")


def _diagnostics(parts: Parts, result: Result) -> dict[str, Any]:
    return {
        "training_images": len(parts.training),
        "validation_images": len(parts.validation),
        "test_images": len(parts.test),
        "chosen_c": result.chosen.c,
        "validation_score": result.chosen.score,
        "fits_converged": sum(one.converged for one in result.fits),
        "fits": len(result.fits),
        "chosen_converged": result.chosen.converged,
        "final_iterations": result.final.n_iterations,
        "final_converged": result.final.converged,
    }


def _path_text(result: Result) -> str:
    """Return the search as CSV: one line a fit, and the final fit, whose score is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["fit", "c", "score", "n_iterations", "converged", "chosen"])
    for number, one in enumerate([*result.fits, result.final]):
        is_final = number == len(result.fits)
        score = "" if np.isnan(one.score) else repr(one.score)
        writer.writerow(
            ["final" if is_final else number, repr(one.c), score, one.n_iterations]
            + [str(flag).lower() for flag in (one.converged, one is result.chosen)]
        )
    return text.getvalue()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_case_arguments(parser)
    parser.add_argument("--path", type=Path, required=True, help="the search to write (.csv)")
    parser.add_argument("--threads", type=int, default=1, help="of the linear algebra (1)")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
