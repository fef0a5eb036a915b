"""A user's table is read as it stands, or refused with every problem and its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from workflow_scripts.datasets import manifest
from workflow_scripts.datasets.layout import Index
from workflow_scripts.datasets.table import read
from workflow_scripts.problems import InputError

BASIC = {"layout": "table", "table": "labels.csv", "image": "file", "label": "class"}


def folder_of(tmp_path: Path, text: str, images: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    for number, name in enumerate(images):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 3), number).save(tmp_path / name)
    return tmp_path


def message(root: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(root, BASIC | options)
    return str(error.value)


def read_text(tmp_path: Path, text: str, **options: object) -> Index:
    return read(folder_of(tmp_path, text), BASIC | options)


def test_every_named_column_reaches_its_place(tmp_path: Path) -> None:
    text = (
        "file,class,who,visit,proj,site,part,gender,age,ethnicity\n"
        "a.png,ill,p1,v1,PA,north,train,Female,61.5,X\n"
        "b.png,well,p2,,,,test,,,\n"
    )
    names = {"patient": "who", "study": "visit", "view": "proj", "domain": "site"}
    names |= {"split": "part", "sex": "gender", "age_years": "age", "race": "ethnicity"}
    index = read_text(tmp_path, text, **names)
    columns = ["patient_id", "study_id", "view", "domain", "split", "sex", "age_years", "race"]
    first, second = index.table[columns].astype(object).values.tolist()
    assert first == ["p1", "v1", "PA", "north", "train", "F", 61.5, "X"]
    assert second[:6] == ["p2", None, None, None, "test", None]
    assert index.table["age_years"].isna().tolist() == [False, True]
    assert index.split_policy == "column 'part' of the table"


def test_classes_are_sorted_numbers_by_value(tmp_path: Path) -> None:
    index = read_text(tmp_path, "file,class\na.png,10\nb.png,9\n")
    assert index.classes == ("9", "10")
    assert index.table["label"].tolist() == [1, 0]


def test_the_given_order_of_classes_decides(tmp_path: Path) -> None:
    index = read_text(tmp_path, "file,class\na.png,ill\nb.png,well\n", classes=["well", "ill"])
    assert index.table["label"].tolist() == [1, 0]


def test_without_a_patient_column_every_image_is_its_own_patient(tmp_path: Path) -> None:
    index = read_text(tmp_path, "file,class\na.png,x\nb.png,y\n")
    assert index.table["patient_id"].tolist() == ["a.png", "b.png"]
    assert not index.patients_known


def test_a_row_without_a_label_is_left_out(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path, "file,class\na.png,x\nb.png,\nc.png,y\n", ("a.png", "b.png", "c.png")
    )
    index = read(root, BASIC)
    assert index.table["dropped"].tolist() == [None, "a label", None]
    assert index.filters == ("a label",)


def test_paths_count_from_the_tables_folder(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "", ("set/pictures/a.png", "set/pictures/b.png"))
    (root / "set/labels.csv").write_text("file,class\na.png,x\nb.png,y\n")
    options = {"table": "set/labels.csv", "image_folder": "pictures"}
    index = read(root, BASIC | options)
    assert index.table["path"].tolist() == ["set/pictures/a.png", "set/pictures/b.png"]


def test_several_labels_keep_unknown_unknown(tmp_path: Path) -> None:
    options = {"layout": "table", "table": "labels.csv", "image": "file", "labels": ["m", "n"]}
    index = read(folder_of(tmp_path, "file,m,n\na.png,1,\nb.png,,\n"), options)
    assert index.classes == ("m", "n")
    assert index.table.loc[0, "label_m"] == 1
    assert index.table["label_n"].isna().all()
    assert index.table["dropped"].tolist() == [None, "a label"]


def test_a_missing_csv_is_refused(tmp_path: Path) -> None:
    assert "labels.csv: expected a CSV file, found no file" in message(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_csv_is_refused(tmp_path: Path, text: str) -> None:
    assert "found an empty file" in message(folder_of(tmp_path, text))


def test_a_csv_without_rows_is_refused(tmp_path: Path) -> None:
    assert "at least one row below the header" in message(folder_of(tmp_path, "file,class\n"))


def test_every_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    text = message(folder_of(tmp_path, "files,klass\na.png,x\n"), patient="who")
    assert "expected column 'file' (option image), found columns files, klass" in text
    assert "did you mean 'files'?" in text
    assert "column 'class' (option label)" in text
    assert "column 'who' (option patient)" in text


def test_semicolons_are_recognised(tmp_path: Path) -> None:
    assert "separate the cells with commas" in message(folder_of(tmp_path, "file;class\na.png;x\n"))


def test_a_path_that_does_not_exist_is_refused_with_its_row(tmp_path: Path) -> None:
    text = message(folder_of(tmp_path, "file,class\na.png,x\nnone.png,y\n"))
    assert "labels.csv row 3: expected an image file, found 'none.png'" in text
    assert "row 2" not in text


@pytest.mark.parametrize("path", ["../a.png", "/a.png"])
def test_a_path_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    text = message(folder_of(tmp_path, f"file,class\n{path},x\nb.png,y\n"))
    assert f"row 2: expected a path below the table's folder, found '{path}'" in text


def test_a_duplicate_image_is_refused_with_both_rows(tmp_path: Path) -> None:
    text = message(folder_of(tmp_path, "file,class\na.png,x\nb.png,y\na.png,y\n"))
    assert "row 4: expected each image once (first in row 2), found 'a.png'" in text


def test_a_label_outside_the_policy_is_refused(tmp_path: Path) -> None:
    text = message(
        folder_of(tmp_path, "file,class\na.png,ill\nb.png,wel\n"), classes=["ill", "well"]
    )
    assert "row 3: expected one of the classes ill, well, found 'wel'" in text


def test_an_uncertain_finding_is_refused(tmp_path: Path) -> None:
    text = message(folder_of(tmp_path, "file,m\na.png,-1\nb.png,1\n"), label=None, labels=["m"])
    assert "row 2: expected 1, 0 or empty (unknown), found '-1'" in text


def test_one_class_is_refused(tmp_path: Path) -> None:
    assert "two classes or more" in message(folder_of(tmp_path, "file,class\na.png,x\nb.png,x\n"))


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("split", "training", "one of train, val, test"),
        ("sex", "w", "one of f, female, m, male"),
        ("age_years", "old", "an age in years"),
        ("age_years", "207", "an age in years"),
        ("patient", " ", "a patient"),
    ],
)
def test_an_unreadable_attribute_is_refused(
    tmp_path: Path, option: str, value: str, expected: str
) -> None:
    good = {"split": "train", "sex": "F", "age_years": "40", "patient": "p"}[option]
    text = f"file,class,extra\na.png,x,{good}\nb.png,y,{value}\n"
    found = message(folder_of(tmp_path, text), **{option: "extra"})
    assert f"row 3: expected {expected}, found {value!r}" in found


def test_a_row_with_a_stray_comma_is_refused(tmp_path: Path) -> None:
    text = message(folder_of(tmp_path, "file,class\na.png,x\nb.png,y,z\n"))
    assert "labels.csv row 3: expected 2 cells, found 3 cells: b.png,y,z" in text


def test_a_text_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"file,class\na.png,M\xfcnchen\n")
    assert "found byte 0xfc in line 2" in message(tmp_path)


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    text = message(
        folder_of(tmp_path, "file,class\nx.png,ill\na.png,sick\na.png,ill\n"), classes=["ill", "y"]
    )
    assert all(f"row {row}" in text for row in (2, 3, 4))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": None}, "either label (one column) or labels (a list of columns), found neither"),
        ({"labels": ["m"]}, "found both"),
        ({"image": None}, "option image: expected column with the image's path"),
        ({"classes": "ill"}, "option classes: expected a list"),
    ],
)
def test_an_incomplete_entry_is_refused(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    assert expected in message(folder_of(tmp_path, "file,class\na.png,x\n"), **options)


def test_two_ways_to_write_one_path_are_a_duplicate(tmp_path: Path) -> None:
    text = message(folder_of(tmp_path, "file,class\na.png,x\nb.png,y\n./a.png,y\n"))
    assert "row 4: expected each image once (first in row 2), found 'a.png'" in text


@pytest.mark.parametrize("word", ["NA", "nan", "N/A", "NULL"])
def test_a_word_for_missing_is_no_class_unless_listed(tmp_path: Path, word: str) -> None:
    root = folder_of(
        tmp_path, f"file,class\na.png,x\nb.png,y\nc.png,{word}\n", ("a.png", "b.png", "c.png")
    )
    assert f"expected a class, or an empty cell for unknown, found '{word}'" in message(root)
    assert read(root, BASIC | {"classes": ["x", "y", word]}).classes == ("x", "y", word)


def test_two_spellings_of_a_class_are_refused_unless_listed(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path, "file,class\na.png,Ill\nb.png,well\nc.png,ill\n", ("a.png", "b.png", "c.png")
    )
    assert "expected one spelling of a class, found 'Ill', 'ill'" in message(root)
    assert len(read(root, BASIC | {"classes": ["well", "Ill", "ill"]}).classes) == 3


@pytest.mark.parametrize("option", ["labels", "classes"])
def test_a_repeated_name_is_refused(tmp_path: Path, option: str) -> None:
    root = folder_of(tmp_path, "file,class\na.png,1\nb.png,0\n")
    given = {"label": None if option == "labels" else "class", option: ["class", "class"]}
    assert f"option {option}: expected each once" in message(root, **given)


def test_tabs_and_bare_carriage_returns_are_recognised(tmp_path: Path) -> None:
    text = "file\tclass\na.png\tx\n"
    assert "separate the cells with commas" in message(folder_of(tmp_path, text))
    (tmp_path / "labels.csv").write_bytes(b"file,class\ra.png,x\r")
    assert "found lines that end in a carriage return alone" in message(tmp_path)


def test_shares_that_the_split_does_not_use_are_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "file,class,part\na.png,x,train\nb.png,y,test\n")
    fractions = {"split_fractions": {"train": 0.5, "test": 0.5}}

    def build_with(**options: object) -> None:
        manifest.build("own", BASIC | options, root, seed=0, jobs=1)

    build_with(**fractions)
    build_with(split="part", split_policy="drawn", **fractions)
    with pytest.raises(InputError, match=r"split_fractions: expected a split to draw, found col"):
        build_with(split="part", **fractions)
    with pytest.raises(InputError, match=r"val_fraction: expected .* found split_policy drawn"):
        build_with(val_fraction=0.1)
    with pytest.raises(
        InputError, match=r"val_fraction: expected two training patients .* found 1"
    ):
        build_with(split="part", val_fraction=0.1)


def test_when_no_image_is_usable_the_first_reason_is_told(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "file,class\na.png,x\nb.png,y\n")
    for name in ("a.png", "b.png"):
        Image.new("I;16", (3, 3)).save(root / name)
    with pytest.raises(InputError, match=r"none of 2 rows; the first file, a\.png: mode I;16"):
        manifest.build("own", BASIC, root, seed=0, jobs=1)


def test_empty_rows_and_a_line_above_the_header_are_told(tmp_path: Path) -> None:
    text = message(folder_of(tmp_path, "file,class\na.png,x\n,\n,\nb.png,y\n"))
    assert "row 3: expected an image's path, found ''; next step: fill or remove the row" in text
    assert "row 4" in text
    assert "once" not in text
    text = message(folder_of(tmp_path, "\nfile,class\na.png,01\nb.png,02\n"))
    assert "row 1: expected the names of the columns, found an empty line" in text
