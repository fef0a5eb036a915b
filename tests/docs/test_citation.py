"""CITATION.cff is valid and cites the five papers as the documentation does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

AUTHOR = {  # a person or an entity, as CFF 1.2.0 has them
    "anyOf": [
        {"type": "object", "required": ["family-names"]},
        {"type": "object", "required": ["name"]},
    ]
}
AUTHORS = {"type": "array", "minItems": 1, "items": AUTHOR}
DOI = {"type": "string", "pattern": r"^10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-.()\[\]\\]+$"}
REFERENCE = {
    "type": "object",
    "required": ["type", "title", "authors", "year"],
    "properties": {
        "type": {"enum": ["article", "conference-paper"]},
        "authors": AUTHORS,
        "doi": DOI,
        "year": {"type": "integer"},
        "conference": {"type": "object", "required": ["name"]},
    },
}
SCHEMA = {  # the part of CFF 1.2.0 that this file uses
    "type": "object",
    "additionalProperties": False,
    "required": ["cff-version", "message", "title", "authors"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "message": {"type": "string", "minLength": 1},
        "type": {"enum": ["software", "dataset"]},
        "title": {"type": "string", "minLength": 1},
        "version": {"type": ["string", "number"]},
        "license": {"const": "MIT"},
        "authors": AUTHORS,
        "keywords": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "references": {"type": "array", "items": REFERENCE},
    },
}


@pytest.fixture(scope="module")
def citation(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    return loaded


def test_the_file_fits_the_format(citation: dict[str, Any]) -> None:
    assert list(Draft202012Validator(SCHEMA).iter_errors(citation)) == []


def test_version_and_licence_are_the_packages(citation: dict[str, Any], root: Path) -> None:
    package = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])
    assert (root / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert f"## {package['version']} " in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_five_papers_are_cited_as_on_the_page_of_papers(
    citation: dict[str, Any], root: Path
) -> None:
    page = (root / "docs/explanation/README.md").read_text(encoding="utf-8")
    start = (root / "README.md").read_text(encoding="utf-8")
    assert len(citation["references"]) == 5
    for paper in citation["references"]:
        preprints = [one["value"] for one in paper.get("identifiers", ())]
        known = paper.get("doi") or preprints[0].removeprefix("arXiv:")
        assert known in page
        assert known in start
        assert paper["title"] in page
    linked = set(re.findall(r"doi\.org/([^)\s]+)", page))
    assert linked == {paper["doi"] for paper in citation["references"] if "doi" in paper}
