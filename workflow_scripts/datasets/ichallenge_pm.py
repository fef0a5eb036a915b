"""iChallenge-PM (PALM): 400 fundus photographs, healthy, highly myopic or pathologically myopic.

The released code reads the label (0, 1, 2) from a column that its authors added to the fovea
table. The rule that makes two classes of it changed: all stored results were made with {1, 2}
against 0; the code as it stands does {2} against {0, 1}, which is the challenge's task.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

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

FOLDER = "PALM-Training400/PALM-Training400"
INDEX_NAME = "PALM-Training400/fovea_location_csv.csv"
HEADER = ("ID", "imgName", "Fovea_X", "Fovea_Y", "label")  # used by position
LETTERS: Final = {"N": "0", "H": "1", "P": "2"}  # first letter of a name -> label


class Rule(NamedTuple):
    """How the three labels make classes: the class of each label, the classes, the meaning."""

    class_of: tuple[int, int, int]
    classes: tuple[str, ...]
    meaning: str


RULES: Final = {
    "results_rule": Rule(
        (0, 1, 1),
        ("no myopia", "high or pathologic myopia"),
        "of the stored results: labels 1 and 2 against 0",
    ),
    "head_rule": Rule(
        (0, 0, 1),
        ("no pathologic myopia", "pathologic myopia"),
        "of the released code's last version, and of the challenge: label 2 against 0 and 1",
    ),
    "three_grades": Rule(
        (0, 1, 2),
        ("no myopia", "high myopia", "pathologic myopia"),
        "all three labels, ordinal",
    ),
}


def read(root: Path, options: Options) -> Index:
    """Read the fovea table with its label column; see `Layout.read`.

    Raises:
        InputError: no table, or without a fifth column; an image twice; a label that is not 0, 1
            or 2, or that the image's name contradicts.
    """
    import pandas as pd

    path = find_index(root, [INDEX_NAME], f"{LAYOUT.unpack}")
    cells = read_cells(path)
    if len(cells.columns) - 1 < len(HEADER):
        raise refuse(
            f"{path.name} row 1",
            f"the columns {', '.join(HEADER)}",
            f"columns {', '.join(cells.columns[:-1])}",
            "add the label (0, 1, 2) as the fifth column",
        )
    cells = cells.set_axis([*HEADER, *cells.columns[len(HEADER) :]], axis=1)
    is_label = cells["label"].isin(list(LETTERS.values()))
    named = cells["imgName"].str[:1].map(LETTERS)
    agrees = ~is_label | named.isna() | (named == cells["label"])
    advice = "correct the label column"
    wanted = "the label of the name (N: 0, H: 1, P: 2)"
    problems = [
        *repeated(cells, path.name, "imgName"),
        *outside(cells, path.name, "label", is_label, "0, 1 or 2", advice),
        *outside(cells, path.name, "label", agrees, wanted, advice),
    ]
    if problems:
        raise InputError(problems)
    rule = RULES[LAYOUT.policy(options)]
    table = pd.DataFrame(
        {
            "image_id": cells["imgName"],
            "path": FOLDER + "/" + cells["imgName"],
            "patient_id": cells["imgName"],
            "study_id": cells["imgName"],
            "view": None,
            "domain": "ichallenge_pm",
            "split": None,
            "sex": None,
            "age_years": float("nan"),
            "race": None,
            "label": cells["label"].map(lambda label: rule.class_of[int(label)]).astype("Int64"),
            "label_text": cells["label"],
            "row": cells["row"],
            "dropped": None,
        }
    )
    return Index(
        table=table,
        classes=rule.classes,
        filters=(),
        index_files=(INDEX_NAME,),
        patients_known=False,
    )


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive; columns `fovea_x`, `fovea_y` (pixels) where it has them."""
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, render)
    lines = [
        f"{number},{row['image_id']},{row.get('fovea_x', 0):.2f},{row.get('fovea_y', 0):.2f},"
        f"{row['label_text']}"
        for number, row in enumerate(truth.to_dict("records"), start=1)
    ]
    write_text(root / INDEX_NAME, "\n".join([",".join(HEADER), *lines]) + "\n")


LAYOUT = Layout(
    name="ichallenge_pm",
    title="iChallenge-PM (PALM)",
    licence="CC BY",
    access="registration at the challenge's page",
    source="https://palm.grand-challenge.org/",
    citation=(
        "Fang H, Li F, Wu J, et al. Open fundus photograph dataset with pathologic myopia "
        "recognition and anatomical structure annotation. Scientific Data 2024."
    ),
    unpack=(
        f"the training archive, so that {FOLDER}/N0001.jpg exists, and {INDEX_NAME}: the fovea "
        f"table as CSV (columns {', '.join(HEADER)}), whose label column (0 for N..., 1 for H..., "
        "2 for P...) is no part of the archive"
    ),
    metric="accuracy",
    geometry_released="squash224",  # P1 (spec section 4.1)
    has_released_split=True,
    modes=frozenset({"RGB"}),
    policies={name: rule.meaning for name, rule in RULES.items()},
    options={},
    read=read,
    write=write,
)
