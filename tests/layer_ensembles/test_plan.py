"""Which configurations can be run, and which tables and figures they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_scripts.layer_ensembles.plan import LayerEnsemblesPlan


@pytest.fixture
def config(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "config.yaml").read_text())
    return loaded


def test_published_plan_has_three_tables_and_no_conflict(config: dict[str, Any]) -> None:
    plan = LayerEnsemblesPlan(config)
    assert not list(plan.conflicts())
    assert len(plan.tables()) == 3
    assert {path.rpartition("ensembles_")[2] for path in plan.figures()} >= {
        "quality_control.png",
        "skips.png",
    }


@pytest.mark.parametrize(
    ("methods", "tables", "figures"),
    [
        (["plain"], ["segmentation"], []),
        (["plain", "multi_head"], ["segmentation", "correlation"], ["quality_control"]),
        (["deep_ensembles"], ["segmentation", "correlation", "skips"], ["quality_control"]),
    ],
)
def test_methods_without_rows_for_a_table_do_not_ask_for_it(
    config: dict[str, Any], methods: list[str], tables: list[str], figures: list[str]
) -> None:
    config["layer_ensembles"]["methods"] = methods
    plan = LayerEnsemblesPlan(config)
    assert [name.removeprefix("layer_ensembles_") for name in plan.tables()] == tables
    assert [Path(one).stem.removeprefix("layer_ensembles_") for one in plan.figures()] == figures
    assert not list(plan.conflicts())


def test_data_sets_without_settings_or_voxels_and_an_empty_choice_are_refused(
    config: dict[str, Any],
) -> None:
    section = config["layer_ensembles"]
    section["datasets"] = ["bcdr", "acdc", "bach"]
    found = [(one.keys[1], one.expected) for one in LayerEnsemblesPlan(config).conflicts()]
    assert found == [
        ("1", "a data set with an entry in per_dataset"),
        ("2", "a data set with an entry in per_dataset"),
        ("2", "a data set with a grid of voxels"),
    ]
    section["datasets"], section["protocols"] = ["mms"], ["released"]
    [conflict] = LayerEnsemblesPlan(config).conflicts()
    assert conflict.keys == ("protocols",)
