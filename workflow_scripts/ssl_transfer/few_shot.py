"""Step: few-shot classification of one data set with one frozen backbone.

The paper asks what a checkpoint's features are worth when only a few labelled images exist: in
each of 600 episodes, some classes are drawn, 20 images of each give the class's mean feature (its
prototype), and 15 other images of each are named after the nearest prototype.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from workflow_scripts.command_line import run
from workflow_scripts.metrics.statistics import mean_interval
from workflow_scripts.predictions import write_predictions
from workflow_scripts.randomness import named_rng
from workflow_scripts.ssl_transfer.cases import (
    RELEASED_ORDER,
    SYSTEM,
    Cases,
    add_case_arguments,
    case_paths,
    read_cases,
    require_released_order,
)
from workflow_scripts.ssl_transfer.episodes import (
    Episodes,
    EpisodeShape,
    check_classes,
    corrected_episodes,
    released_episodes,
    rows_by_class,
)
from workflow_scripts.ssl_transfer.protocols import FEW_SHOT, FewShotOptions
from workflow_scripts.ssl_transfer.prototypes import (
    EpisodeScores,
    count_near_ties,
    score_episodes,
    squared_distances,
)
from workflow_scripts.ssl_transfer.torch_stream import stream_after_building

if TYPE_CHECKING:
    import pandas as pd

TABLE = "ssl_transfer_few_shot"
CAPPED_GEOMETRY = "short224"  # these data sets came through the capped sub_meta file (spec 5)
logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the episodes, score them, write one row a query."""
    given = _parser().parse_args(arguments)
    shape = EpisodeShape(given.n_way, given.n_support, given.n_query, given.n_episodes)
    options = FEW_SHOT[given.protocol]
    paths = case_paths(given)
    cases = read_cases(paths, options, given.finding)
    if options.architecture_stream:
        require_released_order(cases, paths.manifest)
    pool = episode_pool(cases, options)
    episodes = draw_episodes(pool, cases, options, shape, given.seed)
    distances = squared_distances(cases.features[pool["feature_row"]], episodes)
    scores = score_episodes(distances)
    interval = mean_interval(100 * scores.accuracy)
    logger.info("Test Acc = %4.2f%% +- %4.2f%%", interval.mean, interval.half_width)
    n_way = shape.n_way
    write_predictions(
        given.out,
        pool.iloc[episodes.query.ravel()].assign(split=lambda rows: rows["part"]),
        truth=np.broadcast_to(np.arange(n_way)[:, None], episodes.query.shape).ravel(),
        scores=-distances.reshape(-1, n_way),
        episode=np.repeat(np.arange(shape.n_episodes), n_way * shape.n_query),
        metadata={
            "system": SYSTEM,
            "table": TABLE,
            "row": cases.certificate["checkpoint"],
            "column": given.column or cases.card["dataset"],
            "protocol": given.protocol,
            "seed": given.seed,
            "kind": "episodes",
            "metric": "accuracy",  # for every data set: the card's metric is ignored here (spec 5)
            "classes": cases.classes,
            "data": cases.data,
            "checkpoint": cases.certificate["checkpoint"],
            "dataset": cases.card["dataset"],
            "options": {**asdict(options), **cases.options, **asdict(shape)},
            "diagnostics": {**cases.diagnostics, **_diagnostics(pool, scores, distances)},
        },
    )


def episode_pool(cases: Cases, options: FewShotOptions) -> pd.DataFrame:
    """Return the images that episodes are drawn from, in the order that the draws count in.

    The released pool is train then test in the released order, capped for the data sets that
    went through the sub_meta file; the cap counts quarantined images too, so none moves up that
    the released code never showed. The corrected pool is every image, by `image_id`.
    """
    table = cases.table[cases.table["part"].isin(options.pool_parts)]
    if options.architecture_stream:
        table = table.assign(place=table["part"].map(options.pool_parts.index))
        table = table.sort_values(["place", RELEASED_ORDER])
        if options.max_pool is not None and cases.card["geometry_released"] == CAPPED_GEOMETRY:
            table = table.iloc[: options.max_pool]
    return table[table["feature_row"] >= 0].reset_index(drop=True)


def draw_episodes(
    pool: pd.DataFrame, cases: Cases, options: FewShotOptions, shape: EpisodeShape, seed: int
) -> Episodes:
    """Return the episodes of the protocol; rows count within `pool`.

    Raises:
        InputError: a class cannot fill an episode, or the released draws of the checkpoint's
            architecture are unknown.
    """
    class_rows = rows_by_class(pool["label"].to_numpy(), len(cases.classes))
    check_classes(class_rows, cases.classes, shape)
    if options.architecture_stream:
        stream = stream_after_building(cases.certificate["architecture"], seed)
        return released_episodes(class_rows, shape, stream)
    patients = pool["patient_id"].factorize()[0].astype(np.int64)
    rng = named_rng(seed, SYSTEM, "few_shot", cases.card["dataset"])
    return corrected_episodes(class_rows, patients, shape, rng)


def _diagnostics(
    pool: pd.DataFrame, scores: EpisodeScores, distances: np.ndarray
) -> dict[str, float | int]:
    return {
        "pool_images": len(pool),
        "pool_patients": int(pool["patient_id"].nunique()),
        "mean_loss": float(scores.loss.mean()),
        "near_ties": count_near_ties(distances),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_case_arguments(parser)
    default = EpisodeShape()
    for name, meaning in (
        ("n_way", "classes an episode"),
        ("n_support", "labelled images a class"),
        ("n_query", "images to classify a class"),
        ("n_episodes", "episodes"),
    ):
        option, value = "--" + name.replace("_", "-"), getattr(default, name)
        parser.add_argument(option, type=int, default=value, help=f"{meaning} ({value})")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
