"""Bad input: every mutation of an index or an image is refused or quarantined with its reason.

Each mutation damages a sound phantom of a chest X-ray archive in one way that hypothesis draws.
The manifest step must then end in one of three ways: exit status 1 with a message that names the
file (and row), the damaged file in quarantine with a reason, or the value counted as unknown or
left out in the card. It never ends in a traceback, and never in an unchanged manifest.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets import chestx, chexpert, manifest, mimic_cxr, padchest
from workflow_scripts.datasets.layout import TRUTH_COLUMNS, layout_named
from workflow_scripts.problems import InputError

EXAMPLES = 6  # of each mutation, drawn by hypothesis: rows, bytes and values vary


def noise(row: dict[str, Any]) -> Image.Image:
    rng = np.random.default_rng(list(row["image_id"].encode()))
    return Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))


def sound(layout: str) -> pd.DataFrame:
    """Twelve patients with an image each."""
    rows = []
    for n in range(1, 13):
        blank = dict.fromkeys(TRUTH_COLUMNS) | {"view": "PA", "age_years": 50.0, "sex": "F"}
        if layout == "chexpert":
            image = f"train/patient{n:05}/study1/view1_frontal.jpg"
            own = {"image_id": image, "path": f"{chexpert.SMALL}/{image}"}
            own |= {"patient_id": f"patient{n:05}", "study_id": f"patient{n:05}/study1"}
            own |= {"label_text": "No Finding=0|Pleural Effusion=1"}
        elif layout == "mimic_cxr":
            subject, study, dicom = f"100000{n:02}", f"504142{n:02}", f"dicom{n:02}"
            own = {"image_id": dicom, "path": f"files/p10/p{subject}/s{study}/{dicom}.jpg"}
            own |= {"patient_id": subject, "study_id": study, "label_text": "Edema=1"}
            own |= {"split": ["train", "val", "test"][n % 3], "sex": None}
        elif layout == "padchest":
            own = {"image_id": f"{n}.png", "path": f"3/{n}.png", "patient_id": f"p{n}"}
            own |= {"study_id": f"s{n}", "label_text": "pneumonia|normal"}
        else:
            name = f"{n:08}_000"
            own = {"image_id": f"{name}.png", "path": f"images/{name}.png"}
            own |= {"patient_id": f"{n:08}", "study_id": name, "label_text": "Mass"}
        rows.append(blank | own)
    return pd.DataFrame(rows)


LAYOUTS: dict[str, dict[str, Any]] = {
    "chexpert": {"layout": "chexpert", "split_fractions": {"train": 0.5, "test": 0.5}},
    "mimic_cxr": {"layout": "mimic_cxr", "phantom": {"packed": False}},
    "padchest": {"layout": "padchest", "split_fractions": {"train": 0.5, "test": 0.5}},
    "chestx": {"layout": "chestx", "split_fractions": {"train": 0.5, "test": 0.5}},
}
INDEX = {
    "chexpert": f"{chexpert.SMALL}/{chexpert.TRAIN_INDEX}",
    "mimic_cxr": mimic_cxr.METADATA,
    "padchest": padchest.INDEX,
    "chestx": chestx.INDEX_2017,
}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound archive of each layout, to be copied and damaged."""
    made = {}
    for name, options in LAYOUTS.items():
        made[name] = tmp_path_factory.mktemp(name) / "raw"
        write = layout_named(name).write
        assert write is not None
        write(made[name], sound(name), noise, options)
    return made


@dataclass(frozen=True)
class Outcome:
    """How the manifest step ended."""

    status: int
    message: str
    card: dict[str, Any]
    quarantine: pd.DataFrame
    table: pd.DataFrame


def outcome_of(layout: str, root: Path, capture: pytest.CaptureFixture[str]) -> Outcome:
    """Run the manifest step; anything but its two ways to end is a traceback, and fails."""
    out = {name: root.parent / name for name in ("manifest", "card", "quarantine")}
    arguments = ["--dataset", "d", "--options", json.dumps(LAYOUTS[layout]), "--seed", "0"]
    for name, path in (out | {"root": root}).items():
        arguments += [f"--{name}", str(path)]
    capture.readouterr()
    status = run(manifest.main, arguments)
    message = capture.readouterr().err
    if status:
        assert not out["manifest"].exists()
        return Outcome(status, message, {}, pd.DataFrame(), pd.DataFrame())
    card = json.loads(out["card"].read_text())
    quarantine = pd.read_csv(out["quarantine"])
    return Outcome(status, message, card, quarantine, pd.read_parquet(out["manifest"]))


Cells = list[list[str]]


def edited(root: Path, file: str, edit: Callable[[Cells], None]) -> None:
    """Rewrite an index file after `edit` changed its cells."""
    import csv
    import io

    path = root / file
    with path.open(newline="", encoding="utf-8") as handle:
        cells = list(csv.reader(handle))
    edit(cells)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    path.write_text(text.getvalue(), encoding="utf-8")


def at(cells: Cells, column: str) -> int:
    return cells[0].index(column)


# Mutations of an index: name -> (layout, file, column, values that cannot be, words of the message)
CELLS: dict[str, tuple[str, str, str, st.SearchStrategy[str], str]] = {
    "a label between the values": (
        "chexpert", INDEX["chexpert"], "Pleural Effusion",
        st.sampled_from(["0.5", "2", "yes", "-2.0", "NaN", "1,0", "--1", " "]), "expected 1.0, 0.0",
    ),
    "a label in a column that the policy does not read": (
        "chexpert", INDEX["chexpert"], "Fracture", st.text("abc!?", min_size=1, max_size=5),
        "in Fracture",
    ),
    "a path of another archive": (
        "chexpert", INDEX["chexpert"], "Path",
        st.sampled_from(["", "train/x.jpg", "../secret.jpg", "/etc/passwd", "CheXpert-v2.0/train/"
                         "patient00001/study1/view1_frontal.jpg", "patient00001/study1/a.png"]),
        "expected train/patient00001/study1/view1_frontal.jpg",
    ),
    "a view that is none": (
        "chexpert", INDEX["chexpert"], "Frontal/Lateral",
        st.sampled_from(["", "frontal ly", "AP", "Oblique", "1"]), "Frontal or Lateral",
    ),
    "a patient of MIMIC that is no number": (
        "mimic_cxr", mimic_cxr.METADATA, "subject_id",
        st.sampled_from(["", "1000", "p10000001", "1.0e7", "10000001.0", "abcdefgh"]),
        "expected eight digits",
    ),
    "a study of MIMIC that is no number": (
        "mimic_cxr", mimic_cxr.METADATA, "study_id",
        st.sampled_from(["", "s50414201", "5041420", "504142011"]), "expected eight digits",
    ),
    "a split of MIMIC that is none": (
        "mimic_cxr", mimic_cxr.SPLIT, "split",
        st.sampled_from(["", "valid", "Train", "0", "holdout"]), "one of train, validate, test",
    ),
    "an image of MIMIC that the split does not know": (
        "mimic_cxr", mimic_cxr.SPLIT, "dicom_id", st.text("xyz", min_size=3, max_size=9),
        "an image of mimic-cxr-2.0.0-split.csv",
    ),
    "an observation of MIMIC between the values": (
        "mimic_cxr", mimic_cxr.LABELS, "Edema",
        st.sampled_from(["0.5", "positive", "-1.5", "?"]), "1.0, 0.0, -1.0 or nothing in Edema",
    ),
    "a list of PadChest that is none": (
        "padchest", INDEX["padchest"], "Labels",
        st.sampled_from(["pneumonia", "['pneumonia'", "['a' 'b']", "{'a'}", "[1, 2]", "]['"]),
        "a list such as",
    ),
    "a projection of PadChest that is none": (
        "padchest", INDEX["padchest"], "Projection",
        st.sampled_from(["pa", "Frontal", "0", "lateral"]), "one of PA, AP, AP_horizontal",
    ),
    "a folder of PadChest that is no number": (
        "padchest", INDEX["padchest"], "ImageDir",
        st.sampled_from(["", "..", "images", "3/4", "-1", "1.5"]), "a numbered folder",
    ),
    "a file of PadChest outside its folder": (
        "padchest", INDEX["padchest"], "ImageID",
        st.sampled_from(["", "../1.png", "a/b.png", "1.jpg", "..\\1.png"]), "a PNG file's name",
    ),
    "a patient of PadChest without name": (
        "padchest", INDEX["padchest"], "PatientID", st.sampled_from(["", " ", "\t"]), "a patient",
    ),
    "a finding of ChestX-ray14 that is none": (
        "chestx", INDEX["chestx"], "Finding Labels",
        st.sampled_from(["", "mass", "Mass;Nodule", "Mass|", "Effusions", "No finding"]),
        "findings among",
    ),
    "a patient of ChestX-ray14 that is not the file's": (
        "chestx", INDEX["chestx"], "Patient ID", st.integers(100, 999).map(str),
        "the patient of the file name",
    ),
}  # fmt: skip
TRIALS = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("name", CELLS)
@given(data=st.data())
@TRIALS
def test_an_impossible_cell_is_refused_with_file_and_row(
    name: str, data: st.DataObject, archives: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    layout, file, column, values, words = CELLS[name]
    row, value = data.draw(st.integers(2, 13)), data.draw(values)

    def edit(cells: Cells) -> None:
        cells[row - 1][at(cells, column)] = value

    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(archives[layout], Path(folder) / "raw"))
        edited(root, file, edit)
        found = outcome_of(layout, root, capsys)
    assert found.status == 1
    assert words in found.message
    assert f"row {row}" in found.message or name == "an image of MIMIC that the split does not know"


SHAPES: dict[str, tuple[Callable[[Cells, int], None], str]] = {
    "a column less": (lambda cells, row: cells[0].pop(1), "cells"),
    "a column renamed": (lambda cells, row: cells[0].__setitem__(1, "x"), "column"),
    "a column twice": (lambda cells, row: cells[0].__setitem__(2, cells[0][3]), "twice"),
    "a cell less": (lambda cells, row: cells[row].pop(), "cells"),
    "a cell more": (lambda cells, row: cells[row].append("1"), "cells"),
    "a row twice": (lambda cells, row: cells.append(cells[row]), "each image once"),
    "no rows": (lambda cells, row: cells.__delitem__(slice(1, None)), "at least one row"),
    "nothing at all": (lambda cells, row: cells.clear(), "an empty file"),
    "columns that shifted": (lambda cells, row: cells[row].insert(0, cells[row].pop()), "row"),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@given(row=st.integers(1, 12))
@settings(TRIALS, max_examples=2)
def test_an_index_of_the_wrong_shape_is_refused(
    layout: str, name: str, row: int, archives: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edit, words = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(archives[layout], Path(folder) / "raw"))
        edited(root, INDEX[layout], lambda cells: edit(cells, row))
        found = outcome_of(layout, root, capsys)
    assert found.status == 1
    assert found.message.rpartition("refused: ")[2]
    assert words in found.message
    assert "next step" in found.message


BYTES: dict[str, Callable[[bytes, int], bytes]] = {
    "text of another encoding": lambda content, n: content[:60] + b"\xff\xfe" + content[60:],
    "semicolons for commas": lambda content, n: content.replace(b",", b";"),
    "half a gzip file": lambda content, n: gzip.compress(content)[: 40 + n],
    "a web page": lambda content, n: b"<html>\n<body>log in, please</body>\n</html>\n",
}


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("layout", ["mimic_cxr", "padchest", "chexpert"])
@given(n=st.integers(0, 50))
@settings(TRIALS, max_examples=2)
def test_an_index_that_is_no_csv_is_refused(
    layout: str, name: str, n: int, archives: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(archives[layout], Path(folder) / "raw"))
        index = root / INDEX[layout]
        damaged = BYTES[name](index.read_bytes(), n)
        if name == "half a gzip file" and layout != "chexpert":
            index.unlink()
            index = index.with_name(index.name + ".gz")
        index.write_bytes(damaged)
        found = outcome_of(layout, root, capsys)
    assert found.status == 1
    assert index.name in found.message
    assert "next step" in found.message


def as_gif(content: bytes, n: int) -> bytes:
    import io

    file = io.BytesIO()
    Image.new("L", (8 + n % 9, 8)).save(file, "GIF")
    return file.getvalue()


def as_cmyk(content: bytes, n: int) -> bytes:
    import io

    file = io.BytesIO()
    Image.new("CMYK", (8 + n % 9, 8)).save(file, "JPEG")
    return file.getvalue()


IMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "empty": lambda content, n: b"",
    "cut short": lambda content, n: content[: max(1, len(content) - 3 - n % (len(content) - 4))],
    "a web page": lambda content, n: b"<!DOCTYPE html><title>log in</title>",
    "a pointer of git lfs": lambda content, n: b"version https://git-lfs.github.com/spec/v1\n",
    "random bytes": lambda content, n: np.random.default_rng(n).bytes(len(content)),
    "another format": as_gif,
    "another mode": as_cmyk,
    "without its start": lambda content, n: content[1 + n % 8 :],
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("layout", LAYOUTS)
@given(n=st.integers(0, 400), which=st.integers(0, 11))
@settings(TRIALS, max_examples=3)
def test_a_damaged_image_is_quarantined_with_its_reason(
    layout: str,
    name: str,
    n: int,
    which: int,
    archives: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = sound(layout)["path"][which]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(archives[layout], Path(folder) / "raw"))
        (root / path).write_bytes(IMAGES[name]((root / path).read_bytes(), n))
        found = outcome_of(layout, root, capsys)
    assert found.status == 0, found.message
    assert found.quarantine["path"].tolist() == [path]
    assert found.quarantine["reason"].notna().all()
    assert path not in set(found.table["path"])
    assert sum(found.card["quarantined"].values()) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_image_is_quarantined_and_most_missing_are_refused(
    layout: str, archives: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(archives[layout], tmp_path / "raw"))
    paths = sound(layout)["path"]
    (root / paths[0]).unlink()
    assert outcome_of(layout, root, capsys).card["quarantined"] == {"file not found": 1}
    for name in ("manifest", "card", "quarantine"):
        (root.parent / name).unlink()
    for path in paths[1:8]:
        (root / path).unlink()
    found = outcome_of(layout, root, capsys)
    assert "8 of 12 missing" in found.message
    assert layout_named(layout).source in found.message


UNKNOWN: dict[str, tuple[str, str, str, st.SearchStrategy[str], str]] = {
    "an age that is none": (
        "chexpert", INDEX["chexpert"], "Age",
        st.sampled_from(["", "old", "-3", "412", "5 0"]), "age",
    ),
    "a sex that is none": (
        "chexpert", INDEX["chexpert"], "Sex", st.sampled_from(["", "Unknown", "X", "1"]), "sex",
    ),
    "a year of birth that is none": (
        "padchest", INDEX["padchest"], "PatientBirth",
        st.sampled_from(["", "0", "unknown", "2050", "1800"]), "age",
    ),
    "a sex of PadChest that is none": (
        "padchest", INDEX["padchest"], "PatientSex_DICOM", st.sampled_from(["", "O", "None"]),
        "sex",
    ),
    "an age of ChestX-ray14 that is none": (
        "chestx", INDEX["chestx"], "Patient Age", st.sampled_from(["", "412Y", "Y", "58J"]), "age",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
@given(data=st.data())
@settings(TRIALS, max_examples=4)
def test_an_attribute_that_cannot_be_becomes_unknown_and_is_counted(
    name: str, data: st.DataObject, archives: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    layout, file, column, values, kind = UNKNOWN[name]
    row, value = data.draw(st.integers(1, 12)), data.draw(values)

    def edit(cells: Cells) -> None:
        cells[row][at(cells, column)] = value

    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(archives[layout], Path(folder) / "raw"))
        edited(root, file, edit)
        found = outcome_of(layout, root, capsys)
    assert found.status == 0, found.message
    assert found.card["unknown"][kind] == 1
    assert found.table[{"age": "age_years", "sex": "sex"}[kind]].isna().sum() == 1


def test_these_are_more_than_eighty_mutations() -> None:
    kinds = EXAMPLES * len(CELLS) + 2 * len(SHAPES) * len(LAYOUTS) + 2 * 3 * len(BYTES)
    assert kinds + 3 * len(IMAGES) * len(LAYOUTS) + 4 * len(UNKNOWN) >= 80
    assert len(CELLS) + len(SHAPES) * len(LAYOUTS) + len(IMAGES) * len(LAYOUTS) >= 80


def test_a_workbook_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"<html>", b"PK\x03\x04 and no more"):
        (tmp_path / chexpert.DEMOGRAPHICS[0]).write_bytes(content)
        with pytest.raises(InputError, match=r"expected a whole \.xlsx workbook"):
            chexpert.read_races(tmp_path)
