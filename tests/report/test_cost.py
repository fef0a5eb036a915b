"""A forecast rests on the plan, on what ran, and says which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.report import cost
from workflow_scripts.report.cost import DECLARED, MEASURED, SCALED, Billing, forecast, history
from workflow_scripts.report.measured_jobs import Use, images_by_dataset, measured, scaled
from workflow_scripts.report.planned_jobs import PlannedJob

LEONARDO = Billing(32, 8, 494000)
HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def a_job(folder: Path, dataset: str = "bach", rule: str = "features") -> PlannedJob:
    return PlannedJob(
        rule=rule,
        wildcards={"dataset": dataset},
        inputs=(),
        outputs=(str(folder / f"{dataset}.npz"),),
        benchmark=str(folder / f"{dataset}.tsv"),
        log=(str(folder / f"{dataset}.log"),),
        threads=8,
        resources={"gpu": 1, "mem_mb": 32000, "runtime": 120, "nodes": 1},
        group="",
        is_local=False,
    )


def ran(job: PlannedJob, seconds: float, memory: float = 100.0, size: int = 1000) -> PlannedJob:
    Path(job.outputs[0]).write_bytes(b"x" * size)
    Path(job.benchmark).write_text(f"{HEAD}{seconds}\t0:00:01\t{memory}\t0\t0\t0\t0\t0\t0\t0\n")
    return job


def test_billing_takes_the_largest_share_of_a_node(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    assert LEONARDO.cores(job) == 8  # 8 cores, one GPU as 8, 32 GB as 2.07
    assert LEONARDO.cores(replace(job, resources={**job.resources, "gpu": 4})) == 32
    assert LEONARDO.cores(replace(job, resources={"mem_mb": 247000})) == 16
    two_nodes = {"gres": "gpu:4", "nodes": 2, "tasks": 2, "mem_mb": 4000}
    assert LEONARDO.cores(replace(job, threads=32, resources=two_nodes)) == 64
    assert cost.gpus_of(replace(job, resources=two_nodes)) == 8


def test_without_history_the_declared_limit_is_the_forecast(tmp_path: Path) -> None:
    (row,) = forecast([a_job(tmp_path)], {}, {}, LEONARDO)
    assert (row.basis, row.hours, row.gpu_hours, row.core_hours) == (DECLARED, 2.0, 2.0, 16.0)
    assert row.bytes is None


def test_a_job_that_ran_before_is_forecast_from_itself(tmp_path: Path) -> None:
    job = ran(a_job(tmp_path), 1800)
    (row,) = forecast([job], history([[job]]), {}, LEONARDO)
    assert (row.basis, row.hours, row.bytes) == (MEASURED, 0.5, 1000)


def test_a_job_like_one_that_ran_is_scaled_by_its_images(tmp_path: Path) -> None:
    job = a_job(tmp_path, "bach")
    seen = {"features": [(job, Use(36.0, 500.0, 1000, 100))]}
    new = a_job(tmp_path, "chestx")
    (row,) = forecast([new], seen, {"chestx": 10_000}, LEONARDO)
    assert (row.basis, row.bytes, row.memory_mb) == (SCALED, 100_000, 500.0)
    assert row.hours == pytest.approx(1.0)
    (row,) = forecast([new], seen, {"chestx": 1_000_000}, LEONARDO)
    assert row.hours == 2.0  # cut at the declared limit


def test_a_training_on_a_gpu_is_not_forecast_from_the_demos_few_steps(tmp_path: Path) -> None:
    shared = {"rule": "layer_ensembles_train"}
    tiny = replace(a_job(tmp_path, "bcdr", **shared), resources={"gpu": 0, "runtime": 1440})
    seen = {"layer_ensembles_train": [(tiny, Use(4.0, 500.0, 1000, 41))]}
    new = replace(a_job(tmp_path, "bcdr", **shared), benchmark="other.tsv")
    (row,) = forecast([new], seen, {"bcdr": 1493}, LEONARDO)
    assert (row.basis, row.hours) == (DECLARED, 2.0)
    (row,) = forecast([replace(new, resources=tiny.resources)], seen, {"bcdr": 1493}, LEONARDO)
    assert row.basis == SCALED


def test_a_local_job_costs_nothing_on_the_cluster(tmp_path: Path) -> None:
    (row,) = forecast([replace(a_job(tmp_path), is_local=True)], {}, {}, LEONARDO)
    assert (row.submission, row.gpu_hours, row.core_hours) == ("", 0.0, 0.0)


def test_jobs_of_a_group_are_one_submission(tmp_path: Path) -> None:
    jobs = [replace(a_job(tmp_path, name), group="features-1") for name in ("bach", "chestx")]
    rows = forecast(jobs, {}, {}, LEONARDO)
    assert "features     2            1" in cost.printed(rows)


def test_warm_steps_tell_their_memory_in_the_log(tmp_path: Path) -> None:
    job = ran(a_job(tmp_path), 3.0, memory=20.0)
    Path(job.log[0]).write_text("features done\nused 2.50 CPU-s, 1024 MiB at most\n")
    use = measured(job, {"bach": 60})
    assert use is not None
    assert use.memory_mb == pytest.approx(1073.7, abs=0.1)
    assert (use.seconds, use.images) == (3.0, 60)


def test_a_job_without_outputs_has_not_run(tmp_path: Path) -> None:
    job = ran(a_job(tmp_path), 3.0)
    Path(job.outputs[0]).unlink()
    assert measured(job, {}) is None


def test_nothing_known_scales_to_nothing() -> None:
    assert scaled([Use(3.0, None, 1, None)], 100) is None


def test_images_are_read_from_the_cards(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    job = replace(a_job(tmp_path, rule="manifest"), outputs=(str(card),))
    assert images_by_dataset([job]) == {}
    card.write_text(json.dumps({"flow": [{"images": 9}, {"images": 7}]}))
    assert images_by_dataset([job]) == {"bach": 7}


def test_comparison_sets_use_beside_forecast(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    rows = forecast([job], {}, {}, LEONARDO)
    assert "0/1" in cost.compared(rows)
    ran(job, 3600)
    assert "2.000 ->  1.000" in cost.compared(rows)


def test_a_missing_forecast_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make one with --out"):
        cost.main(["--compare", str(tmp_path / "none.json")])


def test_a_profile_without_billing_rule_counts_cores() -> None:
    assert cost.billing_of("profiles/slurm") == Billing()
    assert cost.billing_of("profiles/leonardo") == LEONARDO
