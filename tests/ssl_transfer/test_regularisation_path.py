from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from workflow_scripts.metrics.classification import accuracy, mean_per_class_accuracy
from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.protocols import LINEAR
from workflow_scripts.ssl_transfer.regularisation_path import (
    Coordinates,
    Fit,
    best,
    c_values,
    fit,
    logits,
    probe,
    search,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
PROBLEMS = [
    (problem, case) for problem in GOLDEN["linear_probe"]["problems"] for case in problem["cases"]
]


def score(truth: np.ndarray, prediction: np.ndarray) -> float:
    return accuracy(truth, prediction).value


def test_c_values_equal_the_golden_list_to_the_last_bit() -> None:
    assert c_values().tolist() == GOLDEN["linear_C_values"]


def test_c_values_run_in_quarter_decades_from_1e6_to_1e_minus_5() -> None:
    values = c_values()
    assert len(values) == 45
    assert values[[0, -1]] == pytest.approx([1e6, 1e-5], rel=1e-6)
    np.testing.assert_allclose(values[:-1] / values[1:], 10**0.25, rtol=1e-6)
    assert values[9] == pytest.approx(5623.413, abs=5e-4)  # the C printed for PIRL on EyePACS


@pytest.mark.parametrize(("problem", "case"), PROBLEMS)
def test_probe_equals_the_golden_probabilities_also_for_two_classes(
    problem: dict[str, Any], case: dict[str, Any]
) -> None:
    x_train, y_train = np.array(problem["X_train"]), np.array(problem["y_train"])
    x_test, y_test = np.array(problem["X_test"]), np.array(problem["y_test"])
    model = probe(tolerance=1e-4, max_iterations=100)
    assert fit(model, x_train, y_train, case["C"])
    scores = logits(model, x_test)
    np.testing.assert_allclose(softmax(scores, axis=1), case["proba_test"], atol=1e-3)
    np.testing.assert_array_equal(scores.argmax(1), case["pred_test"])
    released_weights = model.coef_ / 2 if problem["n_classes"] == 2 else model.coef_
    np.testing.assert_allclose(released_weights, case["coef"], atol=5e-3)
    metric = accuracy if case["metric"] == "accuracy" else mean_per_class_accuracy
    assert 100 * metric(y_test, scores.argmax(1)).value == pytest.approx(case["score_percent"])


def test_two_classes_at_c_are_the_softmax_of_the_released_code_at_c() -> None:
    rng = np.random.default_rng(0)
    x, y, c = rng.normal(size=(40, 3)), np.arange(40) % 2, 0.3
    x[:, 0] += y

    def objective(flat: np.ndarray) -> float:  # C * sum(log loss) + 0.5 ||W||^2, W (2, 3)
        weights, intercept = flat[:6].reshape(2, 3), flat[6:]
        scores = x @ weights.T + intercept
        loss = (logsumexp(scores, axis=1) - scores[np.arange(40), y]).sum()
        return float(c * loss + 0.5 * (weights**2).sum())

    solution = minimize(objective, np.zeros(8), tol=1e-10).x
    expected = softmax(x @ solution[:6].reshape(2, 3).T + solution[6:], axis=1)
    model = probe(tolerance=1e-8, max_iterations=1000)
    fit(model, x, y, c)
    np.testing.assert_allclose(softmax(logits(model, x), axis=1), expected, atol=1e-5)


def golden_path() -> tuple[list[Fit], dict[str, Any]]:
    golden = GOLDEN["linear_path"]
    training, validation = (
        (np.array(golden[f"X_{part}"]), np.array(golden[f"y_{part}"])) for part in ("train", "val")
    )
    fits = search(probe(1e-4, 100), training, validation, c_values().tolist(), score)
    return fits, golden


def test_search_chooses_the_golden_c_and_follows_the_golden_scores() -> None:
    fits, golden = golden_path()
    chosen = best(fits)
    assert chosen.c == pytest.approx(golden["best_C"], rel=1e-6)
    assert 100 * chosen.score == pytest.approx(golden["best_score"])
    wanted = [percent for _, percent, _ in golden["path_C_score_niter"]]
    found = [100 * one.score for one in fits]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_search_equals_scikit_learn_alone_bit_for_bit() -> None:
    from sklearn.linear_model import LogisticRegression

    golden = GOLDEN["linear_path"]
    x, y = np.array(golden["X_train"], dtype=np.float32), np.array(golden["y_train"])
    ours, theirs = probe(1e-4, 100), LogisticRegression(warm_start=True)
    for c in c_values().tolist():
        fit(ours, x, y, c)
        theirs.set_params(C=c).fit(x, y)
        np.testing.assert_array_equal(ours.coef_, theirs.coef_)
        np.testing.assert_array_equal(ours.intercept_, theirs.intercept_)


def test_a_fit_that_hits_the_limit_is_not_called_converged() -> None:
    golden = GOLDEN["linear_path"]
    x, y = np.array(golden["X_train"]), np.array(golden["y_train"])
    assert not fit(probe(1e-8, 3), x, y, 1.0)
    assert fit(probe(1e-8, 1000), x, y, 1.0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_converged_fit_has_a_gradient_below_the_tolerance(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    x, y, c = rng.normal(size=(80, 5)), np.arange(80) % n_classes, 0.5
    model = probe(tolerance=1e-6, max_iterations=10_000)
    assert fit(model, x, y, c)
    excess = softmax(logits(model, x), axis=1) - np.eye(n_classes)[y]
    if n_classes == 2:
        excess, c = excess[:, 1:], 2 * c
    gradient = excess.T @ x / 80 + model.coef_ / (c * 80)
    assert abs(gradient).max() <= 1e-6
    assert abs(excess.mean(0)).max() <= 1e-6


def test_first_strictly_better_score_wins_and_nan_never_does() -> None:
    scores = [np.nan, 0.4, 0.6, np.nan, 0.6, 0.5]
    fits = [Fit(c, value, 1, True) for c, value in enumerate(scores)]
    assert best(fits).c == 2


def test_a_search_without_a_defined_score_is_refused() -> None:
    with pytest.raises(InputError, match="2 C values whose score is undefined"):
        best([Fit(1.0, np.nan, 1, True), Fit(2.0, np.nan, 1, True)])


def test_where_every_fit_scores_0_the_first_is_taken() -> None:
    assert best([Fit(1.0, np.nan, 1, True), Fit(2.0, 0.0, 1, True), Fit(3.0, 0.0, 1, True)]).c == 2


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("n_images", [24, 80])  # fewer and more than the 60 features
def test_converged_fit_in_centred_coordinates_is_the_same_model(
    n_classes: int, n_images: int
) -> None:
    rng = np.random.default_rng(0)
    training = rng.normal(size=(n_images, 60)) + 0.5
    judged = rng.normal(size=(10, 60))
    labels = np.arange(n_images, dtype=np.int64) % n_classes
    coordinates = Coordinates.of(training)
    assert coordinates(training).shape == (n_images, min(n_images, 60))
    plain, fast = probe(1e-10, 10_000), probe(1e-10, 10_000)
    assert fit(plain, training, labels, 1.0)
    assert fit(fast, coordinates(training), labels, coordinates.scale**2)
    np.testing.assert_allclose(  # both stop when float64 allows no further step
        logits(fast, coordinates(judged)), logits(plain, judged), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("c", [1e-3, 1.0, 1e4])
def test_corrected_tolerance_leaves_no_probability_far_from_the_optimum(c: float) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(110, 8))
    x = np.maximum(hidden @ rng.normal(size=(8, 100)) / 3 + rng.normal(size=(110, 100)) / 2, 0)
    y = (hidden[:60, 0] + rng.normal(size=60) > 0).astype(int)  # 60 images, separable
    exact = probe(tolerance=1e-12, max_iterations=100_000)
    fit(exact, x[:60], y, c)
    options, to = LINEAR["corrected"], Coordinates.of(x[:60])
    model = probe(options.tolerance, options.max_iterations)
    assert fit(model, to(x[:60]), y, c * to.scale**2)
    found, expected = logits(model, to(x[60:])), logits(exact, x[60:])
    np.testing.assert_allclose(softmax(found, axis=1), softmax(expected, axis=1), atol=0.01)
