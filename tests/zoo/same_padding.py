"""torchvision's ResNet with the SAME padding of TensorFlow and JAX, to compare weights alone.

At stride 2 SAME pads less on the left than torchvision does: (2, 3) against (3, 3) for the first
convolution, (0, 1) against (1, 1) for a 3 x 3 kernel on an even side. The product keeps
torchvision's padding, as the released code did; only these tests change it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def padded(image: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad a square image so that a strided window covers it as SAME does."""
    side = image.shape[-1]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    before, after = total // 2, total - total // 2
    return functional.pad(image, (before, after, before, after), value=value)


class SamePool(nn.Module):
    """A 3 x 3 max-pool of stride 2."""

    def forward(self, image: Tensor) -> Tensor:
        return functional.max_pool2d(padded(image, 3, 2, -torch.inf), 3, 2)


class SameConvolution(nn.Conv2d):
    """A convolution without bias."""

    def forward(self, image: Tensor) -> Tensor:
        wide = padded(image, self.kernel_size[0], self.stride[0])
        return functional.conv2d(wide, self.weight, None, self.stride)


def with_same_pool(network: nn.Module) -> nn.Module:
    """Change the max-pool of a ResNet: SimCLR's network."""
    network.maxpool = SamePool()
    return network


def with_same_padding(network: nn.Module) -> nn.Module:
    """Change the max-pool and every convolution of a ResNet: Haiku's network."""
    for part in network.modules():
        if type(part) is nn.Conv2d:
            part.__class__ = SameConvolution
    return with_same_pool(network)
