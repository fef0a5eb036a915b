"""The file formats in which weights are published: one module a format, found by its name.

A format is a module of this package with

- `LIBRARY`: whose tensor names it ends in, `torchvision` or `timm`;
- `read(path, architecture)`: the file's tensors under those names, heads left out;
- `write_phantom(path, architecture, seed)`: the same kind of file with synthetic weights.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from workflow_scripts.problems import nearest, refuse

if TYPE_CHECKING:
    from workflow_scripts.checkpoints.conversion import ConvertedTensors
    from workflow_scripts.checkpoints.options import CheckpointOptions


class Format(Protocol):
    """What a module of this package offers."""

    LIBRARY: str

    def read(self, path: Path, architecture: str) -> ConvertedTensors:
        """Return the tensors of `path` under the library's names; heads are left out."""

    def write_phantom(self, path: Path, architecture: str, seed: int) -> None:
        """Write a file of this format with synthetic weights, marked as phantom."""


def format_names() -> list[str]:
    """Return the names of all formats, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def format_named(name: str) -> Format:
    """Return the module of format `name`; an unknown name is refused with the nearest one."""
    names = format_names()
    if name not in names:
        raise refuse(
            "checkpoint option 'format'",
            f"one of {', '.join(names)}",
            repr(name),
            f"{nearest(name, names)} or add workflow_scripts/checkpoints/formats/{name}.py",
        )
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def library_of(options: CheckpointOptions) -> str:
    """Return the library of a checkpoint's format; an entry that names another is refused."""
    library = format_named(options.format).LIBRARY
    if options.library not in ("", library):
        raise refuse(
            "checkpoint option 'library'",
            f"{library!r}, the library of format {options.format!r}",
            repr(options.library),
            "leave 'library' out, or choose another 'format'",
        )
    return library
