"""Which finding causes which: the map read from the embeddings, and what medicine says.

Source: CROCODILE spec section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor

from workflow_scripts.crocodile.losses import TINY

# (cause, effect): P(effect's cause is this one), typed from the released task prior (spec section
# 4); all other pairs are 0, the diagonal and No Finding included.
TASK_PRIOR: Final[dict[tuple[str, str], float]] = {
    ("Atelectasis", "Lung Opacity"): 1.0,
    ("Consolidation", "Lung Opacity"): 1.0,
    ("Edema", "Lung Opacity"): 1.0,
    ("Effusion", "Lung Opacity"): 1.0,
    ("Pneumonia", "Lung Opacity"): 1.0,
    ("Lung Opacity", "Atelectasis"): 0.2,
    ("Lung Opacity", "Consolidation"): 0.2,
    ("Lung Opacity", "Edema"): 0.2,
    ("Lung Opacity", "Effusion"): 0.2,
    ("Lung Opacity", "Pneumonia"): 0.2,
    ("Pneumothorax", "Atelectasis"): 0.85,
    ("Pneumonia", "Consolidation"): 0.7,
    ("Edema", "Consolidation"): 0.65,
    ("Effusion", "Atelectasis"): 0.5,
    ("Consolidation", "Atelectasis"): 0.4,
    ("Pneumonia", "Effusion"): 0.25,
    ("Consolidation", "Effusion"): 0.2,
    ("Cardiomegaly", "Atelectasis"): 0.1,
    ("Pneumonia", "Edema"): 0.05,
}


def prior_matrix(findings: Sequence[str]) -> Tensor:
    """Return the task prior for `findings` in their order, rows causes, columns effects, (K, K)."""
    return torch.tensor(
        [[TASK_PRIOR.get((cause, effect), 0.0) for effect in findings] for cause in findings]
    )


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
