"""Snapshots of the plans: every job of a configuration, every rule's resources in a profile.

Made from Snakemake's structured events. After a wanted change: `make plans`, and look at the
difference before committing it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from workflow_scripts.report.planned_jobs import ROOT, PlannedJob, plan_jobs

FOLDER = ROOT / "tests/workflow/plans"
TARGETS = ["all", "training_smoke", "-F"]
CONFIGURATIONS = {"published": "profiles/leonardo", "demo": "profiles/demo"}
PROFILES = ("demo", "local", "ci", "leonardo", "leonardo-debug", "slurm")
RESOURCES = ("mem_mb", "runtime", "gpu", "nodes", "tasks", "processes", "mpi")


def plan_of(profile: str) -> list[PlannedJob]:
    """Return all jobs of a profile's plan, finished ones as well."""
    return plan_jobs([*TARGETS, "--profile", f"profiles/{profile}"])


def job_lines(jobs: Iterable[PlannedJob]) -> str:
    """Return one line a job: rule and wildcards, what it makes, what it reads."""
    lines = [
        f"{job.name}: {' '.join(job.outputs) or '-'} <- {' '.join(sorted(job.inputs)) or '-'}"
        for job in jobs
    ]
    return "\n".join(sorted(lines)) + "\n"


def resource_rows(profile: str, jobs: Sequence[PlannedJob]) -> list[list[object]]:
    """Return one row a rule and set of resources, with the numbers of jobs and submissions."""
    found: dict[tuple[object, ...], list[PlannedJob]] = {}
    for job in jobs:
        place = "local" if job.is_local else "group" if job.group else "alone"
        values = [job.resources.get(name, "") for name in RESOURCES]
        found.setdefault((job.rule, place, job.threads, *values), []).append(job)
    rows: list[list[object]] = []
    for key, mine in found.items():
        submissions = 0 if mine[0].is_local else len({job.group or job.name for job in mine})
        rows.append([profile, *key[:2], len(mine), submissions, *key[2:]])
    return sorted(rows, key=str)


def resource_table(plans: dict[str, list[PlannedJob]]) -> str:
    """Return the rows of all profiles as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["profile", "rule", "place", "jobs", "submissions", "threads", *RESOURCES])
    for profile, jobs in plans.items():
        writer.writerows(resource_rows(profile, jobs))
    return stream.getvalue()


def snapshots(plans: dict[str, list[PlannedJob]]) -> dict[Path, str]:
    """Return the content of every snapshot file."""
    files = {
        FOLDER / f"{name}.txt": job_lines(plans[Path(profile).name])
        for name, profile in CONFIGURATIONS.items()
    }
    return {**files, FOLDER / "resources.csv": resource_table(plans)}


if __name__ == "__main__":
    for file, text in snapshots({profile: plan_of(profile) for profile in PROFILES}).items():
        file.write_text(text)
