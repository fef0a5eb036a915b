"""CheXpert: 224,316 chest X-rays of 65,240 patients, frontal and lateral, several studies each.

Two releases share index and folders and differ in image size: `CheXpert-v1.0` and
`CheXpert-v1.0-small`; the paths in `train.csv` and `valid.csv` begin with the release's name. The
released code of ssl_transfer keeps `train.csv` above that folder; debiased noise has index files
of its own (option `index`). Labels were mined from reports: 1, 0, -1 (uncertain) or blank. Race is
in a workbook of its own, `CHEXPERT DEMO.xlsx`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from workflow_scripts.datasets.chest_findings import (
    CHOICES,
    OBSERVATION_POLICIES,
    OBSERVATIONS,
    OPTIONS,
    label_texts,
    observation_labels,
    observation_values,
)
from workflow_scripts.datasets.index_csv import (
    ages_years,
    find_index,
    outside,
    read_cells,
    repeated,
    require_columns,
    sexes,
    text_or_none,
)
from workflow_scripts.datasets.layout import (
    Index,
    Layout,
    Options,
    Render,
    mark_phantom,
    row_problem,
    truth_records,
    write_images,
    years_text,
)
from workflow_scripts.datasets.splits import released_split
from workflow_scripts.datasets.workbook import read_workbook, write_workbook
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    import pandas as pd

FULL, SMALL = "CheXpert-v1.0", "CheXpert-v1.0-small"
RELEASES: Final = (FULL, SMALL)
TRAIN_INDEX, VALID_INDEX = "train.csv", "valid.csv"
HEADER: Final = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS)
PATH: Final = (
    r"^(?:(?P<release>CheXpert-v1\.0(?:-small)?)/)?"
    r"(?P<image>(?:train|valid|test)/(?P<patient>patient\d+)/(?P<study>study\d+)/"
    r"view\d+_(?:frontal|lateral)\.jpe?g)$"
)
RELEASED_TRAIN_ROWS: Final = 134_049  # released code: by count, 60 % of 223,414 (spec section 3)
DEMOGRAPHICS: Final = ("CHEXPERT DEMO.xlsx", "CHEXPERT DEMO.csv", "CHEXPERT_DEMO.csv")
DEMO_HEADER: Final = ("PATIENT", "GENDER", "AGE_AT_CXR", "PRIMARY_RACE", "ETHNICITY")
UNKNOWN_RACES: Final = ("", "unknown", "race and ethnicity unknown", "patient refused")
SEX_WORDS: Final = {"F": "Female", "M": "Male"}
ADVICE = "unpack the archive so that train.csv stands at the top, or in the release's folder"


class IndexFile(NamedTuple):
    """One index file, and the split that it means (None: none)."""

    path: Path
    name: str
    split: str | None


def read(root: Path, options: Options) -> Index:
    """Read the index files; see `Layout.read`.

    One index file (the default: `train.csv`) has the released split of ssl_transfer; of two, the
    first is for training and the second for testing.

    Raises:
        InputError: no index; a missing column; an image twice; a path, view or label that cannot
            be; a patient with two races.
    """
    import pandas as pd

    files = index_files(root, options)
    parts = [_read_part(root, file) for file in files]
    table = pd.concat([part for part, _, _ in parts], ignore_index=True)
    values = pd.concat([values for _, values, _ in parts], ignore_index=True)
    problems = [problem for _, _, found in parts for problem in found]
    if len(files) > 1:
        understood = table[table["image_id"] != ""]
        problems += repeated(understood, " and ".join(file.name for file in files), "image_id")
    if problems:
        raise InputError(problems)
    races = read_races(root)
    table["race"] = table["patient_id"].map(races).astype(object) if races else None
    table["race"] = table["race"].where(table["race"].notna(), None)
    if len(files) > 1:
        table["split_released"] = table["split"]
    else:
        n_train = int(options.get("released_train_rows") or RELEASED_TRAIN_ROWS)
        table = table.join(released_split(len(table), n_train))
    labels = observation_labels(values, table.pop("is_frontal"), LAYOUT.policy(options), options)
    return Index(
        table=table.join(labels.table),
        classes=labels.classes,
        filters=labels.filters,
        index_files=tuple(file.name for file in files),
        split_policy=None if len(files) == 1 else f"{files[0].name}, test: {files[1].name}",
        unknown={name: int(table[key].isna().sum()) for name, key in ATTRIBUTES.items()},
    )


ATTRIBUTES: Final = {"age": "age_years", "race": "race", "sex": "sex"}


def index_files(root: Path, options: Options) -> list[IndexFile]:
    """Return the index files to read: those of option `index`, or the published ones."""
    given = options.get("index")
    names = [given] if isinstance(given, str) else list(given or ())
    if not names:
        names = [TRAIN_INDEX]
        if options.get("split_policy") == "official":
            names.append(VALID_INDEX)
    if len(names) > 2:
        expected = "one index file, or two (training, test)"
        raise refuse("option index", expected, repr(names), "name the two")
    paths = [_find(root, str(name)) for name in names]
    splits = [None] if len(paths) == 1 else ["train", "test"]
    return [
        IndexFile(path, path.relative_to(root).as_posix(), split)
        for path, split in zip(paths, splits, strict=True)
    ]


def _find(root: Path, name: str) -> Path:
    """Return an index file at the top, or in the folder of a release."""
    return find_index(root, [name, *(f"{release}/{name}" for release in RELEASES)], ADVICE)


def _read_part(root: Path, file: IndexFile) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """Return the rows of one index file, their observations, and what is wrong with them."""
    import pandas as pd

    cells = read_cells(file.path)
    require_columns(cells, file.path, {f"column {i + 1}": c for i, c in enumerate(HEADER)})
    values, problems = observation_values(cells, file.name)
    parts = cells["Path"].str.extract(PATH).astype(object).fillna("")  # "": not understood
    understood = parts["image"] != ""
    sides = cells["Frontal/Lateral"].str.strip()
    expected = "train/patient00001/study1/view1_frontal.jpg, with or without the release before it"
    problems += [
        *outside(cells, file.name, "Path", understood, expected, "use the published file"),
        *outside(
            cells, file.name, "Frontal/Lateral", sides.isin(["Frontal", "Lateral"]),
            "Frontal or Lateral", "an index whose columns have shifted; use the published file",
        ),
        *repeated(cells[understood], file.name, "Path"),
    ]  # fmt: skip
    table = pd.DataFrame(
        {
            "image_id": parts["image"],
            "path": _places(root, parts),
            "patient_id": parts["patient"],
            "study_id": parts["patient"] + "/" + parts["study"],
            "view": _views(sides, cells["AP/PA"]),
            "domain": "chexpert",
            "split": file.split,
            "sex": sexes(cells["Sex"]),
            "age_years": ages_years(cells["Age"]),
            "label_text": label_texts(values),
            "row": cells["row"],
            "is_frontal": sides == "Frontal",
        }
    )
    return table, values, problems


def _places(root: Path, parts: pd.DataFrame) -> pd.Series:
    """Return where the images are: below the release that the index names, or the one there is."""
    known = parts["release"]
    folder = {name: _release_folder(root, name) for name in known.unique()}
    return known.map(folder) + parts["image"]


def _release_folder(root: Path, name: str) -> str:
    """Return the folder (with its `/`) that holds train/ and valid/ of an index's release."""
    for candidate in dict.fromkeys((name, *RELEASES, "")):
        folder = root / candidate
        if (folder / "train").is_dir() or (folder / "valid").is_dir():
            return f"{candidate}/" if candidate else ""
    return f"{name}/" if name else ""


def _views(sides: pd.Series, projections: pd.Series) -> pd.Series:
    """Return `lateral`, else the projection (`AP`, `PA`, ...), `frontal` where it is blank."""
    projection = text_or_none(projections)
    frontal = projection.where(projection.notna(), "frontal")
    return frontal.where(sides == "Frontal", "lateral")


def read_races(root: Path) -> dict[str, str | None]:
    """Return the race of each patient, as published; None where the workbook knows none.

    Raises:
        InputError: the workbook lacks a column, or gives a patient two races.
    """
    folders = ("", *(f"{release}/" for release in RELEASES))
    places = [root / f"{folder}{name}" for folder in folders for name in DEMOGRAPHICS]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return {}
    cells = read_workbook(path) if path.suffix == ".xlsx" else read_cells(path)
    require_columns(cells, path, {"patients": "PATIENT", "race": "PRIMARY_RACE"})
    races = cells["PRIMARY_RACE"].str.strip()
    races = races.astype(object).where(~races.str.casefold().isin(UNKNOWN_RACES), None)
    pairs = cells[["PATIENT", "row"]].assign(
        PRIMARY_RACE=races, PATIENT=cells["PATIENT"].str.strip()
    )
    pairs = pairs[["PATIENT", "PRIMARY_RACE", "row"]]
    is_told = pairs["PATIENT"].isin(set(pairs["PATIENT"][pairs["PRIMARY_RACE"].notna()]))
    pairs = pairs[pairs["PRIMARY_RACE"].notna() | ~is_told]  # unknown once, known at another visit
    pairs = pairs.drop_duplicates(["PATIENT", "PRIMARY_RACE"])
    twice = pairs[pairs["PATIENT"].duplicated()]
    if len(twice):
        advice = "use the published file"
        raise InputError(
            row_problem(path.name, row, f"one race of {patient}", race, advice)
            for patient, race, row in twice.itertuples(index=False)
        )
    return dict(zip(pairs["PATIENT"], pairs["PRIMARY_RACE"], strict=True))


def pairs(images: pd.DataFrame) -> pd.DataFrame:
    """Return each lateral image with a frontal one of the same study, for multi-view invariance.

    Args:
        images: rows with `patient_id`, `study_id`, `view` and `image_id`, such as a manifest.

    Returns:
        One row a lateral image: `patient_id, lateral, frontal` (image ids). The frontal image is
        `view1_frontal` as in the released code, or the study's first one where it has another
        number (there the released code stops). Studies without a frontal image are left out.

    Source: released code, spec section 3.
    """
    is_lateral = images["view"] == "lateral"
    names = {"image_id": "frontal"}
    frontal = images[~is_lateral].sort_values("image_id").drop_duplicates("study_id")
    frontal = frontal[["study_id", "image_id"]].rename(columns=names)
    both = images[is_lateral].merge(frontal, on="study_id", how="inner", validate="m:1")
    return both.rename(columns={"image_id": "lateral"})[["patient_id", "lateral", "frontal"]]


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive: the release is the one that its paths begin with.

    Rows of split `test` go to the second index file. Option `index` names the files; without it
    they stand in the release's folder. A column `race` becomes the workbook.
    """
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, render)
    release = str(truth["path"].iloc[0]).split("/", 1)[0]
    given = options.get("index")
    names = [given] if isinstance(given, str) else list(given or ())
    names = names or [f"{release}/{TRAIN_INDEX}", f"{release}/{VALID_INDEX}"]
    if "race" in truth and truth["race"].notna().any():
        _write_races(root / DEMOGRAPHICS[0], truth)
    is_test = truth["split"] == "test"
    parts = [truth] if not is_test.any() else [truth[~is_test], truth[is_test]]
    for name, rows in zip(names[: len(parts)], parts, strict=True):
        write_text(root / name, _csv_text(rows))


def _csv_text(rows: pd.DataFrame) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in truth_records(rows):
        said = dict(part.split("=") for part in str(row["label_text"]).split("|") if part)
        is_lateral = row["view"] == "lateral"
        projection = "" if row["view"] in ("lateral", "frontal", None) else row["view"]
        labels = [f"{float(said[name]):.1f}" if name in said else "" for name in OBSERVATIONS]
        sex = SEX_WORDS.get(row["sex"], "Unknown")
        side = "Lateral" if is_lateral else "Frontal"
        age = years_text(row["age_years"])
        writer.writerow([row["path"], sex, age, side, projection, *labels])
    return text.getvalue()


def _write_races(path: Path, truth: pd.DataFrame) -> None:
    rows: list[Sequence[str]] = [DEMO_HEADER]
    for row in truth_records(truth.drop_duplicates("patient_id")):
        age = years_text(row["age_years"])
        sex = SEX_WORDS.get(row["sex"], "Unknown")
        rows.append((row["patient_id"], sex, age, row["race"] or "Unknown", "Unknown"))
    write_workbook(path, rows)


LAYOUT = Layout(
    name="chexpert",
    title="CheXpert",
    licence="Stanford University Dataset Research Use Agreement; no redistribution",
    access="free after registration and agreement",
    source="https://stanfordmlgroup.github.io/competitions/chexpert/",
    citation=(
        "Irvin J, Rajpurkar P, Ko M, et al. CheXpert: a large chest radiograph dataset with "
        "uncertainty labels and expert comparison. AAAI 2019."
    ),
    unpack=(
        f"{FULL}/ or {SMALL}/ with train/, valid/, train.csv and valid.csv (these two may stand "
        f"at the top instead); for race, {DEMOGRAPHICS[0]} at the top"
    ),
    metric="accuracy",
    geometry_released="short224",  # few-shot pool from the pickle made with P2 (spec section 5)
    has_released_split=True,
    modes=frozenset({"L", "RGB"}),
    policies=OBSERVATION_POLICIES,
    options={
        **OPTIONS,
        "index": "index file, or two (training, test); default train.csv, official: and valid.csv",
        "released_train_rows": f"first shuffled rows that train; default {RELEASED_TRAIN_ROWS}",
    },
    choices=CHOICES,
    read=read,
    write=write,
)
