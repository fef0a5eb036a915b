"""MIMIC-CXR-JPG 2.0.0: 377,110 chest X-rays of 65,379 patients, from 227,835 studies.

Three index files, plain or `.gz`: the metadata have a row an image, CheXpert's observations a row
a study, the official split a row an image. The folder may be the one of the archive or the one
that a recursive download makes (`physionet.org/files/mimic-cxr-jpg/2.0.0/`). Sex and age are not
part of the archive.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workflow_scripts.datasets.chest_findings import (
    CHOICES,
    OBSERVATION_POLICIES,
    OBSERVATIONS,
    OPTIONS,
    Labels,
    label_texts,
    observation_labels,
    observation_values,
)
from workflow_scripts.datasets.index_csv import (
    find_index,
    outside,
    read_cells,
    repeated,
    require_columns,
    text_or_none,
)
from workflow_scripts.datasets.layout import (
    Index,
    Layout,
    Options,
    Render,
    mark_phantom,
    truth_records,
    write_images,
)
from workflow_scripts.files import void, write_atomic
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

NAME: Final = "mimic-cxr-2.0.0-{}.csv"
METADATA, LABELS, SPLIT = (NAME.format(part) for part in ("metadata", "chexpert", "split"))
DOWNLOADED: Final = "physionet.org/files/mimic-cxr-jpg/2.0.0/"  # of a recursive download
IDS: Final = ("dicom_id", "subject_id", "study_id")
METADATA_HEADER: Final = (
    *IDS, "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate",
    "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
LABEL_COLUMNS: Final = tuple(sorted(OBSERVATIONS))  # the archive has them in this order
LABEL_HEADER: Final = ("subject_id", "study_id", *LABEL_COLUMNS)
SPLIT_HEADER: Final = ("dicom_id", "study_id", "subject_id", "split")
SPLITS: Final = {"train": "train", "validate": "val", "test": "test"}
SPLIT_WORDS: Final = {ours: theirs for theirs, ours in SPLITS.items()}
VIEWS: Final = {"LATERAL": "lateral", "LL": "lateral"}  # LL: left lateral
FRONTAL: Final = ("PA", "AP")
WITH_LABELS: Final = "a study with labels"
GIVEN_SPLITS: Final = ("drawn", "test_only", "biased")  # policies that need no split file


def read(root: Path, options: Options) -> Index:
    """Read the index files; see `Layout.read`.

    Raises:
        InputError: an index file or column missing; an image or a study twice; an id or a label
            that cannot be; an image that the official split does not place.
    """
    import pandas as pd

    base, paths = _index_paths(root, options)
    cells = {part: _read_part(path) for part, path in paths.items()}
    names = {part: path.name for part, path in paths.items()}
    images, studies = cells["metadata"], cells["chexpert"]
    values, problems = observation_values(studies, names["chexpert"])
    problems += [
        *repeated(images, names["metadata"], "dicom_id"),
        *repeated(studies, names["chexpert"], "study_id"),
        *_wrong_ids(images, names["metadata"]),
    ]
    split, split_problems = _official_split(images, cells.get("split"), names)
    if problems or split_problems:
        raise InputError([*problems, *split_problems])
    patients, study_ids = images["subject_id"], images["study_id"]
    folders = "files/p" + patients.str[:2] + "/p" + patients + "/s" + study_ids + "/"
    view = text_or_none(images["ViewPosition"])
    per_image = values.set_axis(studies["study_id"]).reindex(study_ids).set_axis(images.index)
    labelled = study_ids.isin(studies["study_id"])
    table = pd.DataFrame(
        {
            "image_id": images["dicom_id"],
            "path": base + folders + images["dicom_id"] + ".jpg",
            "patient_id": patients,
            "study_id": study_ids,
            "view": view.replace(VIEWS),
            "domain": "mimic_cxr",
            "split": split,
            "sex": None,
            "age_years": float("nan"),
            "race": None,
            "label_text": label_texts(per_image).where(labelled, None),
            "row": images["row"],
        }
    )
    labels = _labels(per_image, labelled, view.isin(FRONTAL), options)
    return Index(
        table=table.join(labels.table),
        classes=labels.classes,
        filters=labels.filters,
        index_files=tuple(base + name for name in names.values()),
        split_policy=None if split is None else f"official: {names['split']}",
        unknown={"age": len(table), "race": len(table), "sex": len(table)},
    )


def _index_paths(root: Path, options: Options) -> tuple[str, dict[str, Path]]:
    """Return the folder of the archive below `root` (with `/`, or empty) and the index files."""
    base = DOWNLOADED if (root / DOWNLOADED).is_dir() else ""
    wanted = {"metadata": METADATA, "chexpert": LABELS}
    if options.get("split_policy") not in GIVEN_SPLITS:
        wanted["split"] = SPLIT
    advice = f"download it into the folder of the archive: {LAYOUT.unpack}"
    found = {
        part: find_index(root / base, [name, f"{name}.gz"], advice) for part, name in wanted.items()
    }
    return base, found


def _read_part(path: Path) -> pd.DataFrame:
    """Return one index file with the columns that it must have."""
    cells = read_cells(path)
    wanted = {
        METADATA: (*IDS, "ViewPosition"), LABELS: LABEL_HEADER, SPLIT: ("dicom_id", "split"),
    }  # fmt: skip
    columns = wanted[path.name.removesuffix(".gz")]
    require_columns(cells, path, {f"column {name}": name for name in columns})
    return cells


def _wrong_ids(images: pd.DataFrame, file: str) -> list[Problem]:
    """Return the rows whose patient or study is no number of eight digits."""
    advice = "use the published file"
    return [
        problem
        for column in ("subject_id", "study_id")
        for problem in outside(
            images, file, column, images[column].str.fullmatch(r"\d{8}"), "eight digits", advice
        )
    ]


def _official_split(
    images: pd.DataFrame, places: pd.DataFrame | None, names: dict[str, str]
) -> tuple[pd.Series | None, list[Problem]]:
    """Return the official split of each image, and the rows that cannot be placed."""
    if places is None:
        return None, []
    file = names["split"]
    problems = repeated(places, file, "dicom_id")
    words = f"one of {', '.join(SPLITS)}"
    problems += outside(
        places, file, "split", places["split"].isin(SPLITS.keys()), words, "use the published file"
    )
    split_of = dict(zip(places["dicom_id"], places["split"].map(SPLITS), strict=True))
    placed = images["dicom_id"].isin(split_of.keys())
    expected = f"an image of {file}"
    advice = "use files of one version, or set split_policy: drawn"
    problems += outside(images, names["metadata"], "dicom_id", placed, expected, advice)
    return images["dicom_id"].map(split_of).astype(object), problems


def _labels(
    values: pd.DataFrame, labelled: pd.Series, is_frontal: pd.Series, options: Options
) -> Labels:
    """Apply the policy; the images of the few studies without labels go first."""
    labels = observation_labels(values, is_frontal, LAYOUT.policy(options), options)
    table = labels.table.assign(dropped=labels.table["dropped"].where(labelled, WITH_LABELS))
    return Labels(table, labels.classes, (WITH_LABELS, *labels.filters))


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive; the index files are packed as downloaded (`.gz`).

    Where the images' paths begin with `physionet.org/`, so do the index files. Phantom option
    `packed: false` writes plain CSV.
    """
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, render)
    base = DOWNLOADED if str(truth["path"].iloc[0]).startswith(DOWNLOADED) else ""
    suffix = ".gz" if (options.get("phantom") or {}).get("packed", True) else ""
    rows = truth_records(truth)
    studies = {row["study_id"]: row for row in rows if row["label_text"] is not None}
    metadata = (
        (row["image_id"], row["patient_id"], row["study_id"], "CHEST (PA AND LAT)",
         "LATERAL" if row["view"] == "lateral" else row["view"] or "",
         3056, 2544, 21800506, "213014.531", "", "", "")
        for row in rows
    )  # fmt: skip
    observations = (
        (row["patient_id"], study, *_label_cells(row["label_text"]))
        for study, row in studies.items()
    )
    _write_csv(root / f"{base}{METADATA}{suffix}", METADATA_HEADER, metadata)
    _write_csv(root / f"{base}{LABELS}{suffix}", LABEL_HEADER, observations)
    if truth["split"].notna().all():
        places = (
            (row["image_id"], row["study_id"], row["patient_id"], SPLIT_WORDS[row["split"]])
            for row in rows
        )
        _write_csv(root / f"{base}{SPLIT}{suffix}", SPLIT_HEADER, places)


def _label_cells(text: str) -> list[str]:
    said = dict(part.split("=") for part in text.split("|") if part)
    return [f"{float(said[name]):.1f}" if name in said else "" for name in LABEL_COLUMNS]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    content = text.getvalue().encode()
    packed = gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    write_atomic(path, lambda partial: void(partial.write_bytes(packed)))


LAYOUT = Layout(
    name="mimic_cxr",
    title="MIMIC-CXR-JPG 2.0.0",
    licence="PhysioNet Credentialed Health Data License 1.5.0; no redistribution",
    access="PhysioNet account, credentialing, training in human research, data use agreement",
    source="https://physionet.org/content/mimic-cxr-jpg/2.0.0/",
    citation=(
        "Johnson AEW, Pollard TJ, Greenbaum NR, et al. MIMIC-CXR-JPG, a large publicly available "
        "database of labeled chest radiographs. arXiv 1901.07042, 2019."
    ),
    unpack=(
        f"{METADATA}, {LABELS} and {SPLIT} (each plain or .gz) and files/p10 ... files/p19, at "
        f"the top or as downloaded below {DOWNLOADED}"
    ),
    metric="accuracy",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset({"L", "RGB"}),
    policies={"nine_findings": OBSERVATION_POLICIES["nine_findings"], **OBSERVATION_POLICIES},
    options=OPTIONS,
    choices=CHOICES,
    read=read,
    write=write,
)
