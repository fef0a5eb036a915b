"""Small archives of the segmentation layouts, written by their own writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.datasets.layout import layout_named
from workflow_scripts.datasets.segmentation import Volume
from workflow_scripts.datasets.volume_phantom import TRUTHS

SHAPE = (4, 20, 24)
SPACING_MM = (8.0, 1.5, 1.5)


def small_volume(row: dict[str, Any]) -> Volume:
    """A volume of a few voxels, different for each row, with all classes."""
    rng = np.random.default_rng(abs(hash(row["image_id"])) % 2**32)
    depth, spacing_mm = SHAPE, SPACING_MM
    if "contour" in row and isinstance(row["contour"], str):
        depth = (1, *SHAPE[1:])
    image = rng.integers(1, 200, depth).astype(np.int16)
    mask = np.zeros(depth, dtype=np.uint8)
    mask[:, 5:15, 6:18], mask[:, 7:13, 8:14], mask[:, 8:10, 9:12] = 3, 2, 1
    return Volume(image, mask, spacing_mm)


def truth_of(layout: str, n_patients: int, seed: int = 0, **options: object) -> pd.DataFrame:
    truth = TRUTHS[layout](np.random.default_rng(seed), n_patients, options)
    if layout == "bcdr":
        truth["contour"] = "5,5 12,5 12,14 5,14"
    return truth


def write_small(root: Path, layout: str, n_patients: int = 6, **options: object) -> pd.DataFrame:
    truth = truth_of(layout, n_patients, **options)
    write = layout_named(layout).write
    assert write is not None
    write(root, truth, small_volume, options)
    return truth


def manifest_of(
    root: Path, layout: str, **options: object
) -> tuple[pd.DataFrame, dict, pd.DataFrame]:
    from workflow_scripts.datasets.manifest import build

    return build(layout, {"layout": layout, "root": layout, **options}, root, 0, 1)
