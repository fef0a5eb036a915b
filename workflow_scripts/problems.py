"""Refusing bad input: every problem of a file in one message, each with the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MAX_SHOWN = 20  # problems printed in one message; the rest are counted


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input.

    Attributes:
        where: file, and row or key, such as `labels.csv row 118`.
        expected: what should stand there.
        found: what stands there.
        next_step: what the user can do about it.
    """

    where: str
    expected: str
    found: str
    next_step: str

    def __str__(self) -> str:
        return (
            f"{self.where}: expected {self.expected}, found {self.found}; "
            f"next step: {self.next_step}"
        )


class InputError(Exception):
    """The input cannot be used; the message lists every problem found.

    >>> print(InputError([Problem("a.csv", "column 'path'", "columns x, y", "name the column")]))
    a.csv: expected column 'path', found columns x, y; next step: name the column
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        if not self.problems:
            raise ValueError("an InputError needs at least one problem")
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"... and {len(self.problems) - MAX_SHOWN} more problems")
        super().__init__("\n".join(lines))


def refuse(where: str, expected: str, found: str, next_step: str) -> InputError:
    """Return an `InputError` with a single problem, ready to raise."""
    return InputError([Problem(where, expected, found, next_step)])


def require_files(paths: Iterable[Path | None]) -> None:
    """Raise where a file is not there; None, an argument that was not given, is passed over.

    Raises:
        InputError: every file that is not there.
    """
    problems = [
        Problem(str(path), "a file", "nothing", "check the path, or run the rule that makes it")
        for path in paths
        if path is not None and not path.is_file()
    ]
    if problems:
        raise InputError(problems)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return advice that names the valid word most like `name`, or all of them.

    >>> nearest("few_shto", ["few_shot", "linear"])
    "did you mean 'few_shot'?"
    >>> nearest("x", ["few_shot", "linear"])
    'choose one of few_shot, linear'
    """
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(names)}"
