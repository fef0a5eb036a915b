"""From an archive to manifest, card and quarantine: complete, sound, and by contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from workflow_scripts.command_line import run
from workflow_scripts.datasets import bach, chestx, file_checks, manifest
from workflow_scripts.datasets.layout import PHANTOM_MARK, TRUTH_COLUMNS
from workflow_scripts.problems import InputError

SAMPLE = Path(__file__).resolve().parents[3] / "shared/real/nih_cxr14_sample"
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no real sample on this machine")
TEXTS = ["image_id", "path", "sha256", "patient_id", "study_id", "view", "domain", "split"]
RELEASED = ["split_released", "order_released"]
ATTRIBUTES = ["sex", "age_years", "race"]


def noise(row: dict[str, Any]) -> Image.Image:
    rng = np.random.default_rng(list(row["image_id"].encode()))
    return Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))


def write_chestx(root: Path, n_patients: int = 10) -> pd.DataFrame:
    findings = (*chestx.SEVEN, chestx.NO_FINDING, "Mass|Nodule", "Hernia")
    rows = []
    for patient in range(1, n_patients + 1):
        for visit in range(3):
            study = f"{patient:08}_{visit:03}"
            rows.append(
                dict.fromkeys(TRUTH_COLUMNS)
                | {"image_id": f"{study}.png", "path": f"images_{visit + 1:03}/images/{study}.png"}
                | {"patient_id": study[:8], "study_id": study, "view": "PA", "sex": "F"}
                | {"age_years": 40.0, "label_text": findings[(patient + visit) % len(findings)]}
            )
    truth = pd.DataFrame(rows)
    chestx.write(root, truth, noise, {})
    return truth


def build(root: Path, **options: object) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    return manifest.build("mine", {"layout": "chestx"} | options, root, seed=0, jobs=1)


def test_the_step_writes_the_three_files_of_the_contract(tmp_path: Path) -> None:
    write_chestx(tmp_path / "raw")
    out = {name: tmp_path / name for name in ("manifest", "card", "quarantine")}
    arguments = ["--dataset", "mine", "--options", '{"layout": "chestx"}', "--seed", "0"]
    arguments += ["--root", str(tmp_path / "raw")]
    for name, path in out.items():
        arguments += [f"--{name}", str(path)]
    assert run(manifest.main, arguments) == 0
    table = pd.read_parquet(out["manifest"])
    assert list(table.columns) == [*TEXTS, *RELEASED, "label", *ATTRIBUTES]
    types = {field.name: str(field.type) for field in pq.read_schema(out["manifest"])}
    assert types["label"] == types["order_released"] == "int64"
    assert types["age_years"] == "double"
    assert {types[name] for name in (*TEXTS, "split_released", "sex", "race")} == {"string"}
    assert table["image_id"].is_monotonic_increasing
    card = json.loads(out["card"].read_text())
    assert card["phantom"] is True
    assert card["classes"] == list(chestx.SEVEN)
    assert out["quarantine"].read_text() == "image_id,path,reason\n"


def test_the_flow_counts_images_and_patients_after_each_filter(tmp_path: Path) -> None:
    truth = write_chestx(tmp_path)
    kept = truth[truth["label_text"].isin(chestx.SEVEN)]
    (tmp_path / kept["path"].iloc[0]).unlink()
    (tmp_path / kept["path"].iloc[1]).write_bytes(b"")
    table, card, quarantine = build(tmp_path)
    assert [step["images"] for step in card["flow"]] == [
        len(truth),
        len(kept),
        len(kept) - 1,
        len(kept) - 2,
    ]
    assert card["flow"][0]["patients"] == truth["patient_id"].nunique()
    assert card["flow"][-1]["patients"] == table["patient_id"].nunique()
    assert len(table) == len(kept) - 2
    assert quarantine["reason"].tolist() == ["file not found", "empty file (0 bytes)"]
    assert sum(split["images"] for split in card["counts"].values()) == len(table)
    for split, size in card["counts"].items():
        labels = table.loc[table["split"] == split, "label"]
        by_class = [size["classes"][name]["images"] for name in chestx.SEVEN]
        assert by_class == np.bincount(labels, minlength=7).tolist()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "truncated"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: Image.new("CMYK", (2, 2)).save(path, "JPEG"), "mode CMYK"),
        (lambda path: path.unlink(), "file not found"),
    ],
)
def test_a_file_that_cannot_be_used_is_quarantined_with_the_reason(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    truth = write_chestx(tmp_path)
    victim = truth[truth["label_text"] == "Mass"].iloc[0]
    damage(tmp_path / victim["path"])
    table, card, quarantine = build(tmp_path)
    assert quarantine["image_id"].tolist() == [victim["image_id"]]
    assert reason in quarantine["reason"].item()
    assert victim["image_id"] not in set(table["image_id"])
    assert sum(card["quarantined"].values()) == 1


def test_neither_a_damaged_file_nor_the_label_policy_moves_anybody_else(tmp_path: Path) -> None:
    truth = write_chestx(tmp_path)
    before = build(tmp_path)[0].set_index("image_id")["split"]
    (tmp_path / truth["path"].iloc[0]).write_bytes(b"")
    after = build(tmp_path)[0].set_index("image_id")["split"]
    every = build(tmp_path, label_policy="fourteen_findings")[0].set_index("image_id")["split"]
    assert (before[after.index] == after).all()
    assert (every[after.index] == after).all()


def test_two_data_sets_from_one_folder_share_their_split(tmp_path: Path) -> None:
    write_chestx(tmp_path)
    splits = []
    for name, policy in (("seven", "one_of_seven"), ("fourteen", "fourteen_findings")):
        options = {"layout": "chestx", "root": "nih", "label_policy": policy}
        table = manifest.build(name, options, tmp_path, seed=0, jobs=1)[0]
        splits.append(table.set_index("image_id")["split"])
    assert (splits[1][splits[0].index] == splits[0]).all()


def test_a_phantom_that_was_cut_short_is_never_taken_for_an_archive(tmp_path: Path) -> None:
    def break_down(row: dict[str, Any]) -> Image.Image:
        raise RuntimeError(row["image_id"])

    truth = write_chestx(tmp_path / "whole")
    with pytest.raises(RuntimeError):
        chestx.write(tmp_path / "cut", truth, break_down, {})
    assert (tmp_path / "cut" / PHANTOM_MARK).is_file()
    with pytest.raises(InputError, match="expected the index file"):
        build(tmp_path / "cut")


def test_patients_with_identical_files_are_in_one_split(tmp_path: Path) -> None:
    truth = write_chestx(tmp_path)
    split = build(tmp_path)[0].set_index("patient_id")["split"]
    one, other = (split[split == name].index[0] for name in ("test", "train"))
    paths = [
        truth[(truth["patient_id"] == p) & truth["label_text"].isin(chestx.SEVEN)]["path"].iloc[0]
        for p in (one, other)
    ]
    (tmp_path / paths[1]).write_bytes((tmp_path / paths[0]).read_bytes())
    table, card, _ = build(tmp_path)
    assert table[table["patient_id"].isin([one, other])]["split"].nunique() == 1
    assert card["identical_files"]["images"] == 1


def test_the_released_split_is_made_before_the_label_filter(tmp_path: Path) -> None:
    truth = write_chestx(tmp_path)
    shuffled = truth.sample(frac=1, random_state=42)["image_id"].tolist()
    table = build(tmp_path)[0]
    order = [shuffled.index(name) for name in table["image_id"]]
    assert table["order_released"].tolist() == order
    assert (table["split_released"] == "train").tolist() == [i < 24 for i in order]


def test_a_multi_label_manifest_has_a_column_a_finding(tmp_path: Path) -> None:
    truth = write_chestx(tmp_path)
    table, card, _ = build(tmp_path, label_policy="fourteen_findings")
    assert len(table) == len(truth)
    assert list(table.columns[10:24]) == [f"label_{name}" for name in chestx.FOURTEEN]
    assert card["classes"] == list(chestx.FOURTEEN)


def test_several_processes_give_the_same_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chestx(tmp_path)
    monkeypatch.setattr(file_checks, "CHUNK", 4)
    alone, together = (
        manifest.build("mine", {"layout": "chestx"}, tmp_path, seed=0, jobs=jobs) for jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(alone[0], together[0])
    assert alone[1] == together[1]


def test_data_that_are_not_there_are_refused_with_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        manifest.build("bach", {"layout": "bach"}, tmp_path / "bach", seed=0, jobs=1)
    text = str(error.value)
    assert "no such folder" in text
    assert bach.LAYOUT.source in text
    assert bach.LAYOUT.access in text
    assert bach.INDEX_NAME in text


def test_an_archive_without_most_of_its_images_is_refused(tmp_path: Path) -> None:
    truth = write_chestx(tmp_path)
    for path in truth["path"][:20]:
        (tmp_path / path).unlink()
    with pytest.raises(InputError, match="missing, such as images") as error:
        build(tmp_path)
    assert chestx.LAYOUT.source in str(error.value)


def test_a_split_needs_as_many_patients_as_parts(tmp_path: Path) -> None:
    write_chestx(tmp_path, n_patients=1)
    with pytest.raises(InputError, match="2 patients or more"):
        build(tmp_path)


def test_a_split_that_quarantine_has_emptied_is_refused(tmp_path: Path) -> None:
    write_chestx(tmp_path)
    table = build(tmp_path)[0]
    for path in table["path"][table["split"] == "test"]:
        (tmp_path / path).write_bytes(b"")
    with pytest.raises(InputError, match="images in split test"):
        build(tmp_path)


def test_an_official_split_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("f,c\na.png,x\nb.png,y\n")
    for number, name in enumerate(("a.png", "b.png")):
        Image.new("L", (2, 2), number).save(tmp_path / name)
    options = {"layout": "table", "table": "t.csv", "image": "f", "label": "c"}
    options["split_policy"] = "official"
    with pytest.raises(InputError, match="an archive with an official split"):
        manifest.build("mine", options, tmp_path, seed=0, jobs=1)


@pytest.mark.parametrize("text", ["{layout: bach}", "[]", "{}"])
def test_options_that_are_no_config_entry_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--options"):
        manifest.parse_options(text)


def test_a_refused_run_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--dataset", "x", "--options", '{"layout": "bach"}', "--root", str(tmp_path)]
    arguments += ["--seed", "0", "--manifest", str(out / "m"), "--card", str(out / "c")]
    assert run(manifest.main, [*arguments, "--quarantine", str(out / "q")]) == 1
    assert not out.exists()


@needs_sample
def test_the_real_sample_is_read_as_a_users_table() -> None:
    options = {"layout": "table", "table": "labels.csv", "image": "Image Index"}
    options |= {"image_folder": "images", "label": "Finding Labels", "patient": "Patient ID"}
    table, card, quarantine = manifest.build("sample", options, SAMPLE, seed=0, jobs=1)
    assert quarantine.empty
    assert card["classes"] == ["No Finding", "Pneumonia"]
    assert card["phantom"] is False
    assert np.bincount(table["label"]).tolist() == [61, 60]
    assert table.groupby("patient_id")["split"].nunique().eq(1).all()


@needs_sample
def test_the_real_sample_is_read_through_the_nih_layout(tmp_path: Path) -> None:
    known = pd.read_csv(SAMPLE / "labels.csv", dtype=str)
    (tmp_path / "images").mkdir()
    lines = [chestx.HEADER + ","]
    for name, finding, patient in known.itertuples(index=False):
        (tmp_path / "images" / name).symlink_to(SAMPLE / "images" / name)
        lines.append(f"{name},{finding},{name[9:12]},{patient},058Y,M,PA,2894,2729,0.143,0.143")
    (tmp_path / chestx.INDEX_2017).write_text("\n".join(lines) + "\n")
    table, card, quarantine = build(tmp_path, label_policy="fourteen_findings")
    assert quarantine.empty  # the RGBA files among them are as published
    assert len(table) == 121
    assert table["label_Pneumonia"].sum() == 60
    assert table["sha256"].str.len().eq(64).all()
    assert card["flow"][0] == {"step": "rows of Data_Entry_2017.csv", "images": 121, "patients": 65}
