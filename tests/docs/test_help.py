"""Every step explains itself, at once: its --help works, loads no torch, and knows every word."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workflow_scripts.report.commands_page import main, step_names

HEAVY = ("torch", "torchvision", "timm", "lightning", "matplotlib.pyplot", "torchio", "lpips")
ASK = """
import json, sys
from importlib import import_module
from workflow_scripts.report.commands_page import documented, parser_of, with_subcommands
found = {}
for name in sys.argv[2:]:
    module = import_module("workflow_scripts." + name)
    parser = parser_of(module.main)
    known = [one for _, each in with_subcommands(parser) for one in documented(each)]
    found[name] = {
        "help": parser.format_help(),
        "about": bool(module.__doc__ and (parser.description or "").strip()),
        "silent": [str(one.option_strings or one.dest) for one in known if not one.help],
        "heavy": [one for one in json.loads(sys.argv[1]) if one in sys.modules],
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def asked(root: Path) -> dict[str, Any]:
    words = [sys.executable, "-c", ASK, json.dumps(HEAVY), *step_names()]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_there_are_steps_of_every_kind(asked: dict[str, Any]) -> None:
    assert len(asked) > 60
    kinds = {name.split(".")[0] for name in asked}
    assert kinds >= {"crocodile", "ssl_transfer", "cooperative_training", "layer_ensembles"}
    assert kinds >= {"debiased_noise", "datasets", "checkpoints", "phantoms", "report", "training"}


def test_help_says_what_a_step_does(asked: dict[str, Any]) -> None:
    assert [name for name, one in asked.items() if not one["about"]] == []
    assert all(one["help"].startswith("usage:") for one in asked.values())


def test_every_argument_is_documented(asked: dict[str, Any]) -> None:
    assert {name: one["silent"] for name, one in asked.items() if one["silent"]} == {}


def test_no_step_loads_a_heavy_library_before_it_read_its_words(asked: dict[str, Any]) -> None:
    first = {library: name for name in reversed(asked) for library in asked[name]["heavy"]}
    assert first == {}, "the first step that loads each library"


def test_one_command_line_from_outside(root: Path) -> None:
    words = [sys.executable, "-m", "workflow_scripts.ssl_transfer.few_shot", "--help"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:6], done.stderr) == (0, "usage:", "")


def test_committed_page_is_up_to_date(root: Path, tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "page.md")])
    committed = root / "docs/reference/commands.md"
    assert (tmp_path / "page.md").read_text() == committed.read_text(), "run: make pages"
