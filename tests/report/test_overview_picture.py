"""The README's picture is made of the demo's figures, a panel a system."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from workflow_scripts.problems import InputError
from workflow_scripts.report.overview_picture import GAP, ROWS, TITLE, WIDTH, main


def demo(folder: Path) -> None:
    """Write a figure of 200 x 100 pixels for each panel, each in a colour of its own."""
    for number, panel in enumerate(panel for row in ROWS for panel in row):
        path = folder / panel.figure.replace("*", "x")
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (200, 100), (50 * number, 200, 10)).save(path)


def test_panels_stand_in_rows_of_one_width(tmp_path: Path) -> None:
    demo(tmp_path)
    main(["--results", str(tmp_path), "--out", str(tmp_path / "demo.png")])
    picture = Image.open(tmp_path / "demo.png").convert("RGB")
    half = (WIDTH - GAP) // 2
    heights = [TITLE + WIDTH // 2, TITLE + round(half / 2), TITLE + round(half / 2)]
    assert picture.size == (WIDTH, sum(heights) + 2 * GAP)
    assert picture.getpixel((WIDTH // 2, heights[0] - 5)) == (0, 200, 10)
    below = heights[0] + GAP + TITLE + 20
    assert picture.getpixel((20, below)) == (50, 200, 10)
    assert picture.getpixel((WIDTH - 20, below)) == (100, 200, 10)


def test_a_missing_figure_is_named(tmp_path: Path) -> None:
    demo(tmp_path)
    (tmp_path / "figures/debiased_noise_fairness_plane.png").unlink()
    with pytest.raises(InputError, match=r"_fairness_plane\.png.*run make demo first"):
        main(["--results", str(tmp_path), "--out", str(tmp_path / "demo.png")])
    assert not (tmp_path / "demo.png").exists()


def test_every_system_has_a_panel() -> None:
    names = " ".join(panel.figure for row in ROWS for panel in row)
    for system in ("crocodile", "ssl_transfer", "cooperative", "layer_ensembles", "debiased_noise"):
        assert system in names
