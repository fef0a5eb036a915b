"""Weight files from elsewhere: opened without running their code, and told from phantoms.

A phantom carries `PHANTOM_MARK` inside the file itself, at a place that its readers skip, so
the mark travels with every copy and no published file can be taken for a phantom or the
other way round.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from workflow_scripts.files import sha256_of, void, write_atomic
from workflow_scripts.problems import refuse

PHANTOM_MARK = b"STEADFAST PHANTOM: synthetic weights, not the published file"
EDGE_BYTES = 4096  # the mark lies within this distance of the start or the end of the file
ZIP_START = b"PK\x03\x04"
PICKLE_START = b"\x80"  # the format of torch before 1.6
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")  # torchvision: first digits of the sha256
GET_FILE = "download the file again, whole, and compare its size with the source's"


def is_phantom(path: Path) -> bool:
    """Tell whether a phantom writer made the file at `path`."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(EDGE_BYTES)
        handle.seek(max(0, size - EDGE_BYTES))
        return PHANTOM_MARK in start or PHANTOM_MARK in handle.read()


def write_phantom_torch(path: Path, content: Mapping[str, Any], zip_format: bool = True) -> None:
    """Save `content` as torch does since 1.6 (a zip) or as before, with the phantom's mark.

    The mark is the zip's comment, or stands after the last object.
    """

    def write(partial: Path) -> None:
        """Fill the file beside the final one, so that no unmarked phantom ever has its name."""
        with partial.open("wb") as handle:  # given a path, torch would write its name inside
            torch.save(dict(content), handle, _use_new_zipfile_serialization=zip_format)
        if zip_format:
            with zipfile.ZipFile(partial, "a") as archive:
                archive.comment = PHANTOM_MARK
            return
        with partial.open("ab") as handle:
            handle.write(PHANTOM_MARK)

    write_atomic(path, write)


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], is_phantom: bool = False
) -> None:
    """Save tensors as safetensors; a phantom's mark stands in the header's metadata.

    By way of bytes, because the library's own writer makes a file that only its owner can read.
    """
    metadata = {"phantom": PHANTOM_MARK.decode()} if is_phantom else None
    content = safetensors.torch.save(dict(tensors), metadata)
    write_atomic(path, lambda partial: void(partial.write_bytes(content)))


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


def is_safetensors(path: Path) -> bool:
    """Tell a safetensors file by its start: eight bytes of length, then a JSON object."""
    return start_of(path)[8:9] == b"{"


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file; a damaged one is refused."""
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise refuse(str(path), "a whole safetensors file", str(error), GET_FILE) from error


def read_torch(path: Path) -> Any:  # noqa: ANN401 (a torch file can hold any nesting)
    """Return what `torch.save` wrote: tensors and plain containers only, no code is run."""
    start = start_of(path)
    is_zip = start.startswith(ZIP_START)
    if not is_zip and not start.startswith(PICKLE_START):
        raise refuse(
            str(path),
            "a file written by torch.save",
            f"bytes {start[:8]!r} at its start",
            "check the option 'format' of this checkpoint; " + GET_FILE,
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except pickle.UnpicklingError as error:
        raise refuse(
            str(path),
            "tensors, numbers and texts only",
            first_sentence(error),
            "the file is cut short or holds Python objects; "
            + GET_FILE
            + ", or convert it to a plain state dict on a machine where you trust it",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise refuse(str(path), "a whole torch file", first_sentence(error), GET_FILE) from error


def first_sentence(error: Exception) -> str:
    """Return the start of an error's message, enough to recognise it."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


def state_dict_of(path: Path, content: object, wrapper: str | None = None) -> dict[str, Any]:
    """Return the state dict inside `content`: itself, or what stands under key `wrapper`."""
    if wrapper is not None and isinstance(content, Mapping):
        if wrapper not in content:
            raise refuse(
                str(path),
                f"key {wrapper!r}",
                f"keys {shown(content)}",
                "check the option 'format' of this checkpoint",
            )
        content = content[wrapper]
    if not isinstance(content, Mapping):
        raise refuse(
            str(path),
            "a state dict (names and tensors)",
            f"a {type(content).__name__}",
            "check the option 'format' of this checkpoint",
        )
    strangers = {key: value for key, value in content.items() if not torch.is_tensor(value)}
    if strangers:
        raise refuse(
            str(path),
            "tensors only",
            f"something else under {shown(strangers)}",
            "check the option 'format' of this checkpoint",
        )
    return dict(content)


def verify_name_hash(path: Path) -> None:
    """Compare a published file with the first digits of its SHA-256 in its own name."""
    match = HASH_IN_NAME.search(path.name)
    if match is None or is_phantom(path):
        return
    digest = sha256_of(path)
    if not digest.startswith(match[1]):
        raise refuse(
            str(path),
            f"a SHA-256 that begins with {match[1]}, as the name says",
            digest,
            GET_FILE + "; rename the file if it is your own",
        )


def shown(names: Mapping[Any, Any] | list[str], limit: int = 10) -> str:
    """Return the first names of a list and how many more there are."""
    texts = [str(name) for name in names]
    more = f", and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
