"""Progress is readable where it lands: a terminal or a log file."""

from __future__ import annotations

import io
import sys

import pytest

from workflow_scripts.progress import progress


def test_items_come_through_in_order_and_a_log_has_whole_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(progress(iter("abc"), 3, "decode")) == ["a", "b", "c"]
    lines = log.getvalue().splitlines()
    assert "\r" not in log.getvalue()
    assert all(line.startswith("decode:") for line in lines)
    assert "3/3" in lines[-1]
    assert len(lines) <= 3
