from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.metrics.classification import (
    accuracy,
    class_margins,
    mean_per_class_accuracy,
    roc_auc,
)
from workflow_scripts.metrics.statistics import (
    bootstrap_accuracy,
    bootstrap_mean_per_class_accuracy,
    bootstrap_roc_auc,
    mean_interval,
    patient_numbers,
    resamples,
    seed_spread,
    weighted_roc_auc,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
FRACTIONS = st.lists(st.floats(0, 1), min_size=1, max_size=50)


def test_episode_interval_is_golden() -> None:
    golden = GOLDEN["fewshot_ci"]
    found = mean_interval(100 * np.array(golden["episode_acc_fractions"]))
    assert found.mean == pytest.approx(golden["mean_percent"])
    assert found.half_width == pytest.approx(golden["half_width_percent"])
    line = f"Test Acc = {found.mean:4.2f}% +- {found.half_width:4.2f}%"
    assert line == golden["printed_line"]


@given(FRACTIONS)
def test_half_width_halves_when_the_same_values_come_four_times(values: list[float]) -> None:
    once, four = mean_interval(values), mean_interval(values * 4)
    assert four.half_width == pytest.approx(once.half_width / 2, abs=1e-9)
    assert four.n == 4 * once.n


def test_nothing_has_no_mean_and_one_seed_has_no_spread() -> None:
    assert math.isnan(mean_interval([]).mean)
    assert mean_interval([]).n == 0
    assert math.isnan(seed_spread([0.7]))
    assert seed_spread([0.7, 0.9]) == pytest.approx(np.std([0.7, 0.9], ddof=1))


def cases(seed: int, n_cases: int = 60, n_classes: int = 3) -> tuple[np.ndarray, ...]:
    """Return truth, tied scores and patients of several cases each."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=n_cases)
    scores = (rng.normal(size=(n_cases, n_classes)) + np.eye(n_classes)[truth]).round(1)
    return truth, scores, rng.integers(n_cases // 3, size=n_cases)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_bootstrap_equals_resampling_the_cases_of_the_drawn_patients(
    seed: int, n_classes: int
) -> None:
    truth, scores, patients = cases(seed, n_classes=n_classes)
    prediction = scores.argmax(1)
    place, n_patients = patient_numbers(patients)
    drawn = list(resamples(n_patients, np.random.default_rng(seed), 40))
    rows = [np.repeat(np.arange(len(truth)), weights[place]) for weights in drawn]
    plain = {
        "accuracy": [accuracy(truth[r], prediction[r]).value for r in rows],
        "recall": [mean_per_class_accuracy(truth[r], prediction[r]).value for r in rows],
        "auc": [roc_auc(truth[r], scores[r]).value for r in rows],
    }
    fast = {
        "accuracy": bootstrap_accuracy(
            truth, prediction, patients, np.random.default_rng(seed), 40
        ),
        "recall": bootstrap_mean_per_class_accuracy(
            truth, prediction, patients, np.random.default_rng(seed), 40
        ),
        "auc": bootstrap_roc_auc(truth, scores, patients, np.random.default_rng(seed), 40),
    }
    for name, values in plain.items():
        defined = [value for value in values if not math.isnan(value)]
        assert fast[name].resamples == len(defined)
        assert fast[name].patients == n_patients
        np.testing.assert_allclose(fast[name][:2], np.quantile(defined, [0.025, 0.975]))


@given(st.integers(0, 1000))
def test_auc_of_unit_weights_is_the_auc(seed: int) -> None:
    truth, scores, _ = cases(seed, n_classes=2)
    place = np.arange(len(truth))
    area = weighted_roc_auc(truth == 1, class_margins(scores)[:, 0], place)
    assert area(np.ones(len(truth), dtype=np.int64)) == pytest.approx(
        roc_auc(truth, scores).value, abs=1e-12, nan_ok=True
    )


def test_interval_ignores_how_often_a_patient_was_imaged() -> None:
    truth, prediction = np.arange(40) % 2, np.arange(40) % 3 % 2
    once = bootstrap_accuracy(truth, prediction, np.arange(40), np.random.default_rng(0))
    again = [np.repeat(values, 5) for values in (truth, prediction, np.arange(40))]
    assert bootstrap_accuracy(*again, np.random.default_rng(0)) == once


def test_one_patient_has_no_interval() -> None:
    found = bootstrap_accuracy([0, 1], [0, 1], ["a", "a"], np.random.default_rng(0))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.patients, found.resamples) == (1, 0)


def test_auc_that_no_resample_defines_has_no_interval() -> None:
    scores = np.arange(8.0).reshape(4, 2)
    found = bootstrap_roc_auc([0, 0, 0, 0], scores, list("abcd"), np.random.default_rng(0))
    assert math.isnan(found.low)
    assert found.resamples == 0


def test_thousands_of_resamples_of_89_000_cases_take_seconds() -> None:
    truth, scores, _ = cases(0, n_cases=89_365, n_classes=2)
    patients = np.arange(89_365) // 3
    start = time.process_time()
    bootstrap_roc_auc(truth, scores, patients, np.random.default_rng(0), 100)
    bootstrap_mean_per_class_accuracy(
        truth, scores.argmax(1), patients, np.random.default_rng(0), 100
    )
    assert time.process_time() - start < 3  # 1 s here; 2,000 resamples take 20 times as long
