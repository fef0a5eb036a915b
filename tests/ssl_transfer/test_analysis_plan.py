"""The figures and tables that are planned are those that the tables can give."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_scripts.report.long_form import Value
from workflow_scripts.report.transfer_points import transfer_points
from workflow_scripts.ssl_transfer.analysis_plan import TRANSFER, AnalysisPlan, column_name

MEDICAL = ["mimic-chexpert_lr_0.01", "mimic-cxr_r18_lr_1e-4"]


@pytest.fixture
def config() -> dict[str, Any]:
    root = Path(__file__).parents[2]
    loaded: dict[str, Any] = yaml.safe_load((root / "config.yaml").read_text())
    return copy.deepcopy(loaded)


def value(table: str, protocol: str, row: str, column: str, metric: str) -> Value:
    return Value(
        system="ssl_transfer", table=f"ssl_transfer_{table}", row=row, column=column,
        metric=metric, value=0.5, ci_low=math.nan, ci_high=math.nan, n=1, seeds=1, data="d",
        protocol=protocol, interval="none", seed_std=math.nan,
    )  # fmt: skip


def tables(plan: AnalysisPlan) -> list[Value]:
    """Return a value in each cell that the configuration's tables would have."""
    section, found = plan.section, []
    for step in (*TRANSFER, "saliency", "perceptual", "invariance"):
        for protocol in plan.protocols(step):
            for column in plan.columns(step, protocol):
                names, metric = [column_name(column)], "accuracy"
                if step == "saliency":
                    metric = "attentive_diffusion"
                    names = [n if bn == "eval" else f"{n} bn-{bn}"
                             for bn in section[step]["bn"] for n in names]  # fmt: skip
                elif step == "perceptual":
                    names, metric = [column["dataset"]], "lpips"
                elif step == "invariance":
                    ending = "_batch" if column.get("batch_norm") == "batch" else ""
                    names = [f"{column['dataset']} {column['transform']}{ending}"]
                    metric = "whitened_cosine"
                source = "reconstruction" if step == "perceptual" else step
                rows = section[source].get("checkpoints", plan.checkpoints)
                found += [value(step, protocol, r, n, metric) for r in rows for n in names]
    return found


@pytest.mark.parametrize(
    "change",
    [
        {},
        {("checkpoints",): MEDICAL},
        {("saliency", "bn"): ["released"]},
        {("saliency", "bn"): ["eval", "released"]},
        {("checkpoints",): MEDICAL[:1], ("saliency", "checkpoints"): MEDICAL[1:],
         ("reconstruction", "checkpoints"): MEDICAL[1:]},
    ],
)  # fmt: skip
def test_the_planned_predictors_are_those_of_the_tables(
    config: dict[str, Any], change: dict[tuple[str, ...], Any]
) -> None:
    for keys, new in change.items():
        inner = config["ssl_transfer"]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = new
    plan = AnalysisPlan(config)
    points = transfer_points(tables(plan), config["ssl_transfer"]["analysis"]["imagenet_top1"])
    wanted = {one.predictor for one in points}
    assert wanted
    assert set(plan.predictors()) == wanted


def test_without_a_predictor_no_correlations_are_planned(config: dict[str, Any]) -> None:
    section = config["ssl_transfer"]
    section["checkpoints"] = MEDICAL
    for step in ("saliency", "reconstruction", "invariance"):
        section[step]["columns"] = []
    assert AnalysisPlan(config).other_tables() == ["ssl_transfer_domain_averages"]


def plan_of(finding: str) -> AnalysisPlan:
    column = {"experiment": "chests", "train": "a", "finding": finding}
    config: dict[str, Any] = {
        "pathvars": {"results": "results"},
        "experiments": {"chests": ["a", "b"]},
        "ssl_transfer": {
            "checkpoints": ["moco-v2"],
            "id_ood": {"seeds": [0], "columns": [column]},
        },
    }
    return AnalysisPlan(config)


@pytest.mark.parametrize(
    ("finding", "folder"),
    [
        ("Effusion", "Effusion"),
        ("Lung Opacity", "Lung_Opacity"),
        ("Pleural_Thickening", "Pleural_Thickening"),
    ],
)
def test_a_finding_of_two_words_makes_no_path_with_a_space(finding: str, folder: str) -> None:
    plan = plan_of(finding)
    assert plan.id_ood_runs() == [
        f"results/ssl_transfer/id_ood/chests/{folder}/a/moco-v2/seed0/{name}.parquet"
        for name in ("a", "b")
    ]
    assert plan.finding_argument(folder).replace("'", "") == f"--finding {finding}"


def test_data_sets_with_one_label_name_no_finding() -> None:
    assert plan_of("Effusion").finding_argument("label") == ""
