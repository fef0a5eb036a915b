"""Start a training's processes: one, several on this node, or several on each of several nodes.

    python -m workflow_scripts.launch --processes 4 --minutes 240 -m MODULE ARGUMENTS
    python -m workflow_scripts.launch --mpi srun --nodes 2 --processes 4 --threads 32 \\
        --minutes 240 -m MODULE ARGUMENTS

The rule is the same on a laptop and on a cluster; the profile's resources decide. The module gets
`--gpus`, `--nodes`, `--world-size` and `--minutes` added to its arguments, so that the geometry
is told once. `--minutes` becomes what SLURM says is left: the job began before Python did, and
jobs of a group share one time limit.

Across nodes: one `srun` task a node, each of which starts torchrun. Nothing is inherited by srun
inside Snakemake's SLURM plugin, so everything is spelt out.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from workflow_scripts.command_line import run
from workflow_scripts.problems import refuse
from workflow_scripts.speed import set_threads

TORCHRUN = "torch.distributed.run"
FIRST_PORT, PORTS = 20000, 20000  # ours: a port from the job's number, outside the usual services


class Geometry(NamedTuple):
    """How many processes, and where.

    Attributes:
        nodes: machines.
        processes: on each of them.
        gpus: on each of them; 0 trains on the CPU.
        threads: cores of the job on each of them.
    """

    nodes: int
    processes: int
    gpus: int
    threads: int


def time_left_minutes(text: str) -> float | None:
    """Return the minutes in SLURM's notation `[days-][hours:]minutes:seconds`, or None.

    >>> [time_left_minutes(text) for text in ("1-02:00:30", "59:30", "0:09", "UNLIMITED")]
    [1560.5, 59.5, 0.15, None]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return (days * 24 + hours) * 60 + minutes + seconds / 60


def minutes_for(limit: float, job: str | None) -> float:
    """Return the minutes that the training may use: what SLURM has left, at most `limit`."""
    if job is None:
        return limit
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--jobs", job, "--format", "%L"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return limit
    left = time_left_minutes(answer.stdout)
    return limit if left is None else min(left, limit)


def on_this_node(geometry: Geometry, minutes: float, words: Sequence[str]) -> list[str]:
    """Return the command that starts this machine's processes when it is the only machine.

    Args:
        geometry: of the training; one node.
        minutes: what the training may use.
        words: module and its arguments.
    """
    told = [*words, *_told(geometry, minutes)]
    if geometry.processes == 1:
        return [sys.executable, "-m", *told]
    start = [f"--nproc-per-node={geometry.processes}", "--standalone"]
    return [sys.executable, "-m", TORCHRUN, *start, "-m", *told]


def on_one_of(
    geometry: Geometry, minutes: float, words: Sequence[str], rank: int, first: str, job: int
) -> list[str]:
    """Return the command that starts one node's processes of a training on several.

    Args:
        geometry: of the whole training.
        minutes: what the training may use.
        words: module and its arguments.
        rank: of this node.
        first: name of the first node, where the processes meet.
        job: SLURM's job number; decides the port.
    """
    torchrun = [
        f"--nnodes={geometry.nodes}",
        f"--node-rank={rank}",
        f"--nproc-per-node={geometry.processes}",
        f"--master-addr={first}",
        f"--master-port={FIRST_PORT + job % PORTS}",
    ]
    told = [*words, *_told(geometry, minutes)]
    return [sys.executable, "-m", TORCHRUN, *torchrun, "-m", *told]


def across_nodes(geometry: Geometry, minutes: float, words: Sequence[str]) -> list[str]:
    """Return the `srun` call that starts this module once on each node."""
    step = [
        "srun",
        f"--nodes={geometry.nodes}",
        f"--ntasks={geometry.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={geometry.threads}",
        "--kill-on-bad-exit=1",  # a lost node ends the others, which would wait for ever
    ]
    step += [f"--gres=gpu:{geometry.gpus}"] * (geometry.gpus > 0)  # on each node
    options = [f"--{name}={value}" for name, value in geometry._asdict().items()]
    own = ["-m", "workflow_scripts.launch", "--on-node", *options, f"--minutes={minutes:g}"]
    return [*step, sys.executable, *own, "-m", *words]


def _told(geometry: Geometry, minutes: float) -> list[str]:
    world = geometry.nodes * geometry.processes
    return [
        f"--gpus={geometry.gpus}",
        f"--nodes={geometry.nodes}",
        f"--world-size={world}",
        f"--minutes={minutes:.2f}",
    ]


def _first_node() -> str:
    nodes = os.environ["SLURM_JOB_NODELIST"]
    names = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
    )
    return names.stdout.split()[0]


def command_of(options: argparse.Namespace) -> list[str]:
    """Return the command that the options ask for on this machine, now."""
    geometry = Geometry(options.nodes, options.processes, options.gpus, options.threads)
    job = os.environ.get("SLURM_JOB_ID")
    minutes = minutes_for(options.minutes, job)
    words = options.words
    if options.on_node:
        rank = int(os.environ["SLURM_NODEID"])
        return on_one_of(geometry, minutes, words, rank, _first_node(), int(job or 0))
    if options.mpi == "srun":
        return across_nodes(geometry, options.minutes, words)
    if geometry.nodes > 1:
        raise refuse(
            "resources of the rule",
            "mpi: srun for more than one node",
            f"nodes: {geometry.nodes}, mpi: {options.mpi!r}",
            "set mpi: srun and tasks: <nodes> for the rule in the profile",
        )
    return on_this_node(geometry, minutes, words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the training's launcher."""
    parser = argparse.ArgumentParser(description="Start a training's processes.")
    parser.add_argument("--mpi", default="", help="srun: start across nodes; empty: this node")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--processes", type=int, default=1, help="processes on each of them")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs on each of them; 0: CPU")
    parser.add_argument("--threads", type=int, default=1, help="cores on each of them")
    parser.add_argument("--minutes", type=float, required=True, help="the job's time limit")
    parser.add_argument("--on-node", action="store_true", help="used by srun, not by hand")
    parser.add_argument(
        "-m", dest="words", nargs=argparse.REMAINDER, required=True,
        metavar="MODULE ...", help="the training's module and its arguments; comes last",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    command = command_of(options)
    # Snakemake's SLURM plugin sets OMP_NUM_THREADS to the job's cores; the processes share them.
    set_threads(max(1, options.threads // options.processes))
    sys.stderr.write(" ".join(command) + "\n")
    sys.stderr.flush()
    module = command[2]
    if command[:2] == [sys.executable, "-m"] and module != TORCHRUN:
        # one process: this one, which may have the libraries imported already (warm.py)
        sys.argv = command[2:]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    os.execvp(command[0], command)  # noqa: S606 - signals then reach the training itself


if __name__ == "__main__":
    sys.exit(run(main))
