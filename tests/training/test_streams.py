"""Random streams belong to names, not to who draws first."""

from __future__ import annotations

import random

import numpy as np
import torch

from workflow_scripts.training.accumulation import BatchSharing
from workflow_scripts.training.batches import TrainingBatches
from workflow_scripts.training.sampler import Draw, TrainingSampler
from workflow_scripts.training.streams import (
    case_streams,
    initialised,
    seed_process,
    torch_generator,
)


def global_draws() -> list[float]:
    return [random.gauss(0, 1), np.random.rand(), float(torch.rand(()))]  # noqa: NPY002


def test_a_case_draws_the_same_whatever_was_drawn_before_and_disturbs_nobody() -> None:
    seed_process(0, rank=0)
    expected_after = global_draws()
    seed_process(0, rank=0)
    with case_streams(1, epoch=2, index=3) as rng:
        first = [rng.random(), *global_draws()]
    assert global_draws() == expected_after
    with case_streams(1, epoch=2, index=3) as rng:
        assert [rng.random(), *global_draws()] == first
    for seed, epoch, index in ((0, 2, 3), (1, 3, 3), (1, 2, 4)):
        with case_streams(seed, epoch, index) as rng:
            assert not set(first) & {rng.random(), *global_draws()}


def test_ranks_draw_differently_and_start_equal_networks() -> None:
    draws, networks = [], []
    for rank in (0, 1):
        seed_process(7, rank)
        draws.append(global_draws())
        with initialised(7, "network"):
            networks.append(torch.nn.Linear(3, 3).weight)
    assert not set(draws[0]) & set(draws[1])
    assert torch.equal(*networks)


def test_making_a_network_leaves_the_processes_own_stream_alone() -> None:
    seed_process(0, 0)
    expected = torch.rand(4)
    seed_process(0, 0)
    with initialised(0, "network"):
        torch.nn.Linear(3, 3)
    assert torch.equal(torch.rand(4), expected)


def test_generators_are_told_apart_by_seed_and_name() -> None:
    drawn = [
        torch.rand(2, generator=torch_generator(seed, name)).tolist()
        for seed, name in ((0, "mask"), (0, "mask"), (0, "noise"), (1, "mask"))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]


class Cases(torch.utils.data.Dataset[int]):
    def __getitem__(self, draw: Draw) -> int:
        return draw.case


def test_loading_moves_no_stream_and_gives_the_planned_cases() -> None:
    sampler = TrainingSampler(10, BatchSharing(4, 2, 1), rank=0, seed=0, last="keep")
    batches = TrainingBatches(Cases(), sampler)
    before = torch.get_rng_state()
    seen: list[int] = []
    sizes = []
    while batches.epoch == 0:
        micro = list(batches.next_batch())
        sizes.append([len(part.data) for part in micro])
        assert [part.is_last for part in micro] == [False] * (len(micro) - 1) + [True]
        assert sum(part.share for part in micro) == 1
        seen += [int(case) for part in micro for case in part.data]
    assert sizes == [[2, 2], [2, 2], [2]]
    assert seen == sampler.order(0).tolist()
    assert torch.equal(torch.get_rng_state(), before)
