from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.episodes import (
    EpisodeShape,
    check_classes,
    corrected_episodes,
    released_episodes,
    rows_by_class,
)
from workflow_scripts.ssl_transfer.torch_stream import TorchStream, stream_after_building

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/ssl_transfer.json").read_text())
STREAM = GOLDEN["fewshot_episode_stream"]
SIZES = st.lists(st.integers(6, 12), min_size=2, max_size=5)


@pytest.mark.parametrize("architecture", STREAM["archs"])
def test_released_episodes_equal_the_golden_stream(architecture: str) -> None:
    stream = (
        TorchStream(0) if architecture == "none" else stream_after_building(architecture, seed=0)
    )
    expected = STREAM["archs"][architecture]
    shape = EpisodeShape(STREAM["n_way"], STREAM["n_support"], STREAM["n_query"], len(expected))
    class_rows = [np.arange(size) for size in STREAM["class_sizes"]]
    episodes = released_episodes(class_rows, shape, stream)
    for name in ("classes", "support", "query"):
        wanted = [episode[name] for episode in expected]
        np.testing.assert_array_equal(getattr(episodes, name), wanted)


def test_released_episodes_replay_the_released_loader() -> None:
    golden = GOLDEN["fewshot_episode_replay"]
    class_rows = rows_by_class(np.repeat(np.arange(4), 6), 4)
    shape = EpisodeShape(golden["n_way"], golden["n_support"], golden["n_query"], 6)
    episodes = released_episodes(class_rows, shape, TorchStream(0))
    for name in ("support", "query"):
        pairs = np.array([episode[name] for episode in golden["episodes"]])  # class, index
        rows = pairs[..., 0] * 6 + pairs[..., 1]
        np.testing.assert_array_equal(getattr(episodes, name), rows)


@settings(max_examples=40)
@given(SIZES, st.integers(0, 100), st.booleans())
def test_an_episode_has_distinct_classes_and_its_own_distinct_images(
    sizes: list[int], seed: int, is_released: bool
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    class_rows = rows_by_class(labels, len(sizes))
    shape = EpisodeShape(n_way=2, n_support=2, n_query=4, n_episodes=5)
    if is_released:
        episodes = released_episodes(class_rows, shape, TorchStream(seed))
    else:
        rng = np.random.default_rng(seed)
        episodes = corrected_episodes(class_rows, np.arange(len(labels)), shape, rng)
    assert episodes.classes.shape == (5, 2)
    assert episodes.support.shape == (5, 2, 2)
    assert episodes.query.shape == (5, 2, 4)
    assert (episodes.classes[:, 0] != episodes.classes[:, 1]).all()
    images = np.concatenate([episodes.support, episodes.query], axis=2)
    np.testing.assert_array_equal(
        labels[images], np.broadcast_to(episodes.classes[..., None], images.shape)
    )
    assert all(len(set(episode.ravel())) == episode.size for episode in images)


@settings(max_examples=40)
@given(st.integers(0, 1000))
def test_corrected_support_and_query_share_no_patient_even_across_classes(seed: int) -> None:
    labels = np.tile([0, 1, 2], 20)
    patients = np.arange(60) // 5  # five images of two or three classes each
    shape = EpisodeShape(n_way=3, n_support=3, n_query=4, n_episodes=3)
    rng = np.random.default_rng(seed)
    episodes = corrected_episodes(rows_by_class(labels, 3), patients, shape, rng)
    for support, query in zip(episodes.support, episodes.query, strict=True):
        assert not set(patients[support.ravel()]) & set(patients[query.ravel()])


def test_corrected_episodes_split_every_class_by_its_own_permutation() -> None:
    class_rows = [np.arange(8), np.arange(8, 16)]
    shape = EpisodeShape(n_way=2, n_support=4, n_query=4, n_episodes=200)
    rng = np.random.default_rng(0)
    support = corrected_episodes(class_rows, np.arange(16), shape, rng).support
    same = [set(first % 8) == set(second % 8) for first, second in support]
    assert np.mean(same) < 0.1  # 1 / C(8, 4) = 0.014 if independent, 1 if shared


def test_every_image_is_as_likely_in_support_and_in_query() -> None:
    shape = EpisodeShape(n_way=2, n_support=3, n_query=3, n_episodes=4000)
    rows = rows_by_class(np.repeat([0, 1], 10), 2)
    episodes = corrected_episodes(rows, np.arange(20), shape, np.random.default_rng(0))
    for images in (episodes.support, episodes.query):
        share = np.bincount(images.ravel()) / 4000
        np.testing.assert_allclose(share, 0.3, atol=0.03)  # 4 standard errors


def test_one_patient_a_class_cannot_fill_a_patient_disjoint_episode() -> None:
    class_rows = rows_by_class(np.repeat([0, 1], 10), 2)
    patients = np.repeat([0, 1], 10)
    with pytest.raises(InputError, match=r"different patients.*10 images of 1 patients"):
        corrected_episodes(class_rows, patients, EpisodeShape(2, 2, 2, 1), np.random.default_rng(0))


def test_all_classes_that_are_too_small_are_named_with_count_and_need() -> None:
    class_rows = [np.arange(35), np.arange(34), np.arange(0)]
    with pytest.raises(InputError) as caught:
        check_classes(class_rows, ["normal", "mass", "nodule"], EpisodeShape())
    message = str(caught.value)
    assert "class 'mass': expected at least 35 images (20 support + 15 query)" in message
    assert "found 34" in message
    assert "class 'nodule'" in message
    assert "'normal'" not in message


def test_fewer_classes_than_ways_are_refused() -> None:
    with pytest.raises(InputError, match="at least 5 classes for --n-way 5, found 2"):
        check_classes([np.arange(50)] * 2, ["a", "b"], EpisodeShape(n_way=5))


def test_a_shape_without_a_task_is_refused_with_all_its_faults() -> None:
    with pytest.raises(InputError) as caught:
        EpisodeShape(n_way=1, n_support=0, n_query=15, n_episodes=0)
    assert [problem.where for problem in caught.value.problems] == [
        "--n-way",
        "--n-support",
        "--n-episodes",
    ]
