"""What SLURM would be asked for by a training on several nodes, from the plan alone."""

from __future__ import annotations

import os
import re
from types import SimpleNamespace
from typing import Any

from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from workflow_scripts.report.cost import gpus_of
from workflow_scripts.report.planned_jobs import PlannedJob, plan_jobs

PARAMS = {
    "run_uuid": "job", "slurm_logfile": "log", "comment_str": "rule", "account": "-A a",
    "partition": "-p boost_usr_prod", "workdir": "",
}  # fmt: skip


class Resources(dict[str, Any]):
    """Resources as the plugin reads them, by key and by attribute."""

    __getattr__ = dict.__getitem__


def submission(job: PlannedJob) -> str:
    """Return the sbatch call of the plugin for a planned job."""
    asked = SimpleNamespace(resources=Resources(job.resources), threads=job.threads)
    return get_submit_command(asked, PARAMS) + set_gres_string(asked)


def trainings(profile: str) -> list[PlannedJob]:
    os.environ.setdefault("SLURM_ACCOUNT_NAME", "test_account")
    jobs = plan_jobs(["crocodile", "-F", "--profile", f"profiles/{profile}"])
    found = [job for job in jobs if job.rule == "crocodile_train"]
    assert len(found) == 12  # two protocols of six variants
    return found


def number(call: str, option: str) -> int | None:
    match = re.search(rf"--{option}[= ](\d+)", call)
    return int(match[1]) if match else None


def test_on_leonardo_crocodile_trains_on_24_gpus_of_six_whole_nodes() -> None:
    for job in trainings("leonardo"):
        call = submission(job)
        assert (number(call, "nodes"), number(call, "ntasks")) == (6, 6)
        assert number(call, "cpus-per-task") == 32
        assert "--gres=gpu:4" in call
        assert "--gpus" not in call
        assert "ntasks-per-gpu" not in call
        assert gpus_of(job) == 24
        assert job.number("processes") == job.number("node_gpus") == 4


def test_on_another_cluster_it_trains_on_one_node_with_one_process_a_gpu() -> None:
    for job in trainings("slurm"):
        call = submission(job)
        assert "--gpus=4" in call
        assert number(call, "cpus-per-task") == 32
        assert "ntasks" not in call
        assert job.number("processes") == job.number("node_gpus") == 4
