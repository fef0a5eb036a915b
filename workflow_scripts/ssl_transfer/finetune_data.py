"""What fine-tuning trains, validates and tests on: labelled images with their pixels."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.decoded import (
    ArchiveImages,
    DecodedImages,
    PixelSource,
    read_places,
)
from workflow_scripts.datasets.pixels import Store, open_store
from workflow_scripts.datasets.store import Row, bit_depth_of
from workflow_scripts.problems import InputError, Problem, refuse, require_files
from workflow_scripts.ssl_transfer.cases import (
    CARD_KEYS,
    RELEASED_ORDER,
    CasePaths,
    checked_leak,
    feature_rows,
    read_keys,
    read_manifest,
    single_label,
)
from workflow_scripts.ssl_transfer.crops import training_pixels
from workflow_scripts.ssl_transfer.features import pixels_to_input, require_size
from workflow_scripts.ssl_transfer.parts import Parts, split_images
from workflow_scripts.training import streams

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from workflow_scripts.ssl_transfer.training_protocols import FinetuneOptions
    from workflow_scripts.training.sampler import Draw

Floats = NDArray[np.float32]
Views = Callable[[int, np.random.Generator], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Task:
    """A data set as one backbone is fine-tuned on it.

    Attributes:
        parts: manifest rows, with `label` and `store_row`.
        store: pixels of the deterministic geometry, for validation and test.
        classes: their names.
        card: of the data set.
        leak: certificate of the split.
        to_input: from pixels (N, H, W, 3) to network input (N, 3, H, W).
        paths: of the files that describe it.
    """

    parts: Parts
    store: Store
    classes: list[str]
    card: dict[str, Any]
    leak: dict[str, Any]
    to_input: Callable[[NDArray[np.uint8]], Floats]
    paths: CasePaths


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a task."""
    for name, meaning in (
        ("manifest", "manifest of the data set (.parquet)"),
        ("card", "card of the data set (.json)"),
        ("leak-free", "leak certificate of the data set (.json)"),
        ("store", "images of validation and test (.npy)"),
        ("index", "rows of the store (.parquet)"),
        ("root", "folder of the archive"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=meaning)
    parser.add_argument("--pixels", type=Path, help="decoded images to crop from; none: archive")
    parser.add_argument("--pixel-index", type=Path, help="where each decoded image is (.parquet)")
    parser.add_argument("--bit-depth", type=bit_depth_of, help="as in the rule `store`")
    parser.add_argument("--finding", help="the finding to classify in a multi-label data set")


def read_task(
    given: argparse.Namespace, options: FinetuneOptions, certificate: dict[str, Any]
) -> Task:
    """Read and check the files of a task.

    Raises:
        InputError: files that are missing or do not belong together, a split that leaks, a part
            without images, a class without training images.
    """
    paths = CasePaths(given.store, given.manifest, given.card, given.certificate, given.leak_free)
    files = (given.manifest, given.card, given.leak_free, given.store, given.index)
    require_files([*files, given.certificate, given.pixels, given.pixel_index])
    card = read_keys(given.card, CARD_KEYS)
    leak = checked_leak(given.leak_free, options.split_column)
    store = open_store(given.store, given.index)
    require_size(store, certificate, given.store)
    table = read_manifest(given.manifest, options.split_column)
    table["store_row"] = feature_rows(paths, table, np.array(store.image_id))
    _check_same_files(table, store, paths)
    table["is_readable"] = table["store_row"] >= 0
    labelled, classes = single_label(table, paths, card["classes"], given.finding)
    by_patient = options.validation_by_patient
    if not by_patient and RELEASED_ORDER not in labelled:
        expected = f"the column {RELEASED_ORDER!r} for --protocol released"
        found = "a data set that the released code never read"
        raise refuse(str(given.manifest), expected, found, "use --protocol corrected")
    labelled = labelled.assign(part=labelled[options.split_column])
    parts = split_images(labelled, classes, card["dataset"], by_patient, given.seed)
    to_input = pixels_to_input(certificate["input"], options.normalisation)
    return Task(parts, store, classes, card, leak, to_input, paths)


def _check_same_files(table: pd.DataFrame, store: Store, paths: CasePaths) -> None:
    """Raise where the store was made from other files than the manifest."""
    stored = table[table["store_row"] >= 0]
    hashes = np.array(store.sha256)[stored["store_row"]]
    other = stored[stored["sha256"].to_numpy() != hashes]
    if len(other):
        raise InputError(
            Problem(f"{paths.features} image {name!r}", f"the file of {paths.manifest}", "another",
                    "build the store again")
            for name in other["image_id"]
        )  # fmt: skip


def cropped_views(given: argparse.Namespace, rows: pd.DataFrame, side: int) -> Views:
    """Return the function from image number and generator to an augmented view.

    Args:
        given: the command line: decoded pixels, or the archive.
        rows: the training images; their order is their number.
        side: of the view, pixels.

    Raises:
        InputError: a training image without decoded pixels.
    """
    return partial(training_pixels, _source(given, rows), side)


def _source(given: argparse.Namespace, rows: pd.DataFrame) -> PixelSource:
    if given.pixels is None:
        columns = (rows[name] for name in Row._fields)
        return ArchiveImages(given.root, [Row(*row) for row in zip(*columns, strict=True)],
                             given.bit_depth)  # fmt: skip
    if given.pixel_index is None:
        raise refuse("--pixel-index", "the index of --pixels", "none", "give both")
    known = {(place.image_id, place.sha256): place for place in read_places(given.pixel_index)}
    wanted = list(zip(rows["image_id"], rows["sha256"], strict=True))
    missing = [name for name, sha256 in wanted if (name, sha256) not in known]
    if missing:
        raise InputError(
            Problem(f"{given.pixels} image {name!r}", "its pixels", "none or of another file",
                    "decode the data set again")
            for name in missing
        )  # fmt: skip
    return DecodedImages(given.pixels, [known[key] for key in wanted])


def stored_views(task: Task, rows: pd.DataFrame) -> Views:
    """Return the function from image number to the stored pixels: without augmentation."""
    places = rows["store_row"].to_numpy()
    return lambda image, rng: np.asarray(task.store.images[places[image]])


class TrainingImages:
    """The training images, each with its own augmentation in each epoch.

    Args:
        views: gives the pixels of an image.
        labels: class index of each image, shape (N,).
        to_input: from pixels to network input.
        seed: of the augmentation.
    """

    def __init__(
        self,
        views: Views,
        labels: NDArray[np.int64],
        to_input: Callable[[NDArray[np.uint8]], Floats],
        seed: int,
    ) -> None:
        self.views, self.labels, self.to_input, self.seed = views, labels, to_input, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        """Return network input (3, H, W) and label; equal whoever loads the image, and when."""
        import torch

        with streams.case_streams(self.seed, draw.epoch, draw.case) as rng:
            pixels = self.views(draw.case, rng)
        return torch.from_numpy(self.to_input(pixels[None])[0]), int(self.labels[draw.case])


class StoredRows:
    """Some rows of a store, sliced like an array: what `features.input_batches` goes through."""

    def __init__(self, images: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        chosen: NDArray[np.uint8] = self.images[self.rows[part]]
        return chosen
