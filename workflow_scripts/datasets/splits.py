"""Splitting a data set: as the released code did, and soundly by patient. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

    from workflow_scripts.datasets.layout import Index, Options

SPLITS = ("train", "val", "test")
RELEASED_SEED = 42  # released code: pandas sample(frac=1, random_state=42) (spec section 3)
RELEASED_TRAIN = 0.8  # released code: the first floor(0.8 n) shuffled rows
FRACTIONS = {"train": 0.8, "test": 0.2}  # ours: the released fractions, but drawn by patient


def released_split(n: int, n_train: int | None = None) -> pd.DataFrame:
    """Return where the released code's shuffle puts each of `n` index rows.

    Args:
        n: rows of the index.
        n_train: the first shuffled rows that train; None: floor(0.8 n).

    Returns:
        Shape (n, 2), row i for index row i: `order_released` (position after the shuffle, int64)
        and `split_released` (`train` or `test`). It splits images, not patients.

    Source: the released data sets; golden `dataset_split`.

    >>> released_split(10)["order_released"].tolist()
    [3, 1, 5, 8, 7, 2, 9, 4, 0, 6]
    """
    import pandas as pd

    shuffled = pd.Series(np.arange(n)).sample(frac=1, random_state=RELEASED_SEED).to_numpy()
    order = np.empty(n, dtype=np.int64)
    order[shuffled] = np.arange(n)
    n_train = int(np.floor(RELEASED_TRAIN * n)) if n_train is None else n_train
    split = np.where(order < n_train, "train", "test")
    return pd.DataFrame({"order_released": order, "split_released": split.astype(object)})


def draw_by_patient(
    patients: pd.Series, fractions: Mapping[str, float], rng: np.random.Generator
) -> pd.Series:
    """Draw a split in which every patient is in one part only.

    Args:
        patients: patient of each image, shape (N,).
        fractions: share of the *patients* in each split; they sum to 1.
        rng: the stream of this draw.

    Returns:
        Split of each image, shape (N,), same index. It depends on the set of patients, not on
        the order or number of their images. Every split with a share gets a patient.

    Raises:
        ValueError: there are fewer patients than splits.
    """
    import pandas as pd

    names = np.array(sorted(patients.unique()), dtype=object)
    wanted = [split for split in SPLITS if fractions.get(split, 0) > 0]
    if len(names) < len(wanted):
        raise ValueError(f"{len(names)} patients cannot be parted into {', '.join(wanted)}")
    shares = np.array([fractions[split] for split in wanted])
    sizes = _sizes(len(names), shares)
    split_of = dict(zip(rng.permutation(names), np.repeat(wanted, sizes), strict=True))
    return pd.Series(patients.map(split_of).to_numpy(dtype=object), index=patients.index)


def _sizes(n: int, shares: np.ndarray) -> np.ndarray:
    """Return whole numbers >= 1 that sum to `n` and are nearest to `shares` of it."""
    sizes: np.ndarray = np.maximum(np.floor(n * shares).astype(int), 1)
    while sizes.sum() > n:  # a split that was lifted to one patient takes it from the largest
        sizes[sizes.argmax()] -= 1
    for index in np.argsort(-(n * shares - np.floor(n * shares)), kind="stable"):
        if sizes.sum() < n:
            sizes[index] += 1
    return sizes


def join_identical_files(split: pd.Series, patients: pd.Series, sha256: pd.Series) -> pd.Series:
    """Move patients who share an identical file into one split.

    Args:
        split, patients, sha256: of each image, shape (N,), one index.

    Returns:
        The split, shape (N,): all patients that are linked by identical files, directly or over
        others, get the split of the first of them in name order; the rest stays.
    """
    shared = sha256.duplicated(keep=False)
    group: dict[str, str] = {}

    def leader(patient: str) -> str:
        while group.get(patient, patient) != patient:
            patient = group[patient]
        return patient

    for _, linked in patients[shared].groupby(sha256[shared], sort=True):
        leaders = sorted({leader(patient) for patient in linked})
        group.update(dict.fromkeys(leaders, leaders[0]))
    moved = {patient: leader(patient) for patient in group}
    split_of = dict(zip(patients, split, strict=True))
    lead = patients.map(lambda patient: moved.get(patient, patient))
    return lead.map(split_of).astype(object)


def refuse_idle_shares(index: Index, options: Options) -> None:
    """Refuse shares that the chosen split would not use."""
    policy = options.get("split_policy")
    is_given = index.split_policy is not None and policy in (None, "official")
    found = str(index.split_policy) if is_given else f"split_policy {policy or 'drawn'}"
    idle = {
        "split_fractions": (
            policy not in (None, "drawn") or is_given,
            "a split to draw",
            "set split_policy: drawn, or leave the option out",
        ),
        "val_fraction": (
            not is_given,
            "a split of the archive or the table, whose training patients it parts",
            "leave it out; of a drawn split, split_fractions may have a share val",
        ),
    }
    problems = [
        Problem(f"option {key}", expected, found, advice)
        for key, (is_idle, expected, advice) in idle.items()
        if is_idle and options.get(key) is not None
    ]
    if problems:
        raise InputError(problems)
