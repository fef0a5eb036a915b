"""The volumes that are tested: which there are, and that none was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.datasets.acdc_c import CORRUPTIONS
from workflow_scripts.datasets.volume_reader import VolumeStore
from workflow_scripts.problems import InputError, Problem, refuse

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {"acdc": "ACDC", "mms_137": "M&Ms"}  # what the paper calls two of its test sets
CORRUPTED = "acdc_c"  # its corruptions are the paper's; those of another data set say its name


def read_manifest(path: Path) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Return a manifest and its metadata: `dataset, patients` (their name space), `phantom`."""
    import pandas as pd
    import pyarrow.parquet as pq

    note = (pq.read_schema(path).metadata or {}).get(b"steadfast")
    if note is None:
        advice = "make it with datasets.manifest"
        raise refuse(str(path), "a manifest", "a Parquet file without its metadata", advice)
    about: Mapping[str, Any] = json.loads(note)
    return pd.read_parquet(path), about


def tested_cases(
    manifest: pd.DataFrame,
    about: Mapping[str, Any],
    record: Mapping[str, Any],
    store: VolumeStore,
    where: str,
) -> pd.DataFrame:
    """Return the rows of the manifest whose volumes are tested, in its order.

    Args:
        manifest: of the test data.
        about: its metadata.
        record: of the training.
        store: the volumes.
        where: name of the manifest, for messages.

    Raises:
        InputError: nothing to test; a test patient trained or validated; a volume without
            spacing, which no distance in mm can be measured in.
    """
    stored = store.index["image_id"].unique()
    tested = manifest[(manifest["split"] == "test") & manifest["image_id"].isin(stored)]
    if tested.empty:
        raise refuse(where, "volumes in split test that the store holds", "none", "see its card")
    problems = []
    if about["patients"] == record["patients_space"]:
        seen = set(record["patients"]["train"]) | set(record["patients"]["val"])
        leaking = sorted(seen & set(tested["patient_id"]))
        if leaking:
            found, advice = f"{', '.join(leaking)} in both", "choose another list"
            problems.append(Problem(where, "test patients who did not train", found, advice))
    first = store.index.drop_duplicates("image_id").set_index("image_id")
    spacing = first.loc[tested["image_id"], [f"spacing_{a}_mm" for a in ("slice", "row", "column")]]
    is_known = np.isfinite(spacing.to_numpy()).all(axis=1) & (spacing.to_numpy() > 0).all(axis=1)
    for name in tested["image_id"][~is_known]:
        expected, advice = "a spacing in mm along each axis", "correct the file's header"
        problems.append(Problem(f"{where}: volume {name}", expected, "none", advice))
    if problems:
        raise InputError(problems)
    return tested.reset_index(drop=True)


def column_of(domain: str | None, dataset: str) -> str:
    """Return the table's column of a case: the corruption, or the test set's printed name.

    >>> column_of("RandomBias", "acdc_c"), column_of("mms", "mms_137"), column_of("mms", "mine")
    ('RandomBias', 'M&Ms', 'mine')
    >>> column_of("RandomSpike", "weak_spikes")
    'RandomSpike (weak_spikes)'
    """
    if domain in CORRUPTIONS:
        return str(domain) if dataset == CORRUPTED else f"{domain} ({dataset})"
    return COLUMNS.get(dataset, dataset)
