"""Writing predictions: the file after which no step needs torch or images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

METADATA_KEY = "steadfast"
CASE_COLUMNS = ("image_id", "patient_id", "domain", "split", "sex", "age_years", "race")
METADATA_NAMES = (
    *("system", "table", "row", "column", "protocol", "seed", "kind", "metric", "classes", "data"),
    *("checkpoint", "dataset", "options", "diagnostics"),
)


def write_predictions(
    path: Path,
    cases: pd.DataFrame,
    truth: NDArray[np.int64],
    scores: NDArray[np.float64],
    metadata: Mapping[str, Any],
    episode: NDArray[np.int64] | None = None,
) -> None:
    """Write one row a case, whole or not at all; equal content gives equal bytes.

    Args:
        path: the parquet file.
        cases: `CASE_COLUMNS` of each case, N rows.
        truth: class index, shape (N,).
        scores: larger is likelier, finite, shape (N, C).
        metadata: `METADATA_NAMES`, exactly; see docs/reference/files.md.
        episode: episode of each case, shape (N,), for `kind` episodes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if sorted(metadata) != sorted(METADATA_NAMES):
        raise ValueError(f"metadata {sorted(metadata)} instead of {sorted(METADATA_NAMES)}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    table = cases[list(CASE_COLUMNS)].assign(truth=truth)
    if episode is not None:
        table = table.assign(episode=episode)
    table = table.assign(**{f"score_{i}": column for i, column in enumerate(scores.T)})
    text = json.dumps({name: metadata[name] for name in METADATA_NAMES}, allow_nan=False)
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata({METADATA_KEY: text})
    write_atomic(path, lambda partial: pq.write_table(content, partial))
