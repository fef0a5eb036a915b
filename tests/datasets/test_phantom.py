"""Phantom archives: known truth, published layout, whole or not there at all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workflow_scripts.datasets import phantom
from workflow_scripts.datasets.chestx import FOURTEEN, NO_FINDING, SEVEN
from workflow_scripts.datasets.layout import TRUTH_COLUMNS, layout_named
from workflow_scripts.datasets.phantom import draw, main, parse_phantom
from workflow_scripts.datasets.phantom_truth import (
    bach_truth,
    chestx_truth,
    shenzhen_truth,
    table_truth,
)
from workflow_scripts.phantoms.knobs import Knobs
from workflow_scripts.problems import InputError
from workflow_scripts.randomness import named_rng

TABLE_OPTIONS = {
    "layout": "table",
    "table": "study.csv",
    "image": "file",
    "label": "diagnosis",
    "patient": "patient",
    "sex": "sex",
    "age_years": "age",
    "domain": "hospital",
    "split": "part",
    "image_folder": "images",
}
SIZES = {
    "chestx": {"patients": 20, "min_per_class": 3},
    "shenzhen": {"images": 8},
    "bach": {"images": 8},
    "table": {"patients": 8},
    "chexpert": {"patients": 12},
    "mimic_cxr": {"patients": 12},
    "padchest": {"patients": 12},
}


DEEP = {"padchest": "I;16"}  # the archive's own depth, whatever was drawn


def write(out: Path, options: dict[str, Any], size: dict[str, Any], seed: int = 0) -> Path:
    main(
        [
            *("--dataset", "d", "--options", json.dumps(options), "--seed", str(seed)),
            *("--phantom", json.dumps({"image_size": 64, **size}), "--out", str(out)),
        ]
    )
    return out.parent


def options_of(layout: str) -> dict[str, Any]:
    official = {"split_policy": "official"} if layout == "chexpert" else {}  # reads valid.csv too
    return TABLE_OPTIONS if layout == "table" else {"layout": layout, **official}


@pytest.mark.parametrize("layout", sorted(SIZES))
def test_reader_finds_the_truth_that_was_written(tmp_path: Path, layout: str) -> None:
    options, size = options_of(layout), SIZES[layout]
    root = write(tmp_path / "d" / "PHANTOM.json", options, size)
    read = layout_named(layout).read(root, options).table
    parsed, _ = parse_phantom(json.dumps(size), layout)
    truth, _ = phantom.sample_truth(options, parsed, 0, "d")
    if layout == "table":  # a user's reader takes the file's name as the image's id
        columns = ["patient_id", "label_text", "sex", "age_years", "domain", "split", "path"]
    else:
        columns = [name for name in TRUTH_COLUMNS if name in read and name != "split"]
    pd.testing.assert_frame_equal(
        read[columns].astype(object).where(read[columns].notna(), None),
        truth[columns].astype(object).where(truth[columns].notna(), None),
    )
    for row in truth.to_dict("records"):
        with Image.open(root / row["path"]) as image:
            assert image.mode == DEEP.get(layout, row["mode"])
            assert image.width == 64


def test_both_releases_of_chestx_hold_the_same_images(tmp_path: Path) -> None:
    folders = []
    for index in ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"):
        options = {"layout": "chestx", "index": index}
        folders.append(write(tmp_path / index / "PHANTOM.json", options, SIZES["chestx"]))
        assert (folders[-1] / index).is_file()
    old, new = (sorted(p.name for p in (root / "images").iterdir()) for root in folders)
    assert old == new


def test_mark_says_how_the_phantom_was_made(tmp_path: Path) -> None:
    size = {"images": 8, "domain_shift": 0.5}
    root = write(tmp_path / "d" / "PHANTOM.json", {"layout": "bach"}, size, seed=3)
    mark = json.loads((root / "PHANTOM.json").read_text())
    assert (mark["phantom"], mark["layout"], mark["dataset"], mark["seed"]) == (
        True,
        "bach",
        "d",
        3,
    )
    assert (mark["images"], mark["image_size"], mark["knobs"]["domain_shift"]) == (8, 64, 0.5)


def test_pictures_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    def bytes_with(jobs: int) -> list[bytes]:
        out = tmp_path / str(jobs) / "d" / "PHANTOM.json"
        main(
            [
                *("--dataset", "d", "--options", '{"layout": "bach"}', "--seed", "0"),
                *("--phantom", '{"images": 8, "image_size": 64}', "--out", str(out)),
                *("--jobs", str(jobs)),
            ]
        )
        return [path.read_bytes() for path in sorted(out.parent.rglob("*.tif"))]

    assert bytes_with(1) == bytes_with(2)


def test_new_run_replaces_the_old_phantom_even_without_its_mark(tmp_path: Path) -> None:
    out = tmp_path / "d" / "PHANTOM.json"
    root = write(out, {"layout": "bach"}, {"images": 16})
    out.unlink()  # as a workflow does before it starts a rule again
    write(out, {"layout": "bach"}, {"images": 8})
    assert len(list(root.rglob("*.tif"))) == 8


def test_folder_with_anything_else_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "real.png").write_bytes(b"data")
    with pytest.raises(InputError, match="1 entries that no phantom writer made"):
        write(tmp_path / "d" / "PHANTOM.json", {"layout": "bach"}, {"images": 8})
    assert (tmp_path / "d" / "real.png").read_bytes() == b"data"


def test_failed_run_leaves_no_mark_and_no_half_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("killed")

    out = tmp_path / "d" / "PHANTOM.json"
    monkeypatch.setattr(phantom, "write_archive", fail)
    with pytest.raises(RuntimeError, match="killed"):
        write(out, {"layout": "bach"}, {"images": 8})
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 24))
def test_every_class_of_chestx_has_enough_images_in_both_splits(
    seed: int, extra: int, min_per_class: int
) -> None:
    n_patients = 10 * max(2, -(-min_per_class // 4)) + extra
    truth = chestx_truth(named_rng(seed), n_patients, min_per_class, months=True)
    assert truth["patient_id"].nunique() == n_patients
    assert truth["image_id"].is_unique
    assert truth["image_id"].is_monotonic_increasing
    assert (truth.groupby("patient_id")["split"].nunique() == 1).all()
    for finding in SEVEN:
        images = truth[truth["label_text"] == finding]
        assert len(images) >= min_per_class
        assert set(images["split"]) == {"train", "test"}
        assert images["patient_id"].nunique() >= 2


def test_chestx_has_the_quirks_of_the_original() -> None:
    truth = chestx_truth(named_rng(0), 300, 35, months=True)
    counts = Counter(truth["label_text"])
    assert counts[NO_FINDING] > 50
    assert sum("|" in text for text in counts) > 10
    findings = {finding for text in counts for finding in text.split("|")}
    assert findings == {*FOURTEEN, NO_FINDING}
    assert 0 < (truth["mode"] == "RGBA").mean() < 0.06
    assert set(truth["view"]) == {"PA", "AP"}
    assert (truth["age_years"] < 2).any()
    assert truth.groupby("patient_id").size().max() > 3


def test_later_release_of_chestx_has_whole_years_only() -> None:
    ages = chestx_truth(named_rng(0), 300, 35, months=False)["age_years"]
    assert (ages == ages.round()).all()


def test_too_few_patients_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InputError) as error:
        chestx_truth(named_rng(0), 40, 35, months=True)
    message = str(error.value)
    assert "expected at least 9 patients of each class for min_per_class 35" in message
    needed = int(message.split("ask for about ")[1].split()[0])
    chestx_truth(named_rng(0), needed, 35, months=True)


@pytest.mark.parametrize(("sampler", "n_classes"), [(shenzhen_truth, 2), (bach_truth, 4)])
def test_single_visits_are_balanced_and_too_few_are_refused(
    sampler: Any,
    n_classes: int,
) -> None:
    truth = sampler(named_rng(0), 10 * n_classes, 10)
    by_class = truth["path"].str.extract(r"_([01])\.png$|Photos/(\w+)/").bfill(axis=1)[0]
    assert list(Counter(by_class).values()) == [10] * n_classes
    with pytest.raises(InputError, match=f"ask for {11 * n_classes} images or more"):
        sampler(named_rng(0), 10 * n_classes, 11)


def test_table_spreads_classes_over_hospitals_and_splits() -> None:
    truth = table_truth(named_rng(0), 60, 30, ["No Finding", "Mass"], "img")
    assert truth.groupby("patient_id")["domain"].nunique().max() == 1
    for _, images in truth.groupby("label_text"):
        assert len(images) >= 30
        assert set(images["split"]) == {"train", "test"}
        assert set(images["domain"]) == {"north", "south"}


def test_multi_label_table_is_written_and_read(tmp_path: Path) -> None:
    options = {key: value for key, value in TABLE_OPTIONS.items() if key != "label"}
    options["labels"] = ["Mass", "Effusion"]
    root = write(tmp_path / "d" / "PHANTOM.json", options, {"patients": 9})
    table = layout_named("table").read(root, options).table
    assert table["label_Mass"].sum() > 0
    assert table["label_Effusion"].sum() > 0
    assert ((table["label_Mass"] + table["label_Effusion"]) == 0).any()


def test_class_that_no_phantom_shows_is_refused_with_the_nearest(tmp_path: Path) -> None:
    options = {**TABLE_OPTIONS, "classes": ["No Finding", "Efusion"]}
    with pytest.raises(InputError, match=r"something a chest phantom shows.*mean 'Effusion'"):
        write(tmp_path / "d" / "PHANTOM.json", options, {"patients": 8})


def test_finding_of_the_truth_is_what_the_picture_shows() -> None:
    truth = chestx_truth(named_rng(0), 20, 3, months=False)
    ill = truth[truth["label_text"] == "Effusion"].iloc[0].to_dict()
    knobs = Knobs(artefact_level=0.0)
    pictures = [
        np.asarray(draw({**ill, "findings": text}, "chest", knobs, 64, 0, "d").convert("L"))
        for text in ("Effusion", "", "No Finding")
    ]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 20
    np.testing.assert_array_equal(pictures[1], pictures[2])


@pytest.mark.parametrize(
    ("text", "layout", "message"),
    [
        ("{", "bach", "expected a JSON object"),
        ('{"images": 8, "diseas_signal": 1}', "bach", "did you mean 'disease_signal'?"),
        ('{"images": 8, "domain_shift": 9}', "bach", "domain_shift: expected 0 to 3, got 9"),
        ('{"images": 1}', "bach", "phantom.images: expected an integer from 2 on, found 1"),
        ('{"images": 8, "image_size": 8}', "bach", "phantom.image_size: expected an integer from"),
        ('{"images": 8}', "chestx", "phantom.images: expected no such key for chestx"),
        ("{}", "chestx", "phantom.patients: expected an integer from 2 on, found None"),
        ('{"patients": 8, "anatomy": "brain"}', "table", "expected one of chest, histology"),
    ],
)
def test_wrong_phantom_options_are_refused(text: str, layout: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_phantom(text, layout)
    assert message in str(error.value)


def test_out_has_to_be_the_mark(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a path that ends in PHANTOM\.json"):
        write(tmp_path / "d", {"layout": "bach"}, {"images": 8})
