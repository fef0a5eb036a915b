"""The table step: order, agreement, bytes, refusals."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.report import cells as cells_module
from workflow_scripts.report.cells import Resampling
from workflow_scripts.report.long_form import read_values
from workflow_scripts.report.predictions import read_headers
from workflow_scripts.report.table import group_cells, main, make_values

from .conftest import WritePredictions

LINEAR = "ssl_transfer_linear"
OUT = ("csv", "markdown", "latex")


def arguments(predictions: list[Path], folder: Path, name: str = LINEAR) -> list[str]:
    out = [word for form in OUT for word in (f"--{form}", str(folder / form))]
    files = [str(path) for path in predictions]
    return ["--table", name, "--predictions", *files, "--resamples", "50", *out]


def test_two_runs_give_equal_bytes(write_predictions: WritePredictions, tmp_path: Path) -> None:
    files = [write_predictions(row=row, seed=seed) for row in ("b", "a") for seed in (1, 0)]
    for run in ("first", "second"):
        main(arguments(files, tmp_path / run))
    for form in OUT:
        first, second = ((tmp_path / run / form).read_bytes() for run in ("first", "second"))
        assert first == second
        assert first


@pytest.mark.slow
def test_processes_change_nothing(
    write_predictions: WritePredictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write_predictions(row=row) for row in ("a", "b")]
    cells = group_cells(LINEAR, read_headers(files))
    alone = make_values(cells, Resampling(0, 20), jobs=1)
    monkeypatch.setattr(cells_module, "POOL_BYTES", 0)
    assert repr(make_values(cells, Resampling(0, 20), jobs=2)) == repr(alone)


def test_rows_and_columns_stand_in_the_given_order(
    write_predictions: WritePredictions, tmp_path: Path
) -> None:
    files = [
        write_predictions(row=row, column=column, protocol=protocol)
        for protocol in ("released", "corrected")
        for row in ("z", "a")
        for column in ("y", "b")
    ]
    main(arguments(files, tmp_path))
    cells = list(dict.fromkeys(value.cell for value in read_values(tmp_path / "csv")))
    assert cells == [
        (protocol, row, column)
        for protocol in ("released", "corrected")
        for row in ("z", "a")
        for column in ("y", "b")
    ]


def test_checkpoints_of_a_column_are_judged_on_the_same_resamples(
    write_predictions: WritePredictions, tmp_path: Path
) -> None:
    main(arguments([write_predictions(row=row) for row in ("a", "b")], tmp_path))
    first, *_, second = (v for v in read_values(tmp_path / "csv") if v.metric == "accuracy")
    assert (first.ci_low, first.ci_high) == (second.ci_low, second.ci_high)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"table": "ssl_transfer_few_shot"}, "expected table ssl_transfer_linear"),
        ({}, "(released / moco-v2 / chestx, seed 0): expected each seed of a cell once"),
        ({"seed": 1, "metric": "auc"}, "metric of column chestx: expected accuracy as before"),
        ({"row": "byol", "kind": "episodes"}, "kind of column chestx: expected classification"),
        ({"column": "c", "data": "phantom"}, "data of the table: expected real data as before"),
        ({"seed": 1, "data": "other"}, "chestx: expected chestx as before, found other"),
        ({"row": "byol", "system": "crocodile"}, "system of the table: expected ssl_transfer"),
    ],
)
def test_files_that_disagree_are_refused(
    write_predictions: WritePredictions, second: dict[str, object], message: str
) -> None:
    headers = read_headers([write_predictions(), write_predictions(**second)])
    with pytest.raises(InputError) as error:
        group_cells(LINEAR, headers)
    assert message in str(error.value)
    assert str(headers[1].path) in str(error.value)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"drop": ("column",)}, "key 'column': expected a text, found None"),
        ({"row": ""}, "key 'row': expected a text, found ''"),
        ({"seed": "0"}, "key 'seed': expected an integer, found '0'"),
        ({"kind": "regression"}, "key 'kind': expected alignment or"),
        ({"metric": "acuracy"}, "a metric of report/metric_catalogue.py, found acuracy"),
        ({"protocol": "mine"}, "key 'protocol': expected paper or released or corrected"),
    ],
)
def test_bad_metadata_are_refused(
    write_predictions: WritePredictions, file: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        read_headers([write_predictions(**file)])
    assert message in str(error.value)


def test_all_unusable_files_are_named_at_once(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    damaged, bare = tmp_path / "damaged.parquet", tmp_path / "bare.parquet"
    damaged.write_bytes(b"PAR1 cut off")
    pq.write_table(pa.table({"truth": np.zeros(1)}), bare)
    with pytest.raises(InputError) as error:
        read_headers([tmp_path / "none.parquet", damaged, bare])
    message = str(error.value)
    assert "none.parquet: expected a predictions file, found nothing" in message
    assert "damaged.parquet: expected a whole parquet file" in message
    assert "bare.parquet: expected the metadata key 'steadfast'" in message


def test_an_empty_list_of_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--predictions: expected at least one file, found none"):
        main(arguments([], tmp_path))


@pytest.mark.parametrize(("name", "number"), [("--jobs", "0"), ("--resamples", "-1")])
def test_a_number_out_of_range_is_refused(
    write_predictions: WritePredictions, tmp_path: Path, name: str, number: str
) -> None:
    with pytest.raises(InputError, match=f"{name}: expected at least"):
        main([*arguments([write_predictions()], tmp_path), name, number])


def test_what_the_systems_write_is_read(tmp_path: Path) -> None:
    import pandas as pd

    from workflow_scripts import predictions
    from workflow_scripts.report.predictions import read_cases

    texts = {"image_id": ["i1", "i0"], "patient_id": ["p1", "p0"], "split": "test"}
    rows = pd.DataFrame({name: texts.get(name) for name in predictions.CASE_COLUMNS})
    rows = rows.assign(**texts)
    words = dict.fromkeys(("row", "column", "data", "checkpoint", "dataset"), "x")
    metadata = {
        "system": "s", "table": "t", "protocol": "corrected", "seed": 3, "kind": "episodes",
        "metric": "accuracy", "classes": ["a", "b"], "options": {}, "diagnostics": {}, **words,
    }  # fmt: skip
    scores = np.array([[0.1, 0.9], [0.8, 0.2]])
    path, truth, episode = tmp_path / "p.parquet", np.array([1, 0]), np.array([0, 4])
    predictions.write_predictions(path, rows, truth, scores, metadata, episode)
    (header,) = read_headers([path])
    cases = read_cases(header)
    assert (header.table, header.seed, header.cell) == ("t", 3, ("corrected", "x", "x"))
    assert cases.image_id.tolist() == ["i1", "i0"]
    np.testing.assert_array_equal(cases.scores, scores)
    np.testing.assert_array_equal(cases.truth, truth)
    np.testing.assert_array_equal(cases.episode, episode)


def test_no_step_of_the_report_imports_torch_or_pandas() -> None:
    steps = ("table", "ledger", "figures", "check", "summary")
    imports = "; ".join(f"import workflow_scripts.report.{step}" for step in steps)
    heavy = "{'torch', 'pandas', 'matplotlib', 'sklearn', 'pyarrow'}"
    code = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
