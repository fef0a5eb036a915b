"""Phantom files and converted backbones, made once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints.published_files import Case, entry, run_convert
from workflow_scripts.checkpoints.formats import format_named


@pytest.fixture(scope="session")
def phantom_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """Return a function that writes the phantom of a case once and gives its path."""
    folder = tmp_path_factory.mktemp("published")

    def path_of(case: Case) -> Path:
        path = folder / f"{case.format}-{case.architecture}" / case.file
        if not path.exists():
            path.parent.mkdir()
            format_named(case.format).write_phantom(path, case.architecture, seed=5)
        return path

    return path_of


@pytest.fixture(scope="session")
def converted(
    tmp_path_factory: pytest.TempPathFactory, phantom_file: Callable[[Case], Path]
) -> Callable[[Case], tuple[Path, Path]]:
    """Return a function that converts a case's phantom once: backbone and certificate."""
    done: dict[Case, tuple[Path, Path]] = {}

    def of(case: Case) -> tuple[Path, Path]:
        if case not in done:
            folder = tmp_path_factory.mktemp("converted")
            done[case] = run_convert(folder, entry(case), phantom_file(case))
        return done[case]

    return of
