"""What kind of file this is, told without opening it: a weight file, a page, a phantom.

A phantom carries `PHANTOM_MARK` inside the file itself, at a place that its readers skip, so
the mark travels with every copy and no published file can be taken for a phantom or the
other way round. Light on purpose: the download step starts without torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.problems import refuse

PHANTOM_MARK = b"STEADFAST PHANTOM: synthetic weights, not the published file"
EDGE_BYTES = 4096  # the mark lies within this distance of the start or the end of the file
ZIP_START = b"PK\x03\x04"
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")  # torchvision: first digits of the sha256
GET_FILE = "download the file again, whole, and compare its size with the source's"


def is_phantom(path: Path) -> bool:
    """Tell whether a phantom writer made the file at `path`."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(EDGE_BYTES)
        handle.seek(max(0, size - EDGE_BYTES))
        return PHANTOM_MARK in start or PHANTOM_MARK in handle.read()


def start_of(path: Path) -> bytes:
    """Return the first bytes of a file that may hold weights; refuse what cannot."""
    if not path.is_file():
        raise refuse(str(path), "a weight file", "no such file", "check the path, or download it")
    with path.open("rb") as handle:
        start = handle.read(EDGE_BYTES)
    if not start:
        raise refuse(str(path), "a weight file", "an empty file", GET_FILE)
    if start.lstrip()[:1] == b"<":
        raise refuse(
            str(path),
            "a weight file",
            "a web page (a login, preview or error page)",
            "open the address in a browser, do what the page asks, and save the file itself",
        )
    if start.startswith(b"version https://git-lfs"):
        raise refuse(
            str(path), "a weight file", "a Git LFS pointer", "fetch the content: git lfs pull"
        )
    return start


def digits_in_name(name: str) -> str | None:
    """Return the first digits of the SHA-256 that torchvision writes into a file's name.

    >>> digits_in_name("resnet18-f37072fd.pth")
    'f37072fd'
    """
    match = HASH_IN_NAME.search(name)
    return match[1] if match else None


def shown(names: Mapping[Any, Any] | list[str], limit: int = 10) -> str:
    """Return the first names of a list and how many more there are."""
    texts = [str(name) for name in names]
    more = f", and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
