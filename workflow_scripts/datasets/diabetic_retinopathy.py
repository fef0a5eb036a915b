"""EyePACS (Kaggle's diabetic retinopathy detection): photographs of both eyes, graded 0 to 4.

35,126 images for training and 53,576 for testing, two of each patient. `trainLabels.csv` has the
columns `image,level`; `testLabels.csv` (published after the competition as
`retinopathy_solution.csv`) has a third one, `Usage`, which says on which of the competition's
rankings the image counted. Rows alternate: left eye, right eye.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from workflow_scripts.datasets.index_csv import (
    find_index,
    outside,
    read_cells,
    repeated,
    require_columns,
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
from workflow_scripts.datasets.splits import released_split
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

TRAIN_INDEX, TEST_INDEX = "trainLabels.csv", "testLabels.csv"
GRADES = ("no retinopathy", "mild", "moderate", "severe", "proliferative")  # ordinal
REFERABLE = ("not referable", "referable")
LEVELS: Final = tuple(str(grade) for grade in range(len(GRADES)))
REFERABLE_FROM = 2  # moderate or worse, the usual threshold of screening
USAGES = ("Public", "Private")  # the competition's two rankings
ADVICE = f"unpack the archive so that {TRAIN_INDEX} stands at the top of the data set's folder"
TEST_ADVICE = f"name Kaggle's retinopathy_solution.csv {TEST_INDEX}, or give option test_index"


def read(root: Path, options: Options) -> Index:
    """Read both indices, training first; see `Layout.read`.

    Raises:
        InputError: an index is missing, or lacks a column; an image twice; a name that is no eye
            of a patient; a level other than 0 to 4.
    """
    import pandas as pd

    names = (TRAIN_INDEX, str(options.get("test_index") or TEST_INDEX))
    files = [
        find_index(root, [name], advice)
        for name, advice in zip(names, (ADVICE, TEST_ADVICE), strict=True)
    ]
    parts, problems = [], []
    for path, split in zip(files, ("train", "test"), strict=True):
        part, found = _read_part(path, split)
        parts.append(part)
        problems += found
    eyes = pd.concat(parts, ignore_index=True)
    first = eyes.groupby("image")["split"].transform("first")
    twice = eyes[(eyes["split"] == "test") & (first == "train")]
    problems += [
        row_problem(names[1], row, f"an image that is not in {names[0]}", image, "remove one")
        for row, image in zip(twice["row"], twice["image"], strict=True)
    ]
    if problems:
        raise InputError(problems)
    policy = LAYOUT.policy(options)
    level = eyes["level"].astype("Int64")
    table = pd.DataFrame(
        {
            "image_id": eyes["image"],
            "path": eyes["split"] + "/" + eyes["image"] + ".jpeg",
            "patient_id": eyes["patient"],
            "study_id": eyes["patient"],
            "view": eyes["side"],
            "domain": "eyepacs",
            "split": eyes["split"],
            "sex": None,
            "age_years": float("nan"),
            "race": None,
            "label": (level >= REFERABLE_FROM).astype("Int64") if policy == "referable" else level,
            "label_text": eyes["level"],
            "row": eyes["row"],
            "dropped": None,
            "split_released": eyes["split"],
            "order_released": _released_order(eyes["split"]),
        }
    )
    return Index(
        table=table,
        classes=REFERABLE if policy == "referable" else GRADES,
        filters=(),
        index_files=names,
        split_policy=f"official files {names[0]} and {names[1]}",
    )


def _read_part(path: Path, split: str) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the rows of one index with patient and side, and what is wrong with them."""
    cells = read_cells(path)
    require_columns(cells, path, {f"column {i + 1}": c for i, c in enumerate(("image", "level"))})
    advice = "use the published file"
    eye = cells["image"].str.extract(r"^(?P<patient>\d+)_(?P<side>left|right)$")
    wanted = "a patient's number, then _left or _right"
    levels = f"one of {', '.join(LEVELS)}"
    problems = [
        *repeated(cells, path.name, "image"),
        *outside(cells, path.name, "image", eye["side"].notna(), wanted, advice),
        *outside(cells, path.name, "level", cells["level"].isin(LEVELS), levels, advice),
    ]
    return cells[["image", "level", "row"]].join(eye).assign(split=split), problems


def _released_order(split: pd.Series) -> list[int]:
    """Return the position of each row after the released shuffle of each file by itself."""
    order: list[int] = []
    for part in ("train", "test"):
        start, n_rows = len(order), int((split == part).sum())
        order += (start + released_split(n_rows)["order_released"]).tolist()
    return order


def pairs(eyes: pd.DataFrame) -> pd.DataFrame:
    """Return the patients whose two eyes have the same level, for multi-view invariance.

    Args:
        eyes: rows with `patient_id`, `view`, `label` and `image_id`: a manifest, or the table of
            an index (the released code pairs even and odd rows of the file, which is the same
            where left and right alternate).

    Returns:
        One row a patient, in the order of the left eyes: `patient_id, label, left, right` (image
        ids). Patients with one eye, or two levels, are left out.

    Source: released code; golden `diabetic_retinopathy`.
    """
    sides = [
        eyes.loc[eyes["view"] == side, ["patient_id", "label", "image_id"]].rename(
            columns={"image_id": side}
        )
        for side in ("left", "right")
    ]
    both = sides[0].merge(sides[1], on=["patient_id", "label"], how="inner", validate="1:1")
    return both[["patient_id", "label", "left", "right"]]


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive; `options["test_index"]` names the test file."""
    mark_phantom(root, LAYOUT.name, truth)
    write_images(root, truth, render)
    for split in ("train", "test"):
        rows = truth[truth["split"] == split]
        lines = rows["image_id"] + "," + rows["label_text"]
        if split == "test":  # alternates by patient, as no published rule is known
            usage = [USAGES[i // 2 % 2] for i in range(len(rows))]
            lines = lines + "," + usage
        header = "image,level" if split == "train" else "image,level,Usage"
        name = TRAIN_INDEX if split == "train" else str(options.get("test_index") or TEST_INDEX)
        write_text(root / name, "\n".join([header, *lines]) + "\n")


LAYOUT = Layout(
    name="diabetic_retinopathy",
    title="EyePACS, Kaggle diabetic retinopathy detection",
    licence="competition rules: research and education; no redistribution",
    access="account at Kaggle; accept the competition's rules",
    source="https://www.kaggle.com/c/diabetic-retinopathy-detection/data",
    citation="Cuadros J, Bresnick G. EyePACS: an adaptable telemedicine system. J Diabetes Sci "
    "Technol 2009; Kaggle, Diabetic Retinopathy Detection, 2015.",
    unpack=(
        f"{TRAIN_INDEX} and {TEST_INDEX} (Kaggle: retinopathy_solution.csv) at the top; join the "
        "parts with `cat train.zip.00* > train.zip` and `cat test.zip.00* > test.zip`, then unzip "
        "both, so that train/10_left.jpeg and test/1_left.jpeg exist"
    ),
    metric="mean_per_class_accuracy",
    geometry_released="short224",  # P2 (spec section 4.1)
    has_released_split=True,
    modes=frozenset({"RGB"}),  # the released code does not convert (spec section 3)
    policies={
        "five_grades": "released: the level, 0 to 4, ordinal",
        "referable": "1 from level 2 on (moderate or worse), as in screening",
    },
    options={"test_index": f"name of the test file; default {TEST_INDEX}"},
    read=read,
    write=write,
)
