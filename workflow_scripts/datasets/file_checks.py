"""Checking the files of a data set once: a killed run goes on, a finished file is not read again.

In the cache, one line a file is appended as soon as it was checked: its path, size, time of
change, hash and verdict. A line counts only when its checksum fits, so one that was cut short by
a kill, or torn by two writers, is as good as absent. A file whose size or time differs is checked
again.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from workflow_scripts.code_digest import code_digest
from workflow_scripts.datasets.image_source import file_of
from workflow_scripts.datasets.integrity import FileVerdict, check_files
from workflow_scripts.datasets.layout import Layout

if TYPE_CHECKING:
    import pandas as pd

# A file changed this shortly before it was looked at may change again without a new time of
# change (coarse clocks of file systems): it is not remembered. Two seconds: the coarsest, FAT's.
SETTLED_NS: Final = 2_000_000_000
CHUNK: Final = 256  # files a worker process checks at a time
JUDGE: Final = "workflow_scripts.datasets.integrity"


class Stamp(NamedTuple):
    """What tells that a file has not changed: size in bytes, time of change."""

    size: int
    mtime_ns: int


def check_all(
    root: Path, paths: pd.Series, layout: Layout, jobs: int, cache: Path | None = None
) -> pd.DataFrame:
    """Return `sha256` and `reason` (None: usable) of each file, with a progress bar."""
    import pandas as pd
    from tqdm import tqdm

    stamps = [stamp_of(f"{root}/{file_of(path)}") if cache else None for path in paths]
    known = read_cache(cache, layout.modes) if cache else {}
    verdicts: list[FileVerdict | None] = []
    for path, stamp in zip(paths, stamps, strict=True):
        found = known.get(path)
        verdicts.append(found[1] if found is not None and found[0] == stamp else None)
    todo = [i for i, verdict in enumerate(verdicts) if verdict is None]
    chunks = [todo[i : i + CHUNK] for i in range(0, len(todo), CHUNK)]
    texts = paths.tolist()
    start_ns = time.time_ns()
    results = _checked([[texts[i] for i in chunk] for chunk in chunks], root, layout, jobs)
    with tqdm(total=len(todo), desc="checking files", unit="file", file=sys.stderr) as bar:
        for chunk, found_now in zip(chunks, results, strict=True):
            for i, verdict in zip(chunk, found_now, strict=True):
                verdicts[i] = verdict
            if cache:
                news = [(texts[i], stamps[i], v) for i, v in zip(chunk, found_now, strict=True)]
                append_to_cache(cache, layout.modes, news, start_ns)
            bar.update(len(chunk))
    frame = pd.DataFrame(verdicts, columns=["sha256", "reason"], index=paths.index, dtype=object)
    return frame.where(frame.notna(), None)


def _checked(
    chunks: Sequence[list[str]], root: Path, layout: Layout, jobs: int
) -> Iterator[list[FileVerdict]]:
    """Yield the verdicts of each chunk of paths, in order; several processes where it pays."""
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial

    check = partial(check_files, root, modes=layout.modes)
    if jobs <= 1 or len(chunks) <= 1:
        yield from map(check, chunks)
        return
    with ProcessPoolExecutor(max_workers=min(jobs, len(chunks))) as pool:
        yield from pool.map(check, chunks)


def stamp_of(path: str) -> Stamp | None:
    """Return the stamp of a file, None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns)


def read_cache(path: Path, modes: Iterable[str]) -> dict[str, tuple[Stamp, FileVerdict]]:
    """Return what is known of each file, by its path; nothing where other rules judged it.

    Args:
        path: the cache; it need not exist.
        modes: the Pillow modes that the layout allows; verdicts for others do not count.
    """
    known: dict[str, tuple[Stamp, FileVerdict]] = {}
    if not path.is_file():
        return known
    judge = _judge(modes)
    with path.open("rb") as handle:
        for line in handle:
            checksum, _, text = line.rstrip(b"\n").partition(b" ")
            if checksum != _checksum(text):
                continue
            rules, name, size, mtime_ns, sha256, reason = json.loads(text)
            if rules == judge:
                known[name] = Stamp(size, mtime_ns), FileVerdict(sha256, reason)
    return known


def append_to_cache(
    path: Path,
    modes: Iterable[str],
    checked: Sequence[tuple[str, Stamp | None, FileVerdict]],
    now_ns: int,
) -> None:
    """Remember files that were checked: path, stamp from before the check, verdict.

    A missing file and one that changed just before `now_ns`, the start of the check, are not.
    """
    judge = _judge(modes)
    lines = []
    for name, stamp, verdict in checked:
        if stamp is None or stamp.mtime_ns > now_ns - SETTLED_NS:
            continue
        text = json.dumps([judge, name, *stamp, *verdict]).encode()
        lines.append(_checksum(text) + b" " + text + b"\n")
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        if handle.tell():
            handle.write(b"\n")  # ends a line that a kill cut short; an empty one does no harm
        handle.write(b"".join(lines))


def _judge(modes: Iterable[str]) -> str:
    """Return what the verdicts depend on besides the file: the checking code and the modes."""
    return f"{code_digest(JUDGE)} {' '.join(sorted(modes))}"


def _checksum(text: bytes) -> bytes:
    return f"{zlib.crc32(text):08x}".encode()
