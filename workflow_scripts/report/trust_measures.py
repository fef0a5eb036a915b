"""What the trust matrix works out from predictions: drop, calibration, gaps, telling errors.

Each function takes the seeds of one test set (`trust_cases.Judged`, equal cases) and gives
numbers. Intervals draw patients with replacement, the same patients for every seed; nulls deal
groups anew to whole patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.metrics import statistics
from workflow_scripts.metrics.calibration import calibrated_ece, ece_of_draws
from workflow_scripts.metrics.fairness_resampling import Null, permutation_null
from workflow_scripts.metrics.group_gaps import gap_with_null, groups_of, mean_of_statistics
from workflow_scripts.metrics.ranking import roc_auc_of_draws
from workflow_scripts.metrics.statistics import Counts, Floats, Interval, ManyStatistic
from workflow_scripts.report.trust_cases import Judged

Seeds = Sequence[Judged]
Draw = Callable[[str], np.random.Generator]  # from the purpose to a stream of its own


class Estimate(NamedTuple):
    """A number with its interval.

    Attributes:
        per_seed: its value for each seed; NaN where undefined.
        interval: of the mean over the seeds; NaN where there is none.
        n: cases behind it.
    """

    per_seed: list[float]
    interval: Interval
    n: int


class Gap(NamedTuple):
    """A gap between two groups beside its null; of the mean over the seeds."""

    size: float
    null: Null
    n: int  # cases whose group is known


def estimate(parts: Sequence[ManyStatistic], patients: NDArray[np.str_], rng: np.random.Generator,
             n_resamples: int) -> Estimate:  # fmt: skip
    """Return the mean over the seeds of a statistic with its patient-bootstrap interval.

    Args:
        parts: one statistic a seed, of patients numbered as `statistics.patient_numbers` does.
        patients: of the cases, shape (N,).
        rng: source of the resamples.
        n_resamples: how many; 0: no interval.
    """
    _, n_patients = statistics.patient_numbers(patients)
    everyone = np.ones((1, n_patients), dtype=np.int64)
    per_seed = [float(part(everyone)[0]) for part in parts]
    drawn = np.empty(0)
    if n_resamples and n_patients > 1 and not np.isnan(per_seed).any():
        mean = mean_of_statistics(parts)
        drawn = statistics.resampled([mean], n_patients, rng, n_resamples, len(patients))[:, 0]
    return Estimate(per_seed, statistics.central_interval(drawn, n_patients), len(patients))


def performances(seeds: Seeds) -> list[ManyStatistic]:
    """Return the measure of each seed as a function of the patients' weights."""
    return [one.performance(_all(one), _place(one)) for one in seeds]


def drop(inside: Seeds, outside: Seeds, draw: Draw, n_resamples: int) -> Estimate:
    """Return the measure on `inside` minus that on `outside`, seed by seed.

    Where both have the same patients (an artefact added to the same scans) the same are drawn on
    both sides; otherwise the two are drawn independently.
    """
    ours, theirs = set(inside[0].patients), set(outside[0].patients)
    if ours == theirs:
        both = zip(performances(inside), performances(outside), strict=True)
        lost = [_difference(first, second) for first, second in both]
        found = estimate(lost, inside[0].patients, draw("drop"), n_resamples)
        return found._replace(n=found.n + len(outside[0].patients))
    sides = [
        _side(seeds, draw(name), n_resamples)
        for name, seeds in (("drop, inside", inside), ("drop, outside", outside))
    ]
    per_seed = [a - b for a, b in zip(sides[0][0], sides[1][0], strict=True)]
    drawn = np.empty(0) if np.isnan(per_seed).any() else sides[0][1] - sides[1][1]
    interval = statistics.central_interval(drawn, min(len(ours), len(theirs)))
    return Estimate(per_seed, interval, len(inside[0].patients) + len(outside[0].patients))


def _side(seeds: Seeds, rng: np.random.Generator, n_resamples: int) -> tuple[list[float], Floats]:
    """Return the measure of each seed, and its mean over the seeds in each resample."""
    patients = seeds[0].patients
    _, n_patients = statistics.patient_numbers(patients)
    everyone = np.ones((1, n_patients), dtype=np.int64)
    parts = performances(seeds)
    mean = mean_of_statistics(parts)
    drawn = statistics.resampled([mean], n_patients, rng, n_resamples, len(patients))
    return [float(part(everyone)[0]) for part in parts], drawn[:, 0]


def _difference(first: ManyStatistic, second: ManyStatistic) -> ManyStatistic:
    return lambda drawn: np.asarray(first(drawn) - second(drawn))


def calibration(seeds: Seeds, draw: Draw, n_resamples: int) -> tuple[Estimate, Null]:
    """Return the ECE with its interval, and what it is for a calibrated forecast.

    The mean over classes (of two: of the second) or findings of the binary ECE of the stated
    chance, 15 bins of equal width; the null draws what happens from the stated chances.
    """
    parts = [
        mean_of_statistics([
            ece_of_draws(one.present[:, k], one.chance[:, k], _place(one))
            for k in range(one.chance.shape[1])
        ])
        for one in seeds
    ]  # fmt: skip
    found = estimate(parts, seeds[0].patients, draw("ECE"), n_resamples)
    rng = draw("calibrated ECE")
    drawn = [
        np.mean([calibrated_ece(column, rng, n_resamples) for column in one.chance.T], axis=0)
        for one in seeds
    ]
    return found, permutation_null(float(np.mean(found.per_seed)), np.mean(drawn, axis=0))


def group_gap(seeds: Seeds, group: str, draw: Draw, n_permutations: int) -> Gap | None:
    """Return the gap of the measure between the two groups; None unless both have a case.

    Args:
        seeds: of one test set.
        group: `sex` or `age`; who is in no known group is left out.
        draw: source of the permutations.
        n_permutations: how many.
    """
    member = seeds[0].groups[group]
    known = ~np.isnan(member)
    if len(set(member[known])) < 2:
        return None
    groups = groups_of(member[known] == 1, seeds[0].patients[known])
    mean = mean_of_statistics([one.performance(known, groups.unit) for one in seeds])
    size, null = gap_with_null(mean, groups, draw(f"gap, {group}"), n_permutations)
    return Gap(size, null, int(known.sum()))


def telling_errors(seeds: Seeds, draw: Draw, n_resamples: int) -> Estimate:
    """Return the chance that a wrong prediction is doubted more than a right one (ROC AUC).

    NaN where no prediction, or every one, is wrong.
    """
    parts = [roc_auc_of_draws(one.wrong, one.doubt, _place(one)[one.case]) for one in seeds]
    found = estimate(parts, seeds[0].patients, draw("telling errors"), n_resamples)
    return found._replace(n=len(seeds[0].wrong))


def _place(one: Judged) -> Counts:
    return statistics.patient_numbers(one.patients)[0]


def _all(one: Judged) -> NDArray[np.bool_]:
    return np.ones(len(one.patients), dtype=bool)


def is_paired(seeds: Seeds) -> bool:
    """Tell whether the seeds of a test set hold the same cases, patients and labels."""
    return all(
        np.array_equal(getattr(one, name), getattr(seeds[0], name))
        for one in seeds
        for name in ("case_ids", "patients", "present")
    )
