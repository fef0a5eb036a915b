"""Which finding causes which: the map read from the embeddings, and what medicine says.

Source: CROCODILE spec section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from workflow_scripts.crocodile.losses import TINY
from workflow_scripts.crocodile.task_prior import prior_rows


def prior_matrix(findings: Sequence[str]) -> Tensor:
    """Return the task prior for `findings` in their order, rows causes, columns effects, (K, K)."""
    return torch.tensor(prior_rows(findings))


def causality_map(embeddings: Tensor, shift: Literal["batch", "row"]) -> Tensor:
    """Return who causes whom according to the embeddings; entry (i, j) reads P(i | j).

    With each sample's values brought to [0, 1], m_i the largest value of row i and s_j the sum of
    row j: map[i, j] = m_i m_j / s_j. So a map has rank 1, and no entry exceeds m_i.

    Args:
        embeddings: Q, shape (B, K, H).
        shift: how negative values are lifted; see the protocols.

    Returns:
        shape (B, K, K).
    """
    lowest = embeddings.amin(dim=2, keepdim=True)  # (B, K, 1)
    if shift == "row":
        lifted = embeddings - lowest
    else:
        lifted = embeddings + lowest.abs() if bool(lowest.min() < 0) else embeddings
    scaled = lifted / (lifted.amax(dim=(1, 2), keepdim=True) + TINY)
    largest, total = scaled.amax(dim=2), scaled.sum(dim=2)  # m and s, (B, K)
    return largest[:, :, None] * (largest / (total + TINY))[:, None, :]


def prior_loss(maps: Tensor, prior: Tensor) -> Tensor:
    """Return mean (map + 1e-8 - prior)^2, a scalar; maps (B, K, K), prior (K, K)."""
    return (maps + TINY - prior).square().mean()
