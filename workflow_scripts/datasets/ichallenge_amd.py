"""iChallenge-AMD: 400 fundus photographs, age-related macular degeneration or not.

The archive says the class by folder (`AMD`, `Non-AMD`) and by the first letter of the name. The
released code wants a list of its own, `amd_labels.csv` (image without `.jpg`, 1 for AMD), whose
row order nobody published; policy `folder` does without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

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
from workflow_scripts.problems import InputError, refuse

if TYPE_CHECKING:
    import pandas as pd

INDEX_NAME = "amd_labels.csv"
FOLDERS: Final = ("Training400/Non-AMD", "Training400/AMD")  # of label 0 and 1
LETTERS: Final = {"N": "0", "A": "1"}  # first letter of a name -> label
CLASSES = ("no AMD", "AMD")
HEADER = ("image", "label")  # used by position, as the released code does


def read(root: Path, options: Options) -> Index:
    """Read the list, or the folders; see `Layout.read`.

    Raises:
        InputError: no list (or no image in a folder); an image twice; a label that is not 0 or 1,
            or that the image's name contradicts.
    """
    import pandas as pd

    by_folder = LAYOUT.policy(options) == "folder"
    advice = f"write one, or set label_policy: folder; {LAYOUT.unpack}"
    cells = _listed(root) if by_folder else _read_list(find_index(root, [INDEX_NAME], advice))
    folder = cells["label"].map({str(i): name for i, name in enumerate(FOLDERS)})
    table = pd.DataFrame(
        {
            "image_id": cells["image"],
            "path": folder + "/" + (cells["file"] if by_folder else cells["image"] + ".jpg"),
            "patient_id": cells["image"],
            "study_id": cells["image"],
            "view": None,
            "domain": "ichallenge_amd",
            "split": None,
            "sex": None,
            "age_years": float("nan"),
            "race": None,
            "label": cells["label"].astype("Int64"),
            "label_text": cells["label"],
            "row": cells["row"],
            "dropped": None,
        }
    )
    return Index(
        table=table,
        classes=CLASSES,
        filters=(),
        index_files=FOLDERS if by_folder else (INDEX_NAME,),
        patients_known=False,
    )


def _read_list(path: Path) -> pd.DataFrame:
    """Return image and label of each row of the list."""
    cells = read_cells(path)
    if len(cells.columns) - 1 < len(HEADER):
        found = f"columns {', '.join(cells.columns[:-1])}"
        raise refuse(f"{path.name} row 1", "an image column and a label column", found, "add it")
    cells = cells.set_axis([*HEADER, *cells.columns[len(HEADER) :]], axis=1)
    is_label = cells["label"].isin(list(LETTERS.values()))
    named = cells["image"].str[:1].map(LETTERS)
    agrees = ~is_label | named.isna() | (named == cells["label"])
    advice = "correct the list, or set label_policy: folder"
    problems = [
        *repeated(cells, path.name, "image"),
        *outside(cells, path.name, "label", is_label, "0 or 1 (AMD)", advice),
        *outside(cells, path.name, "label", agrees, "the label of the name (A: 1, N: 0)", advice),
    ]
    if problems:
        raise InputError(problems)
    return cells


def _listed(root: Path) -> pd.DataFrame:
    """Return image and label of each file of the two folders, by folder and name."""
    import pandas as pd

    rows = []
    for label, folder in enumerate(FOLDERS):
        images = [
            path
            for path in sorted((root / folder).glob("*"))
            # ._A0001.jpg: what macOS puts beside a file
            if path.suffix.lower() == ".jpg" and not path.name.startswith(".")
        ]
        if not images:
            raise refuse(str(root / folder), "photographs (.jpg)", "none", LAYOUT.unpack)
        rows += [(path.stem, str(label), path.name) for path in images]
    cells = pd.DataFrame(rows, columns=[*HEADER, "file"], dtype=object)
    cells["row"] = range(1, len(cells) + 1)
    return cells


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive, and the released code's list."""
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, render)
    lines = truth["image_id"] + "," + truth["label_text"]
    write_text(root / INDEX_NAME, "\n".join([",".join(HEADER), *lines]) + "\n")


LAYOUT = Layout(
    name="ichallenge_amd",
    title="iChallenge-AMD (ADAM)",
    licence="CC BY-NC-ND",
    access="registration at the challenge's page",
    source="https://refuge.grand-challenge.org/iChallenge-AMD/",
    citation=(
        "Fang H, Li F, Fu H, et al. ADAM challenge: detecting age-related macular degeneration "
        "from fundus images. IEEE Trans Med Imaging 2022."
    ),
    unpack=(
        f"the training archive, so that {FOLDERS[1]}/A0001.jpg and {FOLDERS[0]}/N0001.jpg exist; "
        f"{INDEX_NAME} (header, then image without .jpg and 1 or 0) at the top, which is no part "
        "of the archive"
    ),
    metric="accuracy",
    geometry_released="squash224",  # P1 (spec section 4.1)
    has_released_split=True,
    modes=frozenset({"RGB"}),
    policies={
        "list": f"released: the label of {INDEX_NAME}",
        "folder": "the archive's own label: the folder that holds the image; needs no list",
    },
    options={},
    read=read,
    write=write,
)
