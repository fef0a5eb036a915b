"""Plain reference: one cooperative training step, as the released code goes about it.

Slices are augmented one after another with NumPy and SciPy; each targeted mask decodes a copy of
its code once more for the gradient; five optimisers; ordinary memory layout. Source: the paper's
protocol (augmentation policy, networks, masks, loss terms).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from workflow_scripts.cooperative_training.augmentation import CaseDraw
    from workflow_scripts.cooperative_training.slices import Item

Pair = tuple[NDArray[Any], NDArray[Any]]  # image and labels
N_CLASSES, SLOPE, LR = 4, 0.2, 1e-4
NOISE = 0.05
PARTS = ("image_encoder", "segmentation_decoder", "shape_encoder", "shape_decoder", "image_decoder")


def pair(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.LeakyReLU(SLOPE)),
        *(nn.Conv2d(n_out, n_out, 3, padding=1), nn.BatchNorm2d(n_out)),
    )


class Residual(nn.Module):
    """A change of size, then a pair of convolutions beside a 1x1 convolution."""

    def __init__(self, n_in: int, n_out: int, name: str, resize: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, resize)
        self.conv, self.conv_input = pair(n_in, n_out), nn.Conv2d(n_in, n_out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        maps = getattr(self, self.name)(maps)
        return F.leaky_relu(self.conv_input(maps) + self.conv(maps), SLOPE)


def down(n_in: int, n_out: int) -> Residual:
    return Residual(n_in, n_out, "down", nn.Conv2d(n_in, n_in, 3, stride=2, padding=1))


def up(n_in: int, n_out: int, is_learned: bool) -> Residual:
    plain = nn.UpsamplingNearest2d(scale_factor=2)
    return Residual(
        n_in, n_out, "up", nn.ConvTranspose2d(n_in, n_in, 2, stride=2) if is_learned else plain
    )


class Encoder(nn.Module):
    def __init__(self, n_in: int, w: int) -> None:
        super().__init__()
        self.inc = pair(n_in, w)
        self.down1, self.down2 = down(w, 2 * w), down(2 * w, 4 * w)
        self.down3, self.down4 = down(4 * w, 8 * w), down(8 * w, 8 * w)
        self.final_conv = nn.Sequential(nn.Conv2d(8 * w, 8 * w, 1), nn.BatchNorm2d(8 * w))

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.leaky_relu(self.inc(maps), SLOPE)
        for part in (self.down1, self.down2, self.down3, self.down4):
            maps = part(maps)
        return F.relu(self.final_conv(maps))


class ImageEncoder(nn.Module):
    def __init__(self, w: int) -> None:
        super().__init__()
        self.general_encoder, self.code_decoupler = Encoder(1, w), pair(8 * w, 8 * w)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        code = self.general_encoder(image)
        return code, F.relu(self.code_decoupler(code))


class Decoder(nn.Module):
    def __init__(self, n_out: int, w: int, is_learned: bool) -> None:
        super().__init__()
        self.is_image = is_learned
        self.up1, self.up2 = up(8 * w, 4 * w, is_learned), up(4 * w, 2 * w, is_learned)
        self.up3, self.up4 = up(2 * w, w, is_learned), up(w, w, is_learned)
        self.final_conv = nn.Conv2d(w, n_out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        for part in (self.up1, self.up2, self.up3, self.up4):
            maps = part(maps)
        maps = self.final_conv(maps)
        return torch.sigmoid(maps) if self.is_image else maps


class PlainNetworks(nn.Module):
    """The five sub-networks, one optimiser each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_encoder = ImageEncoder(width)
        self.segmentation_decoder = Decoder(N_CLASSES, width, False)
        self.image_decoder = Decoder(1, width, True)
        self.shape_encoder = Encoder(N_CLASSES, width)
        self.shape_decoder = Decoder(N_CLASSES, width, False)

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(getattr(self, name).parameters(), lr=LR) for name in PARTS]

    def correct(self, maps: Tensor) -> Tensor:
        return self.shape_decoder(self.shape_encoder(maps))


@contextmanager
def protected(*modules: nn.Module) -> Iterator[None]:
    """Freeze scale and shift and stop the running statistics while a block runs."""
    norms = [n for one in modules for n in one.modules() if isinstance(n, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
        norm.requires_grad_(False)
    yield
    for norm in norms:
        norm.track_running_stats = True
        norm.requires_grad_(True)


def soft(logits: Tensor) -> Tensor:
    return torch.softmax(logits / 2, dim=1)


def mask_code(
    decoder: nn.Module,
    code: Tensor,
    loss: Callable[[Tensor], Tensor],
    how: tuple[str, float, torch.Generator],
) -> Tensor:
    """Return the decoded masked code; `how`: kind, share, generator of soft values."""
    kind, share, generator = how
    for parameter in decoder.parameters():
        parameter.requires_grad_(False)
    copy = code.detach().clone().requires_grad_()
    if kind == "dropout":
        kept = torch.empty((*code.shape[:2], 1, 1)).bernoulli_(1 - share, generator=generator)
        masked = copy.detach() * kept / (1 - share)
    else:
        loss(decoder(copy)).backward()
        score = copy.grad.mean((2, 3) if kind == "channel" else 1)
        flat = score.flatten(1)
        limit = flat.sort(dim=1, descending=True).values[:, int(flat.shape[1] * share)]
        weak = 0.5 * torch.rand(score.shape, generator=generator)
        is_masked = (flat > limit[:, None]).reshape(score.shape)
        factor = torch.where(is_masked, weak, torch.ones_like(score))
        where = (..., None, None) if kind == "channel" else (slice(None), None)
        masked = copy.detach() * factor[where]
    with protected(decoder):
        hard = decoder(masked)
    for parameter in decoder.parameters():
        parameter.requires_grad_(True)
    return hard.detach()


def plain_step(
    networks: PlainNetworks,
    optimisers: list[torch.optim.Optimizer],
    batch: tuple[Tensor, ...],
    how: tuple[tuple[str, float], tuple[str, float], torch.Generator],
) -> dict[str, float]:
    """Do one update; `batch`: clean, noisy, labels; `how`: kinds and shares, generator."""
    clean, noisy, labels = batch
    image_how, shape_how, generator = how
    one_hot = F.one_hot(labels, N_CLASSES).movedim(-1, 1).to(clean)
    z_i, z_s = networks.image_encoder(noisy)
    logits, image = networks.segmentation_decoder(z_s), networks.image_decoder(z_i)
    terms = {
        "standard/seg": F.cross_entropy(logits, labels),
        "standard/image": 0.5 * F.mse_loss(image, clean),
        "standard/gt_shape": F.cross_entropy(networks.correct(one_hot), labels),
        "standard/shape": F.cross_entropy(networks.correct(soft(logits)), labels),
    }
    hard_image = mask_code(
        networks.image_decoder, z_i, lambda out: F.mse_loss(out, clean), (*image_how, generator)
    )
    hard_logits = mask_code(
        *(networks.segmentation_decoder, z_s, lambda out: F.cross_entropy(out, labels)),
        (*shape_how, generator),
    )
    safe = (networks.image_encoder, networks.segmentation_decoder)
    with protected(*safe, networks.shape_encoder, networks.shape_decoder):
        z_i, z_s = networks.image_encoder(hard_image)
        logits, image = networks.segmentation_decoder(z_s), networks.image_decoder(z_i)
        terms["hard/seg"] = F.cross_entropy(logits, labels)
        terms["hard/image"] = 0.5 * F.mse_loss(image, clean)
        terms["hard/shape"] = F.cross_entropy(networks.correct(soft(logits)), labels)
        corrected = networks.correct(soft(hard_logits))
        terms["hard/corrupted_shape"] = F.cross_entropy(corrected, labels)
    sum(terms.values()).backward()
    for optimiser in optimisers:
        optimiser.step()
    return {name: value.item() for name, value in terms.items()}


def affine_places(degrees: float, shift: ArrayLike, zoom: ArrayLike, n: int) -> NDArray[np.float64]:
    angle, centre = np.radians(degrees), n / 2 - 0.5
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    grid = np.indices((n, n), dtype=float).reshape(2, -1) - centre
    moved = turn @ np.diag(zoom) @ grid + (turn @ (np.asarray(shift) * n))[:, None]
    return (moved + centre).reshape(2, n, n)


def linear(image: NDArray[Any], places: NDArray[np.float64]) -> NDArray[Any]:
    """Sample bilinearly; coordinates end one pixel early, as the released library's."""
    row, column = (np.clip(one, 0, n - 2) for one, n in zip(places, image.shape, strict=True))
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    d, r = row - top, column - left
    upper = image[top, left] * (1 - r) + image[top, left + 1] * r
    lower = image[top + 1, left] * (1 - r) + image[top + 1, left + 1] * r
    return upper * (1 - d) + lower * d


def nearest(labels: NDArray[Any], places: NDArray[np.float64]) -> NDArray[Any]:
    row, column = (np.clip(one, 0, n - 1) for one, n in zip(places, labels.shape, strict=True))
    return labels[np.rint(row).astype(int), np.rint(column).astype(int)]


def bend(image: NDArray[Any], labels: NDArray[Any], field: NDArray[Any]) -> Pair:
    places = np.indices(image.shape) + field
    bent = map_coordinates(image, places, order=3, mode="reflect")
    moved = np.zeros_like(labels)
    for number in range(1, N_CLASSES):
        one_hot = (labels == number).astype(float)
        moved[map_coordinates(one_hot, places, order=3, mode="nearest") >= 0.5] = number
    return bent, moved


def plain_augment(image: NDArray[Any], labels: NDArray[Any], draw: CaseDraw, crop: int) -> Pair:
    """Augment, crop and rescale one slice of `draw.numbers` and `draw.noise`."""
    n, numbers = len(image), draw.numbers
    for axis, is_flipped in ((1, numbers[0]), (0, numbers[1])):
        if is_flipped:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    if numbers[2]:
        image = np.clip(image * numbers[3] + numbers[4], image.min(), image.max())
    for places in (
        affine_places(numbers[5], numbers[6:8], numbers[8:10], n),
        affine_places(numbers[10], (0, 0), (1, 1), n),
    ):
        image, labels = linear(image, places), nearest(labels, places)
    if numbers[11]:
        alpha, sigma = numbers[12:14]
        field = [gaussian_filter(one, sigma, mode="constant") * alpha for one in draw.noise]
        image, labels = bend(image, labels, np.stack(field))
    start = -(-(n - crop) // 2)
    cut = (slice(start, start + crop),) * 2
    image, labels = image[cut], labels[cut]
    return (image - image.min()) / (image.max() - image.min() + 1e-8), labels


def plain_batch(items: Sequence[Item], crop: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return clean images, noisy images and labels: augmented slices, then stored ones."""
    pairs = [plain_augment(one.window, one.window_labels, one.draw, crop) for one in items]
    images = [image for image, _ in pairs] + [one.stored for one in items]
    labels = [label for _, label in pairs] + [one.stored_labels for one in items]
    clean = torch.from_numpy(np.stack(images).astype(items[0].window.dtype))[:, None]
    noise = torch.randn(clean.shape, generator=generator)
    noisy = (clean + NOISE * noise).clamp(0, 1)
    return clean, noisy, torch.from_numpy(np.stack(labels).astype(np.int64))
