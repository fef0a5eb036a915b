"""The five sub-networks: three of the fast network, two of the slow one.

    image ---E---> z_i ---H---> z_s ---D_s---> logits ---C---> corrected logits
                    |
                    +---D_i---> reconstructed image

E is the general encoder, H the code filter, D_s and D_i the decoders of segmentation and image
(the fast network); C is the slow network, an autoencoder of class maps. Widths for `width` 16:
2,528,953 parameters. Names, shapes and order of the parameters are the released code's
(`FCN_16_standard`, golden `network`). Source: spec section 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_CLASSES = 4  # background, LV, MYO, RV
WIDTH = 16  # channels of the first layer: 64 of the original, divided by 4
SLOPE = 0.2  # of every leaky ReLU
MULTIPLE = 16  # height and width of an image: four times halved
TEMPERATURE = 2.0  # of the softmax before the slow network

Sharing = Literal["separate", "share_code", "without_filter"]
ImageOutput = Literal["sigmoid", "linear"]


class Norm(nn.BatchNorm2d):
    """Batch normalisation that a hard example may pass without leaving a trace.

    While `is_protected`, it uses the batch's statistics, updates no running statistics, and
    scale and shift get no gradient (spec section 9, BN protection).
    """

    is_protected = False
    _before: tuple[Tensor, ...] | None = None  # running statistics before the last update

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """Normalise maps, shape (N, C, H, W)."""
        if not self.is_protected:
            self._before = tuple(one.clone() for one in self._running()) if self.training else None
            return super().forward(input)
        scale, shift = self.weight.detach(), self.bias.detach()
        return F.batch_norm(input, None, None, scale, shift, training=True, eps=self.eps)

    def track_again(self) -> None:
        """Update the running statistics as a second, equal pass in training would.

        With r_0 before and r_1 after the last pass, whose batch had the statistics s:
        r_2 = r_1 + m (s - r_1) = r_1 + (1 - m) (r_1 - r_0), m being the momentum.

        Raises:
            RuntimeError: there was no pass in training.
        """
        if self._before is None or self.momentum is None or self.num_batches_tracked is None:
            raise RuntimeError("no training pass to repeat")
        for before, now in zip(self._before, self._running(), strict=True):
            # .data: as a pass in training does, without telling the graph that waits for backward
            now.data += (1 - self.momentum) * (now.data - before)
        self.num_batches_tracked += 1
        self._before = None

    def _running(self) -> tuple[Tensor, Tensor]:
        if self.running_mean is None or self.running_var is None:
            raise RuntimeError("a norm without running statistics")
        return self.running_mean, self.running_var


@contextmanager
def protected(*modules: nn.Module) -> Iterator[None]:
    """Protect all norms of some modules inside a block."""
    norms = [part for one in modules for part in one.modules() if isinstance(part, Norm)]
    for norm in norms:
        norm.is_protected = True
    try:
        yield
    finally:
        for norm in norms:
            norm.is_protected = False


def track_again(module: nn.Module) -> None:
    """Let all norms of a module count the last pass twice."""
    for part in module.modules():
        if isinstance(part, Norm):
            part.track_again()


def conv_pair(n_in: int, n_out: int) -> nn.Sequential:
    """Return two 3x3 convolutions with norms, and a leaky ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1),
        Norm(n_out),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(n_out, n_out, 3, padding=1),
        Norm(n_out),
    )


class Down(nn.Module):
    """Halve the map with a strided convolution, then a residual pair."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(n_in, n_in, 3, stride=2, padding=1)
        self.conv = conv_pair(n_in, n_out)
        self.conv_input = nn.Conv2d(n_in, n_out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, n_in, H, W) to (N, n_out, H/2, W/2)."""
        half = self.down(maps)
        return F.leaky_relu(self.conv_input(half) + self.conv(half), SLOPE)


class Up(nn.Module):
    """Double the map, by repeating pixels or by a transposed convolution, then a residual pair."""

    def __init__(self, n_in: int, n_out: int, is_learned: bool) -> None:
        super().__init__()
        self.is_learned = is_learned
        if is_learned:
            self.up: nn.Module = nn.ConvTranspose2d(n_in, n_in, 2, stride=2)
        else:
            self.up = nn.UpsamplingNearest2d(scale_factor=2)
        self.conv = conv_pair(n_in, n_out)
        self.conv_input = nn.Conv2d(n_in, n_out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, n_in, H, W) to (N, n_out, 2H, 2W)."""
        double = self.up(maps)
        # a 1x1 convolution of repeated pixels repeats its results: a quarter of the work
        repeated = None if self.is_learned else self.up(self.conv_input(maps))
        shortcut = self.conv_input(double) if repeated is None else repeated
        return F.leaky_relu(shortcut + self.conv(double), SLOPE)


class GeneralEncoder(nn.Module):
    """Bring an image or a class map to a code of 1/16 of its height and width."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.inc = conv_pair(n_in, width)
        self.down1 = Down(width, 2 * width)
        self.down2 = Down(2 * width, 4 * width)
        self.down3 = Down(4 * width, 8 * width)
        self.down4 = Down(8 * width, 8 * width)
        self.final_conv = nn.Sequential(nn.Conv2d(8 * width, 8 * width, 1), Norm(8 * width))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, n_in, H, W) to a code >= 0 of shape (N, 8 width, H/16, W/16)."""
        maps = F.leaky_relu(self.inc(maps), SLOPE)
        for down in (self.down1, self.down2, self.down3, self.down4):
            maps = down(maps)
        return F.relu(self.final_conv(maps))


class Codes(NamedTuple):
    """What the encoder makes of an image; each (N, 8 width, H/16, W/16), >= 0."""

    image: Tensor  # z_i
    shape: Tensor  # z_s


class ImageEncoder(nn.Module):
    """E and H: from an image to its image code and its shape code."""

    def __init__(self, width: int, sharing: Sharing) -> None:
        super().__init__()
        self.sharing = sharing
        self.general_encoder = GeneralEncoder(1, width)
        self.code_decoupler = conv_pair(8 * width, 8 * width)
        if sharing == "without_filter":  # kept, as released, but nothing reaches it
            self.code_decoupler.requires_grad_(False)

    def forward(self, image: Tensor) -> Codes:
        """Encode images, shape (N, 1, H, W)."""
        code = self.general_encoder(image)
        if self.sharing == "without_filter":
            return Codes(code, code)
        filtered = F.relu(self.code_decoupler(code))
        return Codes(filtered if self.sharing == "share_code" else code, filtered)


class Decoder(nn.Module):
    """From a code to maps of the image's size."""

    def __init__(self, n_out: int, width: int, is_learned: bool, has_sigmoid: bool = False) -> None:
        super().__init__()
        self.has_sigmoid = has_sigmoid
        self.up1 = Up(8 * width, 4 * width, is_learned)
        self.up2 = Up(4 * width, 2 * width, is_learned)
        self.up3 = Up(2 * width, width, is_learned)
        self.up4 = Up(width, width, is_learned)
        self.final_conv = nn.Conv2d(width, n_out, 1)

    def forward(self, code: Tensor) -> Tensor:
        """Map a code (N, 8 width, h, w) to (N, n_out, 16 h, 16 w)."""
        maps = code
        for up in (self.up1, self.up2, self.up3, self.up4):
            maps = up(maps)
        maps = self.final_conv(maps)
        return torch.sigmoid(maps) if self.has_sigmoid else maps


class CooperativeNetworks(nn.Module):
    """All five sub-networks, made and initialised in the released order.

    Args:
        width: channels of the first layer.
        sharing: both decoders read their own code, both the filtered one (`share_code`), or both
            the unfiltered one (`without_filter`).
        image_output: last activation of the image decoder; `linear` in the first public release.
    """

    def __init__(
        self,
        width: int = WIDTH,
        sharing: Sharing = "separate",
        image_output: ImageOutput = "sigmoid",
    ) -> None:
        super().__init__()
        self.image_encoder = ImageEncoder(width, sharing)
        self.segmentation_decoder = Decoder(N_CLASSES, width, is_learned=False)
        self.image_decoder = Decoder(
            1, width, is_learned=True, has_sigmoid=image_output == "sigmoid"
        )
        self.shape_encoder = GeneralEncoder(N_CLASSES, width)
        self.shape_decoder = Decoder(N_CLASSES, width, is_learned=False)
        for module in (
            *(self.image_encoder, self.shape_decoder, self.shape_encoder),
            *(self.segmentation_decoder, self.image_decoder),
        ):
            module.apply(initialise)
        for decoder in (self.segmentation_decoder, self.shape_decoder):
            nn.init.zeros_(decoder.final_conv.bias)  # type: ignore[arg-type]  # has a bias

    def segment(self, image: Tensor) -> Tensor:
        """Return the fast network's logits of images, (N, 1, H, W) to (N, 4, H, W)."""
        logits: Tensor = self.segmentation_decoder(self.image_encoder(image).shape)
        return logits

    def correct(self, class_map: Tensor) -> Tensor:
        """Return the slow network's logits of a class map, both (N, 4, H, W)."""
        logits: Tensor = self.shape_decoder(self.shape_encoder(class_map))
        return logits

    def predict(self, image: Tensor, stn_passes: int) -> Tensor:
        """Return the logits after `stn_passes` corrections; 0 are the fast network's alone.

        The released `n_iter` is one more.
        """
        logits = self.segment(image)
        for _ in range(stn_passes):
            logits = self.correct(map_of_logits(logits))
        return logits


def initialise(module: nn.Module) -> None:
    """Draw one layer's weights as released; a transposed convolution keeps torch's own."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0, mode="fan_in")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def map_of_logits(logits: Tensor) -> Tensor:
    """Return the soft class map that the slow network reads, shape (N, C, H, W)."""
    return torch.softmax(logits / TEMPERATURE, dim=1)


def map_of_labels(labels: Tensor, n_classes: int = N_CLASSES) -> Tensor:
    """Return exact one-hot maps of labels, (N, H, W) to (N, C, H, W), float."""
    return F.one_hot(labels, n_classes).movedim(-1, 1).to(torch.get_default_dtype())
