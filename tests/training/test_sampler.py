"""The order of the cases does not depend on ranks, interruptions, or what was loaded ahead."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.training.accumulation import BatchSharing
from workflow_scripts.training.sampler import TrainingSampler

Last = Literal["drop", "keep"]


def samplers(
    n_cases: int, world_size: int, micro_batch: int, passes: int, last: Last
) -> list[TrainingSampler]:
    sharing = BatchSharing(micro_batch * world_size * passes, micro_batch, world_size)
    return [TrainingSampler(n_cases, sharing, rank, 3, last) for rank in range(world_size)]


def global_batches(ranks: list[TrainingSampler], epoch: int) -> list[list[int]]:
    """Return the cases of each update, over all ranks, without those of share 0."""
    return [
        sorted(
            int(index)
            for rank in ranks
            for piece in rank.pieces(rank.order(epoch), batch)
            if piece.share > 0
            for index in piece.indices
        )
        for batch in range(ranks[0].batches_per_epoch)
    ]


@given(
    n_cases=st.integers(8, 70),
    micro_batch=st.integers(1, 2),
    last=st.sampled_from(["drop", "keep"]),
    epoch=st.integers(0, 3),
)
def test_the_cases_of_every_update_are_the_same_for_1_2_and_4_ranks(
    n_cases: int, micro_batch: int, last: Last, epoch: int
) -> None:
    seen = [
        global_batches(samplers(n_cases, world_size, micro_batch, 4 // world_size, last), epoch)
        for world_size in (1, 2, 4)
    ]
    assert seen[0] == seen[1] == seen[2]
    cases = sorted(case for batch in seen[0] for case in batch)
    if last == "keep":
        assert cases == list(range(n_cases))
    else:
        assert len(cases) == len(set(cases)) == n_cases - n_cases % (4 * micro_batch)


@given(
    n_cases=st.integers(1, 40),
    world_size=st.integers(1, 4),
    micro_batch=st.integers(1, 4),
    passes=st.integers(1, 3),
)
def test_shares_average_over_ranks_to_the_mean_over_the_global_batch(
    n_cases: int, world_size: int, micro_batch: int, passes: int
) -> None:
    ranks = samplers(n_cases, world_size, micro_batch, passes, "keep")
    losses = np.random.default_rng(0).normal(size=n_cases)
    order = ranks[0].order(0)
    size = ranks[0].sharing.global_batch
    for batch in range(ranks[0].batches_per_epoch):
        pieces = [rank.pieces(order, batch) for rank in ranks]
        assert all(pieces)  # DDP needs a backward pass of every rank
        ddp = np.mean(
            [sum(losses[piece.indices].mean() * piece.share for piece in own) for own in pieces]
        )
        expected = losses[order[batch * size : (batch + 1) * size]].mean()
        assert ddp == pytest.approx(expected, abs=1e-12)


@given(done=st.integers(0, 25))
def test_a_resumed_sampler_goes_on_with_the_very_next_draw(done: int) -> None:
    (whole,) = samplers(22, 1, 2, 2, "keep")
    expected = []
    for _ in range(3):
        expected += list(whole)
        for _ in range(whole.batches_per_epoch):
            whole.advance()
    (first,) = samplers(22, 1, 2, 2, "keep")
    passes_done = 0
    for _ in range(min(done, 3 * first.batches_per_epoch - 1)):
        passes_done += len(first.pieces(first.order(first.epoch), first.batch))
        first.advance()
    (resumed,) = samplers(22, 1, 2, 2, "keep")
    resumed.load_state_dict(first.state_dict())
    found = list(resumed)
    assert found == expected[passes_done : passes_done + len(found)]
    assert found


def test_each_epoch_has_its_own_order_and_each_seed_too() -> None:
    (sampler,) = samplers(50, 1, 2, 1, "keep")
    other = TrainingSampler(50, sampler.sharing, 0, seed=4, last="keep")
    orders = [sampler.order(0), sampler.order(1), other.order(0)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


def test_fewer_cases_than_a_global_batch_are_refused_when_the_rest_is_dropped() -> None:
    with pytest.raises(InputError, match="at least one global batch of 8 cases, found 7 cases"):
        samplers(7, 1, 2, 4, "drop")
