"""STOIC 2021: 2,000 chest CTs of one patient each, with or without COVID-19.

An image is the middle slice of a volume, windowed from -1000 to 250 HU. The released code reads
volumes as (x, y, z), so its pictures are the transpose of an axial slice; option `orientation`
says which of the two the manifest names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

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
    mark_phantom,
)
from workflow_scripts.files import write_text
from workflow_scripts.problems import InputError

if TYPE_CHECKING:
    import pandas as pd

RenderScan = Callable[[dict[str, Any]], NDArray[np.int16]]  # HU, (slices, rows, columns)

INDEX_NAME = "metadata/reference.csv"
HEADER = ("PatientID", "probCOVID", "probSevere")
FOLDER = "data/mha"
ORIENTATIONS: Final = {"released": "transposed", "corrected": "axial"}
COVID = ("no COVID-19", "COVID-19")
SEVERE = ("COVID-19, not severe", "COVID-19, severe")  # death or intubation within a month
WITH_COVID = "COVID-19"
SPACING_MM: Final = (0.75, 0.75, 1.0)  # of a phantom's voxels: x, y, z


def read(root: Path, options: Options) -> Index:
    """Read the reference table; see `Layout.read`.

    Raises:
        InputError: no table, or without a column; a patient twice; a label that is not 0 or 1; a
            severe case without COVID-19.
    """
    import pandas as pd

    part = ORIENTATIONS[str(options.get("orientation") or "released")]
    path = find_index(root, [INDEX_NAME], f"unpack the archive: {LAYOUT.unpack}")
    cells = read_cells(path)
    require_columns(cells, path, {f"column {i + 1}": name for i, name in enumerate(HEADER)})
    patient, covid, severe = (cells[name] for name in HEADER)
    are_labels = covid.isin(["0", "1"]) & severe.isin(["0", "1"])
    advice = "use the published table"
    problems = [
        *repeated(cells, path.name, "PatientID"),
        *outside(cells, path.name, "PatientID", patient.str.isdecimal(), "a number", advice),
        *outside(cells, path.name, "probCOVID", covid.isin(["0", "1"]), "0 or 1", advice),
        *outside(cells, path.name, "probSevere", severe.isin(["0", "1"]), "0 or 1", advice),
        *outside(
            cells,
            path.name,
            "probSevere",
            ~are_labels | (covid >= severe),
            "0 where probCOVID is 0",
            advice,
        ),
    ]
    if problems:
        raise InputError(problems)
    of_severity = LAYOUT.policy(options) == "severe_among_covid"
    dropped = pd.Series(None, index=cells.index, dtype=object)
    if of_severity:
        dropped[covid == "0"] = WITH_COVID
    table = pd.DataFrame(
        {
            "image_id": patient,
            "path": f"{FOLDER}/" + patient + f".mha#{part}",
            "patient_id": patient,
            "study_id": patient,
            "view": None,
            "domain": "stoic",
            "split": None,
            "sex": None,
            "age_years": float("nan"),
            "race": None,
            "label": (severe if of_severity else covid).astype("Int64"),
            "label_text": covid + "|" + severe,
            "row": cells["row"],
            "dropped": dropped,
        }
    )
    return Index(
        table=table,
        classes=SEVERE if of_severity else COVID,
        filters=(WITH_COVID,) if of_severity else (),
        index_files=(INDEX_NAME,),
    )


def write(root: Path, truth: pd.DataFrame, render: RenderScan, options: Options) -> None:
    """Write `truth` as the archive; `render` returns a volume instead of a picture."""
    import SimpleITK as sitk

    mark_phantom(root, LAYOUT.name, truth)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    for record in truth.to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        volume = sitk.GetImageFromArray(render(row))
        volume.SetSpacing(SPACING_MM)  # type: ignore[no-untyped-call]
        file = root / str(row["path"]).partition("#")[0]
        sitk.WriteImage(volume, str(file), useCompression=True)
    lines = truth["image_id"] + "," + truth["label_text"].str.replace("|", ",")
    (root / INDEX_NAME).parent.mkdir(exist_ok=True)
    write_text(root / INDEX_NAME, "\n".join([",".join(HEADER), *lines]) + "\n")


LAYOUT = Layout(
    name="stoic",
    title="STOIC 2021: COVID-19 on chest CT",
    licence="CC BY-NC 4.0",
    access="open download from the registry of open data, no registration",
    source="https://registry.opendata.aws/stoic2021-training/",
    citation=(
        "Revel MP, Boussouar S, de Margerie-Mellon C, et al. Study of thoracic CT in COVID-19: "
        "the STOIC project. Radiology 2021."
    ),
    unpack=f"{INDEX_NAME}, and the volumes, so that {FOLDER}/1.mha or another patient's exists",
    metric="mean_per_class_accuracy",
    geometry_released="short224",  # P2 (spec section 4.1)
    has_released_split=True,
    modes=frozenset({"L"}),  # of the windowed slice
    policies={
        "covid": "released: COVID-19 or not (probCOVID)",
        "severe_among_covid": "severe or not, of the patients with COVID-19 (probSevere)",
    },
    options={
        "orientation": "released (rows are x, the default) or corrected (upright axial slice)",
    },
    choices={"orientation": tuple(ORIENTATIONS)},
    read=read,
    write=write,
)
