"""The printed numbers of SSL transfer: sums, single cells, shape, tolerances."""

import math
from collections import Counter
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
    ("ssl_transfer_saliency", "swav", "chestx"): (52.56, math.nan),
    ("ssl_transfer_saliency", "mimic-cxr_d121_lr_1e-4", "imagenet"): (38.4, math.nan),
    ("ssl_transfer_invariance", "pirl", "diabetic_retinopathy hue"): (0.671418, math.nan),
    ("ssl_transfer_invariance", "mimic-chexpert_lr_0.01", "shenzhen h_flip"): (
        -0.000673,
        math.nan,
    ),
    ("ssl_transfer_domain_averages", "byol", "out_of_domain"): (0.916952, math.nan),
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


DATASETS = (
    "shenzhen", "montgomery", "diabetic_retinopathy", "chestx", "bach", "ichallenge_amd",
    "ichallenge_pm", "chexpert", "stoic", "imagenet",
)  # fmt: skip
# Of the analyses: count and sum of the columns, by a second reading (awk on the specification)
SALIENCY_SUMS = {
    "shenzhen": (13, 540.20), "montgomery": (13, 532.40), "diabetic_retinopathy": (13, 560.62),
    "chestx": (13, 508.23), "bach": (13, 568.05), "ichallenge_amd": (13, 554.82),
    "ichallenge_pm": (13, 604.29), "chexpert": (13, 541.20), "imagenet": (9, 365.98),
}  # fmt: skip
INVARIANCE_SUMS = {
    "shenzhen rotation": (5, 0.166854), "montgomery rotation": (7, 0.067706),
    "diabetic_retinopathy rotation": (8, 2.331861), "ichallenge_amd rotation": (8, 0.366703),
    "ichallenge_pm rotation": (8, 0.685634), "shenzhen h_flip": (10, 5.028046),
    "montgomery h_flip": (10, 4.284328), "chestx h_flip": (10, 4.126088),
    "chexpert h_flip": (10, 7.316521), "diabetic_retinopathy hue": (7, 3.289824),
    "bach hue": (8, 1.216801), "chexpert multi_view": (10, 0.140998),
    "diabetic_retinopathy multi_view": (8, 2.556672),
}  # fmt: skip
PERCEPTUAL_SUMS = {
    "lpips": (10.1156, 9.0150, 7.8507, 9.0884, 8.7686, 7.4349, 8.4384, 8.8795, 7.4081, 8.3717),
    "lpips_alexnet": (
        10.4441, 8.9750, 7.8332, 8.9589, 8.7823, 7.4711, 8.6361, 8.7258, 7.8942, 8.0496,
    ),
    "lpips_vgg": (
        10.0375, 9.6156, 9.0714, 9.5986, 10.1298, 8.6415, 9.6959, 9.5586, 8.5256, 9.7261,
    ),
    "lpips_squeezenet": (
        9.8654, 8.4549, 6.6473, 8.7074, 7.3937, 6.1923, 6.9839, 8.3542, 5.8048, 7.3393,
    ),
}  # fmt: skip
N_CELLS = {
    "few_shot": 143, "linear": 26, "finetune": 21, "invariance": 109, "perceptual": 520,
    "saliency": 117 - 4 + 4 + 14,  # the table, its gaps, what the heatmaps fill, STOIC
    "domain_averages": 26, "correlations": 11 * 4 + 12 * 2 + 9,
}  # fmt: skip


def test_no_other_cell_is_printed(cells: tuple[Published, ...]) -> None:
    counts = Counter(cell.table.removeprefix("ssl_transfer_") for cell in cells)
    assert counts == N_CELLS


def test_the_analyses_have_the_printed_sums(cells: tuple[Published, ...]) -> None:
    def column(table: str, name: str, metric: str) -> list[Published]:
        key = (f"ssl_transfer_{table}", name, metric)
        return [c for c in cells if (c.table, c.column, c.metric) == key]

    for name, (count, total) in SALIENCY_SUMS.items():
        found = column("saliency", name, "attentive_diffusion")
        in_table = [c.value for c in found if "heatmaps" not in c.tolerance_reason.split(",")[0]]
        assert (len(in_table), sum(in_table)) == (count, pytest.approx(total, abs=1e-6))
    for name, (count, total) in INVARIANCE_SUMS.items():
        values = [c.value for c in column("invariance", name, "whitened_cosine")]
        assert (len(values), sum(values)) == (count, pytest.approx(total, abs=1e-9))
    for metric, totals in PERCEPTUAL_SUMS.items():
        for name, total in zip(DATASETS, totals, strict=True):
            found = column("perceptual", name, metric)
            assert [c.row for c in found] == CHECKPOINTS
            assert sum(c.value for c in found) == pytest.approx(total, abs=1e-6)
    for name, total in (("in_domain", 6.839709), ("out_of_domain", 7.735506)):
        averages = column("domain_averages", name, "scaled_average")
        assert sum(c.value for c in averages) == pytest.approx(total, abs=1e-9)


def test_the_printed_average_is_that_of_the_three_networks(cells: tuple[Published, ...]) -> None:
    values = {(c.row, c.column, c.metric): c.value for c in cells if "perceptual" in c.table}
    for row in CHECKPOINTS:
        for name in DATASETS:
            parts = [values[row, name, f"lpips_{net}"] for net in ("alexnet", "vgg", "squeezenet")]
            assert values[row, name, "lpips"] == pytest.approx(sum(parts) / 3, abs=1.01e-4)


def test_suspect_numbers_of_the_analyses_say_so(cells: tuple[Published, ...]) -> None:
    notes = {(c.table, c.row, c.column): c.note for c in cells if "r" not in c.metric[:1]}
    assert "wrong in print" in notes["ssl_transfer_saliency", "mimic-chexpert_lr_0.01", "shenzhen"]
    assert "rank deficient" in notes["ssl_transfer_invariance", "byol", "montgomery h_flip"]
    assert "rank deficient" not in notes["ssl_transfer_invariance", "supervised_r18",
                                         "shenzhen h_flip"]  # fmt: skip
    assert "29 Apr 2022" in notes["ssl_transfer_invariance", "supervised_r50", "bach hue"]


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
        ("ssl_transfer_invariance", "mimic-cxr_d121_lr_1e-4", "chestx h_flip"),
        ("ssl_transfer_invariance", "mimic-cxr_d121_lr_1e-4", "chexpert h_flip"),
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
