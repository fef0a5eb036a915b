"""Tables of segmentation with uncertainty, from files alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.metrics.statistics import paired_wilcoxon
from workflow_scripts.predictions import write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.kinds import uncertainty
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.predictions import read_headers

NO_BOOTSTRAP = Resampling(0, 0)


def write(
    folder: Path, row: str, scores: dict[str, list[float]], table: str = "segmentation",
    protocol: str = "paper", first: int = 0, seed: int = 0,
) -> Path:  # fmt: skip
    n = len(scores["dsc"])
    names = [f"case{i:02d}" for i in range(first, first + n)]
    cases = pd.DataFrame(
        {"image_id": names, "patient_id": names, "domain": "d", "split": "test", "sex": None,
         "age_years": math.nan, "race": None}
    )  # fmt: skip
    metadata = {
        "system": "layer_ensembles", "table": f"layer_ensembles_{table}", "row": row,
        "column": "bcdr", "protocol": protocol, "seed": seed, "kind": "uncertainty",
        "metric": "dsc", "classes": ["background", "mass"], "data": "bcdr", "checkpoint": row,
        "dataset": "bcdr", "options": {}, "diagnostics": {},
    }  # fmt: skip
    path = folder / f"{table}-{row}-{protocol}-{seed}.parquet"
    numbers = {name: np.array(values) for name, values in scores.items()}
    write_case_scores(path, cases, numbers, metadata)
    return path


def values(
    paths: list[Path], resampling: Resampling = NO_BOOTSTRAP
) -> dict[tuple[str, str], Value]:
    cells = [(header,) for header in read_headers(paths)]
    found = uncertainty.table_values(cells, resampling, 1)
    return {(one.row, one.metric): one for one in found}


@pytest.fixture
def golden(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "tests/golden/layer_ensembles.json").read_text())
    return content


def test_paper_replaces_infinite_distances_by_the_largest_of_all_methods(
    tmp_path: Path, golden: dict[str, Any]
) -> None:
    case = golden["mean_std_with_inf"]
    paths = []
    for method, short in (("deep_ensembles", "DE"), ("layer_ensembles", "LE")):
        picked = [i for i, name in enumerate(case["methods"]) if name == short]
        mhd = [float(case["mhd"][i]) for i in picked]
        scores = {
            "dsc": [case["dsc"][i] for i in picked],
            "mhd_px": [math.nan if math.isinf(one) else one for one in mhd],
            "mhd_infinite": [float(math.isinf(one)) for one in mhd],
            "nll": [0.1, 0.2, 0.3],
        }
        paths.append(write(tmp_path, method, scores))
    found = values(paths)
    for expected in case["rows"]:
        row = {"DE": "deep_ensembles", "LE": "layer_ensembles"}[expected["method"]]
        for metric, name in (("dsc", "dsc"), ("mhd_px", "mhd")):
            assert found[row, metric].value == pytest.approx(expected[f"{name}_mean"])
            assert found[row, f"{metric}_std"].value == pytest.approx(expected[f"{name}_std"])
        assert found[row, "mhd_infinite"].value == 1  # and it is said


def test_distances_that_are_all_infinite_have_no_mean(tmp_path: Path) -> None:
    scores = {"dsc": [0.0, 0.0], "mhd_px": [math.nan] * 2, "mhd_infinite": [1.0, 1.0],
              "nll": [0.1, 0.2]}  # fmt: skip
    found = values([write(tmp_path, name, scores) for name in ("plain", "layer_ensembles")])
    assert math.isnan(found["plain", "mhd_px"].value)  # 0 would be a perfect score
    assert found["plain", "mhd_px"].n == 0
    assert found["plain", "mhd_infinite"].value == 2


def test_corrected_leaves_infinite_distances_out_and_counts_the_rest(tmp_path: Path) -> None:
    scores = {"dsc": [0.5, 0.0, math.nan], "mhd_px": [2.0, math.nan, math.nan],
              "mhd_infinite": [0.0, 1.0, 0.0], "nll": [0.1, 0.2, 0.3]}  # fmt: skip
    found = values([write(tmp_path, "layer_ensembles", scores, protocol="corrected")])
    distance, dsc = found["layer_ensembles", "mhd_px"], found["layer_ensembles", "dsc"]
    assert (distance.value, distance.n) == (2.0, 1)
    assert (dsc.value, dsc.n) == (0.25, 2)


def test_the_interval_is_of_the_mean_over_seeds_that_miss_other_cases(tmp_path: Path) -> None:
    n, rng = 40, np.random.default_rng(0)
    whole = {"dsc": [0.5] * n, "nll": list(1 + 0.01 * rng.random(n))}
    few = {"dsc": [0.5] * n, "nll": [3.0] * 4 + [math.nan] * (n - 4)}
    paths = [
        write(tmp_path, "plain", scores, protocol="corrected", seed=seed)
        for seed, scores in enumerate((whole, few))
    ]
    cell = read_headers(paths)
    found = uncertainty.table_values([cell], Resampling(0, 200), 1)
    (nll,) = (value for value in found if value.metric == "nll")
    assert nll.ci_low <= nll.value <= nll.ci_high


def test_rows_are_tested_against_layer_ensembles_with_holm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0.9, 0.02, 20)
    worse, equal = own - rng.uniform(0.01, 0.05, 20), own + rng.normal(0, 0.01, 20)

    def scores(dsc: np.ndarray[Any, Any]) -> dict[str, list[float]]:
        return {"dsc": dsc.tolist(), "nll": (1 - dsc).tolist()}

    found = values([
        write(tmp_path, "plain", scores(worse)),
        write(tmp_path, "multi_head", scores(equal)),
        write(tmp_path, "layer_ensembles", scores(own)),
    ])  # fmt: skip
    raw = paired_wilcoxon(own, worse).p_value
    assert found["plain", "p_dsc"].value == pytest.approx(min(1.0, 4 * raw))  # smallest of four
    assert found["multi_head", "p_dsc"].value > 0.05
    assert ("layer_ensembles", "p_dsc") not in found
    assert found["plain", "p_dsc"].n == 20


def test_other_cases_are_refused(tmp_path: Path) -> None:
    scores = {"dsc": [0.5, 0.6, 0.7], "nll": [0.1, 0.2, 0.3]}
    paths = [write(tmp_path, "plain", scores), write(tmp_path, "layer_ensembles", scores, first=1)]
    with pytest.raises(InputError, match="other cases"):
        values(paths)


def test_correlations_have_intervals_and_aula_only_where_it_exists(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    dsc = rng.uniform(0.5, 1.0, 40)
    shared = {"dsc": dsc.tolist(), "mhd_px": (1 - dsc).tolist(), "is_bad": (dsc < 0.7).tolist()}
    shared |= {name: (1 - dsc + rng.normal(0, 0.05, 40)).tolist() for name in uncertainty.SIGNS}
    shared["is_bad"] = [float(one) for one in shared["is_bad"]]
    found = values(
        [
            write(tmp_path, "deep_ensembles", shared, "correlation"),
            write(tmp_path, "layer_ensembles", {**shared, "aula": dsc.tolist()}, "correlation"),
        ],
        Resampling(0, 200),
    )
    own = found["layer_ensembles", "spearman_dsc_aula"]
    assert own.value == pytest.approx(1.0)
    entropy = found["deep_ensembles", "spearman_dsc_entropy"]
    assert entropy.ci_low < entropy.value < entropy.ci_high < 0
    assert ("deep_ensembles", "spearman_dsc_aula") not in found
    ideal = found["layer_ensembles", "qc_auc"].value  # AULA in the order of Dice: none is better
    assert ideal <= found["deep_ensembles", "qc_auc"].value
