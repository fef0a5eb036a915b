"""A user's own data: one CSV that names an image file a row. No code, only a config entry.

`image` is the column with the image's path, relative to the CSV's folder (or to `image_folder` in
it) and with `/`. `label` names the column of a single-label task; `labels` lists the columns (1,
0, empty: unknown) of a multi-label task. The other options name the columns that the table
happens to have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from workflow_scripts.datasets.index_csv import (
    SEXES,
    ages_years,
    outside,
    read_cells,
    repeated,
    require_columns,
    sexes,
    text_or_none,
)
from workflow_scripts.datasets.layout import Index, Layout, Options
from workflow_scripts.datasets.splits import SPLITS
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

TEXT_OPTIONS = ("study", "view", "domain", "race")  # options that name a column of free text
COLUMN_OPTIONS = ("image", "label", "patient", "split", "sex", "age_years", *TEXT_OPTIONS)
UNKNOWN_SEX = {"", "u", "unknown", "na", "n/a"}
FINDING_VALUES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "": float("nan")}
NO_LABELS = {"na", "nan", "n/a", "#n/a", "null"}  # how programs write a missing label
WITH_LABEL = "a label"


def read(root: Path, options: Options) -> Index:
    """Read a user's table; see `Layout.read`.

    Raises:
        InputError: a missing option; the CSV missing, empty or without a column that an option
            names; an image twice, outside the folder or not on disk; a value outside the policy.
    """
    import pandas as pd

    _check_shape(options)
    path = root / str(options["table"])
    cells = read_cells(path)
    labels = [str(name) for name in options.get("labels") or ()]
    wanted = {f"option {key}": str(options[key]) for key in COLUMN_OPTIONS if options.get(key)}
    require_columns(cells, path, wanted | {f"option labels, {name}": name for name in labels})
    image = str(options["image"])
    folder = PurePosixPath(str(options["table"])).parent / str(options.get("image_folder") or "")
    paths = cells[image].map(lambda cell: (folder / cell).as_posix())
    patients = _column(cells, options, "patient")
    table = pd.DataFrame(
        {"image_id": cells[image], "path": paths, "row": cells["row"]}
        | {"patient_id": cells[image] if patients is None else patients.str.strip()}
        | {_target(key): _text(cells, options, key) for key in TEXT_OPTIONS}
        | {"split": _text(cells, options, "split")}
    )
    sex, age = _column(cells, options, "sex"), _column(cells, options, "age_years")
    table["sex"] = None if sex is None else sexes(sex)
    table["age_years"] = float("nan") if age is None else ages_years(age)
    problems = [
        # ./a.png is a.png
        *repeated(cells.assign(**{image: paths})[cells[image] != ""], path.name, image),
        *_wrong_paths(root, cells, path.name, image, paths),
        *_wrong_attributes(cells, table, path.name, options),
    ]
    label_table, classes, label_problems = (
        _findings(cells, path.name, labels) if labels else _classes(cells, path.name, options)
    )
    if problems or label_problems:
        raise InputError([*problems, *label_problems])
    return Index(
        table=table.join(label_table),
        classes=classes,
        filters=(WITH_LABEL,),
        index_files=(str(options["table"]),),
        split_policy=f"column {options['split']!r} of the table" if options.get("split") else None,
        patients_known=patients is not None,
    )


def _check_shape(options: Options) -> None:
    """Refuse a config entry whose options do not say what the reader must know."""
    problems = [
        Problem(f"option {key}", meaning, "nothing", f"add `{key}:` to the data set's entry")
        for key, meaning in OPTIONS.items()
        if key in ("table", "image") and not options.get(key)
    ]
    if bool(options.get("label")) == bool(options.get("labels")):
        found = "both" if options.get("label") else "neither"
        expected = "either label (one column) or labels (a list of columns)"
        problems.append(Problem("options label, labels", expected, found, "give one of the two"))
    for key in ("labels", "classes"):
        value = options.get(key)
        if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
            problems.append(Problem(f"option {key}", "a list", repr(value), "write [a, b]"))
        elif value is not None and len(set(map(str, value))) < len(value):
            problems.append(Problem(f"option {key}", "each once", repr(value), "remove the repeat"))
    if problems:
        raise InputError(problems)


def _target(option: str) -> str:
    """Return the manifest's column for an option that names a text column."""
    return "study_id" if option == "study" else option


def _column(cells: pd.DataFrame, options: Options, key: str) -> pd.Series | None:
    """Return the column that the option `key` names, None without that option."""
    return cells[str(options[key])] if options.get(key) else None


def _text(cells: pd.DataFrame, options: Options, key: str) -> pd.Series | None:
    """Return the text column that the option `key` names, None without that option."""
    column = _column(cells, options, key)
    return None if column is None else text_or_none(column)


def _wrong_paths(
    root: Path, cells: pd.DataFrame, file: str, image: str, paths: pd.Series
) -> list[Problem]:
    """Return the rows whose image lies outside the data set's folder or is no file."""
    inside = ~(paths.str.startswith("/") | paths.str.split("/").map(lambda p: ".." in p))
    outside_folder = outside(
        cells, file, image, inside, "a path below the table's folder", "move or link the files"
    )
    is_filled = cells[image].str.strip() != ""
    exists = paths.map(lambda path: (root / path).is_file()) | ~inside | ~is_filled
    advice = "correct the path, give option image_folder (both from the table's folder, with /)"
    return [
        *outside(cells, file, image, is_filled, "an image's path", "fill or remove the row"),
        *outside_folder,
        *outside(cells, file, image, exists, "an image file", advice),
    ]


def _wrong_attributes(
    cells: pd.DataFrame, table: pd.DataFrame, file: str, options: Options
) -> list[Problem]:
    """Return the rows with a patient, split, sex or age that cannot be read."""
    problems: list[Problem] = []

    def judge(key: str, allowed: pd.Series, expected: str, advice: str) -> None:
        if options.get(key):
            problems.extend(outside(cells, file, str(options[key]), allowed, expected, advice))

    judge("patient", table["patient_id"] != "", "a patient", "name the patient of every image")
    splits = f"one of {', '.join(SPLITS)}"
    judge("split", table["split"].isin(SPLITS), splits, "or leave out option split to draw one")
    if sex := options.get("sex"):
        unknown = cells[str(sex)].str.strip().str.lower().isin(UNKNOWN_SEX)
        words = f"one of {', '.join(SEXES)}"
        judge("sex", table["sex"].notna() | unknown, words, "leave the cell empty if unknown")
    if age := options.get("age_years"):
        empty = cells[str(age)].str.strip() == ""
        judge("age_years", table["age_years"].notna() | empty, "an age in years", "or leave empty")
    return problems


def _classes(
    cells: pd.DataFrame, file: str, options: Options
) -> tuple[pd.DataFrame, tuple[str, ...], list[Problem]]:
    """Return `label` and `dropped`, the classes, and the rows outside `classes`."""
    import pandas as pd

    column = str(options["label"])
    texts = cells[column].str.strip()
    present = sorted(set(texts) - {""}, key=_natural)
    classes = tuple(str(name) for name in options.get("classes") or present)
    expected = f"one of the classes {', '.join(classes)}"
    allowed = texts.isin([*classes, ""])
    advice = "correct the cell, or add the class to option classes"
    problems = outside(cells, file, column, allowed, expected, advice)
    problems += [] if options.get("classes") else _doubtful_classes(present, file, column)
    if len(classes) < 2:
        found = f"{list(classes)}"
        problems.append(Problem(f"{file}, {column}", "two classes or more", found, "add rows"))
    label = texts.map({name: code for code, name in enumerate(classes)}).astype("Int64")
    dropped = (texts == "").map({True: WITH_LABEL, False: None}).astype(object)
    frame = pd.DataFrame({"label": label, "label_text": texts})
    frame["dropped"] = dropped.where(texts == "", None)
    return frame, classes, problems


def _doubtful_classes(present: Sequence[str], file: str, column: str) -> list[Problem]:
    """Return what makes names doubtful as classes: a word for *missing*, or another spelling."""
    where = f"{file}, {column}"
    problems = [
        Problem(where, "a class, or an empty cell for unknown", repr(name), LIST_CLASSES)
        for name in present
        if name.casefold() in NO_LABELS
    ]
    for folded in dict.fromkeys(name.casefold() for name in present):
        spellings = [name for name in present if name.casefold() == folded]
        if len(spellings) > 1:
            found = ", ".join(map(repr, spellings))
            problems.append(Problem(where, "one spelling of a class", found, LIST_CLASSES))
    return problems


LIST_CLASSES = "correct the cells, or list the classes in option classes"


def _natural(name: str) -> tuple[int, float, str]:
    """Sort key: numbers by value before texts by letter."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _findings(
    cells: pd.DataFrame, file: str, labels: list[str]
) -> tuple[pd.DataFrame, tuple[str, ...], list[Problem]]:
    """Return `label_{finding}` and `dropped`, the findings, and the cells that are not 1 or 0."""
    import pandas as pd

    problems: list[Problem] = []
    columns = {}
    for name in labels:
        texts = cells[name].str.strip()
        columns[f"label_{name}"] = texts.map(FINDING_VALUES).astype(float)
        allowed = texts.isin(list(FINDING_VALUES))
        advice = "decide what an uncertain label means before it comes here"
        problems += outside(cells, file, name, allowed, "1, 0 or empty (unknown)", advice)
    frame = pd.DataFrame(columns)
    unlabelled = frame.isna().all(axis=1)
    dropped = unlabelled.map({True: WITH_LABEL, False: None}).astype(object)
    frame["dropped"] = dropped.where(unlabelled, None)
    frame["label_text"] = ""
    return frame, tuple(labels), problems


OPTIONS = {
    "table": "the CSV, relative to the data set's folder",
    "image": "column with the image's path, relative to the CSV's folder",
    "image_folder": "folder that comes before each path, relative to the CSV's folder",
    "label": "column with the class",
    "labels": "columns of a multi-label task (1, 0, empty: unknown)",
    "classes": "allowed classes in label order; without it, those that occur, sorted",
    "patient": "column with the patient",
    "study": "column with the visit's examination",
    "view": "column with the projection or side",
    "domain": "column with the hospital, vendor or data set of origin",
    "split": "column with train, val or test; without it, drawn by patient",
    "sex": "column with F or M",
    "age_years": "column with the age in years",
    "race": "column with the race",
}

LAYOUT = Layout(
    name="table",
    title="your own table",
    licence="not stated",
    access="not stated",
    source="not stated",
    citation="not stated",
    unpack="the CSV that option table names, and the images that it names",
    metric="accuracy",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset({"L", "LA", "P", "RGB", "RGBA"}),  # 8 bits; 16 would be clipped on the way
    policies={"as_given": "the labels of the table; rows without a label are left out"},
    options=OPTIONS,
    read=read,
    write=None,
)
