"""M&Ms: cardiac MR of several vendors and centres, a 4D file a patient, as published.

`Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz` holds all frames, `A0S9V9_sa_gt.nii.gz` the reference
at end-diastole and end-systole; the information CSV says which frames these are, counted from 0.
Labels: 1 LV, 2 MYO, 3 RV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.datasets.frames import complete, in_threads
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
from workflow_scripts.datasets.layout import Index, Layout, Options, RenderVolume, mark_phantom
from workflow_scripts.datasets.nifti import write_nifti
from workflow_scripts.datasets.segmentation import CARDIAC_CLASSES, FRAMES, Segmentation
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

LABELS = Segmentation(label_map={0: 0, 1: 1, 2: 2, 3: 3})
INDEX_NAMES = (
    "201014_M&Ms_Dataset_Information_-_opendataset.csv",  # released code
    "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv",  # newer release
)
PARTS = {  # folder: split
    "Training/Labeled": "train",
    "Training/Unlabeled": "train",
    "Validation": "val",
    "Testing": "test",
}
UNLABELLED = "Training/Unlabeled"
COLUMNS = ("External code", "VendorName", "Vendor", "Centre", "ED", "ES")
IN_ARCHIVE, WITH_MASK, OF_VENDOR = "a folder in the archive", "a reference mask", "a chosen vendor"
OF_PART = "a chosen part of the archive"
ADVICE = "use the published file"


def read(root: Path, options: Options) -> Index:
    """Read the information CSV; see `Layout.read`. Missing files are found later.

    Raises:
        InputError: no CSV; a column missing; a code twice; frames that are no numbers or equal;
            a folder without a row, or in two parts of the archive.
    """
    import pandas as pd

    names = [str(options["index"])] if options.get("index") else list(INDEX_NAMES)
    path = find_index(root, names, f"unpack: {LAYOUT.unpack}")
    cells = read_cells(path)
    for frame in set(FRAMES) & set(cells):  # 24.0: saved by a program that had empty cells
        cells[frame] = cells[frame].str.replace(r"^\s*(\d+)\.0\s*$", r"\1", regex=True)
    require_columns(cells, path, {f"column {number}": name for number, name in enumerate(COLUMNS)})
    part_of, problems = _parts(root, set(cells["External code"]), path.name)
    problems += repeated(cells, path.name, "External code") + _wrong_rows(cells, path.name)
    vendors = options.get("vendors")
    problems += _unknown_vendors(cells, vendors or ())
    if problems:
        raise InputError(problems)
    part = cells["External code"].map(part_of)
    patients = pd.DataFrame(
        {
            "patient_id": cells["External code"],
            "study_id": cells["External code"],
            "domain": "mms",
            "vendor": text_or_none(cells["VendorName"]),
            "center": text_or_none(cells["Centre"]),
            "group": text_or_none(cells["Pathology"]) if "Pathology" in cells else None,
            "sex": sexes(cells["Sex"]) if "Sex" in cells else None,
            "age_years": ages_years(cells["Age"]) if "Age" in cells else float("nan"),
            "split": part.map(PARTS),
            "row": cells["row"],
            "place": part.fillna("?") + "/" + cells["External code"] + "/" + cells["External code"],
            "dropped": None,
        }
    )
    chosen = options.get("parts")
    if chosen:
        patients.loc[~part.isin(_known_parts(chosen)), "dropped"] = OF_PART
    if vendors:
        patients.loc[~patients["vendor"].isin(list(vendors)), "dropped"] = OF_VENDOR
    patients.loc[part == UNLABELLED, "dropped"] = WITH_MASK
    patients.loc[part.isna(), "dropped"] = IN_ARCHIVE
    return Index(
        table=_frames(patients, cells),
        classes=CARDIAC_CLASSES,
        filters=(
            *(IN_ARCHIVE, WITH_MASK),
            *((OF_VENDOR,) if vendors else ()),
            *((OF_PART,) if chosen else ()),
        ),
        index_files=(path.name,),
        split_policy="folders Training, Validation and Testing of the archive",
    )


def _unknown_vendors(cells: pd.DataFrame, vendors: Sequence[str]) -> list[Problem]:
    """Return a problem for each chosen vendor that no row has."""
    known = sorted(set(cells["VendorName"].str.strip()))
    return [
        Problem("option vendors", f"some of {', '.join(known)}", repr(name), "correct the name")
        for name in vendors
        if name not in known
    ]


def _known_parts(chosen: object) -> list[str]:
    """Return the names of chosen parts of the archive.

    Raises:
        InputError: one that the archive does not have.
    """
    names = [str(name) for name in chosen] if isinstance(chosen, list) else [str(chosen)]
    wrong = [name for name in names if name not in PARTS]
    if wrong:
        expected = f"some of {', '.join(PARTS)}"
        raise InputError([Problem("option parts", expected, ", ".join(wrong), "correct the name")])
    return names


def _frames(patients: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return two rows a patient, ED and ES, of the same 4D file."""
    import pandas as pd

    parts = [
        patients.assign(
            image_id=patients["patient_id"] + f"_{frame}",
            path=patients["place"] + "_sa.nii.gz",
            mask_path=patients["place"] + "_sa_gt.nii.gz",
            frame=frame,
            frame_index=[int(cell) if cell.isdigit() else -1 for cell in cells[frame].str.strip()],
        )
        for frame in FRAMES
    ]
    both = pd.concat(parts).sort_index(kind="stable").drop(columns="place")
    return complete(both.reset_index(drop=True))


def _parts(root: Path, codes: set[str], file: str) -> tuple[dict[str, str], list[Problem]]:
    """Return which part of the archive holds each code, and what is wrong with the folders."""
    part_of: dict[str, str] = {}
    problems = []
    for part in PARTS:
        folder = root / part
        for place in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not place.is_dir():
                continue
            if place.name in part_of:
                expected, found = "each patient in one part", f"also in {part_of[place.name]}"
                problems.append(Problem(str(place), expected, found, "unpack the archive again"))
            elif place.name not in codes:
                expected = f"a row of {file}"
                problems.append(Problem(str(place), expected, "none", "get the matching CSV"))
            part_of[place.name] = part
    if not part_of:
        expected = f"patients in {', '.join(PARTS)}"
        problems.append(Problem(str(root), expected, "none", f"unpack: {LAYOUT.unpack}"))
    return part_of, problems


def _wrong_rows(cells: pd.DataFrame, file: str) -> list[Problem]:
    """Return a problem for each cell that no frame, vendor or centre can have."""
    problems = []
    frames = {frame: cells[frame].str.strip() for frame in FRAMES}
    # the unlabelled patients have no frames in some releases: empty in both
    is_open = (frames["ED"] == "") & (frames["ES"] == "")
    for frame, column in frames.items():
        allowed = column.str.fullmatch(r"[0-9]{1,3}") | is_open
        problems += outside(cells, file, frame, allowed, "a frame number from 0", ADVICE)
    differs = (frames["ED"] != frames["ES"]) | is_open
    problems += outside(cells, file, "ES", differs, "another frame than ED", ADVICE)
    for name in ("External code", "VendorName", "Centre"):
        filled = cells[name].str.strip() != ""
        problems += outside(cells, file, name, filled, f"a {name}", ADVICE)
    safe = cells["External code"].str.fullmatch(r"[A-Za-z0-9]+")
    return problems + outside(
        cells, file, "External code", safe, "a code of letters and digits", ADVICE
    )


def write(root: Path, truth: pd.DataFrame, render: RenderVolume, options: Options) -> None:
    """Write `truth` as the archive: two rows a patient, `path` and `frame_index` as read.

    Frames between ED and ES that the pipeline never reads repeat the nearer of the two.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    newer = str(options.get("index")) == INDEX_NAMES[1]
    extra = ("Age", "Pathology", "Sex") if newer else ()
    writer.writerow([*(("",) if newer else ()), *COLUMNS, *extra])
    vendors = [str(name) for name in sorted(truth["vendor"].unique())]
    cines: list[dict[Any, Any]] = []
    for number, (code, rows) in enumerate(truth.groupby("patient_id", sort=False)):
        frames = {str(row["frame"]): row for row in rows.to_dict("records")}
        one = frames["ED"]
        index = {frame: int(frames[frame]["frame_index"]) for frame in FRAMES}
        letter = "ABCD"[vendors.index(one["vendor"]) % 4]
        cells = [code, one["vendor"], letter, one["center"], index["ED"], index["ES"]]
        more = [_age(one["age_years"]), one["group"] or "", one["sex"] or ""]
        writer.writerow([*((number,) if newer else ()), *cells, *(more if newer else ())])
        cines.append({"frames": frames, "index": index})
    in_threads(lambda cine: _write_cine(root, cine["frames"], cine["index"], render), cines)
    write_text(root / str(options.get("index") or INDEX_NAMES[0]), text.getvalue())
    mark_phantom(root, LAYOUT.name, truth)


def _age(years: float) -> str:
    return "" if years != years else f"{years:g}"


def _write_cine(
    root: Path, frames: dict[str, dict[Any, Any]], index: dict[str, int], render: RenderVolume
) -> None:
    """Write the 4D files of one patient."""
    volumes = {frame: render(row) for frame, row in frames.items()}
    times = np.arange(max(index.values()) + 1)
    is_es = abs(times - index["ES"]) < abs(times - index["ED"])
    image = np.stack([volumes["ES" if late else "ED"].image for late in is_es])
    mask = np.zeros(image.shape, dtype=np.uint8)  # frames without reference are empty
    for frame, at in index.items():
        mask[at] = LABELS.to_values(volumes[frame].mask)
    spacing_mm = volumes["ED"].spacing_mm
    write_nifti(root / frames["ED"]["path"], np.round(image).astype(np.int16), spacing_mm)
    write_nifti(root / frames["ED"]["mask_path"], mask, spacing_mm)


LAYOUT = Layout(
    name="mms",
    title="M&Ms: multi-centre, multi-vendor and multi-disease cardiac segmentation challenge",
    licence="research use; see the challenge's page",
    access="download after registration at the challenge's page",
    source="https://www.ub.edu/mnms/",
    citation=(
        "Campello VM, Gkontra P, Izquierdo C, et al. Multi-centre, multi-vendor and multi-disease "
        "cardiac segmentation: the M&Ms challenge. IEEE Transactions on Medical Imaging 2021."
    ),
    unpack=(
        f"{INDEX_NAMES[0]} (or {INDEX_NAMES[1]}) at the top, beside the folders Training (with "
        "Labeled and Unlabeled), Validation and Testing"
    ),
    metric="dice",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset(),
    policies={"lv_myo_rv": "1 LV, 2 MYO, 3 RV"},
    options={
        "index": f"name of the CSV, {INDEX_NAMES[0]} or {INDEX_NAMES[1]}",
        "vendors": "list of VendorName to keep; all by default",
        "parts": "list of folders to keep, such as Training/Labeled; all by default",
    },
    read=read,
    write=write,
    segmentation=LABELS,
    patients="mms",
)
