from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from workflow_scripts.report.protocols_page import SECTIONS, main, page

COMMITTED = Path(__file__).parents[2] / "docs/reference/protocols.md"


def test_committed_page_is_up_to_date(tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == COMMITTED.read_text()


def test_every_option_stands_on_the_page_with_reason_and_source() -> None:
    text = page()
    for _, bundles in SECTIONS:
        for option in fields(bundles["released"]):
            assert f"`{option.name}`" in text
            assert option.metadata["why"] in text
            assert option.metadata["source"]


def test_differences_are_bold_and_equal_options_are_not() -> None:
    text = page()
    assert "| **`refit`** | warm | cold |" in text
    assert "| `normalisation` | own | own |" in text
