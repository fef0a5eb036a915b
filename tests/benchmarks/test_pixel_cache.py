"""The pixel benchmark compares equal tensors, and the timing helper tells the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pixel_cache import equal, measure
from benchmarks.timing import compare


@pytest.mark.slow
def test_pixels_from_the_store_equal_those_from_the_files(tmp_path: Path) -> None:
    rows = measure(tmp_path, scale=0.02)
    assert [row.name for row in rows] == ["B10 pixel-cache png", "B10 pixel-cache jpeg"]
    assert all(row.equal for row in rows)
    assert all(row.ratio > 1 for row in rows)


def test_a_single_changed_bit_is_noticed() -> None:
    images = [np.zeros((2, 3, 4, 4), dtype=np.float32)]
    changed = [images[0].copy()]
    assert equal(images, changed)
    changed[0].view(np.uint32)[0, 0, 0, 0] = 1
    assert not equal(images, changed)


def test_ratio_is_the_share_of_cpu_time_and_different_results_are_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(n: int) -> int:
        return sum(range(n))

    row = compare("sums", lambda: work(3_000_000), lambda: work(300_000), lambda a, b: a == b)
    assert 4 < row.ratio < 25
    assert not row.equal
    assert capsys.readouterr().out.startswith("sums | ")
