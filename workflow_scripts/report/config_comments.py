"""What `config.yaml` says of its keys: the comment on a key's line, or the lines above it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml

Keys = tuple[str, ...]
# words that a source begins with or holds; anything else in brackets belongs to the meaning
SOURCE = re.compile(
    r"\b(ours|spec|sections?|paper|paper's|printed|published|released|README|notebook|parser|"
    r"base code|DINO|et al|Fig|Tables?)\b"
)
AT_END = re.compile(r"(?:(?P<meaning>.*?)\s*)?\((?P<source>[^()]*)\)")


class Said(NamedTuple):
    """A comment, taken apart.

    Attributes:
        meaning: what the value is.
        source: where it comes from; empty where the comment does not say.
    """

    meaning: str
    source: str


def comments(text: str) -> dict[Keys, str]:
    """Return what is said of each key of a YAML file.

    Args:
        text: the file. Keys within lists and within `{...}` are not looked at.

    Returns:
        The comment behind a key on its line; without one, the lines of comment right above it.
    """
    behind, above = _of_lines(text)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = {keys: behind.get(line) or above.get(line, "") for keys, line in _keys(root, ())}
    return {keys: comment for keys, comment in found.items() if comment}


def taken_apart(comment: str) -> Said:
    """Return meaning and source of a comment.

    >>> taken_apart("labelled images a class (spec section 5)")
    Said(meaning='labelled images a class', source='spec section 5')
    >>> taken_apart("ours; the paper's rule is not published")
    Said(meaning='', source="ours; the paper's rule is not published")
    >>> taken_apart("folder below data_root")
    Said(meaning='folder below data_root', source='')
    """
    match = AT_END.fullmatch(comment)
    if match and SOURCE.search(match["source"]):
        return Said(match["meaning"] or "", match["source"])
    starts = SOURCE.match(comment)
    return Said("", comment) if starts else Said(comment, "")


def _of_lines(text: str) -> tuple[dict[int, str], dict[int, str]]:
    """Return the comment at the end of each line, and the block of comment above it."""
    ends: dict[int, int] = {}  # line: where its last token ends
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        mark = token.end_mark
        ends[mark.line] = max(ends.get(mark.line, 0), mark.column)
    behind, above, block = {}, {}, list[str]()
    for number, line in enumerate(text.splitlines()):
        words = line[ends.get(number, 0) :].strip()
        if line.strip().startswith("#"):
            block.append(line.strip().lstrip("# "))
            continue
        if words.startswith("#"):
            behind[number] = words.lstrip("# ")
        if block and line.strip():
            above[number] = " ".join(block)
        block = []
    return behind, above


def _keys(node: yaml.Node | None, keys: Keys) -> Iterator[tuple[Keys, int]]:
    """Yield every key of a mapping, and of those within it that have lines of their own."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        for key, value in node.value:
            here = (*keys, str(key.value))
            yield here, key.start_mark.line
            yield from _keys(value, here)
