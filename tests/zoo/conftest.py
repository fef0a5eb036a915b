"""Parity with the frameworks that published the weights: `make test-zoo` runs these.

TensorFlow and JAX live in an environment of their own, whose Python is named in ZOO_PYTHON.
There they write files and features; here our readers, without them, must give the same.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ZOO_PYTHON = os.environ.get("ZOO_PYTHON")
collect_ignore_glob = [] if ZOO_PYTHON else ["test_*.py"]

Written = Callable[[str], Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Return a function that runs a script of `frameworks/` once and gives its folder."""
    folders: dict[str, Path] = {}

    def folder_of(script: str) -> Path:
        if script not in folders:
            folder = tmp_path_factory.mktemp(script)
            path = Path(__file__).parent / "frameworks" / f"{script}.py"
            subprocess.run([str(ZOO_PYTHON), str(path), str(folder)], check=True)
            folders[script] = folder
        return folders[script]

    return folder_of


@pytest.fixture(scope="session")
def frameworks_python() -> str:
    """Return the Python that has TensorFlow and JAX."""
    return str(ZOO_PYTHON)
