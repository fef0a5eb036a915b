"""One option of a protocol, with its reason and the source of its released value."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(why: str, source: str) -> Any:  # noqa: ANN401, typed by the annotation of its field
    """Return a field that says why it exists and where its released value is from."""
    return field(metadata={"why": why, "source": source})
