"""Occlusion scores of a residual network, computed only where the hidden square reaches.

A square of 10 pixels changes 5 x 5 of the 61 x 61 places after the stem and spreads from layer
to layer; everything else is as in the clean image. So the clean activations are kept, and each
convolution runs on the changed patch and the margin that it needs. In evaluation mode that is
exact: the same products are summed, only fewer.

Activations lie as (rows * columns, C), so that gathering a patch copies whole rows of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from workflow_scripts.networks.resnet import Block, ResNet
from workflow_scripts.ssl_transfer.occlusion import relative

if TYPE_CHECKING:
    from workflow_scripts.ssl_transfer.occlusion import Floats, Places

POOL = (3, 2, 1)  # kernel, stride, padding of the stem's pooling


class Extent(NamedTuple):
    """Where the patches of a batch lie along one axis.

    Attributes:
        low, high: first changed place of each patch and the one after the last, shape (N,).
        start: first computed place of each patch, shape (N,); at most `low`.
        width: computed places, equal for all patches; at least high - low.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    start: NDArray[np.int64]
    width: int

    @property
    def end(self) -> NDArray[np.int64]:
        """The place after the last computed one, shape (N,)."""
        return self.start + self.width


class Patch(NamedTuple):
    """Activations of the occluded images where they may differ from the clean ones."""

    values: Tensor  # (N, rows.width, columns.width, C)
    rows: Extent
    columns: Extent


class Level:
    """Clean activations at one depth, with a margin of zeros.

    Zeros also serve the stem's maximum: it follows a rectifier, which gives nothing below zero.
    """

    def __init__(self, values: Tensor, margin: int) -> None:  # values: (1, C, n, n)
        self.side, self.margin = values.shape[-1], margin
        self.padded_side = self.side + 2 * margin
        padded = nn.functional.pad(values[0], (margin,) * 4)  # (C, n + 2 margin, ...)
        self.flat = padded.permute(1, 2, 0).reshape(-1, len(values[0])).contiguous()

    def index(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """Return the places in `flat` of rows (N, h) x columns (N, w), shape (N h w,)."""
        row, column = (
            np.clip(place + self.margin, 0, self.padded_side - 1) for place in (rows, columns)
        )
        flat = row[:, :, None] * self.padded_side + column[:, None, :]
        return torch.from_numpy(flat.reshape(-1)).to(self.flat.device)

    def at(self, rows: Extent, columns: Extent) -> Tensor:
        """Return the clean activations of patches at these extents, (N, h, w, C)."""
        index = self.index(_places(rows.start, rows.width), _places(columns.start, columns.width))
        found = self.flat.index_select(0, index)
        return found.view(len(rows.start), rows.width, columns.width, -1)


class WindowedResNet:
    """Scores of hidden squares of one image, for a residual network in evaluation mode.

    Args:
        network: `networks.resnet.ResNet` without its classifier.
        image: network input, square, shape (3, n, n).
        window: side of the hidden square, pixels.
        fill: its color in the network's input range, shape (3,).
    """

    def __init__(self, network: ResNet, image: Tensor, window: int, fill: Tensor) -> None:
        self.hidden = fill.expand(1, window, window, -1)
        with torch.inference_mode():
            self.stem = fuse_conv_bn_eval(network.conv1, network.bn1)
            self.image = Level(image[None], _padding(self.stem))
            x = conv(self.stem, image[None]).relu_()
            self.stem_level = Level(x, POOL[2])
            x = max_pool2d(x, *POOL)
            self.blocks: list[WindowedBlock] = []
            for number in range(1, 5):
                for block in network.get_submodule(f"layer{number}").children():
                    self.blocks.append(WindowedBlock(block, x))
                    x = self.blocks[-1].clean
            self.last = Level(x, 0)
            self.clean = x.mean(dim=(2, 3))[0].double()  # (F,)

    def __call__(self, rows: Places, columns: Places) -> Floats:
        """Return |f(x) - f(x occluded)| / |f(x)| of each window, shape (N,)."""
        window = self.hidden.shape[1]
        extents = [Extent(start, start + window, start, window) for start in (rows, columns)]
        with torch.inference_mode():
            patch = Patch(self.hidden.expand(len(rows), -1, -1, -1), *extents)
            patch = convolve(self.stem, patch, self.image)
            patch = pool(patch._replace(values=patch.values.relu_()), self.stem_level)
            for block in self.blocks:
                patch = block(patch)
            # features are means over all places, so only the changed ones move them
            change = (patch.values - self.last.at(patch.rows, patch.columns)).sum(dim=(1, 2))
            moved = change.double().norm(dim=1) / self.last.side**2
            return relative(moved, self.clean)


class WindowedBlock:
    """One residual block: clean activations before each convolution that looks around."""

    def __init__(self, block: nn.Module, x: Tensor) -> None:  # x: (1, C, n, n)
        if not isinstance(block, Block):
            raise TypeError(f"expected a residual block, got {type(block).__name__}")
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if block.conv3 is not None and block.bn3 is not None:
            pairs.append((block.conv3, block.bn3))
        self.convolutions = [fuse_conv_bn_eval(one, norm) for one, norm in pairs]
        self.shortcut: nn.Conv2d | None = None
        if block.downsample is not None:
            self.shortcut = _fused(*block.downsample.children())
        self.inputs: list[Level] = []
        out = x
        for number, one in enumerate(self.convolutions):
            self.inputs.append(Level(out, _padding(one)))
            out = conv(one, out)
            if number < len(self.convolutions) - 1:
                out.relu_()
        self.input = Level(x, 0)
        self.clean = (out + (x if self.shortcut is None else conv(self.shortcut, x))).relu_()

    def __call__(self, patch: Patch) -> Patch:
        """Return the patch after the block."""
        out = patch
        for number, (one, level) in enumerate(zip(self.convolutions, self.inputs, strict=True)):
            out = convolve(one, out, level)
            if number < len(self.convolutions) - 1:
                out.values.relu_()
        out.values.add_(self._shortcut_at(patch, out))
        return out._replace(values=out.values.relu_())

    def _shortcut_at(self, patch: Patch, out: Patch) -> Tensor:
        """Return what is added at the places of `out`, (N, h, w, C)."""
        step = 1 if self.shortcut is None else _stride(self.shortcut)
        needed = [_needed(extent, 1, step, 0) for extent in (out.rows, out.columns)]
        around = gather(self.input, patch, needed[0], needed[1])
        if self.shortcut is None:
            return around
        return conv(self.shortcut, around.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _fused(layer: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """Return the convolution with the batch normalisation after it merged in."""
    if not isinstance(layer, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"expected convolution and batch normalisation, got {layer}, {norm}")
    return fuse_conv_bn_eval(layer, norm)


def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return the convolution with the layer's own padding; (N, C, h, w)."""
    return conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)


def convolve(layer: nn.Conv2d, patch: Patch, level: Level) -> Patch:
    """Return the patch after a convolution; `level` holds its clean input."""
    kernel, stride, padding = layer.kernel_size[0], _stride(layer), _padding(layer)
    rows, columns, around = _spread(patch, level, kernel, stride, padding)
    out = conv2d(around.permute(0, 3, 1, 2), layer.weight, layer.bias, stride)
    return Patch(out.permute(0, 2, 3, 1), rows, columns)


def pool(patch: Patch, level: Level) -> Patch:
    """Return the patch after the stem's maximum; `level` holds its clean input."""
    rows, columns, around = _spread(patch, level, *POOL)
    out = max_pool2d(around.permute(0, 3, 1, 2), POOL[0], POOL[1])
    return Patch(out.permute(0, 2, 3, 1), rows, columns)


def _spread(
    patch: Patch, level: Level, kernel: int, stride: int, padding: int
) -> tuple[Extent, Extent, Tensor]:
    """Return where the output changes, and the input that is needed for it, (N, h, w, C)."""
    n_out = (level.side + 2 * padding - kernel) // stride + 1
    rows, columns = (
        _changed(extent, n_out, kernel, stride, padding) for extent in (patch.rows, patch.columns)
    )
    needed = [_needed(extent, kernel, stride, padding) for extent in (rows, columns)]
    return rows, columns, gather(level, patch, needed[0], needed[1])


def _changed(extent: Extent, n_out: int, kernel: int, stride: int, padding: int) -> Extent:
    """Return which outputs of a sliding kernel see a changed input."""
    low = np.clip(-((kernel - 1 - padding - extent.low) // stride), 0, n_out)  # rounded up
    high = np.clip((extent.high - 1 + padding) // stride + 1, 0, n_out)
    width = int((high - low).max())
    return Extent(low, high, np.clip(low, 0, n_out - width), width)


def _needed(extent: Extent, kernel: int, stride: int, padding: int) -> Extent:
    """Return which inputs the computed outputs of a sliding kernel need."""
    start = extent.start * stride - padding
    width = (extent.width - 1) * stride + kernel
    return Extent(start, start + width, start, width)


def gather(level: Level, patch: Patch, rows: Extent, columns: Extent) -> Tensor:
    """Return the occluded images' activations at (rows, columns), (N, h, w, C).

    Clean ones with the patch laid over them. A patch that reaches beyond the wanted places gets
    room first, which is cut off afterwards.
    """
    pairs = ((patch.rows, rows), (patch.columns, columns))
    if all(_is_same(mine, wanted) for mine, wanted in pairs):
        return patch.values
    before, after = (
        [max(0, int(beyond.max())) for beyond in sides]
        for sides in (
            [wanted.start - mine.start for mine, wanted in pairs],
            [mine.end - wanted.end for mine, wanted in pairs],
        )
    )
    room = [
        Extent(one.low, one.high, one.start - low, one.width + low + high)
        for one, low, high in zip((rows, columns), before, after, strict=True)
    ]
    whole = level.at(*room)  # (N, h + more, w + more, C)
    _lay_over(whole, patch, *room)
    if not any(before + after):
        return whole
    inside = [slice(low, low + one.width) for low, one in zip(before, (rows, columns), strict=True)]
    return whole[:, inside[0], inside[1]].contiguous()


def _lay_over(whole: Tensor, patch: Patch, rows: Extent, columns: Extent) -> None:
    """Write the patch into `whole`, whose places (rows, columns) contain the patch's."""
    count, height, width, channels = whole.shape
    row = _places(patch.rows.start - rows.start, patch.rows.width)
    column = _places(patch.columns.start - columns.start, patch.columns.width)
    first = np.arange(count)[:, None, None] * (height * width)
    index = first + row[:, :, None] * width + column[:, None, :]
    where = torch.from_numpy(index.reshape(-1)).to(whole.device)
    whole.view(-1, channels).index_copy_(0, where, patch.values.reshape(-1, channels))


def _is_same(one: Extent, other: Extent) -> bool:
    return one.width == other.width and bool((one.start == other.start).all())


def _places(start: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return the places of each patch along an axis, shape (N, width)."""
    places: NDArray[np.int64] = start[:, None] + np.arange(width)
    return places


def _stride(layer: nn.Conv2d) -> int:
    return layer.stride[0]


def _padding(layer: nn.Conv2d) -> int:
    return int(layer.padding[0])
