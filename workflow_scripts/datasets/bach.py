"""BACH (ICIAR 2018): 400 breast histology photographs, 2048 x 1536, in four class folders.

The index has no header; the archive names no patient, so a split by patient is one by image.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.datasets.index_csv import find_index, outside, read_cells, repeated
from workflow_scripts.datasets.layout import (
    Index,
    Layout,
    Options,
    Render,
    mark_phantom,
    write_images,
)
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "ICIAR2018_BACH_Challenge/Photos"
INDEX_NAME = f"{FOLDER}/microscopy_ground_truth.csv"
CLASSES = ("Normal", "Benign", "InSitu", "Invasive")  # 0 ... 3 (golden bach_labels)


def read(root: Path, options: Options) -> Index:
    """Read the headerless index; see `Layout.read`.

    Raises:
        InputError: no index; an image twice; a class that is none of the four.
    """
    import pandas as pd

    path = find_index(root, [INDEX_NAME], f"unpack the archive: {LAYOUT.unpack}")
    cells = read_cells(path, header=("image", "class"))
    problems = repeated(cells, path.name, "image") + outside(
        cells,
        path.name,
        "class",
        cells["class"].isin(CLASSES),
        f"one of {', '.join(CLASSES)}",
        "use the published file",
    )
    if problems:
        raise InputError(problems)
    table = pd.DataFrame(
        {
            "image_id": cells["image"],
            "path": FOLDER + "/" + cells["class"] + "/" + cells["image"],
            "patient_id": cells["image"],
            "study_id": cells["image"],
            "view": None,
            "domain": "bach",
            "split": None,
            "sex": None,
            "age_years": float("nan"),
            "race": None,
            "label": cells["class"].map({name: i for i, name in enumerate(CLASSES)}),
            "label_text": cells["class"],
            "row": cells["row"],
            "dropped": None,
        }
    ).astype({"label": "Int64"})
    return Index(
        table=table,
        classes=CLASSES,
        filters=(),
        index_files=(INDEX_NAME,),
        patients_known=False,
    )


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive: class folders of TIFF files and the headerless index."""
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, render)
    lines = truth["image_id"] + "," + truth["label_text"]
    write_text(root / INDEX_NAME, "\n".join(lines) + "\n")


LAYOUT = Layout(
    name="bach",
    title="BACH: grand challenge on breast cancer histology images",
    licence="CC BY-NC-ND",
    access="registration at the challenge's page",
    source="https://iciar2018-challenge.grand-challenge.org/Dataset/",
    citation=(
        "Aresta G, Araujo T, Kwok S, et al. BACH: grand challenge on breast cancer histology "
        "images. Medical Image Analysis 2019."
    ),
    unpack=f"the archive with its own top folder, so that {INDEX_NAME} exists",
    metric="accuracy",
    geometry_released="squash224",  # P1 (spec section 4.1)
    has_released_split=True,
    modes=frozenset({"RGB"}),  # the released code does not convert (spec section 3)
    policies={"four_classes": "released: the class of the index"},
    options={},
    read=read,
    write=write,
)
