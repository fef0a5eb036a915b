"""Which images train, which judge while training, which test: for linear probe and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workflow_scripts.problems import InputError, Problem
from workflow_scripts.randomness import named_rng
from workflow_scripts.ssl_transfer.cases import RELEASED_ORDER, SYSTEM
from workflow_scripts.ssl_transfer.validation import released_validation, validation_by_patient

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Parts:
    """Manifest rows of the three parts; `validation` and `training` make up the training split."""

    training: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def split_images(
    table: pd.DataFrame, classes: list[str], dataset: str, by_patient: bool, seed: int
) -> Parts:
    """Return the readable images of each part.

    The released draw counts in the released order over all images of the manifest, so that a
    quarantined one moves no other. The corrected draw takes the patients of everything outside
    the test part; linear probe and fine-tuning share it.

    Args:
        table: labelled images with `part`, `label`, `patient_id` and `is_readable`.
        classes: names of the classes.
        dataset: names the corrected draw.
        by_patient: the corrected draw, not the released one.
        seed: of the draw.

    Raises:
        InputError: a part without an image, or a class without a training image.
    """
    if by_patient:
        pool = table[(table["part"] != "test") & table["is_readable"]]
        patients = pool["patient_id"].factorize()[0].astype(np.int64)
        rng = named_rng(seed, SYSTEM, "linear", dataset)
        drawn = validation_by_patient(pool["label"].to_numpy(), patients, rng)
    else:
        pool = table[table["part"] == "train"].sort_values(RELEASED_ORDER)
        drawn = released_validation(len(pool), seed)
    validation, training = (pool.iloc[rows] for rows in drawn)
    test = table[table["part"] == "test"]
    parts = Parts(*(part[part["is_readable"]] for part in (training, validation, test)))
    _check_parts(parts, classes)
    return parts


def _check_parts(parts: Parts, classes: list[str]) -> None:
    again = "give the data set more images, or leave the class out"
    named = {"validation": parts.validation, "test": parts.test}
    problems = [
        Problem(f"{name} part", "at least one image", "none", again)
        for name, part in named.items()
        if len(part) == 0
    ] + [
        Problem(f"training part, class {name!r}", "at least one image", "none", again)
        for index, name in enumerate(classes)
        if not (parts.training["label"] == index).any()
    ]
    if problems:
        raise InputError(problems)
