"""The how-to page works as it stands there: its commands are run, in its order."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.debiased_noise.test_service import free_port
from workflow_scripts.command_line import run
from workflow_scripts.debiased_noise.noise_edit import read_edit
from workflow_scripts.report.long_form import read_values

PAGE = Path("docs/how-to/fairer-embedding-api.md")
PORT = "8008"  # of the page; the test takes a free one


def commands(port: int) -> Iterator[tuple[str, list[str]]]:
    """Yield module and arguments of every command of the page."""
    text = PAGE.read_text(encoding="utf-8").replace(PORT, str(port))
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        for line in block.strip().splitlines():
            python, flag, module, *arguments = shlex.split(line)
            assert (python, flag) == ("python", "-m")
            yield module, arguments


def wait_for(port: int) -> None:
    """Wait until the service answers."""
    from workflow_scripts.debiased_noise.client import HttpFoundation, Patience
    from workflow_scripts.debiased_noise.queries import QueryCount

    patience = Patience(timeout_s=10.0, retries=100, first_pause_s=0.05, longest_pause_s=0.1)
    HttpFoundation(f"http://127.0.0.1:{port}", QueryCount(), None, patience, time.sleep).close()


def test_every_command_of_the_page_runs_and_ends_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    planned = list(commands(port))
    assert len(planned) == 17
    monkeypatch.chdir(tmp_path)
    services = []
    try:
        for module, arguments in planned:
            main = import_module(module).main
            if module.endswith(".serve"):
                services.append(get_context("fork").Process(target=main, args=(arguments,)))
                services[-1].start()
                wait_for(port)
            else:
                assert run(main, arguments) == 0, module
    finally:
        for service in services:
            service.terminate()
            service.join()
    values = {(value.row, value.column, value.metric) for value in read_values(
        tmp_path / "clinic/fairness.csv"
    )}  # fmt: skip
    rows = {row for row, _, _ in values}
    assert rows == {"ERM, api", "DNE GeZO paper, api"}
    assert {metric for _, _, metric in values} >= {"eo_n", "eo_n_null", "leak_retrained"}
    _, card = read_edit(tmp_path / "clinic/noise_edit.safetensors")
    assert card["image_queries"] == 3200  # as the page says
    assert (tmp_path / "clinic/fairness.png").stat().st_size > 10_000


def test_the_page_tells_the_published_cost() -> None:
    from workflow_scripts.debiased_noise.gezo import Settings, planned_batch_queries

    assert 128 * planned_batch_queries("paper", Settings(), 50) == 256_000
    assert "256,000" in PAGE.read_text(encoding="utf-8")
