"""What made the results, where a table is from, and what the rules cost."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.report import table
from workflow_scripts.report.job_costs import rule_costs
from workflow_scripts.report.provenance import described, main, provenance
from workflow_scripts.report.sources import read_sources

from .conftest import WritePredictions

HEAD = "s\th:m:s\tmax_rss\tmax_vms\n"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_provenance_names_commit_configuration_lock_machine_and_time(
    root: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("seed: 1\n")
    lock = root / "envs/requirements.lock"
    content = provenance([root / "config.yaml", overlay], lock, NOW)
    assert content["made_at"] == "2026-01-02T03:04:05+00:00"
    hashes = list(content["configuration"].values())
    assert hashes[1] == hashlib.sha256(b"seed: 1\n").hexdigest()
    assert content["lock"] == {lock.as_posix(): hashlib.sha256(lock.read_bytes()).hexdigest()}
    assert content["cores"] >= 1
    assert content["memory_gib"] > 0
    assert "numpy" in content["libraries"]
    lines = dict(described(content))
    assert hashes[1] in lines[f"configuration {overlay.as_posix()}"]
    assert content["commit"] in lines["commit"]


def test_missing_configuration_is_refused(tmp_path: Path) -> None:
    words = ["--configuration", str(tmp_path / "no.yaml"), "--lock", str(tmp_path / "no.lock")]
    with pytest.raises(InputError, match=r"no\.yaml[\s\S]*no\.lock"):
        main([*words, "--out", str(tmp_path / "p.json")])
    assert not (tmp_path / "p.json").exists()


def test_a_table_lists_the_predictions_of_each_cell(
    write_predictions: WritePredictions, tmp_path: Path
) -> None:
    paths = [write_predictions(seed=1), write_predictions(seed=0), write_predictions(row="byol")]
    words = [f"--{name}={tmp_path / name}" for name in ("csv", "markdown", "latex", "sources")]
    predictions = ["--predictions", *map(str, paths)]
    table.main(["--table", "ssl_transfer_linear", *predictions, "--resamples", "0", *words])
    sources = read_sources(tmp_path / "sources")
    assert [(one.row, one.seed) for one in sources] == [
        ("moco-v2", "0"), ("moco-v2", "1"), ("byol", "0"),
    ]  # fmt: skip
    assert sources[0].predictions == paths[1].as_posix()
    assert sources[0].sha256 == hashlib.sha256(paths[1].read_bytes()).hexdigest()


def test_costs_are_grouped_by_rule_and_believe_the_warm_log(tmp_path: Path) -> None:
    benchmarks, logs = tmp_path / "benchmarks", tmp_path / "logs"
    for name, text in (
        ("table/a.tsv", "1.0\t0:00:01\t100\t0\n"),
        ("table/b.tsv", "3.0\t0:00:03\t200\t0\n5.0\t0:00:05\t50\t0\n"),
        ("ssl_transfer/linear/x/y.tsv", "2.5\t0:00:02\t-\t0\n"),
        ("ledger.tsv", "0.5\t0:00:00\t7\t0\n"),
    ):
        path = benchmarks / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + text)
    (logs / "ledger.log").parent.mkdir()
    (logs / "ledger.log").write_text("used 0.4 CPU-s, 300 MiB at most\n")
    costs = {cost.rule: cost for cost in rule_costs(benchmarks, logs, ["ssl_transfer"])}
    assert list(costs) == ["table", "ssl_transfer/linear", "ledger"]
    assert (costs["table"].jobs, costs["table"].seconds, costs["table"].longest_s) == (2, 5.0, 4.0)
    assert costs["table"].memory_mb == pytest.approx(200 * 1.048576)
    assert costs["ssl_transfer/linear"].memory_mb is None
    assert costs["ledger"].memory_mb == pytest.approx(300 * 1.048576)


def test_provenance_is_json_a_page_can_read(root: Path, tmp_path: Path) -> None:
    lock = str(root / "envs/requirements.lock")
    words = ["--configuration", str(root / "config.yaml"), "--lock", lock]
    main([*words, "--out", str(tmp_path / "p.json")])
    assert described(json.loads((tmp_path / "p.json").read_text()))
