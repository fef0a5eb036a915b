"""Shenzhen chest X-rays: 662 frontal images of tuberculosis screening, one a patient.

The images come from the National Library of Medicine; the index is a repackaging of its reading
texts with the columns study_id, sex, age, findings, used by position as the released code does.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.datasets.index_csv import (
    ages_years,
    find_index,
    outside,
    read_cells,
    repeated,
    sexes,
)
from workflow_scripts.datasets.layout import (
    Index,
    Layout,
    Options,
    Render,
    mark_phantom,
    write_images,
)
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, refuse

if TYPE_CHECKING:
    import pandas as pd

INDEX_NAMES = ("shenzhen_metadata.csv", "shenzhencxr_metadata.csv")  # code, README (spec 3)
FOLDER = "ChinaSet_AllFiles/CXR_png"
HEADER = ("study_id", "sex", "age", "findings")
CLASSES = ("normal", "tuberculosis")
SEX_WORDS = {"F": "Female", "M": "Male"}


def read(root: Path, options: Options) -> Index:
    """Read the index; see `Layout.read` and `read_screening`."""
    return read_screening(root, options, LAYOUT, INDEX_NAMES, FOLDER)


def read_screening(
    root: Path, options: Options, layout: Layout, names: Sequence[str], folder: str
) -> Index:
    """Read the index of a tuberculosis set of the National Library of Medicine.

    Args:
        root: the data set's folder.
        options: `index` chooses among `names`.
        layout: whose name is the domain, and whose policies decide the label.
        names: of the index, the first that exists.
        folder: of the images.

    Raises:
        InputError: no index; fewer than four columns; an image twice; under the policy
            `file_name`, a name that does not end in `_0` or `_1`.
    """
    import pandas as pd

    path, cells = _read_cells(root, options, layout, names)
    problems = repeated(cells, path.name, "study_id")
    named = cells["study_id"].str.extract(r"_([01])\.\w+$", expand=False).astype("Int64")
    labels = (cells["findings"] != "normal").astype("Int64")
    if layout.policy(options) == "file_name":
        wanted, advice = "a name that ends in _0 or _1", "use label_policy: exact_normal"
        problems += outside(cells, path.name, "study_id", named.notna(), wanted, advice)
        labels = named
    if problems:
        raise InputError(problems)
    table = pd.DataFrame(
        {
            "image_id": cells["study_id"],
            "path": folder + "/" + cells["study_id"],
            "patient_id": cells["study_id"],
            "study_id": cells["study_id"],
            "view": None,
            "domain": layout.name,
            "split": None,
            "sex": sexes(cells["sex"]),
            "age_years": ages_years(cells["age"]),
            "race": None,
            "label": labels,
            "label_text": cells["findings"],
            "row": cells["row"],
            "dropped": None,
        }
    )
    n_against = int((named != labels).sum())  # a name that says nothing contradicts nothing
    return Index(
        table=table, classes=CLASSES, filters=(), index_files=(path.name,),
        unknown={name: int(table[key].isna().sum()) for name, key in ATTRIBUTES.items()},
        doubts={"labels that are not those of the file name": n_against},
    )  # fmt: skip


def _read_cells(
    root: Path, options: Options, layout: Layout, names: Sequence[str]
) -> tuple[Path, pd.DataFrame]:
    """Return the index and its cells, the first four columns named by their position."""
    chosen = [str(options["index"])] if options.get("index") else list(names)
    path = find_index(root, chosen, f"put it at the top of the data set's folder: {layout.unpack}")
    cells = read_cells(path)
    if len(cells.columns) - 1 < len(HEADER):
        raise refuse(
            f"{path.name} row 1",
            f"the columns {', '.join(HEADER)}",
            f"columns {', '.join(cells.columns[:-1])}",
            "use the published file",
        )
    return path, cells.set_axis([*HEADER, *cells.columns[len(HEADER) :]], axis=1)


ATTRIBUTES = {"age": "age_years", "sex": "sex"}


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive; `options["index"]` chooses the index's name."""
    write_screening(root, truth, render, LAYOUT, str(options.get("index") or INDEX_NAMES[0]))


def write_screening(
    root: Path, truth: pd.DataFrame, render: Render, layout: Layout, index_name: str
) -> None:
    """Write images and index of a tuberculosis set."""
    mark_phantom(root, layout.name, truth)
    write_images(root, truth, render)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in truth.to_dict("records"):
        sex = SEX_WORDS.get(row["sex"], "")
        age = "" if row["age_years"] != row["age_years"] else f"{row['age_years']:g}"
        writer.writerow([row["image_id"], sex, age, row["label_text"]])
    write_text(root / index_name, text.getvalue())


POLICIES = {
    "exact_normal": "released: 0 only where the text is exactly 'normal', else 1",
    "file_name": "the archive's own label: the digit at the end of the file name",
}

LAYOUT = Layout(
    name="shenzhen",
    title="Shenzhen chest X-ray set",
    licence="open for research; acknowledge the National Library of Medicine and the hospital",
    access="open download, no registration",
    source="https://lhncbc.nlm.nih.gov/LHC-downloads/dataset.html",
    citation=(
        "Jaeger S, Candemir S, Antani S, Wang YX, Lu PX, Thoma G. Two public chest X-ray datasets "
        "for computer-aided screening of pulmonary diseases. Quant Imaging Med Surg 2014."
    ),
    unpack=(
        f"{INDEX_NAMES[0]} at the top (columns {', '.join(HEADER)}; it is no part of the "
        f"archive), the images into {FOLDER}/"
    ),
    metric="accuracy",
    geometry_released="squash224",  # P1 (spec section 4.1)
    has_released_split=True,
    modes=frozenset({"L", "P", "RGB", "RGBA"}),
    policies=POLICIES,
    options={"index": f"name of the index, {INDEX_NAMES[0]} or {INDEX_NAMES[1]}"},
    read=read,
    write=write,
)
