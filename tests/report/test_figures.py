"""Figures: what is drawn, equal bytes, PHANTOM on every panel."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.problems import InputError
from workflow_scripts.report.figures import dots, main
from workflow_scripts.report.long_form import Value, write_values

from .conftest import value_of


def table(data: str = "x") -> list[Value]:
    values = []
    for protocol in ("released", "corrected"):
        for i, row in enumerate(("moco-v2", "supervised_r50")):
            for j, column in enumerate(("chestx 5-way", "bach 2-way", "my_set 2-way")):
                value = 0.5 + 0.1 * i + 0.05 * j
                words = {"protocol": protocol, "row": row, "column": column, "data": data}
                values.append(value_of(value, **words))
                values.append(value_of(0.25, metric="chance", **words))
    return values


def test_every_value_has_a_dot_and_an_interval() -> None:
    figure = dots(table())
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in panels] == [
        "chestx 5-way", "bach 2-way", "my_set 2-way",
    ]  # fmt: skip
    for j, axis in enumerate(panels):
        drawn = [np.asarray(line.get_xdata()) for line in axis.lines]
        dotted = sorted(float(x[0]) for x in drawn if len(x) == 1)
        assert dotted == pytest.approx(sorted(2 * [50 + 5 * j, 60 + 5 * j]))
        bars = [x for x in drawn if len(x) == 2 and x[1] - x[0] == pytest.approx(2.0)]
        assert len(bars) == 4
        assert sum(list(x) == [25, 25] for x in drawn) == 1  # chance level
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == ["moco-v2", "supervised_r50"]


def test_an_undefined_value_has_no_dot() -> None:
    figure = dots([value_of(0.5), value_of(math.nan, row="undefined")])
    assert sum(len(line.get_xdata()) == 1 for line in figure.axes[0].lines) == 1


def test_a_column_without_any_value_has_no_panel_and_the_legend_only_what_is_drawn() -> None:
    undefined = value_of(math.nan, column="never run", protocol="released")
    bare = value_of(0.5, column="bach", protocol="corrected", ci_low=math.nan, ci_high=math.nan)
    figure = dots([undefined, bare])
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    assert titles == ["bach"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["corrected protocol"]
    full = [text.get_text() for text in dots(table()).legends[0].get_texts()]
    assert full == ["released protocol", "corrected protocol", "95 % interval", "chance level"]
    assert len(dots([undefined]).axes) == 1  # nothing is defined: the table's columns still stand


@pytest.mark.parametrize(("data", "expected"), [("phantom", 3), ("x", 0)])
def test_phantom_is_written_across_every_panel(data: str, expected: int) -> None:
    figure = dots(table(data))
    marks = [text for axis in figure.axes for text in axis.texts if text.get_text() == "PHANTOM"]
    assert len(marks) == expected
    title = figure.get_suptitle()
    assert ("PHANTOM" in title) == bool(expected)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_tables_give_equal_pictures(tmp_path: Path, suffix: str) -> None:
    write_values(tmp_path / "t.csv", table())
    pictures = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}{suffix}"
        main(["--table", str(tmp_path / "t.csv"), "--kind", "dots", "--out", str(out)])
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]
    assert b"<dc:date>" not in pictures[0]


def test_a_png_has_200_dots_an_inch_and_ink_in_every_panel(tmp_path: Path) -> None:
    write_values(tmp_path / "t.csv", table())
    main(["--table", str(tmp_path / "t.csv"), "--out", str(tmp_path / "t.png")])
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (abs(pixels - np.array([0x00, 0x72, 0xB2])).sum(axis=2) < 30).any(axis=0)
    assert all(part.any() for part in np.array_split(blue[300:], 3))


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--out: expected .png or .svg, found .pdf"):
        main(["--table", str(tmp_path / "t.csv"), "--out", str(tmp_path / "t.pdf")])
