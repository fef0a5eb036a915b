"""NIH ChestX-ray14: 112,120 frontal chest X-rays of 30,805 patients, labels mined from reports.

Two releases of the index exist. `Data_Entry_2017.csv` (the one of the released code) has ages like
`058Y`, `Patient ID` with leading zeros and a comma at the end of its header; the later
`Data_Entry_2017_v2020.csv` has plain numbers. In both, one heading names two columns
(`OriginalImage[Width,Height]`), which a reader that honours brackets would shift.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.datasets.chest_findings import Labels, finding_columns, nine_of
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
    write_images,
)
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    import pandas as pd

INDEX_2017 = "Data_Entry_2017.csv"
INDEX_2020 = "Data_Entry_2017_v2020.csv"
TRAIN_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
SIZE_AND_SPACING = "2500,2048,0.168,0.168"  # of a usual original; a phantom has none
NO_FINDING = "No Finding"
SEVEN = (  # classes of the released code, in its order (spec section 3)
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumothorax",
)
FOURTEEN = (
    *SEVEN[:6],
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
DEFAULT_DISEASE = "Pneumonia"
ONLY_ONE_OF_SEVEN = "exactly one finding, and that among the seven"
ADVICE = f"unpack the archive so that {INDEX_2017} stands at the top of the data set's folder"


def read(root: Path, options: Options) -> Index:
    """Read either release of the index; see `Layout.read`.

    Raises:
        InputError: no index; a missing column; an image twice; an unknown finding; a patient
            that contradicts the file name; an image that the official lists do not place.
    """
    import pandas as pd

    wanted = [str(options["index"])] if options.get("index") else [INDEX_2017, INDEX_2020]
    path = find_index(root, wanted, ADVICE)
    cells = read_cells(path, clean=_drop_trailing_commas)
    cells = cells.rename(columns={"Patient Sex": "Patient Gender"})  # some copies of v2020
    require_columns(cells, path, {f"column {i + 1}": c for i, c in enumerate(_columns()[:7])})
    problems = repeated(cells, path.name, "Image Index") + _wrong_rows(cells, path.name)
    if problems:
        raise InputError(problems)
    names, places = cells["Image Index"], _places(root)
    patients = cells["Patient ID"].str.zfill(8)
    table = pd.DataFrame(
        {
            "image_id": names,
            "path": [places.get(name, f"images/{name}") for name in names],
            "patient_id": patients,
            "study_id": patients + "_" + cells["Follow-up #"].str.zfill(3),
            "view": text_or_none(cells["View Position"]),
            "domain": "nih",
            "sex": sexes(cells["Patient Gender"]),
            "age_years": ages_years(cells["Patient Age"]),
            "race": None,
            "label_text": cells["Finding Labels"],
            "row": cells["row"],
        }
    )
    table["split"], lists = _official_split(root, table, options)
    policy = LAYOUT.policy(options)
    if policy == "no_finding_vs_disease":
        disease = str(options.get("disease") or DEFAULT_DISEASE)
        labels, classes, filters = _one_disease(table["label_text"], disease)
    else:
        labels, classes, filters = _labels(table["label_text"], policy)
    return Index(
        table=table.join(labels),
        classes=classes,
        filters=filters,
        index_files=(path.name, *lists),
        split_policy=f"official lists {TRAIN_LIST} and {TEST_LIST}" if lists else None,
        unknown={"age": int(table["age_years"].isna().sum())},
    )


def _drop_trailing_commas(content: bytes) -> bytes:
    """Repair the 2017 release: its header, and in some copies every row, ends in a comma."""
    return re.sub(rb",(\r?\n|$)", rb"\1", content)


def _columns() -> list[str]:
    """Return the column names as a comma splits the header."""
    return HEADER.split(",")


def _wrong_rows(cells: pd.DataFrame, file: str) -> list[Problem]:
    """Return the rows with a finding or a patient that cannot be."""
    known = {*FOURTEEN, NO_FINDING}
    texts = cells["Finding Labels"]
    right = {text: set(text.split("|")) <= known for text in texts.unique()}
    problems = outside(
        cells,
        file,
        "Finding Labels",
        texts.map(right),
        f"findings among {', '.join(FOURTEEN)} or {NO_FINDING}, joined by |",
        "correct the spelling or use the published file",
    )
    named = cells["Image Index"].str.extract(r"^(\d{8})_\d{3}\.", expand=False)
    agrees = named.isna() | (named == cells["Patient ID"].str.zfill(8))
    advice = "an index whose columns have shifted; use the published file"
    return problems + outside(
        cells, file, "Patient ID", agrees, "the patient of the file name", advice
    )


def _places(root: Path) -> dict[str, str]:
    """Return file name -> path for images/ and, as unpacked, images_001/images and so on."""
    unpacked = [f"{folder.name}/images" for folder in sorted(root.glob("images_*"))]
    return {
        name: f"{folder}/{name}"
        for folder in (*unpacked, "images")  # images/ has the last word
        if (root / folder).is_dir()
        for name in os.listdir(root / folder)
    }


def _official_split(
    root: Path, table: pd.DataFrame, options: Options
) -> tuple[pd.Series | None, tuple[str, ...]]:
    """Return the split of the official lists, and the lists; nothing when it is to be drawn."""
    import pandas as pd

    lists = (TRAIN_LIST, TEST_LIST)
    present = [name for name in lists if (root / name).is_file()]
    choice = options.get("split_policy")
    if choice == "drawn" or (not present and choice != "official"):
        return None, ()
    if len(present) < len(lists):
        advice = "download both lists, or set split_policy: drawn"
        raise InputError(
            Problem(str(root / name), "the official list", "no file", advice)
            for name in lists
            if name not in present
        )
    train, test = (set((root / name).read_text(encoding="utf-8").split()) for name in lists)
    names = table["image_id"]
    in_train, in_test = names.isin(train), names.isin(test)
    advice = "use the published lists, or set split_policy: drawn"
    problems = [
        row_problem(f"{TRAIN_LIST}, {TEST_LIST}, index", row, "in one of the lists", name, advice)
        for name, row in zip(
            names[in_train == in_test], table["row"][in_train == in_test], strict=True
        )
    ]
    if problems:
        raise InputError(problems)
    split = pd.Series("train", index=table.index, dtype=object).where(in_train, "test")
    return split, lists


def _labels(texts: pd.Series, policy: str) -> Labels:
    """Return the label columns with `dropped`, the classes, and the filters of the policy.

    `one_of_seven` keeps the rows whose whole text is one of the seven (golden `chestx_filter`).
    """
    import numpy as np
    import pandas as pd

    if policy != "one_of_seven":
        named = (*FOURTEEN, NO_FINDING)
        which, distinct = pd.factorize(texts)
        found = np.array([[f in text.split("|") for f in named] for text in distinct], float)
        frame = pd.DataFrame(found[which], columns=list(named), index=texts.index)
        nine = policy == "nine_findings"
        return finding_columns(nine_of(frame) if nine else frame[list(FOURTEEN)], {})
    codes = texts.map({finding: code for code, finding in enumerate(SEVEN)})
    dropped = codes.isna().map({True: ONLY_ONE_OF_SEVEN, False: None}).astype(object)
    label = codes.astype("Int64")
    frame = pd.DataFrame({"label": label, "dropped": dropped.where(codes.isna(), None)})
    return Labels(frame, SEVEN, (ONLY_ONE_OF_SEVEN,))


def _one_disease(texts: pd.Series, disease: str) -> Labels:
    """Return the labels of one disease against No Finding; other findings may accompany it.

    Raises:
        InputError: the archive has no such finding.
    """
    import pandas as pd

    if disease not in FOURTEEN:
        known = ", ".join(FOURTEEN)
        raise refuse("option disease", f"one of {known}", repr(disease), "correct the spelling")
    code_of = {
        text: 1 if disease in text.split("|") else 0 if text == NO_FINDING else None
        for text in texts.unique()
    }
    label = texts.map(code_of).astype("Int64")
    neither = f"neither {NO_FINDING} nor {disease}"
    dropped = label.isna().map({True: neither, False: None}).astype(object)
    frame = pd.DataFrame({"label": label, "dropped": dropped.where(label.isna(), None)})
    return Labels(frame, (NO_FINDING, disease), (neither,))


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive; `options["index"]` chooses the release (default: 2017)."""
    release = str(options.get("index") or INDEX_2017)
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, render)
    old = release == INDEX_2017
    rows = [_csv_row(row, old) for row in truth.to_dict("records")]
    header = HEADER + "," if old else HEADER
    write_text(root / release, "\n".join([header, *rows]) + "\n")
    if truth["split"].notna().all():
        in_train = truth["split"] != "test"  # the list is that of training and validation
        for name, chosen in ((TRAIN_LIST, in_train), (TEST_LIST, ~in_train)):
            write_text(root / name, "\n".join(truth["image_id"][chosen]) + "\n")


def _csv_row(row: Mapping[Hashable, object], old: bool) -> str:
    """Return the line of one image in the 2017 release (`old`) or that of 2020."""
    patient, visit = str(row["study_id"]).rsplit("_", 1)
    age = _age_text(float(str(row["age_years"])), old)
    sex, view = row["sex"] or "", row["view"] or ""
    if not old:
        patient, visit = str(int(patient)), str(int(visit))

    cells = (row["image_id"], row["label_text"], visit, patient, age, sex, view)
    return ",".join([*map(str, cells), SIZE_AND_SPACING])


def _age_text(years: float, old: bool) -> str:
    """Return an age as the release writes it: `058Y`, `006M`, or 58; nothing for NaN.

    Raises:
        ValueError: the release has no way to write this age.
    """
    if years != years:
        return ""
    if years == int(years):
        return f"{int(years):03}Y" if old else str(int(years))
    months = years * 12
    if old and months == round(months):
        return f"{round(months):03}M"
    raise ValueError(f"{years} years cannot be written in this release of ChestX-ray14")


LAYOUT = Layout(
    name="chestx",
    title="NIH ChestX-ray14",
    licence="no restriction on use; cite the paper and name the NIH Clinical Center",
    access="open download, no registration",
    source="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    citation=(
        "Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: hospital-scale chest "
        "X-ray database and benchmarks. CVPR 2017."
    ),
    unpack=(
        f"{INDEX_2017} (or {INDEX_2020}), {TRAIN_LIST} and {TEST_LIST} at the top; the twelve "
        "image archives into images/, or as images_001/images/ ... images_012/images/"
    ),
    metric="accuracy",
    geometry_released="short224",  # few-shot pool from the pickle made with P2 (spec section 5)
    has_released_split=True,
    modes=frozenset({"L", "RGB", "RGBA"}),  # 8-bit gray, some hundred files are RGBA
    policies={
        "one_of_seven": "released: images with exactly one finding, among seven",
        "fourteen_findings": "every image, one column a finding; No Finding is all zero",
        "no_finding_vs_disease": "No Finding against option disease; all others are left out",
        "nine_findings": "CROCODILE's nine; Lung Opacity is any of five others (all are frontal)",
    },
    options={
        "index": f"which release to read, {INDEX_2017} or {INDEX_2020}",
        "disease": f"of no_finding_vs_disease, one of the fourteen (default {DEFAULT_DISEASE})",
    },
    read=read,
    write=write,
)
