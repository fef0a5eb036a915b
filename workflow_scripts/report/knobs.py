"""Every knob of the configuration with all that is known of it. Pure functions.

Type and allowed values come from the schema, the value from `config.yaml`, and meaning, unit and
source from the comment on its line there (the schema's description where it has no line).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow_scripts.report.config_comments import Keys, taken_apart
from workflow_scripts.report.schema_words import Schema, allowed_of, kind_of, resolved

NOT_SET, NEEDED = "not set", "needed"
ANY_NAME, OF_LIST = "<name>", "[]"
LONGEST = 90  # characters of a value that is shown in full
COUNTED = (
    *("pixels", "images", "slices", "volumes", "patients", "cases", "updates", "epochs", "passes"),
    *("windows", "validations", "tasks", "directions", "processes", "GPUs", "channels", "heads"),
    *("layers", "units", "networks", "versions", "classes", "resamples", "learning rates"),
)
MEASURED = ("pixel units", "share", "shares", "fraction")
UNITS = {  # of each type: the words of a meaning that are its unit
    "integer": re.compile(rf"\b({'|'.join(COUNTED)})\b"),
    "number": re.compile(rf"\b({'|'.join(MEASURED)})\b"),
}


@dataclass(frozen=True, slots=True)
class Knob:
    """One line of the reference page.

    Attributes:
        keys: where it stands; `<name>` is any name, `[]` every entry of a list.
        kind: its type.
        unit: what a number counts or measures; empty where it has none.
        default: its value in `config.yaml`.
        allowed: values that are accepted, beyond the type.
        meaning: what it is.
        source: where the default comes from.
    """

    keys: Keys
    kind: str
    unit: str
    default: str
    allowed: str
    meaning: str
    source: str

    @property
    def name(self) -> str:
        """The dotted name.

        >>> Knob(("a", "[]", "b"), "", "", "", "", "", "").name
        'a[].b'
        """
        return ".".join(self.keys).replace(f".{OF_LIST}", OF_LIST)


@dataclass(frozen=True, slots=True)
class Sources:
    """What the knobs are read from.

    Attributes:
        root: the schema of the whole configuration.
        said: comment of each key, see `config_comments.comments`.
    """

    root: Schema
    said: Mapping[Keys, str]


def knobs(sources: Sources, keys: Keys, schema: Schema, value: object) -> Iterator[Knob]:
    """Yield a key's knobs: itself, or what is below it.

    Args:
        sources: what the knobs are read from.
        keys: where the key stands.
        schema: of its value.
        value: in `config.yaml`; None where it does not stand there.
    """
    schema = resolved(schema, sources.root)
    inner = schema.get("properties")
    entries = resolved(schema.get("additionalProperties") or {}, sources.root)
    given = value if isinstance(value, Mapping) else {}
    if inner and any(one[:-1] == keys for one in sources.said):
        for name, one in inner.items():
            yield from knobs(sources, (*keys, name), one, given.get(name))
    elif "properties" in entries:
        yield from _of_entries(sources, keys, entries, given)
    else:
        yield _knob(sources, keys, schema, NOT_SET if value is None else shown(value))
        items = resolved(schema.get("items") or {}, sources.root)
        for name, one in items.get("properties", {}).items():
            default = NEEDED if name in items.get("required", ()) else NOT_SET
            yield _knob(sources, (*keys, OF_LIST, name), one, default)


def _of_entries(
    sources: Sources, keys: Keys, schema: Schema, given: Mapping[str, Any]
) -> Iterator[Knob]:
    """Yield the knobs that each entry of a map of free names has."""
    for name, one in schema["properties"].items():
        values = {entry: value[name] for entry, value in given.items() if name in value}
        default = "; ".join(f"{entry}: {shown(value)}" for entry, value in values.items())
        here = (*keys, ANY_NAME, name)
        lines = (sources.said.get((*keys, entry, name)) for entry in values)
        comment = next(filter(None, lines), "")
        told = Sources(sources.root, {**sources.said, **({here: comment} if comment else {})})
        yield _knob(told, here, one, default or NOT_SET)


def _knob(sources: Sources, keys: Keys, schema: Schema, default: str) -> Knob:
    """Return one line of the page."""
    schema = resolved(schema, sources.root)
    own = taken_apart(sources.said.get(keys, ""))
    meaning = own.meaning or str(schema.get("description", "")) or _of_step(sources, keys)
    kind = kind_of(schema, sources.root)
    is_number = re.search("integer|number", kind) and default not in (NOT_SET, NEEDED)
    source = own.source or (_source_above(sources, keys) if is_number else "")
    allowed = allowed_of(schema, sources.root)
    return Knob(keys, kind, unit_of(kind, meaning), default, allowed, meaning, source)


def unit_of(kind: str, meaning: str) -> str:
    """Return what a number counts or measures: the first unit that its meaning names.

    >>> unit_of("integer", "labelled images a class"), unit_of("number", "of the images")
    ('images', '')
    """
    words = next((words for name, words in UNITS.items() if name in kind), None)
    found = words.search(meaning) if words else None
    return found[1] if found else ""


def _of_step(sources: Sources, keys: Keys) -> str:
    """Return what an entry's key means that repeats a key of its step."""
    above = keys[:-3]  # of `finetune.columns[].lr`: `finetune`
    same = (*above, keys[-1])
    if OF_LIST not in keys or same not in sources.said:
        return ""
    return f"{taken_apart(sources.said[same]).meaning}; in place of `{'.'.join(same)}`"


def _source_above(sources: Sources, keys: Keys) -> str:
    """Return the source of the nearest key above that states one."""
    above = (sources.said.get(keys[:depth], "") for depth in range(len(keys) - 1, 0, -1))
    return next((said.source for said in map(taken_apart, above) if said.source), "")


def shown(value: object) -> str:
    """Return a value as it would be written, or how long it is.

    >>> shown([1, 2]), shown({"a": 1.0e-8}), shown(["x" * 40] * 3), shown(True)
    ('1, 2', 'a: 1e-08', '3 entries', 'true')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Mapping):
        words = ", ".join(f"{key}: {shown(one)}" for key, one in value.items())
        return _or_length(words, value, "{}")
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = (f"{{{shown(one)}}}" if isinstance(one, Mapping) else shown(one) for one in value)
        return _or_length(", ".join(parts), value, "[]")
    return str(value)


def _or_length(words: str, value: Mapping[Any, Any] | Sequence[Any], empty: str) -> str:
    """Return the words, or the number of entries where they are too long."""
    if not value:
        return empty
    is_short = len(words) <= LONGEST and " entries" not in words
    return words if is_short else f"{len(value)} entries"
