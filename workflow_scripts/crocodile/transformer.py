"""Image tokens in, two embeddings a class out: causal Q and spurious Q-bar.

One encoder layer lets the tokens see each other; two decoder layers let one learned query a class
look at them. The queries never see each other (the released default).
Source: CROCODILE spec 3.4 and 3.5.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workflow_scripts.crocodile.attention import DisentangledAttention
from workflow_scripts.crocodile.protocols import CrocodileOptions

TEMPERATURE = 10_000  # of the sine encoding (released code)


class Embeddings(NamedTuple):
    """What the transformer says of each class; K classes, H features."""

    causal: Tensor  # Q, (B, K, H)
    spurious: Tensor  # Q-bar, (B, K, H)


def sine_positions(features: int, rows: int, columns: int) -> Tensor:
    """Return the sine encoding of a grid, shape (features, rows, columns), float32.

    The first half of the features encodes the row, the second the column; both are counted from
    1 and scaled to 2 pi. Sine at even features, cosine at odd ones.

    Args:
        features: H, a multiple of 4.
        rows: of the grid.
        columns: of the grid.
    """
    half = features // 2
    index = torch.arange(half)
    frequency = TEMPERATURE ** (2 * (index // 2) / half)  # (H/2,)

    def encode(count: int) -> Tensor:  # (count, H/2)
        place = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1e-6) * 2 * math.pi
        angle = place[:, None] / frequency
        return torch.where(index % 2 == 0, angle.sin(), angle.cos())

    by_row = encode(rows)[:, None, :].expand(rows, columns, half)
    by_column = encode(columns)[None, :, :].expand(rows, columns, half)
    return torch.cat([by_row, by_column], dim=-1).permute(2, 0, 1)


def _feed_forward(
    n_in: int, n_hidden: int, dropout: float
) -> tuple[nn.Linear, nn.Linear, nn.Dropout]:
    return nn.Linear(n_in, n_hidden), nn.Linear(n_hidden, n_in), nn.Dropout(dropout)


class EncoderLayer(nn.Module):
    """Self-attention of the image tokens, then a feed-forward network; norms after the sums."""

    def __init__(self, features: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(features, heads, dropout, batch_first=True)
        self.ffn_in, self.ffn_out, self.ffn_drop = _feed_forward(features, hidden, dropout)
        self.norm_attn, self.norm_ffn = nn.LayerNorm(features), nn.LayerNorm(features)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the tokens (B, N, H) after looking at each other; positions (1, N, H)."""
        placed = tokens + positions
        seen = self.self_attn(placed, placed, tokens, need_weights=False)[0]
        tokens = self.norm_attn(tokens + self.drop(seen))
        inner = self.ffn_out(self.ffn_drop(self.ffn_in(tokens).relu()))
        encoded: Tensor = self.norm_ffn(tokens + self.drop(inner))
        return encoded


class DecoderLayer(nn.Module):
    """Disentangled cross-attention from the class queries to the image tokens.

    Args:
        features: H.
        heads: of the attention.
        hidden: width of the feed-forward networks.
        dropout: everywhere.
        options: of the protocol.
        has_spurious: build the spurious path; only the last layer's result is ever used.
    """

    def __init__(
        self, features: int, heads: int, hidden: int, dropout: float,
        options: CrocodileOptions, has_spurious: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.cross_attn = DisentangledAttention(
            features, heads, dropout, options.complement_before_dropout
        )
        self.ffn_causal_in, self.ffn_causal_out, self.ffn_drop = _feed_forward(
            features, hidden, dropout
        )
        self.norm_causal_attn, self.norm_causal_ffn = nn.LayerNorm(features), nn.LayerNorm(features)
        self.drop = nn.Dropout(dropout)
        self.has_spurious, self.residual = has_spurious, options.spurious_residual
        if has_spurious:
            self.ffn_spurious_in, self.ffn_spurious_out, _ = _feed_forward(
                features, hidden, dropout
            )
            self.norm_spurious_attn = nn.LayerNorm(features)
            self.norm_spurious_ffn = nn.LayerNorm(features)

    def forward(
        self, t: Tensor, query: Tensor, memory: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return causal t and spurious u, both (B, K, H), of memory (B, N, H)."""
        attended = self.cross_attn(t + query, memory + positions, memory)
        t = self.norm_causal_attn(t + self.drop(attended.causal))
        inner = self.ffn_causal_out(self.ffn_drop(self.ffn_causal_in(t).relu()))
        t = self.norm_causal_ffn(t + self.drop(inner))
        return t, self._spurious(attended.spurious) if self.has_spurious else None

    def _spurious(self, u: Tensor) -> Tensor:
        u = self.norm_spurious_attn(self.drop(u))
        inner = self.ffn_spurious_out(self.ffn_drop(self.ffn_spurious_in(u).relu()))
        kept = inner if self.residual == "output" else u  # released: added to itself
        normed: Tensor = self.norm_spurious_ffn(kept + self.drop(inner))
        return normed


class Encoder(nn.Module):
    """The encoder's layers."""

    def __init__(
        self, n_layers: int, features: int, heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(features, heads, hidden, dropout) for _ in range(n_layers)
        )

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the memory, shape (B, N, H)."""
        for layer in self.layers:
            tokens = layer(tokens, positions)
        return tokens


class Decoder(nn.Module):
    """The decoder's layers; Q passes a final norm, Q-bar does not."""

    def __init__(
        self, n_layers: int, features: int, heads: int, hidden: int, dropout: float,
        options: CrocodileOptions,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(
                features, heads, hidden, dropout, options,
                has_spurious=options.spurious_layers == "all" or number == n_layers - 1,
            )
            for number in range(n_layers)
        )  # fmt: skip
        self.final_norm_causal = nn.LayerNorm(features)

    def forward(self, query: Tensor, memory: Tensor, positions: Tensor) -> Embeddings:
        """Return Q and Q-bar of queries (B, K, H) and memory (B, N, H)."""
        t, u = torch.zeros_like(query), None
        for layer in self.layers:
            t, u = layer(t, query, memory, positions)
        if u is None:
            raise ValueError("a decoder without layers has no spurious path")
        return Embeddings(self.final_norm_causal(t), u)


class Transformer(nn.Module):
    """Encoder and decoder of one branch, drawn Xavier-uniform.

    Args:
        features: H.
        heads: of every attention.
        hidden: width of the feed-forward networks.
        n_encoder: encoder layers.
        n_decoder: decoder layers.
        dropout: everywhere.
        options: of the protocol.
    """

    def __init__(
        self, features: int, heads: int, hidden: int, n_encoder: int, n_decoder: int,
        dropout: float, options: CrocodileOptions,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = Encoder(n_encoder, features, heads, hidden, dropout)
        self.decoder = Decoder(n_decoder, features, heads, hidden, dropout, options)
        self.passes = options.transformer_passes
        for tensor in self.parameters():
            if tensor.dim() > 1:
                nn.init.xavier_uniform_(tensor)

    def forward(self, feature_map: Tensor, query: Tensor) -> Embeddings:
        """Return Q and Q-bar of a feature map (B, H, h, w) and class queries (K, H).

        The released code runs it twice, once for Q and once for Q-bar, so that in training the
        two come from different dropout masks.
        """
        batch, features, rows, columns = feature_map.shape
        tokens = feature_map.flatten(2).transpose(1, 2)  # (B, N, H), N = h w
        positions = sine_positions(features, rows, columns).to(tokens)
        positions = positions.flatten(1).T[None]  # (1, N, H)
        queries = query.expand(batch, -1, -1)  # (B, K, H)

        def once() -> Embeddings:
            found: Embeddings = self.decoder(queries, self.encoder(tokens, positions), positions)
            return found

        first = once()
        return first if self.passes == 1 else Embeddings(first.causal, once().spurious)
