"""The images of one data set with their two targets and the attribute to be hidden."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.datasets.biased_split import ATTRIBUTES, belongs
from workflow_scripts.files import read_json, sha256_of
from workflow_scripts.problems import refuse, require_files

if TYPE_CHECKING:
    import pandas as pd

FINDING = "label_"  # prefix of the columns of a multi-label task
UNKNOWN = -1  # of an attribute
UNFIT = "give the files of one data set, as the rule does"
HEALTHY = ("no finding", "normal", "healthy", "negative", "control")  # names of the first target
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Images in the order of a store or of cached embeddings.

    Attributes:
        table: manifest rows, shape (N,).
        targets: [No Finding, disease], 0 or 1, shape (N, 2), float32; rows with none or both
            occur in the released index files only.
        attribute: 1 has it, 0 has not, -1 unknown, shape (N,).
        classes: names of the two targets.
        card: of the data set.
    """

    table: pd.DataFrame
    targets: NDArray[np.float32]
    attribute: Rows
    classes: tuple[str, str]
    card: dict[str, Any]

    @property
    def label(self) -> Rows:
        """The class of each image, argmax of its targets as in the released code, shape (N,)."""
        label: Rows = self.targets.argmax(axis=1).astype(np.int64)
        return label

    def rows(self, split: str, known: bool = False, one_class: bool = False) -> Rows:
        """Return the positions of a split's images.

        Args:
            split: train, val or test.
            known: only those whose attribute is known.
            one_class: only those with exactly one target, as the subgroups of the test set.
        """
        chosen = (self.table["split"] == split).to_numpy()
        if known:
            chosen = chosen & (self.attribute != UNKNOWN)
        if one_class:
            chosen = chosen & (self.targets.sum(axis=1) == 1)
        return np.flatnonzero(chosen)

    def cells(self) -> Rows:
        """Return the subgroup of each image, shape (N,): 2 * attribute + class, -1 unknown."""
        return np.where(self.attribute == UNKNOWN, UNKNOWN, 2 * self.attribute + self.label)


def add_cohort_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files that describe the cases, and the attribute."""
    for name, meaning in (
        ("manifest", "manifest of the data set (.parquet)"),
        ("card", "card of the data set (.json)"),
        ("leak-free", "leak certificate of the data set (.json)"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=meaning)
    parser.add_argument(
        "--attribute",
        choices=tuple(ATTRIBUTES),
        default="sex",
        help="what the edit hides: "
        + ", ".join(f"{name} ({words})" for name, words in ATTRIBUTES.items()),
    )


def read_cohort(given: argparse.Namespace, image_ids: Sequence[str]) -> Cohort:
    """Return the cohort of a parsed command line, one row an image of `image_ids`.

    Raises:
        InputError: a missing file, a split that leaks or has no certificate, images that the
            manifest does not know, or labels that are not two classes.
    """
    import pandas as pd

    require_files([given.manifest, given.card, given.leak_free])
    _require_leak_free(given.leak_free, given.manifest)
    card = read_json(given.card)
    table = pd.read_parquet(given.manifest).set_index("image_id", drop=False)
    unknown = [name for name in image_ids if name not in table.index]
    if unknown:
        found = f"{len(unknown)} images unknown to it, such as {unknown[0]!r}"
        raise refuse(str(given.manifest), "the images of the store", found, UNFIT)
    table = table.loc[list(image_ids)].reset_index(drop=True)
    targets, classes = _targets(given.manifest, table, card)
    attribute = group_codes(table, given.attribute)
    return Cohort(table, targets, attribute, classes, card)


def group_codes(table: pd.DataFrame, attribute: str) -> Rows:
    """Return 1 (male, White, over 60), 0 or -1 (unknown) of each row, shape (N,)."""
    codes = belongs(table, attribute).astype("Int64").fillna(UNKNOWN)
    return np.asarray(codes, dtype=np.int64)


def require_both_groups(cohort: Cohort, rows: Rows, where: str) -> None:
    """Refuse training images that all have the attribute, or all have not."""
    counts = {code: int((cohort.attribute[rows] == code).sum()) for code in (0, 1)}
    if min(counts.values()) == 0:
        found = f"{counts[1]} with it and {counts[0]} without"
        advice = "choose another attribute, or a data set that knows it"
        raise refuse(where, "training images with and without the attribute", found, advice)


def _targets(
    where: Path, table: pd.DataFrame, card: dict[str, Any]
) -> tuple[NDArray[np.float32], tuple[str, str]]:
    """Return [No Finding, disease] of each row, from `label` or from two label columns."""
    names = [name for name in table if str(name).startswith(FINDING)]
    if "label" in table:
        label = table["label"].to_numpy(np.int64)
        if set(np.unique(label)) <= {0, 1} and len(card["classes"]) == 2:
            return np.eye(2, dtype=np.float32)[label], _in_order(where, card["classes"])
        raise refuse(str(where), "two classes", f"{len(card['classes'])}", UNFIT)
    if len(names) != 2:
        found = f"{len(names)} label columns"
        raise refuse(str(where), "`label`, or [No Finding, disease]", found, UNFIT)
    targets = table[names].to_numpy(np.float32)
    if not np.isin(targets, (0, 1)).all():
        advice = "choose a rule for uncertain labels that decides them all"
        raise refuse(str(where), "targets 0 or 1", "unknown ones", advice)
    return targets, _in_order(where, [str(name).removeprefix(FINDING) for name in names])


def _in_order(where: Path, names: Sequence[str]) -> tuple[str, str]:
    """Return the names of the two targets; refuse a disease that stands before its absence.

    Negatives and positives would change places in every gap. Classes that a table does not list
    are sorted by name, which puts `Effusion` before `normal`.
    """
    first, second = map(str, names)
    is_healthy = [name.strip().casefold().replace("_", " ") in HEALTHY for name in (first, second)]
    if is_healthy == [False, True]:
        advice = f"list them in the data set's entry: [{second}, {first}] (classes, or labels)"
        raise refuse(str(where), "the healthy class first", f"{first}, {second}", advice)
    return first, second


def _require_leak_free(certificate: Path, manifest: Path) -> None:
    """Refuse a split that has no certificate, or one of other files."""
    found = read_json(certificate).get("split") or {}
    if not found.get("leak_free"):
        raise refuse(str(certificate), "a certified split", "none", "run datasets.leaks")
    if sha256_of(manifest) not in (found.get("manifests") or {}).values():
        advice = "run datasets.leaks again on this manifest"
        raise refuse(str(certificate), f"a certificate of {manifest}", "another manifest", advice)
