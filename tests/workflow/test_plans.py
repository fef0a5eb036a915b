"""What each configuration and profile would run is known, job by job, before anything runs."""

from __future__ import annotations

import difflib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow import plans
from tests.workflow.plans import PROFILES, plan_of, snapshots
from workflow_scripts.problems import InputError
from workflow_scripts.report.cost import gpus_of
from workflow_scripts.report.planned_jobs import PlannedJob, plan_jobs
from workflow_scripts.report.rule_graph import svg

PUBLISHED_ON_A_CLUSTER = ("leonardo", "slurm")
SERIAL = {"mem_mb": 30800, "runtime": 240, "threads": 4}  # lrd_all_serial


@pytest.fixture(scope="module")
def all_plans() -> dict[str, list[PlannedJob]]:
    os.environ.setdefault("SLURM_ACCOUNT_NAME", "test_account")
    return {profile: plan_of(profile) for profile in PROFILES}


@pytest.mark.parametrize("name", ["published.txt", "demo.txt", "resources.csv"])
def test_plan_is_the_stored_one(all_plans: dict[str, list[PlannedJob]], name: str) -> None:
    file = plans.FOLDER / name
    stored, now = file.read_text().splitlines(), snapshots(all_plans)[file].splitlines()
    changes = list(difflib.unified_diff(stored, now, "stored", "now", lineterm="", n=0))[:40]
    assert not changes, "\n".join(["the plan changed; if wanted: make plans", *changes])


def test_rule_graph_page_is_up_to_date(root: Path, all_plans: dict[str, list[PlannedJob]]) -> None:
    jobs = [job for job in plan_jobs_of_the_demo_on_slurm() if job.outputs]
    assert (root / "docs/dag.svg").read_text() == svg(jobs), "make graph"


def plan_jobs_of_the_demo_on_slurm() -> list[PlannedJob]:
    words = ["--profile", "profiles/slurm", "--configfile", "profiles/demo/config.yaml"]
    return plan_jobs(["all", "training_smoke", "-F", *words])


@pytest.mark.parametrize("profile", PUBLISHED_ON_A_CLUSTER)
def test_every_job_fits_a_partition(
    root: Path, all_plans: dict[str, list[PlannedJob]], profile: str
) -> None:
    file = root / "profiles" / profile / "partitions.yaml"
    partitions: dict[str, Any] = yaml.safe_load(file.read_text())["partitions"]
    for job in all_plans[profile]:
        fitting = [
            name
            for name, limit in partitions.items()
            if job.number("runtime") <= limit["max_runtime"]
            and job.number("mem_mb") <= limit["max_mem_mb"]
            and job.threads <= limit["max_threads"]
            and job.number("nodes") <= limit["max_nodes"]
            and gpus_of(job) <= limit.get("max_gpu", 0) * job.number("nodes")
        ]
        assert fitting or job.is_local, job.name


def test_cpu_jobs_of_leonardo_fit_the_serial_partition(
    all_plans: dict[str, list[PlannedJob]],
) -> None:
    submissions: dict[str, list[PlannedJob]] = {}
    for job in all_plans["leonardo"]:
        if not job.is_local and not gpus_of(job) and job.number("nodes") == 1:
            submissions.setdefault(job.group or job.name, []).append(job)
    for name, jobs in submissions.items():
        assert sum(job.number("runtime") for job in jobs) <= SERIAL["runtime"], name
        assert max(job.number("mem_mb") for job in jobs) <= SERIAL["mem_mb"], name
        assert max(job.threads for job in jobs) <= SERIAL["threads"], name


def test_gpu_jobs_have_eight_cores_a_gpu_and_stay_on_one_node_unless_srun_starts_them(
    all_plans: dict[str, list[PlannedJob]],
) -> None:
    jobs = [job for job in all_plans["leonardo"] if gpus_of(job)]
    assert jobs
    for job in jobs:
        n_nodes = job.number("nodes")
        assert job.threads * n_nodes == 8 * gpus_of(job), job.name
        assert n_nodes == 1 or job.resources["mpi"] == "srun", job.name
        assert n_nodes == 1 or job.number("tasks") == n_nodes, job.name


def test_debug_jobs_end_within_half_an_hour(all_plans: dict[str, list[PlannedJob]]) -> None:
    assert max(job.number("runtime") for job in all_plans["leonardo-debug"]) <= 30


def test_the_scheduler_gets_fewer_submissions_than_jobs(
    all_plans: dict[str, list[PlannedJob]],
) -> None:
    few_shot = [job for job in all_plans["leonardo"] if job.rule == "few_shot"]
    assert len({job.group for job in few_shot}) <= len(few_shot) / 6


def test_a_plan_that_cannot_be_made_says_why() -> None:
    with pytest.raises(InputError, match="no_such_rule"):
        plan_jobs(["no_such_rule", "--profile", "profiles/ci"])


def planning_s(root: Path, *words: str) -> float:
    """Return the CPU seconds of a dry run; the clock would measure other tests as well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "snakemake", "-n", "--nolock", "--quiet", "all"]
    result = subprocess.run(
        [*command, "--profile", "profiles/leonardo", *words],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stdout + result.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_two_thousand_jobs_are_planned_in_ten_seconds(root: Path, tmp_path: Path) -> None:
    """Beyond the start of Snakemake, which a busy machine without cached bytecode stretches."""
    large = yaml.safe_load((root / "config.yaml").read_text())["ssl_transfer"]
    for stage in ("few_shot", "linear"):
        cells = len(large["checkpoints"]) * len(large[stage]["columns"])
        large[stage]["seeds"] = list(range(1000 // cells + 1))
    file = tmp_path / "large.yaml"
    file.write_text(yaml.safe_dump({"ssl_transfer": large}))
    used = planning_s(root, "--configfile", str(file)) - planning_s(root)
    assert used < 10, f"{used:.1f} s"
