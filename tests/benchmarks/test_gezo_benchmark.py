"""The GeZO benchmark at a tiny size; its equality is a test of the product."""

from __future__ import annotations

from benchmarks import gezo


def test_one_update_is_that_of_the_plain_reference_to_the_last_bit() -> None:
    assert gezo.measure("test_vit", batch=2, n_draws=3, repeats=1).equal
