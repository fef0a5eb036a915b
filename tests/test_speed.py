from __future__ import annotations

import subprocess
import sys

import pytest

from workflow_scripts.speed import set_threads, tune_allocator

STEPS = (
    "checkpoints.convert",
    "checkpoints.phantom",
    "ssl_transfer.features",
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_the_allocator_takes_the_setting_on_glibc() -> None:
    import platform

    assert tune_allocator() == (platform.libc_ver()[0] == "glibc")


def test_threads_are_set_for_loaded_libraries_and_for_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    import numpy as np
    from threadpoolctl import threadpool_info

    monkeypatch.setattr(os, "environ", dict(os.environ))
    np.ones((2, 2)) @ np.ones((2, 2))
    set_threads(1)
    assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one thread, got 0"):
        set_threads(0)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_shows_its_help_without_loading_torch(step: str) -> None:
    code = (
        f"import sys; from workflow_scripts.{step} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:6]) == (0, "usage:")
