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


def write_safetensors(path: Path, content: bytes) -> None:
    """Write what safetensors' `save` returned, whole or not at all, its metadata in order.

    Not by the library's `save_file`: only the owner could read the file. The library's order of
    the metadata differs from run to run; in order, equal content has equal bytes.
    """
    size = int.from_bytes(content[:8], "little")  # of the header, JSON padded with blanks
    header = json.loads(content[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    ordered = len(text).to_bytes(8, "little") + text + content[8 + size :]
    write_atomic(path, lambda partial: void(partial.write_bytes(ordered)))


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
