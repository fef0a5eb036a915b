"""Do intervals and p-values keep what they promise? Shown by simulation, with known truth.

2,000 data sets tell a coverage within 1 point (two standard errors of 0.95 are 0.0097), so the
bounds 93 to 97 % are four standard errors wide on each side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest, norm

from workflow_scripts.metrics import fairness
from workflow_scripts.metrics import fairness_resampling as again
from workflow_scripts.metrics.calibration import calibrated_ece, expected_calibration_error
from workflow_scripts.metrics.group_gaps import gap_with_null, groups_of, mean_of_draws
from workflow_scripts.metrics.statistics import (
    Interval,
    bootstrap_accuracy,
    bootstrap_roc_auc,
    paired_wilcoxon,
)

LOW, HIGH = 0.93, 0.97
N_PATIENTS, N_IMAGES = 60, 3  # images of one patient go wrong together
RESAMPLES = 300
Draw = Callable[[np.random.Generator, bool], Interval]


def accuracy_interval(rng: np.random.Generator, by_patient: bool) -> Interval:
    """Return the interval of an accuracy whose truth is 0.8; patients differ in difficulty."""
    chance = rng.beta(0.8 * 2, 0.2 * 2, N_PATIENTS)
    right = (rng.random((N_PATIENTS, N_IMAGES)) < chance[:, None]).ravel()
    units = np.arange(right.size) // (N_IMAGES if by_patient else 1)
    return bootstrap_accuracy(right, np.ones(right.size), units, rng, RESAMPLES)


AUC = float(norm.cdf(1.5 / math.sqrt(2 * 2)))  # shift 1.5, variance 1 between and 1 within patients


def auc_interval(rng: np.random.Generator, by_patient: bool) -> Interval:
    """Return the interval of a ROC AUC whose truth is AUC; a patient has one label."""
    truth = np.repeat(rng.permutation(N_PATIENTS) % 2, N_IMAGES)
    own = np.repeat(rng.normal(size=N_PATIENTS), N_IMAGES)
    score = 1.5 * truth + own + rng.normal(size=truth.size)
    units = np.arange(truth.size) // (N_IMAGES if by_patient else 1)
    return bootstrap_roc_auc(truth, np.stack([0 * score, score], 1), units, rng, RESAMPLES)


def coverage(draw: Draw, truth: float, n: int, by_patient: bool = True) -> float:
    rng = np.random.default_rng(11)
    intervals = (draw(rng, by_patient) for _ in range(n))
    return float(np.mean([one.low <= truth <= one.high for one in intervals]))


def test_patient_bootstrap_of_an_accuracy_covers_93_to_97_of_100() -> None:
    assert LOW <= coverage(accuracy_interval, 0.8, 2000) <= HIGH


def test_patient_bootstrap_of_an_auc_covers_93_to_97_of_100() -> None:
    assert LOW <= coverage(auc_interval, AUC, 1000) <= HIGH


@pytest.mark.parametrize(("draw", "truth"), [(accuracy_interval, 0.8), (auc_interval, AUC)])
def test_a_bootstrap_over_images_would_not(draw: Draw, truth: float) -> None:
    assert coverage(draw, truth, 300, by_patient=False) < LOW - 0.03


def simulated(rng: np.random.Generator, gap: float) -> tuple[again.Units, fairness.Counts]:
    """Return 400 patients of two images whose positives are found with rates 0.6 and 0.6 + gap."""
    patients = np.repeat(np.arange(400), 2)
    group, truth = patients % 2, rng.integers(0, 2, 800)
    rate = np.where(truth == 1, 0.6 + gap * group, 0.2)
    predicted = (rng.random(800) < rate).astype(int)
    units = again.units_of(group, truth, predicted, patients)
    return units, fairness.outcome_counts(group, truth, predicted)


def test_patient_bootstrap_of_a_fairness_gap_covers_93_to_97_of_100() -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(800):
        units, _ = simulated(rng, 0.15)
        drawn = again.bootstrap_counts(units, rng, 300)
        assert (drawn.sum(axis=(1, 2, 3)) == 800).all()  # every patient has two images
        low, high = again.percentiles(fairness.eo_p(drawn))
        covered.append(low <= 0.15 <= high)
    assert LOW <= np.mean(covered) <= HIGH


def assert_uniform(p_values: list[float], step: float) -> None:
    """Fail where p-values are not uniform: as a whole, and in the tail that is read."""
    jitter = np.random.default_rng(0).random(len(p_values)) * step  # they are multiples of step
    assert kstest(np.array(p_values) - jitter, "uniform").pvalue > 0.01
    for level in (0.05, 0.2):
        error = math.sqrt(level * (1 - level) / len(p_values))
        assert abs(np.mean(np.array(p_values) <= level + 1e-9) - level) < 3 * error


def test_p_values_of_a_fairness_gap_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(2)
    p_values = []
    for _ in range(800):
        units, counts = simulated(rng, 0.0)
        # groups of random numbers of positives: hardly two permutations have the same gap
        dealt = fairness.eo_p(again.permuted_counts(units, rng, 99))
        p_values.append(again.permutation_null(float(fairness.eo_p(counts)), dealt))
    assert_uniform([one.p_value for one in p_values], 0.01)


def group_p_value(rng: np.random.Generator, gap: float, by_patient: bool) -> float:
    """Return the p-value of a gap of means: 40 patients of three images, half in the group."""
    inside = np.repeat(np.arange(40) < 20, 3)
    values = np.repeat(rng.normal(size=40), 3) + rng.normal(size=120) + gap * inside
    units = np.arange(120) // (3 if by_patient else 1)
    groups = groups_of(inside, units)
    return gap_with_null(mean_of_draws(values, groups.unit), groups, rng, 99)[1].p_value


def test_p_values_of_any_gap_are_uniform_under_the_null_and_small_for_a_real_gap() -> None:
    rng = np.random.default_rng(3)
    assert_uniform([group_p_value(rng, 0.0, True) for _ in range(1000)], 0.01)
    assert np.mean([group_p_value(rng, 1.5, True) <= 0.05 for _ in range(100)]) > 0.9


def test_dealing_images_instead_of_patients_would_find_gaps_that_are_not_there() -> None:
    rng = np.random.default_rng(4)
    assert np.mean([group_p_value(rng, 0.0, False) <= 0.05 for _ in range(300)]) > 0.12


def test_p_values_of_the_paired_test_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(6)
    exact = [paired_wilcoxon(rng.normal(size=30), rng.normal(size=30)).p_value for _ in range(1500)]
    assert kstest(exact, "uniform").pvalue > 0.01


def test_the_null_of_an_ece_is_what_calibrated_forecasts_have() -> None:
    rng = np.random.default_rng(8)
    chance = rng.random(200)
    null = calibrated_ece(chance, rng, 400)
    p_values = []
    for _ in range(600):
        ece = expected_calibration_error(rng.random(200) < chance, chance).value
        p_values.append((1 + (null >= ece).sum()) / 401)
    assert kstest(p_values, "uniform").pvalue > 0.01
    too_sure = expected_calibration_error(rng.random(200) < chance, np.round(chance)).value
    assert too_sure > null.max()
