"""The reference of data sets names what the layouts offer."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow_scripts.datasets.chest_findings import UNCERTAIN_RULES
from workflow_scripts.datasets.layout import SPLIT_POLICIES, layout_named

PAGE = Path("docs/reference/datasets.md").read_text(encoding="utf-8")
HERE = ("bach", "chestx", "chexpert", "mimic_cxr", "padchest", "shenzhen")


@pytest.mark.parametrize("name", HERE)
def test_the_page_has_each_layout_with_its_source_and_policies(name: str) -> None:
    layout = layout_named(name)
    assert f"(`layout: {name}`)" in PAGE
    assert layout.source in PAGE or name == "bach"
    for policy in layout.policies:
        assert f"`{policy}`" in PAGE


def test_the_page_names_every_rule_for_splits_and_uncertain_labels() -> None:
    for name in (*SPLIT_POLICIES, *UNCERTAIN_RULES):
        assert f"`{name}`" in PAGE
