"""The shell commands that the documentation tells a reader to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:snakemake|python -m|make|torchrun|srun) [^`\n]+)`")
INDENTED = re.compile(r"^ {4}((?:python|snakemake|make|torchrun|srun|git) .+)$", re.MULTILINE)
SHELL = ("bash", "sh", "shell", "console")
BENCHMARKS = "docs/reference/benchmarks.md"  # generated; its commands stand indented


@dataclass(frozen=True, slots=True)
class Command:
    """One command of one page.

    Attributes:
        page: the file, relative to the repository.
        line: where it starts.
        text: as a shell takes it, continuation lines joined, without its comment.
        overlay: the last YAML block above it on the page; empty without one.
    """

    page: str
    line: int
    text: str
    overlay: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages(root: Path) -> list[Path]:
    """Return the pages whose commands a reader may type."""
    top = [root / "README.md", root / "CONTRIBUTING.md"]
    return [*top, *sorted((root / "docs").rglob("*.md"))]


def every_command(root: Path) -> list[Command]:
    """Return the commands of all pages, page by page from top to bottom."""
    found = []
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(root).as_posix()
        placed = [*_fenced(text), *_inline(text)]
        if name == BENCHMARKS:
            placed += [(match.start(), match[1]) for match in INDENTED.finditer(text)]
        for start, command in sorted(placed):
            line = text.count("\n", 0, start) + 1
            found.append(Command(name, line, command, _overlay(text, start)))
    return found


def outside_fences(text: str) -> str:
    """Return a page with every fenced block blanked out, places kept."""
    return FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _fenced(text: str) -> Iterator[tuple[int, str]]:
    for block in FENCE.finditer(text):
        if block[2] in SHELL:
            yield from _commands_of(block[3], block.start(3))


def _commands_of(block: str, start: int) -> Iterator[tuple[int, str]]:
    """Yield place and text of each command; one goes on while a quote or a backslash is open."""
    begun, pending = start, ""
    for line in block.splitlines(keepends=True):
        if not pending.strip():
            begun, pending = start, ""
        pending += line
        start += len(line)
        if pending.rstrip().endswith("\\"):
            continue
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # an open quote: the command goes on
            continue
        if words:
            yield begun, _without_comment(pending)
        pending = ""
    assert not pending.strip(), f"a command that never ends: {pending}"


def _without_comment(text: str) -> str:
    """Return a command without the comment at its end."""
    for match in reversed(list(re.finditer(r"(^|\s)#", text))):
        before = text[: match.start()]
        try:
            if shlex.split(before) == shlex.split(text, comments=True):
                text = before
        except ValueError:  # the sign is inside a quote
            continue
    return re.sub(r"\\\n\s*", "", text).strip()


def _inline(text: str) -> Iterator[tuple[int, str]]:
    for match in INLINE.finditer(outside_fences(text)):
        if "..." not in match[1]:  # the beginning of a command, not one
            yield match.start(), match[1]


def _overlay(text: str, place: int) -> str:
    blocks = [block[3] for block in FENCE.finditer(text[:place]) if block[2] == "yaml"]
    return blocks[-1] if blocks else ""
