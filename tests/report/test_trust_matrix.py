"""The trust matrix: every number is a table's or follows from predictions; nothing is made up."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.files import sha256_of
from workflow_scripts.metrics.calibration import expected_calibration_error
from workflow_scripts.metrics.classification import binary_roc_auc
from workflow_scripts.predictions import (
    CASE_COLUMNS,
    METADATA_NAMES,
    write_case_scores,
    write_predictions,
)
from workflow_scripts.problems import InputError
from workflow_scripts.report import table, trust_figure
from workflow_scripts.report.long_form import Value, read_values
from workflow_scripts.report.metric_catalogue import METRICS
from workflow_scripts.report.trust_cells import (
    BETTER,
    OPEN,
    PLAIN,
    WORSE,
    best_protocol,
    finding,
    grid,
    latex_table,
    markdown_page,
    shown,
)
from workflow_scripts.report.trust_columns import COLUMNS, FEWEST_PATIENTS, LOOKED_UP, PREDICTED
from workflow_scripts.report.trust_matrix import main
from workflow_scripts.report.trust_subjects import READERS

from .conftest import value_of

CELL = tuple[str, str, str]


def metadata(table_name: str, **words: object) -> dict[str, Any]:
    system = next(s for s in ("ssl_transfer", "cooperative_training") if table_name.startswith(s))
    return {**dict.fromkeys(METADATA_NAMES, "x"), "system": system, "table": table_name,
            "protocol": "corrected", "seed": 0, "data": "somewhere", **words}  # fmt: skip


def cases_of(n: int, patients: int, **columns: Any) -> pd.DataFrame:
    cases = pd.DataFrame({name: [None] * n for name in CASE_COLUMNS})
    ids = {"image_id": [f"i{i:03}" for i in range(n)],
           "patient_id": [f"p{i % patients}" for i in range(n)]}  # fmt: skip
    return cases.assign(**{"age_years": np.nan, **ids, **columns})


def write_probe(path: Path, column: str, shift: float, seed: int = 0, **words: Any) -> Path:
    """Write the predictions of a probe: 60 patients of two images, sexes alternating."""
    same = np.random.default_rng(int(10 * shift))  # for all seeds
    truth, age = same.integers(0, 2, 120), same.uniform(30, 90, 120)
    rng = np.random.default_rng([seed, int(10 * shift)])
    margin = shift * (2 * truth - 1) + rng.normal(size=120)
    cases = cases_of(120, 60, sex=["F", "M"] * 60, age_years=age)
    about = metadata("ssl_transfer_id_ood", row="moco-v2", column=column, kind="classification",
                     metric="auc", seed=seed, **words)  # fmt: skip
    write_predictions(path, cases, truth, np.stack([-margin, margin], 1) / 2, about)
    return path


def write_segmenter(path: Path, sets: dict[str, float], patients: int = 20) -> Path:
    """Write the Dice of one structure in each test set of a file, about the given mean."""
    n = patients * len(sets)
    names = np.repeat(list(sets), patients)
    means = np.repeat(list(sets.values()), patients)
    noise = np.random.default_rng(int(1000 * means[0])).normal(size=n)
    scores = np.clip(means + 0.05 * noise, 0, 1)
    row = "standard, 4 patients, FTN+STN"
    about = metadata("cooperative_training_dice", row=row, column=names[0], kind="segmentation",
                     metric="dice")  # fmt: skip
    extra = {"structure": ["LV"] * n, "test_set": names, "vendor": ["A"] * n,
             "reference_voxels": [5] * n, "predicted_voxels": [5] * n}  # fmt: skip
    scored = {"dice": scores, "hd95_mm": 10 * (1 - scores)}
    write_case_scores(path, cases_of(n, patients), scored, about, extra)
    return path


def write_ladder(path: Path) -> Path:
    rng = np.random.default_rng(0)
    n = 60
    about = metadata("cooperative_training_agreement", row="standard, 4 patients, FTN+STN",
                     column="ACDC", kind="ladder", metric="dice")  # fmt: skip
    dice = rng.random(n)
    extra = {"corruption": ["none", "RandomBias", "RandomSpike"] * 20,
             "severity": [0.0, 1.0, 1.0] * 20, "draw": [0] * n}  # fmt: skip
    scores = {"dice": dice, "aula": dice / 2, "entropy": 1 - dice}
    write_case_scores(path, cases_of(n, 20), scores, about, extra)
    return path


def make_table(name: str, folder: Path, predictions: list[Path]) -> Path:
    words = [
        w
        for form in ("csv", "markdown", "latex")
        for w in (f"--{form}", str(folder / f"{name}.{form}"))
    ]
    files = [str(path) for path in predictions]
    table.main(["--table", name, "--predictions", *files, "--resamples", "60", *words])
    return folder / f"{name}.csv"


def make(
    folder: Path, tables: list[Path], predictions: list[Path], n: int = 60
) -> dict[CELL, Value]:
    forms = {"csv": "m.csv", "markdown": "m.md", "latex": "m.tex", "sources": "m.sources.csv"}
    words = [w for name, file in forms.items() for w in (f"--{name}", str(folder / file))]
    main(["--tables", *map(str, tables), "--predictions", *map(str, predictions),
          "--resamples", str(n), *words])  # fmt: skip
    values = read_values(folder / "m.csv")
    return {(v.row, v.column, v.metric): v for v in values}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], list[Path]]:
    folder = tmp_path_factory.mktemp("trust")
    probes = [
        write_probe(folder / f"{column[-1]}{seed}.parquet", column, shift, seed)
        for column, shift in (("a to a", 1.5), ("a to b", 0.2))
        for seed in (0, 1)
    ]
    sets = ({"ACDC": 0.9}, {"RandomBias": 0.8, "RandomSpike": 0.7}, {"M&Ms": 0.6})
    segmenters = [write_segmenter(folder / f"{n}.parquet", one) for n, one in enumerate(sets)]
    ladder = write_ladder(folder / "ladder.parquet")
    tables = [
        make_table("ssl_transfer_id_ood", folder, probes),
        make_table("cooperative_training_dice", folder, segmenters),
        make_table("cooperative_training_agreement", folder, [ladder]),
    ]
    return folder, tables, [*probes, *segmenters]


@pytest.fixture(scope="module")
def matrix(files: tuple[Path, list[Path], list[Path]]) -> dict[CELL, Value]:
    return make(*files)


PROBE, SEGMENTER = (
    "SSL transfer: moco-v2, a to b",
    "Cooperative training: standard, 4 patients, FTN+STN",
)


def test_what_a_table_holds_is_copied_with_its_interval(
    matrix: dict[CELL, Value], files: tuple[Path, list[Path], list[Path]]
) -> None:
    for path, row, column, mine, place, metric in (
        (files[1][0], "moco-v2", "a to a", PROBE, "ID", "auc"),
        (files[1][0], "moco-v2", "a to b", PROBE, "OOD", "accuracy"),
        (files[1][1], SEGMENTER[22:], "ACDC", SEGMENTER, "ID", "dice"),
        (files[1][2], SEGMENTER[22:], "whole ladder", SEGMENTER, "uncertainty against error",
         "spearman_dsc_aula"),
    ):  # fmt: skip
        (own,) = [
            v for v in read_values(path) if (v.row, v.column, v.metric) == (row, column, metric)
        ]
        found = matrix[mine, place, metric]
        assert (found.value, found.ci_low, found.ci_high, found.n) == (
            own.value, own.ci_low, own.ci_high, own.n,
        )  # fmt: skip


def test_what_no_table_holds_follows_from_the_predictions(
    matrix: dict[CELL, Value], files: tuple[Path, list[Path], list[Path]]
) -> None:
    drop = matrix[PROBE, "drop", "auc_drop"]
    assert drop.value == pytest.approx(
        matrix[PROBE, "ID", "auc"].value - matrix[PROBE, "OOD", "auc"].value, abs=2e-6
    )
    assert drop.ci_low < drop.value < drop.ci_high
    assert drop.seeds == 2
    gaps, eces, errors = [], [], []
    for path in files[2][:2]:  # seeds of "a to a"
        cases = pd.read_parquet(path)
        margin = (cases["score_1"] - cases["score_0"]).to_numpy()
        chance = 1 / (1 + np.exp(-margin))
        male = (cases["sex"] == "M").to_numpy()
        truth = cases["truth"].to_numpy()
        areas = [binary_roc_auc(truth[part], margin[part]).value for part in (male, ~male)]
        gaps.append(areas[0] - areas[1])
        eces.append(expected_calibration_error(truth, chance).value)
        wrong = (margin > 0) != (truth == 1)
        errors.append(binary_roc_auc(wrong, -np.abs(margin)).value)  # entropy falls with |margin|
    assert matrix[PROBE, "gap by sex", "auc_gap"].value == pytest.approx(
        abs(np.mean(gaps)), abs=1e-6
    )
    assert 0 < matrix[PROBE, "gap by sex", "auc_gap_p"].value <= 1
    assert matrix[PROBE, "calibration, ID", "ece"].value == pytest.approx(np.mean(eces), abs=1e-6)
    assert matrix[PROBE, "uncertainty against error", "error_auc"].value == pytest.approx(
        np.mean(errors), abs=1e-6
    )
    null = matrix[PROBE, "calibration, ID", "ece_null"].value
    assert 0 < null < 0.2


def test_artefacts_are_compared_on_the_same_patients(
    matrix: dict[CELL, Value], files: tuple[Path, list[Path], list[Path]]
) -> None:
    scores = {}
    for path in files[2][4:]:
        for name, cases in pd.read_parquet(path).groupby("test_set"):
            scores[name] = cases["score_dice"].to_numpy()
    worse = (scores["RandomBias"] + scores["RandomSpike"]) / 2
    lost = matrix[SEGMENTER, "artefacts", "dice_drop"]
    assert lost.value == pytest.approx((scores["ACDC"] - worse).mean(), abs=1e-6)
    paired = np.std(scores["ACDC"] - worse) / math.sqrt(20)
    assert lost.ci_high - lost.ci_low == pytest.approx(2 * 1.96 * paired, rel=0.4)


def test_what_a_row_lacks_is_absent_and_never_zero(matrix: dict[CELL, Value]) -> None:
    columns = {column for row, column, _ in matrix if row == SEGMENTER}
    assert not columns & {"calibration, ID", "gap by sex", "gap by age (60)"}  # sex is unknown
    assert "artefacts" not in {column for row, column, _ in matrix if row == PROBE}
    heads, lines = grid(list(matrix.values()))
    texts = {line[0]: dict(zip(heads, line, strict=True)) for line in lines}
    assert texts[SEGMENTER]["calibration, ID"] == ""
    assert texts[PROBE]["artefacts"] == ""


def test_every_cell_names_its_files_with_their_hashes(
    matrix: dict[CELL, Value], files: tuple[Path, list[Path], list[Path]]
) -> None:
    with (files[0] / "m.sources.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert {(line["row"], line["column"]) for line in lines} == {cell[:2] for cell in matrix}
    assert all(line["sha256"] == sha256_of(Path(line["predictions"])) for line in lines)
    behind = {
        line["predictions"] for line in lines if (line["row"], line["column"]) == (PROBE, "drop")
    }
    assert behind == {path.as_posix() for path in files[2][:4]}


def test_two_runs_give_equal_bytes_and_need_no_order_of_tables(
    files: tuple[Path, list[Path], list[Path]], tmp_path: Path, matrix: dict[CELL, Value]
) -> None:
    folder, tables, predictions = files
    make(tmp_path, tables[::-1], predictions)
    for name in ("m.csv", "m.md", "m.tex", "m.sources.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_few_patients_have_no_interval(tmp_path: Path) -> None:
    predictions = [write_segmenter(tmp_path / "a.parquet", {"ACDC": 0.9}, FEWEST_PATIENTS - 1),
                   write_segmenter(tmp_path / "b.parquet", {"M&Ms": 0.5}, 30)]  # fmt: skip
    ladder = make_table(
        "cooperative_training_agreement", tmp_path, [write_ladder(tmp_path / "l.parquet")]
    )
    tables = [make_table("cooperative_training_dice", tmp_path, predictions), ladder]
    found = make(tmp_path, tables, predictions)
    for column, metric in (("ID", "dice"), ("drop", "dice_drop")):
        value = found[SEGMENTER, column, metric]
        assert math.isnan(value.ci_low)
        assert value.interval == "none"
    assert not math.isnan(found[SEGMENTER, "OOD", "dice"].ci_low)


def test_a_table_that_is_missing_or_of_other_predictions_is_refused(
    files: tuple[Path, list[Path], list[Path]], tmp_path: Path
) -> None:
    _, tables, predictions = files
    with pytest.raises(InputError, match="the table ssl_transfer_id_ood"):
        make(tmp_path, tables[1:], predictions)
    stranger = write_probe(tmp_path / "s.parquet", "a to a", 1.0)
    other = write_probe(tmp_path / "u.parquet", "c to c", 1.0)
    small = make_table("ssl_transfer_id_ood", tmp_path, [other])
    with pytest.raises(InputError, match="expected moco-v2 / a to a, found no such cell"):
        make(tmp_path, [small], [stranger])


def test_a_probe_of_a_finding_has_a_row_for_each_data_set_outside(tmp_path: Path) -> None:
    columns = {"a to a Lung Opacity": 1.5, "a to b Lung Opacity": 0.2, "a to b Edema": 0.4}
    paths = [
        write_probe(tmp_path / f"{number}.parquet", column, shift)
        for number, (column, shift) in enumerate(columns.items())
    ]
    found = make(tmp_path, [make_table("ssl_transfer_id_ood", tmp_path, paths)], paths)
    row = "SSL transfer: moco-v2, a to b Lung Opacity"
    assert {name for name, *_ in found} == {row}
    lost = found[row, "ID", "auc"].value - found[row, "OOD", "auc"].value
    assert found[row, "drop", "auc_drop"].value == pytest.approx(lost, abs=2e-6)


def test_a_probe_that_met_no_other_data_has_a_row_without_ood(tmp_path: Path) -> None:
    path = write_probe(tmp_path / "a.parquet", "a to a", 1.0)
    found = make(tmp_path, [make_table("ssl_transfer_id_ood", tmp_path, [path])], [path])
    assert {row for row, *_ in found} == {"SSL transfer: moco-v2, a to a"}
    assert {column for _, column, _ in found}.isdisjoint({"OOD", "drop", "calibration, OOD"})


def test_seeds_with_other_cases_and_unknown_tables_are_refused(tmp_path: Path) -> None:
    first = write_probe(tmp_path / "a.parquet", "a to a", 1.0)
    cases = cases_of(10, 5)
    about = metadata("ssl_transfer_id_ood", row="moco-v2", column="a to a", kind="classification",
                     metric="auc", seed=1)  # fmt: skip
    write_predictions(tmp_path / "b.parquet", cases, np.arange(10) % 2, np.zeros((10, 2)), about)
    with pytest.raises(InputError, match="the cases of"):
        make(tmp_path, [], [first, tmp_path / "b.parquet"])
    about = metadata("ssl_transfer_knn", row="r", column="c", kind="classification", metric="auc")
    write_predictions(tmp_path / "c.parquet", cases, np.arange(10) % 2, np.zeros((10, 2)), about)
    with pytest.raises(InputError, match="found ssl_transfer_knn"):
        make(tmp_path, [], [tmp_path / "c.parquet"])


def cell(metric: str, value: float = 0.7, low: float = 0.6, high: float = 0.8) -> Value:
    return value_of(value, metric=metric, ci_low=low, ci_high=high, interval="patient bootstrap")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([cell("auc")], BETTER),
        ([cell("auc", 0.55, 0.45, 0.65)], OPEN),
        ([cell("auc", 0.3, 0.2, 0.4)], WORSE),
        ([cell("auc", 1.0, 1.0, 1.0)], OPEN),  # a bootstrap that never varied
        ([cell("auc", 0.9, math.nan, math.nan)], PLAIN),
        ([cell("dice")], PLAIN),
        ([cell("auc_drop", 0.1, 0.05, 0.2)], WORSE),
        ([cell("auc_drop", 0.1, -0.05, 0.2)], OPEN),
        ([cell("auc_drop", -0.1, -0.2, -0.05)], BETTER),
        ([cell("spearman_dsc_entropy", -0.5, -0.7, -0.2)], BETTER),
        ([cell("spearman_dsc_entropy", 0.5, 0.2, 0.7)], WORSE),
        ([cell("spearman_dsc_aula", 0.5, 0.2, 0.7)], BETTER),
        ([cell("auc_gap", 0.2), cell("auc_gap_p", 0.04)], WORSE),
        ([cell("auc_gap", 0.2), cell("auc_gap_p", 0.06)], OPEN),
        ([cell("ece", math.nan), cell("ece_p", math.nan)], PLAIN),
        ([cell("accuracy"), cell("chance", 0.5)], BETTER),
        ([cell("accuracy"), cell("chance", 0.65)], OPEN),
    ],
)
def test_a_colour_says_how_a_value_stands_to_its_yardstick(
    values: list[Value], expected: str
) -> None:
    by_metric = {value.metric: value for value in values}
    assert finding(values[0].metric, values[0], by_metric) == expected


@given(st.lists(st.sampled_from(sorted(METRICS)), max_size=6, unique=True))
def test_any_cell_is_shown_or_left_empty(names: list[str]) -> None:
    found = shown({name: cell(name) for name in names})
    assert found is None or (found.number and found.words)


def test_the_protocol_to_believe_is_shown_and_another_is_named() -> None:
    values = [value_of(0.7, row=row, protocol=protocol, column="ID") for row, protocol in
              (("a", "released"), ("a", "corrected"), ("b", "released"))]  # fmt: skip
    rows = best_protocol(values)
    assert list(rows) == ["a", "b (released)"]
    assert [value.protocol for value in rows["a"]] == ["corrected"]


def test_picture_page_and_latex_hold_every_row(
    files: tuple[Path, list[Path], list[Path]], tmp_path: Path, matrix: dict[CELL, Value]
) -> None:
    values = list(matrix.values())
    page, fragment = markdown_page(values), latex_table(values)
    for row in {value.row for value in values}:
        assert row in page
        assert row in fragment
    contents = []
    for name in ("a.svg", "b.svg", "c.png"):
        trust_figure.main(["--table", str(files[0] / "m.csv"), "--out", str(tmp_path / name)])
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    with pytest.raises(InputError, match="rename the picture"):
        trust_figure.main(["--table", str(files[0] / "m.csv"), "--out", str(tmp_path / "a.gif")])


def test_names_of_columns_and_tables_are_those_of_the_readers() -> None:
    assert set(READERS) == set(PREDICTED)
    assert set(PREDICTED) <= set(LOOKED_UP)
    assert len(set(COLUMNS)) == len(COLUMNS)
