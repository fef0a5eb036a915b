"""A split with a spurious correlation of a stated strength, for the debiased noise experiments.

Patients are split first. The test images come in equal numbers from the four cells of attribute x
label, so that a classifier that leans on the attribute loses; the training images lean: the share
`bias` of them are aligned (attribute false with class 0, attribute true with class 1, or the
reverse), half of them in each class. Pure functions.

Source: debiased noise spec 3.4 to 3.6. The published ratio is not known; 0.9 is ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

OLD_YEARS: Final = 60  # released code: older than 60 against the rest
ATTRIBUTES: Final = {  # name: what is true of the images of the group
    "sex": "male",
    "race": "White",
    "age_years": f"over_{OLD_YEARS}",
}
OTHER_SPLITS: Final = ("split_fractions", "val_fraction")  # options that a biased split cannot heed
BALANCED: Final = ("test", "val")  # splits with equal cells, in the order they are drawn


@dataclass(frozen=True, slots=True)
class BiasedSplit:
    """How a biased split is drawn.

    Attributes:
        attribute: `sex` (male), `race` (White) or `age_years` (over 60).
        aligned_class: the class that goes with the attribute in training.
        bias: share of aligned training images.
        n_train: training images.
        n_test_per_cell, n_val_per_cell: images of each cell in test and validation.
    """

    attribute: str = "sex"
    aligned_class: int = 0  # male goes with No Finding in the published result (spec 3.5)
    bias: float = 0.9  # ours; the ratio is not published
    n_train: int = 10944  # 85 batches of 128, and a half (spec 3.5)
    n_test_per_cell: int = 200  # published test set (spec 3.4)
    n_val_per_cell: int = 0  # ours; the released code has no validation


def biased_split_problems(options: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the options of a biased split."""
    given = options.get("biased_split")
    is_biased = options.get("split_policy") == "biased"
    if is_biased and (idle := [key for key in OTHER_SPLITS if options.get(key) is not None]):
        advice = "leave it out; biased_split has n_train, n_test_per_cell and n_val_per_cell"
        return [
            Problem(
                f"option {key}", "nothing beside split_policy: biased", repr(options[key]), advice
            )
            for key in idle
        ]
    if given is None:
        return []
    if not is_biased:
        return [
            Problem("option biased_split", "split_policy: biased beside it",
                    repr(options.get("split_policy")), "set it, or leave biased_split out")
        ]  # fmt: skip
    if not isinstance(given, Mapping):
        return [Problem("option biased_split", "a mapping", repr(given), "write {bias: 0.9}")]
    names = [field.name for field in fields(BiasedSplit)]
    lowest = {"n_train": 4, "n_test_per_cell": 1, "n_val_per_cell": 0}
    problems = []
    for key, value in given.items():
        expected = ""
        if key not in names:
            expected = f"one of {', '.join(names)}"
        elif key == "attribute" and value not in ATTRIBUTES:
            expected = f"one of {', '.join(ATTRIBUTES)}"
        elif key == "aligned_class" and value not in (0, 1):
            expected = "0 or 1"
        elif key == "bias" and not (type(value) in (int, float) and 0 <= value <= 1):
            expected = "a share from 0 to 1"
        elif key in lowest and not (type(value) is int and value >= lowest[key]):
            expected = f"an integer from {lowest[key]} on"
        if expected:
            found = repr(key) if key not in names else repr(value)
            problems.append(Problem(f"option biased_split.{key}", expected, found, "correct it"))
    return problems


def biased_split_of(options: Mapping[str, Any]) -> BiasedSplit:
    """Return the options of a biased split; `biased_split_problems` has judged them."""
    return BiasedSplit(**(options.get("biased_split") or {}))


def belongs(table: pd.DataFrame, attribute: str) -> pd.Series:
    """Return whether each image's patient is male, White or over 60; <NA> where unknown.

    A race counts as White when its words contain `White` and not `Non-White`; the released code
    asks for the substring only.
    """
    values = table[attribute]
    if attribute == "sex":
        group = values == "M"
    elif attribute == "race":
        texts = values.fillna("").str.casefold()
        group = texts.str.contains("white") & ~texts.str.contains("non-white")
    else:
        group = values > OLD_YEARS
    return group.astype("boolean").where(values.notna())


def draw_biased(table: pd.DataFrame, options: BiasedSplit, rng: np.random.Generator) -> pd.Series:
    """Draw the split of each image; None for those that are not drawn.

    Args:
        table: `patient_id`, `label` (0 or 1) and the attribute's column, shape (N,).
        options: sizes and strength.
        rng: the stream of this draw.

    Returns:
        `test` and `val` with equal cells, `train` with the stated bias to within an image, or
        None, shape (N,). No patient is in two of them; images of unknown attribute are not drawn.

    Raises:
        InputError: a cell has too few images; every such cell is named.
    """
    import pandas as pd

    salt = rng.bytes(16)
    cells = cell_names(table, options.attribute)
    pool = pd.DataFrame({"patient": table["patient_id"], "cell": cells})[cells.notna()]
    pool["rank"] = pool["patient"].map(lambda patient: _ticket(salt, patient))
    pool["order"] = table["image_id"].map(lambda image: _ticket(salt, image))
    pool = pool.sort_values("order")
    names = cell_pair_names(options.attribute)
    split = pd.Series(None, index=table.index, dtype=object)
    sizes = {"test": options.n_test_per_cell, "val": options.n_val_per_cell}
    problems: list[Problem] = []
    for part in BALANCED:
        wanted = dict.fromkeys(names, sizes[part])
        chosen, used = _balanced(pool, wanted)
        split[chosen] = part
        pool = pool[~pool["patient"].isin(used)]
        problems += _too_few(part, split, cells, wanted)
    wanted = training_cells(options)
    for name, count in wanted.items():
        split[pool.index[pool["cell"] == name][:count]] = "train"
    problems += _too_few("train", split, cells, wanted)
    if problems:
        raise InputError(problems)
    return split


def _ticket(salt: bytes, name: str) -> bytes:
    """Return a random number of `name` alone, so that no image moves when another is gone."""
    return hashlib.blake2b(salt + name.encode(), digest_size=8).digest()


def cell_names(table: pd.DataFrame, attribute: str) -> pd.Series:
    """Return the cell of each image, such as `male, class 1`; None where it is unknown."""
    group = belongs(table, attribute)
    name = ATTRIBUTES[attribute]
    words = group.map({True: name, False: f"not {name}"}).astype(object)
    cells = words + ", class " + table["label"].astype(str)
    return cells.astype(object).where(group.notna() & table["label"].notna(), None)


def cell_pair_names(attribute: str) -> tuple[str, ...]:
    """Return the four cells in a fixed order."""
    name = ATTRIBUTES[attribute]
    return tuple(f"{words}, class {label}" for words in (name, f"not {name}") for label in (0, 1))


def training_cells(options: BiasedSplit) -> dict[str, int]:
    """Return the number of training images of each cell; they sum to `n_train`.

    >>> training_cells(BiasedSplit(n_train=100, bias=0.9))
    {'male, class 0': 45, 'male, class 1': 5, 'not male, class 0': 5, 'not male, class 1': 45}
    """
    n_aligned = round(options.bias * options.n_train)
    aligned = (n_aligned // 2, n_aligned - n_aligned // 2)
    n_rest = options.n_train - n_aligned
    rest = (n_rest - n_rest // 2, n_rest // 2)  # the odd image goes to the other class
    sizes = []
    for in_group in (True, False):
        for label in (0, 1):
            is_aligned = (label == options.aligned_class) == in_group
            sizes.append((aligned if is_aligned else rest)[label])
    return dict(zip(cell_pair_names(options.attribute), sizes, strict=True))


def _balanced(pool: pd.DataFrame, wanted: Mapping[str, int]) -> tuple[list[Any], set[str]]:
    """Return images that fill the cells, patient by patient, and all patients they come from."""
    missing = dict(wanted)
    chosen: list[Any] = []
    used: set[str] = set()
    for _, images in pool.groupby("rank", sort=True):
        if not any(missing.values()):
            break
        for at, cell in zip(images.index, images["cell"], strict=True):
            if missing[cell] > 0:
                missing[cell] -= 1
                chosen.append(at)
                used.add(images["patient"].iloc[0])
    return chosen, used


def _too_few(
    part: str, split: pd.Series, cells: pd.Series, wanted: Mapping[str, int]
) -> list[Problem]:
    """Return a problem for each cell of a split that could not be filled."""
    found = cells[split == part].value_counts()
    return [
        Problem(
            f"biased split, {part}",
            f"{count} images of {name}",
            f"{int(found.get(name, 0))}",
            "ask for fewer images, another bias, or give more data",
        )
        for name, count in wanted.items()
        if found.get(name, 0) < count
    ]


def require_two_classes(dataset: str, table: pd.DataFrame, attribute: str) -> None:
    """Refuse a table that a biased split cannot be drawn from."""
    found, advice = "a multi-label task", "choose the policy no_finding_vs_disease"
    if "label" in table:
        is_pair = set(table["label"].dropna()) <= {0, 1}
        n_known = int(table[attribute].notna().sum())
        if is_pair and n_known:
            return
        found = f"{table['label'].nunique()} classes, {n_known} images of known {attribute}"
        if is_pair:
            advice = "add the file that knows it (CheXpert: CHEXPERT DEMO.xlsx has the race)"
    raise refuse(f"data set {dataset}", f"two classes and a known {attribute}", found, advice)


def cell_counts(table: pd.DataFrame, attribute: str) -> dict[str, dict[str, int]]:
    """Return split -> cell -> images, for the card."""
    cells = cell_names(table, attribute)
    return {
        str(split): {name: int((rows == name).sum()) for name in cell_pair_names(attribute)}
        for split, rows in cells.groupby(table["split"], sort=True)
    }
