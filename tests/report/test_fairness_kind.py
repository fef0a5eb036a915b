"""The table of fairness: the published log's numbers, their nulls, and what must be refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.predictions import METADATA_NAMES, write_case_scores
from workflow_scripts.problems import InputError
from workflow_scripts.report import fairness_course, fairness_plane, table
from workflow_scripts.report.long_form import Value, read_values

GOLDEN: dict[str, Any] = json.loads(Path("tests/golden/dne.json").read_text(encoding="utf-8"))
RUNS = GOLDEN["T_published_notebook_log"]["runs"]


def cases_of(
    run: str, flip: int = 0, evaluation: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """Return 800 cases whose subgroup accuracies are those of the published log."""
    accuracies = evaluation or RUNS[run]["evaluations"][-1]
    parts = []
    for group, sex in ((1, "male"), (0, "female")):
        for label, name in ((0, "nofinding"), (1, "pleural")):
            right = round(2 * accuracies[f"{sex}_{name}"])
            is_right = np.arange(200) < right - flip
            predicted = np.where(is_right, label, 1 - label)
            parts.append(np.column_stack([np.full(200, group), np.full(200, label), predicted]))
    group, truth, predicted = np.concatenate(parts).T
    rng = np.random.default_rng(0)
    return {"group": group, "truth": truth, "margin": (2 * predicted - 1) * rng.random(800)}


def write(path: Path, cases: Mapping[str, np.ndarray], seed: int = 0, **changes: Any) -> Path:
    """Write predictions of the cases."""
    n = len(cases["truth"])
    ids = [f"image_{i:04d}" for i in range(n)]
    frame = pd.DataFrame({"image_id": ids, "patient_id": [f"p{i // 2:04d}" for i in range(n)]})
    frame = frame.assign(domain="d", split="test", sex=None, age_years=math.nan, race=None)
    scores = {"no_finding": -cases["margin"] / 2, "disease": cases["margin"] / 2}
    scores |= {f"attribute_{name}": 2.0 * cases["group"] - 1 for name in ("frozen", "retrained")}
    unknown = np.full(n, math.nan)
    extra = {"truth": cases["truth"], "group_sex": cases["group"].astype(float)}
    extra |= {"group_age_years": cases.get("age", unknown), "group_race": unknown}
    extra |= {"hidden": np.full(n, "sex"), "train_loss": np.full(n, 0.3)}
    metadata = dict.fromkeys(METADATA_NAMES, "x") | {
        "system": "debiased_noise", "table": "debiased_noise_fairness", "row": "ERM, notebook",
        "column": "Pleural Effusion, sex", "protocol": "released", "seed": seed, "kind": "fairness",
        "metric": "accuracy", "data": "chexpert", "options": {}, "diagnostics": {},
    }  # fmt: skip
    write_case_scores(path, frame, scores, metadata | changes, extra)
    return path


def write_course(path: Path, **changes: Any) -> Path:
    """Write the course of the published log: all evaluations of ERM, with their training loss."""
    log = RUNS["ERM"]
    parts = {row["epoch"]: cases_of("ERM", evaluation=row) for row in log["evaluations"]}
    first = parts[0]
    n = len(first["truth"])
    ids = [f"image_{i:04d}" for i in range(n)]
    frame = pd.DataFrame({"image_id": ids, "patient_id": ids})
    frame = frame.assign(domain="d", split="test", sex=None, age_years=math.nan, race=None)
    scores, extra = {}, {"truth": first["truth"], "group_sex": first["group"].astype(float)}
    for epoch, cases in parts.items():
        scores[f"no_finding_epoch_{epoch}"] = -cases["margin"] / 2
        scores[f"disease_epoch_{epoch}"] = cases["margin"] / 2
        extra[f"train_loss_epoch_{epoch}"] = np.full(n, log["train_loss_by_epoch"][epoch])
    metadata = dict.fromkeys(METADATA_NAMES, "x") | {
        "system": "debiased_noise", "table": "debiased_noise_course", "row": "ERM, notebook",
        "column": "Pleural Effusion, sex", "protocol": "released", "seed": 0,
        "kind": "fairness_course", "metric": "accuracy", "data": "chexpert", "options": {},
        "diagnostics": {},
    }  # fmt: skip
    extra["hidden"] = np.full(n, "sex")
    write_case_scores(path, frame, scores, metadata | changes, extra)
    return path


def values_of(folder: Path, *paths: Path, resamples: int = 200) -> dict[tuple[str, str], Value]:
    """Return the table's values by column and metric."""
    words = ["--table", "debiased_noise_fairness", "--predictions", *map(str, paths)]
    words += ["--csv", str(folder / "t.csv"), "--markdown", str(folder / "t.md")]
    table.main([*words, "--latex", str(folder / "t.tex"), "--resamples", str(resamples)])
    return {(value.column, value.metric): value for value in read_values(folder / "t.csv")}


@pytest.mark.parametrize("run", ["ERM", "DNE"])
def test_published_numbers_come_out_of_the_predictions(tmp_path: Path, run: str) -> None:
    wanted = RUNS[run]["evaluations"][-1]
    found = values_of(tmp_path, write(tmp_path / "a.parquet", cases_of(run)))
    got = {metric: value.value for (_, metric), value in found.items()}
    assert 100 * got["accuracy"] == pytest.approx(wanted["overall_acc"])
    assert 100 * got["eo_n"] == pytest.approx(wanted["EO_n"])
    assert 100 * got["eo_p"] == pytest.approx(wanted["EO_p"])
    assert got["coded_di"] == pytest.approx(abs(wanted["DI"]), rel=1e-5)
    assert 100 * got["accuracy_positives_in"] == pytest.approx(wanted["male_pleural"])
    assert 100 * got["accuracy_negatives_out"] == pytest.approx(wanted["female_nofinding"])
    assert found["Pleural Effusion, sex", "worst_subgroup"].n == 200
    assert got["leak_frozen"] == got["leak_retrained_auc"] == 1.0
    assert got["constant_prediction"] == 0


def test_gaps_stand_beside_their_null_and_interval(tmp_path: Path) -> None:
    found = values_of(tmp_path, write(tmp_path / "a.parquet", cases_of("DNE")))
    value = found["Pleural Effusion, sex", "eo_p"]
    assert value.ci_low < 0.23 < value.ci_high
    assert value.interval == "patient bootstrap"
    null = found["Pleural Effusion, sex", "eo_p_null"].value
    assert 0.02 < null < 0.07  # |difference| of two rates of 200 images: 0.8 * 0.043
    assert null < found["Pleural Effusion, sex", "eo_p_null_high"].value < 0.14  # 2 * 0.061
    assert found["Pleural Effusion, sex", "eo_p_p"].value < 0.01
    for metric in ("auc_gap", "auc_in", "accuracy_positives_in", "positive_rate_out"):
        one = found["Pleural Effusion, sex", metric]
        assert one.ci_low < one.value < one.ci_high, metric
    assert found["Pleural Effusion, sex", "auc_gap_null"].value > 0
    leak = found["Pleural Effusion, sex", "leak_retrained"]
    assert leak.ci_low == leak.value == leak.ci_high == 1.0  # it finds everybody
    assert "EO_p gap by chance" in (tmp_path / "t.md").read_text()


def test_only_attributes_that_are_known_have_a_column_and_unknown_cases_are_left_out(
    tmp_path: Path,
) -> None:
    cases = cases_of("ERM")
    cases["age"] = np.where(np.arange(800) % 4 == 0, math.nan, np.arange(800) % 2)
    found = values_of(tmp_path, write(tmp_path / "a.parquet", cases))
    assert {column for column, _ in found} == {
        "Pleural Effusion, sex", "Pleural Effusion, sex; by age over 60",
    }  # fmt: skip
    assert found["Pleural Effusion, sex; by age over 60", "accuracy"].n == 600
    areas = ("auc", "auc_gap", "auc_in", "auc_out", "auc_worst")
    by_age = {name: found["Pleural Effusion, sex; by age over 60", name] for name in areas}
    assert [by_age[name].n for name in ("auc", "auc_gap")] == [600, 600]
    assert [by_age[name].n for name in ("auc_in", "auc_out")] == [400, 200]  # odd places, even
    worse = min(("auc_in", "auc_out"), key=lambda name: by_age[name].value)
    assert by_age["auc_worst"].n == by_age[worse].n
    assert ("Pleural Effusion, sex; by age over 60", "leak_frozen") not in found  # it speaks of sex


def test_a_constant_prediction_is_flagged_and_its_impact_undefined(tmp_path: Path) -> None:
    cases = cases_of("ERM")
    cases["margin"] = -np.ones(800)
    found = values_of(tmp_path, write(tmp_path / "a.parquet", cases))
    column = "Pleural Effusion, sex"
    assert found[column, "constant_prediction"].value == 1
    assert found[column, "eo_p"].value == 0
    assert found[column, "accuracy"].value == 0.5
    assert math.isnan(found[column, "disparate_impact"].value)
    assert found[column, "disparate_impact"].interval == "none"


def test_a_constant_prediction_wins_no_bold_by_having_no_gap(tmp_path: Path) -> None:
    names = ("ERM, x", "DNE white box, x", "DNE GeZO paper, x")
    cases = [cases_of("ERM"), cases_of("DNE"), cases_of("ERM") | {"margin": -np.ones(800)}]
    paths = [
        write(tmp_path / f"{i}.parquet", one, row=name)
        for i, (name, one) in enumerate(zip(names, cases, strict=True))
    ]
    values_of(tmp_path, *paths)
    rows = (tmp_path / "t.md").read_text().splitlines()
    lines = {name: next(row for row in rows if row.startswith(f"| {name}")) for name in names}
    assert "**" not in lines["DNE GeZO paper, x"]
    assert "**23.00 [" in lines["DNE white box, x"]


def test_seeds_are_averaged_and_must_hold_the_same_cases(tmp_path: Path) -> None:
    one = write(tmp_path / "0.parquet", cases_of("ERM"))
    other = write(tmp_path / "1.parquet", cases_of("ERM", flip=10), seed=1)
    found = values_of(tmp_path, one, other)
    value = found["Pleural Effusion, sex", "accuracy"]
    assert value.value == pytest.approx((0.69 + 0.64) / 2)
    assert value.seeds == 2
    assert value.seed_std == pytest.approx(0.05 / math.sqrt(2), abs=1e-6)  # as stored
    cases = cases_of("ERM")
    cases["group"] = 1 - cases["group"]
    strange = write(tmp_path / "2.parquet", cases, seed=2)
    with pytest.raises(InputError, match="group_sex"):
        values_of(tmp_path, one, strange)


def test_cases_without_a_group_or_with_other_labels_are_refused(tmp_path: Path) -> None:
    cases = cases_of("ERM")
    alone = write(tmp_path / "a.parquet", {**cases, "group": np.ones(800)})
    with pytest.raises(InputError, match="cases with and without an attribute"):
        values_of(tmp_path, alone)
    three = write(tmp_path / "b.parquet", {**cases, "truth": 2 * cases["truth"]})
    with pytest.raises(InputError, match="labels 0 or 1"):
        values_of(tmp_path, three)


def test_without_resampling_there_is_no_interval_and_no_null(tmp_path: Path) -> None:
    found = values_of(tmp_path, write(tmp_path / "a.parquet", cases_of("ERM")), resamples=0)
    column = "Pleural Effusion, sex"
    assert math.isnan(found[column, "eo_p"].ci_low)
    assert (column, "eo_p_null") not in found


def test_plane_is_drawn_with_both_intervals_and_refuses_a_table_without_gaps(
    tmp_path: Path,
) -> None:
    values_of(tmp_path, write(tmp_path / "a.parquet", cases_of("ERM")))
    words = ["--table", str(tmp_path / "t.csv")]
    fairness_plane.main([*words, "--out", str(tmp_path / "plane.svg")])
    first = (tmp_path / "plane.svg").read_bytes()
    fairness_plane.main([*words, "--out", str(tmp_path / "plane.svg")])
    assert first == (tmp_path / "plane.svg").read_bytes()
    assert len(first) > 5000
    with pytest.raises(InputError, match="accuracy and p_value"):
        fairness_plane.main([*words, "--gap", "p_value", "--out", str(tmp_path / "no.svg")])


def test_the_course_has_every_published_evaluation_in_a_row_of_its_own(tmp_path: Path) -> None:
    words = ["--table", "debiased_noise_course", "--csv", str(tmp_path / "c.csv")]
    words += ["--markdown", str(tmp_path / "c.md"), "--latex", str(tmp_path / "c.tex")]
    table.main([*words, "--predictions", str(write_course(tmp_path / "a.parquet"))])
    found = {(value.row, value.metric): value for value in read_values(tmp_path / "c.csv")}
    for row in RUNS["ERM"]["evaluations"]:
        name = f"ERM, notebook, epoch {row['epoch']}"
        assert 100 * found[name, "eo_p"].value == pytest.approx(row["EO_p"])
        assert found[name, "coded_di"].value == pytest.approx(row["DI"], rel=1e-5)
        wanted = RUNS["ERM"]["train_loss_by_epoch"][row["epoch"]]
        assert found[name, "train_loss"].value == pytest.approx(wanted)
    assert {value.column for value in read_values(tmp_path / "c.csv")} == {"Pleural Effusion, sex"}
    lines = fairness_course.lines_of(read_values(tmp_path / "c.csv"), "eo_p")
    points = lines["released", "ERM, notebook", "Pleural Effusion, sex"]
    assert [one.epoch for one in points] == [0, 10, 20, 30, 40, 49]
    assert points[0].loss > points[-1].loss
    assert points[-1].gap == pytest.approx(57.5)
    picture = tmp_path / "course.png"
    fairness_course.main(["--table", str(tmp_path / "c.csv"), "--out", str(picture)])
    assert picture.stat().st_size > 10_000
    bare = write(tmp_path / "b.parquet", cases_of("ERM"), kind="fairness_course")
    with pytest.raises(InputError, match="logits of some epochs"):
        values_of(tmp_path, bare)
    values_of(tmp_path, write(tmp_path / "d.parquet", cases_of("ERM")), resamples=0)
    with pytest.raises(InputError, match="rows of epochs"):
        fairness_course.main(["--table", str(tmp_path / "t.csv"), "--out", str(picture)])


def test_losses_are_those_of_the_released_evaluation_weighted_by_case(tmp_path: Path) -> None:
    cases = cases_of("ERM")
    found = values_of(tmp_path, write(tmp_path / "a.parquet", cases), resamples=0)
    column = "Pleural Effusion, sex"
    own = np.log1p(np.exp(-(2 * cases["truth"] - 1) * cases["margin"]))
    assert found[column, "test_loss"].value == pytest.approx(own.mean(), rel=1e-5)
    men = (cases["group"] == 1) & (cases["truth"] == 1)
    wanted = own[men].mean()
    assert found[column, "test_loss_positives_in"].value == pytest.approx(wanted, rel=1e-5)
    assert found[column, "train_loss"].value == 0.3
    areas = [found[column, name].value for name in ("auc", "auc_no_finding")]
    assert areas[0] == pytest.approx(areas[1])  # here one logit is the other's negative
