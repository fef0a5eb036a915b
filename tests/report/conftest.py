"""Small predictions files and table values for the tests of the report."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflow_scripts.report.long_form import Value

WritePredictions = Callable[..., Path]


@pytest.fixture
def write_predictions(tmp_path: Path) -> WritePredictions:
    """Write one predictions file; `cases` replaces columns, other words replace metadata."""

    def write(
        cases: dict[str, Any] | None = None, drop: tuple[str, ...] = (), **metadata: object
    ) -> Path:
        content = {
            "system": "ssl_transfer", "table": "ssl_transfer_linear", "row": "moco-v2",
            "column": "chestx", "protocol": "released", "seed": 0, "kind": "classification",
            "metric": "accuracy", "classes": ["a", "b"], "data": "chestx",
            "checkpoint": "moco-v2", "dataset": "chestx", "options": {}, "diagnostics": {},
            **metadata,
        }  # fmt: skip
        columns: dict[str, Any] = {
            "image_id": [f"i{i}" for i in range(8)],
            "patient_id": [f"p{i // 2}" for i in range(8)],
            "truth": np.array([0, 1, 0, 1, 0, 1, 0, 1]),
            "score_0": np.array([0.9, 0.2, 0.8, 0.6, 0.7, 0.1, 0.4, 0.3]),
            "score_1": np.array([0.1, 0.8, 0.2, 0.4, 0.3, 0.9, 0.6, 0.7]),
        }
        if content["kind"] == "episodes":
            columns["episode"] = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        columns.update(cases or {})
        kept = {name: column for name, column in columns.items() if name not in drop}
        text = json.dumps({k: v for k, v in content.items() if k not in drop})
        table = pa.table(kept).replace_schema_metadata({"steadfast": text})
        path = tmp_path / f"predictions{len(list(tmp_path.glob('*.parquet')))}.parquet"
        pq.write_table(table, path)
        return path

    return write


def value_of(value: float = 0.7, **words: object) -> Value:
    """Return a few-shot value of 70 +- 1 % unless told otherwise."""
    content: dict[str, Any] = {
        "system": "ssl_transfer", "table": "ssl_transfer_few_shot", "row": "moco-v2",
        "column": "chestx 5-way", "metric": "accuracy", "value": value,
        "ci_low": value - 0.01, "ci_high": value + 0.01, "n": 600, "seeds": 1, "data": "chestx",
        "protocol": "released", "interval": "episodes", "seed_std": math.nan,
    }  # fmt: skip
    return Value(**{**content, **words})
