"""The workflow on a real SLURM: what is asked for, and what survives kills, a node and a limit."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import ACCOUNT, Cluster, run, wait_for
from tests.slurm.controllers import (
    Record,
    node_of,
    on_leonardo,
    records,
    start_controller,
    wait_for_step,
    write_plan,
)
from workflow_scripts.launch import time_left_minutes

LIMIT_S = 1500  # for one controller, on a busy machine
LONG_TRAINING = {"training_smoke": {"steps": 1000, "check_every": 1000}}
ALONE = {"mpi": "", "nodes": 1, "tasks": 1, "processes": 1, "runtime": "3 * attempt"}
TABLES = ("ssl_transfer_few_shot", "ssl_transfer_linear")
NEAR_THE_LIMIT_S = 15  # the training saves a tenth of its time before the limit


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    place = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        place.start()
        yield place
    finally:
        place.stop()


def wanted(folder: Path) -> list[str]:
    """Return the targets: the tables, each with its figure."""
    return [f"{folder}/results/tables/{name}.{kind}" for name in TABLES for kind in ("csv", "png")]


def finish(controller: subprocess.Popen[bytes], output: Path) -> None:
    status = controller.wait(LIMIT_S)
    assert status == 0, output.read_text()[-6000:]


@pytest.fixture(scope="module")
def disturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole plan while a step is killed and a node dies."""
    folder = tmp_path_factory.mktemp("disturbed")
    plan, output = write_plan(folder, {}), folder / "snakemake.log"
    words = [*wanted(folder), "training_smoke", *on_leonardo(folder / "slurm", {})]
    controller = start_controller(plan, output, *words)
    os.kill(wait_for_step("workflow_scripts.datasets.store", controller, LIMIT_S), signal.SIGKILL)
    step = wait_for_step("workflow_scripts.ssl_transfer.features", controller, LIMIT_S)
    node = node_of(step)
    cluster.kill_node(node)
    wait_for(lambda: "down" in cluster.node_states()[node], "SLURM to see the dead node")
    cluster.start_node(node)
    finish(controller, output)
    return folder


@pytest.fixture(scope="module")
def undisturbed(disturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the same plan on this machine, without SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    plan, output = write_plan(folder, {"start": "warm"}), folder / "snakemake.log"
    finish(start_controller(plan, output, *wanted(folder), "--profile", "profiles/ci"), output)
    return folder


@pytest.fixture(scope="module")
def orphaned(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill the controller of a training, start another, and let the orphan reach its limit.

    The orphan is suspended meanwhile, so that it reaches the limit however fast it is.
    """
    folder = tmp_path_factory.mktemp("orphaned")
    plan, output = write_plan(folder, LONG_TRAINING), folder / "snakemake.log"
    words = ["training_smoke", "--retries", "12"]  # refused until the orphan ends
    words += on_leonardo(folder / "slurm", {"training_smoke": ALONE})
    first = start_controller(plan, output, *words)
    lock = folder / "state/training/smoke/lock"
    wait_for(lambda: lock.exists() and b"pid" in lock.read_bytes(), "the lock", LIMIT_S)
    time.sleep(1)  # some steps
    owner = json.loads(lock.read_text())
    os.kill(owner["pid"], signal.SIGSTOP)
    first.kill()
    first.wait()
    second = start_controller(plan, output, *words)
    log = folder / "logs/training/smoke.log"  # each attempt writes it anew
    wait_for(lambda: "in use by job" in log.read_text(), "a refusal", LIMIT_S)
    (folder / "refusal.txt").write_text(log.read_text())
    wait_for(lambda: time_left_s(owner["job"]) < NEAR_THE_LIMIT_S, "the limit", LIMIT_S)
    os.kill(owner["pid"], signal.SIGCONT)
    finish(second, output)
    return folder


def time_left_s(job: str) -> float:
    minutes = time_left_minutes(run("squeue", "-h", "-j", job, "-o", "%L"))
    assert minutes is not None
    return minutes * 60


def submissions(rule: str) -> list[Record]:
    """Return the submissions of a rule, the first one first."""
    return [record for record in records() if record.rule == rule]


EXPECTED = {  # rule or group: partition, nodes, CPUs, GPUs, MB, minutes of its first attempt
    "phantom": ("lrd_all_serial", 1, 1, 0, 2000, 30),
    "manifest": ("lrd_all_serial", 1, 4, 0, 8000, 120),
    "store": ("lrd_all_serial", 1, 4, 0, 8000, 240),
    "convert": ("lrd_all_serial", 1, 1, 0, 8000, 40),  # two of 20 minutes, one after another
    "features": ("boost_usr_prod", 1, 8, 1, 32000, 80),  # two of 40 minutes on one GPU
    "few_shot": ("lrd_all_serial", 1, 1, 0, 8000, 30),
    "linear": ("lrd_all_serial", 1, 1, 0, 16000, 240),
    "table": ("lrd_all_serial", 1, 2, 0, 8000, 60),
    "training_smoke": ("boost_usr_prod", 2, 4, 0, 8000, 15),  # memory of both nodes
}


@pytest.mark.parametrize("rule", EXPECTED)
def test_first_attempt_asks_for_what_rule_and_profile_say(disturbed: Path, rule: str) -> None:
    first = submissions(rule)[0]
    partition, nodes, cpus, gpus, memory_mb, minutes = EXPECTED[rule]
    assert first.account == ACCOUNT
    assert (first.partition, int(first.nodes), int(first.cpus)) == (partition, nodes, cpus)
    assert first.gpus == gpus
    assert first.memory in {f"{memory_mb}M", f"{memory_mb / 1000:g}G", f"{memory_mb // 1024}G"}
    assert int(first.minutes) == minutes


def test_small_rules_and_downloads_never_reach_the_scheduler(disturbed: Path) -> None:
    submitted = {record.rule for record in records()}
    assert not submitted & {"leak_free", "figure", "provenance"}


def test_short_jobs_of_one_kind_share_a_submission(disturbed: Path) -> None:
    assert len([r for r in submissions("few_shot") if r.state == "COMPLETED"]) == 1


def test_killed_step_is_submitted_again_with_more_time(disturbed: Path) -> None:
    first, second = submissions("store")
    assert (first.state, second.state) == ("FAILED", "COMPLETED")
    assert int(second.minutes) == 2 * int(first.minutes)
    assert second.partition == "boost_usr_prod"  # the serial partition ends at four hours


def test_job_of_a_dead_node_runs_again_on_another(disturbed: Path) -> None:
    first, *_, last = submissions("features")
    assert first.state == "NODE_FAIL"
    assert last.state == "COMPLETED"
    assert first.node_list != last.node_list


def test_disturbed_workflow_ends_with_the_same_tables(disturbed: Path, undisturbed: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = [folder / f"results/tables/{name}.csv" for name in TABLES]
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    assert digests(disturbed) == digests(undisturbed)


def test_training_ran_with_two_ranks_on_each_of_two_nodes(disturbed: Path) -> None:
    metrics = json.loads((disturbed / "results/training/smoke.json").read_text())
    assert metrics["world_size"] == 4
    assert metrics["test_cases"] == 41  # no case twice, although 4 does not divide 41
    assert "world size 4 (torchrun)" in (disturbed / "logs/training/smoke.log").read_text()


def test_second_writer_of_a_state_is_refused_while_an_orphan_trains(orphaned: Path) -> None:
    refusal = (orphaned / "refusal.txt").read_text()
    assert "no other training is writing to" in refusal
    assert "scancel" in refusal


def test_training_goes_on_after_its_time_limit(orphaned: Path) -> None:
    log = (orphaned / "logs/training/smoke.log").read_text()
    step = int(log.split("going on from ")[1].split("after step ")[1].split(")")[0])
    assert 0 < step < LONG_TRAINING["training_smoke"]["steps"]


def test_resumed_training_ends_with_the_same_bits(orphaned: Path, tmp_path: Path) -> None:
    plan, output = write_plan(tmp_path, LONG_TRAINING), tmp_path / "snakemake.log"
    finish(start_controller(plan, output, "training_smoke", "--profile", "profiles/ci"), output)
    results = [f / "results/training/smoke.json" for f in (orphaned, tmp_path)]
    assert results[0].read_text() == results[1].read_text()


def test_cluster_is_idle_in_the_end(disturbed: Path, orphaned: Path, cluster: Cluster) -> None:
    wait_for(lambda: set(cluster.node_states().values()) == {"idle"}, "the nodes to be idle")
