"""The printed numbers of SSL transfer: sums, single cells, shape, tolerances."""

import math
from pathlib import Path

import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.report.published import COLUMNS, Published, read_published

PUBLISHED = Path(__file__).parents[2] / "results/published/ssl_transfer.csv"
CHECKPOINTS = [
    "simclr-v1", "moco-v2", "swav", "byol", "pirl", "supervised_r50", "supervised_r18",
    "supervised_d121", "mimic-chexpert_lr_0.01", "mimic-chexpert_lr_0.1",
    "mimic-chexpert_lr_1.0", "mimic-cxr_r18_lr_1e-4", "mimic-cxr_d121_lr_1e-4",
]  # fmt: skip
# Sums of 13 values and of 13 half widths, by a second reading that shares no code with the first.
FEW_SHOT_SUMS = {
    "shenzhen 2-way": (948.16, 8.61), "montgomery 2-way": (845.33, 9.12),
    "bach 2-way": (996.85, 10.22), "ichallenge_amd 2-way": (916.89, 8.67),
    "ichallenge_pm 2-way": (1162.53, 5.44), "chexpert 2-way": (767.43, 9.82),
    "stoic 2-way": (677.42, 9.55), "diabetic_retinopathy 5-way": (389.49, 5.29),
    "chestx 5-way": (387.78, 5.84), "cifar10 2-way": (1097.16, 9.50),
    "cifar10 5-way": (850.81, 6.69),
}  # fmt: skip
MANY_SHOT_SUMS = {
    ("ssl_transfer_linear", "chexpert"): (13, 969.07),
    ("ssl_transfer_linear", "diabetic_retinopathy"): (13, 373.99),
    ("ssl_transfer_finetune", "chexpert"): (13, 1014.13),
    ("ssl_transfer_finetune", "diabetic_retinopathy"): (8, 338.57),
}
SPOT_CHECKS = {  # read by eye
    ("ssl_transfer_few_shot", "byol", "montgomery 2-way"): (70.98, 0.67),
    ("ssl_transfer_few_shot", "mimic-chexpert_lr_0.1", "bach 2-way"): (69.66, 1.04),
    ("ssl_transfer_few_shot", "mimic-cxr_r18_lr_1e-4", "stoic 2-way"): (53.79, 0.76),
    ("ssl_transfer_few_shot", "supervised_r18", "chestx 5-way"): (28.58, 0.40),
    ("ssl_transfer_few_shot", "mimic-cxr_d121_lr_1e-4", "cifar10 5-way"): (52.34, 0.59),
    ("ssl_transfer_linear", "pirl", "diabetic_retinopathy"): (31.51, math.nan),
    ("ssl_transfer_linear", "mimic-chexpert_lr_0.1", "chexpert"): (77.28, math.nan),
    ("ssl_transfer_finetune", "moco-v2", "chexpert"): (79.96, math.nan),
    ("ssl_transfer_finetune", "supervised_r50", "diabetic_retinopathy"): (47.08, math.nan),
}


@pytest.fixture(scope="module")
def cells() -> tuple[Published, ...]:
    return read_published([PUBLISHED])


def test_every_column_of_the_few_shot_table_has_the_printed_sums(
    cells: tuple[Published, ...],
) -> None:
    for column, (values, spreads) in FEW_SHOT_SUMS.items():
        chosen = [c for c in cells if (c.table, c.column) == ("ssl_transfer_few_shot", column)]
        assert [c.row for c in chosen] == CHECKPOINTS
        assert sum(c.value for c in chosen) == pytest.approx(values, abs=1e-6)
        assert sum(c.spread for c in chosen) == pytest.approx(spreads, abs=1e-6)
        assert {c.metric for c in chosen} == {"accuracy"}


def test_every_column_of_the_many_shot_table_has_the_printed_sum(
    cells: tuple[Published, ...],
) -> None:
    for (table, column), (count, total) in MANY_SHOT_SUMS.items():
        chosen = [c for c in cells if (c.table, c.column) == (table, column)]
        assert [c.row for c in chosen] == CHECKPOINTS[:count]
        assert sum(c.value for c in chosen) == pytest.approx(total, abs=1e-6)
        metric = "accuracy" if column == "chexpert" else "mean_per_class_accuracy"
        assert {c.metric for c in chosen} == {metric}


def test_no_other_cell_is_printed(cells: tuple[Published, ...]) -> None:
    assert len(cells) == 13 * 11 + 13 + 13 + 13 + 8


@pytest.mark.parametrize("place", SPOT_CHECKS)
def test_a_cell_is_as_printed(cells: tuple[Published, ...], place: tuple[str, str, str]) -> None:
    (cell,) = [c for c in cells if (c.table, c.row, c.column) == place]
    value, spread = SPOT_CHECKS[place]
    assert cell.value == value
    assert cell.spread == spread or (math.isnan(cell.spread) and math.isnan(spread))


def test_few_shot_tolerance_is_twice_the_half_width_of_a_difference(
    cells: tuple[Published, ...],
) -> None:
    for cell in cells:
        if cell.table == "ssl_transfer_few_shot":
            assert cell.tolerance == pytest.approx(2 * math.sqrt(2) * cell.spread, abs=0.005001)


def test_known_inconsistencies_are_noted(cells: tuple[Published, ...]) -> None:
    suspicious = {(c.table, c.row, c.column) for c in cells if c.note.count("suspicious")}
    assert suspicious == {
        ("ssl_transfer_few_shot", "supervised_d121", "shenzhen 2-way"),
        ("ssl_transfer_linear", "simclr-v1", "diabetic_retinopathy"),
        ("ssl_transfer_linear", "pirl", "diabetic_retinopathy"),
    }
    assert all("label rule" in c.note for c in cells if c.column == "ichallenge_pm 2-way")


LINE = ["s", "t", "r", "c", "accuracy", "70.0", "", "percent", "paper", "", "1.5", "because"]


def write_line(path: Path, **changed: str) -> Path:
    line = [changed.get(name, text) for name, text in zip(COLUMNS, LINE, strict=True)]
    path.write_text(f"{','.join(COLUMNS)}\n{','.join(line)}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"value": ""}, "row 1 value: expected a number of at least 0, found ''"),
        ({"value": "7o"}, "row 1 value: expected a number of at least 0, found '7o'"),
        ({"value": "nan"}, "row 1 value: expected a number of at least 0, found 'nan'"),
        ({"spread": "-1"}, "row 1 spread: expected a number of at least 0, found '-1'"),
        (
            {"unit": "permille"},
            "or number, found 'permille'",
        ),
        ({"tolerance": ""}, "row 1 tolerance: expected a number"),
        ({"tolerance_reason": ""}, "row 1 tolerance_reason: expected a text, found nothing"),
        ({"metric": "acuracy"}, "row 1 metric: expected one of the catalogue, found acuracy"),
        ({"source": " "}, "row 1 source: expected a text, found nothing"),
    ],
)
def test_a_bad_printed_number_is_refused(
    tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    path = write_line(tmp_path / "bad.csv", **changed)
    with pytest.raises(InputError) as error:
        read_published([path])
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_a_cell_printed_in_two_files_is_refused(tmp_path: Path) -> None:
    paths = [write_line(tmp_path / name) for name in ("a.csv", "b.csv")]
    with pytest.raises(InputError, match=r"b.csv row 1: expected each cell once"):
        read_published(paths)


def test_a_number_that_could_not_be_read_needs_a_note(tmp_path: Path) -> None:
    (cell,) = read_published([write_line(tmp_path / "a.csv", value="", note="no access")])
    assert math.isnan(cell.value)
