"""Stand-ins of natural images: ten classes that can be told apart, not by colour alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from workflow_scripts.datasets.cifar10 import CLASSES
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.phantoms.natural import THINGS, render_thing
from workflow_scripts.randomness import named_rng

STREAMS = partial(named_rng, 0, "test")


def test_the_ten_things_are_the_classes_of_cifar() -> None:
    assert tuple(THINGS) == CLASSES


@pytest.mark.parametrize("name", THINGS)
def test_a_thing_shows_with_signal_only(name: str) -> None:
    pictures = [
        render_thing(STREAMS, "a", name, Knobs(disease_signal=signal)).astype(int)
        for signal in (0.0, 0.5, 1.0)
    ]
    assert pictures[0].shape == (32, 32, 3)
    half, whole = (np.abs(picture - pictures[0]).mean() for picture in pictures[1:])
    assert 0 < half < whole


def test_nearest_class_mean_beats_chance_by_far() -> None:
    knobs = Knobs()

    def features(name: str, number: int) -> np.ndarray:
        picture = render_thing(STREAMS, f"{name}{number}", name, knobs).astype(float)
        gray = picture.mean(axis=2)
        both = gray + gray[:, ::-1]  # a mirrored thing is the same thing
        return np.hypot(*np.gradient(both)).reshape(8, 4, 8, 4).mean(axis=(1, 3)).ravel()

    means = np.array([np.mean([features(n, i) for i in range(12)], axis=0) for n in THINGS])
    right = [
        np.linalg.norm(means - features(name, i), axis=1).argmin() == label
        for label, name in enumerate(THINGS)
        for i in range(12, 18)
    ]
    assert np.mean(right) > 0.4  # chance is 0.1


def test_unknown_thing_is_refused() -> None:
    with pytest.raises(ValueError, match="no such thing: 'boat'"):
        render_thing(STREAMS, "a", "boat", Knobs())
