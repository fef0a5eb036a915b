"""The published global batch is kept exactly, or the choices are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.training.accumulation import BatchSharing, share_batch


@given(
    global_batch=st.integers(1, 300),
    world_size=st.integers(1, 30),
    micro_batch=st.none() | st.integers(1, 40),
    largest=st.none() | st.integers(1, 40),
)
def test_a_shared_batch_is_the_published_one(
    global_batch: int, world_size: int, micro_batch: int | None, largest: int | None
) -> None:
    try:
        sharing = share_batch(global_batch, world_size, micro_batch, largest)
    except InputError:
        pieces = global_batch / (micro_batch or 1)
        assert pieces % 1 or pieces % world_size
        return
    assert sharing.micro_batch * sharing.passes * world_size == global_batch
    assert micro_batch in (None, sharing.micro_batch)
    if micro_batch is None and largest is not None:
        assert sharing.micro_batch <= largest


@pytest.mark.parametrize(("gpus", "passes"), [(24, 1), (8, 3), (4, 6), (1, 24)])
def test_crocodiles_288_cases_on_24_gpus_fit_on_fewer(gpus: int, passes: int) -> None:
    assert share_batch(288, gpus, micro_batch=12) == BatchSharing(288, 12, gpus)
    assert share_batch(288, gpus, micro_batch=12).passes == passes


def test_a_number_of_gpus_that_cannot_share_is_refused_with_the_ones_that_can() -> None:
    with pytest.raises(InputError, match="64 evenly: 1, 2, 4, 8, 16, 32, 64, found 3"):
        share_batch(64, 3)
    with pytest.raises(InputError, match="24 micro-batches of 12 evenly: 1, 2, 3, 4, 6, 8, 12"):
        share_batch(288, 5, micro_batch=12)


def test_a_micro_batch_that_does_not_divide_is_refused_and_the_learning_rate_stays() -> None:
    with pytest.raises(InputError, match="a divisor of the global batch 10: 1, 2, 5, 10") as no:
        share_batch(10, 1, micro_batch=4)
    assert "the learning rate belongs to the global batch" in str(no.value)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="sizes of at least 1"):
        share_batch(0, 1)
