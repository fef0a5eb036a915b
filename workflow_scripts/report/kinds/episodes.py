"""Few-shot episodes: mean episode accuracy with the paper's interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import classification, statistics
from workflow_scripts.report.cells import Cell, Resampling, map_cells, value_of
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import CHANCE
from workflow_scripts.report.predictions import Cases, Header, read_cases


def table_values(cells: Sequence[Cell], resampling: Resampling, jobs: int) -> tuple[Value, ...]:
    """Return the values of all cells; the interval is over episodes, no patient is drawn anew."""
    return map_cells(cell_values, cells, jobs)


def cell_values(cell: Cell) -> tuple[Value, ...]:
    """Return mean episode accuracy and chance level of one cell."""
    return episode_values(cell, [read_cases(header) for header in cell])


def episode_values(headers: Sequence[Header], cases: Sequence[Cases]) -> tuple[Value, ...]:
    """Return mean episode accuracy and chance level of a few-shot cell.

    The interval of one seed is the paper's, 1.96 * std / sqrt(episodes). Seeds draw their episodes
    independently, so the variance of the mean of S seeds is the sum of theirs divided by S^2.
    """
    accuracies = [episode_accuracies(case) for case in cases]
    per_seed = [statistics.mean_interval(seed) for seed in accuracies]
    means = [seed.mean for seed in per_seed]
    half_width = math.hypot(*(seed.half_width for seed in per_seed)) / len(per_seed)
    mean = float(np.mean(means))
    n = sum(map(len, accuracies))
    bounds = (max(0.0, mean - half_width), min(1.0, mean + half_width))
    chance = 1 / cases[0].scores.shape[1]
    return (
        value_of(headers, "accuracy", means, bounds, n, "episodes"),
        value_of(headers, CHANCE, [chance] * len(headers), (math.nan, math.nan), n, "none"),
    )


def episode_accuracies(cases: Cases) -> NDArray[np.float64]:
    """Return the fraction of correct queries of each episode, in the order of its number."""
    if cases.episode is None:
        raise ValueError("the cases of a classification have no episodes")
    correct = cases.truth == classification.predicted_class(cases.scores)
    _, place = np.unique(cases.episode, return_inverse=True)
    return np.bincount(place, weights=correct) / np.bincount(place)
