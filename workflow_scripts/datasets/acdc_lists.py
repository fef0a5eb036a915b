"""Who trains, validates and tests in the cooperative training paper's experiments on ACDC.

The lists are data of this package (`acdc_splits.json`: the released split function, executed).
A list is named as the released code names it: `{setting}_cv_{number}`, such as `10_cv_0`. In
some, patients validate who also train; the manifest says so with the split `train+val`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

SOURCE = Path(__file__).with_name("acdc_splits.json")
N_FOLDS = 5  # cval 0 to 4; anything else is an error in the released code
DEFAULT_LISTS = ("standard_cv_0", *(f"10_cv_{fold}" for fold in range(N_FOLDS)))

Splits = dict[str, tuple[str, ...]]  # split to patients, in the released code's order


@cache
def _source() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(SOURCE.read_text(encoding="utf-8"))
    return content


def draw_few_shot(setting: float, fold: int) -> tuple[str, ...]:
    """Return the training patients of a numeric setting, in the order drawn.

    Args:
        setting: patients from the pool of 40; below 1 the share of them.
        fold: seed of the draw, 0 to 4.

    Source: released code (spec section 3); equals every list in `acdc_splits.json`.

    >>> draw_few_shot(3, 0)
    ('092', '004', '001')
    """
    import numpy as np

    pool = _source()["few_shot"]["labelled_pool_40_in_order"]
    n_train = int(setting) if setting >= 1 else int(len(pool) * setting)
    if not 0 < n_train <= len(pool) or fold not in range(N_FOLDS):
        raise ValueError(f"no list of {setting} patients, fold {fold}")
    if n_train == len(pool):
        return tuple(pool)
    order = np.random.RandomState(fold).permutation(len(pool))  # released generator
    return tuple(pool[i] for i in order[len(pool) - n_train :])


def released_list(name: str) -> Splits:
    """Return the patients of `train`, `val` and `test` of a list.

    Raises:
        ValueError: there is no such list.

    >>> released_list("10_cv_1")["val"]
    ('011', '071', '002', '022', '095')
    """
    setting, _, number = name.rpartition("_cv_")
    fold = int(number) if number in map(str, range(N_FOLDS)) else -1
    if not setting or fold < 0:
        raise ValueError(f"no list {name}")
    test = tuple(_source()["test_20"])
    if setting == "standard":
        standard = _source()["standard"]
        return {
            "train": tuple(standard["train_70"]),
            "val": tuple(standard["validate_10"]),
            "test": test,
        }
    few_shot = _source()["few_shot"]
    base = setting.removesuffix("_upperbound")
    extra = () if base == setting else tuple(few_shot["unlabelled_25"])
    if base in few_shot["named_settings"]:
        named = few_shot["named_settings"][base][str(fold)]
        train, val = tuple(named["train"]), tuple(named["validate"])
    else:
        train = draw_few_shot(float(base.removesuffix("_shot") if extra else base), fold)
        val = tuple(few_shot["validate_5_by_cval"][str(fold)])
    return {"train": train + extra, "val": val, "test": test}


def released_lists(names: Sequence[str]) -> dict[str, Splits]:
    """Return the lists of `names`.

    Raises:
        InputError: every name without a list.
    """
    lists, problems = {}, []
    for name in names:
        try:
            lists[name] = released_list(name)
        except ValueError:
            expected = "{setting}_cv_{0 to 4}: standard, 1 to 40, a share, one_shot, ..."
            problems.append(Problem("option lists", expected, repr(name), "correct the name"))
    if problems:
        raise InputError(problems)
    return lists


def standard_split(patients: pd.Series) -> pd.Series:
    """Return each patient's split in the list `standard`, which parts 001 to 100 soundly."""
    lists = released_list("standard_cv_0")
    split_of = {patient: split for split, group in lists.items() for patient in group}
    return patients.map(split_of).astype(object)
