"""Stochastic depth inside a frozen transformer: what the released code leaves on while training.

Steps 1 and 3 train only the head, but put the *whole* network into training mode, so that blocks
are skipped at random (spec sections 5 and 8). Embeddings then differ at every look and cannot be
cached. `released` does the same; `corrected` reads cached embeddings of the network as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_scripts.problems import refuse

if TYPE_CHECKING:
    from torch import nn

PLACES = ("drop_path1", "drop_path2")  # of a block of timm's transformers


def block_rates(rate: float, n_blocks: int) -> list[float]:
    """Return the drop rate of each block: from 0 linearly to `rate` (golden `L_vit_base`).

    >>> block_rates(0.2, 3)
    [0.0, 0.1, 0.2]
    """
    return [rate * block / max(1, n_blocks - 1) for block in range(n_blocks)]


def add_stochastic_depth(network: nn.Module, rate: float) -> None:
    """Let a timm transformer skip its residual branches at random while in training mode.

    Randomness comes from torch's own generator, which the training seeds and saves.

    Raises:
        InputError: if the network has no such blocks.
    """
    from timm.layers.drop import DropPath

    blocks: Any = getattr(network, "blocks", None)
    if blocks is None or not all(hasattr(block, place) for block in blocks for place in PLACES):
        raise refuse(
            "protocol released",
            "a timm transformer, whose blocks stochastic depth can skip",
            type(network).__name__,
            "use protocol corrected with this checkpoint",
        )
    for block, block_rate in zip(blocks, block_rates(rate, len(blocks)), strict=True):
        for place in PLACES:
            setattr(block, place, DropPath(block_rate))
