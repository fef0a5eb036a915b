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
PHANTOM = "phantom"  # metadata `data` of everything made from synthetic patients or weights
UNTRAINED = " (untrained weights)"  # ends `data` where seeded weights saw real data
CASE_COLUMNS = ("image_id", "patient_id", "domain", "split", "sex", "age_years", "race")
METADATA_NAMES = (
    *("system", "table", "row", "column", "protocol", "seed", "kind", "metric", "classes", "data"),
    *("checkpoint", "dataset", "options", "diagnostics"),
)


def data_name(dataset: str, is_phantom: bool, is_trained: bool = True) -> str:
    """Return what the metadata `data` says of results.

    >>> data_name("chestx", False), data_name("chestx", True)
    ('chestx', 'phantom')

    Args:
        dataset: what the results were made from.
        is_phantom: images or weights are synthetic.
        is_trained: False for seeded weights in place of a checkpoint's.
    """
    return PHANTOM if is_phantom else dataset + UNTRAINED * (not is_trained)


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
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    table = cases[list(CASE_COLUMNS)].assign(truth=truth)
    if episode is not None:
        table = table.assign(episode=episode)
    table = table.assign(**{f"score_{i}": column for i, column in enumerate(scores.T)})
    _write(path, table, metadata)


def write_case_scores(
    path: Path,
    cases: pd.DataFrame,
    scores: Mapping[str, NDArray[np.float64]],
    metadata: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write per-case numbers that are no class scores: Dice, distances, uncertainties, findings.

    Args:
        path: the parquet file.
        cases: `CASE_COLUMNS` of each case, N rows; a case may have several rows (structures).
        scores: name to numbers of shape (N,), stored as `score_{name}`; NaN where undefined.
        metadata: `METADATA_NAMES`, exactly; see docs/reference/files.md.
        extra: other columns by name, N values each, such as `structure` or `severity`.

    Raises:
        ValueError: a score is infinite, or a column is given twice.
    """
    infinite = sorted(name for name, values in scores.items() if np.isinf(values).any())
    if infinite:
        raise ValueError(f"infinite scores: {', '.join(infinite)}")
    columns = {**(extra or {}), **{f"score_{name}": values for name, values in scores.items()}}
    twice = set(CASE_COLUMNS) & set(columns)
    if twice:
        raise ValueError(f"columns given twice: {', '.join(sorted(twice))}")
    _write(path, cases[list(CASE_COLUMNS)].assign(**columns), metadata)


def _write(path: Path, table: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Write the table with its metadata, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if sorted(metadata) != sorted(METADATA_NAMES):
        raise ValueError(f"metadata {sorted(metadata)} instead of {sorted(METADATA_NAMES)}")
    text = json.dumps(metadata, allow_nan=False, sort_keys=True)
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata({METADATA_KEY: text})
    write_atomic(path, lambda partial: pq.write_table(content, partial))
