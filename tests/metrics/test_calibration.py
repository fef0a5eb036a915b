from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from workflow_scripts.metrics.calibration import (
    brier_of_draws,
    brier_score,
    chance_of,
    ece_of_draws,
    expected_calibration_error,
    reliability,
)
from workflow_scripts.metrics.classification import binary_roc_auc
from workflow_scripts.metrics.ranking import (
    average_precision,
    average_precision_of_draws,
    one_vs_one_roc_auc,
    roc_auc_of_draws,
)
from workflow_scripts.metrics.statistics import (
    patient_numbers,
    resampled,
    resamples,
    weighted_roc_auc,
)

GOLDEN = {
    case["id"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden/crocodile.json").read_text())[
        "cases"
    ]
}


def drawn_cases(seed: int, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return presence, tied chances, and patients with several cases each."""
    rng = np.random.default_rng(seed)
    return rng.random(n) < 0.4, rng.integers(0, 21, n) / 20, rng.integers(0, n // 3, n)


def test_average_precision_and_auc_are_golden() -> None:
    inputs, expected = (GOLDEN["average_precision"][key] for key in ("inputs", "expected"))
    scores, targets = np.array(inputs["scores"]), np.array(inputs["targets"])
    columns = list(zip(targets.T, scores.T, strict=True))
    found = [100 * average_precision(t, s).value for t, s in columns]
    assert found == pytest.approx(expected["ap_percent"])
    assert np.mean(found) == pytest.approx(expected["mAP_percent"])
    assert [binary_roc_auc(t, s).value for t, s in columns] == pytest.approx(expected["auc"])
    steps = [100 * average_precision_score(t, s) for t, s in columns]
    assert steps == pytest.approx(expected["step_ap_percent"])


def test_one_vs_one_auc_is_golden_and_undefined_without_a_class() -> None:
    inputs, expected = (GOLDEN["domain_macro_ovo_auc"][key] for key in ("inputs", "expected"))
    found = one_vs_one_roc_auc(inputs["targets"], inputs["probs"])
    assert found.value == pytest.approx(expected["auc"])
    assert math.isnan(one_vs_one_roc_auc([0, 0, 1], np.eye(3)).value)


@pytest.mark.parametrize("seed", range(5))
def test_the_envelope_never_lies_below_the_steps(seed: int) -> None:
    present, chance, _ = drawn_cases(seed)
    assert average_precision(present, chance).value >= average_precision_score(present, chance)
    assert math.isnan(average_precision(np.zeros(5), np.arange(5)).value)
    assert math.isnan(average_precision([], []).value)


@pytest.mark.parametrize("seed", range(5))
def test_weights_count_like_repeated_cases(seed: int) -> None:
    present, chance, patients = drawn_cases(seed)
    place, n_patients = patient_numbers(patients)
    weights = np.random.default_rng(seed).integers(0, 4, n_patients)
    rows = np.repeat(np.arange(len(place)), weights[place])
    for weighted, plain in (
        (average_precision_of_draws, average_precision),
        (ece_of_draws, expected_calibration_error),
        (brier_of_draws, brier_score),
        (roc_auc_of_draws, binary_roc_auc),
    ):
        expected = plain(present[rows], chance[rows]).value
        everyone = np.ones_like(weights)
        found = weighted(present, chance, place)(np.stack([weights, everyone]))
        whole = plain(present, chance).value
        assert found == pytest.approx([expected, whole], abs=1e-12)


def test_many_statistics_share_their_resamples_and_equal_the_slow_way() -> None:
    present, chance, patients = drawn_cases(7)
    place, n_patients = patient_numbers(patients)
    many = [roc_auc_of_draws(present, chance, place), brier_of_draws(present, chance, place)]
    found = resampled(many, n_patients, np.random.default_rng(1), 40, len(place))
    draws = list(resamples(n_patients, np.random.default_rng(1), 40))
    slow = weighted_roc_auc(present, chance, place)
    assert found.shape == (40, 2)
    np.testing.assert_array_equal(found[:, 0], [slow(drawn) for drawn in draws])


def test_ece_of_hand_computed_bins() -> None:
    present, chance = [0, 1, 1, 0], [0.02, 0.04, 0.9, 0.92]
    # bin 1 of 15: mean 0.03 against 0.5; bin 14: mean 0.91 against 0.5
    value = expected_calibration_error(present, chance).value
    assert value == pytest.approx(0.5 * 0.47 + 0.5 * 0.41)
    bins = reliability(present, chance)
    assert bins.cases.sum() == 4
    assert np.isnan(bins.stated).sum() == 13
    again = np.nansum(bins.cases * np.abs(bins.stated - bins.happened)) / 4
    assert again == pytest.approx(value)


def test_a_perfect_and_a_constant_forecast() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random(50_000)
    present = rng.random(50_000) < chance
    assert expected_calibration_error(present, chance).value < 0.01
    assert brier_score(present, present.astype(float)).value == 0
    assert math.isnan(brier_score([], []).value)
    assert math.isnan(expected_calibration_error([], []).value)


def test_a_chance_outside_zero_and_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside"):
        brier_score([1, 0], [0.5, float("nan")])
    assert chance_of([800.0, -800.0]).tolist() == [1.0, 0.0]
