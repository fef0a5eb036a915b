"""The doctor's look at this machine: libraries, driver, disk, weights, locks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.files import read_json, sha256_of
from workflow_scripts.report.doctor_finding import OK, PROBLEM, UNKNOWN, WARNING, Ask, Finding

OLDEST_PYTHON = (3, 11)  # pyproject.toml
FEW_BYTES = 20e9  # ours: below this a published plan does not fit (image stores, features)
FEW_TEMPORARY_BYTES = 2e9  # ours
SHOWN = 5  # names printed of a long list
LOCKS = ("requirements.lock", "requirements-cuda12.lock")
PIN = re.compile(r"^([A-Za-z0-9_.-]+==[^\\\n]+)", re.MULTILINE)


def python_version() -> Finding:
    """Compare this Python with the oldest that works."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Finding("Python", OK, found)
    step = "load a newer module (module avail python), then make PYTHON=python3.11 ..."
    return Finding("Python", PROBLEM, f"{found}, needed is 3.11 or newer", step)


def lock_match(folder: Path) -> Finding:
    """Compare the installed libraries with the lock file that they fit best."""
    installed = {
        _plain(one.metadata["Name"]): one.version for one in importlib.metadata.distributions()
    }
    wrong = {}
    for lock in [folder / name for name in LOCKS if (folder / name).is_file()]:
        pins = _pins(lock.read_text(encoding="utf-8"))
        wrong[lock] = [
            f"{name} {installed[name]} (locked {version})"
            for name, version in sorted(pins.items())
            if name in installed and installed[name].split("+")[0] != version
        ]
        if "snakemake" not in installed or "torch" not in installed:
            wrong[lock].append("snakemake or torch is missing")
    if not wrong:
        return Finding("libraries", UNKNOWN, f"no lock file in {folder}", "start it from the root")
    best = min(wrong, key=lambda lock: len(wrong[lock]))
    if not wrong[best]:
        return Finding("libraries", OK, f"as in {best}")
    found = f"{len(wrong[best])} differ from {best}: {', '.join(wrong[best][:SHOWN])}"
    return Finding("libraries", WARNING, found, f"make install LOCK={best}")


def _pins(lock: str) -> dict[str, str]:
    """Return the versions that a lock asks for on this machine, by plain name."""
    from packaging.requirements import Requirement

    asked = [Requirement(text.strip()) for text in PIN.findall(lock)]
    here = [one for one in asked if one.marker is None or one.marker.evaluate()]
    return {_plain(one.name): str(one.specifier).removeprefix("==") for one in here}


def _plain(name: str) -> str:
    """Return a distribution's name in the spelling that is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def torch_and_driver(ask: Ask) -> Finding:
    """Compare the CUDA that torch was built for with what the driver supports.

    Within one major version any driver runs any build (NVIDIA, CUDA minor version compatibility);
    a newer major needs a newer driver.
    """
    what = "torch and GPU driver"
    built = _torch_cuda()
    if built is None:
        return Finding(what, UNKNOWN, "torch is not installed, or built without CUDA")
    printed = ask(["nvidia-smi"])
    match = re.search(r"CUDA Version: *(\d+)\.(\d+)", printed or "")
    if match is None:
        step = (
            "none if no rule uses a GPU here; on a cluster's login node, ask a compute node: "
            "srun --gpus=1 ... python -m workflow_scripts.report.doctor"
        )
        return Finding(what, UNKNOWN, f"torch for CUDA {built}; no GPU driver answers here", step)
    driver = f"{match[1]}.{match[2]}"
    found = f"torch for CUDA {built}, driver for CUDA up to {driver}"
    if int(built.split(".")[0]) <= int(match[1]):
        return Finding(what, OK, found)
    step = "make install LOCK=envs/requirements-cuda12.lock, or ask for a newer driver"
    return Finding(what, PROBLEM, f"{found}: torch would see no GPU", step)


def _torch_cuda() -> str | None:
    """Return torch's CUDA version without importing torch, which takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def disks(folders: Iterable[Path]) -> Iterator[Finding]:
    """Look at the free space of each file system that is written to."""
    seen = set()
    for folder in folders:
        place = next(p for p in [folder, *folder.absolute().parents] if p.exists())
        device = place.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(place).free
        found = f"{free / 1e9:.0f} GB free at {place.resolve()}"
        step = "free some, or set pathvars in a --configfile to a larger file system ($WORK)"
        few = free < FEW_BYTES
        yield Finding("disk", WARNING if few else OK, found, step if few else "")


def temporary_folder() -> Finding:
    """Look at the folder for temporary files, which may be memory or tiny on a cluster."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / 1e9:.0f} GB free"
    if free >= FEW_TEMPORARY_BYTES:
        return Finding("temporary folder", OK, found)
    step = "export TMPDIR=<a folder on a large file system, such as $SCRATCH/tmp>"
    return Finding("temporary folder", WARNING, found, step)


def checkpoint_hashes(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare each weight file that is here with the hash that it was converted with."""
    certificates = Path(config["pathvars"]["results"]) / "checkpoints"
    phantom = config["phantoms"].get("checkpoints", False)
    for name, entry in config["checkpoints"].items():
        file = Path(config["source_root"]) / entry.get("file", "")
        certificate = certificates / name / "certificate.json"
        expected = entry.get("sha256")
        if certificate.is_file():
            expected = expected or (read_json(certificate)["source"] or {}).get("sha256")
        if phantom or "file" not in entry or not file.is_file() or expected is None:
            continue
        found = sha256_of(file)
        if found.startswith(expected):
            yield Finding(f"checkpoint {name}", OK, "the hash of its file is the expected one")
        else:
            step = f"remove {file} and run the target stage again, or get the file by hand"
            found = f"{file} has SHA-256 {found[:16]}..., expected {expected[:16]}..."
            yield Finding(f"checkpoint {name}", PROBLEM, found, step)


def state_locks(folder: Path, ask: Ask) -> Iterator[Finding]:
    """Say which training states are held, and whether the holder still lives."""
    held = []
    for lock in sorted(folder.rglob("lock")):
        text = lock.read_text(encoding="utf-8").strip()
        if not text:
            continue
        try:
            owner = json.loads(text)
        except json.JSONDecodeError:
            owner = {}
        job, host = str(owner.get("job", "")), owner.get("host", "an unknown host")
        state = ask(["squeue", "-h", "-j", job, "-o", "%T"]) if job else None
        lives = bool(state and state.strip())
        by = f"job {job} ({state.strip() if state else 'ended'})" if job else f"a process on {host}"
        step = f"wait for it or scancel {job}" if lives else "nothing: the next start takes it over"
        held.append(Finding("training state", WARNING, f"{lock.parent} held by {by}", step))
    yield from held
    if not held:
        yield Finding("training states", OK, f"none is held below {folder}")


def controller_lock(folder: Path) -> Finding:
    """Say whether a Snakemake holds the working folder, or died holding it."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return Finding("Snakemake's lock", OK, "free")
    step = (
        f"if no other snakemake runs ({os.environ.get('USER', 'your')} processes on every login "
        "node): squeue --me, wait for or scancel its jobs, then snakemake --unlock"
    )
    return Finding("Snakemake's lock", WARNING, f"held ({folder} is not empty)", step)
