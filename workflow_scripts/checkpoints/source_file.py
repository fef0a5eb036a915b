"""Weight files from elsewhere: opened without running their code; phantoms of them written."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from workflow_scripts.checkpoints.file_kind import (
    GET_FILE,
    PHANTOM_MARK,
    ZIP_START,
    digits_in_name,
    is_phantom,
    shown,
    start_of,
)
from workflow_scripts.checkpoints.old_torch import save_old_torch
from workflow_scripts.files import sha256_of, write_atomic
from workflow_scripts.problems import refuse

PICKLE_START = b"\x80"  # the format of torch before 1.6


def write_phantom_torch(path: Path, content: Mapping[str, Any], zip_format: bool = True) -> None:
    """Save `content` as torch does since 1.6 (a zip) or as before, with the phantom's mark.

    The mark is the zip's comment, or stands after the last object.
    """

    def write(partial: Path) -> None:
        """Fill the file beside the final one, so that no unmarked phantom ever has its name."""
        with partial.open("wb") as handle:  # given a path, torch would write its name inside
            if not zip_format:
                save_old_torch(content, handle)
                handle.write(PHANTOM_MARK)
                return
            torch.save(dict(content), handle)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.comment = PHANTOM_MARK

    write_atomic(path, write)


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
    digits = digits_in_name(path.name)
    if digits is None or is_phantom(path):
        return
    digest = sha256_of(path)
    if not digest.startswith(digits):
        raise refuse(
            str(path),
            f"a SHA-256 that begins with {digits}, as the name says",
            digest,
            GET_FILE + "; rename the file if it is your own",
        )
