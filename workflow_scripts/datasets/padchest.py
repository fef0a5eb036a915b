"""PadChest: 160,868 chest X-rays of 67,625 patients of Hospital San Juan de Alicante.

The archives hold 16-bit gray PNGs in numbered folders; how many bits are used varies with the
machine, so every image is stretched between its own darkest and brightest value. One index; its
labels are lists as Python prints them, with stray blanks. Reports are in Spanish, labels in
English. Some published files are missing or damaged, and known to be.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workflow_scripts.datasets.chest_findings import (
    FRONTAL_VIEW,
    Labels,
    finding_columns,
    nine_of,
)
from workflow_scripts.datasets.index_csv import (
    OLDEST_YEARS,
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
from workflow_scripts.datasets.padchest_unreadable import UNREADABLE
from workflow_scripts.files import void, write_atomic
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

INDEX: Final = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER: Final = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
    "PatientSex_DICOM", "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric",
    "Modality_DICOM", "Manufacturer_DICOM", "PhotometricInterpretation_DICOM",
    "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM", "SpatialResolution_DICOM",
    "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM", "Columns_DICOM",
    "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime",
    "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip
NEEDED: Final = (
    "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
    "PatientSex_DICOM", "Projection", "Labels",
)  # fmt: skip
PROJECTIONS: Final = ("PA", "AP", "AP_horizontal", "L", "COSTAL", "EXCLUDE", "UNK", "")
FRONTAL: Final = ("PA", "AP", "AP_horizontal")
READABLE: Final = "a file not known to be damaged"
WITH_LABELS: Final = "one label or more"
NOT_EXCLUDED: Final = "an image that is not marked exclude"
LIST: Final = r"\[\s*(?:(?:'[^']*'|\"[^\"]*\")\s*(?:,\s*(?:'[^']*'|\"[^\"]*\")\s*)*)?\]"
ITEM: Final = r"'([^']*)'|\"([^\"]*)\""
EXCLUDE: Final = "exclude"  # label of an image that shows no chest, or was made by mistake
NAMES: Final[Mapping[str, tuple[str, ...]]] = {  # CROCODILE spec 2.4; sub-types of the label tree
    "Atelectasis": (
        "atelectasis", "total atelectasis", "lobar atelectasis", "segmental atelectasis",
        "laminar atelectasis", "round atelectasis", "atelectasis basal",
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation",),
    "Edema": ("pulmonary edema",),
    "Effusion": ("pleural effusion", "loculated pleural effusion", "loculated fissural effusion"),
    "No Finding": ("normal",),
    "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax",),
}  # fmt: skip


def read(root: Path, options: Options) -> Index:
    """Read the index; see `Layout.read`.

    Raises:
        InputError: no index; a missing column; an image twice; a folder, projection or list of
            labels that cannot be; an image without patient.
    """
    import pandas as pd

    advice = f"put the published index at the top of the data set's folder: {LAYOUT.unpack}"
    path = find_index(root, [INDEX, f"{INDEX}.gz"], advice)
    cells = read_cells(path)
    require_columns(cells, path, {f"column {name}": name for name in NEEDED})
    if problems := [*repeated(cells, path.name, "ImageID"), *_wrong_rows(cells, path.name)]:
        raise InputError(problems)
    labels = label_lists(cells["Labels"])
    projections = cells["Projection"].str.strip()
    birth, study = (
        pd.to_numeric(texts, errors="coerce")
        for texts in (cells["PatientBirth"], cells["StudyDate_DICOM"].str[:4])
    )
    age = study - birth
    sex = cells["PatientSex_DICOM"].str.strip()
    table = pd.DataFrame(
        {
            "image_id": cells["ImageID"],
            "path": _folders(cells["ImageDir"]) + "/" + cells["ImageID"],
            "patient_id": cells["PatientID"].str.strip(),
            "study_id": text_or_none(cells["StudyID"]),
            "view": text_or_none(projections.replace({"L": "lateral"})),
            "domain": "padchest",
            "split": None,
            "sex": sex.where(sex.isin(["F", "M"]), None).astype(object),
            "age_years": age.where((age >= 0) & (age <= OLDEST_YEARS)).astype(float),
            "race": None,
            "label_text": labels.map("|".join),
            "row": cells["row"],
        }
    )
    decided = _labels(table, labels, projections)
    return Index(
        table=table.join(decided.table),
        classes=decided.classes,
        filters=decided.filters,
        index_files=(path.name,),
        unknown={name: int(table[key].isna().sum()) for name, key in ATTRIBUTES.items()},
    )


ATTRIBUTES: Final = {"age": "age_years", "sex": "sex"}


def label_lists(texts: pd.Series) -> pd.Series:
    """Return the labels of each cell, stripped and in order, without repeats.

    >>> import pandas as pd
    >>> label_lists(pd.Series(["['pneumonia', ' pleural effusion', '']", "", "[]"])).tolist()
    [['pneumonia', 'pleural effusion'], [], []]
    """
    import re

    def parse(text: str) -> list[str]:
        found = (single or double for single, double in re.findall(ITEM, text))
        return list(dict.fromkeys(label.strip() for label in found if label.strip()))

    return texts.map({text: parse(text) for text in texts.unique()})


def _folders(cells: pd.Series) -> pd.Series:
    """Return the numbered folders; a program may have saved 14 as 14.0."""
    return cells.str.strip().str.replace(r"\.0$", "", regex=True)


def _wrong_rows(cells: pd.DataFrame, file: str) -> list[Problem]:
    """Return the rows that cannot be: columns that have shifted, mostly."""
    advice = "an index whose columns have shifted; use the published file"
    rules = {
        "ImageID": (cells["ImageID"].str.fullmatch(r"[^/\\]+\.png"), "a PNG file's name"),
        "ImageDir": (_folders(cells["ImageDir"]).str.fullmatch(r"\d+"), "a numbered folder"),
        "PatientID": (cells["PatientID"].str.strip() != "", "a patient"),
        "Projection": (
            cells["Projection"].str.strip().isin(PROJECTIONS),
            f"one of {', '.join(PROJECTIONS[:-1])}",
        ),
        "Labels": (
            cells["Labels"].str.strip().str.fullmatch(f"(?:{LIST}|nan|)"),
            "a list such as ['normal']",
        ),
    }
    return [
        problem
        for column, (allowed, expected) in rules.items()
        for problem in outside(cells, file, column, allowed, expected, advice)
    ]


def _labels(table: pd.DataFrame, labels: pd.Series, projections: pd.Series) -> Labels:
    """Return the nine findings, and what the filters take out."""
    import numpy as np
    import pandas as pd

    which, distinct = pd.factorize(table["label_text"])
    sets = [set(text.split("|")) for text in distinct]
    found = np.array([[bool(s & set(names)) for names in NAMES.values()] for s in sets], float)
    present = pd.DataFrame(found[which], columns=list(NAMES), index=table.index)
    excluded = np.array([EXCLUDE in names for names in sets])[which]
    passes = {
        READABLE: ~table["image_id"].isin(UNREADABLE),
        FRONTAL_VIEW: projections.isin(FRONTAL),
        WITH_LABELS: labels.map(len) > 0,
        NOT_EXCLUDED: pd.Series(~excluded, index=table.index),
    }
    return finding_columns(nine_of(present), passes)


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive: 16-bit PNGs of 12 used bits, and the index.

    Phantom option `packed: true` writes the index as `.gz`.
    """
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, lambda row: deep(render(row)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for number, row in enumerate(truth_records(truth)):
        cells = _cells(row) | {"": str(number)}
        writer.writerow([cells.get(name, "") for name in HEADER])
    content = text.getvalue().encode()
    packed = bool((options.get("phantom") or {}).get("packed"))
    path = root / (f"{INDEX}.gz" if packed else INDEX)
    content = gzip.compress(content, mtime=0) if packed else content
    write_atomic(path, lambda partial: void(partial.write_bytes(content)))


STUDY_YEAR: Final = 2015  # of every phantom; its patients were born their age before
USED_BITS: Final = 12  # of most machines behind the archive


def deep(image: Image) -> Image:
    """Return a picture as gray with 16 bits a pixel, of which 12 are used."""
    import numpy as np
    from PIL import Image as Pillow

    levels = np.asarray(image.convert("L")).astype(np.uint16)
    return Pillow.fromarray(levels << (USED_BITS - 8))


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return the cells of one image; a phantom leaves the scanner's own columns empty."""
    age = row["age_years"]
    labels = [label for label in (row["label_text"] or "").split("|") if label]
    return {
        "ImageID": row["image_id"],
        "ImageDir": row["path"].split("/")[0],
        "StudyDate_DICOM": f"{STUDY_YEAR}0622",
        "StudyID": row["study_id"],
        "PatientID": row["patient_id"],
        "PatientBirth": "" if age is None else f"{STUDY_YEAR - age:.1f}",
        "PatientSex_DICOM": row["sex"] or "",
        "Projection": "L" if row["view"] == "lateral" else row["view"] or "",
        "BitsStored_DICOM": str(USED_BITS),
        "Report": "sin hallazgos",
        "MethodLabel": "Physician",
        "Labels": str(labels or [""]),
    }


LAYOUT = Layout(
    name="padchest",
    title="PadChest",
    licence="PadChest Dataset Research Use Agreement; no redistribution",
    access="free after registration at BIMCV",
    source="https://bimcv.cipf.es/bimcv-projects/padchest/",
    citation=(
        "Bustos A, Pertusa A, Salinas JM, de la Iglesia-Vaya M. PadChest: a large chest x-ray "
        "image dataset with multi-label annotated reports. Med Image Anal 2020."
    ),
    unpack=f"{INDEX} (plain or .gz) at the top; each archive N.zip into a folder N/",
    metric="accuracy",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset({"L", "I;16", "I"}),
    policies={
        "nine_findings": "CROCODILE's nine, by the names of the labels and their sub-types; "
        "normal is No Finding; Lung Opacity is any of five others",
    },
    options={},
    bit_depth="stretch",
    read=read,
    write=write,
)
