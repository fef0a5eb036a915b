"""What the analyses ask for."""

from __future__ import annotations

from typing import Any

import pytest

from workflow_scripts.ssl_transfer.analysis_plan import AnalysisPlan


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
