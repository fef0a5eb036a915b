"""Per-case numbers: written with gaps where undefined, read back as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.predictions import CASE_COLUMNS, METADATA_NAMES, write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report.predictions import read_case_columns, read_headers

CASES = pd.DataFrame({name: ["a", "b", None] for name in CASE_COLUMNS}).assign(
    image_id=["i0", "i1", "i1"], patient_id=["p0", "p1", "p1"], age_years=[60.0, np.nan, 70.0]
)
METADATA: dict[str, Any] = {
    **dict.fromkeys(METADATA_NAMES, "x"), "seed": 0, "kind": "classification",
    "metric": "accuracy", "protocol": "corrected",
}  # fmt: skip
DICE = np.array([0.5, np.nan, 1.0])


def test_scores_and_other_columns_come_back(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    extra = {"structure": ["LV", "RV", "RV"], "severity": [1, 2, 3]}
    write_case_scores(path, CASES, {"dice": DICE}, METADATA, extra)
    columns = read_case_columns(read_headers([path])[0])
    np.testing.assert_array_equal(columns["score_dice"], DICE)
    assert list(columns["structure"]) == ["LV", "RV", "RV"]
    assert list(columns["severity"]) == [1, 2, 3]
    assert list(columns["race"]) == ["a", "b", None]


def test_an_infinite_score_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="infinite scores: dice"):
        write_case_scores(tmp_path / "p.parquet", CASES, {"dice": DICE * np.inf}, METADATA)


def test_a_column_given_twice_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="given twice: sex"):
        write_case_scores(tmp_path / "p.parquet", CASES, {"dice": DICE}, METADATA, {"sex": DICE})


def test_a_case_without_patient_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_case_scores(path, CASES.assign(patient_id=None), {"dice": DICE}, METADATA)
    with pytest.raises(InputError, match="column patient_id"):
        read_case_columns(read_headers([path])[0])
