"""All random states of a process, as plain values that a safe loader can read back."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Generators = Mapping[str, "np.random.Generator | torch.Generator"]


def capture(generators: Generators) -> dict[str, Any]:
    """Return the states of Python, NumPy, torch (CPU and GPU) and of the named generators.

    Made of text and tensors only, so that `torch.load(weights_only=True)` reads it.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "python": _text(random.getstate()),
        "numpy": _text(np.random.get_state(legacy=False)),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "gpu": torch.cuda.get_rng_state() if has_gpu else None,
        "named": {name: _state_of(generator) for name, generator in generators.items()},
    }


def restore(state: Mapping[str, Any], generators: Generators) -> None:
    """Put every state of `capture` back.

    Raises:
        ValueError: if the named generators are not the saved ones.
    """
    import torch

    if set(state["named"]) != set(generators):
        raise ValueError(
            f"named generators: expected {sorted(state['named'])}, found {sorted(generators)}"
        )
    version, internal, gauss = json.loads(state["python"])
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(json.loads(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["gpu"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["gpu"])
    for name, generator in generators.items():
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = json.loads(state["named"][name])
        else:
            generator.set_state(state["named"][name])


def _state_of(generator: np.random.Generator | torch.Generator) -> str | torch.Tensor:
    if isinstance(generator, np.random.Generator):
        return _text(generator.bit_generator.state)
    return generator.get_state()


def _text(state: object) -> str:
    """Return a state as JSON; it keeps integers of any size and floats exactly."""
    return json.dumps(state, default=lambda array: array.tolist())
