"""CKA and neighbours' votes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from workflow_scripts.metrics.representation import (
    alignment,
    cka,
    gram,
    neighbour_votes,
    unbiased_alignment,
)

RNG = np.random.default_rng(0)


def test_cka_equals_its_definition_in_feature_space() -> None:
    x, y = RNG.normal(size=(40, 7)), RNG.normal(size=(40, 3))
    u, v = x - x.mean(0), y - y.mean(0)
    norms = np.linalg.norm(u.T @ u) * np.linalg.norm(v.T @ v)
    expected = np.linalg.norm(v.T @ u) ** 2 / norms
    assert cka(alignment(gram(x), gram(y))) == pytest.approx(expected, rel=1e-10)


def test_cka_is_one_for_itself_turned_and_scaled() -> None:
    x = RNG.normal(size=(30, 6))
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    for sums in (alignment, unbiased_alignment):
        assert cka(sums(gram(x), gram(2.5 * x @ turn + 1))) == pytest.approx(1, abs=1e-10)


def test_unbiased_sum_equals_the_mean_over_all_quadruples() -> None:
    from itertools import permutations

    x, y = (gram(RNG.normal(size=(6, 4))) for _ in range(2))
    hsic = np.mean(
        [x[i, j] * (y[i, j] + y[q, r] - 2 * y[i, q]) for i, j, q, r in permutations(range(6), 4)]
    )
    assert unbiased_alignment(x, y).xy.sum() / (6 * 3) == pytest.approx(hsic, rel=1e-9)


def test_only_the_unbiased_estimate_sees_that_wide_random_features_are_unrelated() -> None:
    values = [
        [cka(sums(*(gram(RNG.normal(size=(30, 500))) for _ in range(2)))) for _ in range(20)]
        for sums in (alignment, unbiased_alignment)
    ]
    assert np.mean(values[0]) > 0.8
    assert abs(np.mean(values[1])) < 0.05


def test_features_that_do_not_vary_have_no_cka() -> None:
    assert np.isnan(cka(alignment(gram(np.ones((5, 2))), gram(RNG.normal(size=(5, 2))))))


def test_votes_equal_scikit_learn_with_the_same_weights() -> None:
    train, query = RNG.normal(size=(60, 5)), RNG.normal(size=(25, 5))
    labels = RNG.integers(3, size=60)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, query)]

    def weights(distance: np.ndarray) -> np.ndarray:  # |u - v|^2 = 2 - 2 cos
        return np.asarray(np.exp((1 - distance**2 / 2) / 0.07))

    model = KNeighborsClassifier(9, weights=weights).fit(unit[0], labels)
    found = neighbour_votes(train, labels, query, 9, 0.07, 3)
    np.testing.assert_allclose(found, model.predict_proba(unit[1]), atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_votes_do_not_depend_on_how_many_images_are_in_work_at_a_time() -> None:
    train, query = RNG.normal(size=(60, 5)), RNG.normal(size=(25, 5))
    labels = RNG.integers(3, size=60)
    whole = neighbour_votes(train, labels, query, 9, 0.07, 3)
    for rows in (0, 1, 7):  # a row is never cut
        part = neighbour_votes(train, labels, query, 9, 0.07, 3, chunk_bytes=rows * 60 * 8)
        np.testing.assert_allclose(part, whole, rtol=1e-12)


def test_votes_of_many_images_need_little_memory() -> None:
    train, query = RNG.normal(size=(1000, 2)), RNG.normal(size=(1000, 2))
    tracemalloc.start()
    neighbour_votes(train, np.arange(1000) % 2, query, 5, 0.07, 2, chunk_bytes=1 << 17)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20  # all similarities at once: 8 MB, and as much for their order


def test_a_zero_feature_is_similar_to_none() -> None:
    votes = neighbour_votes(np.zeros((4, 2)), np.array([0, 0, 1, 1]), np.ones((1, 2)), 4, 0.1, 2)
    np.testing.assert_allclose(votes, [[0.5, 0.5]])
