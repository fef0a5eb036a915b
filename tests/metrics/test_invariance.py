"""Invariance scores: golden values, what whitening promises, and the rank-deficient case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from workflow_scripts.metrics.invariance import (
    Whitening,
    invariance_scores,
    reported,
    whitening,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())


def golden(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = GOLDEN[name]
    return entry


def test_scores_equal_the_golden_values() -> None:
    want = golden("invariance_metrics")
    to_white = whitening(np.array(want["all_features"]))
    np.testing.assert_allclose(to_white.mean, want["mean_feature"], atol=1e-6)
    np.testing.assert_allclose(to_white.factor, want["cholesky_lower_of_inv"], atol=1e-4)
    np.testing.assert_allclose(to_white.factor @ to_white.factor.T, want["inv_cov"], atol=1e-4)
    transformed = np.array(want["transformed_features"])
    scores = invariance_scores(np.array(want["clean_features"]), transformed, to_white)
    np.testing.assert_allclose(scores.whitened_cosine, want["cosine_similarity"], atol=1e-4)
    np.testing.assert_allclose(scores.mahalanobis, want["mahalanobis"], atol=1e-4)
    assert reported(scores.whitened_cosine) == pytest.approx(want["reported_similarity"], abs=1e-4)
    assert reported(scores.mahalanobis) == pytest.approx(want["reported_distance"], abs=1e-4)


def test_rank_deficient_case_equals_the_released_one_under_the_sample_covariance() -> None:
    want = golden("invariance_rank_deficient")
    to_white = whitening(np.array(want["all_features"]))
    assert to_white.is_rank_deficient
    transformed = np.array(want["transformed"])[None]
    scores = invariance_scores(np.array(want["clean"])[None], transformed, to_white)
    np.testing.assert_allclose(scores.whitened_cosine[0], want["cosine_similarity"], rtol=1e-3)
    np.testing.assert_allclose(scores.mahalanobis[0], want["mahalanobis"], rtol=1e-3)


def correlated(n_images: int, n_features: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_features, n_features))
    return rng.normal(size=(n_images, n_features)) @ mixing + rng.normal(size=n_features)


def test_whitened_clean_features_have_identity_covariance() -> None:
    features = correlated(400, 8)
    white = whitening(features)(features)
    np.testing.assert_allclose(np.cov(white.T), np.eye(8), atol=1e-4)


def test_identity_is_similarity_one_and_distance_zero() -> None:
    features = correlated(50, 6)
    scores = invariance_scores(features[:4], features[:4, None], whitening(features))
    np.testing.assert_allclose(scores.whitened_cosine, 1, atol=1e-12)
    np.testing.assert_allclose(scores.cosine, 1, atol=1e-12)
    assert (scores.mahalanobis == 0).all()


def test_an_invertible_linear_map_of_the_features_changes_nothing() -> None:
    features, moved = (100 * correlated(n, 5, seed=n) for n in (300, 12))  # far above epsilon
    mixing = np.random.default_rng(2).normal(size=(5, 5))
    plain = invariance_scores(features[:3], moved.reshape(3, 4, 5), whitening(features))
    mixed = invariance_scores(
        features[:3] @ mixing, (moved @ mixing).reshape(3, 4, 5), whitening(features @ mixing)
    )
    np.testing.assert_allclose(plain.whitened_cosine, mixed.whitened_cosine, atol=1e-6)
    np.testing.assert_allclose(plain.mahalanobis, mixed.mahalanobis, rtol=1e-6)
    assert np.abs(plain.cosine - mixed.cosine).max() > 0.01  # the raw cosine does change


def one_by_one(clean: np.ndarray, transformed: np.ndarray, to_white: Whitening) -> np.ndarray:
    """Score as the released code does: two matrix products a view."""
    inverse = to_white.factor @ to_white.factor.T
    found = np.empty((2, *transformed.shape[:2]))
    for i, z in enumerate(clean):
        for j, moved in enumerate(transformed[i]):
            a, b = ((to_white.mean - x) @ to_white.factor for x in (z, moved))
            found[0, i, j] = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
            found[1, i, j] = np.sqrt((z - moved) @ inverse @ (z - moved))
    return found


def test_one_product_for_all_views_equals_a_product_a_view() -> None:
    features = correlated(200, 16)
    clean, moved = features[:5], features[:5, None] + correlated(35, 16, seed=3).reshape(5, 7, 16)
    to_white = whitening(features)
    scores = invariance_scores(clean, moved, to_white)
    expected = one_by_one(clean, moved, to_white)
    np.testing.assert_allclose(scores.whitened_cosine, expected[0], atol=1e-10)
    np.testing.assert_allclose(scores.mahalanobis, expected[1], rtol=1e-9)


@pytest.mark.parametrize("n_images", [12, 40, 400])
def test_shrinkage_is_that_of_ledoit_and_wolf(n_images: int) -> None:
    features = correlated(n_images, 20)
    expected, weight = ledoit_wolf(features)
    to_white = whitening(features, "shrunk")
    assert to_white.shrinkage == pytest.approx(weight, rel=1e-6)
    found = np.linalg.inv(to_white.factor @ to_white.factor.T)
    np.testing.assert_allclose(found, expected * n_images / (n_images - 1), rtol=1e-3, atol=1e-4)


def test_few_images_make_the_released_similarity_degenerate() -> None:
    """138 images, 512 features: nearly the same feature counts as unlike (spec Q9)."""
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(138, 512))
    clean, moved = features[:20], features[:20, None] + 0.05 * rng.normal(size=(20, 1, 512))
    released = invariance_scores(clean, moved, whitening(features))
    assert reported(released.whitened_cosine) < 0.1


@pytest.mark.parametrize("n_images", [138, 400, 2000])
def test_only_statistics_of_other_images_give_the_similarity_of_the_true_covariance(
    n_images: int,
) -> None:
    """512 features with falling variances; versions differ by a quarter of each variance."""
    rng, deviation = np.random.default_rng(0), np.arange(1.0, 513.0) ** -0.5
    features, others = (rng.normal(size=(n_images, 512)) * deviation for _ in range(2))
    moved = features[:100] + 0.5 * rng.normal(size=(100, 512)) * deviation
    truth = Whitening(np.zeros(512), np.diag(1 / deviation), n_images, 0.0)
    found = {
        name: reported(invariance_scores(features[:100], moved[:, None], white).whitened_cosine)
        for name, white in (
            ("truth", truth),
            ("own", whitening(features)),
            ("own, shrunk", whitening(features, "shrunk")),
            ("other, shrunk", whitening(others, "shrunk")),
        )
    }
    assert found["truth"] == pytest.approx(1.25**-0.5, abs=0.01)
    assert found["other, shrunk"] == pytest.approx(found["truth"], abs=0.01)
    assert found["own"] < found["truth"] - 0.02
    assert found["own, shrunk"] < found["truth"] - 0.02


def test_a_version_without_any_defined_score_is_undefined() -> None:
    assert np.isnan(reported(np.array([[1.0, np.nan]])))


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least two images"):
        whitening(np.ones((1, 3)))
