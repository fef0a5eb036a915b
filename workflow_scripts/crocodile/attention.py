"""Disentangled cross-attention: what the queries look at, and all that they do not."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, softmax


class Attended(NamedTuple):
    """What one cross-attention gives; L queries, N keys, H features."""

    causal: Tensor  # (B, L, H), from the attention A
    spurious: Tensor  # (B, L, H), from its complement 1 - A, through the same projection
    weights: Tensor  # (B, L, N), A averaged over the heads, without dropout


class DisentangledAttention(nn.Module):
    """Multi-head attention that also returns the complement's output.

    Per head of d features, with A = softmax(q k^T / sqrt(d)) of shape (B, heads, L, N):

        causal   = W_o concat(A v) + b_o
        spurious = W_o concat((1 - A) v) + b_o,   (1 - A) v = sum_s v_s - A v

    Rows of 1 - A sum to N - 1, so with many keys the spurious output is nearly the same for all
    queries; without dropout causal + spurious is exactly the same.

    Args:
        features: H, a multiple of `heads`.
        heads: number of heads.
        dropout: share of attention weights dropped in training.
        complement_before_dropout: take 1 - A of the undropped A.

    Source: CROCODILE spec 3.6; parameters are named and initialised as torch's own attention.
    """

    def __init__(
        self, features: int, heads: int, dropout: float, complement_before_dropout: bool
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.complement_before_dropout = complement_before_dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * features, features))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * features))
        self.out_proj = nn.Linear(features, features)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Attended:
        """Attend; query (B, L, H), key and value (B, N, H)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            self._by_head(linear(tokens, weight, bias))  # (B, heads, L or N, d)
            for tokens, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        attention = softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        dropped = dropout(attention, self.dropout, self.training)  # (B, heads, L, N)
        causal = dropped @ v  # (B, heads, L, d)
        left_out = attention @ v if self.complement_before_dropout else causal
        spurious = v.sum(dim=2, keepdim=True) - left_out  # (1 - A) v without building 1 - A
        return Attended(self._project(causal), self._project(spurious), attention.mean(dim=1))

    def _by_head(self, tokens: Tensor) -> Tensor:  # (B, L, H) -> (B, heads, L, d)
        batch, length, features = tokens.shape
        return tokens.view(batch, length, self.heads, features // self.heads).transpose(1, 2)

    def _project(self, by_head: Tensor) -> Tensor:  # (B, heads, L, d) -> (B, L, H)
        projected: Tensor = self.out_proj(by_head.transpose(1, 2).flatten(2))
        return projected
