"""Rendered tables: no cell is lost, undefined is a dash and never bold, LaTeX holds together."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.predictions import data_name
from workflow_scripts.report.long_form import Value
from workflow_scripts.report.metric_catalogue import LOWER, METRICS, SHOWN_METRICS, plain
from workflow_scripts.report.rendering import DASH, Column, blocks, entry, heading, latex, markdown

from .conftest import value_of

NAN = math.nan
ROWS, COLUMNS = ("moco-v2", "supervised_r50", "a|b & 50% #1"), ("chestx 5-way", "my_set", "c_d~e")
fractions = st.floats(0, 1).map(lambda x: round(x, 6))
tables = st.dictionaries(
    st.tuples(
        st.sampled_from(["released", "corrected"]), st.sampled_from(ROWS), st.sampled_from(COLUMNS)
    ),
    st.one_of(st.just(NAN), fractions),
    min_size=1,
)


def values_of(table: dict[tuple[str, str, str], float], data: str = "x") -> list[Value]:
    return [
        value_of(
            number, protocol=protocol, row=row, column=column, data=data,
            ci_low=max(0.0, number - 0.01), ci_high=min(1.0, number + 0.01),
        )
        for (protocol, row, column), number in table.items()
    ]  # fmt: skip


def markdown_cells(page: str) -> dict[tuple[str, str, str], str]:
    """Read a Markdown page back: (protocol, row, column) to the text of the cell."""
    found, protocol, head = {}, "", []
    for line in page.splitlines():
        if line.startswith("## Protocol: "):
            protocol, head = line.removeprefix("## Protocol: "), []
        if not line.startswith("|"):
            continue
        texts = [text.strip().replace("\\|", "|") for text in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not head:
            head = [text.rsplit(", ", 1)[0] for text in texts]
        elif not texts[0].startswith((":", "*chance")):
            for column, text in zip(head[1:], texts[1:], strict=True):
                found[protocol, texts[0], column] = text
    return found


def latex_cells(text: str) -> dict[tuple[str, str, str], str]:
    """Read the LaTeX back, and check that environments nest and lines have equally many cells."""
    plain = {r"\_": "_", r"\%": "%", r"\&": "&", r"\#": "#", r"\textasciitilde{}": "~"}
    found, protocol, head, open_environments, width = {}, "", [], [], 0
    for line in text.splitlines():
        assert len(re.findall(r"(?<!\\)\{", line)) == len(re.findall(r"(?<!\\)\}", line)), line
        assert not re.search(r"(?<!\\)[%#~^]", line) or line.startswith("% Needs"), line
        if match := re.match(r"\\label\{tab:\w+-(\w+)\}", line):
            protocol = match[1]
        if match := re.match(r"\\begin\{(\w+)\}(?:\{([lr]+)\})?", line):
            open_environments.append(match[1])
            head, width = [], len(match[2] or "")
        elif match := re.match(r"\\end\{(\w+)\}", line):
            assert open_environments.pop() == match[1]
        elif line.endswith(r"\\"):
            assert open_environments == ["table", "tabular"]
            cells = [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]
            for special, character in plain.items():
                cells = [cell.replace(special, character) for cell in cells]
            assert len(cells) == width
            if not head:
                head = cells
            elif cells[0] and cells[0] != "chance level":
                found |= {
                    (protocol, cells[0], c): t for c, t in zip(head[1:], cells[1:], strict=True)
                }
    assert open_environments == []
    return found


@given(tables)
def test_markdown_loses_no_cell(table: dict[tuple[str, str, str], float]) -> None:
    found = markdown_cells(markdown("t", blocks(values_of(table))))
    for cell, number in table.items():
        text = found.pop(cell).strip("*")
        assert text.split(" ")[0] == (DASH if math.isnan(number) else f"{100 * number:.2f}")
    assert set(found.values()) <= {""}  # what was not run is empty


@given(tables)
def test_latex_loses_no_cell_and_holds_together(table: dict[tuple[str, str, str], float]) -> None:
    found = latex_cells(latex("ssl_transfer_few_shot", blocks(values_of(table))))
    for cell, number in table.items():
        text = found.pop(cell).removeprefix(r"\textbf{")
        assert text.split(" ")[0] == ("--" if math.isnan(number) else f"{100 * number:.2f}")
    assert set(found.values()) <= {""}


@given(tables)
def test_bold_is_the_highest_printed_value_of_a_column_and_never_undefined(
    table: dict[tuple[str, str, str], float],
) -> None:
    for block in blocks(values_of(table)):
        for column in block.columns:
            printed = {
                row: round(100 * value.value, 2)
                for (row, c), value in block.values.items()
                if c == column and not math.isnan(value.value)
            }
            bold = {row for row, c in block.best if c == column}
            highest = max(printed.values(), default=NAN)
            best = {row for row, number in printed.items() if number == highest}
            assert bold == (best if len(printed) > 1 else set())


def test_symmetric_intervals_show_half_widths_and_others_their_ends() -> None:
    assert entry(value_of(0.7446, ci_low=0.738, ci_high=0.7512)) == "74.46 ± 0.66"
    bootstrap = value_of(0.75, ci_low=0.7, ci_high=0.76, interval="patient bootstrap")
    assert entry(bootstrap) == "75.00 [70.00, 76.00]"
    assert entry(value_of(0.75, ci_low=NAN, ci_high=NAN, interval="none")) == "75.00"
    assert entry(value_of(NAN)) == DASH


def test_a_half_width_cut_at_one_is_shown_whole() -> None:
    assert entry(value_of(0.99, ci_low=0.96, ci_high=1.0)) == "99.00 ± 3.00"


def test_phantom_is_said_in_title_caption_and_column() -> None:
    rendered = blocks(values_of({("corrected", "m", "c"): 0.5}, data="phantom"))
    page, fragment = markdown("t", rendered), latex("t", rendered)
    assert page.startswith("# t (PHANTOM)\n")
    assert "| PHANTOM |" in page
    assert r"\caption{PHANTOM: made from synthetic patients" in fragment
    assert r"& PHANTOM \\" in fragment


def test_real_data_never_say_phantom() -> None:
    rendered = blocks(values_of({("corrected", "m", "c"): 0.5}))
    assert "PHANTOM" not in markdown("t", rendered) + latex("t", rendered)


def test_only_the_first_metric_of_a_cell_is_shown() -> None:
    values = [value_of(0.6, metric=m) for m in ("auc", "accuracy", "chance")]
    (block,) = blocks(values)
    assert block.columns == (Column("chestx 5-way", "auc"),)
    assert block.chance == ("60.00",)
    assert len(block.values) == 1


def test_chance_levels_that_differ_are_shown_as_a_range() -> None:
    values = [
        value_of(level, row=row, metric=metric)
        for row, level in (("a", 0.5), ("b", 0.4))
        for metric in ("accuracy", "chance")
    ]
    assert blocks(values)[0].chance == ("40.00 to 50.00",)


def test_each_metric_is_printed_in_its_own_unit_and_its_better_direction_is_bold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distance = plain("distance", LOWER, "mm", decimals=1)
    monkeypatch.setitem(METRICS, "distance_mm", distance)
    monkeypatch.setitem(SHOWN_METRICS, "t", ("accuracy", "distance_mm"))
    values = [
        value_of(number, row=row, column="c", metric=metric, table="t", ci_low=NAN, ci_high=NAN)
        for row, metric, number in (
            ("a", "accuracy", 0.9), ("a", "auc", 0.5), ("a", "distance_mm", 12.34),
            ("b", "accuracy", 0.8), ("b", "auc", 0.6), ("b", "distance_mm", 2.34),
        )
    ]  # fmt: skip
    (block,) = blocks(values)
    assert [heading(column) for column in block.columns] == ["c, accuracy (%)", "c, distance (mm)"]
    page = markdown("t", [block])
    assert "| a | **90.00** | 12.3 |" in page
    assert "| b | 80.00 | **2.3** |" in page


def test_rows_of_seeded_weights_on_real_images_are_named_below_the_table() -> None:
    key, other = ("released", "moco-v2", "my_set"), ("released", "supervised_r50", "my_set")
    values = [
        *values_of({key: 0.5}, data=data_name("my_set", False, False)),
        *values_of({other: 1}),
    ]
    for page in (markdown("t", blocks(values)), latex("t", blocks(values))):
        assert re.search(r"Untrained, seeded weights: moco-v2\.", page)
    assert "Untrained" not in markdown("t", blocks(values_of({other: 1})))
