"""Image to feature map: the dilated ResNet of the paper, or a small network for small machines."""

from __future__ import annotations

from torch import Tensor, nn

from workflow_scripts.networks.resnet import Block, ResNet
from workflow_scripts.problems import refuse

STRIDE = 16  # pixels of the image behind one place of the feature map
EPSILON = 1e-5  # of the batch normalisation
SMALL_CHANNELS = (16, 32, 64, 64)  # ours: learns the phantoms on a CPU in minutes


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics, weight and bias are fixed."""

    def __init__(self, learned: nn.BatchNorm2d) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(learned, name).detach().clone())
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:  # (B, C, h, w) -> (B, C, h, w)
        """Return x * w / sqrt(var + eps) + b - mean * w / sqrt(var + eps)."""
        scale = self.weight * (self.running_var + EPSILON).rsqrt()  # (C,)
        shift = self.bias - self.running_mean * scale
        return x * scale[None, :, None, None].to(x) + shift[None, :, None, None].to(x)


class DilatedResNet(nn.Module):
    """A ResNet with bottlenecks as a trunk: output stride 16, frozen norms, frozen beginning.

    The last layer is dilated instead of strided: its first block keeps dilation 1, the others
    have 2. The first convolution and layer1 are never trained.

    Args:
        network: one channel in; its classifier is dropped.

    Source: CROCODILE spec 3.1.
    """

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.maxpool = network.maxpool
        for number in range(1, 5):
            self.add_module(f"layer{number}", network.get_submodule(f"layer{number}"))
        _dilate(self.get_submodule("layer4"))
        _freeze_norms(self)
        self.channels = _last_convolution(self).out_channels
        for part in (self.conv1, self.get_submodule("layer1")):
            part.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map, (B, 1, S, S) -> (B, 2048, S/16, S/16)."""
        x: Tensor = self.maxpool(self.bn1(self.conv1(images)).relu())  # (B, 64, S/4, S/4)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return x


class SmallTrunk(nn.Module):
    """Four strided convolutions: a trunk for phantoms (ours)."""

    def __init__(self, channels: tuple[int, ...] = SMALL_CHANNELS) -> None:
        super().__init__()
        self.channels = channels[-1]
        layers: list[nn.Module] = []
        for n_in, n_out in zip((1, *channels), channels, strict=False):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(4, n_out)]
            layers += [nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map, (B, 1, S, S) -> (B, 64, S/16, S/16)."""
        found: Tensor = self.layers(images)
        return found


def as_trunk(network: nn.Module, where: str) -> DilatedResNet:
    """Return a checkpoint's network as a trunk.

    Args:
        network: a feature network of `checkpoints.backbone`.
        where: names the checkpoint in the message.

    Raises:
        InputError: if it is no gray ResNet with bottlenecks.
    """
    is_bottleneck = isinstance(network, ResNet) and _last_convolution(network).kernel_size == (1, 1)
    if not (isinstance(network, ResNet) and is_bottleneck and network.conv1.in_channels == 1):
        raise refuse(
            where,
            "a ResNet with bottlenecks for gray images, such as resnet50+gray",
            type(network).__name__,
            "name such a checkpoint; basic blocks (resnet18, resnet34) cannot be dilated",
        )
    return DilatedResNet(network)


def _dilate(layer: nn.Module) -> None:
    """Take the stride out of the last layer, and dilate all its blocks but the first."""
    for number, block in enumerate(layer.children()):
        if not isinstance(block, Block):
            raise TypeError(f"a layer of a ResNet holds blocks, not {type(block).__name__}")
        block.conv2.stride = (1, 1)
        if number:
            block.conv2.dilation = block.conv2.padding = (2, 2)
        if block.downsample is not None:
            shortcut = block.downsample[0]
            if isinstance(shortcut, nn.Conv2d):
                shortcut.stride = (1, 1)


def _freeze_norms(network: nn.Module) -> None:
    """Put frozen norms in place of the learned ones."""
    for module in list(network.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, nn.BatchNorm2d):
                setattr(module, name, FrozenBatchNorm(part))


def _last_convolution(network: nn.Module) -> nn.Conv2d:
    blocks = [part for part in network.modules() if isinstance(part, Block)]
    last = blocks[-1]
    return last.conv3 if last.conv3 is not None else last.conv2
