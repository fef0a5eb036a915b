"""ACDC-C: corrupted copies of ACDC's test patients, a folder a corruption.

`{corruption}/{patient}_{draw}/{ED,ES}_{img,seg}.nii.gz`, prepared as `frames` are. The paper's
own files are not published: the step `corrupt` makes them from ACDC.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.datasets.frames import (
    LABELS,
    case_folders,
    frame_rows,
    in_threads,
    make_index,
    write_pair,
)
from workflow_scripts.datasets.layout import (
    Index,
    Layout,
    Options,
    RenderVolume,
    is_phantom,
    mark_phantom,
)
from workflow_scripts.problems import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

CORRUPTIONS = ("RandomBias", "RandomGhosting", "RandomMotion", "RandomSpike")


def read(root: Path, options: Options) -> Index:
    """Read the folders; see `Layout.read`. Every patient is for testing.

    Raises:
        InputError: a corruption is missing or unknown, a folder is no `{patient}_{draw}`.
    """
    present = [name for name in case_folders(root, "") if not name.startswith(".")]
    expected = f"the folders {', '.join(CORRUPTIONS)}"
    if set(present) != set(CORRUPTIONS):
        advice = "make the data set again"
        raise InputError([Problem(str(root), expected, ", ".join(present), advice)])
    cases, problems = [], []
    for corruption in CORRUPTIONS:
        for name in case_folders(root, corruption):
            patient, _, draw = name.rpartition("_")
            if not (len(patient) == 3 and patient.isdigit() and draw.isdigit()):
                where, wanted = str(root / corruption / name), "a name such as 001_0"
                problems.append(Problem(where, wanted, repr(name), "move it elsewhere"))
            cases.append((f"{corruption}/{name}", f"{corruption}_{name}", patient, corruption))
    if problems:
        raise InputError(problems)
    table = frame_rows(cases)
    table["split"] = "test"
    return make_index(table, "every patient is for testing", {})


def write(root: Path, truth: pd.DataFrame, render: RenderVolume, options: Options) -> None:
    """Write `truth` in this layout."""
    in_threads(lambda row: write_pair(root, row, render), truth.to_dict("records"))
    if not is_phantom(root):
        mark_phantom(root, LAYOUT.name, truth)


LAYOUT = Layout(
    name="acdc_c",
    title="ACDC-C: ACDC's test patients with four artefacts",
    licence="that of ACDC",
    access="made from ACDC by the rule corrupt",
    source="made_from: the ACDC entry of the configuration",
    citation=(
        "Chen C, Hammernik K, Ouyang C, Qin C, Bai W, Rueckert D. Cooperative training and latent "
        "space data augmentation for robust medical image segmentation. MICCAI 2021."
    ),
    unpack="nothing: the rule corrupt makes it",
    metric="dice",
    geometry_released=None,
    has_released_split=False,
    modes=frozenset(),
    policies={"lv_myo_rv": "1 LV, 2 MYO, 3 RV"},
    options={
        "made_from": "the data set of the configuration that is corrupted",
        "corruption": "settings of the step corrupt: draws, spike_intensity",
    },
    read=read,
    write=write,
    segmentation=LABELS,
    patients="acdc",
)
