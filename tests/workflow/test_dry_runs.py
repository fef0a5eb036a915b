"""The whole plan of every profile is proven without data, weights or a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import RunSnakemake

PROFILES = ["demo", "local", "ci", "leonardo"]
TARGETS = ["all", "ssl_transfer", "report", "check", "experiments"]


def planned(output: str) -> dict[str, int]:
    """Return the number of jobs of each rule, from Snakemake's own statistics."""
    rows = re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)
    return {rule: int(count) for rule, count in rows}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_of_every_profile_can_be_planned(
    snakemake: RunSnakemake, profile: str, target: str
) -> None:
    result = snakemake("-n", "-F", "--nolock", "--profile", f"profiles/{profile}", target)
    assert result.returncode == 0, result.stdout + result.stderr
    assert planned(result.stdout)["total"] >= 1


def test_segmentation_data_sets_can_be_planned(snakemake: RunSnakemake) -> None:
    target = ("--profile", "profiles/local", "segmentation_data")
    jobs = planned(snakemake("-n", "-F", "--nolock", *target).stdout)
    assert jobs["volume_sheet"] == jobs["volume_store"] == 5


def test_published_plan_of_ssl_transfer_has_one_run_a_cell(snakemake: RunSnakemake) -> None:
    target = ("--profile", "profiles/leonardo", "ssl_transfer")
    jobs = planned(snakemake("-n", "-F", "--nolock", *target).stdout)
    both = 2 * 13  # protocols x checkpoints
    assert jobs["few_shot"] == both * 11  # columns
    assert jobs["linear"] == both * 5
    assert jobs["finetune"] == both * 11
    assert jobs["saliency"] == jobs["reconstruction"] == both * 10
    assert jobs["invariance"] == both * 11 + 13 * 4  # four with batch statistics, released only
    assert jobs["multi_view"] == both * 2
    assert jobs["perceptual"] == 2 * 10
    assert jobs["perceptual_csv"] == 2 * 4
    assert jobs["knn"] == 13 * 5
    # ImageNet's sample picture is forwarded only: nothing is trained or tested on it
    assert jobs["manifest"] == jobs["leak_free"] + 1
    assert jobs["download"] == jobs["convert"] == 13 + 3  # and the trunks of LPIPS
    assert "phantom" not in jobs


def test_stage_lists_every_published_file_once(snakemake: RunSnakemake) -> None:
    result = snakemake("-n", "-F", "--nolock", "--profile", "profiles/leonardo", "stage")
    jobs = planned(result.stdout)
    assert jobs == {"download": 17, "stage": 1, "total": 18}  # 19 checkpoints; two files serve two


def test_the_demo_downloads_nothing(snakemake: RunSnakemake) -> None:
    result = snakemake("-n", "-F", "--nolock", "--profile", "profiles/demo", "all")
    assert "download" not in planned(result.stdout)


def test_one_table_plans_only_what_it_needs(snakemake: RunSnakemake) -> None:
    table = "results/tables/ssl_transfer_linear.csv"
    result = snakemake("-n", "-F", "--nolock", "--profile", "profiles/local", table)
    jobs = planned(result.stdout)
    assert jobs["linear"] == 2 * 13 * 5
    assert "few_shot" not in jobs
    assert "ledger" not in jobs


def test_an_experiment_waits_for_one_certificate_over_all_its_data_sets(
    snakemake: RunSnakemake,
) -> None:
    files = ["leak_free.json", "near_duplicates_short224.csv"]
    targets = [f"results/experiments/crocodile/{file}" for file in files]
    result = snakemake("-n", "-F", "--nolock", "--profile", "profiles/local", *targets)
    jobs = planned(result.stdout)
    assert jobs["manifest"] == jobs["store"] == 4
    assert jobs["experiment_leak_free"] == jobs["near_duplicates"] == 1


def test_misspelt_key_stops_the_plan_with_its_name(snakemake: RunSnakemake, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("ssl_transfer: {few_shot: {n_suport: 5}}\n")
    result = snakemake("-n", "--profile", "profiles/ci", "--configfile", str(mine))
    assert result.returncode != 0
    text = result.stdout + result.stderr
    assert f"{mine} key ssl_transfer.few_shot.n_suport" in text
    assert "did you mean 'n_support'" in text


def test_workflow_passes_snakemakes_own_lint(snakemake: RunSnakemake) -> None:
    result = snakemake("--lint", "--workflow-profile", "none")
    assert result.returncode == 0, result.stdout + result.stderr


def test_more_workers_are_no_reason_to_train_again(root: Path) -> None:
    # Snakemake records no parameter that is a function of threads, so a new value reruns nothing
    texts = [file.read_text() for file in sorted((root / "rules").glob("*.smk"))]
    found = [line for text in texts for line in re.findall(r"^ +workers=(.*)$", text, re.MULTILINE)]
    assert len(found) == 5
    assert all(line.startswith("lambda w, threads") for line in found)
