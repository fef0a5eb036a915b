"""A tiny plan from phantoms to report: it runs, repeats itself, and reruns only what changed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import RunSnakemake
from tests.workflow.test_dry_runs import planned

pytestmark = pytest.mark.slow


class Workplace:
    """A results folder of its own with the tiny plan, run by Snakemake."""

    def __init__(self, folder: Path, root: Path, run: RunSnakemake) -> None:
        self.results = folder / "results"
        self.run_snakemake = run
        self.plan = yaml.safe_load((root / "tests/workflow/tiny.yaml").read_text())
        self.plan["pathvars"] = {
            name: str(folder / name) for name in ("results", "logs", "benchmarks")
        }
        self.file = folder / "tiny.yaml"

    def run(self, *words: str) -> str:
        self.file.write_text(yaml.safe_dump(self.plan))
        options = ["--nolock", "--profile", "profiles/ci", "--configfile", str(self.file)]
        result = self.run_snakemake(*words, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def planned(self, *words: str) -> dict[str, int]:
        return planned(self.run("-n", "all", *words))


@pytest.fixture(scope="module")
def workplace(
    root: Path, snakemake: RunSnakemake, tmp_path_factory: pytest.TempPathFactory
) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("tiny"), root, snakemake)
    place.run("report")
    return place


def test_run_ends_with_tables_figures_ledger_and_report(workplace: Workplace) -> None:
    tables = workplace.results / "tables"
    steps = ("few_shot", "linear", "finetune", "saliency", "perceptual", "invariance", "knn", "cka")
    steps += ("id_ood", "correlations", "domain_averages")
    for name in (*(f"ssl_transfer_{step}" for step in steps), "trust_matrix"):
        for suffix in ("csv", "md", "tex", "png", "svg"):
            assert (tables / f"{name}.{suffix}").stat().st_size > 100
    assert (workplace.results / "figures/ssl_transfer_against_imagenet_top1.png").is_file()
    report = (workplace.results / "report.html").read_text()
    assert "ssl_transfer_few_shot" in report
    assert not re.search(r'(src|href)="https?://[^"]+\.(js|css)"', report)  # opens offline


def test_everything_made_from_phantoms_says_so(workplace: Workplace) -> None:
    tables = workplace.results / "tables"
    assert "phantom" in (tables / "ssl_transfer_few_shot.md").read_text().lower()
    assert "phantom" in (workplace.results / "summary.txt").read_text().lower()
    ledger = (tables / "ledger.csv").read_text()
    assert "not comparable" in ledger
    assert ",reproduced," not in ledger


def test_second_run_finds_nothing_to_do(workplace: Workplace) -> None:
    assert "Nothing to be done" in workplace.run("all")


def test_tables_are_byte_identical_when_made_again(workplace: Workplace) -> None:
    def digests() -> dict[str, str]:
        files = sorted((workplace.results / "tables").iterdir())
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    before = digests()
    workplace.run("all", "-R", "features", "few_shot", "linear", "table")
    assert digests() == before


def test_changed_value_reruns_only_what_depends_on_it(workplace: Workplace) -> None:
    workplace.plan["ssl_transfer"]["few_shot"]["n_query"] = 3
    try:
        jobs = workplace.planned()
    finally:
        workplace.plan["ssl_transfer"]["few_shot"]["n_query"] = 2
    assert jobs["few_shot"] == 4
    assert not {"features", "linear", "manifest", "store", "convert"} & set(jobs)


def test_file_that_a_killed_step_left_beside_its_place_is_not_taken(workplace: Workplace) -> None:
    """What counts is the file in its place: without it the step, and nothing before it, runs."""
    features = sorted((workplace.results / "ssl_transfer/features").rglob("*.npz"))[0]
    partial = features.with_name(f".{features.stem}.123.partial{features.suffix}")
    features.rename(partial)
    try:
        jobs = planned(workplace.run("-n", str(features)))
    finally:
        partial.rename(features)
    assert jobs == {"features": 1, "total": 1}
