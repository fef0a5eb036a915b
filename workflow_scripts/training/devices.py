"""Where a training runs and in which precision; never on fewer processes than asked."""

from __future__ import annotations

import argparse
import atexit
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from workflow_scripts.problems import InputError, Problem
from workflow_scripts.training.ranks import Ranks, ranks_of

if TYPE_CHECKING:
    import torch
    from lightning.fabric import Fabric

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
BACKENDS = ("auto", "gloo", "nccl")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What the rule asked for.

    Attributes:
        gpus: GPUs on each node; 0 trains on the CPU.
        nodes: machines that take part.
        world_size: processes in all; 0 means one a GPU (or one, on the CPU).
        precision: `fp32` is exact float32 (the parity mode), `tf32` lets tensor cores round
            inputs to 10 bits, `bf16` and `fp16` are mixed precision (fp16 with a loss scaler).
        backend: how processes talk; `auto` is NCCL on GPUs and gloo on CPUs.
        deterministic: refuse GPU operations without a repeatable implementation (slower).
    """

    gpus: int = 0
    nodes: int = 1
    world_size: int = 0
    precision: Precision = "fp32"
    backend: str = "auto"
    deterministic: bool = False

    @property
    def processes(self) -> int:
        """The number of processes that have to take part."""
        return self.world_size or max(self.gpus, 1) * self.nodes


class Devices(NamedTuple):
    """A training's place: Fabric, the ranks, and the loss scaler of fp16 (else None)."""

    fabric: Fabric
    ranks: Ranks
    scaler: torch.amp.GradScaler | None


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `request_of` reads."""
    parser.add_argument("--gpus", type=int, default=0, help="GPUs on each node; 0: CPU")
    parser.add_argument("--nodes", type=int, default=1, help="machines that take part")
    parser.add_argument(
        "--world-size", type=int, default=0, help="processes in all; 0: one a GPU, or one"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="of the arithmetic; bf16 and tf32 need a GPU that has them",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="between ranks; auto: nccl on GPUs, gloo on the CPU",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="only repeatable GPU operations (slower)"
    )


def request_of(options: argparse.Namespace) -> DeviceRequest:
    """Return what the command line asked for."""
    return DeviceRequest(
        gpus=options.gpus,
        nodes=options.nodes,
        world_size=options.world_size,
        precision=options.precision,
        backend=options.backend,
        deterministic=options.deterministic,
    )


class Launcher(NamedTuple):
    """Who started this process, and as one of how many."""

    name: Literal["torchrun", "slurm", "alone"]
    world_size: int


def launcher_of(environment: Mapping[str, str]) -> Launcher:
    """Return who started this process, from its environment variables.

    SLURM counts only inside a job step with several tasks: the step that Snakemake's plugin
    makes has one task, and its variables would turn a request for two ranks into one.

    >>> launcher_of({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"})
    Launcher(name='alone', world_size=1)
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return Launcher("torchrun", int(environment["WORLD_SIZE"]))
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if "SLURM_STEP_ID" in environment and tasks > 1:
        return Launcher("slurm", tasks)
    return Launcher("alone", 1)


def check_request(
    request: DeviceRequest, launcher: Launcher, visible_gpus: int, has_bf16: bool
) -> None:
    """Raise `InputError` with everything that keeps `request` from being met as asked.

    Args:
        request: what was asked for.
        launcher: who started this process.
        visible_gpus: GPUs that this process sees.
        has_bf16: whether they compute in bfloat16.
    """
    problems = _wrong_world_size(request, launcher)
    if request.gpus > visible_gpus:
        problems.append(
            Problem(
                "--gpus",
                f"at most the {visible_gpus} visible GPUs of this node",
                str(request.gpus),
                "ask the job for them (resources: gpu), look at CUDA_VISIBLE_DEVICES and at "
                "`python -m workflow_scripts.report.doctor`, or train on the CPU with --gpus 0",
            )
        )
    if request.gpus == 0 and request.precision in ("fp16", "tf32"):
        choices = "fp32 or bf16 on the CPU"
        problems.append(
            Problem("--precision", choices, request.precision, "choose one, or ask for a GPU")
        )
    if request.gpus and request.precision == "bf16" and not has_bf16:
        found = "bf16 on a GPU without bfloat16"
        problems.append(Problem("--precision", "fp32 or fp16", found, "choose one of them"))
    if request.gpus == 0 and request.backend == "nccl":
        problems.append(Problem("--backend", "auto or gloo on the CPU", "nccl", "leave it out"))
    if problems:
        raise InputError(problems)


def _wrong_world_size(request: DeviceRequest, launcher: Launcher) -> list[Problem]:
    """Return the problems of a number of processes that was not asked for."""
    problems = []
    expected = max(request.gpus, 1) * request.nodes
    if request.gpus and request.processes != expected:
        problems.append(
            Problem(
                "--world-size",
                f"{expected} (one process a GPU: {request.nodes} nodes x {request.gpus} GPUs)",
                str(request.processes),
                "leave --world-size out, or change --gpus and --nodes",
            )
        )
    if request.processes % request.nodes:
        found = f"{request.processes} on {request.nodes} nodes"
        problems.append(
            Problem("--world-size", "a multiple of --nodes", found, "change one of the two")
        )
    if launcher.world_size != request.processes:
        local = max(request.processes // request.nodes, 1)
        problems.append(
            Problem(
                "world size",
                f"{request.processes} processes (as asked)",
                f"{launcher.world_size} (started by: {launcher.name})",
                f"start it with torchrun --nnodes={request.nodes} --nproc-per-node={local}, or "
                f"with srun --ntasks-per-node={local}; a plain start has one process",
            )
        )
    return problems


def set_up(
    request: DeviceRequest, *, find_unused_parameters: bool = False, sync_buffers: bool = True
) -> Devices:
    """Start Lightning Fabric exactly as asked, and join the other processes.

    Args:
        request: what the rule asked for.
        find_unused_parameters: for networks whose loss leaves some parameters without gradient.
        sync_buffers: before each update, rank 0's buffers (running statistics) go to all.

    Raises:
        InputError: if it cannot be met exactly as asked.
    """
    import torch

    launcher = launcher_of(os.environ)
    visible = torch.cuda.device_count() if request.gpus else 0
    has_bf16 = visible > 0 and torch.cuda.is_bf16_supported()
    check_request(request, launcher, visible, has_bf16)
    _choose_arithmetic(request)

    from lightning.fabric import Fabric

    precision, scaler = _precision_of(request)
    fabric = Fabric(
        accelerator="cuda" if request.gpus else "cpu",
        devices=request.processes // request.nodes,
        num_nodes=request.nodes,
        strategy=_strategy_of(request, find_unused_parameters, sync_buffers),
        plugins=[_environment_of(launcher), precision],
    )
    fabric.launch()
    atexit.register(_leave)
    if fabric.world_size != request.processes:  # Fabric may decide otherwise without a word
        raise RuntimeError(
            f"asked for {request.processes} processes, Fabric made {fabric.world_size}"
        )
    if fabric.global_rank == 0:
        logger.info(
            "training on %s, %s, world size %d (%s)",
            torch.cuda.get_device_name() if request.gpus else "CPU",
            request.precision,
            fabric.world_size,
            launcher.name,
        )
    return Devices(fabric, ranks_of(fabric.global_rank, fabric.world_size), scaler)


def _choose_arithmetic(request: DeviceRequest) -> None:
    """Make float32 mean float32 unless `tf32` was asked for; torch lets convolutions round."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = request.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = request.precision == "tf32"
    torch.backends.cudnn.benchmark = bool(request.gpus) and not request.deterministic
    if request.deterministic:
        # cuBLAS is repeatable only with a fixed workspace (NVIDIA, cuBLAS "Reproducibility").
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _precision_of(request: DeviceRequest) -> tuple[Any, torch.amp.GradScaler | None]:
    """Return Fabric's precision plugin, and the loss scaler where there is one."""
    import torch
    from lightning.fabric.plugins.precision import MixedPrecision
    from lightning.fabric.plugins.precision import Precision as Full

    device = "cuda" if request.gpus else "cpu"
    if request.precision == "bf16":
        return MixedPrecision(precision="bf16-mixed", device=device), None
    if request.precision == "fp16":
        scaler = torch.amp.GradScaler(device=device)
        return MixedPrecision(precision="16-mixed", device=device, scaler=scaler), scaler
    return Full(), None


def _strategy_of(request: DeviceRequest, find_unused: bool, sync_buffers: bool) -> Any:  # noqa: ANN401
    """Return Fabric's strategy: one device, or DDP over gloo or NCCL."""
    if request.processes == 1:
        return "auto"
    from lightning.fabric.strategies.ddp import DDPStrategy

    chosen = "nccl" if request.gpus else "gloo"
    without_sync: dict[str, Any] = {} if sync_buffers else {"forward_sync_buffers": False}
    return DDPStrategy(
        process_group_backend=chosen if request.backend == "auto" else request.backend,
        find_unused_parameters=find_unused,
        **without_sync,
    )


def _environment_of(launcher: Launcher) -> Any:  # noqa: ANN401
    """Return Fabric's view of who started the processes, said and not guessed."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if launcher.name == "torchrun":
        return TorchElasticEnvironment()
    if launcher.name == "slurm":
        return SLURMEnvironment(auto_requeue=False)  # Snakemake retries
    return LightningEnvironment()


def _leave() -> None:
    """Take leave of the other processes; without it NCCL complains at the end of each job."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
