"""CROCODILE's costly parts the way the released code computes them, written from their formulas.

Keys, values and positions are unfolded into 49 copies, the complement 1 - A is built, and each
transformer runs twice, once for Q and once for Q-bar.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, unfold

from workflow_scripts.crocodile.attention import Attended, DisentangledAttention
from workflow_scripts.crocodile.mixing import Mixing
from workflow_scripts.crocodile.model import Crocodile

HEADS, WINDOW, MARGIN = 4, 7, 3


def window_attention(mixing: Mixing, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the attention of each place to its window; all (B, C, h, w).

    e_j(u) = sum_c (q_c(u) / sqrt(d)) (k_c(u + j) + p_c(u) - p_c(u + j)), softmax over j.
    """
    batch, channels, h, w = q.shape
    d = channels // HEADS
    x, y = torch.linspace(-1, 1, w), torch.linspace(-1, 1, h)
    places = torch.stack([x.expand(h, w), y[:, None].expand(h, w)])[None].to(q)
    position = mixing.pos_conv(places)  # (1, d, h, w)

    def windows(part: Tensor) -> Tensor:  # (n, d, h, w) -> (n, d, 49, h, w)
        copies = unfold(pad(part, (MARGIN,) * 4, mode="reflect"), WINDOW)
        return copies.view(len(part), d, WINDOW**2, h, w)

    q, k, v = (part.reshape(batch * HEADS, d, h, w) for part in (q / math.sqrt(d), k, v))
    moved = position[:, :, None] - windows(position)
    weights = (q[:, :, None] * (windows(k) + moved)).sum(dim=1, keepdim=True).softmax(dim=2)
    return (weights * windows(v)).sum(dim=2).reshape(batch, channels, h, w)


def cross_attention(
    attention: DisentangledAttention, query: Tensor, key: Tensor, value: Tensor
) -> Attended:
    """Return what A and what 1 - A gives; without dropout."""
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    heads = attention.heads
    q, k, v = (
        linear(tokens, weight, bias).unflatten(2, (heads, -1)).transpose(1, 2)
        for tokens, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    a = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    causal, spurious = (
        attention.out_proj((part @ v).transpose(1, 2).flatten(2)) for part in (a, 1 - a)
    )
    return Attended(causal, spurious, a.mean(dim=1))


@contextmanager
def released_way(model: Crocodile) -> Iterator[None]:
    """Inside the block the network computes as released; its weights are the same tensors."""
    patched: list[tuple[nn.Module, str]] = []
    for module in model.modules():
        if isinstance(module, Mixing):
            module.__dict__["_attend"] = partial(window_attention, module)
            patched.append((module, "_attend"))
        if isinstance(module, DisentangledAttention):
            module.__dict__["forward"] = partial(cross_attention, module)
            patched.append((module, "forward"))
    branches = [branch for branch in (model.disease, model.domain) if branch is not None]
    for branch in branches:
        branch.transformer.passes = 2
    try:
        yield
    finally:
        for module, name in patched:
            del module.__dict__[name]
        for branch in branches:
            branch.transformer.passes = 1
