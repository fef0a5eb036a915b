"""Where the numbers of a table are from: each cell's predictions files, with their hashes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from workflow_scripts.files import sha256_of, write_text
from workflow_scripts.report.long_form import csv_text, read_csv
from workflow_scripts.report.predictions import Header


class Source(NamedTuple):
    """One predictions file of a cell."""

    protocol: str
    row: str
    column: str
    seed: str
    predictions: str  # its path, as the rule gave it
    sha256: str


def source_of(header: Header) -> Source:
    """Return a predictions file with the place of its value."""
    path = header.path
    return Source(*header.cell, str(header.seed), path.as_posix(), sha256_of(path))


def write_sources(path: Path, sources: Iterable[Source]) -> None:
    """Write the sources of one table as CSV."""
    write_text(path, csv_text(Source._fields, sources))


def read_sources(path: Path) -> tuple[Source, ...]:
    """Return the sources of one table; a file of another kind is refused."""
    return tuple(Source(**line) for line in read_csv(path, Source._fields))
