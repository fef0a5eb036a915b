"""Residual networks with the tensor names and the arithmetic of torchvision's.

Importing torchvision costs about 5 CPU-seconds a process, nearly all of it for parts that a
forward pass never uses. These networks load at once; tests hold them equal to torchvision's:
the same tensors, the same initialisation from the same seed, the same features bit for bit.

Source: He et al., Deep residual learning for image recognition, 2015; the stride stands in the
3 x 3 convolution of a bottleneck, as in torchvision.
"""

from __future__ import annotations

from torch import Tensor, nn

DEPTHS: dict[str, tuple[bool, tuple[int, int, int, int]]] = {  # bottleneck?, blocks of each layer
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
EXPANSION = 4  # channels that leave a bottleneck, of those inside
N_CLASSES = 1000  # ImageNet


def resnet(name: str) -> ResNet:
    """Return a freshly initialised network with its ImageNet classifier.

    Raises:
        KeyError: `name` is not in `DEPTHS`.
    """
    is_bottleneck, depths = DEPTHS[name]
    return ResNet(is_bottleneck, depths)


def _conv(n_in: int, n_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Convolutions around which the input is added: two of 3 x 3, or 1 x 1, 3 x 3, 1 x 1."""

    def __init__(self, is_bottleneck: bool, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        n_out = width * EXPANSION if is_bottleneck else width
        first, second = (1, 3) if is_bottleneck else (3, 3)
        first_stride, second_stride = (1, stride) if is_bottleneck else (stride, 1)
        self.conv1 = _conv(n_in, width, first, first_stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, second, second_stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, n_out, 1) if is_bottleneck else None
        self.bn3 = nn.BatchNorm2d(n_out) if is_bottleneck else None
        self.relu = nn.ReLU(inplace=True)
        changes = stride != 1 or n_in != n_out
        self.downsample = (
            nn.Sequential(_conv(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out)) if changes else None
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, n_in, H, W) -> (N, n_out, H/stride, W/stride)
        """Return the sum of the convolved and the (projected) input, rectified."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None and self.bn3 is not None:
            out = self.bn3(self.conv3(self.relu(out)))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        out += shortcut
        rectified: Tensor = self.relu(out)
        return rectified


class ResNet(nn.Module):
    """Stem, four layers of blocks, global average pool, linear classifier."""

    def __init__(self, is_bottleneck: bool, depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        n_in = 64
        for number, depth in enumerate(depths):
            width = 64 * 2**number
            n_out = width * EXPANSION if is_bottleneck else width
            strides = [1 if number == 0 else 2] + [1] * (depth - 1)
            blocks = [
                Block(is_bottleneck, n_in if index == 0 else n_out, width, stride)
                for index, stride in enumerate(strides)
            ]
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
            n_in = n_out
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(n_in, N_CLASSES)
        self._initialise()

    def _initialise(self) -> None:
        """Draw the convolutions as the paper does; the draws come in torchvision's order."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores of images (N, 3, H, W), or features where `fc` was taken out."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (N, 64, H/4, W/4)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)  # the last: (N, F, H/32, W/32)
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores
