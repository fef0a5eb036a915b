"""The cooperative step's benchmark at a tiny size; its equality is a test of the product."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks import cooperative_training as benchmark
from workflow_scripts.cooperative_training.networks import CooperativeNetworks
from workflow_scripts.cooperative_training.slices import Sizes

SIZES = Sizes(64, 48)


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_steps_from_slices_to_gradients_are_those_of_the_plain_reference(double: None) -> None:
    items = [
        item._replace(window=item.window.astype(np.float64), stored=item.stored.astype(np.float64))
        for item in benchmark.make_items(3, SIZES)
    ]
    torch.manual_seed(0)
    weights = CooperativeNetworks(4).state_dict()
    expected = benchmark.reference_steps(weights, items, SIZES)
    found = benchmark.product_steps(weights, items, SIZES)
    assert len(expected) == 3
    assert all(len(step) == 8 + 5 for step in expected)  # terms and sub-networks
    assert benchmark.agree(expected, found, benchmark.DOUBLE)


def test_it_measures() -> None:
    found = benchmark.measure(2, SIZES, 4, repeats=1)
    assert found.equal
    assert found.baseline.cpu_s > 0


def test_a_changed_loss_or_gradient_is_no_equality() -> None:
    terms = {"standard/seg": 1.0, "hard/seg": 1.0, "gradient of image_encoder": 1.0}
    assert benchmark.agree([terms], [terms])
    for name, factor in zip(terms, (1 + 1e-4, 1.02, 1.1), strict=True):
        assert not benchmark.agree([terms], [{**terms, name: terms[name] * factor}])
    assert not benchmark.agree([terms], [{"standard/seg": 1.0}])
