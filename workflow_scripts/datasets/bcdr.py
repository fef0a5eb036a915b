"""BCDR: mammograms with outlined lesions, five subsets, as published.

Each subset has its outlines CSV; a lesion is a polygon in pixels of a TIFF image. BCDR
distributes no masks: they are filled from the outlines.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.datasets.contours import contour_points, contour_text
from workflow_scripts.datasets.frames import in_threads
from workflow_scripts.datasets.index_csv import ages_years, outside, read_cells, require_columns
from workflow_scripts.datasets.layout import Index, Layout, Options, RenderVolume, mark_phantom
from workflow_scripts.datasets.segmentation import Segmentation
from workflow_scripts.files import write_atomic, write_text
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

LABELS = Segmentation(label_map={0: 0, 1: 1}, in_plane_mm=None, slice_mm=None)
SUBSETS = {  # subset: its outlines (spec section 3.1)
    "D01": "BCDR-D01_dataset/bcdr_d01_outlines.csv",
    "D02": "BCDR-D02_dataset/bcdr_d02_outlines.csv",
    "F01": "BCDR-F01_dataset/bcdr_f01_outlines.csv",
    "F02": "BCDR-F02_dataset/bcdr_f02_outlines.csv",
    "F03": "BCDR-F03_dataset/BCDR-F03/bcdr_f03_outlines.csv",
}
FINDINGS = (
    "mammography_nodule",
    "mammography_calcification",
    "mammography_microcalcification",
    "mammography_axillary_adenopathy",
    "mammography_architectural_distortion",
    "mammography_stroma_distortion",
)
KEYS = ("patient_id", "study_id", "series", "lesion_id", "segmentation_id", "image_view")
COLUMNS = (
    *KEYS,
    "image_filename",
    "lw_x_points",
    "lw_y_points",
    "mammography_type",
    *FINDINGS,
    "age",
    "density",
    "classification",
)
VIEWS = {"1": "right CC", "2": "left CC", "3": "right MLO", "4": "left MLO"}
GROUPS = {"malign": "Malign", "benign": "Benign"}
A_MASS, ONCE = "a mass", "each lesion once"
RELEASED_SEED, RELEASED_SHARE = 13, 0.20  # of the patients to test, of the rest to val
ADVICE = "use the published file"


def read(root: Path, options: Options) -> Index:
    """Read the outlines of all subsets; see `Layout.read`.

    Raises:
        InputError: a subset is missing; a cell is no number, view or polygon.
    """
    import pandas as pd

    subsets = list(options.get("subsets") or SUBSETS)
    unknown = [name for name in subsets if name not in SUBSETS]
    missing = [n for n in subsets if n not in unknown and not (root / SUBSETS[n]).is_file()]
    problems = [
        Problem("option subsets", f"some of {', '.join(SUBSETS)}", repr(name), "correct it")
        for name in unknown
    ] + [
        Problem(str(root / SUBSETS[n]), "the outlines", "no file", f"unpack: {LAYOUT.unpack}")
        for n in missing
    ]
    parts = []
    for name in subsets if not problems else []:
        try:
            parts.append(_read_subset(root, name))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    table = pd.concat(parts, ignore_index=True)
    table["dropped"] = table["dropped"].astype(object).where(table["dropped"].notna(), None)
    is_released = LAYOUT.policy(options) == "masses_released"
    if not is_released:  # the subset's name tells the same numbers of two subsets apart
        table["image_id"] = table["domain"].str.removeprefix("bcdr_") + "-" + table["image_id"]
    is_kept = table["dropped"].isna()
    again = table[is_kept]["image_id"].duplicated()
    table.loc[again[again].index, "dropped"] = ONCE
    kept = table["dropped"].isna()
    table.loc[kept, "split_released"] = released_split(table.loc[kept, "patient_id"])
    return Index(
        table=table,
        classes=("background", "mass"),
        filters=(A_MASS, ONCE),
        index_files=tuple(SUBSETS[name] for name in subsets),
    )


def _read_subset(root: Path, name: str) -> pd.DataFrame:
    """Return the lesions of one subset."""
    import pandas as pd

    path = root / SUBSETS[name]
    cells = read_cells(path)
    cells.columns = [column.strip() for column in cells.columns]
    require_columns(cells, path, {f"column {i}": column for i, column in enumerate(COLUMNS)})
    cells = cells.assign(**{column: cells[column].str.strip() for column in COLUMNS})
    problems = _wrong_rows(cells, path.name)
    if problems:
        raise InputError(problems)
    folder = PurePosixPath(SUBSETS[name]).parent
    view = cells["image_view"].map(VIEWS)
    side = view.fillna("UNKNOWN UNKNOWN").str.upper().str.replace(" ", "_")
    names = "pid_{}-{}-sid_{}-lid_{}".format
    keys = (cells["patient_id"], side, cells["study_id"], cells["lesion_id"])
    return pd.DataFrame(
        {
            "image_id": [names(*key) for key in zip(*keys, strict=True)],
            "path": [str(folder / file) for file in cells["image_filename"]],
            "mask_path": None,
            "contour": _contours(cells),
            "patient_id": cells["patient_id"],
            "study_id": cells["patient_id"] + "_" + cells["study_id"],
            "view": view.astype(object).where(view.notna(), None),
            "domain": f"bcdr_{name}",
            "split": None,
            "sex": None,
            "age_years": ages_years(cells["age"]),
            "race": None,
            "frame": None,
            "frame_index": 0,
            "vendor": None,
            "center": None,
            "group": cells["classification"].str.lower().map(GROUPS),
            "row": cells["row"],
            "dropped": cells["mammography_nodule"].map({"0": A_MASS}),
        }
    )


def _wrong_rows(cells: pd.DataFrame, file: str) -> list[Problem]:
    """Return a problem for each cell that the archive cannot hold."""
    problems = []
    for column in KEYS:
        is_number = cells[column].str.fullmatch(r"[0-9]+")
        problems += outside(cells, file, column, is_number, "a whole number", ADVICE)
    for column in FINDINGS:
        problems += outside(cells, file, column, cells[column].isin(["0", "1"]), "0 or 1", ADVICE)
    known = cells["classification"].str.lower().isin(list(GROUPS))
    problems += outside(cells, file, "classification", known, "Benign or Malign", ADVICE)
    safe = cells["image_filename"].map(_is_safe)
    expected = "patient_{p}/study_{s}/img_....tif of the row's patient and study"
    problems += outside(cells, file, "image_filename", safe, expected, ADVICE)
    places = "patient_" + cells["patient_id"] + "/study_" + cells["study_id"]
    folders = cells["image_filename"].str.rpartition("/")[0]
    problems += outside(
        cells, file, "image_filename", (folders == places) | ~safe, expected, ADVICE
    )
    points = r"-?[0-9]{1,5}( +-?[0-9]{1,5}){2,}"
    is_unused = cells["mammography_nodule"] == "0"  # calcifications may be a point or two
    for column in ("lw_x_points", "lw_y_points"):
        is_list = cells[column].str.fullmatch(points) | is_unused
        problems += outside(cells, file, column, is_list, "three whole numbers or more", ADVICE)
    counts = [cells[c].map(lambda cell: len(cell.split())) for c in ("lw_x_points", "lw_y_points")]
    expected = "as many y as x points"
    fits = (counts[0] == counts[1]) | is_unused
    return problems + outside(cells, file, "lw_y_points", fits, expected, ADVICE)


def _is_safe(name: str) -> bool:
    """Return whether a file name stays below the subset's folder and is a TIFF."""
    parts = PurePosixPath(name).parts
    return ".." not in parts and len(parts) == 3 and bool(re.fullmatch(r"[^/\\].*\.tif", name))


def _contours(cells: pd.DataFrame) -> list[str | None]:
    """Return the outline of each mass; None for what is no mass and is left out."""
    rows = zip(cells["mammography_nodule"], cells["lw_x_points"], cells["lw_y_points"], strict=True)
    return [
        None if flag == "0" else contour_text(np.array([x.split(), y.split()], dtype=int).T)
        for flag, x, y in rows
    ]


def released_split(patients: pd.Series) -> pd.Series:
    """Return the released code's split by patient, seed 13: 20 % test, 20 % of the rest val.

    Source: spec section 3.1; golden `group_split_seed13`. Patient numbers of different subsets
    count as one patient, which can only keep more together.
    """
    import pandas as pd
    from sklearn.model_selection import GroupShuffleSplit

    split = pd.Series("train", index=patients.index, dtype=object)
    groups = patients.astype(int)
    for name in ("test", "val"):
        rest = groups[split == "train"]
        if rest.nunique() < 2:
            continue  # a handful of patients: nothing left to part
        splitter = GroupShuffleSplit(
            n_splits=1, test_size=RELEASED_SHARE, random_state=RELEASED_SEED
        )
        _, chosen = next(splitter.split(rest, groups=rest))
        split.loc[rest.index[chosen]] = name
    return split


def write(root: Path, truth: pd.DataFrame, render: RenderVolume, options: Options) -> None:
    """Write `truth` as the archive: TIFF images and outlines with their stray spaces.

    `truth` has one row a lesion with `contour` (as `contour_text`), `domain`, `group`, and
    `path`; columns of the outlines that the manifest does not keep get plain values.
    """
    from PIL import Image

    codes = {view: code for code, view in VIEWS.items()}
    for name, rows in truth.groupby(truth["domain"].str.removeprefix("bcdr_"), sort=False):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        folder = PurePosixPath(SUBSETS[str(name)]).parent
        for row in rows.to_dict("records"):
            writer.writerow(_outline(row, codes, folder))
        write_text(root / SUBSETS[str(name)], text.getvalue())

    def write_one(row: dict[Any, Any]) -> None:
        image = Image.fromarray(np.round(render(row).image[0]).astype(np.uint8))
        write_atomic(root / row["path"], image.save)

    in_threads(write_one, truth.drop_duplicates("path").to_dict("records"))
    mark_phantom(root, LAYOUT.name, truth)


def _outline(row: dict[Any, Any], codes: dict[str, str], folder: PurePosixPath) -> list[str]:
    """Return the cells of one lesion, with a space in front of texts as published."""
    lesion = str(row["image_id"]).rpartition("lid_")[2]
    study = str(row["study_id"]).rpartition("_")[2]
    x, y = contour_points(row["contour"]).T.astype(str)
    age = "NaN" if row["age_years"] != row["age_years"] else f"{row['age_years']:g}"
    file = PurePosixPath(row["path"]).relative_to(folder)
    view = codes.get(row["view"], "5")
    keys = [row["patient_id"], study, "1", lesion, "1", view]
    points = [" " + " ".join(x), " " + " ".join(y)]
    return [*keys, f" {file}", *points, "1", "1", *["0"] * 5, age, "2", f" {row['group']}"]


LAYOUT = Layout(
    name="bcdr",
    title="BCDR: breast cancer digital repository, masses with outlines",
    licence="research use under the repository's terms",
    access="registration at the repository's page",
    source="https://bcdr.eu",
    citation=(
        "Lopez MG, Posada N, Moura DC, et al. BCDR: a breast cancer digital repository. "
        "International Conference on Experimental Mechanics 2012."
    ),
    unpack=f"the archives of the five subsets, so that {SUBSETS['D01']} exists",
    metric="dice",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset({"L", "I;16"}),
    policies={
        "masses": "outlines with the nodule flag; a lesion once in its subset",
        "masses_released": "the same, but equal numbers in two subsets count as one lesion",
    },
    options={"subsets": f"list of subsets to read, of {', '.join(SUBSETS)}; all by default"},
    read=read,
    write=write,
    segmentation=LABELS,
)
