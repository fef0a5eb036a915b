"""Every workflow test runs without network: only what hangs below `stage` may need it.

`tests/conftest.py` puts `tests/offline` on the path of Snakemake and of every step it starts, so
the tiny plan of `test_end_to_end.py`, from phantoms to report, proves it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def in_python(program: str, root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root / "tests/offline")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)",
    ],
)
def test_the_block_stops_a_step_that_asks_for_the_network(program: str, root: Path) -> None:
    result = in_python(program, root)
    assert result.returncode != 0
    assert "may not use the network" in result.stderr


def test_the_block_leaves_loopback_to_distributed_training(root: Path) -> None:
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(s.getsockname()); print('through')"
    )
    assert in_python(program, root).stdout == "through\n"


def test_workflow_tests_run_behind_the_block(root: Path) -> None:
    source = (root / "tests/conftest.py").read_text()
    assert '"PYTHONPATH": str(ROOT / "tests/offline")' in source
