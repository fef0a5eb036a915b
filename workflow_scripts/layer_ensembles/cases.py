"""The images of one data set as the networks see them: read, checked, split, augmented.

A case is one image (lesions, one slice) or one volume (hearts). Training draws slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.files import read_json
from workflow_scripts.layer_ensembles.augmentation import (
    augmented_heart,
    augmented_lesion,
    draw_convolution,
    prepared,
)
from workflow_scripts.layer_ensembles.protocols import Options
from workflow_scripts.problems import InputError, Problem
from workflow_scripts.randomness import named_rng
from workflow_scripts.training.sampler import Draw
from workflow_scripts.training.streams import case_streams

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SLICES_PER_VOLUME = 5  # drawn in each epoch (spec section 3.2)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Cases:
    """One data set under one protocol.

    Attributes:
        table: manifest rows that are in the store, with `part`: the protocol's split.
        store: voxels and classes.
        card: of the data set.
        options: of the protocol.
        reduction: images are made smaller by this whole number; 1 as published.
        is_volume: cases have several slices.
        lost: images of the manifest that are not in the store.
    """

    table: pd.DataFrame
    store: VolumeStore
    card: dict[str, Any]
    options: Options
    reduction: int
    is_volume: bool
    lost: int

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.card["classes"])

    def ids(self, part: str) -> list[str]:
        """Return the image ids of a part of the split, in the manifest's order."""
        return list(self.table.loc[self.table["part"] == part, "image_id"])

    def volume(self, image_id: str) -> Volume:
        """Return a case at the working size, its spacing in mm or in pixels of that size."""
        image, mask, spacing = self.store.volume(image_id)
        if not self.is_volume:
            spacing = (1.0, 1.0, 1.0)  # pixels of the crop (spec section 6)
        return reduced(Volume(image, mask, spacing), self.reduction)

    def inputs(self, image_id: str) -> tuple[NDArray[np.float32], Volume]:
        """Return a test image as the network sees it, shape (D, H, W), and its volume."""
        volume = self.volume(image_id)
        return prepared(volume.image, volume.mask, self.options), volume


def reduced(volume: Volume, factor: int) -> Volume:
    """Return a volume with sides 1/factor: blocks averaged, of the mask the middle pixel."""
    if factor == 1:
        return volume
    depth, height, width = volume.image.shape
    shape = (depth, height // factor, factor, width // factor, factor)
    image = volume.image.reshape(shape).mean(axis=(2, 4), dtype=np.float32)
    mask = volume.mask[:, factor // 2 :: factor, factor // 2 :: factor]
    slice_mm, row_mm, column_mm = volume.spacing_mm
    return Volume(image, mask, (slice_mm, row_mm * factor, column_mm * factor))


def add_case_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `read_cases` needs."""
    parser.add_argument("--images", type=Path, required=True, help="voxels of the volume store")
    parser.add_argument("--masks", type=Path, required=True, help="its classes")
    parser.add_argument("--index", type=Path, required=True, help="its index")
    parser.add_argument("--manifest", type=Path, required=True, help="of the data set (.parquet)")
    parser.add_argument("--card", type=Path, required=True, help="of the data set (.json)")
    parser.add_argument("--leak-free", type=Path, required=True, help="the leak certificate")
    parser.add_argument("--reduction", type=int, default=1, help="1: full size, as published")


def read_cases(given: argparse.Namespace, options: Options) -> Cases:
    """Read the files that `add_case_arguments` names, and refuse what cannot be used.

    Raises:
        InputError: sides that the network cannot halve five times, labels that the card does not
            name, images (with the released protocol: masks) of one gray value, an empty split.
    """
    import pandas as pd

    store = VolumeStore(given.images, given.masks, given.index)
    card, manifest = read_json(given.card), pd.read_parquet(given.manifest)
    read_json(given.leak_free)  # its rule has refused a leak; without the proof nothing starts
    table = manifest[manifest["image_id"].isin(set(store.index["image_id"]))].copy()
    column = options.split_column
    # hearts: the folders of the archive are the released split, and `split` holds them
    table["part"] = table[column if column in table.columns else "split"]
    counts = store.index.groupby("image_id").size()
    cases = Cases(
        table.reset_index(drop=True),
        store,
        card,
        options,
        given.reduction,
        is_volume=bool(counts.max() > 1),
        lost=len(manifest) - len(table),
    )
    problems = [*_side_problems(cases, given.index), *_image_problems(cases)]
    problems += [
        Problem(f"{given.manifest} column {column}", f"images to {part}", "none", "add patients")
        for part in SPLITS
        if not cases.ids(part)
    ]
    if problems:
        raise InputError(problems)
    return cases


def _side_problems(cases: Cases, where: Path) -> list[Problem]:
    """Return what is wrong with the sides of the images."""
    from workflow_scripts.networks.scse_unet import STRIDE

    sides = cases.store.index[["rows", "columns"]].drop_duplicates().to_numpy().tolist()
    step = f"take a grid, or a reduction, whose sides are multiples of {STRIDE}"
    expected = f"sides that are multiples of {STRIDE} after the reduction by {cases.reduction}"
    return [
        Problem(str(where), expected, f"{rows} x {columns} pixels", step)
        for rows, columns in sides
        if any(side % (STRIDE * cases.reduction) for side in (rows, columns))
    ]


def _image_problems(cases: Cases) -> Iterator[Problem]:
    """Yield the images whose labels or gray values no network can be trained on, by name."""
    look = "look at the file, and take the image out of the manifest"
    labels = f"labels 0 to {cases.n_classes - 1}"
    for name in cases.table["image_id"]:
        stored = cases.store.volume(name).mask
        others = sorted(set(np.unique(stored).tolist()) - set(range(cases.n_classes)))
        if others:
            found = ", ".join(map(str, others))
            yield Problem(f"mask of image {name}", labels, found, "make the store again")
        image, mask, _ = cases.volume(name)
        where = "the image"
        if cases.options.normalisation == "mask":  # its range is that of the reference's pixels
            image, where = image[mask > 0], "the reference mask"
        if image.size == 0:
            yield Problem(f"image {name}", "pixels in the reference mask", "an empty mask", look)
        elif not image.min() < image.max():  # NaN is neither
            found = "NaN" if np.isnan(image).any() else f"{image.flat[0]} everywhere"
            yield Problem(f"image {name}", f"gray values that differ in {where}", found, look)


class TrainingSlices:
    """The training slices; each epoch augments them anew, and draws five of a volume.

    An item is image (1, H, W), float32, and truth (H, W), int64.
    """

    def __init__(self, cases: Cases, seed: int) -> None:
        self.cases, self.seed = cases, seed
        self.names = cases.ids("train")
        self.per_volume = SLICES_PER_VOLUME if cases.is_volume else 1
        self.convolution = draw_convolution(named_rng(seed, "random convolution"))

    def __len__(self) -> int:
        return len(self.names) * self.per_volume

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return a slice; the augmentation of a volume is the same for all slices of an epoch."""
        place, cases = draw.case // self.per_volume, self.cases
        volume = cases.volume(self.names[place])
        image, mask, _ = volume
        with case_streams(self.seed, draw.epoch, place) as rng:
            if cases.is_volume:
                image, mask = augmented_heart(volume, cases.options, rng)
            else:
                image, mask = augmented_lesion(image, mask, cases.options, self.convolution, rng)
        number = named_rng(self.seed, "slice", str(draw.epoch), str(draw.case)).integers(len(mask))
        return as_tensors(image[number], mask[number])


def as_tensors(image: NDArray[np.float32], mask: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Return one slice as the network and the loss take it: (1, H, W) and (H, W)."""
    import torch

    gray = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
    return gray, torch.from_numpy(np.ascontiguousarray(mask).astype(np.int64))


def validation_slices(cases: Cases, seed: int, epoch: int) -> list[tuple[str, int]]:
    """Return the slices, by image id and number, whose loss an epoch is judged by."""
    names = cases.ids("val")
    depth = {name: int(n) for name, n in cases.store.index.groupby("image_id").size().items()}
    if not cases.is_volume or cases.options.validation_slices == "all":
        return [(name, number) for name in names for number in range(depth[name])]
    rng = named_rng(seed, "validation slices", str(epoch))
    return [
        (name, int(number))
        for name in names
        for number in rng.integers(0, depth[name], SLICES_PER_VOLUME)
    ]
