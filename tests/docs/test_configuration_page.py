"""The reference of the configuration is up to date, and says enough of every knob."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_scripts.report.config_comments import comments, taken_apart
from workflow_scripts.report.configuration_page import main, section_knobs
from workflow_scripts.report.knobs import NEEDED, NOT_SET, Knob, Sources, shown, unit_of
from workflow_scripts.report.schema_words import allowed_of, kind_of, resolved
from workflow_scripts.settings import read_schema

ENTRIES = ("datasets", "checkpoints")  # shown in another way
COUNTS_NOTHING = {"seed", "seeds"}  # integers without a unit


@pytest.fixture(scope="module")
def sources(root: Path) -> Sources:
    text = (root / "config.yaml").read_text(encoding="utf-8")
    return Sources(read_schema(root / "rules/schemas"), comments(text))


@pytest.fixture(scope="module")
def every_knob(root: Path, sources: Sources) -> list[Knob]:
    config = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    sections = set(sources.root["properties"]) - set(ENTRIES)
    return [knob for name in sections for knob in section_knobs(config, sources, name)]


def leaves(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for name, one in value.items():
            yield from leaves(one, (*keys, name))
    else:
        yield keys


def test_committed_page_is_up_to_date(root: Path, tmp_path: Path) -> None:
    words = ["--config", "config.yaml", "--schemas", "rules/schemas"]
    main([*words, "--out", str(tmp_path / "page.md")])
    committed = root / "docs/reference/configuration.md"
    assert (tmp_path / "page.md").read_text() == committed.read_text()


def test_every_value_of_the_published_plan_is_on_the_page(
    root: Path, every_knob: list[Knob]
) -> None:
    config = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    names = [re.escape(knob.name).replace("<name>", r"[^.]+") for knob in every_knob]
    on_page = re.compile("|".join(rf"{name}(\..+)?" for name in names))  # or a map above it
    for keys in leaves({key: config[key] for key in config if key not in ENTRIES}, ()):
        name = ".".join(keys)  # an empty map stands for what may be below it
        assert on_page.fullmatch(name) or any(one.name.startswith(name) for one in every_knob), name


def test_every_knob_says_what_it_is(every_knob: list[Knob]) -> None:
    silent = [knob.name for knob in every_knob if not knob.meaning]
    # a variant's changes: their source is said, their meaning is that of what they change
    assert [name for name in silent if not name.startswith("crocodile.changes.")] == []


def test_every_integer_has_a_unit_and_every_number_a_source(every_knob: list[Knob]) -> None:
    for knob in every_knob:
        if "integer" in knob.kind and knob.keys[-1] not in COUNTS_NOTHING:
            assert knob.unit, f"{knob.name}: {knob.meaning}"
        if "number" in knob.kind and knob.default not in (NEEDED, NOT_SET):
            assert knob.source, knob.name


def test_a_comment_is_that_of_the_line_or_of_the_lines_above() -> None:
    text = "# what a is,\n# in two lines\na:\n  b: 'x # y' # said (ours)\n  c: {d: 1} # of all\n"
    assert comments(text) == {
        ("a",): "what a is, in two lines",
        ("a", "b"): "said (ours)",
        ("a", "c"): "of all",
    }


def test_brackets_at_the_end_are_a_source_only_if_they_name_one() -> None:
    assert taken_apart("one task (SSL transfer)") == ("one task (SSL transfer)", "")
    assert taken_apart("pixels (spec 2)") == ("pixels", "spec 2")
    assert taken_apart("released code: one seed") == ("", "released code: one seed")


def test_words_of_a_schema() -> None:
    root = {"$defs": {"seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}}}}
    seeds = {"$ref": "#/$defs/seeds", "minItems": 2}
    assert kind_of(seeds, root) == "list of integers"
    assert allowed_of(seeds, root) == "each: >= 0; at least 2"
    assert resolved(seeds, root)["minItems"] == 2
    assert kind_of({"type": ["integer", "null"]}, root) == "integer or null"
    assert allowed_of({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, root) == "> 0, <= 1"
    values = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
    assert allowed_of(values, root) == "any names; each: number >= 0"


def test_values_and_units_are_shown_as_written() -> None:
    assert shown({"a": [1, 2], "b": None}) == "a: 1, 2, b: null"
    assert shown([{"dataset": "x" * 100}]) == "1 entries"
    assert unit_of("list of numbers", "shares of the drawn strength") == "shares"
    assert unit_of("text", "images") == ""
