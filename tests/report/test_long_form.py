"""The long form: what is written is read back, and what is damaged is refused."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.problems import InputError
from workflow_scripts.report.long_form import COLUMNS, Value, as_text, read_values, write_values
from workflow_scripts.report.metric_catalogue import METRICS

from .conftest import value_of

fractions = st.floats(0, 1).map(lambda x: round(x, 6))
maybe = st.one_of(st.just(math.nan), fractions)
names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
values = st.builds(
    Value, system=names, table=names, row=names, column=names,
    metric=st.sampled_from(sorted(METRICS)), value=maybe,
    ci_low=maybe, ci_high=maybe, n=st.integers(0, 10**6), seeds=st.integers(1, 9), data=names,
    protocol=st.sampled_from(["released", "corrected"]), interval=names, seed_std=maybe,
)  # fmt: skip


@given(st.lists(values, min_size=1, unique_by=lambda v: (v.system, v.table, *v.cell, v.metric)))
def test_values_are_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, content: list[Value]
) -> None:
    path = tmp_path_factory.mktemp("values") / "t.csv"
    write_values(path, content)
    assert repr(read_values(path)) == repr(tuple(content))  # repr: NaN equals no NaN


@given(st.floats(-1e-7, 1))
def test_a_number_has_six_decimals_and_no_negative_zero(number: float) -> None:
    text = as_text(number)
    assert len(text.split(".")[1]) == 6
    assert not text.startswith("-0.000000")


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("value", "1.2", "row 1 value: expected 0 to 1, found 1.2"),
        ("value", "x", "row 1: expected a number"),
        ("value", "inf", "row 1: expected a number"),
        ("n", "", "row 1: expected a number"),
        ("protocol", "relesed", "row 1 protocol: expected paper or released or corrected"),
    ],
)
def test_a_damaged_field_is_refused(tmp_path: Path, field: str, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    write_values(path, [value_of()])
    header, line = path.read_text(encoding="utf-8").splitlines()
    cells = line.split(",")
    cells[COLUMNS.index(field)] = text
    path.write_text(f"{header}\n{','.join(cells)}\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_values(path)
    assert message in str(error.value)


def test_a_value_given_twice_is_refused(tmp_path: Path) -> None:
    write_values(tmp_path / "t.csv", [value_of(0.5), value_of(0.6)])
    with pytest.raises(InputError, match="row 2: expected each value once"):
        read_values(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found an empty file"),
        ("a,b\n1,2\n", "found a, b"),
        (",".join(COLUMNS) + "\n", "expected at least one row, found only the header"),
        (",".join(COLUMNS) + "\n1,2\n", "row 1: expected 14 fields, found 2"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_values(path)
    assert message in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a CSV file, found nothing"):
        read_values(tmp_path / "none.csv")
