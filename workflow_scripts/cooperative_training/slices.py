"""Slices to train on: one item a slice of a volume store, cut to size, with what happens to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workflow_scripts.cooperative_training.augmentation import (
    BatchDraw,
    CaseDraw,
    Policy,
    augment,
    draw_case,
    join_draws,
    rescale,
)
from workflow_scripts.cooperative_training.losses import Batch
from workflow_scripts.cooperative_training.networks import MULTIPLE, N_CLASSES
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.datasets.volumes import cut
from workflow_scripts.problems import InputError, Problem, refuse
from workflow_scripts.training.sampler import Draw
from workflow_scripts.training.streams import case_streams

NOISE = 0.05  # spread of the Gaussian noise on the encoder's input (spec section 9)
FRAMES = ("ES", "ED")  # in the released order

EmptySlices = Literal["replace", "keep"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Pixels of the augmentation's window and of the network's input."""

    window: int = 224  # padded or cut to it before augmentation (spec section 5)
    crop: int = 192  # the network's input

    def __post_init__(self) -> None:
        if self.crop % MULTIPLE or not 0 < self.crop <= self.window:
            expected = f"a crop of a multiple of {MULTIPLE} pixels within the window"
            raise ValueError(f"{expected}, got {self.crop} in {self.window}")


class Item(NamedTuple):
    """One slice, twice: to be augmented (window), and as stored (crop)."""

    window: NDArray[np.float32]
    window_labels: NDArray[np.uint8]
    stored: NDArray[np.float32]
    stored_labels: NDArray[np.uint8]
    draw: CaseDraw


class Joined(NamedTuple):
    """A batch of items as tensors: windows (N, W, W), stored slices (N, C, C)."""

    windows: Tensor
    window_labels: Tensor
    stored: Tensor
    stored_labels: Tensor
    draw: BatchDraw


def to_window(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Pad a slice (H, W) to `size` with its minima, or cut it; the odd pixel goes before.

    Each axis is padded with the minimum along it (golden `pad_numpy_minimum`, `center_crop`).
    A slice larger than the window is cut first: the authors' images were at most 224 pixels.
    """
    before = [-(-(size - n) // 2) for n in values.shape]  # ceil; negative: cut
    after = [size - n - first for n, first in zip(values.shape, before, strict=True)]
    pads = [(max(first, 0), max(last, 0)) for first, last in zip(before, after, strict=True)]
    starts = [-(-(n - size) // 2) if n > size else 0 for n in values.shape]
    padded = np.pad(values, pads, mode="minimum")
    return padded[starts[0] : starts[0] + size, starts[1] : starts[1] + size]


def centre_window(values: Tensor, size: int) -> Tensor:
    """Cut the centre of square slices (N, W, W)."""
    start = -(-(values.shape[1] - size) // 2)
    return values[:, start : start + size, start : start + size]


def to_crop(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Cut or zero-pad the last two axes to `size`, the odd pixel after the centre's start.

    Source: golden `crop_or_pad`, `dataset_item` (whose defect at a difference of 1 is mended).
    """
    starts = crop_starts(values.shape, size)
    return cut(values, starts, (*values.shape[:-2], size, size))


def from_crop(values: NDArray[Any], shape: Sequence[int], size: int) -> NDArray[Any]:
    """Put crops back where `to_crop` took them from; 0 outside (golden `recover_image`)."""
    starts = crop_starts(shape, size)
    return cut(values, tuple(-start for start in starts), tuple(shape))


def crop_starts(shape: Sequence[int], size: int) -> tuple[int, ...]:
    """Return where a crop of the last two axes begins; negative where it pads.

    >>> crop_starts((10, 195, 189), 192)
    (0, 1, -2)
    """
    return (*(0 for _ in shape[:-2]), *((n - size) // 2 for n in shape[-2:]))


class Slices:
    """All slices of some patients in a volume store, ES before ED, in the order given.

    Args:
        store: at the paper's grid.
        patients: ids.
        sizes: of window and crop.
        policy: of the augmentation.
        seed: of the training.
        empty: a slice without foreground gives way to another of its volume (as released), or
            is kept.
        where: name of the store, for messages.

    Raises:
        InputError: a patient is not in the store; a volume has no foreground at all.
    """

    def __init__(
        self,
        store: VolumeStore,
        patients: Iterable[str],
        sizes: Sizes,
        *,
        policy: Policy,
        seed: int,
        empty: EmptySlices,
        where: str,
    ) -> None:
        self.store, self.sizes, self.policy = store, sizes, policy
        self.seed, self.empty = seed, empty
        index = store.index
        self.rows = rows_of(index, patients, where)
        self._foreground = index["foreground"].to_numpy()
        self._others: dict[str, NDArray[np.intp]] = {}
        if empty == "replace":
            volumes = index["image_id"].to_numpy()
            filled = np.flatnonzero(self._foreground > 0)
            for name in dict.fromkeys(volumes[self.rows]):
                self._others[str(name)] = filled[volumes[filled] == name]
            self._refuse_empty_volumes(where)
        self._volumes = index["image_id"].astype(str).to_numpy()

    def _refuse_empty_volumes(self, where: str) -> None:
        expected, advice = "a labelled pixel", "correct its mask, or take the patient off the list"
        problems = [
            Problem(f"{where}: volume {name}", expected, "none in any slice", advice)
            for name, rows in self._others.items()
            if not len(rows)
        ]
        if problems:
            raise InputError(problems)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Item:
        """Return a slice and its augmentation; the same whoever loads it, and when."""
        with case_streams(self.seed, draw.epoch, draw.case) as rng:
            row = int(self.rows[draw.case])
            if self.empty == "replace" and not self._foreground[row]:
                row = int(rng.choice(self._others[self._volumes[row]]))
            image, labels = self.store.slice(row)
            window, crop = self.sizes.window, self.sizes.crop
            return Item(
                to_window(image, window),
                to_window(labels, window),
                to_crop(image, crop),
                to_crop(labels, crop),
                draw_case(rng, self.policy, window),
            )


def rows_of(index: Any, patients: Iterable[str], where: str) -> NDArray[np.intp]:  # noqa: ANN401
    """Return the rows of a store's index that belong to patients, ES before ED.

    Raises:
        InputError: a patient without a slice.
    """
    names = list(patients)
    missing = sorted(set(names) - set(index["patient_id"]))
    if missing:
        expected, advice = "every patient of the list", "see the store's quarantine.csv"
        raise refuse(where, expected, f"no slice of {', '.join(missing)}", advice)
    patient, frame = index["patient_id"].to_numpy(), index["frame"].to_numpy()
    groups = [
        np.flatnonzero((patient == name) & (frame == moment))
        for moment in dict.fromkeys([*FRAMES, *frame])
        for name in names
    ]
    return np.concatenate(groups)


def join_items(items: list[Item]) -> Joined:
    """Join items into a batch: what the loader hands over."""
    parts = [torch.from_numpy(np.stack(column)) for column in list(zip(*items, strict=True))[:4]]
    draws = [item.draw for item in items]
    return Joined(parts[0], parts[1], parts[2], parts[3], join_draws(draws, parts[0].shape[1]))


def make_batch(
    joined: Joined, sizes: Sizes, generator: torch.Generator, clamps_noise: bool = True
) -> Batch:
    """Augment on the device and put augmented and stored slices together.

    Args:
        joined: n items.
        sizes: of window and crop.
        generator: of the noise, on the batch's device.
        clamps_noise: noisy images stay in [0, 1]; not in the first public release.

    Returns:
        A batch of 2 n slices, the augmented ones first.
    """
    labels = joined.window_labels.long()
    images, labels = augment(joined.windows, labels, joined.draw, N_CLASSES)
    images = rescale(centre_window(images, sizes.crop))
    clean = torch.cat([images, joined.stored])[:, None]
    both = torch.cat([centre_window(labels, sizes.crop), joined.stored_labels.long()])
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    noisy = clean + NOISE * noise
    return Batch(clean, noisy.clamp(0, 1) if clamps_noise else noisy, both)
