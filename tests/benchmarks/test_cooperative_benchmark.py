"""The cooperative step's benchmark at a tiny size; its equality is a test of the product."""

from __future__ import annotations

from benchmarks import cooperative_training
from workflow_scripts.cooperative_training.slices import Sizes


def test_steps_from_slices_to_gradients_are_those_of_the_plain_reference() -> None:
    found = cooperative_training.measure(3, Sizes(64, 48), 4, repeats=1)
    assert found.equal


def test_a_changed_loss_or_gradient_is_no_equality() -> None:
    terms = {"standard/seg": 1.0, "gradient of image_encoder": 1.0}
    assert cooperative_training.agree([terms], [terms])
    for name, factor in (("standard/seg", 1 + 1e-4), ("gradient of image_encoder", 1.02)):
        assert not cooperative_training.agree([terms], [{**terms, name: terms[name] * factor}])
    assert not cooperative_training.agree([terms], [{"standard/seg": 1.0}])
