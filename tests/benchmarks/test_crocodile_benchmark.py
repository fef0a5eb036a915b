"""The benchmark of CROCODILE at a tiny size; its equality is a test of the product."""

from __future__ import annotations

import torch

from benchmarks import crocodile


def test_a_step_has_the_loss_and_gradients_of_the_released_way() -> None:
    assert crocodile.measure(batch=3, side=64, channels=32).equal


def test_equality_notices_a_gradient_that_differs() -> None:
    one = crocodile.Step(torch.ones(()), (torch.ones(4), torch.ones(2)))
    other = crocodile.Step(torch.ones(()), (torch.ones(4), torch.tensor([1.0, 1.1])))
    assert crocodile.equal(one, one)
    assert not crocodile.equal(one, other)


def test_the_published_step_keeps_less_than_as_released() -> None:
    released, ours = crocodile.memory(12, 320, crocodile.FULL_CHANNELS)
    assert released > 2 * ours
