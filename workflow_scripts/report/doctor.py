"""Is this place fit to run the workflow? Each finding says what to do.

    python -m workflow_scripts.report.doctor --profile profiles/leonardo

Looks, changes nothing. Works without SLURM and without GPU: what cannot be looked at here is
said to be so. On a cluster the login node usually has no GPU; ask a compute node as well::

    srun -A $SLURM_ACCOUNT_NAME -p boost_usr_prod --gpus=1 -t 5 \\
        python -m workflow_scripts.report.doctor
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.command_line import run
from workflow_scripts.report import doctor_machine, doctor_slurm
from workflow_scripts.report.doctor_finding import OK, PROBLEM, UNKNOWN, WARNING, Finding, ask

WIDTH = 100  # columns; a common terminal
SIGNS = {OK: "ok", WARNING: "look", PROBLEM: "FAULT", UNKNOWN: "?"}


def examine(profile_folder: Path, config: Mapping[str, Any]) -> list[Finding]:
    """Return all findings, in the order in which they matter."""
    import yaml

    file = profile_folder / "profile.v9+.yaml"
    profile = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    findings = [
        doctor_machine.python_version(),
        doctor_machine.lock_match(Path("envs")),
        doctor_machine.torch_and_driver(ask),
        *doctor_machine.disks([Path("."), Path(config["pathvars"]["results"])]),
        doctor_machine.temporary_folder(),
        *doctor_machine.checkpoint_hashes(config),
        *doctor_machine.state_locks(Path(config["pathvars"]["state"]), ask),
        doctor_machine.controller_lock(Path(".snakemake/locks")),
    ]
    if profile.get("executor") == "slurm":
        findings += doctor_slurm.examine(profile, profile_folder / "partitions.yaml", ask)
    return findings


def printed(findings: Sequence[Finding]) -> str:
    """Return the findings, a line each, and below what to do."""
    lines = []
    for finding in findings:
        start = f"{SIGNS[finding.status]:<6}{finding.what}: "
        lines += textwrap.wrap(start + finding.found, WIDTH, subsequent_indent=" " * 6)
        if finding.next_step:
            lines += textwrap.wrap(
                f"next step: {finding.next_step}", WIDTH, initial_indent=" " * 6,
                subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    counts = {status: sum(f.status == status for f in findings) for status in SIGNS}
    words = ", ".join(f"{count} {SIGNS[status]}" for status, count in counts.items())
    return "\n".join([*lines, words]) + "\n"


def merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return `top` laid over `base`, as Snakemake does: dictionaries merge, the rest replaces."""
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the findings; the exit status is 1 when there is a fault."""
    import yaml

    parser = argparse.ArgumentParser(description="Say whether this place can run the workflow.")
    parser.add_argument(
        "--profile",
        type=Path,
        default=Path("profiles/leonardo"),
        help="the profile that shall run here",
    )
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="laid over config.yaml"
    )
    options = parser.parse_args(arguments)
    config: dict[str, Any] = {}
    for file in [Path("config.yaml"), *options.configfile]:
        config = merged(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    findings = examine(options.profile, config)
    sys.stdout.write(printed(findings))
    if any(finding.status == PROBLEM for finding in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(run(main))
