"""What a target would run: one row a job, resources as the profile makes them, nothing started.

Snakemake plans, and a logger plugin of ours writes its structured events; no text is parsed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workflow_scripts.problems import refuse

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = Path(__file__).resolve().parent / "plugins"
MANY_CORES = "100000"  # a dry run would otherwise cut every rule's threads to one


@dataclass(frozen=True)
class PlannedJob:
    """One job of a plan.

    Attributes:
        rule: its rule.
        wildcards: name to value.
        inputs, outputs: paths; outputs as declared.
        benchmark: path of its benchmark file, or empty.
        log: paths of its logs.
        threads: cores.
        resources: after the profile; what is not yet known is left out.
        group: the submission it shares with others, or empty.
        is_local: runs where Snakemake runs and is never submitted.
    """

    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    benchmark: str
    log: tuple[str, ...]
    threads: int
    resources: Mapping[str, int | str]
    group: str
    is_local: bool

    @cached_property
    def name(self) -> str:
        """Rule and wildcards in one line."""
        values = ",".join(f"{key}={value}" for key, value in sorted(self.wildcards.items()))
        return f"{self.rule}[{values}]" if values else self.rule

    def number(self, resource: str) -> int:
        """Return a resource as a number; 0 where it is not asked for."""
        value = self.resources.get(resource, 0)
        return value if isinstance(value, int) else 0


def plan_jobs(words: Sequence[str], folder: Path = ROOT) -> list[PlannedJob]:
    """Return the jobs that `snakemake WORDS` would run, in Snakemake's order.

    Args:
        words: targets and options, such as `all --profile profiles/leonardo`; `-F` lists
            finished jobs as well.
        folder: of the repository.

    Raises:
        InputError: if Snakemake cannot plan it, with Snakemake's own message.
    """
    with tempfile.TemporaryDirectory() as temporary:
        events = Path(temporary, "events.jsonl")
        command = [
            *(sys.executable, "-m", "snakemake", *words, "--dry-run", "--nolock"),
            *("--cores", MANY_CORES, "--logger", "planned", "--logger-planned-file", str(events)),
        ]
        path = os.pathsep.join([str(PLUGINS), os.environ.get("PYTHONPATH", "")])
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise refuse(
                f"snakemake {' '.join(words)}",
                "a plan",
                (result.stdout + result.stderr)[-2000:].strip(),
                "correct target, profile or configuration",
            )
        lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    local = local_rules(folder)
    return [_job(json.loads(line), local) for line in lines]


def _job(row: Mapping[str, Any], local: frozenset[str]) -> PlannedJob:
    return PlannedJob(
        rule=row["rule"],
        wildcards=row["wildcards"],
        inputs=tuple(row["input"]),
        outputs=tuple(row["output"]),
        benchmark=row["benchmark"],
        log=tuple(row["log"]),
        threads=int(row["threads"]),
        resources=row["resources"],
        group=row["group"],
        is_local=row["rule"] in local,
    )


def local_rules(folder: Path = ROOT) -> frozenset[str]:
    """Return the rules marked `localrule: True`; a dry run does not tell them apart."""
    names = set()
    for file in [folder / "Snakefile", *sorted((folder / "rules").glob("*.smk"))]:
        blocks = re.split(r"^rule (\w+):$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name, body in zip(blocks[1::2], blocks[2::2], strict=True):
            if re.search(r"^    localrule: True$", body, re.MULTILINE):
                names.add(name)
    return frozenset(names)
