"""Random streams of a training: each depends on the seed and its name, on nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from workflow_scripts.randomness import stream_seed

if TYPE_CHECKING:
    import torch


def torch_generator(seed: int, *purpose: str, device: str = "cpu") -> torch.Generator:
    """Return a torch generator of the stream `purpose`, on `device`."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *purpose))


def seed_process(seed: int, rank: int) -> None:
    """Seed Python's, NumPy's and torch's own generators of this process.

    Only for what draws from them out of reach, such as dropout, and once, at the start of a
    training. Our own code takes a generator.
    """
    import torch

    random.seed(stream_seed(seed, "python", str(rank)))
    # NumPy's global generator takes 32 bits; third-party transforms draw from it.
    np.random.seed(stream_seed(seed, "numpy", str(rank)) % 2**32)  # noqa: NPY002
    torch.manual_seed(stream_seed(seed, "torch", str(rank)))


@contextmanager
def initialised(seed: int, *purpose: str) -> Iterator[None]:
    """Make networks inside this block from the stream `purpose`: equal on every rank and device.

    The process's own generators are as before afterwards.

    >>> import torch
    >>> with initialised(0, "head"):
    ...     first = torch.nn.Linear(2, 2)
    >>> with initialised(0, "head"):
    ...     second = torch.nn.Linear(2, 2)
    >>> torch.equal(first.weight, second.weight)
    True
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, *purpose))
        yield


@contextmanager
def case_streams(seed: int, epoch: int, index: int) -> Iterator[np.random.Generator]:
    """Give one case in one epoch its own randomness, whoever loads it.

    Inside the block the process's own generators start from this case's stream too, because
    torchvision's and torchio's transforms draw from them; afterwards they are as before. So an
    augmented image depends on seed, epoch and case only: not on the number of workers or ranks,
    and not on whether the training was interrupted. No worker has a state to save.

    Args:
        seed: of the training.
        epoch: counted from 0.
        index: position of the case in the data set.

    Yields:
        The case's generator, for our own transforms.
    """
    import torch

    own = stream_seed(seed, "case", str(epoch), str(index))
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    pytorch = torch.get_rng_state()
    try:
        random.seed(own)
        np.random.seed(own % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(own)
        yield np.random.default_rng(own)
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(pytorch)
