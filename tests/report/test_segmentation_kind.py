"""Dice and HD95 of a table, its averages and paired tests, from files of per-case scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.metrics.statistics import paired_wilcoxon
from workflow_scripts.predictions import CASE_COLUMNS, METADATA_NAMES, write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.kinds.segmentation import mean_interval_over_patients, table_values
from workflow_scripts.report.long_form import Value, read_values, write_values
from workflow_scripts.report.predictions import read_headers
from workflow_scripts.report.rendering import more_blocks
from workflow_scripts.report.table import group_cells

STRUCTURES = ("LV", "MYO", "RV")
PATIENTS = [f"p{number}" for number in range(6)]
NO_BOOTSTRAP = Resampling(0, 0)
TWO, THREE = "average of 2 test sets", "average of 3 test sets"


def write_file(
    path: Path, row: str, dataset: str, dice: np.ndarray, seed: int = 0, **columns: Any
) -> Path:
    """Write one file: Dice of (patients, structures), HD95 ten times its lack."""
    n = len(PATIENTS) * 3
    patients = np.repeat(PATIENTS, 3)
    cases = pd.DataFrame({name: [None] * n for name in CASE_COLUMNS})
    cases = cases.assign(image_id=patients, patient_id=patients, age_years=np.nan)
    extra = {
        "structure": list(STRUCTURES) * len(PATIENTS),
        "test_set": [dataset.upper()] * n,
        "vendor": ["A"] * n,
        "reference_voxels": np.full(n, 5),
        "predicted_voxels": np.full(n, 5),
        "compared_with": ["standard"] * n,
        **columns,
    }
    metadata = {
        **dict.fromkeys(METADATA_NAMES, "x"),
        **{"seed": seed, "kind": "segmentation", "metric": "dice", "protocol": "corrected"},
        **{"row": row, "column": dataset, "table": "cooperative_training_dice", "data": dataset},
    }
    scores = {"dice": dice.ravel(), "hd95_mm": 10 * (1 - dice.ravel())}
    write_case_scores(path, cases, scores, metadata, extra)
    return path


def values_of(paths: list[Path], resampling: Resampling = NO_BOOTSTRAP) -> dict[Any, Value]:
    cells = group_cells("cooperative_training_dice", read_headers(paths))
    values = table_values(cells, resampling, 1)
    found = {(value.row, value.column, value.metric): value for value in values}
    assert len(found) == len(values)  # each value once
    return found


def dice_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.3, 0.9, (len(PATIENTS), 3))


def test_values_are_means_over_volumes_structures_and_seeds(tmp_path: Path) -> None:
    first, second = dice_of(0), dice_of(1)
    paths = [
        write_file(tmp_path / "a", "standard", "acdc", first, seed=1),
        write_file(tmp_path / "b", "standard", "acdc", second, seed=2),
    ]
    found = values_of(paths)
    dice = found["standard", "ACDC", "dice"]
    assert dice.value == pytest.approx((first.mean() + second.mean()) / 2)
    assert dice.seed_std == pytest.approx(np.std([first.mean(), second.mean()], ddof=1))
    assert (dice.n, dice.seeds) == (18, 2)
    myo = found["standard", "ACDC", "dice_myo"]
    assert myo.value == pytest.approx((first[:, 1].mean() + second[:, 1].mean()) / 2)
    hd95 = found["standard", "ACDC", "hd95_lv_mm"].value
    assert hd95 == pytest.approx(10 * (1 - (first[:, 0].mean() + second[:, 0].mean()) / 2))


def test_undefined_scores_are_left_out_and_counted(tmp_path: Path) -> None:
    dice = dice_of(0)
    dice[2, 2], dice[3, 2] = math.nan, 0.0
    reference, predicted = np.full(18, 5), np.full(18, 5)
    reference[[8]], predicted[[8, 11]] = 0, 0  # both empty, then missed
    columns = {"reference_voxels": reference, "predicted_voxels": predicted}
    found = values_of([write_file(tmp_path / "a", "standard", "acdc", dice, **columns)])
    assert found["standard", "ACDC", "dice"].value == pytest.approx(np.nanmean(dice))
    assert found["standard", "ACDC", "dice"].n == 17
    assert found["standard", "ACDC", "both_empty"].value == 1
    assert found["standard", "ACDC", "one_empty"].value == 1


def test_a_structure_without_any_value_is_undefined(tmp_path: Path) -> None:
    dice = dice_of(0)
    dice[:, 2] = math.nan
    path = write_file(tmp_path / "a", "standard", "acdc", dice)
    found = values_of([path], Resampling(0, 50))
    assert math.isnan(found["standard", "ACDC", "dice_rv"].value)
    assert found["standard", "ACDC", "dice_rv"].n == 0
    assert found["standard", "ACDC", "dice_rv"].interval == "none"
    assert found["standard", "ACDC", "dice_lv"].interval == "patient bootstrap"


def test_vendors_and_test_sets_have_columns_and_the_average_weighs_sets_alike(
    tmp_path: Path,
) -> None:
    first, second = dice_of(0), dice_of(1)
    vendors = np.repeat(["A", "B"], 9)
    corruptions = np.repeat(["RandomBias", "RandomSpike", "RandomBias"], 6)
    paths = [
        write_file(tmp_path / "a", "standard", "mms", first, vendor=vendors),
        write_file(tmp_path / "b", "standard", "acdc_c", second, test_set=corruptions),
    ]
    found = values_of(paths)
    columns = list(dict.fromkeys(column for _, column, _ in found))
    assert columns == ["MMS", "MMS: A", "MMS: B", "RandomBias", "RandomSpike", THREE]
    flat = second.ravel()
    sets = [first.mean(), flat[corruptions == "RandomBias"].mean()]
    sets.append(flat[corruptions == "RandomSpike"].mean())
    assert found["standard", "MMS: B", "dice"].value == pytest.approx(first[3:].mean())
    assert found["standard", THREE, "dice"].value == pytest.approx(np.mean(sets))


def test_methods_are_tested_against_their_baseline_by_patient(tmp_path: Path) -> None:
    rows = {"standard": dice_of(0), "b": dice_of(1), "c": np.minimum(dice_of(0) + 0.05, 1)}
    paths = [write_file(tmp_path / name, name, "acdc", dice) for name, dice in rows.items()]
    found = values_of(paths)
    means = {name: dice.mean(axis=1) for name, dice in rows.items()}
    raw = {name: paired_wilcoxon(means[name], means["standard"]) for name in ("b", "c")}
    assert found["c", "ACDC", "dice_effect"].value == 1
    assert found["c", "ACDC", "dice_median_difference"].value == pytest.approx(0.05)
    assert found["c", "ACDC", "dice_p_value"].value == pytest.approx(2 * raw["c"].p_value)  # Holm
    assert found["b", "ACDC", "dice_effect"].value == pytest.approx(raw["b"].effect)
    assert found["c", "ACDC", "dice_p_value"].n == len(PATIENTS)
    assert ("standard", "ACDC", "dice_p_value") not in found


def test_seeds_above_the_baseline_are_counted_by_seed(tmp_path: Path) -> None:
    low, high = np.full((6, 3), 0.4), np.full((6, 3), 0.6)
    rows = {("standard", 1): low, ("standard", 2): high, ("standard", 3): low}
    rows |= {("b", 1): high, ("b", 2): low, ("b", 3): low}
    paths = [write_file(tmp_path / f"{row}{seed}", row, "acdc", dice, seed=seed)
             for (row, seed), dice in rows.items()]  # fmt: skip
    found = values_of(paths)
    assert found["b", "ACDC", "dice_seeds_above"].value == 1
    assert math.isnan(found["b", "ACDC", "dice_effect"].value)  # means over seeds are equal


def test_the_page_shows_tests_and_structures_under_headings_of_their_own(tmp_path: Path) -> None:
    rows = {"standard": dice_of(0), "b": dice_of(1)}
    paths = [write_file(tmp_path / name, name, "acdc", dice) for name, dice in rows.items()]
    values = tuple(values_of(paths).values())
    tests, structures = more_blocks(values)
    assert (tests.part, structures.part) == ("against standard training", "structures")
    assert list(tests.rows) == ["b"]  # nothing is compared with itself
    assert {column.metric for column in tests.columns} == {
        *("dice_median_difference", "dice_effect", "dice_p_value", "dice_seeds_above")
    }
    assert {"dice_rv", "hd95_myo_mm", "one_empty"} <= {one.metric for one in structures.columns}


def test_the_gain_is_of_the_averages_over_all_test_sets(tmp_path: Path) -> None:
    dice = {(row, name): dice_of(n) for n, (row, name) in enumerate(
        (row, name) for row in ("standard", "b") for name in ("acdc", "mms"))}  # fmt: skip
    paths = [write_file(tmp_path / f"{row}-{name}", row, name, dice[row, name])
             for row, name in dice]  # fmt: skip
    found = values_of(paths)
    means = {row: np.mean([dice[row, name].mean() for name in ("acdc", "mms")])
             for row in ("standard", "b")}  # fmt: skip
    gain = means["b"] - means["standard"]
    assert found["b", TWO, "dice_gain"].value == pytest.approx(gain)
    relative = found["b", TWO, "dice_gain_relative"].value
    assert relative == pytest.approx(gain / means["standard"])
    assert ("standard", TWO, "dice_gain") not in found
    alone = values_of([path for path in paths if path.name.startswith("b")])  # no baseline
    assert ("b", TWO, "dice_gain") not in alone


def test_only_the_papers_six_test_sets_make_the_average_that_is_compared(tmp_path: Path) -> None:
    corruptions = ["RandomBias", "RandomGhosting", "RandomMotion"] * 4 + ["RandomSpike"] * 6
    sets = {"acdc": "ACDC", "acdc_c": corruptions, "mms_137": "M&Ms", "mine": "mine"}
    dice = {(row, name): dice_of(10 * i + j) for i, row in enumerate(("standard", "b"))
            for j, name in enumerate(sets)}  # fmt: skip
    paths = {
        name: [
            write_file(tmp_path / f"{row}-{name}", row, name, dice[row, name],
                       test_set=[column] * 18 if isinstance(column, str) else column)
            for row in ("standard", "b")
        ]
        for name, column in sets.items()
    }  # fmt: skip
    papers = paths["acdc"] + paths["acdc_c"] + paths["mms_137"]
    six, seven = values_of(papers), values_of(papers + paths["mine"])
    without = values_of(paths["acdc"] + paths["acdc_c"])
    for metric in ("dice", "hd95_mm", "dice_gain", "dice_gain_relative"):
        assert seven["b", "average", metric].value == six["b", "average", metric].value
        assert ("b", "average", metric) not in without
        assert ("b", "average of 5 test sets", metric) in without
        assert not any(column.startswith("average of") for _, column, _ in six)
    whole = seven["b", "average of 7 test sets", "dice"].value
    assert whole == pytest.approx(
        (6 * six["b", "average", "dice"].value + dice["b", "mine"].mean()) / 7
    )


def test_the_interval_draws_patients_and_widens_with_their_spread() -> None:
    patients = np.repeat(PATIENTS, 3)
    alike, apart = np.full(18, 0.5), np.repeat(np.linspace(0, 1, 6), 3)
    rng = np.random.default_rng(0)
    assert mean_interval_over_patients([alike], patients, rng, 200)[:2] == (0.5, 0.5)
    wide = mean_interval_over_patients([apart], patients, rng, 2000)
    expected = 1.96 * apart.std() / math.sqrt(6)  # of the mean of six patients
    assert (wide.high - wide.low) / 2 == pytest.approx(expected, rel=0.1)
    single = mean_interval_over_patients([alike[:3]], patients[:3], rng, 10)
    assert math.isnan(single.low)


def test_seeds_with_other_cases_are_refused(tmp_path: Path) -> None:
    first = write_file(tmp_path / "a", "standard", "acdc", dice_of(0), seed=1)
    structures = ["RV", "MYO", "LV"] * 6
    second = write_file(
        tmp_path / "b", "standard", "acdc", dice_of(1), seed=2, structure=structures
    )
    with pytest.raises(InputError, match="other cases"):
        values_of([first, second])


def test_values_survive_their_file(tmp_path: Path) -> None:
    rows = {"standard": dice_of(0), "b": dice_of(1)}
    paths = [write_file(tmp_path / name, name, "acdc", dice) for name, dice in rows.items()]
    values = tuple(values_of(paths, Resampling(0, 50)).values())
    write_values(tmp_path / "table.csv", values)
    assert len(read_values(tmp_path / "table.csv")) == len(values)
