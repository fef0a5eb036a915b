"""The check: found, missing, refused or phantom, with the next step."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.datasets.segmentation_archives import write_small
from workflow_scripts.datasets import phantom
from workflow_scripts.datasets.layout import layout_named, layout_names
from workflow_scripts.problems import InputError
from workflow_scripts.report.check import check_checkpoint, check_dataset, main

CERTIFICATE = {"architecture": "resnet50", "missing": [], "unexpected": []}
FLOW = [{"step": "rows", "images": 3, "patients": 2}, {"step": "end", "images": 2, "patients": 1}]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return {
        "pathvars": {"results": str(tmp_path / "results")},
        "data_root": str(tmp_path / "data"),
        "source_root": str(tmp_path / "sources"),
        "phantoms": {"datasets": {}, "checkpoints": False},
        "datasets": {"bach": {"layout": "bach", "root": "bach"}},
        "checkpoints": {
            "moco-v2": {"format": "moco_v2", "file": "moco.pth.tar", "url": "https://host/m"},
        },
    }


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def put_index(config: dict[str, Any], text: str = "b001.tif,Benign\nn001.tif,Normal\n") -> None:
    photos = Path(config["data_root"]) / "bach/ICIAR2018_BACH_Challenge/Photos"
    put(photos / "microscopy_ground_truth.csv", text)


def test_absent_data_are_missing_with_the_way_to_get_them(config: dict[str, Any]) -> None:
    finding = check_dataset(config, "bach")
    assert (finding.status, finding.found) == ("missing", "no such folder, or an empty one")
    assert "ICIAR2018_BACH_Challenge" in finding.next_step
    assert "https://" in finding.next_step


def test_every_configured_data_set_is_missing_with_the_way_to_get_it(
    config: dict[str, Any], root: Path
) -> None:
    published = yaml.safe_load((root / "config.yaml").read_text())["datasets"]
    config["datasets"] = published
    for name, entry in published.items():
        finding = check_dataset(config, name)
        assert finding.status == "missing", name
        assert entry["root"] in finding.where
        assert "https://" in finding.next_step or "made_from" in entry, name


BY_PATIENT = ("chestx", "chexpert", "padchest", "mimic_cxr", "diabetic_retinopathy")


@pytest.mark.parametrize(
    "layout", [one for one in layout_names() if one not in ("table", "acdc_c")]
)
def test_every_layout_is_found_as_its_phantom_writes_it(
    config: dict[str, Any], layout: str
) -> None:
    folder = Path(config["data_root"]) / layout
    if layout_named(layout).segmentation is None:
        size = {"patients" if layout in BY_PATIENT else "images": 60, "image_size": 64}
        words = ["--dataset", layout, "--options", json.dumps({"layout": layout}), "--seed", "0"]
        words += ["--phantom", json.dumps(size), "--out", str(folder / "PHANTOM.json")]
        phantom.main(words)
    else:
        write_small(folder, layout, 6)
    config["datasets"] = {"one": {"layout": layout, "root": layout}}
    finding = check_dataset(config, "one")
    assert (finding.status, finding.next_step) == ("found", "nothing"), finding


def test_an_empty_folder_is_missing_data(config: dict[str, Any]) -> None:
    (Path(config["data_root"]) / "bach").mkdir(parents=True)
    assert check_dataset(config, "bach").status == "missing"


def test_data_with_a_readable_index_are_found(config: dict[str, Any]) -> None:
    put_index(config)
    finding = check_dataset(config, "bach")
    assert (finding.status, finding.next_step) == ("found", "nothing")
    assert "not yet looked at" in finding.found


def test_a_wrong_index_is_refused_with_its_row(config: dict[str, Any]) -> None:
    put_index(config, "b001.tif,Benine\n")
    finding = check_dataset(config, "bach")
    assert finding.status == "refused"
    assert "microscopy_ground_truth.csv row 1" in finding.found
    assert "Benine" in finding.found


def test_an_unknown_layout_is_refused(config: dict[str, Any]) -> None:
    config["datasets"]["bach"]["layout"] = "bahc"
    finding = check_dataset(config, "bach")
    assert (finding.status, "bach" in finding.next_step) == ("refused", True)


def test_a_manifest_says_how_many_images_and_what_was_refused(config: dict[str, Any]) -> None:
    put_index(config)
    made = Path(config["pathvars"]["results"]) / "datasets/bach"
    put(made / "card.json", json.dumps({"flow": FLOW, "quarantined": {"empty": 1}}))
    put(made / "leak_free.json", json.dumps({"split": {"leak_free": True}}))
    finding = check_dataset(config, "bach")
    assert finding.status == "found"
    assert finding.found == "2 images of 1 patients; 1 files refused"
    assert finding.next_step.endswith("quarantine.csv")


def test_a_split_that_leaks_is_refused(config: dict[str, Any]) -> None:
    put_index(config)
    made = Path(config["pathvars"]["results"]) / "datasets/bach"
    put(made / "card.json", json.dumps({"flow": FLOW}))
    put(made / "leak_free.json", json.dumps({"split": {"leak_free": False}}))
    assert check_dataset(config, "bach").status == "refused"


def test_phantoms_need_nothing(config: dict[str, Any]) -> None:
    config["phantoms"] = {"datasets": {"bach": {}}, "checkpoints": True}
    for finding in (check_dataset(config, "bach"), check_checkpoint(config, "moco-v2")):
        assert (finding.status, finding.next_step) == ("phantom", "nothing")


def test_an_absent_weight_file_is_missing_with_its_address(config: dict[str, Any]) -> None:
    finding = check_checkpoint(config, "moco-v2")
    assert finding.status == "missing"
    assert finding.next_step == "download moco.pth.tar from https://host/m, put it there"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html>", "a web page, such as a login or an error"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of git lfs, not the file"),
    ],
)
def test_what_cannot_be_weights_is_refused(
    config: dict[str, Any], content: bytes, found: str
) -> None:
    put(Path(config["source_root"]) / "moco.pth.tar", content)
    finding = check_checkpoint(config, "moco-v2")
    assert (finding.status, finding.found) == ("refused", found)


@pytest.mark.parametrize(
    ("certificate", "status", "found"),
    [
        (None, "found", "0 MiB, not yet converted"),
        (CERTIFICATE, "found", "converted: resnet50, every key in its place"),
        ({**CERTIFICATE, "missing": ["a"]}, "refused", "1 keys missing, 0 left over"),
    ],
)
def test_a_certificate_is_read(
    config: dict[str, Any], certificate: dict[str, Any] | None, status: str, found: str
) -> None:
    put(Path(config["source_root"]) / "moco.pth.tar", b"PK\x03\x04")
    if certificate:
        place = Path(config["pathvars"]["results"]) / "checkpoints/moco-v2/certificate.json"
        put(place, json.dumps(certificate))
    finding = check_checkpoint(config, "moco-v2")
    assert (finding.status, finding.found) == (status, found)


def test_seeded_weights_need_no_file_and_others_do(config: dict[str, Any]) -> None:
    config["checkpoints"] = {"own": {"format": "timm", "weights": "seeded"}, "bad": {}}
    assert check_checkpoint(config, "own").status == "found"
    assert check_checkpoint(config, "bad").status == "refused"


def test_everything_configured_is_printed_and_written(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "check.csv"
    main(["--config", json.dumps(config), "--out", str(out)])
    with out.open(encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [(x["kind"], x["name"]) for x in lines] == [
        ("data set", "bach"), ("checkpoint", "moco-v2"),
    ]  # fmt: skip
    shown = capsys.readouterr().out
    assert shown.endswith("0 found, 2 missing, 0 refused, 0 phantom\n")
    assert all(line["name"] in shown for line in lines)


def test_licence_and_access_stand_beside_what_a_person_must_agree_to(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config["datasets"]["chexpert"] = {"layout": "chexpert", "root": "chexpert"}
    config["checkpoints"]["moco-v2"]["licence"] = "CC-BY-NC-4.0"
    main(["--config", json.dumps(config), "--out", str(tmp_path / "check.csv")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "terms: Stanford University Dataset Research Use Agreement" in shown
    assert "free after registration and agreement" in shown
    assert "terms: CC-BY-NC-4.0" in shown


def test_a_configuration_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--config: expected JSON"):
        main(["--config", "{", "--out", str(tmp_path / "check.csv")])
