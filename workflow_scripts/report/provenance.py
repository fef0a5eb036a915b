"""Step: what made these results: commit, configuration, lock file, libraries, machine, time.

Run by hand::

    python -m workflow_scripts.report.provenance --configuration config.yaml mine.yaml \
        --lock envs/requirements.lock --out provenance.json

Tables never depend on this file, so that equal predictions give equal tables on any machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workflow_scripts.command_line import run
from workflow_scripts.files import sha256_of, write_json
from workflow_scripts.problems import InputError, Problem

LIBRARIES = (
    "snakemake", "torch", "torchvision", "timm", "lightning", "numpy", "scipy", "scikit-learn",
    "pandas", "pyarrow", "pillow", "nibabel", "SimpleITK", "torchio", "matplotlib",
)  # fmt: skip
UNKNOWN = "unknown"


def provenance(configuration: Sequence[Path], lock: Path, now: datetime) -> dict[str, Any]:
    """Return what made the results.

    Args:
        configuration: the configuration and what was laid over it, in this order.
        lock: the lock file of the libraries.
        now: time of writing.

    Raises:
        InputError: one of the files is missing.
    """
    missing = [path for path in (*configuration, lock) if not path.is_file()]
    if missing:
        step = "check the path"
        raise InputError([Problem(str(path), "a file", "nothing", step) for path in missing])
    changes = _told("git", "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": _told("git", "rev-parse", "HEAD") or UNKNOWN,
        "changed_files": None if changes is None else len(changes.splitlines()),
        "made_at": now.isoformat(timespec="seconds"),
        "configuration": {path.as_posix(): sha256_of(path) for path in configuration},
        "lock": {lock.as_posix(): sha256_of(lock)},
        "python": platform.python_version(),
        "libraries": dict(filter(None, map(_version, LIBRARIES))),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(Path("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "memory_gib": _memory_gib(),
        "gpus": (
            _told("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or ""
        ).splitlines(),
    }


def _told(*command: str) -> str | None:
    """Return what a program prints; None where there is no such program or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None  # no repository, no driver: said as unknown, the results do not need it


def _version(name: str) -> tuple[str, str] | None:
    """Return a library with its installed version; None where it is not installed."""
    try:
        return name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor(listing: Path) -> str:
    """Return the processor's name from the kernel's listing, or what Python knows."""
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or UNKNOWN


def _memory_gib() -> float:
    """Return the machine's memory in GiB."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def described(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the page: what, and which."""
    changed = content["changed_files"]
    state = {None: "", 0: ", no file changed"}.get(changed, f", {changed} files changed since")
    gpus = ", ".join(content["gpus"]) or "no GPU"
    return [
        ("commit", content["commit"] + state),
        ("time", content["made_at"]),
        *((f"configuration {name}", f"sha256 {sha}")
          for name, sha in content["configuration"].items()),
        *((f"lock file {name}", f"sha256 {sha}") for name, sha in content["lock"].items()),
        ("machine", f"{content['system']}, {content['processor']}, {content['cores']} cores, "
         f"{content['memory_gib']} GiB, {gpus}"),
        ("libraries", ", ".join(
            f"{name} {version}"
            for name, version in {"Python": content["python"], **content["libraries"]}.items()
        )),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what made the results."""
    parser = argparse.ArgumentParser(description="Record what made these results.")
    parser.add_argument(
        "--configuration",
        type=Path,
        nargs="+",
        required=True,
        metavar="YAML",
        help="the files that were merged, first to last",
    )
    parser.add_argument("--lock", type=Path, required=True, help="of the libraries")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    write_json(options.out, provenance(options.configuration, options.lock, datetime.now(UTC)))


if __name__ == "__main__":
    sys.exit(run(main))
