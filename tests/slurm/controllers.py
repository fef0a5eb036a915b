"""Snakemake controllers that submit to the throw-away cluster, and what SLURM remembers of it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.slurm.cluster import ACCOUNT, name_of, run

ROOT = Path(__file__).resolve().parent.parent.parent
COLUMNS = ("JobIDRaw", "Comment", "State", "Partition", "ReqCPUS", "ReqMem", "NNodes", "ReqTRES",
           "TimelimitRaw", "Account", "NodeList")  # fmt: skip


class Record(NamedTuple):
    """One submission, as SLURM's accounting tells it."""

    job: str
    comment: str
    state: str
    partition: str
    cpus: str
    memory: str
    nodes: str
    tres: str
    minutes: str
    account: str
    node_list: str

    @property
    def rule(self) -> str:
        """The rule that was submitted, alone or as a group (named group_RULE_RULE)."""
        name = self.comment.split("_wildcards_")[0]
        if name.startswith("group_"):
            return name.removeprefix("group_")[: (len(name) - len("group_")) // 2]
        return name.removeprefix("rule_")

    @property
    def gpus(self) -> int:
        """The GPUs that were asked for."""
        found = [part for part in self.tres.split(",") if part.startswith("gres/gpu=")]
        return int(found[0].split("=")[1]) if found else 0


def records() -> list[Record]:
    """Return every submission so far."""
    text = run("sacct", "-X", "-n", "-P", "-a", "-S", "now-1hours", "-o", ",".join(COLUMNS))
    return [Record(*line.split("|")) for line in text.splitlines()]


def write_plan(folder: Path, changes: Mapping[str, Any]) -> Path:
    """Write the small plan with folders of its own below `folder`; return its file."""
    plan = yaml.safe_load((ROOT / "tests/slurm/plan.yaml").read_text())
    plan["pathvars"] = {
        name: str(folder / name) for name in ("results", "logs", "benchmarks", "state")
    }
    file = folder / "plan.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({**plan, **changes}))
    return file


def start_controller(plan: Path, output: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start Snakemake with `words`; it writes to `output`."""
    command = [sys.executable, "-m", "snakemake", *words, "--configfile", str(plan), "--nolock"]
    with output.open("ab") as stream:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SLURM_ACCOUNT_NAME": ACCOUNT},
        )


def on_leonardo(logs: Path, resources: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Return the words that submit as on LEONARDO, polling faster.

    Args:
        logs: folder for SLURM's own logs.
        resources: by rule, laid over the profile's `set-resources`; the command line would
            replace them all.
    """
    profile = yaml.safe_load((ROOT / "profiles/leonardo/profile.v9+.yaml").read_text())
    merged = {**profile["set-resources"]}
    for rule, values in resources.items():
        merged[rule] = {**merged.get(rule, {}), **values}
    pairs = [f"{rule}:{k}={v}" for rule, values in merged.items() for k, v in values.items()]
    polling = ["--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "20"]
    places = ["--slurm-logdir", str(logs), "--slurm-efficiency-report-path", str(logs)]
    return ["--profile", "profiles/leonardo", *polling, *places, "--set-resources", *pairs]


def processes_of(module: str) -> list[int]:
    """Return the Python processes that run `module` as a step (not shells or Snakemake)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        words = name_of(pid).split()
        if words and "python" in words[0] and ("-m", module) in itertools.pairwise(words):
            found.append(pid)
    return found


def wait_for_step(module: str, controller: subprocess.Popen[bytes], patience_s: float) -> int:
    """Return a process that runs `module`, as soon as there is one."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if found := processes_of(module):
            return found[0]
        if controller.poll() is not None:
            raise RuntimeError(f"the controller ended before {module} ran")
        time.sleep(0.1)
    raise TimeoutError(f"waited {patience_s:.0f} s in vain for {module}")


def node_of(pid: int) -> str:
    """Return the node on which a process of a job runs."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return next(text for text in variables if text.startswith("SLURMD_NODENAME=")).split("=")[1]
