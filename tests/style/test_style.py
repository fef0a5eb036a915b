"""The checks that keep the code readable; each is a command a developer runs as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

COMMANDS = {
    "ruff_lint": ["ruff", "check", "."],
    "ruff_format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "snakefmt": ["snakefmt", "--check", "--compact-diff", "Snakefile", "rules"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_style_check_finds_nothing(name: str, root: Path) -> None:
    tool, *words = COMMANDS[name]
    result = subprocess.run(
        [str(Path(sys.executable).parent / tool), *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_conda_environments_have_the_locked_versions(root: Path) -> None:
    lock = (root / "envs/requirements.lock").read_text()
    for file in (root / "envs").glob("*.yaml"):
        for line in yaml.safe_load(file.read_text())["dependencies"]:
            name, version = line.split("=")
            if name != "python":
                pin = f"{ {'pytorch': 'torch'}.get(name, name) }=={version} "
                assert f"\n{pin}" in f"\n{lock}", f"{file.name}: {line}"


def test_lock_holds_no_address(root: Path) -> None:
    text = (root / "envs/requirements.lock").read_text()
    assert "://" not in text
    assert "index-url" not in text
