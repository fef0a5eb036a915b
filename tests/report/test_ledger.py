"""The ledger: one verdict a value, by rules that leave no gap."""

import csv
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.report import ledger
from workflow_scripts.report.granularity import count_behind
from workflow_scripts.report.ledger import count_cells, judge, main, make_ledger
from workflow_scripts.report.long_form import Value, write_values
from workflow_scripts.report.published import Published

from .conftest import value_of

PUBLISHED = Path(__file__).parents[2] / "results/published/ssl_transfer.csv"
NONE: frozenset[str] = frozenset()


def printed(value: float = 70.0, tolerance: float = 1.5, **words: str) -> Published:
    content = {
        "system": "ssl_transfer", "table": "ssl_transfer_few_shot", "row": "moco-v2",
        "column": "chestx 5-way", "metric": "accuracy", "unit": "percent", "source": "s",
        "note": "", "tolerance_reason": "r", **words,
    }  # fmt: skip
    return Published(value=value, spread=math.nan, tolerance=tolerance, **content)


@pytest.mark.parametrize(
    ("ours", "verdict", "reason"),
    [
        (value_of(0.715), "reproduced", "difference 1.50 within the tolerance 1.50"),
        (value_of(0.685), "reproduced", "difference 1.50 within the tolerance 1.50"),
        (value_of(0.7151), "outside", "difference 1.51 beyond the tolerance 1.50"),
        (value_of(0.6849), "outside", "difference 1.51 beyond the tolerance 1.50"),
        (value_of(0.7, data="phantom"), "not comparable", "phantom"),
        (value_of(0.7, protocol="corrected"), "not comparable", "protocol: ours corrected"),
        (value_of(math.nan), "not comparable", "undefined"),
        (value_of(0.7, ci_low=0.68, ci_high=0.72), "not comparable", "too few cases"),
        (value_of(0.7, ci_low=0.1, ci_high=0.9, interval="fisher"), "reproduced", "difference"),
        (value_of(0.7, ci_low=math.nan, ci_high=math.nan), "reproduced", "difference 0.00"),
        (None, "not run", "no value of ours"),
    ],
)
def test_verdict_follows_the_first_rule_that_applies(
    ours: Value | None, verdict: str, reason: str
) -> None:
    found, why = judge(printed(), ours, NONE)
    assert (found, why[: len(reason)]) == (verdict, reason)


def test_a_wide_interval_withholds_no_verdict_where_as_many_cases_were_tested() -> None:
    wide = value_of(0.7, ci_low=0.68, ci_high=0.72)
    assert judge(printed(), wide, NONE, n_printed=wide.n)[0] == "reproduced"
    assert judge(printed(), wide, NONE, n_printed=wide.n + 1)[1].startswith("too few cases")


@pytest.mark.parametrize("name", ["chestx", "moco-v2"])
def test_a_cell_that_cannot_be_had_is_no_access_unless_we_have_it(name: str) -> None:
    assert judge(printed(), None, frozenset({name})) == ("no access", f"no access to {name}")
    assert judge(printed(), value_of(0.7), frozenset({name}))[0] == "reproduced"


@given(
    st.one_of(st.just(math.nan), st.floats(0, 1)),
    st.sampled_from(["chestx", "phantom"]),
    st.sampled_from(["released", "corrected"]),
    st.floats(0, 100),
    st.floats(0.01, 30),
)
def test_only_comparable_values_are_reproduced_or_outside(
    value: float, data: str, protocol: str, target: float, tolerance: float
) -> None:
    ours = value_of(value, data=data, protocol=protocol)
    verdict, reason = judge(printed(target, tolerance), ours, NONE)
    comparable = data != "phantom" and protocol == "released" and not math.isnan(value)
    decided = comparable and round(100 * ours.half_width, 9) <= tolerance
    assert reason
    if abs(100 * ours.half_width - tolerance) > 1e-6:
        assert (verdict in ("reproduced", "outside")) == decided
    if verdict in ("reproduced", "outside"):
        near = abs(100 * value - target) <= tolerance + 5e-5  # printed to four decimals
        far = abs(100 * value - target) >= tolerance - 5e-5
        assert near if verdict == "reproduced" else far


def test_fractions_and_percent_are_compared_in_the_printed_unit() -> None:
    as_fraction = printed(0.7, 0.015, unit="fraction")
    assert judge(as_fraction, value_of(0.715), NONE)[0] == "reproduced"
    assert judge(as_fraction, value_of(0.7152), NONE)[0] == "outside"


def test_a_printed_number_counts_once_with_its_strongest_verdict() -> None:
    values = [value_of(0.7, protocol="corrected"), value_of(0.7, protocol="released")]
    other = printed(column="bach 2-way")
    entries = make_ledger([printed(), other], values, NONE)
    assert [e.verdict for e in entries] == ["not comparable", "reproduced", "not run"]
    counts = count_cells((e.published.key, e.verdict) for e in entries)
    assert counts == {"ssl_transfer_few_shot": {"reproduced": 1, "not run": 1}}


@given(st.sets(st.integers(0, 189)))
def test_every_printed_number_is_in_the_ledger(chosen: set[int]) -> None:
    cells = ledger.read_published([PUBLISHED])
    values = [
        value_of(0.5, table=c.table, row=c.row, column=c.column, metric=c.metric)
        for i, c in enumerate(cells)
        if i in chosen
    ]
    entries = make_ledger(cells, values, NONE)
    assert [e.published for e in entries] == list(cells)
    assert sum(e.ours is not None for e in entries) == len(chosen)


@pytest.mark.parametrize(
    ("row", "column", "metric", "n", "verdict"),
    [
        ("few_shot bach 2-way", "imagenet_top1", "pearson_r", 8, "reproduced"),
        ("few_shot bach 2-way", "imagenet_top1", "pearson_r", 3, "not comparable"),
        ("few_shot bach 2-way", "imagenet_top1", "reduced_chi2", 7, "not comparable"),
        ("few_shot bach 2-way", "lpips", "pearson_r", 13, "reproduced"),
        ("finetune diabetic_retinopathy", "attentive_diffusion", "p_value", 8, "reproduced"),
        ("finetune diabetic_retinopathy", "attentive_diffusion", "p_value", 13, "not comparable"),
    ],
)
def test_a_correlation_over_other_checkpoints_is_not_comparable(
    row: str, column: str, metric: str, n: int, verdict: str
) -> None:
    cells = ledger.read_published([PUBLISHED])
    cases = ledger.read_test_cases(PUBLISHED.parent / "test_cases.csv", cells_of_all())
    (cell,) = [c for c in cells if c.key[2:] == (row, column, metric)]
    ours = value_of(cell.value, table=cell.table, row=row, column=column, metric=metric, n=n)
    (entry,) = make_ledger([cell], [ours], NONE, cases)
    assert (entry.verdict, entry.granularity) == (verdict, "")
    if verdict == "not comparable":
        assert entry.reason.startswith(f"other rows: ours {n}, printed ")


@pytest.mark.parametrize("n", [175, 176, 180])
def test_cases_of_a_segmentation_are_no_rows_of_a_table(n: int) -> None:
    cases = ledger.read_test_cases(PUBLISHED.parent / "test_cases.csv", cells_of_all())
    cells = [c for c in cells_of_all() if c.metric.startswith(("spearman", "qc_auc", "mhd"))]
    values = [
        value_of(
            c.value, system=c.system, table=c.table, row=c.row, column=c.column, metric=c.metric,
            n=n, ci_low=math.nan, ci_high=math.nan,
        )
        for c in cells
    ]  # fmt: skip
    entries = make_ledger(cells, values, NONE, cases)
    assert {entry.verdict for entry in entries} == {"reproduced"}


def test_every_printed_correlation_says_how_many_points_it_has() -> None:
    cells = [c for c in ledger.read_published([PUBLISHED]) if "correlations" in c.table]
    cases = ledger.read_test_cases(PUBLISHED.parent / "test_cases.csv", cells_of_all())
    assert len(cells) == 77
    assert {count_behind(cell, cases) for cell in cells} == {8, 13}


def cells_of_all() -> tuple[Published, ...]:
    names = ("test_cases.csv", "checksums.csv")
    files = sorted(f for f in PUBLISHED.parent.glob("*.csv") if f.name not in names)
    return ledger.read_published(files)


@pytest.mark.parametrize(
    ("left_out", "n", "reason"),
    [(0, 6, "difference"), (1, 6, "other rows: ours 12, printed 13"),
     (0, 7, "other columns: ours 7, printed 6")],
)  # fmt: skip
def test_scaled_averages_of_other_checkpoints_or_columns_are_not_comparable(
    left_out: int, n: int, reason: str
) -> None:
    cases = ledger.read_test_cases(PUBLISHED.parent / "test_cases.csv", cells_of_all())
    cells = [c for c in ledger.read_published([PUBLISHED]) if c.metric == "scaled_average"]
    cells = [c for c in cells if c.column == "in_domain"]
    values = [
        value_of(c.value, table=c.table, row=c.row, column=c.column, metric=c.metric, n=n)
        for c in cells[left_out:]
    ]
    entries = make_ledger(cells, values, NONE, cases)[left_out:]
    verdict = "reproduced" if reason == "difference" else "not comparable"
    assert {entry.verdict for entry in entries} == {verdict}
    assert all(entry.reason.startswith(reason) for entry in entries)


def test_another_metric_is_not_set_beside_a_printed_one() -> None:
    (entry,) = make_ledger([printed()], [value_of(0.7, metric="auc")], NONE)
    assert entry.verdict == "not run"


def run_main(folder: Path, values: list[Value], *words: str) -> tuple[list[dict[str, str]], str]:
    write_values(folder / "t.csv", values)
    tables = ["--tables", str(folder / "t.csv")] if values else []
    out = ["--csv", str(folder / "ledger.csv"), "--markdown", str(folder / "ledger.md")]
    main(["--published", str(PUBLISHED), *tables, *out, *words])
    with (folder / "ledger.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle)), (folder / "ledger.md").read_text(encoding="utf-8")


def test_the_csv_sets_ours_beside_the_printed_number_in_its_unit(tmp_path: Path) -> None:
    value = value_of(0.7376, column="shenzhen 2-way", ci_low=0.73, ci_high=0.7452)
    lines, page = run_main(tmp_path, [value, value_of(0.3, row="my own")])
    assert len(lines) == 1053
    (line,) = [x for x in lines if x["ours"]]
    assert (line["row"], line["published"], line["spread"]) == ("moco-v2", "73.7600", "0.6600")
    assert (line["ours"], line["ours_low"], line["difference"]) == ("73.7600", "73.0000", "0.0000")
    assert line["verdict"] == "reproduced"
    assert "| ssl_transfer_few_shot | 1 | 0 | 0 | 0 | 142 | 143 |" in page
    assert "| **all** | 1 | 0 | 0 | 0 | 1052 | 1053 |" in page
    assert "without a printed counterpart, left out: 1." in page


def test_ours_stands_with_its_interval_and_its_spread_over_seeds(tmp_path: Path) -> None:
    value = value_of(0.7376, column="shenzhen 2-way", ci_low=0.73, ci_high=0.7452, seed_std=0.004)
    lines, page = run_main(tmp_path, [value])
    (line,) = [x for x in lines if x["ours"]]
    assert (line["ours_high"], line["ours_seed_std"]) == ("74.5200", "0.4000")
    assert "| 73.76 [73.00, 74.52], seeds ± 0.40 | released |" in page
    bare = value_of(0.7376, column="shenzhen 2-way", ci_low=math.nan, ci_high=math.nan)
    lines, page = run_main(tmp_path, [bare])
    assert "| 73.76 | released |" in page
    assert [x["ours_seed_std"] for x in lines if x["ours"]] == [""]


def test_what_is_outside_is_explained_and_granularity_is_counted(tmp_path: Path) -> None:
    value = value_of(0.5, column="shenzhen 2-way", ci_low=0.495, ci_high=0.505)
    cases = str(PUBLISHED.parent / "test_cases.csv")
    others = [str(path) for path in PUBLISHED.parent.glob("[cdl]*.csv") if "sums" not in path.name]
    lines, page = run_main(tmp_path, [value], "--published", str(PUBLISHED), *others,
                           "--test-cases", cases)  # fmt: skip
    (line,) = [x for x in lines if x["verdict"] == "outside"]
    assert "few-shot, patient_disjoint (released: no, corrected: yes)" in line["could_explain"]
    assert not any(x["could_explain"] for x in lines if x["verdict"] != "outside")
    assert line["granularity"] == "any value is possible"
    assert re.search(
        r"test cases is known: [0-9]+; [0-9]+ are a possible k / n .*, 0 are not", page
    )
    assert "\n- few-shot, patient_disjoint (released: no, corrected: yes): " in page


def test_phantoms_are_never_reproduced(tmp_path: Path) -> None:
    value = value_of(0.7376, column="shenzhen 2-way", data="phantom")
    lines, page = run_main(tmp_path, [value])
    assert {line["verdict"] for line in lines} == {"not comparable", "not run"}
    assert "**PHANTOM: " in page


def test_a_suspicious_printed_number_stays_with_its_note(tmp_path: Path) -> None:
    lines, page = run_main(tmp_path, [])
    noted = [x for x in lines if "suspicious" in x["note"]]
    assert len(noted) == 5
    assert page.count("suspicious") == 5


def test_two_runs_of_the_ledger_give_equal_bytes(tmp_path: Path) -> None:
    value = value_of(0.7376, column="shenzhen 2-way")
    contents = []
    for _ in range(2):
        run_main(tmp_path, [value])
        contents.append((tmp_path / "ledger.csv").read_bytes())
    assert contents[0] == contents[1]


def test_data_without_access_are_named_on_the_command_line(tmp_path: Path) -> None:
    lines, _ = run_main(tmp_path, [], "--no-access", "chexpert")
    assert sum(line["verdict"] == "no access" for line in lines) == 8 * 13 + 20


def test_an_unknown_name_without_access_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--no-access: expected one of .* found chexprt"):
        run_main(tmp_path, [], "--no-access", "chexprt")


def test_a_table_given_twice_is_refused(tmp_path: Path) -> None:
    write_values(tmp_path / "u.csv", [value_of(0.7)])
    paths = [tmp_path / "u.csv"] * 2
    with pytest.raises(InputError, match="expected a value once"):
        ledger.read_tables(paths)
