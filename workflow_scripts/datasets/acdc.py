"""ACDC: 100 patients of a cardiac MR challenge, a folder each, as published.

`patient001/Info.cfg` names the frames of end-diastole and end-systole; each lies in a file of its
own with its reference: 0 background, 1 RV, 2 MYO, 3 LV. The whole cine (`_4d`) is not read and
the phantom writer leaves it out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.datasets.acdc_lists import DEFAULT_LISTS, released_lists, standard_split
from workflow_scripts.datasets.frames import case_folders, complete, in_threads, make_index
from workflow_scripts.datasets.layout import Index, Layout, Options, RenderVolume, mark_phantom
from workflow_scripts.datasets.nifti import write_nifti
from workflow_scripts.datasets.segmentation import FRAMES, Segmentation
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

LABELS = Segmentation(label_map={0: 0, 1: 3, 2: 2, 3: 1})  # golden acdc_label_remap
TOPS = ("", "training", "database/training")  # where the patients lie below the folder
FOLDER = re.compile(r"patient(\d{3})")
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")  # 20 patients each, in this order of numbers
KEYS = ("ED", "ES", "Group", "Height", "NbFrame", "Weight")
ADVICE = "use the published file"


def read(root: Path, options: Options) -> Index:
    """Read every patient's Info.cfg; see `Layout.read`.

    Raises:
        InputError: there is no patient; an Info.cfg is missing or says something impossible.
    """
    import pandas as pd

    top = next((top for top in TOPS if (root / top / "patient001").is_dir()), TOPS[0])
    rows, problems = [], []
    for folder in case_folders(root, top):
        found = FOLDER.fullmatch(folder)
        if found is None:
            continue
        info, wrong = read_info(root / top / folder / "Info.cfg")
        problems += wrong
        rows += [] if wrong else _frames(top, folder, found[1], info)
    if not rows and not problems:
        expected = "folders patient001, patient002, ..."
        problems.append(Problem(str(root / top), expected, "none", f"unpack: {LAYOUT.unpack}"))
    if problems:
        raise InputError(problems)
    table = complete(pd.DataFrame(rows))
    table["split"] = standard_split(table["patient_id"])
    lists = released_lists(options.get("lists") or DEFAULT_LISTS)
    return make_index(table, "list standard of the released code: 70, 10, 20 patients", lists)


def _frames(top: str, folder: str, patient: str, info: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one patient."""
    place = f"{top}/{folder}".lstrip("/")
    return [
        {
            "image_id": f"{patient}_{frame}",
            "path": f"{place}/{folder}_frame{info[frame]:02d}.nii.gz",
            "mask_path": f"{place}/{folder}_frame{info[frame]:02d}_gt.nii.gz",
            "patient_id": patient,
            "study_id": patient,
            "domain": "acdc",
            "frame": frame,
            "group": info["Group"],
        }
        for frame in FRAMES
    ]


def read_info(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Return what an Info.cfg says, and what is wrong with it."""
    where = f"{path.parent.name}/{path.name}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = "no file" if isinstance(error, FileNotFoundError) else str(error)
        return {}, [Problem(where, "a text file with the frames", found, ADVICE)]
    cells: dict[str, str] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        key, colon, value = (part.strip() for part in line.partition(":"))
        if line.strip() and (not colon or key not in KEYS or key in cells):
            expected = f"each of {', '.join(KEYS)} once, as `key: value`"
            problems.append(Problem(f"{where} line {number}", expected, repr(line), ADVICE))
        cells[key] = value
    info: dict[str, Any] = {}
    for key in ("ED", "ES", "NbFrame"):
        value = cells.get(key, "")
        info[key] = int(value) if re.fullmatch(r"[0-9]{1,4}", value) else 0
        if info[key] < 1:
            found = repr(value) if key in cells else "no such key"
            problems.append(Problem(f"{where} {key}", "a number from 1", found, ADVICE))
    info["Group"] = cells.get("Group")
    if info["Group"] not in GROUPS:
        expected = f"one of {', '.join(GROUPS)}"
        problems.append(Problem(f"{where} Group", expected, repr(info["Group"]), ADVICE))
    problems += [  # not used, but a damaged line shows a damaged file
        Problem(f"{where} {key}", "a number", repr(cells.get(key)), ADVICE)
        for key in ("Height", "Weight")
        if not re.fullmatch(r"\d+(\.\d*)?", cells.get(key, ""))
    ]
    if not problems and (
        info["ED"] == info["ES"] or max(info[f] for f in FRAMES) > info["NbFrame"]
    ):
        expected = f"two frames among the {info['NbFrame']}"
        found = f"ED {info['ED']}, ES {info['ES']}"
        problems.append(Problem(where, expected, found, ADVICE))
    return info, problems


def write(root: Path, truth: pd.DataFrame, render: RenderVolume, options: Options) -> None:
    """Write `truth` as the archive: one row a patient and frame, `path` as `read` returns it."""
    for place, rows in truth.groupby(truth["path"].str.rpartition("/")[0]):
        frames = zip(rows["frame"], rows["path"], strict=True)
        number = {frame: int(path[-9:-7]) for frame, path in frames}
        info = {
            "ED": number["ED"],
            "ES": number["ES"],
            "Group": rows["group"].iloc[0],
            "Height": 170.0,  # phantoms have no height or weight; the keys must be there
            "NbFrame": max(number.values()),
            "Weight": 70.0,
        }
        text = "".join(f"{key}: {value}\n" for key, value in info.items())
        write_text(root / str(place) / "Info.cfg", text)

    def write_one(row: dict[Any, Any]) -> None:
        volume = render(row)
        image = np.round(volume.image).astype(np.int16)
        write_nifti(root / row["path"], image, volume.spacing_mm)
        write_nifti(root / row["mask_path"], LABELS.to_values(volume.mask), volume.spacing_mm)

    in_threads(write_one, truth.to_dict("records"))
    mark_phantom(root, LAYOUT.name, truth)


LAYOUT = Layout(
    name="acdc",
    title="ACDC: automated cardiac diagnosis challenge",
    licence="CC BY-NC-SA 4.0 (as stated on the challenge's page)",
    access="download after registration at the challenge's page",
    source="https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html",
    citation=(
        "Bernard O, Lalande A, Zotti C, et al. Deep learning techniques for automatic MRI cardiac "
        "multi-structures segmentation and diagnosis: is the problem solved? IEEE Transactions on "
        "Medical Imaging 2018."
    ),
    unpack="the training archive, so that patient001/Info.cfg exists (training/ above it is fine)",
    metric="dice",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset(),
    policies={"lv_myo_rv": "1 RV, 2 MYO, 3 LV of the files become 3, 2, 1"},
    options={"lists": "released cross-validation lists for the manifest, such as 10_cv_0"},
    read=read,
    write=write,
    segmentation=LABELS,
    patients="acdc",
)
