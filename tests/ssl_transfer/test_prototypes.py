from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.metrics.statistics import mean_interval
from workflow_scripts.ssl_transfer.episodes import Episodes, EpisodeShape, released_episodes
from workflow_scripts.ssl_transfer.prototypes import (
    count_near_ties,
    score_episodes,
    squared_distances,
)
from workflow_scripts.ssl_transfer.torch_stream import TorchStream

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
ATOL = 1e-6  # the goldens were computed in float32 and rounded to seven decimals


def random_task(seed: int, n_support: int = 3) -> tuple[np.ndarray, Episodes]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(30, 5))
    class_rows = [np.arange(10), np.arange(10, 20), np.arange(20, 30)]
    shape = EpisodeShape(n_way=3, n_support=n_support, n_query=4, n_episodes=7)
    return features, released_episodes(class_rows, shape, TorchStream(seed))


@pytest.mark.parametrize("case", GOLDEN["fewshot_protonet"], ids=lambda case: case["name"])
def test_prototypes_equal_the_golden_distances_predictions_and_loss(case: dict[str, Any]) -> None:
    support, query = (np.array(case[name], dtype=np.float32) for name in ("support", "query"))
    n_way, n_support, n_features = support.shape
    features = np.concatenate([support.reshape(-1, n_features), query.reshape(-1, n_features)])
    rows = np.arange(len(features))
    episodes = Episodes(
        classes=np.arange(n_way)[None],
        support=rows[: n_way * n_support].reshape(1, n_way, n_support),
        query=rows[n_way * n_support :].reshape(1, n_way, -1),
    )
    distances = squared_distances(features, episodes)
    scores = score_episodes(distances)
    np.testing.assert_allclose(distances.reshape(-1, n_way), case["sq_distances"], atol=ATOL)
    np.testing.assert_array_equal(scores.prediction[0], case["pred"])
    assert scores.loss[0] == pytest.approx(case["loss"], abs=ATOL)
    assert scores.accuracy[0] == pytest.approx(case["acc_fraction"], abs=ATOL)


def test_episodes_of_the_released_loader_have_the_golden_loss_and_accuracy() -> None:
    golden = GOLDEN["fewshot_episode_replay"]
    features = np.array([golden["features"][str(i)] for i in range(4)], dtype=np.float32)
    shape = EpisodeShape(golden["n_way"], golden["n_support"], golden["n_query"], 6)
    episodes = released_episodes([np.arange(6) + 6 * i for i in range(4)], shape, TorchStream(0))
    scores = score_episodes(squared_distances(features.reshape(24, 3), episodes))
    for name in ("loss", "accuracy"):
        key = {"loss": "loss", "accuracy": "acc_fraction"}[name]
        wanted = [episode[key] for episode in golden["episodes"]]
        np.testing.assert_allclose(getattr(scores, name), wanted, atol=ATOL)
    cell = mean_interval(100 * scores.accuracy)
    assert cell.mean == pytest.approx(golden["mean_percent"], abs=1e-4)
    assert cell.half_width == pytest.approx(golden["half_width_percent"], abs=1e-4)


@given(st.integers(0, 200))
def test_accuracy_does_not_change_when_features_are_shifted_or_rotated(seed: int) -> None:
    features, episodes = random_task(seed)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    moved = features @ rotation + rng.normal(size=5)
    plain = score_episodes(squared_distances(features, episodes))
    turned = score_episodes(squared_distances(moved, episodes))
    np.testing.assert_array_equal(plain.prediction, turned.prediction)
    np.testing.assert_allclose(plain.loss, turned.loss, rtol=1e-9)


@given(st.integers(0, 200), st.permutations([0, 1, 2]))
def test_accuracy_does_not_change_when_the_classes_change_places(
    seed: int, order: list[int]
) -> None:
    features, episodes = random_task(seed)
    moved = Episodes(
        episodes.classes[:, order], episodes.support[:, order], episodes.query[:, order]
    )
    plain = score_episodes(squared_distances(features, episodes))
    turned = score_episodes(squared_distances(features, moved))
    np.testing.assert_array_equal(plain.accuracy, turned.accuracy)


def test_with_one_support_image_the_prototype_is_that_image() -> None:
    features, episodes = random_task(0, n_support=1)
    expected = (
        (
            features[episodes.query][..., None, :]
            - features[episodes.support[:, :, 0]][:, None, None]
        )
        ** 2
    ).sum(-1)
    np.testing.assert_allclose(squared_distances(features, episodes), expected)


@given(st.floats(-1e3, 1e3, width=32), st.integers(1, 20))
def test_equal_features_everywhere_give_chance_through_the_lowest_class(
    value: float, n_support: int
) -> None:
    features = np.full((100, 7), value, dtype=np.float32)
    class_rows = [np.arange(50), np.arange(50, 100)]
    shape = EpisodeShape(2, n_support, 5, 3)
    episodes = released_episodes(class_rows, shape, TorchStream(0))
    scores = score_episodes(squared_distances(features, episodes))
    assert (scores.prediction == 0).all()
    assert (scores.accuracy == 0.5).all()


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 30])
def test_the_size_of_the_pieces_changes_no_bit(chunk_bytes: int) -> None:
    features, episodes = random_task(3)
    np.testing.assert_array_equal(
        squared_distances(features, episodes, chunk_bytes), squared_distances(features, episodes)
    )


def test_near_ties_are_counted_and_exact_ties_are_not() -> None:
    distances = np.array([1.0, 1.0 + 1e-7, 1.0, 1.0, 1.0, 2.0]).reshape(1, 3, 1, 2)
    assert count_near_ties(distances) == 1
