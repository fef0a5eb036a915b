"""Progress with a forecast: a bar on a terminal, one line now and then in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar, cast

Item = TypeVar("Item")

TERMINAL_PERIOD_S = 0.2
LOG_PERIOD_S = 30.0  # a log of an hour then holds 120 lines


class _Lines:
    """A text stream that ends each refresh of a bar with a new line, for files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        return self._stream.write(line + "\n") if line else 0

    def flush(self) -> None:
        self._stream.flush()


def progress(
    items: Iterable[Item], total: int, description: str, unit: str = "images"
) -> Iterator[Item]:
    """Yield `items`, showing on stderr how many are done, the speed and the time left.

    Args:
        items: what to go through; the bar moves by one an item.
        total: how many items there will be.
        description: what is being done, such as `decode chestx`.
        unit: what an item is.
    """
    from tqdm import tqdm

    is_terminal = sys.stderr.isatty()
    yield from tqdm(
        items,
        total=total,
        desc=description,
        unit=f" {unit}",
        mininterval=TERMINAL_PERIOD_S if is_terminal else LOG_PERIOD_S,
        maxinterval=TERMINAL_PERIOD_S if is_terminal else LOG_PERIOD_S,
        ascii=not is_terminal,
        ncols=None if is_terminal else 100,
        file=sys.stderr if is_terminal else cast(TextIO, _Lines(sys.stderr)),
    )
