"""The figures of segmentation with uncertainty draw the numbers they are given."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import image as pictures
from matplotlib.axes import Axes
from numpy.testing import assert_allclose

from workflow_scripts.metrics.quality_control import fractions
from workflow_scripts.predictions import write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report import uncertainty_figures as figures
from workflow_scripts.report.long_form import Value

Golden = dict[str, Any]


@pytest.fixture
def golden(root: Path) -> Golden:
    content: Golden = json.loads((root / "tests/golden/layer_ensembles.json").read_text())
    return content


def write(folder: Path, row: str, scores: dict[str, Any], seed: int = 0) -> Path:
    names = [f"case{i:02d}" for i in range(len(scores["dsc"]))]
    cases = pd.DataFrame({"image_id": names, "patient_id": names, "domain": "d", "split": "test",
                          "sex": None, "age_years": math.nan, "race": None})  # fmt: skip
    metadata = {
        "system": "layer_ensembles", "table": "layer_ensembles_correlation", "row": row,
        "column": "bcdr", "protocol": "paper", "seed": seed, "kind": "uncertainty",
        "metric": "dsc", "classes": ["background", "mass"], "data": "phantom", "checkpoint": row,
        "dataset": "bcdr", "options": {}, "diagnostics": {},
    }  # fmt: skip
    path = folder / f"{row}-{seed}.parquet"
    numbers = {name: np.array(values, dtype=float) for name, values in scores.items()}
    write_case_scores(path, cases, numbers, metadata)
    return path


def golden_cells(folder: Path, golden: Golden) -> list[Path]:
    case = golden["qc_curve"]
    limit = case["dsc_threshold"]
    scores = {
        method: {"dsc": case[f"dsc_{short}"], "is_bad": np.array(case[f"dsc_{short}"]) < limit}
        for method, short in (("deep_ensembles", "de"), ("layer_ensembles", "le"))
    }
    scores["deep_ensembles"]["variance"] = case["uncertainty_de"]
    scores["layer_ensembles"]["aula"] = case["aula_le_positive"]
    return [write(folder, method, one) for method, one in scores.items()]


def lines_of(axis: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in axis.get_lines()}


def test_quality_control_draws_the_golden_curves_random_ideal_and_the_goal(
    tmp_path: Path, golden: Golden
) -> None:
    case = golden["qc_curve"]
    panels = figures.panels_of(golden_cells(tmp_path, golden))
    figure = figures.quality_control(panels)
    axis = figure.axes[0]
    lines = lines_of(axis)
    for row, short in (("deep_ensembles", "de"), ("layer_ensembles", "le")):
        area = case[f"legend_{short}"].partition("AUC=")[2]
        line = lines[f"{row}, AUC {area}"]
        assert_allclose(line.get_xdata(), fractions())
        assert_allclose(line.get_ydata(), case[f"curve_{short}"], rtol=1e-9)
    random, goal = lines["random"], lines["5 %"]
    assert list(random.get_xdata()) == case["random_line"]["x"]
    assert_allclose(random.get_ydata(), case["random_line"]["y"])
    assert list(goal.get_ydata()) == [0.05, 0.05]
    (ideal,) = [patch for patch in axis.patches if patch.get_label() == "ideal"]
    corners = ideal.get_xy()[:2]
    assert_allclose(corners[:, 0], case["ideal_area"]["fill_x"])
    assert_allclose(corners[:, 1], case["ideal_area"]["fill_y"])
    assert "PHANTOM" in figure.get_suptitle()


def test_the_lowest_seed_is_drawn_once(tmp_path: Path) -> None:
    scores = {"dsc": [0.2, 0.9, 0.8], "is_bad": [1, 0, 0], "aula": [0.1, 0.9, 0.8]}
    paths = [write(tmp_path, "layer_ensembles", scores, seed) for seed in (2, 1)]
    (panel,) = figures.panels_of(paths)
    assert [one.header.seed for one in panel.scores] == [1]


def value(row: str, metric: str, number: float) -> Value:
    return Value("layer_ensembles", "layer_ensembles_skips", row, "bcdr", metric, number,
                 math.nan, math.nan, 9, 1, "phantom", "paper", "none", math.nan)  # fmt: skip


def test_sweep_draws_nll_its_band_the_other_method_and_the_dice() -> None:
    numbers = {0: (0.2, 0.5, 0.9, 0.08), 1: (0.3, 0.6, 0.88, 0.1), 3: (0.5, 0.4, 0.7, 0.12)}
    metrics = ("nll", "nll_std", "dsc", "dsc_std")
    rows = [(f"skip {skip}", found) for skip, found in numbers.items()]
    rows.append(("deep_ensembles", (0.615, 0.5, 0.87, 0.09)))
    values = [value(row, m, x) for row, found in rows for m, x in zip(metrics, found, strict=True)]
    figure = figures.skips(values)
    axis = figure.axes[0]
    lines = lines_of(axis)
    own = lines["layer ensembles (DSC at the points)"]
    assert list(own.get_xdata()) == [0, 1, 3]
    assert list(own.get_ydata()) == [0.2, 0.3, 0.5]
    level = lines["deep ensembles, DSC 0.870 (0.09)"].get_ydata()
    assert list(level) == [0.615, 0.615]
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.2 - 0.1 * 0.5)
    assert band[:, 1].max() == pytest.approx(0.5 + 0.1 * 0.4)
    assert [text.get_text() for text in axis.texts] == ["0.880\n(0.10)", "0.700\n(0.12)"]


def test_command_line_writes_a_picture_and_refuses_tables_without_bad_cases(
    tmp_path: Path, golden: Golden
) -> None:
    out = tmp_path / "quality.png"
    paths = golden_cells(tmp_path, golden)
    figures.main(["--quality-control", *map(str, paths), "--out", str(out)])
    assert pictures.imread(out).std() > 0
    other = write(tmp_path, "plain", {"dsc": [0.5, 0.6, 0.7], "variance": [1, 2, 3]})
    with pytest.raises(InputError, match="files with column is_bad"):
        figures.main(["--quality-control", str(other), "--out", str(out)])
