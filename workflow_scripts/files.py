"""Files that exist whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20  # read size for hashing


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a sibling file, then move it into place; a crash leaves the old file.

    Args:
        path: the file to make; its folder is created.
        write: called with the path of the sibling, which keeps the suffix of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        write(partial)
        with partial.open("rb+") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    write_atomic(path, lambda partial: void(partial.write_text(text, encoding="utf-8")))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as readable JSON (NaN refused), whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the bytes of `path`, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def void(_: object) -> None:
    """Drop a return value, so that a one-line writer fits `write_atomic`."""
