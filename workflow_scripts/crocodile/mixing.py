"""The feature-mixing block that both branches share.

A feature map F (B, C, h, w) goes three ways that are put together again: self-attention mixed
with convolution (twice, added), a gate from the global average, and a triple-path attention.
Source: CROCODILE spec 3 (table), 3.2, 3.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from workflow_scripts.crocodile.protocols import CrocodileOptions

WINDOW = 7  # side of the attention's window (released code)
MARGIN = WINDOW // 2  # reflected at the border, so a feature map needs at least 4 x 4
HEADS = 4  # of the window attention (released code)
KERNEL = 3  # side of the shift convolution; nine one-hot kernels at the start


def window_attention(q: Tensor, k: Tensor, v: Tensor, form: str) -> Tensor:
    """Let each place attend to its 7 x 7 window, reflected at the border.

    a_j(u) = softmax over j of <q(u), k(u + j)>, out(u) = sum_j a_j(u) v(u + j), j in 49 offsets.

    Args:
        q: queries, already scaled, shape (B, d, h, w).
        k: keys, same shape.
        v: values, same shape.
        form: `unfold` copies the 49 shifted maps of k and v (released); `matrix` takes the scores
            of a window from the product of all places, N^2 numbers instead of 49 N d.

    Returns:
        shape (B, d, h, w); equal up to rounding in both forms.
    """
    batch, d, h, w = q.shape
    if form == "unfold":
        margins = (MARGIN,) * 4
        k_all, v_all = (
            unfold(pad(part, margins, mode="reflect"), WINDOW).view(batch, d, WINDOW**2, h, w)
            for part in (k, v)
        )
        weights = (q[:, :, None] * k_all).sum(dim=1, keepdim=True).softmax(dim=2)
        return (weights * v_all).sum(dim=2)
    places = window_places(h, w).to(q.device).expand(batch, -1, -1)  # (B, N, 49)
    products = q.flatten(2).transpose(1, 2) @ k.flatten(2)  # (B, N, N)
    weights = products.gather(2, places).softmax(dim=2)  # (B, N, 49)
    # A place may stand in a window several times, by reflection: its weights add up.
    attention = torch.zeros_like(products, dtype=weights.dtype).scatter_add(2, places, weights)
    return (attention.to(v.dtype) @ v.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(q.shape)


def window_places(h: int, w: int) -> Tensor:
    """Return which place stands at each offset of each place's window, shape (N, 49)."""
    numbers = torch.arange(h * w, dtype=torch.float32).view(1, 1, h, w)  # exact below 2^24
    shifted = unfold(pad(numbers, (MARGIN,) * 4, mode="reflect"), WINDOW)  # (1, 49, N)
    return shifted[0].T.long()


class Mixing(nn.Module):
    """Window attention and a shift convolution from the same queries, keys and values.

    With d = C / 4 features a head: out = r1 * attention + r2 * convolution, r1 and r2 learned.
    """

    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        d = channels // HEADS
        self.form = form
        self.pre_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.rate_attention = nn.Parameter(torch.full((1,), 0.5))
        self.rate_convolution = nn.Parameter(torch.full((1,), 0.5))
        self.q_conv = nn.Conv2d(channels, channels, 1)
        self.k_conv = nn.Conv2d(channels, channels, 1)
        self.v_conv = nn.Conv2d(channels, channels, 1)
        self.pos_conv = nn.Conv2d(2, d, 1)
        self.kernel_fc = nn.Conv2d(3 * HEADS, KERNEL**2, 1, bias=False)
        self.shift_conv = nn.Conv2d(  # without bias: the released reset turns it into None
            KERNEL**2 * d, channels, KERNEL, padding=1, groups=d, bias=False
        )
        self.shift_conv.weight = nn.Parameter(shift_kernels(channels))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Convolve 3 x 3, then mix; (B, C, h, w) -> (B, C, h, w)."""
        return self.mix(self.pre_conv(feature_map))

    def mix(self, x: Tensor) -> Tensor:
        """Return r1 * attention + r2 * convolution of x (B, C, h, w)."""
        q, k, v = self.q_conv(x), self.k_conv(x), self.v_conv(x)  # each (B, C, h, w)
        attended = self.rate_attention * self._attend(q, k, v)
        return attended + self.rate_convolution * self._convolve(q, k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, channels, h, w = q.shape
        d = channels // HEADS
        q, k, v = (part.reshape(batch * HEADS, d, h, w) for part in (q, k, v))
        # e_j(u) = <q(u), k(u+j) + p(u) - p(u+j)> / sqrt(d); the term with p(u) is the same for all
        # j, so the softmax drops it.
        k = k - self.pos_conv(grid_places(h, w).to(k))  # (B heads, d, h, w)
        out = window_attention(q / math.sqrt(d), k, v, self.form)
        return out.reshape(batch, channels, h, w)

    def _convolve(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, channels, h, w = q.shape
        d = channels // HEADS
        planes = torch.cat([part.reshape(batch, HEADS, d, h * w) for part in (q, k, v)], dim=1)
        kernels = self.kernel_fc(planes)  # (B, 9, d, h w)
        grouped = kernels.permute(0, 2, 1, 3).reshape(batch, d * KERNEL**2, h, w)
        convolved: Tensor = self.shift_conv(grouped)
        return convolved


def grid_places(h: int, w: int) -> Tensor:
    """Return x and y of each place, from -1 to 1, shape (1, 2, h, w)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    return torch.stack([x, y])[None]


def shift_kernels(channels: int) -> Tensor:
    """Return nine one-hot 3 x 3 kernels for each channel, shape (C, 9, 3, 3)."""
    return torch.eye(KERNEL**2).view(1, -1, KERNEL, KERNEL).repeat(channels, 1, 1, 1)


class TriplePathAttention(nn.Module):
    """ReLU(conv 1 x 1 + conv 3 x 3 + sigmoid(conv 1 x 1 of the global average) * F)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.se_conv = nn.Conv2d(channels, channels, 1)
        self.conv1x1 = nn.Conv2d(channels, channels, 1)
        self.conv3x3 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        gate = self.se_conv(feature_map.mean(dim=(2, 3), keepdim=True)).sigmoid()
        attended: Tensor = (
            self.conv1x1(feature_map) + self.conv3x3(feature_map) + gate * feature_map
        ).relu()
        return attended


class SharedMixing(nn.Module):
    """The whole block, and the projection to the transformer's features where they differ.

    Args:
        channels: C of the trunk, a multiple of 4.
        features: H of the transformer; equal to C in the released network.
        options: of the protocol.
    """

    def __init__(self, channels: int, features: int, options: CrocodileOptions) -> None:
        super().__init__()
        self.mix_a = Mixing(channels, options.window_form)
        self.mix_b = Mixing(channels, options.window_form)
        self.gate_conv1d = nn.Conv1d(channels, channels, 1)
        self.att = TriplePathAttention(channels)
        self.fuse_conv = nn.Conv1d(2 * channels, channels, 1)
        self.projection = (
            nn.Identity() if channels == features else nn.Conv2d(channels, features, 1)
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the tokens' map, (B, C, h, w) -> (B, H, h, w)."""
        mixed = self.mix_a(feature_map) + self.mix_b(feature_map)  # M
        gate = self.gate_conv1d(feature_map.mean(dim=(2, 3))[:, :, None]).sigmoid()  # g (B, C, 1)
        attended = self.att(feature_map).flatten(2)  # T (B, C, N)
        fused = self.fuse_conv(torch.cat([mixed.flatten(2), gate + attended], dim=1))
        projected: Tensor = self.projection(fused.view_as(feature_map))
        return projected
