"""U-Net with a ResNet-18 encoder and scSE attention, as layer ensembles use it.

Names and arithmetic of the encoder are torchvision's (see `resnet.py`); the widths are free, so
that a laptop can run the same code.

Source: spec section 2.1; Roy et al., Concurrent spatial and channel squeeze and excitation, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workflow_scripts.networks.resnet import DEPTHS, Block

STRIDE = 32  # sides of an image must be multiples of it: five halvings
REDUCTION = 16  # channels squeezed to one, in the attention


class UNetWidths(NamedTuple):
    """Numbers of channels.

    Attributes:
        encoder: after the stem; the deepest layer has eight times as many.
        decoder: after each of the five decoder blocks, deepest first.
    """

    encoder: int = 64  # ResNet-18
    decoder: tuple[int, ...] = (1024, 512, 256, 128, 64)  # spec section 2.1


class SpatialChannelAttention(nn.Module):
    """scSE: the input weighted by channel plus the input weighted by pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // REDUCTION, 1)
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> the same
        """Return x * cSE(x) + x * sSE(x)."""
        weighted: Tensor = x * self.cSE(x) + x * self.sSE(x)
        return weighted


def conv_bn_relu(n_in: int, n_out: int) -> nn.Sequential:
    """Return a 3 x 3 convolution without bias, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class DecoderBlock(nn.Module):
    """Double the size, join the encoder's features, convolve twice; attention before and after.

    The attention before the first convolution sees the joined features; the last block joins
    nothing and does not apply it, although the released code makes its parameters.
    """

    def __init__(self, n_in: int, n_skip: int, n_out: int) -> None:
        super().__init__()
        self.attention1 = SpatialChannelAttention(n_in + n_skip)
        self.conv1 = conv_bn_relu(n_in + n_skip, n_out)
        self.conv2 = conv_bn_relu(n_out, n_out)
        self.attention2 = SpatialChannelAttention(n_out)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Map (N, n_in, H, W) and (N, n_skip, 2H, 2W) to (N, n_out, 2H, 2W)."""
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        if skip is not None:
            x = self.attention1(torch.cat([x, skip], dim=1))
        result: Tensor = self.attention2(self.conv2(self.conv1(x)))
        return result


class Encoder(nn.Module):
    """ResNet-18 without pooling and classifier, with a stem for `n_in` channels."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = [width]  # of f1 to f5
        is_bottleneck, depths = DEPTHS["resnet18"]
        for number, depth in enumerate(depths):
            before, after = self.channels[-1], width * 2**number
            blocks = [
                Block(
                    is_bottleneck,
                    before if index == 0 else after,
                    after,
                    stride=2 if number > 0 and index == 0 else 1,
                )
                for index in range(depth)
            ]
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
            self.channels.append(after)
        for part in self.modules():
            if isinstance(part, nn.Conv2d) and part is not self.conv1:  # the stem: torch's default
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return f1 to f5: strides 2, 4, 8, 16, 32."""
        features = [self.relu(self.bn1(self.conv1(images)))]
        x = self.maxpool(features[0])
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """Five blocks from the deepest features to full size."""

    def __init__(self, encoder_channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        n_skips = [*reversed(encoder_channels[:-1]), 0]  # f4, f3, f2, f1, none
        n_ins = [encoder_channels[-1], *widths[:-1]]
        blocks = map(DecoderBlock, n_ins, n_skips, widths)
        self.blocks = nn.ModuleList(blocks)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_uniform_(part.weight, mode="fan_in", nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map f1 to f5 to the last decoder map, full size."""
        skips = [*reversed(features[:-1]), None]
        x = features[-1]
        for block, skip in zip(self.blocks, skips, strict=True):
            x = block(x, skip)
        return x


def segmentation_conv(n_in: int, n_classes: int) -> nn.Conv2d:
    """Return the 3 x 3 convolution to logits: Xavier-uniform, zero bias (first commit)."""
    conv = nn.Conv2d(n_in, n_classes, 3, padding=1)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ScseUNet(nn.Module):
    """The network of all four methods; `segmentation_head` makes logits of full size.

    Args:
        n_classes: of the logits, background included.
        n_in: channels of an image.
        widths: numbers of channels.
    """

    def __init__(self, n_classes: int, n_in: int = 1, widths: UNetWidths | None = None) -> None:
        super().__init__()
        widths = widths or UNetWidths()
        self.encoder = Encoder(n_in, widths.encoder)
        self.decoder = Decoder(self.encoder.channels, widths.decoder)
        self.segmentation_head: nn.Module = segmentation_conv(widths.decoder[-1], n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C, H, W) of images (N, n_in, H, W); sides are multiples of 32.

        Raises:
            ValueError: the sides are no multiples of 32.
        """
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(
                f"image of {height} x {width} pixels: expected sides that are multiples of {STRIDE}"
            )
        logits: Tensor = self.segmentation_head(self.decoder(self.encoder(images)))
        return logits
