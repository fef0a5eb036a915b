"""The list of checkpoints says what each is and how far it has come."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_scripts.checkpoints import list as zoo
from workflow_scripts.checkpoints.formats import format_names
from workflow_scripts.checkpoints.options import options_of
from workflow_scripts.files import write_json, write_text
from workflow_scripts.plan import Plan
from workflow_scripts.problems import InputError

THIRTEEN = {  # spec section 1: the names on the command line
    "simclr-v1",
    "moco-v2",
    "swav",
    "byol",
    "pirl",
    "supervised_r50",
    "supervised_r18",
    "supervised_d121",
    "mimic-chexpert_lr_0.01",
    "mimic-chexpert_lr_0.1",
    "mimic-chexpert_lr_1.0",
    "mimic-cxr_r18_lr_1e-4",
    "mimic-cxr_d121_lr_1e-4",
}


@pytest.fixture
def config(root: Path, tmp_path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = copy.deepcopy(yaml.safe_load((root / "config.yaml").read_text()))
    loaded["pathvars"]["results"] = str(tmp_path / "results")
    loaded["source_root"] = str(tmp_path / "sources")
    return loaded


def state(config: dict[str, Any], name: str) -> str:
    return {row[0]: row[-1] for row in zoo.rows_of(config)}[name]


def test_the_thirteen_rows_of_the_published_tables_are_configured(config: dict[str, Any]) -> None:
    assert set(config["ssl_transfer"]["checkpoints"]) == THIRTEEN
    assert set(config["checkpoints"]) > THIRTEEN


def test_every_format_but_timm_s_serves_a_published_checkpoint(config: dict[str, Any]) -> None:
    used = {entry["format"] for entry in config["checkpoints"].values()}
    assert used == set(format_names()) - {"timm"}


def test_every_published_checkpoint_can_be_downloaded_and_names_its_licence(
    config: dict[str, Any],
) -> None:
    for name, entry in config["checkpoints"].items():
        options = options_of(entry)
        assert options.url.startswith("https://"), name
        assert "licence" in entry, name
        assert "pretraining" in entry, name


@pytest.mark.parametrize(
    ("name", "kind"),
    [("simclr-v1", "none"), ("mimic-chexpert_lr_0.1", "histogram"), ("byol", "mean_std")],
)
def test_the_normalisation_is_the_released_one(
    name: str, kind: str, config: dict[str, Any]
) -> None:
    assert options_of(config["checkpoints"][name]).normalisation.kind == kind  # spec section 2.6


def test_the_state_follows_the_file_on_its_way(config: dict[str, Any]) -> None:
    plan = Plan(config)
    assert state(config, "pirl") == "absent"
    part = Path(config["source_root"], "PIRL.pth.part")
    write_text(part, "x" * 3_000_000)
    assert state(config, "pirl") == "3 MB came so far"
    part.rename(part.with_suffix(""))
    assert state(config, "pirl") == "there, not yet proven"
    write_json(Path(plan.receipt("pirl") or ""), {})
    assert state(config, "pirl") == "proven"
    certificate = Path(plan.results, "checkpoints", "pirl", "certificate.json")
    write_json(certificate, {"phantom": False})
    assert state(config, "pirl") == "converted"
    write_json(certificate, {"phantom": True})
    assert state(config, "pirl") == "converted, PHANTOM"


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        zoo.main(["--config", str(tmp_path / "config.yaml")])


def test_the_reference_page_holds_the_current_table(root: Path) -> None:
    config = yaml.safe_load((root / "config.yaml").read_text())
    page = (root / "docs/reference/checkpoints.md").read_text(encoding="utf-8")
    assert zoo.as_markdown(config) in page, "paste the output of checkpoints.list --markdown"
