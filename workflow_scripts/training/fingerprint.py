"""What a saved state belongs to: configuration, data, code, world size, torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.files import sha256_of
from workflow_scripts.problems import Problem

Fingerprint = dict[str, str]


def fingerprint(
    config: Mapping[str, Any], files: Mapping[str, Path], code: Iterable[Path], world_size: int
) -> Fingerprint:
    """Return one line of text for everything that a resumed training must share.

    Args:
        config: every option that changes the result (nested mappings are flattened).
        files: what is read, by name, such as the manifest; hashed.
        code: folders and files of the system; `workflow_scripts/training` is always included.
        world_size: processes of the training; the ranks' random states depend on it.
    """
    import torch

    lines = {f"config.{key}": value for key, value in sorted(_flatten(config))}
    lines |= {f"file.{name}": sha256_of(path) for name, path in sorted(files.items())}
    return lines | {
        "code": code_digest([*code, Path(__file__).parent]),
        "world_size": str(world_size),
        "torch": torch.__version__,
    }


def code_digest(places: Iterable[Path]) -> str:
    """Return the SHA-256 over all Python files of the folders and files in `places`.

    Where they lie does not matter: a moved check-out goes on with its states.
    """
    files = {
        (f"{place.name}/{file.relative_to(place)}" if place.is_dir() else place.name): file
        for place in places
        for file in (place.rglob("*.py") if place.is_dir() else [place])
    }
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(f"{name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def differences(now: Fingerprint, saved: Fingerprint, where: str) -> list[Problem]:
    """Return one problem for each line in which this run and the saved state differ."""
    way_out = (
        "start it as it was, or give it another state folder, or drop the saved state with "
        "--on-mismatch fresh"
    )
    return [
        Problem(
            f"{where}: {key}",
            f"{now.get(key, 'nothing')} (this run)",
            f"{saved.get(key, 'nothing')} (saved state)",
            way_out,
        )
        for key in sorted(now.keys() | saved.keys())
        if now.get(key) != saved.get(key)
    ]


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str)
