"""The deep image prior's generator: an encoder-decoder with skips that turns noise into an image.

Untrained, it draws natural-looking images more readily than noise; that alone is the prior.

Source: Ulyanov et al., Deep image prior, 2018, as SSL transfer sets it up (spec section 9,
golden `dip_network` and `dip_tiny_forward`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CHANNELS = (16, 32, 64, 128, 128, 128)  # of the levels, outermost first (spec section 9)
KERNELS = (7, 7, 5, 5, 3, 3)  # spec section 9
NOISE_CHANNELS = 32  # spec section 9
SKIP_CHANNELS = 4  # spec section 9
SLOPE = 0.2  # of the leaky rectifier (spec section 9)


class Generator(nn.Module):
    """Noise (N, n_in, H, W) to images (N, 3, H, W); H and W divisible by 2 to the levels' number.

    Batch normalisation stays in training mode throughout, also for the final image.

    Args:
        n_in: channels of the noise.
        channels: of each level.
        kernels: of each level's convolutions.
        n_skip: channels of the skip connections.
    """

    def __init__(
        self,
        n_in: int = NOISE_CHANNELS,
        channels: Sequence[int] = CHANNELS,
        kernels: Sequence[int] = KERNELS,
        n_skip: int = SKIP_CHANNELS,
    ) -> None:
        super().__init__()
        self.outermost = Level(n_in, channels, kernels, n_skip)
        self.to_image = nn.Conv2d(channels[0], 3, 1)

    def forward(self, noise: Tensor) -> Tensor:
        """Return the image, any range."""
        image: Tensor = self.to_image(self.outermost(noise))
        return image


class Level(nn.Module):
    """One halving of the resolution, with all the levels inside it."""

    def __init__(
        self, n_in: int, channels: Sequence[int], kernels: Sequence[int], n_skip: int
    ) -> None:
        super().__init__()
        width, kernel = channels[0], kernels[0]
        self.skip = _unit(n_in, n_skip, 1)
        self.down = _unit(n_in, width, kernel, halve=True)
        self.same = _unit(width, width, kernel)
        self.inner: nn.Module | None = None
        n_deep = width
        if len(channels) > 1:
            self.inner = Level(width, channels[1:], kernels[1:], n_skip)
            n_deep = channels[1]
        self.norm = nn.BatchNorm2d(n_skip + n_deep)
        self.up = _unit(n_skip + n_deep, width, kernel)
        self.mix = _unit(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (N, n_in, H, W) -> (N, width, H, W)
        """Return features at the resolution of the input."""
        deep = self.same(self.down(x))
        if self.inner is not None:
            deep = self.inner(deep)
        deep = nn.functional.interpolate(deep, scale_factor=2, mode="nearest")
        joined = torch.cat([self.skip(x), deep], dim=1)
        features: Tensor = self.mix(self.up(self.norm(joined)))
        return features


def _unit(n_in: int, n_out: int, kernel: int, halve: bool = False) -> nn.Sequential:
    """Return convolution, (2 x 2 mean,) batch normalisation, leaky rectifier."""
    convolution = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)
    pool = [nn.AvgPool2d(2)] if halve else []
    return nn.Sequential(convolution, *pool, nn.BatchNorm2d(n_out), nn.LeakyReLU(SLOPE))
