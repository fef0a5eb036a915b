"""Fetching one file over HTTP so that what arrives is whole: resumed, counted, never a page.

The bytes go to `FILE.part`. A broken transfer is resumed with a range request when the server
named a version of the file (ETag or date) and still has the same; otherwise it starts afresh.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import logging
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO

from workflow_scripts.files import CHUNK_BYTES, write_json

log = logging.getLogger(__name__)

TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # HTTP states that pass
LONGEST_WAIT_S = 120.0
Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all


class Unfit(Exception):
    """This address does not give the file; asking again would not help."""


class Interrupted(Exception):
    """The transfer broke off; asking again may help."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to keep trying."""

    attempts: int = 5  # in a row that bring nothing new
    wait_s: float = 2.0  # before the second attempt; doubles each time
    timeout_s: float = 60.0  # of silence


@dataclass(slots=True)
class State:
    """What is known of a partial file, kept beside it."""

    url: str = ""
    version: str = ""  # the server's ETag or date; empty: cannot be resumed
    total: int | None = None  # bytes


def fetch(url: str, part: Path, patience: Patience, progress: Progress) -> None:
    """Bring the file at `url` to `part`, in as many attempts as bring something new.

    Raises:
        Unfit: if the address gives no file, another one than announced, or keeps breaking off.
    """
    best = failures = 0
    while True:
        try:
            attempt(url, part, patience.timeout_s, progress)
        except Interrupted as error:
            have = part.stat().st_size if part.exists() else 0
            failures = 0 if have > best else failures + 1
            best = max(best, have)
            if failures >= patience.attempts:
                raise Unfit(f"broke off {failures} times in a row: {error}") from error
            pause = min(LONGEST_WAIT_S, patience.wait_s * 2**failures)
            log.info("%s: %s; again in %.1f s", url, error, pause)
            time.sleep(pause)
        else:
            return


def attempt(url: str, part: Path, timeout_s: float, progress: Progress) -> None:
    """Ask once, for what is missing."""
    state = read_state(part, url)
    have = part.stat().st_size if state.version and part.exists() else 0
    if have and have == state.total:
        return
    headers = {"User-Agent": "steadfast", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state.version}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (options allow http only)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            receive(answer, part, url, have, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is longer than the file
            forget(part)
        if error.code in TRY_AGAIN or error.code == 416:
            raise Interrupted(f"HTTP {error.code} {error.reason}") from error
        raise Unfit(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise Interrupted(str(error) or type(error).__name__) from error


def receive(
    answer: Any,  # noqa: ANN401 (urllib's response has no public type)
    part: Path,
    url: str,
    have: int,
    progress: Progress,
) -> None:
    """Write an answer's bytes behind those that are there, and count them."""
    headers: Message = answer.headers
    if headers.get_content_type() == "text/html":
        raise Unfit(f"a web page instead of the file ({answer.geturl()})")
    offset, total = extent(answer.status, headers, have)
    is_chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    part.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - offset > free:
        raise Unfit(f"{total - offset} bytes to come, {free} free on the disk of {part.parent}")
    version = headers.get("ETag", "") or headers.get("Last-Modified", "")
    is_weak = version.startswith("W/")  # such an ETag promises no equal bytes
    remember(part, State(url, "" if is_weak else version, total))
    with part.open("r+b" if offset else "wb") as handle:
        handle.seek(offset)
        handle.truncate()
        count = copy(answer, handle, offset, total, progress)
    if total is None and not is_chunked:
        raise Unfit("the server does not say how long the file is: a cut would go unseen")
    if total is not None and count != total:
        raise Interrupted(f"{count} of {total} bytes came")
    prove_google_hash(headers, part)


def copy(
    answer: Any,  # noqa: ANN401
    handle: BinaryIO,
    offset: int,
    total: int | None,
    progress: Progress,
) -> int:
    """Copy the answer's bytes and return the file's length; a page by its first byte is refused."""
    count = offset
    while chunk := answer.read1(CHUNK_BYTES):
        if count == 0 and chunk.lstrip()[:1] == b"<":
            raise Unfit(f"a web page instead of the file ({answer.geturl()})")
        handle.write(chunk)
        count += len(chunk)
        progress(count, total)
    return count


def extent(status: int, headers: Message, have: int) -> tuple[int, int | None]:
    """Return where the answer's bytes begin in the file, and the file's length if named."""
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise Unfit(f"another range than asked for: {headers.get('Content-Range')}")
        return have, int(match[2])
    length = headers.get("Content-Length")
    return 0, int(length) if length and length.isdigit() else None


def prove_google_hash(headers: Message, part: Path) -> None:
    """Compare with the MD5 that Google's storage sends along, where it does."""
    for value in headers.get_all("x-goog-hash", []):
        for field in value.split(","):
            kind, _, text = field.strip().partition("=")
            if kind != "md5":
                continue
            with part.open("rb") as handle:
                digest = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False))
            if base64.b64decode(text) != digest.digest():
                forget(part)
                raise Interrupted("other bytes than the server's own MD5 says")


def state_path(part: Path) -> Path:
    """Return the file that says what a partial file is."""
    return part.with_name(f"{part.name}.json")


def remember(part: Path, state: State) -> None:
    """Note address, version and length of what is being written."""
    content = {"url": state.url, "version": state.version, "total": state.total}
    write_json(state_path(part), content)


def read_state(part: Path, url: str) -> State:
    """Return what is known of a partial file; nothing if it came from another address."""
    try:
        state = State(**json.loads(state_path(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return State()
    return state if state.url == url else State()


def forget(part: Path) -> None:
    """Remove a partial file and its note."""
    for path in (part, state_path(part)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
