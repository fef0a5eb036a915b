"""Independent random streams by name, so that adding one never moves another."""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, *purpose: str) -> int:
    """Return a 64-bit seed that depends on `seed` and on every word of `purpose`."""
    digest = hashlib.sha256("/".join((str(seed), *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def named_rng(seed: int, *purpose: str) -> np.random.Generator:
    """Return the generator of the stream `purpose`.

    >>> draws = [named_rng(0, "split", name).random() for name in ("chestx", "bach", "chestx")]
    >>> draws[0] == draws[2], draws[0] == draws[1]
    (True, False)
    """
    return np.random.default_rng(stream_seed(seed, *purpose))
