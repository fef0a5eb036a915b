"""The pages on tables know every metric of the catalogue and every table of the plan."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import yaml

from workflow_scripts.plan import Plan
from workflow_scripts.report.long_form import COLUMNS, PROTOCOLS
from workflow_scripts.report.metric_catalogue import METRICS, SHOWN_METRICS
from workflow_scripts.report.metrics_page import main
from workflow_scripts.report.rendering import INTERVAL_LEGENDS


def section(root: Path, title: str) -> str:
    page = (root / "docs/reference/tables.md").read_text(encoding="utf-8")
    return re.split(r"^## ", page.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def test_committed_page_is_up_to_date(root: Path, tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "page.md")])
    committed = root / "docs/reference/metrics.md"
    assert (tmp_path / "page.md").read_text() == committed.read_text(), "run: make pages"


def test_every_metric_is_defined(root: Path) -> None:
    names = [line.split("|")[1] for line in section(root, "Metrics").splitlines() if "|" in line]
    written = re.findall(r"`([\w*{}, ]+)`", " ".join(names))
    patterns = [re.sub(r"\{[^}]*\}", "*", one) for one in written]
    undefined = [one for one in METRICS if not any(fnmatch.fnmatch(one, two) for two in patterns)]
    assert undefined == []
    unused = [one for one in patterns if not fnmatch.filter(METRICS, one)]
    assert unused == []


def test_every_column_protocol_and_interval_is_explained(root: Path) -> None:
    columns = section(root, "The columns of the long form")
    assert [one for one in (*COLUMNS, *PROTOCOLS) if f"`{one}`" not in columns] == []
    intervals = section(root, "Intervals")
    assert [one for one in INTERVAL_LEGENDS if f"`{one}`" not in intervals] == []


def test_the_page_on_one_table_names_every_table(root: Path) -> None:
    plan = Plan(yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8")))
    page = (root / "docs/how-to/one-table.md").read_text(encoding="utf-8")
    assert [one for one in plan.all_tables() if f"`{one}`" not in page] == []
    assert set(SHOWN_METRICS) <= {*plan.all_tables(), "trust_matrix"}  # made of all the others
