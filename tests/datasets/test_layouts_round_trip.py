"""What a phantom writer writes, the reader reads back; and the published labels are kept."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets import bach, chestx, shenzhen
from workflow_scripts.datasets.layout import (
    PHANTOM_MARK,
    TRUTH_COLUMNS,
    Layout,
    check_options,
    layout_named,
    layout_names,
)
from workflow_scripts.problems import InputError

GOLDEN = json.loads(Path("tests/golden/ssl_transfer.json").read_text())
TRIALS = settings(max_examples=25)


def plain_image(row: dict[str, Any]) -> Image.Image:
    return Image.new("RGB", (2, 2), (len(row["image_id"]), 0, 0))


def truth_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    blank = dict.fromkeys(TRUTH_COLUMNS) | {"age_years": float("nan")}
    return pd.DataFrame([blank | row for row in rows])[list(TRUTH_COLUMNS)]


def assert_reads_back(layout: Layout, truth: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    assert layout.write is not None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        layout.write(root, truth, plain_image, options)
        assert (root / PHANTOM_MARK).is_file()
        assert all((root / path).is_file() for path in truth["path"])
        table = layout.read(root, options).table
    found = table[list(TRUTH_COLUMNS)].astype(object)
    pd.testing.assert_frame_equal(
        found.where(found.notna(), None),
        truth.astype(object).where(truth.notna(), None),
        check_dtype=False,
    )
    return table


AGES_2017 = st.one_of(st.integers(0, 120), st.integers(0, 23).map(lambda months: months / 12))
FINDINGS = st.one_of(
    st.just(chestx.NO_FINDING),
    st.lists(st.sampled_from(chestx.FOURTEEN), min_size=1, max_size=3, unique=True).map("|".join),
)


@st.composite
def chestx_truth(draw: st.DrawFn, ages: st.SearchStrategy[float]) -> pd.DataFrame:
    visits = draw(
        st.lists(
            st.tuples(st.integers(1, 99), st.integers(0, 5)), min_size=1, max_size=6, unique=True
        )
    )
    official, flat = draw(st.booleans()), draw(st.booleans())
    rows = []
    for patient, visit in visits:
        study = f"{patient:08}_{visit:03}"
        folder = "images" if flat else f"images_{draw(st.integers(1, 12)):03}/images"
        rows.append(
            {
                "image_id": f"{study}.png",
                "path": f"{folder}/{study}.png",
                "patient_id": f"{patient:08}",
                "study_id": study,
                "view": draw(st.sampled_from(["PA", "AP"])),
                "sex": draw(st.sampled_from("FM")),
                "age_years": float(draw(ages)),
                "label_text": draw(FINDINGS),
                "split": ("test" if patient % 3 == 0 else "train") if official else None,
            }
        )
    return truth_of(rows)


@given(truth=chestx_truth(AGES_2017))
@TRIALS
def test_chestx_of_2017_reads_back_what_was_written(truth: pd.DataFrame) -> None:
    assert_reads_back(chestx.LAYOUT, truth, {})


@given(truth=chestx_truth(st.integers(0, 120)))
@TRIALS
def test_chestx_of_2020_reads_back_what_was_written(truth: pd.DataFrame) -> None:
    table = assert_reads_back(
        chestx.LAYOUT, truth, {"index": chestx.INDEX_2020, "label_policy": "fourteen_findings"}
    )
    for finding in chestx.FOURTEEN:
        present = [finding in text.split("|") for text in truth["label_text"]]
        assert (table[f"label_{finding}"] == 1).tolist() == present


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["F", "M", None]),
            st.one_of(st.just(float("nan")), st.integers(0, 120).map(float)),
            st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=12),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(shenzhen.INDEX_NAMES),
)
@TRIALS
def test_shenzhen_reads_back_what_was_written(
    patients: list[tuple[str | None, float, str]], index: str
) -> None:
    names = [f"CHNCXR_{i:04}_{i % 2}.png" for i in range(len(patients))]
    truth = truth_of(
        [
            dict.fromkeys(("image_id", "patient_id", "study_id"), name)
            | {"path": f"{shenzhen.FOLDER}/{name}", "sex": sex, "age_years": age}
            | {"label_text": text}
            for name, (sex, age, text) in zip(names, patients, strict=True)
        ]
    )
    table = assert_reads_back(shenzhen.LAYOUT, truth, {"index": index})
    assert table["label"].tolist() == [int(text != "normal") for _, _, text in patients]


@given(st.lists(st.sampled_from(bach.CLASSES), min_size=1, max_size=6))
@TRIALS
def test_bach_reads_back_what_was_written(classes: list[str]) -> None:
    truth = truth_of(
        [
            dict.fromkeys(("image_id", "patient_id", "study_id"), f"x{i:03}.tif")
            | {"path": f"{bach.FOLDER}/{name}/x{i:03}.tif", "label_text": name}
            for i, name in enumerate(classes)
        ]
    )
    table = assert_reads_back(bach.LAYOUT, truth, {})
    assert table["label"].tolist() == [bach.CLASSES.index(name) for name in classes]


def test_the_2017_index_is_written_with_its_quirks(tmp_path: Path) -> None:
    study = "00000001_002"
    truth = truth_of(
        [
            {"image_id": f"{study}.png", "path": f"images/{study}.png", "patient_id": "00000001"}
            | {"study_id": study, "view": "PA", "sex": "M", "age_years": 58.0}
            | {"label_text": "Cardiomegaly|Emphysema"}
        ]
    )
    chestx.write(tmp_path, truth, plain_image, {})
    header, row = (tmp_path / chestx.INDEX_2017).read_text().splitlines()
    assert header.endswith("OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],")
    assert row.startswith(f"{study}.png,Cardiomegaly|Emphysema,002,00000001,058Y,M,PA,")


def test_published_rows_of_both_releases_mean_the_same(tmp_path: Path) -> None:
    rows = {
        chestx.INDEX_2017: f"{chestx.HEADER},\n00000013_026.png,Mass,026,00000013,060Y,M,AP,"
        "3056,2544,0.139,0.139\n",
        chestx.INDEX_2020: f"{chestx.HEADER}\n00000013_026.png,Mass,26,13,60,M,AP,3056,2544,"
        "0.139,0.139\n",
    }
    tables = []
    for name, text in rows.items():
        (tmp_path / name).write_text(text)
        tables.append(chestx.read(tmp_path, {"index": name}).table)
    pd.testing.assert_frame_equal(*tables)
    assert tables[0].loc[0, ["patient_id", "age_years", "label"]].tolist() == ["00000013", 60, 4]


def test_an_impossible_age_becomes_unknown_and_is_counted(tmp_path: Path) -> None:
    row = "00005567_000.png,Effusion,000,00005567,412Y,M,AP,2500,2048,0.168,0.168"
    (tmp_path / chestx.INDEX_2017).write_text(f"{chestx.HEADER},\n{row}\n")
    index = chestx.read(tmp_path, {})
    assert index.table["age_years"].isna().all()
    assert index.unknown == {"age": 1}


def test_chestx_filter_is_the_released_one(tmp_path: Path) -> None:
    from workflow_scripts.datasets.splits import released_split

    golden = GOLDEN["chestx_filter"]
    rows = [f"i{i}.png,{text},0,{i},50,F,PA,1,1,1,1" for i, text in enumerate(golden["findings"])]
    (tmp_path / chestx.INDEX_2017).write_text("\n".join([chestx.HEADER, *rows]) + "\n")
    table = chestx.read(tmp_path, {}).table.join(released_split(len(rows)))
    kept = table[table["dropped"].isna()].sort_values("order_released")
    for split, expected in golden["result"].items():
        part = kept[kept["split_released"] == split]
        assert part[["image_id", "label"]].values.tolist() == expected


def test_bach_labels_and_split_are_the_released_ones(tmp_path: Path) -> None:
    from workflow_scripts.datasets.splits import released_split

    golden = GOLDEN["bach_labels"]
    path = tmp_path / bach.INDEX_NAME
    path.parent.mkdir(parents=True)
    path.write_text("\r\n".join(",".join(row) for row in golden["csv"]))
    table = bach.read(tmp_path, {}).table.join(released_split(len(golden["csv"])))
    table = table.sort_values("order_released")
    for split, expected in golden["result"].items():
        part = table[table["split_released"] == split]
        assert part[["image_id", "label"]].values.tolist() == expected


def test_shenzhen_labels_are_the_released_ones(tmp_path: Path) -> None:
    golden = GOLDEN["shenzhen_montgomery_labels"]
    lines = [",".join(row) for row in [list(shenzhen.HEADER), *golden["rows"]]]
    (tmp_path / shenzhen.INDEX_NAMES[1]).write_text("\n".join(lines) + "\n")
    table = shenzhen.read(tmp_path, {}).table
    assert dict(zip(table["image_id"], table["label"], strict=True)) == golden["result"]


def test_shenzhen_file_names_are_the_archives_own_label(tmp_path: Path) -> None:
    text = "study_id,sex,age,findings\nCHNCXR_0001_0.png,Male,45,Normal \n"
    (tmp_path / shenzhen.INDEX_NAMES[0]).write_text(text)
    policies = ("exact_normal", "file_name")
    read = [shenzhen.read(tmp_path, {"label_policy": policy}) for policy in policies]
    assert [index.table["label"].item() for index in read] == [1, 0]
    assert [sum(index.doubts.values()) for index in read] == [1, 0]


@pytest.mark.parametrize("name", layout_names())
def test_every_layout_says_what_a_user_without_data_needs(name: str) -> None:
    layout = layout_named(name)
    assert layout.name == name
    assert layout.policies
    assert all((layout.title, layout.licence, layout.access, layout.source, layout.unpack))


def test_the_four_layouts_are_found_by_their_module_name() -> None:
    assert {"bach", "chestx", "shenzhen", "table"} <= set(layout_names())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lable_policy": "one_of_seven"}, "did you mean 'label_policy'?"),
        ({"label_policy": "one_of_sevn"}, "did you mean 'one_of_seven'?"),
        ({"metric": "acuracy"}, "did you mean 'accuracy'?"),
        ({"split_fractions": {"train": 0.8, "test": 0.3}}, "shares of train, test"),
    ],
)
def test_a_wrong_option_is_refused_with_the_right_one(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        check_options(chestx.LAYOUT, wrong)
    assert message in str(error.value)


def test_an_unknown_layout_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'shenzhen'"):
        layout_named("shenzen")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("00000001_000.png,Mas,0,1,50,F,PA,1,1,1,1", "row 2: expected findings among"),
        ("00000001_000.png,Mass,0,2,50,F,PA,1,1,1,1", "row 2: expected the patient of the file"),
        ("00000001_000.png,Mass,0,1,50,F,PA,1,1,1", "row 2: expected 11 cells, found 10 cells"),
    ],
)
def test_a_wrong_row_of_chestx_is_refused(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / chestx.INDEX_2017).write_text(f"{chestx.HEADER},\n{row}\n")
    with pytest.raises(InputError) as error:
        chestx.read(tmp_path, {})
    assert message in str(error.value)


def test_an_image_that_no_official_list_places_is_refused(tmp_path: Path) -> None:
    row = "00000001_000.png,Mass,0,1,50,F,PA,1,1,1,1"
    (tmp_path / chestx.INDEX_2017).write_text(f"{chestx.HEADER}\n{row}\n")
    (tmp_path / chestx.TRAIN_LIST).write_text("00000002_000.png\n")
    with pytest.raises(InputError, match=r"test_list\.txt: expected the official list"):
        chestx.read(tmp_path, {})
    (tmp_path / chestx.TEST_LIST).write_text("00000003_000.png\n")
    with pytest.raises(InputError, match="row 2: expected in one of the lists"):
        chestx.read(tmp_path, {})
    assert chestx.read(tmp_path, {"split_policy": "drawn"}).split_policy is None


def test_a_class_that_bach_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / bach.INDEX_NAME
    path.parent.mkdir(parents=True)
    path.write_text("a.tif,Normal\nb.tif,Bening\n")
    with pytest.raises(InputError, match="row 2: expected one of Normal, Benign, InSitu, Invasive"):
        bach.read(tmp_path, {})
