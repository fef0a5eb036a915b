"""What the section `crocodile` of the configuration asks for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_scripts.crocodile.plan import CrocodilePlan
from workflow_scripts.crocodile.settings import LossWeights, Schedule, Shape, record
from workflow_scripts.crocodile.variants import VARIANTS
from workflow_scripts.plan import Plan
from workflow_scripts.report.metric_catalogue import METRICS
from workflow_scripts.report.published import read_published


@pytest.fixture(scope="module")
def config(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "config.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def plan(config: dict[str, Any]) -> CrocodilePlan:
    found = Plan(config).systems["crocodile"]
    assert isinstance(found, CrocodilePlan)
    return found


def test_every_run_is_tested_in_and_out_of_distribution(plan: CrocodilePlan) -> None:
    files = plan.predictions()
    assert len(files) == len(set(files)) == 2 * 6 * 1 * 2  # protocols, variants, seeds, roles
    assert len(plan.maps()) == 2 * 5  # the plain baseline has no map
    assert not plan.has_phantoms


def test_the_numbers_of_every_run_are_ones_the_steps_take(plan: CrocodilePlan) -> None:
    record(Shape, plan.network(), "network")
    for variant in VARIANTS:
        record(Schedule, plan.training(variant), "training")
        for protocol in ("released", "corrected"):
            record(LossWeights, plan.weights(protocol, variant), "weights")


def test_the_competitor_has_its_own_published_numbers(plan: CrocodilePlan) -> None:
    own = json.loads(plan.training("causal_cxr"))
    assert (own["learning_rate"], own["epochs"]) == (1e-4, 40)
    weights = json.loads(plan.weights("released", "causal_cxr"))
    named = (weights["asl_causal"], weights["kl_spurious"], weights["asl_intervened"])
    assert named == (1.0, 1.0, 0.5)
    assert json.loads(plan.training("full"))["learning_rate"] == 3e-6


def test_the_domains_are_numbered_as_released(plan: CrocodilePlan, config: dict[str, Any]) -> None:
    layouts = [config["datasets"][name]["layout"] for name in plan.datasets_of("ID")]
    assert layouts == ["chestx", "chexpert", "padchest"]  # 0, 1, 2
    assert [config["datasets"][name]["layout"] for name in plan.datasets_of("OOD")] == ["mimic_cxr"]
    members = config["experiments"][plan.section["experiment"]]
    assert set(members) == {*plan.datasets_of("ID"), *plan.datasets_of("OOD")}


def test_data_sets_that_the_certificate_would_not_cover_are_refused(config: dict[str, Any]) -> None:
    def conflicts(**section: Any) -> list[tuple[tuple[str, ...], str]]:
        changed = {**config, "crocodile": {**config["crocodile"], **section}}
        found = Plan(changed).systems["crocodile"].conflicts()
        return [(one.keys, one.next_step) for one in found]

    assert conflicts() == []
    # the same patients as the source's, under another name: its training images would be tested
    assert conflicts(ood=["mimic_cxr", "chestx"]) == [
        (("ood", "1"), "add it to experiments.crocodile"),
        (("ood", "1"), "set split_policy: test_only in datasets.chestx"),
    ]
    assert conflicts(sources=["chestx_nine", "chexpert"]) == [
        (("sources", "1"), "add it to experiments.crocodile")
    ]


def test_a_phantom_behind_any_data_set_is_known(config: dict[str, Any]) -> None:
    made = {**config, "phantoms": {"datasets": {"mimic_cxr": {}}}}
    found = Plan(made).systems["crocodile"]
    assert isinstance(found, CrocodilePlan)
    assert found.has_phantoms


def test_the_cells_of_the_paper_are_rows_of_the_table_and_hold_no_invented_number(
    root: Path,
) -> None:
    """No printed number is known (spec section 12)."""
    cells = read_published([root / "results/published/crocodile.csv"])
    rows = {f"{name}, {head}" for name, one in VARIANTS.items() for head in one.heads}
    assert {cell.row for cell in cells} <= rows
    assert {cell.row.split(",")[0] for cell in cells} == set(VARIANTS) - {"resnet_asl"}
    assert {(cell.column, cell.metric) for cell in cells} == {
        ("ID", "mean_auc"), ("OOD", "mean_auc"), ("drop", "mean_auc_drop"),
    }  # fmt: skip
    assert {cell.metric for cell in cells} <= set(METRICS)
    assert all(math.isnan(cell.value) for cell in cells)
