"""Kinds of predictions of the analyses: means over versions, and CKA."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.metrics.invariance import reported
from workflow_scripts.metrics.representation import alignment, cka, gram, unbiased_alignment
from workflow_scripts.predictions import CASE_COLUMNS, write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.kinds import alignment as alignment_kind
from workflow_scripts.report.kinds import version_means
from workflow_scripts.report.predictions import Header, read_headers

RNG = np.random.default_rng(0)


def write(
    path: Path, scores: dict[str, np.ndarray], kind: str, metric: str, **extra: np.ndarray
) -> Header:
    n = len(next(iter(scores.values())))
    n_versions = int(extra["version"].max()) + 1 if "version" in extra else 1
    cases = pd.DataFrame(dict.fromkeys(CASE_COLUMNS), index=range(n))
    cases["image_id"] = cases["patient_id"] = [f"p{i // n_versions}" for i in range(n)]
    about: dict[str, Any] = dict.fromkeys(("checkpoint", "dataset", "domain"), "d")
    about = {
        "system": "ssl_transfer", "table": "t", "row": "r", "column": "c", "kind": kind,
        "protocol": "corrected", "seed": 0, "metric": metric, "classes": [], "data": "d",
        "checkpoint": "r", "dataset": "d", "options": {}, "diagnostics": {},
    }  # fmt: skip
    write_case_scores(path, cases, scores, about, extra)
    return read_headers([path])[0]


def test_mean_over_cases_then_versions_with_an_interval(tmp_path: Path) -> None:
    grid = RNG.uniform(-1, 1, size=(9, 3))
    grid[2, 1] = np.nan
    scores = {"mahalanobis": np.abs(grid).ravel(), "whitened_cosine": grid.ravel()}
    scores["images_per_dimension"] = np.full(27, 0.5)
    version = np.tile(np.arange(3), 9)
    path = tmp_path / "a.parquet"
    header = write(path, scores, "version_means", "whitened_cosine", version=version)
    values = version_means.table_values([(header,)], Resampling(0, 200), 1)
    assert [v.metric for v in values] == ["whitened_cosine", "mahalanobis", "images_per_dimension"]
    assert values[0].value == pytest.approx(reported(grid))
    assert values[0].ci_low < values[0].value < values[0].ci_high
    assert values[0].n == 9
    assert math.isnan(values[2].ci_low)  # the same everywhere: nothing to resample


def test_a_version_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    version = np.array([0, 1, 1, 0])
    header = write(path, {"cosine": np.ones(4)}, "version_means", "cosine", version=version)
    with pytest.raises(InputError, match="versions 0 to 1 of each case, in order"):
        version_means.table_values([(header,)], Resampling(0, 0), 1)


def test_a_file_without_its_metric_is_refused(tmp_path: Path) -> None:
    header = write(tmp_path / "a.parquet", {"cosine": np.ones(4)}, "version_means", "lpips")
    with pytest.raises(InputError, match="a column score_lpips"):
        version_means.table_values([(header,)], Resampling(0, 0), 1)


def test_cka_comes_out_of_the_images_shares(tmp_path: Path) -> None:
    x, y = (gram(RNG.normal(size=(20, n))) for n in (4, 30))
    sums = dict(alignment(x, y)._asdict())
    unbiased = unbiased_alignment(x, y)
    sums |= {f"unbiased_{name}": one for name, one in unbiased._asdict().items()}
    header = write(tmp_path / "a.parquet", sums, "alignment", "cka")
    values = alignment_kind.table_values([(header,)], Resampling(0, 0), 1)
    assert [v.metric for v in values] == ["cka", "cka_biased"]
    assert values[0].value == pytest.approx(cka(unbiased))
    assert values[1].value == pytest.approx(cka(alignment(x, y)))
