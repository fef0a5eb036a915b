"""The table of a ladder of artefacts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.metrics.rank_correlation import spearman
from workflow_scripts.predictions import CASE_COLUMNS, METADATA_NAMES, write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.kinds.ladder import CLEAN, WHOLE, table_values
from workflow_scripts.report.long_form import Value, read_values, write_values
from workflow_scripts.report.predictions import read_headers
from workflow_scripts.report.table import group_cells

RUNGS = [("none", 0.0), ("RandomBias", 0.5), ("RandomBias", 1.0)]


def write_file(path: Path, seed: int = 0, n_patients: int = 5, **scores: Any) -> Path:
    n = n_patients * len(RUNGS)
    patients = np.repeat([f"p{number}" for number in range(n_patients)], len(RUNGS))
    cases = pd.DataFrame({name: [None] * n for name in CASE_COLUMNS})
    cases = cases.assign(image_id=patients, patient_id=patients, age_years=np.nan)
    rng = np.random.default_rng(seed)
    columns = {name: rng.random(n) for name in ("dice", "aula", "entropy")} | scores
    extra = {"corruption": [c for c, _ in RUNGS] * n_patients,
             "severity": [s for _, s in RUNGS] * n_patients, "draw": [0] * n}  # fmt: skip
    metadata = {
        **dict.fromkeys(METADATA_NAMES, "x"),
        **{"seed": seed, "kind": "ladder", "metric": "dice", "protocol": "corrected"},
        **{"row": "standard", "column": "ACDC", "table": "cooperative_training_agreement"},
    }
    write_case_scores(path, cases, columns, metadata, extra)
    return path


def values_of(paths: list[Path], n: int = 50) -> dict[tuple[str, str], Value]:
    cells = group_cells("cooperative_training_agreement", read_headers(paths))
    return {(v.column, v.metric): v for v in table_values(cells, Resampling(0, n), 1)}


def test_each_rung_has_its_mean_and_the_ladder_its_correlation(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.parquet")
    table, found = pd.read_parquet(path), values_of([path])
    assert list(dict.fromkeys(column for column, _ in found)) == [
        CLEAN, "RandomBias 0.5", "RandomBias 1", WHOLE,
    ]  # fmt: skip
    half = table[table["severity"] == 0.5]
    value = found["RandomBias 0.5", "aula"]
    assert value.value == pytest.approx(half["score_aula"].mean())
    assert value.ci_low < value.value < value.ci_high
    assert value.n == 5
    expected = spearman(table["score_dice"], table["score_entropy"])
    pooled = found[WHOLE, "spearman_dsc_entropy"]
    assert pooled.value == pytest.approx(expected)
    assert (pooled.n, pooled.interval) == (15, "patient bootstrap")
    write_values(tmp_path / "t.csv", found.values())
    assert len(read_values(tmp_path / "t.csv")) == len(found)


def test_several_seeds_give_their_mean_and_spread(tmp_path: Path) -> None:
    paths = [write_file(tmp_path / f"{seed}.parquet", seed) for seed in (0, 1)]
    single = [values_of([path], 0)[CLEAN, "dice"].value for path in paths]
    both = values_of(paths, 0)[CLEAN, "dice"]
    assert both.value == pytest.approx(np.mean(single))
    assert both.seed_std == pytest.approx(np.std(single, ddof=1))
    assert both.seeds == 2


def test_undefined_dice_is_left_out_and_counted(tmp_path: Path) -> None:
    dice = np.random.default_rng(0).random(15)
    dice[0] = math.nan
    found = values_of([write_file(tmp_path / "a.parquet", dice=dice)])
    assert found[CLEAN, "dice"].n == 4
    assert found[WHOLE, "spearman_dsc_aula"].n == 14
    empty = values_of([write_file(tmp_path / "b.parquet", dice=np.full(15, math.nan))])
    assert math.isnan(empty[CLEAN, "dice"].value)
    assert math.isnan(empty[WHOLE, "spearman_dsc_aula"].value)


def test_seeds_with_other_cases_are_refused(tmp_path: Path) -> None:
    paths = [write_file(tmp_path / "a.parquet"), write_file(tmp_path / "b.parquet", 1, 4)]
    with pytest.raises(InputError, match="the rungs and cases of"):
        values_of(paths)


def test_the_picture_shows_quality_and_agreement_of_each_artefact(tmp_path: Path) -> None:
    from workflow_scripts.report.segmentation_figures import LADDERS, draw

    path = write_file(tmp_path / "a.parquet")
    figure = draw("agreement", [path], "t")
    assert len(figure.axes) == len(LADDERS["agreement"])  # one artefact, a row a measure
    table = pd.read_parquet(path)
    for axis, measure in zip(figure.axes, LADDERS["agreement"], strict=True):
        means = table.groupby("severity")[measure.column].mean().to_numpy()
        np.testing.assert_allclose(axis.lines[0].get_ydata(), measure.scale * means)
        assert axis.get_ylabel() == measure.label
