"""The released code's layout of cardiac volumes: a folder a case, `{ED,ES}_{img,seg}.nii.gz`.

Cooperative training reads ACDC and M&Ms in this form: labels 1 LV, 2 MYO, 3 RV, intensities and
pixel spacing prepared already. `content` says whose patients these are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.datasets.acdc_lists import DEFAULT_LISTS, released_lists, standard_split
from workflow_scripts.datasets.layout import (
    Index,
    Layout,
    Options,
    RenderVolume,
    is_phantom,
    mark_phantom,
)
from workflow_scripts.datasets.nifti import write_nifti
from workflow_scripts.datasets.segmentation import CARDIAC_CLASSES, FRAMES, Segmentation
from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    import pandas as pd

LABELS = Segmentation(label_map={0: 0, 1: 1, 2: 2, 3: 3})
CONTENTS = ("acdc", "mms")


def read(root: Path, options: Options) -> Index:
    """Read the folders; see `Layout.read`. Missing files are found when files are checked.

    Raises:
        InputError: there is no case; `content` is unknown; an ACDC folder is no patient number.
    """
    content = str(options.get("content") or CONTENTS[0])
    if content not in CONTENTS:
        raise refuse("option content", f"one of {', '.join(CONTENTS)}", content, "correct it")
    cases = case_folders(root, "")
    if content == "acdc":
        wrong = [name for name in cases if not (len(name) == 3 and name.isdigit())]
        expected, advice = "a patient number such as 001", "move it elsewhere"
        if wrong:
            raise InputError([Problem(str(root / n), expected, repr(n), advice) for n in wrong])
    table = frame_rows([(name, name, name, content) for name in cases])
    if content == "mms":
        return make_index(table, None, {})
    lists = released_lists(options.get("lists") or DEFAULT_LISTS)
    table["split"] = standard_split(table["patient_id"])
    return make_index(table, "list standard of the released code: 70, 10, 20 patients", lists)


def case_folders(root: Path, below: str) -> list[str]:
    """Return the names of the folders below `root/below`, sorted.

    Raises:
        InputError: there is none.
    """
    folder = root / below
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not names:
        advice = "unpack or make the files with ED_img.nii.gz, ED_seg.nii.gz, ES_..."
        raise refuse(str(folder), "a folder a case", "none", advice)
    return names


def frame_rows(cases: Sequence[tuple[str, str, str, str]]) -> pd.DataFrame:
    """Return two rows a case, ED and ES, from (folder, case, patient, domain)."""
    import pandas as pd

    rows = [
        {
            "image_id": f"{case}_{frame}",
            "path": f"{folder}/{frame}_img.nii.gz",
            "mask_path": f"{folder}/{frame}_seg.nii.gz",
            "patient_id": patient,
            "study_id": case,
            "frame": frame,
            "domain": domain,
        }
        for folder, case, patient, domain in cases
        for frame in FRAMES
    ]
    return complete(pd.DataFrame(rows))


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cardiac index table with the columns that its archive cannot fill."""
    unknown: dict[str, Any] = dict.fromkeys(
        ("view", "sex", "race", "vendor", "center", "group", "contour", "dropped", "split")
    )
    unknown |= {"age_years": float("nan"), "frame_index": 0, "row": np.arange(len(table)) + 1}
    return table.assign(**{key: value for key, value in unknown.items() if key not in table})


def make_index(
    table: pd.DataFrame, split_policy: str | None, lists: dict[str, dict[str, tuple[str, ...]]]
) -> Index:
    """Return the index of cardiac volumes in folders."""
    return Index(
        table=table,
        classes=CARDIAC_CLASSES,
        filters=(),
        index_files=("the folders",),
        split_policy=split_policy,
        released_lists=lists,
    )


def write(root: Path, truth: pd.DataFrame, render: RenderVolume, options: Options) -> None:
    """Write `truth` in this layout, image float32, mask uint8."""
    in_threads(lambda row: write_pair(root, row, render), truth.to_dict("records"))
    if not is_phantom(root):
        mark_phantom(root, LAYOUT.name, truth)


def in_threads(work: Callable[[dict[Any, Any]], None], rows: Sequence[dict[Any, Any]]) -> None:
    """Do `work` for each row, several at a time: compressing leaves other threads running."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for _ in pool.map(work, rows):
            pass


def write_pair(root: Path, row: dict[str, Any], render: RenderVolume) -> None:
    """Render one row and write its image and mask."""
    volume = render(row)
    write_nifti(root / row["path"], volume.image.astype(np.float32), volume.spacing_mm)
    write_nifti(root / row["mask_path"], LABELS.to_values(volume.mask), volume.spacing_mm)


LAYOUT = Layout(
    name="frames",
    title="Cardiac MR in the released code's folders",
    licence="that of ACDC or M&Ms",
    access="made from ACDC or M&Ms by whoever has them",
    source="the preprocessing of the cooperative training paper",
    citation=(
        "Chen C, Hammernik K, Ouyang C, Qin C, Bai W, Rueckert D. Cooperative training and latent "
        "space data augmentation for robust medical image segmentation. MICCAI 2021."
    ),
    unpack="one folder a case with ED_img.nii.gz, ED_seg.nii.gz, ES_img.nii.gz, ES_seg.nii.gz",
    metric="dice",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset(),
    policies={"lv_myo_rv": "1 LV, 2 MYO, 3 RV"},
    options={
        "content": "whose patients: acdc (default) or mms",
        "lists": "released cross-validation lists to put into the manifest, such as 10_cv_0",
    },
    read=read,
    write=write,
    segmentation=LABELS,
    patients="acdc",
)
