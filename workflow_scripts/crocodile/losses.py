"""The losses of CROCODILE as pure functions. Source: CROCODILE spec section 5.

Shapes: B images, K findings, D domains, H features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

CLIP = 0.05  # added to the chance of absence: negatives below it cost nothing (released code)
FLOOR = 1e-5  # of a probability inside the logarithm (released code)
ASL_SCALE = 100.0  # factor of the asymmetric loss (released code)
TINY = 1e-8  # added before the squares of two losses (released code)
RELATION_WIDTH = 64  # hidden units of the pair scorer (ours)


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_negative: float = 2.0,
    gamma_positive: float = 0.0,
    clip: float = CLIP,
    scale: float = ASL_SCALE,
    detach_weight: bool = False,
) -> Tensor:
    """Return the asymmetric loss of a multi-label prediction (5.1), a scalar.

    p = sigmoid(z), q = min(1 - p + clip, 1), l = y ln p + (1 - y) ln q, weighted by
    (1 - y p - (1 - y) q) to the power of gamma; minus `scale` times the mean over B and K.

    Args:
        logits: z, shape (B, K).
        targets: y, 0 or 1, shape (B, K).
        gamma_negative: exponent for absent findings; larger forgets the easy ones.
        gamma_positive: exponent for present findings.
        clip: see `CLIP`.
        scale: of the whole.
        detach_weight: let no gradient flow through the weight.
    """
    p = logits.sigmoid()
    q = (1 - p + clip).clamp(max=1)
    absent = 1 - targets
    log_likelihood = targets * p.clamp(min=FLOOR).log() + absent * q.clamp(min=FLOOR).log()
    weight = (1 - targets * p - absent * q) ** (gamma_positive * targets + gamma_negative * absent)
    if detach_weight:
        weight = weight.detach()
    return -scale * (log_likelihood * weight).mean()


def uniform_kl(logits: Tensor) -> Tensor:
    """Return how far softmax(z) is from uniform (5.2): KL(uniform || softmax), nats.

    Args:
        logits: shape (B, K); softmax also where the task is multi-label.
    """
    n = logits.shape[1]
    divergence = -math.log(n) - log_softmax(logits, dim=1)  # (B, K)
    return (divergence / n).sum(dim=1).mean()


def relation_targets(n_classes: int, n_domains: int, form: Literal["one_short", "exact"]) -> Tensor:
    """Return the score wanted for each pair (5.3): 1 where one is causal, the other spurious.

    Four blocks of K D pairs: (causal, causal), (causal, spurious), (spurious, causal),
    (spurious, spurious). `one_short` lacks the last one, as released. Shape (4 K D,).
    """
    block = n_classes * n_domains
    targets = torch.zeros(4 * block)
    targets[block : 3 * block - (form == "one_short")] = 1
    return targets


def pair_blocks(
    q: Tensor, q_bar: Tensor, qd: Tensor, qd_bar: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Return the partners of the four blocks of `relation_targets`."""
    return [(q, qd), (q, qd_bar), (q_bar, qd), (q_bar, qd_bar)]


class FlatScorer(nn.Module):
    """One linear map of all pairs of an image at once (released): fixed, never trained.

    Args:
        n_pairs: 4 K D.
        features: H.
    """

    def __init__(self, n_pairs: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_pairs * 2 * features, n_pairs)
        self.requires_grad_(False)

    def forward(self, q: Tensor, q_bar: Tensor, qd: Tensor, qd_bar: Tensor) -> Tensor:
        """Return the scores of all pairs, in (0, 1), shape (B, 4 K D)."""
        scores: Tensor = self.linear(flat_pairs(q, q_bar, qd, qd_bar)).sigmoid()
        return scores


def flat_pairs(q: Tensor, q_bar: Tensor, qd: Tensor, qd_bar: Tensor) -> Tensor:
    """Return all concatenated pairs of each image in one row, shape (B, 4 K D 2 H)."""
    rows = []
    for left, right in pair_blocks(q, q_bar, qd, qd_bar):  # (B, K, H), (B, D, H)
        (batch, k, _), d = left.shape, right.shape[1]
        pair = (left[:, :, None].expand(-1, -1, d, -1), right[:, None].expand(-1, k, -1, -1))
        rows.append(torch.cat(pair, dim=-1).reshape(batch, -1))
    return torch.cat(rows, dim=1)


class PairScorer(nn.Module):
    """A small relation network for one pair, shared by all pairs, trained with the rest.

    sigmoid(w ReLU(W [a; b] + c) + e). W [a; b] is W_1 a + W_2 b, so no pair is ever built.

    Args:
        features: H.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.left = nn.Linear(features, RELATION_WIDTH)
        self.right = nn.Linear(features, RELATION_WIDTH, bias=False)
        self.score = nn.Linear(RELATION_WIDTH, 1)

    def forward(self, q: Tensor, q_bar: Tensor, qd: Tensor, qd_bar: Tensor) -> Tensor:
        """Return the scores of all pairs, in (0, 1), shape (B, 4 K D)."""
        blocks = []
        for left, right in pair_blocks(q, q_bar, qd, qd_bar):
            hidden = (self.left(left)[:, :, None] + self.right(right)[:, None]).relu()
            blocks.append(self.score(hidden).flatten(1))  # (B, K D)
        return torch.cat(blocks, dim=1).sigmoid()


def image_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the image-level loss (5.3), a scalar: mean (score + 1e-8 - target)^2.

    Args:
        scores: of a scorer, shape (B, 4 K D).
        targets: of `relation_targets`, shape (4 K D,).
    """
    return (scores + TINY - targets).square().mean()


def spread(rows: Tensor) -> Tensor:
    """Return the mean squared distance of rows (S, ...) from their mean, which is not detached."""
    return (rows + TINY - rows.mean(dim=0, keepdim=True)).square().mean()


def label_value_spread(
    embeddings: Tensor,
    labels: Tensor,
    relation: Literal["same", "different"],
    empty_group: Literal["zero", "skip"],
) -> Tensor:
    """Return the batch-level loss over label values (5.4), a scalar.

    For each value v that occurs: the spread of the rows with label v (`same`) or another label
    (`different`); summed. With labels (B, K) a row counts once for each of its matching columns.

    Args:
        embeddings: shape (B, C, H).
        labels: shape (B,) (domains) or (B, K) (findings, as released).
        relation: which rows.
        empty_group: what a value without rows does: makes the whole loss zero, or nothing.
    """
    total = embeddings.new_zeros(())
    for value in torch.unique(labels):
        chosen = labels == value if relation == "same" else labels != value
        rows = chosen.nonzero()[:, 0]  # a row of (B, K) once a matching column
        if len(rows) == 0:
            if empty_group == "zero":
                return embeddings.new_zeros(())
            continue
        total = total + spread(embeddings[rows])
    return total


def class_spreads(
    embeddings: Tensor, labels: Tensor, relation: Literal["same", "different"]
) -> list[Tensor]:
    """Return, for each class with at least two such images, the spread of its embeddings.

    Args:
        embeddings: shape (B, K, H).
        labels: 0 or 1, shape (B, K).
        relation: images with the finding (`same`) or without it (`different`).
    """
    chosen = labels == 1 if relation == "same" else labels != 1
    groups = [embeddings[chosen[:, k], k] for k in range(labels.shape[1])]  # (S, H) each
    return [spread(group) for group in groups if len(group) >= 2]


def mean_of(terms: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the mean of scalar terms; zero without any."""
    return torch.stack(list(terms)).mean() if terms else like.new_zeros(())
