"""Montgomery County chest X-rays: 138 frontal images of tuberculosis screening, one a patient.

The sister of the Shenzhen set, which reads the same kind of index: 80 normal, 58 tuberculosis.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workflow_scripts.datasets import shenzhen
from workflow_scripts.datasets.layout import Index, Layout, Options, Render

if TYPE_CHECKING:
    import pandas as pd

INDEX_NAMES = ("montgomery_metadata.csv",)  # released code (spec section 3)
FOLDER = "MontgomerySet/CXR_png"


def read(root: Path, options: Options) -> Index:
    """Read the index; see `Layout.read` and `shenzhen.read_screening`."""
    return shenzhen.read_screening(root, options, LAYOUT, INDEX_NAMES, FOLDER)


def write(root: Path, truth: pd.DataFrame, render: Render, options: Options) -> None:
    """Write `truth` as the archive; `options["index"]` chooses the index's name."""
    name = str(options.get("index") or INDEX_NAMES[0])
    shenzhen.write_screening(root, truth, render, LAYOUT, name)


LAYOUT = Layout(
    name="montgomery",
    title="Montgomery County chest X-ray set",
    licence="open for research; acknowledge the National Library of Medicine and the county",
    access="open download, no registration",
    source=shenzhen.LAYOUT.source,
    citation=shenzhen.LAYOUT.citation,
    unpack=(
        f"{INDEX_NAMES[0]} at the top (columns {', '.join(shenzhen.HEADER)}; it is no part of the "
        f"archive), the images into {FOLDER}/"
    ),
    metric="accuracy",
    geometry_released="squash224",  # P1 (spec section 4.1)
    has_released_split=True,
    modes=shenzhen.LAYOUT.modes,
    policies=shenzhen.POLICIES,
    options={"index": f"name of the index; default {INDEX_NAMES[0]}"},
    read=read,
    write=write,
)
