"""Parity with scikit-learn, the golden values of the released code, and what is undefined."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from workflow_scripts.metrics.classification import (
    accuracy,
    binary_roc_auc,
    mean_per_class_accuracy,
    predicted_class,
    roc_auc,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())["metrics"]
PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)
COARSE = st.integers(-3, 3).map(float)  # few values, so that ties are common


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_released_values_are_golden(case: dict[str, Any]) -> None:
    label, prediction = case["label"], case["pred"]
    assert accuracy(label, prediction).value == pytest.approx(case["accuracy"], abs=1e-6)
    released = mean_per_class_accuracy(label, prediction, undefined_recall_is_nan=True)
    if case["mean_per_class"] is None:
        assert math.isnan(released.value)
    else:
        assert released.value == pytest.approx(case["mean_per_class"], abs=1e-6)
    if "auc_from_hard_predictions" in case:
        area = binary_roc_auc(label, prediction).value
        assert area == pytest.approx(case["auc_from_hard_predictions"], abs=1e-6)


@given(PAIRS)
def test_accuracies_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, prediction = np.array(pairs).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of classes that are only predicted
        expected = balanced_accuracy_score(truth, prediction)
    assert accuracy(truth, prediction) == (accuracy_score(truth, prediction), len(pairs))
    assert mean_per_class_accuracy(truth, prediction).value == pytest.approx(expected)


@given(PAIRS)
def test_released_mean_is_nan_exactly_when_a_class_is_only_predicted(
    pairs: list[tuple[int, int]],
) -> None:
    truth, prediction = np.array(pairs).T
    released = mean_per_class_accuracy(truth, prediction, undefined_recall_is_nan=True).value
    assert math.isnan(released) == bool(set(prediction) - set(truth))
    if not math.isnan(released):
        assert released == mean_per_class_accuracy(truth, prediction).value


@given(st.lists(st.tuples(st.booleans(), COARSE), max_size=40))
def test_binary_auc_equals_scikit_learns_and_is_nan_without_both_classes(
    cases: list[tuple[bool, float]],
) -> None:
    positive, score = [case[0] for case in cases], [case[1] for case in cases]
    found = binary_roc_auc(positive, score)
    assert found.n == len(cases)
    if len(set(positive)) < 2:
        assert math.isnan(found.value)
    else:
        assert found.value == pytest.approx(roc_auc_score(positive, score), abs=1e-12)


@given(st.integers(0, 500), st.integers(2, 5), st.booleans())
def test_auc_of_logits_equals_scikit_learns_on_probabilities(
    seed: int, n_classes: int, is_coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=30)])
    logits = rng.normal(size=(len(truth), n_classes)) + np.eye(n_classes)[truth]
    logits = logits.round() if is_coarse else logits
    probability = softmax(logits, axis=1).round(12)  # equal logits to equal probabilities
    probability /= probability.sum(axis=1, keepdims=True)
    given = probability[:, 1] if n_classes == 2 else probability
    expected = roc_auc_score(truth, given, multi_class="ovr", average="macro")
    if not is_coarse or n_classes == 2:
        assert roc_auc(truth, logits).value == pytest.approx(expected, abs=1e-12)


def test_equal_log_probabilities_stay_equal_in_a_class_auc() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 20)
    votes = rng.dirichlet(np.ones(3), size=60)
    votes[rng.random((60, 3)) < 0.5] = 0  # no neighbour of the class, as in a kNN vote
    votes = np.where(votes.sum(axis=1, keepdims=True) > 0, votes, 1.0)
    votes /= votes.sum(axis=1, keepdims=True)
    scores = np.log((votes + 1e-6) / (1 + 3e-6))
    expected = np.mean([roc_auc_score(truth == k, votes[:, k]) for k in range(3)])
    assert roc_auc(truth, scores).value == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_auc_of_hard_predictions_is_the_mean_of_sensitivity_and_specificity(
    pairs: list[tuple[bool, bool]],
) -> None:
    truth, prediction = np.array(pairs).T
    area = binary_roc_auc(truth, prediction).value
    if truth.all() or not truth.any():
        assert math.isnan(area)
    else:
        sensitivity, specificity = prediction[truth].mean(), (~prediction[~truth]).mean()
        assert area == pytest.approx((sensitivity + specificity) / 2)


def test_auc_of_several_classes_is_undefined_when_one_has_no_case() -> None:
    found = roc_auc([0, 1, 0, 1], np.arange(12.0).reshape(4, 3))
    assert math.isnan(found.value)
    assert found.n == 4


def test_auc_does_not_saturate_where_probabilities_would() -> None:
    logits = [[0, 800], [0, 900], [0, 1000]]  # softmax gives 1.0 three times
    assert roc_auc([0, 0, 1], logits).value == 1.0


def test_without_a_case_every_metric_is_nan_with_count_zero() -> None:
    empty = np.empty(0, dtype=int)
    for found in (
        accuracy(empty, empty),
        mean_per_class_accuracy(empty, empty),
        mean_per_class_accuracy(empty, empty, undefined_recall_is_nan=True),
        binary_roc_auc(empty, empty),
        roc_auc(empty, np.empty((0, 3))),
    ):
        assert math.isnan(found.value)
        assert found.n == 0


def test_a_tie_of_scores_predicts_the_lower_class() -> None:
    assert predicted_class([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]).tolist() == [1, 0]


def test_a_score_that_is_nan_is_an_error_not_a_rank() -> None:
    with pytest.raises(ValueError, match="a score is NaN"):
        roc_auc([0, 1], [[0.0, np.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match="a score is NaN"):
        binary_roc_auc([0, 1], [np.nan, 1.0])


def test_lengths_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match="must be"):
        accuracy([0, 1], [0])
