"""The images of the data sets with their labels and domain, as training and evaluation see them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.pixels import open_store
from workflow_scripts.files import read_json, sha256_of
from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from workflow_scripts.training.sampler import Draw

SPLITS = ("train", "val", "test")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """The files of one data set, as docs/reference/files.md defines them."""

    manifest: Path
    card: Path
    store: Path
    index: Path


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set whose images lie in a store.

    Attributes:
        name: in the configuration.
        table: manifest rows of the stored images, with `store_row`.
        labels: 1 or 0, shape (N, K), float32, in the rows of `table`.
        images: the store, shape (S, side, side, 1), uint8, mapped from the file.
        findings: names of the K findings.
        is_phantom: made from synthetic patients.
        quarantined: images of the manifest that are not in the store.
    """

    name: str
    table: pd.DataFrame
    labels: NDArray[np.float32]
    images: NDArray[np.uint8]
    findings: tuple[str, ...]
    is_phantom: bool
    quarantined: int


def read_dataset(files: DatasetFiles, findings: Sequence[str], image_size: int) -> Dataset:
    """Return one data set.

    Args:
        files: of the data set.
        findings: that must be labelled, in the order of the labels.
        image_size: pixels a side that the store must have.

    Raises:
        InputError: a finding without column, a label that is neither 1 nor 0, a store of another
            size, of colour, or of another manifest.
    """
    import pyarrow.parquet as pq

    table: pd.DataFrame = pq.ParquetFile(files.manifest).read().to_pandas()
    _check_labels(table, files.manifest, findings)
    store = open_store(files.store, files.index)
    if store.images.shape[1:] != (image_size, image_size, 1):
        expected = f"gray images of {image_size} x {image_size}"
        step = f"build the store with --geometry stretch{image_size}"
        raise refuse(str(files.store), expected, f"shape {store.images.shape}", step)
    row_of = {name: row for row, name in enumerate(store.image_id)}
    unknown = sorted(set(row_of) - set(table["image_id"]))
    if unknown:
        step = "build the store again from this manifest"
        raise refuse(str(files.index), f"images of {files.manifest}", unknown[0], step)
    stored = table[table["image_id"].isin(row_of)].reset_index(drop=True)
    stored["store_row"] = stored["image_id"].map(row_of).astype(np.int64)
    card = read_json(files.card)
    labels = stored[[f"label_{name}" for name in findings]].to_numpy(np.float32)
    lost = len(table) - len(stored)
    if lost:
        logger.warning("%s: %d images are in quarantine and left out", card["dataset"], lost)
    return Dataset(
        str(card["dataset"]), stored, labels, store.images, tuple(findings), card["phantom"], lost
    )


def _check_labels(table: pd.DataFrame, manifest: Path, findings: Sequence[str]) -> None:
    """Refuse findings without a column, and labels that are not 1 or 0."""
    step = "choose a label policy with these findings, and what uncertain labels count as"
    columns = [f"label_{name}" for name in findings]
    problems = [
        Problem(str(manifest), f"a column {name!r}", "none", step)
        for name in columns
        if name not in table
    ]
    for name in columns:
        if name in table:
            wrong = table.loc[~table[name].isin([0.0, 1.0]), ["image_id", name]]
            if len(wrong):
                first = f"{wrong[name].iloc[0]} (image {wrong['image_id'].iloc[0]})"
                found = f"{len(wrong)} others, the first {first}"
                problems.append(Problem(f"{manifest} column {name!r}", "1 or 0", found, step))
    if problems:
        raise InputError(problems)


def require_leak_free(certificate: Path, manifests: Sequence[Path]) -> None:
    """Refuse an experiment whose certificate is not of these manifests, or tells of a leak."""
    split = read_json(certificate)["split"]
    step = "run the rule experiment_leak_free for these data sets"
    problems = []
    if not split["leak_free"]:
        expected = "no patient and no file in two splits"
        found = f"{split['patients_in_two_splits']} patients, {split['files_in_two_splits']} files"
        problems.append(Problem(str(certificate), expected, found, "draw the splits again"))
    certified = set(split["manifests"].values())
    problems += [
        Problem(str(certificate), f"the hash of {path}", "none", step)
        for path in manifests
        if sha256_of(path) not in certified
    ]
    if problems:
        raise InputError(problems)


def require_every_domain(sources: Sequence[Dataset]) -> None:
    """Refuse training domains without a training, validation or test image."""
    step = (
        "give its entry split_fractions of train, val and test (an official split: val_fraction), "
        "give it more patients, or take it out of crocodile.sources"
    )
    problems = [
        Problem(f"data set {one.name}, split {split}", "at least one image", "none", step)
        for one in sources
        for split in SPLITS
        if not (one.table["split"] == split).any()
    ]
    if problems:
        raise InputError(problems)


class Cases:
    """The images of one split of several data sets, in one row.

    Args:
        datasets: whose images; their order gives the domain 0, 1, ...
        split: which images; None takes all.

    Attributes:
        table: manifest columns of the N cases, with `dataset` and `case_id`.
        labels: shape (N, K), float32.
        domains: shape (N,), int64.
    """

    def __init__(self, datasets: Sequence[Dataset], split: str | None) -> None:
        import pandas as pd

        parts, labels, domains = [], [], []
        for domain, one in enumerate(datasets):
            chosen = np.ones(len(one.table), bool) if split is None else one.table["split"] == split
            rows = np.flatnonzero(chosen)
            part = one.table.iloc[rows].assign(dataset=one.name)
            parts.append(part.assign(case_id=one.name + "/" + part["image_id"]))
            labels.append(one.labels[rows])
            domains.append(np.full(len(rows), domain, np.int64))
        self.table = pd.concat(parts, ignore_index=True)
        self.labels, self.domains = np.concatenate(labels), np.concatenate(domains)
        self._stores = [one.images for one in datasets]
        self._rows = self.table["store_row"].to_numpy()

    def __len__(self) -> int:
        return len(self.domains)

    def image(self, case: int) -> NDArray[np.uint8]:
        """Return the pixels of one case, shape (1, side, side), uint8."""
        stored: NDArray[np.uint8] = self._stores[self.domains[case]][self._rows[case]]
        return stored.transpose(2, 0, 1).copy()  # the store is mapped read-only

    def __getitem__(self, draw: Draw | int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return image (uint8), labels and domain of a case; nothing is augmented (released)."""
        import torch

        case = draw if isinstance(draw, int) else draw.case
        labels = torch.from_numpy(self.labels[case])
        return torch.from_numpy(self.image(case)), labels, int(self.domains[case])


def network_input(images: torch.Tensor) -> torch.Tensor:
    """Return stored pixels as the network's input: (x / 255 - 0.5) / 0.5, in [-1, 1]."""
    return images.float().div(255).sub(0.5).div(0.5)


def as_tables(cases: Cases) -> pd.DataFrame:
    """Return the case columns of predictions; patients of different data sets stay apart."""
    table = cases.table
    return table.assign(
        image_id=table["case_id"],
        patient_id=table["dataset"] + "/" + table["patient_id"].astype(str),
        domain=table["dataset"],
    )


def counts(cases: Cases, findings: Sequence[str]) -> dict[str, Any]:
    """Return how many images and positives there are, for the record."""
    positives = cases.labels.sum(axis=0).astype(int).tolist()
    return {"images": len(cases), "positives": dict(zip(findings, positives, strict=True))}
