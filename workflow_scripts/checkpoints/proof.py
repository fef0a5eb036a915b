"""Is this the published file? Its hashes against what is known, and the lock of checksums.

Few publishers state a hash: torchvision writes the first digits of the SHA-256 into the name,
MoCo prints the first digits of the MD5. All others are recorded when the file is first
downloaded, in a tracked table (`results/published/checksums.csv`), and enforced ever after, here
and in every copy of the repository.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from workflow_scripts.checkpoints.file_kind import ZIP_START, digits_in_name, start_of
from workflow_scripts.checkpoints.options import CheckpointOptions
from workflow_scripts.files import CHUNK_BYTES, write_text
from workflow_scripts.problems import InputError, Problem, refuse


@dataclass(frozen=True, slots=True)
class Checksum:
    """One line of the lock: a file as it was when first downloaded."""

    file: str
    sha256: str
    size_bytes: int
    url: str


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file on disk is."""

    sha256: str
    md5: str
    size_bytes: int


def read_lock(path: Path) -> dict[str, Checksum]:
    """Return the recorded checksums by file name; none when there is no lock yet."""
    if not path.is_file():
        return {}
    names = [field.name for field in fields(Checksum)]
    with path.open(encoding="utf-8", newline="") as handle:
        table = csv.DictReader(handle)
        if table.fieldnames != names:
            found = ", ".join(table.fieldnames or ())
            want = f"columns {', '.join(names)}"
            raise refuse(str(path), want, found, "restore this file from the repository")
        rows = list(table)
    problems = [
        Problem(f"{path} row {number}", "a sha256 and a size", str(row), "restore this file")
        for number, row in enumerate(rows, start=2)
        if len(row["sha256"] or "") != 64 or not (row["size_bytes"] or "").isdigit()
    ]
    if problems:
        raise InputError(problems)
    return {
        row["file"]: Checksum(row["file"], row["sha256"], int(row["size_bytes"]), row["url"])
        for row in rows
    }


def record(path: Path, line: Checksum) -> None:
    """Add a line to the lock; several downloads may do so at once.

    Raises:
        InputError: if another process has meanwhile recorded other bytes under this name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.with_name(f".{path.name}.lock")):
        lines = read_lock(path)
        before = lines.get(line.file)
        if before is not None and before.sha256 != line.sha256:
            raise refuse(line.file, f"sha256 {before.sha256}", line.sha256, "compare the sources")
        lines[line.file] = before or line
        out = io.StringIO()
        names = [field.name for field in fields(Checksum)]
        table = csv.DictWriter(out, names, lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(lines[name]) for name in sorted(lines))
        write_text(path, out.getvalue())


@contextmanager
def exclusive(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; without `wait`, refuse when another process holds it."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            step = "wait for it, or end it; then run again"
            raise refuse(str(path), "no other download", "one under way", step) from error
        yield  # the file stays: removing it would let two holders lock two files of one name


def digest_of(path: Path) -> Digest:
    """Return hashes and size of a file, read once."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = 0
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
            size += len(chunk)
    return Digest(sha256.hexdigest(), md5.hexdigest(), size)


def proven(
    path: Path, name: str, options: CheckpointOptions, locked: Checksum | None
) -> tuple[Digest, list[str]]:
    """Return what a file is and what proved it; refuse one that is not the published file.

    Args:
        path: the file, perhaps under a temporary name.
        name: its published name.
        options: its entry in the configuration.
        locked: its line of the lock, if it has one.
    """
    start = start_of(path)
    if start.startswith(ZIP_START) and not zipfile.is_zipfile(path):
        raise refuse(str(path), "a whole zip", "one without its end", "get the file again, whole")
    digest = digest_of(path)
    digits = digits_in_name(name)
    known = [
        ("sha256 in the lock", locked.sha256 if locked else "", digest.sha256),
        ("sha256 in the configuration", options.sha256, digest.sha256),
        ("sha256 digits in the file's name", digits or "", digest.sha256),
        ("md5 digits its publisher states", options.md5_prefix, digest.md5),
        ("size its publisher states", str(options.size_bytes or ""), str(digest.size_bytes)),
    ]
    problems = [
        Problem(str(path), f"{what} {want}", have, "get the file again, from its publisher")
        for what, want, have in known
        if want and not (have == want if what.startswith("size") else have.startswith(want))
    ]
    if problems:
        raise InputError(problems)
    return digest, [what for what, want, _ in known if want]
