"""CIFAR-10, EyePACS, iChallenge, Montgomery, STOIC: read back as written, published labels."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets import (
    cifar10,
    diabetic_retinopathy,
    ichallenge_amd,
    ichallenge_pm,
    montgomery,
    shenzhen,
    stoic,
)
from workflow_scripts.datasets.image_source import file_of, read_image
from workflow_scripts.datasets.layout import PHANTOM_MARK, TRUTH_COLUMNS, Layout, check_options
from workflow_scripts.datasets.manifest import build
from workflow_scripts.datasets.splits import released_split
from workflow_scripts.problems import InputError

GOLDEN = json.loads(Path("tests/golden/ssl_transfer.json").read_text())
TRIALS = settings(max_examples=15)
LABELS = st.lists(st.integers(0, 1), min_size=1, max_size=6)


def plain_image(row: dict[str, Any]) -> Image.Image:
    return Image.new("RGB", (32, 32), (sum(map(ord, row["image_id"])) % 256, 0, 9))


def scan(row: dict[str, Any]) -> np.ndarray:
    seed = sum(map(ord, row["image_id"]))
    return np.random.default_rng(seed).integers(-2000, 1500, (5, 3, 4), dtype=np.int16)


def truth_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    blank = dict.fromkeys(TRUTH_COLUMNS) | {"age_years": float("nan")}
    named = [blank | dict.fromkeys(("patient_id", "study_id"), row["image_id"]) for row in rows]
    return pd.DataFrame([base | row for base, row in zip(named, rows, strict=True)])


def assert_reads_back(layout: Layout, truth: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    assert layout.write is not None
    render = scan if layout.name == "stoic" else plain_image
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        layout.write(root, truth, render, options)
        assert (root / PHANTOM_MARK).is_file()
        assert all((root / file_of(path)).is_file() for path in truth["path"])
        assert all(read_image(root, path).file() for path in truth["path"])
        table = layout.read(root, options).table
    columns = list(TRUTH_COLUMNS)
    found, wanted = table[columns].astype(object), truth[columns].astype(object)
    pd.testing.assert_frame_equal(
        found.where(found.notna(), None), wanted.where(wanted.notna(), None), check_dtype=False
    )
    return table


def ordered(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[table["split_released"] == split].sort_values("order_released")


@given(LABELS, st.booleans())
@TRIALS
def test_amd_reads_back_what_was_written(labels: list[int], by_folder: bool) -> None:
    rows = [
        {"image_id": f"{'NA'[label]}{i:04}", "label_text": str(label)}
        for i, label in enumerate(labels)
    ]
    if by_folder:  # the folders are read one after the other, and neither may be empty
        rows += [{"image_id": "N9999", "label_text": "0"}, {"image_id": "A9999", "label_text": "1"}]
        rows.sort(key=lambda row: (row["label_text"], row["image_id"]))
    for row in rows:
        folder = ichallenge_amd.FOLDERS[int(row["label_text"])]
        row["path"] = f"{folder}/{row['image_id']}.jpg"
    options = {"label_policy": "folder"} if by_folder else {}
    table = assert_reads_back(ichallenge_amd.LAYOUT, truth_of(rows), options)
    assert table["label"].tolist() == [int(row["label_text"]) for row in rows]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
@TRIALS
def test_pm_reads_back_what_was_written(labels: list[int]) -> None:
    names = [f"{'NHP'[label]}{i:04}.jpg" for i, label in enumerate(labels)]
    truth = truth_of(
        [
            {"image_id": n, "path": f"{ichallenge_pm.FOLDER}/{n}", "label_text": str(label)}
            for n, label in zip(names, labels, strict=True)
        ]
    )
    table = assert_reads_back(ichallenge_pm.LAYOUT, truth, {})
    assert table["label"].tolist() == [int(label > 0) for label in labels]


@given(
    st.lists(
        st.tuples(st.sampled_from(["F", "M", None]), st.integers(0, 99), st.text("ab, \"'")),
        min_size=1,
        max_size=5,
    )
)
@TRIALS
def test_montgomery_reads_back_what_was_written(
    patients: list[tuple[str | None, int, str]],
) -> None:
    names = [f"MCUCXR_{i:04}_{i % 2}.png" for i in range(len(patients))]
    truth = truth_of(
        [
            {"image_id": name, "path": f"{montgomery.FOLDER}/{name}", "sex": sex}
            | {"age_years": float(age), "label_text": text}
            for name, (sex, age, text) in zip(names, patients, strict=True)
        ]
    )
    table = assert_reads_back(montgomery.LAYOUT, truth, {})
    assert set(table["domain"]) == {"montgomery"}


@st.composite
def eyes(draw: st.DrawFn) -> pd.DataFrame:
    numbers = draw(st.lists(st.integers(1, 44_351), min_size=2, max_size=6, unique=True))
    rows = []
    for i, number in enumerate(sorted(numbers)):
        for side in ("left", "right"):
            name, split = f"{number}_{side}", "train" if 2 * i < len(numbers) else "test"
            rows.append(
                {"image_id": name, "patient_id": str(number), "study_id": str(number)}
                | {"view": side, "split": split, "path": f"{split}/{name}.jpeg"}
                | {"label_text": str(draw(st.integers(0, 4)))}
            )
    return truth_of(rows)


@given(eyes(), st.sampled_from(["testLabels.csv", "retinopathy_solution.csv"]))
@TRIALS
def test_eyepacs_reads_back_what_was_written(truth: pd.DataFrame, test_index: str) -> None:
    table = assert_reads_back(diabetic_retinopathy.LAYOUT, truth, {"test_index": test_index})
    assert table["label"].tolist() == truth["label_text"].astype(int).tolist()
    assert sorted(table["order_released"]) == list(range(len(table)))
    assert (table["split_released"] == truth["split"]).all()
    both = diabetic_retinopathy.pairs(table.iloc[::-1])
    levels = truth.groupby("patient_id")["label_text"].nunique()
    assert set(both["patient_id"]) == set(levels.index[levels == 1])


@given(
    st.lists(st.sampled_from(["0|0", "1|0", "1|1"]), min_size=1, max_size=4),
    st.sampled_from(["released", "corrected"]),
)
@TRIALS
def test_stoic_reads_back_what_was_written(labels: list[str], orientation: str) -> None:
    part = stoic.ORIENTATIONS[orientation]
    truth = truth_of(
        [
            {"image_id": str(7 + i), "path": f"data/mha/{7 + i}.mha#{part}", "label_text": label}
            for i, label in enumerate(labels)
        ]
    )
    table = assert_reads_back(stoic.LAYOUT, truth, {"orientation": orientation})
    assert table["label"].tolist() == [int(label[0]) for label in labels]


@given(st.lists(st.tuples(st.sampled_from(list(cifar10.BATCHES)), st.integers(0, 9)), max_size=8))
@TRIALS
def test_cifar_reads_back_what_was_written(extra: list[tuple[str, int]]) -> None:
    wanted = [(name, 0) for name in cifar10.BATCHES] + extra
    rows = []
    for name, split in cifar10.BATCHES.items():
        for row, label in enumerate(label for batch, label in wanted if batch == name):
            rows.append(
                {"image_id": f"{name}_{row:05}", "path": f"{cifar10.FOLDER}/{name}#{row}"}
                | {"split": split, "label": label, "label_text": f"x_s_{row:06}.png"}
            )
    truth = truth_of(rows)
    table = assert_reads_back(cifar10.LAYOUT, truth, {})
    assert table["label"].tolist() == truth["label"].tolist()


def test_pixels_of_cifar_come_back_plane_by_plane(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    truth = truth_of(
        [
            {"image_id": f"{name}_00000", "path": f"{cifar10.FOLDER}/{name}#0", "split": split}
            | {"label": 0, "label_text": "a.png"}
            for name, split in cifar10.BATCHES.items()
        ]
    )
    cifar10.write(tmp_path, truth, lambda row: Image.fromarray(pixels), {})
    image = Image.open(io.BytesIO(read_image(tmp_path, truth["path"][0]).file()))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    # Python's own unpickler, with numpy's own classes, agrees (torchvision reads it this way)
    with (tmp_path / cifar10.FOLDER / "data_batch_1").open("rb") as handle:
        entry = pickle.load(handle, encoding="latin1")
    np.testing.assert_array_equal(entry["data"].reshape(3, 32, 32).transpose(1, 2, 0), pixels)
    assert (entry["labels"], entry["filenames"]) == ([0], ["a.png"])


# Published labels and splits


@pytest.mark.parametrize("name", ["tiny10", "montgomerycxr", "stoic"])
def test_released_split_is_the_published_one(name: str) -> None:
    golden = GOLDEN["dataset_split"]["splits"][name]
    order = released_split(golden["n"])
    assert (order["split_released"] == "train").sum() == golden["n_train"]
    for split in ("train", "test"):
        rows = order[order["split_released"] == split].sort_values("order_released").index
        wanted = golden[f"first_{split}_rows"]
        assert rows[: min(10, len(rows))].tolist() == wanted[: len(rows)]


def test_pm_labels_of_the_last_version_are_the_released_ones(tmp_path: Path) -> None:
    golden = GOLDEN["ichallenge_pm_labels"]
    path = tmp_path / golden["file"]
    path.parent.mkdir(parents=True)
    rows = [f"{i},{name},1.5,2.5,{label}" for i, (name, label) in enumerate(golden["csv"])]
    path.write_text("\n".join(["ID,imgName,Fovea_X,Fovea_Y,anything", *rows]) + "\n")
    table = ichallenge_pm.read(tmp_path, {"label_policy": "head_rule"}).table
    table = table.join(released_split(len(table)))
    for split, expected in golden["result"].items():
        assert ordered(table, split)[["image_id", "label"]].values.tolist() == expected
    assert all(table["path"].str.startswith(golden["image_dir"]))


def test_pm_rule_of_the_stored_results_calls_high_myopia_positive(tmp_path: Path) -> None:
    path = tmp_path / ichallenge_pm.INDEX_NAME
    path.parent.mkdir(parents=True)
    path.write_text("a,b,c,d,e\n1,N1.jpg,0,0,0\n2,H1.jpg,0,0,1\n3,P1.jpg,0,0,2\n")
    labels = {
        policy: ichallenge_pm.read(tmp_path, {"label_policy": policy}).table["label"].tolist()
        for policy in ichallenge_pm.LAYOUT.policies
    }
    assert labels == {
        "results_rule": [0, 1, 1],
        "head_rule": [0, 0, 1],
        "three_grades": [0, 1, 2],
    }
    assert ichallenge_pm.LAYOUT.policy({}) == "results_rule"


def test_amd_labels_and_split_are_the_released_ones(tmp_path: Path) -> None:
    golden = GOLDEN["ichallenge_amd_labels"]["result"]
    known = {name: int(label) for rows in golden.values() for name, label in rows}
    names = ["A0001", "A0002", "N0001", "N0002", "N0003"]  # any order: nobody published it
    lines = [f"{name},{known[name]}" for name in names]
    (tmp_path / ichallenge_amd.INDEX_NAME).write_text("\n".join(["id,AMD", *lines]) + "\n")
    table = ichallenge_amd.read(tmp_path, {}).table
    assert dict(zip(table["image_id"], table["label"], strict=True)) == known
    assert table.loc[0, "path"] == "Training400/AMD/A0001.jpg"
    assert table.loc[2, "path"] == "Training400/Non-AMD/N0001.jpg"


def test_amd_folders_pass_over_what_macos_adds_and_keep_capital_endings(tmp_path: Path) -> None:
    for folder, names in zip(
        ichallenge_amd.FOLDERS, (["N1.jpg"], ["A1.jpg", "A2.JPG"]), strict=True
    ):
        (tmp_path / folder).mkdir(parents=True)
        for name in (*names, f"._{names[0]}", "Thumbs.db"):
            (tmp_path / folder / name).write_bytes(b"x")
    table = ichallenge_amd.read(tmp_path, {"label_policy": "folder"}).table
    assert table["image_id"].tolist() == ["N1", "A1", "A2"]
    assert table["path"].iloc[2] == f"{ichallenge_amd.FOLDERS[1]}/A2.JPG"
    assert table["label"].tolist() == [0, 1, 1]


def test_eyepacs_says_what_kaggle_calls_the_missing_file(tmp_path: Path) -> None:
    (tmp_path / diabetic_retinopathy.TRAIN_INDEX).write_text("image,level\n1_left,0\n")
    with pytest.raises(InputError, match=r"testLabels\.csv: .*retinopathy_solution\.csv"):
        diabetic_retinopathy.read(tmp_path, {})


def test_montgomery_labels_are_the_released_ones(tmp_path: Path) -> None:
    golden = GOLDEN["shenzhen_montgomery_labels"]
    lines = [",".join(row) for row in [list(shenzhen.HEADER), *golden["rows"]]]
    (tmp_path / montgomery.INDEX_NAMES[0]).write_text("\n".join(lines) + "\n")
    table = montgomery.read(tmp_path, {}).table
    assert dict(zip(table["image_id"], table["label"], strict=True)) == golden["result"]


def test_eyepacs_order_and_pairs_are_the_released_ones(tmp_path: Path) -> None:
    golden = GOLDEN["diabetic_retinopathy"]
    lines = [f"{image},{level}" for image, level in golden["rows"]]
    (tmp_path / "trainLabels.csv").write_text("\n".join(["image,level", *lines]) + "\n")
    (tmp_path / "testLabels.csv").write_text("image,level,Usage\n1_left,0,Private\n")
    table = diabetic_retinopathy.read(tmp_path, {}).table
    train = ordered(table, "train")
    assert train[["image_id", "label"]].values.tolist() == golden["train_order"]
    both = diabetic_retinopathy.pairs(table)
    wanted = [
        [left, int(label)]
        for left, label, *_ in golden["multiview_pairs_left_label_leftpix_rightpix"]
    ]
    assert both[["left", "label"]].values.tolist() == wanted
    assert both["right"].tolist() == [left.replace("left", "right") for left, _ in wanted]
    test = ordered(table, "test")
    assert test["order_released"].tolist() == [len(train)]


def test_referable_retinopathy_begins_at_moderate(tmp_path: Path) -> None:
    (tmp_path / "trainLabels.csv").write_text("image,level\n1_left,1\n1_right,2\n")
    (tmp_path / "testLabels.csv").write_text("image,level,Usage\n2_left,4,Public\n")
    table = diabetic_retinopathy.read(tmp_path, {"label_policy": "referable"}).table
    assert table["label"].tolist() == [0, 1, 1]


def test_stoic_order_and_labels_are_the_released_ones(tmp_path: Path) -> None:
    golden = GOLDEN["stoic_dataset"]["order"]
    known = {int(name): int(label) for name, label in golden}
    (tmp_path / "metadata").mkdir()
    rows = [f"{name},{known.get(name, 0)},0" for name in (7, 8, 9, 10, 11)]
    (tmp_path / stoic.INDEX_NAME).write_text("PatientID,probCOVID,probSevere\n" + "\n".join(rows))
    table = stoic.read(tmp_path, {}).table.join(released_split(5))
    order = ordered(table, "train")
    assert order[["image_id", "label"]].values.tolist() == [[str(n), int(v)] for n, v in golden]


def test_severity_is_asked_of_patients_with_covid_only_and_the_flow_counts_it(
    tmp_path: Path,
) -> None:
    labels = ["0|0", "1|0", "1|1", "1|0", "0|0", "1|1"]
    truth = truth_of(
        [
            {"image_id": str(i), "path": f"data/mha/{i}.mha#transposed", "label_text": label}
            for i, label in enumerate(labels)
        ]
    )
    stoic.write(tmp_path, truth, scan, {})
    options = {"layout": "stoic", "label_policy": "severe_among_covid"}
    table, card, quarantine = build("stoic", options, tmp_path, seed=0, jobs=1)
    assert table.set_index("image_id")["label"].to_dict() == {"1": 0, "2": 1, "3": 0, "5": 1}
    assert [step["images"] for step in card["flow"][:2]] == [6, 4]
    assert card["flow"][1]["step"] == "with COVID-19"
    assert card["metric"] == "mean_per_class_accuracy"
    assert quarantine.empty


# Bad input, one message each


@pytest.mark.parametrize(
    ("layout", "files", "options", "message"),
    [
        (
            ichallenge_amd,
            {ichallenge_amd.INDEX_NAME: "id,AMD\nA0001,0\n"},
            {},
            "row 2: expected the label of the name (A: 1, N: 0), found '0'",
        ),
        (
            ichallenge_amd,
            {ichallenge_amd.INDEX_NAME: "id,AMD\nA0001,1\nA0002,yes\n"},
            {},
            "row 3: expected 0 or 1 (AMD), found 'yes'",
        ),
        (ichallenge_amd, {}, {}, "set label_policy: folder"),
        (ichallenge_amd, {}, {"label_policy": "folder"}, "expected photographs (.jpg), found none"),
        (
            ichallenge_pm,
            {ichallenge_pm.INDEX_NAME: "a,b,c,d\n1,N1.jpg,0,0\n"},
            {},
            "add the label (0, 1, 2) as the fifth column",
        ),
        (
            ichallenge_pm,
            {ichallenge_pm.INDEX_NAME: "a,b,c,d,e\n1,P1.jpg,0,0,1\n"},
            {},
            "row 2: expected the label of the name (N: 0, H: 1, P: 2), found '1'",
        ),
        (
            diabetic_retinopathy,
            {"trainLabels.csv": "image,level\n1_left,5\n", "testLabels.csv": "image,level\n2_x,1"},
            {},
            "trainLabels.csv row 2: expected one of 0, 1, 2, 3, 4, found '5'",
        ),
        (
            diabetic_retinopathy,
            {
                "trainLabels.csv": "image,level\n1_left,0\n",
                "testLabels.csv": "image,level\n1_left,0\n",
            },
            {},
            "testLabels.csv row 2: expected an image that is not in trainLabels.csv",
        ),
        (
            diabetic_retinopathy,
            {"trainLabels.csv": "image,level\n1_left,0\n"},
            {},
            "expected the index file testLabels.csv, found no file",
        ),
        (
            stoic,
            {stoic.INDEX_NAME: "PatientID,probCOVID,probSevere\n1,0,1\n"},
            {},
            "row 2: expected 0 where probCOVID is 0, found '1'",
        ),
        (cifar10, {}, {}, "cifar-10-batches-py: expected the batches of CIFAR-10"),
    ],
)
def test_a_wrong_index_is_refused(
    tmp_path: Path,
    layout: Any,
    files: dict[str, str],
    options: dict[str, str],
    message: str,
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        layout.read(tmp_path, options)
    assert message in str(error.value)


def test_an_unknown_orientation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="expected one of released, corrected, found 'axial'"):
        check_options(stoic.LAYOUT, {"layout": "stoic", "orientation": "axial"})


PAGE = Path("docs/reference/datasets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "module",
    [cifar10, diabetic_retinopathy, ichallenge_amd, ichallenge_pm, montgomery, stoic],
    ids=lambda module: module.LAYOUT.name,
)
def test_the_page_of_data_sets_names_every_policy_and_option(module: Any) -> None:
    layout = module.LAYOUT
    section = PAGE.split(f"(`layout: {layout.name}`)")[1].split("\n### ")[0]
    named = [*layout.policies, *layout.options]
    assert [name for name in named if f"`{name}`" not in section] == []
    assert layout.source.split(" ")[0] in section
