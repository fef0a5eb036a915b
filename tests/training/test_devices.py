"""A training runs on what was asked for, or not at all."""

from __future__ import annotations

import pytest

from workflow_scripts.problems import InputError
from workflow_scripts.training.devices import (
    DeviceRequest,
    Launcher,
    check_request,
    launcher_of,
)

ALONE = Launcher("alone", 1)


def refusal(request: DeviceRequest, launcher: Launcher = ALONE, gpus: int = 0) -> str:
    with pytest.raises(InputError) as refused:
        check_request(request, launcher, gpus, has_bf16=False)
    return str(refused.value)


def test_torchrun_and_slurms_own_ranks_are_told_apart() -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "SLURM_STEP_NUM_TASKS": "2"}
    assert launcher_of({**torchrun, "SLURM_STEP_ID": "0"}) == Launcher("torchrun", 8)
    srun = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    assert launcher_of(srun) == Launcher("slurm", 4)
    assert launcher_of({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}) == ALONE  # no step: sbatch


def test_a_single_task_step_asked_for_two_gpus_is_refused_and_told_how_to_start() -> None:
    # What Snakemake's plugin makes; Fabric alone would train on one rank without a word.
    step = launcher_of({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"})
    message = refusal(DeviceRequest(gpus=2), step, gpus=2)
    assert "expected 2 processes (as asked), found 1 (started by: alone)" in message
    assert "torchrun --nnodes=1 --nproc-per-node=2" in message


def test_more_processes_than_asked_are_refused_too() -> None:
    assert "found 4 (started by: slurm)" in refusal(DeviceRequest(), Launcher("slurm", 4))


@pytest.mark.parametrize(
    ("request_", "launcher", "gpus"),
    [
        (DeviceRequest(), ALONE, 0),
        (DeviceRequest(precision="bf16"), ALONE, 0),
        (DeviceRequest(gpus=1, precision="fp16"), ALONE, 4),
        (DeviceRequest(gpus=4, nodes=6), Launcher("torchrun", 24), 4),
        (DeviceRequest(world_size=4, nodes=2), Launcher("torchrun", 4), 0),
    ],
)
def test_what_can_be_met_is_accepted(
    request_: DeviceRequest, launcher: Launcher, gpus: int
) -> None:
    check_request(request_, launcher, gpus, has_bf16=False)


def test_gpus_that_are_not_there_are_refused() -> None:
    assert "at most the 0 visible GPUs of this node, found 1" in refusal(DeviceRequest(gpus=1))


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_gpu_precisions_are_refused_on_the_cpu(precision: str) -> None:
    message = refusal(DeviceRequest(precision=precision))  # type: ignore[arg-type]
    assert f"expected fp32 or bf16 on the CPU, found {precision}" in message


def test_bf16_on_a_gpu_without_it_is_refused() -> None:
    assert "fp32 or fp16" in refusal(DeviceRequest(gpus=1, precision="bf16"), gpus=1)


def test_all_problems_come_in_one_message() -> None:
    message = refusal(
        DeviceRequest(world_size=3, nodes=2, precision="fp16", backend="nccl"),
        Launcher("torchrun", 3),
    )
    assert message.count("next step") == 3
    assert "a multiple of --nodes, found 3 on 2 nodes" in message


def test_a_world_size_other_than_one_process_a_gpu_is_refused() -> None:
    message = refusal(DeviceRequest(gpus=2, world_size=3), Launcher("torchrun", 3), gpus=2)
    assert "expected 2 (one process a GPU: 1 nodes x 2 GPUs), found 3" in message
