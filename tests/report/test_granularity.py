"""Is a printed proportion a possible count of cases?"""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.report.granularity import (
    ALWAYS,
    COLUMNS,
    IMPOSSIBLE,
    POSSIBLE,
    UNKNOWN,
    granularity,
    granularity_of,
    read_test_cases,
)
from workflow_scripts.report.published import Published, read_published

ROOT = Path(__file__).parents[2] / "results/published"
CASES = ROOT / "test_cases.csv"
PUBLISHED = read_published(sorted(set(ROOT.glob("*.csv")) - {CASES, ROOT / "checksums.csv"}))


@given(st.integers(1, 3000), st.data(), st.sampled_from([100.0, 1.0]), st.integers(0, 4))
def test_every_true_proportion_is_possible_as_printed(
    n: int, data: st.DataObject, scale: float, decimals: int
) -> None:
    k = data.draw(st.integers(0, n))
    printed = float(f"{scale * k / n:.{decimals}f}")
    assert granularity(printed, decimals, scale, n)[0] in (POSSIBLE, ALWAYS)


@given(st.integers(1, 400), st.integers(0, 10_000))
def test_a_value_is_impossible_exactly_where_no_count_rounds_to_it(n: int, hundredths: int) -> None:
    value = hundredths / 100
    verdict, _ = granularity(value, 2, 100.0, n)
    # integers: |100 k / n - h / 100| <= 0.005 is |20,000 k - 2 h n| <= n
    fits = any(abs(20_000 * k - 2 * hundredths * n) <= n for k in range(n + 1))
    assert (verdict == IMPOSSIBLE) == (not fits)


def test_known_misprints_and_true_values() -> None:
    assert granularity(69.0, 2, 100.0, 800) == (POSSIBLE, "552 / 800 = 69.00")
    # 553 / 800 = 69.125: half a digit may round either way
    assert granularity(69.12, 2, 100.0, 800)[0] == granularity(69.13, 2, 100.0, 800)[0] == POSSIBLE
    verdict, why = granularity(69.05, 2, 100.0, 800)
    assert (verdict, why) == (IMPOSSIBLE, "552 / 800 = 69.00 and 553 / 800 = 69.12 are the nearest")
    assert granularity(0.333, 3, 1.0, 3)[0] == POSSIBLE
    assert granularity(0.334, 3, 1.0, 3)[0] == IMPOSSIBLE
    assert granularity(100.0, 1, 100.0, 7)[0] == POSSIBLE
    assert granularity(100.2, 1, 100.0, 7) == (IMPOSSIBLE, "7 / 7 = 100.0 are the nearest")


def test_a_value_that_was_not_read_or_steps_finer_than_the_digits_say_nothing() -> None:
    assert granularity(math.nan, 2, 100.0, 800) == (UNKNOWN, "")
    assert granularity(12.34, 2, 100.0, 10_000)[0] == ALWAYS
    assert granularity(12.34, 2, 100.0, 9_999)[0] != ALWAYS


def printed(row: str = "moco-v2", value: float = 69.05) -> Published:
    return Published(
        "debiased_noise", "t", row, "c", "accuracy", value, math.nan, "percent", "s", "", 1.0, "r"
    )


def test_a_row_s_own_count_goes_before_that_of_every_row() -> None:
    cases = {("debiased_noise", "t", "", "c", "accuracy"): 800, printed("own").key: 20}
    assert granularity_of(printed(), cases)[0] == IMPOSSIBLE
    assert granularity_of(printed("own", 70.0), cases)[1] == "14 / 20 = 70.00"
    assert granularity_of(printed(), {}) == (UNKNOWN, "")


def write(folder: Path, *lines: tuple[str, ...]) -> Path:
    path = folder / "cases.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, *lines])
    return path


def test_counts_that_fit_no_printed_number_are_all_refused_with_their_rows(tmp_path: Path) -> None:
    good = ("debiased_noise", "t", "moco-v2", "c", "accuracy", "800", "source")
    assert read_test_cases(write(tmp_path, good), [printed()]) == {printed().key: 800}
    path = write(
        tmp_path, good, good, (*good[:5], "0", "s"), (*good[:5], "8.5", "s"),
        ("debiased_noise", "t", "moco-v2", "other", "accuracy", "800", "s"),
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        read_test_cases(path, [printed()])
    assert len(caught.value.problems) == 4
    text = str(caught.value)
    for row in (2, 3, 4, 5):
        assert f"row {row}" in text


def test_the_committed_counts_fit_the_printed_numbers() -> None:
    cases = read_test_cases(CASES, PUBLISHED)
    verdicts = Counter((one.table, granularity_of(one, cases)[0]) for one in PUBLISHED)
    assert verdicts["debiased_noise_fairness", POSSIBLE] == 14  # the notebook's last epoch
    assert verdicts["ssl_transfer_few_shot", ALWAYS] == 143  # 18,000 queries and more
    assert not [table for table, verdict in verdicts if verdict == IMPOSSIBLE]
    checked = {one.metric for one in PUBLISHED if granularity_of(one, cases)[0] != UNKNOWN}
    assert not [metric for metric in checked if metric.startswith("dsc")]  # a mean, no count


def test_few_shot_counts_are_episodes_times_queries() -> None:
    cases = read_test_cases(CASES, PUBLISHED)
    for (_, table, _, column, _), n in cases.items():
        if table == "ssl_transfer_few_shot":
            way = int(column.split(" ")[1].removesuffix("-way"))
            assert n == 600 * way * 15  # spec section 5: episodes, classes, queries a class
