"""One update of GeZO the plain way, as the released code goes about it (spec 7.1).

Both signs of every direction are asked for, although only +1 is ever read; the data loader starts
anew for every direction, so the two batches are decoded and collated each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

Network = Callable[[torch.Tensor], torch.Tensor]


def plain_epoch(
    noise: torch.Tensor,
    draws: torch.Tensor,
    loader: DataLoader[Any],
    network: Network,
    init_step: float,
    lambda_reg: float,
) -> torch.Tensor:
    """Return the edit after one update.

    Args:
        noise: shape (H, W).
        draws: standard normal, shape (C, H, W).
        loader: yields images and attribute, in the same order at every start.
        network: from images to the attribute's logits.
        init_step: of the search.
        lambda_reg: weight of the norm.
    """
    best_loss, best_direction = float("inf"), noise
    with torch.no_grad():
        for draw in draws:
            delta = init_step * draw
            for number, (images, attribute) in enumerate(loader):
                if number == 2:
                    break
                for sign in (-1, 1):
                    edit = noise + sign * delta
                    loss = -cross_entropy(network(images + edit), attribute)
                    loss = loss + lambda_reg * torch.linalg.vector_norm(edit)
                    losses = [loss.item()]  # made anew for each sign, so only +1 is left
                if losses[0] < best_loss:
                    best_loss, best_direction = losses[0], delta
    return noise + best_direction
