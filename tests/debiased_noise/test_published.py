"""The ledger holds every number of the published log, and the paper's cells without a value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.debiased_noise.golden import GOLDEN
from workflow_scripts.report.published import Published, read_published

PUBLISHED = Path("results/published/debiased_noise.csv")
RUNS = GOLDEN["T_published_notebook_log"]["runs"]
ROWS = {"ERM": "ERM, notebook", "DNE": "DNE white box, notebook"}
NAMES = {  # of the log -> metric; percent as printed
    "overall_acc": "accuracy",
    "male_nofinding": "accuracy_negatives_in",
    "male_pleural": "accuracy_positives_in",
    "female_nofinding": "accuracy_negatives_out",
    "female_pleural": "accuracy_positives_out",
    "EO_n": "eo_n",
    "EO_p": "eo_p",
    "DI": "coded_di",
    "auc_no_finding": "auc_no_finding",
    "auc_pleural": "auc",
    "test_loss_overall": "test_loss",
}
SUBGROUPS = ("negatives_in", "positives_in", "negatives_out", "positives_out")


def logged(run: str, evaluation: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every metric of an evaluation with its logged value."""
    for name, metric in NAMES.items():
        yield metric, evaluation[name]
    yield "train_loss", RUNS[run]["train_loss_by_epoch"][evaluation["epoch"]]
    for subgroup, value in zip(SUBGROUPS, evaluation["test_loss_subgroups"], strict=True):
        yield f"test_loss_{subgroup}", value


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str, str], Published]:
    found = read_published([PUBLISHED])
    return {(cell.table, cell.row, f"{cell.column}/{cell.metric}"): cell for cell in found}


@pytest.mark.parametrize("run", ["ERM", "DNE"])
def test_every_logged_evaluation_stands_in_the_ledger_as_printed(
    run: str, cells: dict[tuple[str, str, str], Published]
) -> None:
    last = RUNS[run]["evaluations"][-1]
    places = [("debiased_noise_fairness", ROWS[run], last)]
    for evaluation in RUNS[run]["evaluations"]:
        row = f"{ROWS[run]}, epoch {evaluation['epoch']}"
        places.append(("debiased_noise_course", row, evaluation))
    for table, row, evaluation in places:
        for metric, value in logged(run, evaluation):
            cell = cells[table, row, f"Pleural Effusion, sex/{metric}"]
            assert cell.value == pytest.approx(value, abs=0.5 * 10.0**-cell.decimals), cell
            assert cell.tolerance > 0


def test_no_other_number_is_printed_and_the_papers_cells_have_none(
    cells: dict[tuple[str, str, str], Published],
) -> None:
    printed = [cell for cell in cells.values() if not math.isnan(cell.value)]
    assert len(printed) == 2 * 16 + 2 * 6 * 16
    blank = [cell for cell in cells.values() if math.isnan(cell.value)]
    assert len(blank) == 3 * 3 * 3  # diseases, rows and metrics known from the paper's summary
    assert {cell.metric for cell in blank} == {"accuracy", "eo_p", "coded_di"}
