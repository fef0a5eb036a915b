"""What a JSON schema asks of a value, in a reader's words. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
KINDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true, false"}
PLURALS = {"integer": "integers", "number": "numbers", "text": "texts", "true, false": "booleans"}


def resolved(schema: Schema, root: Schema) -> Schema:
    """Return a schema with its `$ref` followed; what stands beside the reference wins.

    >>> resolved({"$ref": "#/$defs/a", "maximum": 2}, {"$defs": {"a": {"type": "integer"}}})
    {'type': 'integer', 'maximum': 2}
    """
    if "$ref" not in schema:
        return schema
    found: Schema = root
    for part in str(schema["$ref"]).removeprefix("#/").split("/"):
        found = found[part]
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**resolved(found, root), **beside}


def kind_of(schema: Schema, root: Schema) -> str:
    """Return the type of a value.

    >>> kind_of({"type": "array", "items": {"type": "integer"}}, {})
    'list of integers'
    """
    schema = resolved(schema, root)
    if "enum" in schema or "const" in schema:
        return "integer" if type(_choices(schema)[0]) is int else "text"
    kinds = schema.get("type", "object")
    if isinstance(kinds, list):  # [integer, "null"]
        return " or ".join(KINDS.get(one, "null") for one in kinds)
    if kinds == "array":
        inner = kind_of(schema["items"], root)
        return f"list of {PLURALS.get(inner, inner + 's' if ' ' not in inner else 'lists')}"
    if kinds == "object":
        return "map"
    return KINDS[str(kinds)]


def allowed_of(schema: Schema, root: Schema) -> str:
    """Return the values that are allowed; empty where the type says it all.

    >>> allowed_of({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, {})
    '>= 0, < 1'
    >>> allowed_of({"type": "array", "minItems": 1, "items": {"enum": ["a", "b"]}}, {})
    'each: `a`, `b`; at least one'
    """
    schema = resolved(schema, root)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{one}`" for one in _choices(schema))
    if schema.get("type") == "array":
        return "; ".join(filter(None, _of_list(schema, root)))
    if schema.get("type") == "object":
        return _of_map(schema, root)
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    words = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    if "multipleOf" in schema:
        words.append(f"a multiple of {schema['multipleOf']}")
    if "pattern" in schema:
        words.append(f"like `{schema['pattern']}`")
    return ", ".join(words)


def _choices(schema: Schema) -> list[Any]:
    return list(schema["enum"]) if "enum" in schema else [schema["const"]]


def _of_list(schema: Schema, root: Schema) -> list[str]:
    """Return what is asked of a list's items and of their number."""
    items = resolved(schema["items"], root)
    inner = "" if "properties" in items else allowed_of(items, root)
    low, high = schema.get("minItems"), schema.get("maxItems")
    if low is not None and low == high:
        number = f"exactly {low}"
    else:
        number = ("at least one" if low == 1 else f"at least {low}") if low else ""
    return [f"each: {inner}" if inner else "", number]


def _of_map(schema: Schema, root: Schema) -> str:
    """Return what is asked of a map's keys and values."""
    names = schema.get("properties")
    if names:
        asked = {_value_words(one, root) for one in names.values()}
        keys = ", ".join(f"`{name}`" for name in names)
        return f"{keys}; each: {asked.pop()}" if len(asked) == 1 else keys
    values = schema.get("additionalProperties")
    return f"any names; each: {_value_words(values, root)}" if isinstance(values, Mapping) else ""


def _value_words(schema: Schema, root: Schema) -> str:
    """Return type and allowed values of one of a map's values."""
    described = str(resolved(schema, root).get("description", ""))
    words = [kind_of(schema, root), allowed_of(schema, root) or described]
    return " ".join(filter(None, words))
