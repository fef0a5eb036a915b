"""Gaps of any measure between groups of patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.metrics import fairness
from workflow_scripts.metrics import fairness_resampling as again
from workflow_scripts.metrics.classification import binary_roc_auc
from workflow_scripts.metrics.group_gaps import (
    gap_with_null,
    gaps,
    groups_of,
    mean_of_draws,
    mean_of_statistics,
)
from workflow_scripts.metrics.ranking import roc_auc_of_draws


def test_gap_of_a_mean_is_that_of_the_cases_with_a_value() -> None:
    inside = np.array([True, True, False, False, False])
    values = np.array([0.9, math.nan, 0.5, 0.3, math.nan])
    groups = groups_of(inside, list("abcde"))
    found, _ = gap_with_null(
        mean_of_draws(values, groups.unit), groups, np.random.default_rng(0), 5
    )
    assert found == pytest.approx(0.5)


def test_a_group_without_a_value_has_no_gap_and_no_p() -> None:
    groups = groups_of(np.array([True, True, False, False]), list("abcd"))
    measure = mean_of_draws(np.array([math.nan, math.nan, 0.5, 0.7]), groups.unit)
    found, null = gap_with_null(measure, groups, np.random.default_rng(0), 20)
    assert math.isnan(found)
    assert math.isnan(null.p_value)


def test_a_patient_in_both_groups_is_two_units_and_images_stay_together() -> None:
    groups = groups_of(np.array([True, False, False, False]), list("aabb"))
    assert groups.unit.tolist() == [0, 1, 2, 2]
    assert groups.inside.tolist() == [True, False, False]
    measure = mean_of_draws(np.array([0.0, 1.0, 5.0, 5.0]), groups.unit)
    dealt = gaps(measure, np.eye(3, dtype=bool))
    np.testing.assert_allclose(dealt, [-11 / 3, -7 / 3, 4.5])


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_it_agrees_with_the_fast_way_for_accuracies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group, truth, predicted = rng.integers(0, 2, (3, 60))
    patients = rng.integers(0, 25, 60)
    groups = groups_of(group == 1, patients)
    measure = mean_of_draws((truth == predicted).astype(float), groups.unit)
    found, null = gap_with_null(measure, groups, np.random.default_rng(seed), 300)
    counts = fairness.outcome_counts(group, truth, predicted)
    assert found == pytest.approx(float(fairness.accuracy_gap(counts)), nan_ok=True)
    units = again.units_of(group, truth, predicted, patients)
    dealt = again.permuted_counts(units, np.random.default_rng(seed), 300)
    other = again.permutation_null(found, fairness.accuracy_gap(dealt))
    assert null.p_value == pytest.approx(other.p_value, abs=0.12)  # other permutations
    assert null.mean == pytest.approx(other.mean, rel=0.2)


def test_the_gap_of_an_auc_is_that_of_the_groups_own_cases() -> None:
    rng = np.random.default_rng(3)
    inside, truth, score = rng.random(80) < 0.5, rng.random(80) < 0.4, rng.normal(size=80).round(1)
    groups = groups_of(inside, np.arange(80) // 2)
    measure = roc_auc_of_draws(truth, score, groups.unit)
    first, second = (binary_roc_auc(truth[part], score[part]).value for part in (inside, ~inside))
    assert gaps(measure, groups.inside[None])[0] == pytest.approx(first - second)
    twice = mean_of_statistics([measure, measure])
    assert gaps(twice, groups.inside[None])[0] == pytest.approx(first - second)


def test_blocks_of_permutations_do_not_change_the_null(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = groups_of(np.arange(30) < 12, np.arange(30))
    measure = mean_of_draws(np.random.default_rng(0).random(30), groups.unit)
    whole = gap_with_null(measure, groups, np.random.default_rng(1), 50)
    monkeypatch.setattr("workflow_scripts.metrics.group_gaps.BLOCK_CASES", 100)
    found, null = gap_with_null(measure, groups, np.random.default_rng(1), 50)
    assert (found, *null) == pytest.approx((whole[0], *whole[1]))
