"""Every draw is compared with torch's own generator."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.ssl_transfer.torch_stream import (
    INITIALISATION_WORDS,
    TorchStream,
    stream_after_building,
)


def torch_int64(generator: torch.Generator | None = None) -> int:
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator))


@given(st.integers(0, 2**63 - 1))
def test_int64_draws_equal_those_of_torch_for_any_seed(seed: int) -> None:
    generator, stream = torch.Generator().manual_seed(seed), TorchStream(seed)
    assert [stream.int64() for _ in range(3)] == [torch_int64(generator) for _ in range(3)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 3000), st.data())
def test_permutation_starts_like_torchs_and_leaves_the_stream_where_torch_does(
    seed: int, n_items: int, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, n_items))
    generator, stream = torch.Generator().manual_seed(seed), TorchStream(seed)
    whole = torch.randperm(n_items, generator=generator).tolist()
    assert stream.permutation_start(n_items, length) == whole[:length]
    assert stream.int64() == torch_int64(generator)


@pytest.mark.parametrize("n_items", [0, 1, 2, 35, 10_001, 60_000, 223_414])
def test_whole_permutation_equals_torchs_at_the_sizes_of_the_data_sets(n_items: int) -> None:
    generator = torch.Generator().manual_seed(7)
    expected = torch.randperm(n_items, generator=generator).tolist()
    assert TorchStream(7).permutation_start(n_items, n_items) == expected


@pytest.mark.parametrize(("n_items", "length"), [(3, 4), (3, -1), (2**32, 1)])
def test_a_permutation_that_torch_would_draw_otherwise_is_refused(
    n_items: int, length: int
) -> None:
    with pytest.raises(ValueError, match="need 0 <="):
        TorchStream(0).permutation_start(n_items, length)


@pytest.mark.parametrize("architecture", INITIALISATION_WORDS)
def test_words_of_the_random_initialisation_are_those_torchvision_takes(architecture: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(torchvision.models, architecture)()
        expected = [torch_int64() for _ in range(3)]
    stream = stream_after_building(architecture, 0)
    assert [stream.int64() for _ in range(3)] == expected


def test_an_unmeasured_architecture_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"'vit_tiny'.*never measured.*--protocol corrected"):
        stream_after_building("vit_tiny", 0)
