"""CheXpert, MIMIC-CXR-JPG and PadChest: what is written is read back; labels are as published."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets import chestx, chexpert, mimic_cxr, padchest
from workflow_scripts.datasets.chest_findings import (
    LUNG_OPACITIES,
    NINE,
    OBSERVATIONS,
    UNCERTAIN_RULES,
)
from workflow_scripts.datasets.layout import PHANTOM_MARK, TRUTH_COLUMNS, Layout, check_options
from workflow_scripts.datasets.splits import released_split
from workflow_scripts.datasets.workbook import read_workbook, write_workbook
from workflow_scripts.problems import InputError

SSL = json.loads(Path("tests/golden/ssl_transfer.json").read_text())
DNE = json.loads(Path("tests/golden/dne.json").read_text())
CROCODILE = json.loads(Path("tests/golden/crocodile.json").read_text())
TRIALS = settings(max_examples=25)

AGES = st.one_of(st.just(float("nan")), st.integers(0, 120).map(float))
SEXES = st.sampled_from(["F", "M", None])
OBSERVED = st.lists(
    st.sampled_from([None, "1", "0", "-1"]), min_size=len(OBSERVATIONS), max_size=len(OBSERVATIONS)
).map(
    lambda values: "|".join(
        f"{name}={value}" for name, value in zip(OBSERVATIONS, values, strict=True) if value
    )
)


def plain_image(row: dict[str, Any]) -> Image.Image:
    return Image.new("L", (2, 2), len(row["image_id"]))


def truth_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    blank = dict.fromkeys(TRUTH_COLUMNS) | {"age_years": float("nan")}
    return pd.DataFrame([blank | row for row in rows])


def assert_reads_back(layout: Layout, truth: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    assert layout.write is not None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        layout.write(root, truth, plain_image, options)
        assert (root / PHANTOM_MARK).is_file()
        assert all((root / path).is_file() for path in truth["path"])
        table = layout.read(root, options).table
    found = table.set_index("image_id").loc[truth["image_id"]].reset_index()
    found = found[list(truth.columns)].astype(object)
    expected = truth.astype(object)
    pd.testing.assert_frame_equal(
        found.where(found.notna(), None), expected.where(expected.notna(), None), check_dtype=False
    )
    return table


@st.composite
def chexpert_truth(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, Any]]:
    release = draw(st.sampled_from(chexpert.RELEASES))
    official = draw(st.booleans())
    keys = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
    races = st.sampled_from(["White, non-Hispanic", "Asian", "Black or African American", None])
    race_of = {patient: draw(races) for patient in range(1, 5)}
    rows = []
    for patient, study, view in sorted(draw(st.lists(keys, min_size=1, max_size=6, unique=True))):
        part = "valid" if official and patient == 1 else "train"
        where = draw(st.sampled_from(["PA", "AP", "LL", "frontal", "lateral"]))
        side = "lateral" if where == "lateral" else "frontal"
        name, study_name = f"patient{patient:05}", f"study{study}"
        image = f"{part}/{name}/{study_name}/view{view}_{side}.jpg"
        rows.append(
            {"image_id": image, "path": f"{release}/{image}", "patient_id": name, "view": where}
            | {"study_id": f"{name}/{study_name}", "sex": draw(SEXES), "age_years": draw(AGES)}
            | {"label_text": draw(OBSERVED), "race": race_of[patient]}
            | {"split": ("test" if part == "valid" else "train") if official else None}
        )
    truth = truth_of(rows)
    if official and truth["split"].nunique() < 2:
        truth["split"] = None
        return truth[truth["path"].str.contains("/train/")], {}
    return truth, {"split_policy": "official"} if official else {}


@given(chexpert_truth())
@TRIALS
def test_chexpert_reads_back_what_was_written(case: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    truth, options = case
    if truth.empty:
        return
    table = assert_reads_back(chexpert.LAYOUT, truth.reset_index(drop=True), options)
    assert ("order_released" in table) == (not options)


@st.composite
def mimic_truth(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, Any]]:
    base = draw(st.sampled_from(["", mimic_cxr.DOWNLOADED]))
    official = draw(st.booleans())
    rows = []
    for patient in range(draw(st.integers(1, 3))):
        subject = f"1{patient}000032"
        split = draw(st.sampled_from(["train", "val", "test"])) if official else None
        for study in range(draw(st.integers(1, 2))):
            number = f"5{patient}41426{study}"
            text = draw(st.one_of(st.none(), OBSERVED))
            for image in range(draw(st.integers(1, 2))):
                dicom = f"{patient:08x}-{study:08x}-{image:08x}-68f67193-f2534310"
                path = f"{base}files/p{subject[:2]}/p{subject}/s{number}/{dicom}.jpg"
                view = draw(st.sampled_from(["PA", "AP", "lateral", None]))
                rows.append(
                    {"image_id": dicom, "path": path, "patient_id": subject, "study_id": number}
                    | {"view": view, "label_text": text, "split": split}
                )
    options: dict[str, Any] = {"phantom": {"packed": draw(st.booleans())}}
    return truth_of(rows), options | ({} if official else {"split_policy": "drawn"})


@given(mimic_truth())
@TRIALS
def test_mimic_cxr_reads_back_what_was_written(case: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    truth, options = case
    if truth["label_text"].isna().all():
        truth["label_text"] = ""  # an index file without rows is refused
    table = assert_reads_back(mimic_cxr.LAYOUT, truth, options)
    without = table["dropped"] == mimic_cxr.WITH_LABELS
    assert without.tolist() == truth["label_text"].isna().tolist()


LABEL = st.sampled_from(["pneumonia", "pleural effusion", "normal", "COPD signs", "unchanged"])


@given(
    st.lists(
        st.tuples(
            *(st.integers(0, 54), st.integers(1, 3), SEXES, AGES),
            st.sampled_from(["PA", "AP", "AP_horizontal", "lateral", "COSTAL", None]),
            st.lists(LABEL, max_size=3, unique=True).map("|".join),
        ),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
@TRIALS
def test_padchest_reads_back_what_was_written(cases: list[Any], packed: bool) -> None:
    truth = truth_of(
        [
            {"image_id": f"2168401_{i}.png", "path": f"{folder}/2168401_{i}.png"}
            | {"patient_id": f"p{patient}", "study_id": f"s{i}", "sex": sex, "age_years": age}
            | {"view": view, "label_text": text}
            for i, (folder, patient, sex, age, view, text) in enumerate(cases)
        ]
    )
    table = assert_reads_back(padchest.LAYOUT, truth, {"phantom": {"packed": packed}})
    kept = [view in padchest.FRONTAL and text != "" for *_, view, text in cases]
    assert table["dropped"].isna().tolist() == kept


def write_chexpert(root: Path, rows: list[list[str]], columns: list[str]) -> None:
    lines = [",".join(row) for row in [columns, *rows]]
    (root / chexpert.TRAIN_INDEX).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("uncertain", "flag", "cast"),
    [
        ("positive", "few_shot=True", "int"),
        ("positive", "few_shot=True", "long"),  # AUC of fine-tuning
        ("released_linear", "few_shot=False", "int"),
        ("released_linear", "few_shot=False", "long"),  # accuracy of fine-tuning
    ],
)
def test_chexpert_labels_are_the_released_ones(
    tmp_path: Path, uncertain: str, flag: str, cast: str
) -> None:
    golden = SSL["chexpert_labels"]
    write_chexpert(tmp_path, golden["rows"], golden["columns"])
    table = chexpert.read(tmp_path, {"uncertain": uncertain}).table
    found = dict(zip(f"{chexpert.FULL}/" + table["image_id"], table["label"], strict=True))
    expected = golden["result"][flag]
    assert found == {path: one[f"label_after_{cast}_cast"] for path, one in expected.items()}


def test_views_of_chexpert_are_paired_as_released(tmp_path: Path) -> None:
    golden = SSL["chexpert_labels"]
    write_chexpert(tmp_path, golden["rows"], golden["columns"])
    both = chexpert.pairs(chexpert.read(tmp_path, {"uncertain": "positive"}).table)
    lateral = golden["result"]["multiview_rows"]
    assert (f"{chexpert.FULL}/" + both["lateral"]).tolist() == lateral
    frontal = [path.replace("view2_lateral", "view1_frontal") for path in lateral]
    assert (f"{chexpert.FULL}/" + both["frontal"]).tolist() == frontal


def test_a_lateral_view_has_a_frontal_one_of_its_own_study() -> None:
    rows = [
        ("p1", "s1", "lateral", "p1/s1/view2_lateral"),  # its frontal view is not the first
        ("p1", "s1", "PA", "p1/s1/view4_frontal"),
        ("p1", "s1", "AP", "p1/s1/view3_frontal"),
        ("p1", "s2", "AP", "p1/s2/view1_frontal"),
        ("p2", "s3", "lateral", "p2/s3/view1_lateral"),  # no frontal view: the released code stops
        ("p3", "s4", "lateral", "p3/s4/view2_lateral"),  # two of one study: two pairs
        ("p3", "s4", "lateral", "p3/s4/view3_lateral"),
        ("p3", "s4", "PA", "p3/s4/view1_frontal"),
    ]
    table = pd.DataFrame(rows, columns=["patient_id", "study_id", "view", "image_id"])
    assert chexpert.pairs(table).values.tolist() == [
        ["p1", "p1/s1/view2_lateral", "p1/s1/view3_frontal"],
        ["p3", "p3/s4/view2_lateral", "p3/s4/view1_frontal"],
        ["p3", "p3/s4/view3_lateral", "p3/s4/view1_frontal"],
    ]


def test_an_uncertain_effusion_is_left_out_unless_the_entry_says_otherwise(tmp_path: Path) -> None:
    golden = SSL["chexpert_labels"]
    write_chexpert(tmp_path, golden["rows"], golden["columns"])
    index = chexpert.read(tmp_path, {})
    uncertain = [row[15] == "-1.0" for row in golden["rows"]]
    assert index.table["dropped"].notna().tolist() == uncertain
    assert index.filters == ("no uncertain Pleural Effusion",)
    kept = chexpert.read(tmp_path, {"uncertain": "negative", "views": "frontal"})
    assert kept.filters == ("a frontal view",)
    assert kept.table["dropped"].notna().sum() == 1


def test_chexpert_is_split_by_the_released_count(tmp_path: Path) -> None:
    golden = SSL["dataset_split"]["splits"]["chexpert_train_csv"]
    split = released_split(golden["n"], chexpert.RELEASED_TRAIN_ROWS)
    by_order = split.reset_index().sort_values("order_released")
    for part in ("train", "test"):
        rows = by_order[by_order["split_released"] == part]["index"]
        assert len(rows) == golden[f"n_{part}"]
        assert rows.head(10).tolist() == golden[f"first_{part}_rows"]
    golden = SSL["chexpert_labels"]
    write_chexpert(tmp_path, golden["rows"], golden["columns"])
    few = chexpert.read(tmp_path, {}).table["split_released"]
    assert set(few) == {"train"}  # fewer rows than the count: nothing is left to test with
    some = chexpert.read(tmp_path, {"released_train_rows": 2}).table["split_released"]
    assert (some == "train").sum() == 2


def dne_rows() -> tuple[list[list[str]], list[str]]:
    """The golden table of five images in CheXpert's own columns."""
    golden = DNE["N_dataset"]
    rows = []
    for number, row in enumerate(golden["rows"]):
        named = dict(zip(golden["columns"], row, strict=True))
        path = f"{chexpert.SMALL}/train/patient{number:05}/study1/view1_frontal.jpg"
        cells = [path, named["Sex"], str(named["Age"]), "Frontal", "AP"]
        values = [named.get(name) for name in OBSERVATIONS]
        rows.append(cells + ["" if value is None else f"{value:.1f}" for value in values])
    return rows, list(chexpert.HEADER)


@pytest.mark.parametrize("disease", ["Pleural Effusion", "Edema", "Pneumonia", "Lung Lesion"])
def test_debiased_noise_targets_are_the_released_ones(tmp_path: Path, disease: str) -> None:
    rows, columns = dne_rows()
    write_chexpert(tmp_path, rows, columns)
    options = {"label_policy": "no_finding_vs_disease_released", "disease": disease}
    table = chexpert.read(tmp_path, options).table
    found = table[["label_No Finding", f"label_{disease}"]].to_numpy().tolist()
    assert found == DNE["N_dataset"]["targets_no_finding_then_disease"][disease]


def test_debiased_noise_subgroups_are_the_released_ones(tmp_path: Path) -> None:
    rows, columns = dne_rows()
    write_chexpert(tmp_path, rows, columns)
    table = chexpert.read(tmp_path, {"label_policy": "no_finding_vs_disease"}).table
    names = [Path(row[0]).stem for row in DNE["N_dataset"]["rows"]]  # a ... e
    kept = table[table["dropped"].isna()]
    for sex in ("male", "female"):
        for label, word in enumerate(("nofinding", "pleural")):
            chosen = kept[(kept["sex"] == sex[0].upper()) & (kept["label"] == label)]
            expected = DNE["N_dataset"]["subgroup_paths"][f"{sex}_{word}"]
            assert [f"data/{names[at]}.jpg" for at in chosen.index] == expected


def test_the_nine_findings_stand_in_the_papers_order_in_all_four_data_sets(tmp_path: Path) -> None:
    assert list(NINE) == CROCODILE["conventions"]["label_order"]
    for layout in (chestx, chexpert, mimic_cxr, padchest):
        assert "nine_findings" in layout.LAYOUT.policies


@given(
    st.lists(
        st.one_of(
            st.just("No Finding"),
            st.lists(st.sampled_from(chestx.FOURTEEN), min_size=1, max_size=3, unique=True).map(
                "|".join
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
@TRIALS
def test_lung_opacity_of_chestx_is_any_of_the_five_it_is_made_of(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{i:08}_000.png,{t},0,{i},50,F,PA,1,1,1,1" for i, t in enumerate(texts)]
        Path(folder, chestx.INDEX_2017).write_text("\n".join([chestx.HEADER, *lines]) + "\n")
        index = chestx.read(Path(folder), {"label_policy": "nine_findings"})
    assert index.classes == NINE
    for text, row in zip(texts, index.table.to_dict("records"), strict=True):
        named = set(text.split("|"))
        for finding in set(NINE) - {"Lung Opacity"}:
            assert row[f"label_{finding}"] == (finding in named)
        assert row["label_Lung Opacity"] == bool(named & set(LUNG_OPACITIES))


def test_nine_findings_of_chexpert_follow_the_rule_for_uncertain_ones(tmp_path: Path) -> None:
    path = f"{chexpert.SMALL}/train/patient00001/study1/view1_frontal.jpg"
    said = {"Edema": "-1.0", "Pleural Effusion": "1.0", "Lung Opacity": "0.0"}
    row = [path, "Male", "50", "Frontal", "PA", *(said.get(name, "") for name in OBSERVATIONS)]
    write_chexpert(tmp_path, [row], list(chexpert.HEADER))
    expected = {"ignore": np.nan, "positive": 1.0, "negative": 0.0, None: 0.0}
    expected |= {"released_linear": 0.0, "released_dne": 1.0}
    assert set(expected) == {*UNCERTAIN_RULES, None}
    for rule, edema in expected.items():
        options = {"label_policy": "nine_findings"} | ({"uncertain": rule} if rule else {})
        found = chexpert.read(tmp_path, options).table.iloc[0]
        np.testing.assert_equal(found["label_Edema"], edema)
        assert (found["label_Effusion"], found["label_Lung Opacity"]) == (1.0, 0.0)
        assert found["label_No Finding"] == 0.0


def test_published_lists_of_padchest_are_read_with_their_stray_blanks() -> None:
    texts = pd.Series(["['pulmonary edema', ' pleural effusion']", "['']", '["O\'Brien sign"]'])
    assert padchest.label_lists(texts).tolist() == [
        ["pulmonary edema", "pleural effusion"], [], ["O'Brien sign"],
    ]  # fmt: skip


def test_files_of_padchest_known_to_be_damaged_are_left_out_and_counted(tmp_path: Path) -> None:
    names = ["216840111366964012819207061112010307142602253_04-014-084.png", "fine.png"]
    truth = truth_of(
        [
            {"image_id": name, "path": f"4/{name}", "patient_id": name, "study_id": name}
            | {"view": "PA", "label_text": "laminar atelectasis"}
            for name in names
        ]
    )
    padchest.write(tmp_path, truth, plain_image, {})
    table = padchest.read(tmp_path, {}).table
    assert table["dropped"].fillna("").tolist() == [padchest.READABLE, ""]
    assert table["label_Atelectasis"].tolist() == [1.0, 1.0]
    assert Image.open(tmp_path / "4/fine.png").mode == "I;16"


def test_a_workbook_reads_back_what_was_written(tmp_path: Path) -> None:
    rows = [["PATIENT", "PRIMARY_RACE"], ["patient00001", "A & <B>"], ["patient00002", " "]]
    write_workbook(tmp_path / "demo.xlsx", rows)
    table = read_workbook(tmp_path / "demo.xlsx")
    assert table.to_numpy().tolist() == [[*rows[1], 2], [*rows[2], 3]]


def test_a_patient_of_chexpert_with_two_races_is_refused(tmp_path: Path) -> None:
    rows = [list(chexpert.DEMO_HEADER), *(["patient00001", "Male", "50", r, ""] for r in "AB")]
    write_workbook(tmp_path / chexpert.DEMOGRAPHICS[0], rows)
    with pytest.raises(InputError, match="row 3: expected one race of patient00001, found 'B'"):
        chexpert.read_races(tmp_path)


@pytest.mark.parametrize(
    ("layout", "wrong", "message"),
    [
        (chexpert.LAYOUT, {"uncertain": "postive"}, "did you mean 'positive'"),
        (chexpert.LAYOUT, {"disease": "Plural Effusion"}, "did you mean 'Pleural Effusion'"),
        (mimic_cxr.LAYOUT, {"views": "frontl"}, "did you mean 'frontal'"),
        (padchest.LAYOUT, {"uncertain": "ignore"}, "an option of layout padchest"),
        (chexpert.LAYOUT, {"val_fraction": 1.5}, "a share between 0 and 1"),
        (chexpert.LAYOUT, {"biased_split": {"bias": 0.9}}, "split_policy: biased beside it"),
        (
            chexpert.LAYOUT,
            {"split_policy": "biased", "biased_split": {"bias": 2}},
            "a share from 0 to 1",
        ),
    ],
)
def test_a_wrong_option_of_a_chest_layout_is_refused(
    layout: Layout, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        check_options(layout, wrong)
    assert message in str(error.value)


def test_a_chexpert_index_of_which_no_path_is_understood_is_refused(tmp_path: Path) -> None:
    row = "CheXpert-v1.0 batch 2 (train 1)/patient00001/study1/view1_frontal.jpg,Male,50,Frontal,AP"
    lines = [",".join(chexpert.HEADER), row + "," * 14]
    for name in ("train.csv", "valid.csv"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    for options in ({}, {"split_policy": "official"}):
        with pytest.raises(InputError, match=r"train\.csv row 2: expected train/patient00001"):
            chexpert.read(tmp_path, options)


def test_a_race_known_at_one_visit_is_the_patients(tmp_path: Path) -> None:
    rows = [
        "patient1,White",
        "patient1,",
        "patient2,Unknown",
        "patient2 ,Asian",
        "patient3,Unknown",
    ]
    path = tmp_path / "CHEXPERT DEMO.csv"
    path.write_text("PATIENT,PRIMARY_RACE\n" + "\n".join(rows) + "\n")
    expected = {"patient1": "White", "patient2": "Asian", "patient3": None}
    assert chexpert.read_races(tmp_path) == expected
    path.write_text("PATIENT,PRIMARY_RACE\npatient1,White\npatient1,Asian\n")
    with pytest.raises(InputError, match="row 3: expected one race of patient1"):
        chexpert.read_races(tmp_path)
