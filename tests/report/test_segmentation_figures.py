"""Pictures of segmentations, from arrays and scores alone: what is drawn is what is in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from workflow_scripts.predictions import CASE_COLUMNS, METADATA_NAMES, write_case_scores
from workflow_scripts.report import segmentation_figures
from workflow_scripts.report.segmentation_figures import COLOURS, draw

SIZE = 12
LEVELS = (("none", 0.0), ("RandomBias", 0.5), ("RandomBias", 1.0))


def write_cases(path: Path, data: str = "phantom") -> Path:
    """Write three ranked cases with two numbers of passes; the best has a square of MYO."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"passes": np.array([0, 2]), "data": np.array(data)}
    for rank, dice in (("best", 0.91), ("median", 0.5), ("worst", 0.123)):
        labels = np.zeros((SIZE, SIZE), np.uint8)
        labels[2:6, 3:7] = 2
        arrays |= {
            f"{rank}_image": rng.random((SIZE, SIZE)),
            f"{rank}_truth": labels,
            f"{rank}_pass0": np.zeros_like(labels),
            f"{rank}_pass2": labels,
            f"{rank}_name": np.array(f"001_{rank}, slice 4"),
            f"{rank}_dice": np.array([dice / 2, dice]),
        }
    with path.open("wb") as handle:
        np.savez(handle, **arrays)
    return path


def write_hard_examples(path: Path, data: str = "phantom") -> Path:
    shape = (2, 3, SIZE, SIZE)
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    labels[1, 2, :, :4] = 3
    arrays = {
        "image": rng.random((SIZE, SIZE)),
        "truth": labels[0, 0],
        "reconstruction": rng.random((SIZE, SIZE)),
        "corrupted_image": rng.random(shape),
        "corrupted_labels": labels,
        "entropy": 2 * rng.random(shape),
        "kinds": np.array(["dropout", "channel"]),
        "thresholds": np.array([0.1, 0.3, 0.5]),
        "data": np.array(data),
    }
    with path.open("wb") as handle:
        np.savez(handle, **arrays)
    return path


def write_levels(path: Path, row: str, loss: float, seed: int = 0, data: str = "acdc") -> Path:
    """Write scores of four patients whose Dice falls by `loss` a unit of bias."""
    names = [f"p{number}" for number in range(4)]
    base = {"p0": 0.8, "p1": 0.7, "p2": 0.9, "p3": 0.6}
    rows = [(name, kind, level) for name in names
            for kind, level in LEVELS]  # fmt: skip
    cases = pd.DataFrame({name: [None] * len(rows) for name in CASE_COLUMNS})
    cases["image_id"] = cases["patient_id"] = [name for name, _, _ in rows]
    cases["age_years"] = np.nan
    dice = np.array([base[name] - loss * level for name, _, level in rows])
    extra = {
        "structure": ["LV"] * len(rows),
        "corruption": [kind for _, kind, _ in rows],
        "severity": [level for _, _, level in rows],
        "reference_voxels": [1] * len(rows),
        "predicted_voxels": [1] * len(rows),
    }
    metadata = {
        **dict.fromkeys(METADATA_NAMES, "x"),
        **{"seed": seed, "row": row, "data": data, "column": "acdc", "kind": "segmentation"},
        **{"metric": "dice", "protocol": "corrected"},
    }
    write_case_scores(path, cases, {"dice": dice, "hd95_mm": dice}, metadata, extra)
    return path


def texts(figure: Figure) -> str:
    words = [axis.get_title() for axis in figure.axes]
    return "\n".join([figure.get_suptitle(), *words])


def test_each_case_shows_image_reference_and_every_segmentation_with_its_dice(
    tmp_path: Path,
) -> None:
    figure = draw("cases", [write_cases(tmp_path / "a.npz")], "acdc: cooperative")
    assert len(figure.axes) == 3 * 4
    told = texts(figure)
    for words in ("best\n001_best, slice 4", "FTN + 2 x STN\nDice 12.3 %", "FTN\nDice 45.5 %"):
        assert words in told
    assert "PHANTOM" in told
    overlay = figure.axes[3].images[1].get_array()  # the best, after the corrections
    np.testing.assert_allclose(overlay[3, 4, :3], to_rgb(COLOURS[1]))
    assert overlay[3, 4, 3] > 0.3
    assert overlay[0, 0, 3] == 0  # background shows the image
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["LV", "MYO", "RV"]


def test_real_data_have_no_warning(tmp_path: Path) -> None:
    cases = draw("cases", [write_cases(tmp_path / "a.npz", "acdc")], "t")
    hard = draw("hard_examples", [write_hard_examples(tmp_path / "b.npz", "acdc")], "t")
    levels = draw("severity", [write_levels(tmp_path / "c", "standard", 0.1)], "t")
    for figure in (cases, hard, levels):
        assert "PHANTOM" not in texts(figure)


def test_hard_examples_have_a_column_a_kind_and_share(tmp_path: Path) -> None:
    figure = draw("hard_examples", [write_hard_examples(tmp_path / "a.npz")], "hard")
    told = texts(figure)
    assert "PHANTOM" in told
    titles = [axis.get_title() for axis in figure.axes]
    assert [title for title in titles if "\n" in title] == [
        f"{kind}\n{share}" for kind in ("dropout", "channel") for share in (0.1, 0.3, 0.5)
    ]
    overlay = figure.axes[7 + 6].images[1].get_array()  # channel, 0.5
    np.testing.assert_allclose(overlay[5, 0, :3], to_rgb(COLOURS[2]))
    assert overlay[5, 8, 3] == 0


def test_lines_are_means_over_patients_and_seeds_with_their_interval(tmp_path: Path) -> None:
    paths = [
        write_levels(tmp_path / "a", "standard", 0.4, seed=1),
        write_levels(tmp_path / "b", "standard", 0.2, seed=2),
        write_levels(tmp_path / "c", "cooperative", 0.1, seed=1, data="phantom"),
    ]
    figure = draw("severity", paths, "Dice by severity")
    (axis,) = figure.axes
    assert axis.get_title() == "RandomBias"
    lines = {line.get_label(): line for line in axis.lines}
    np.testing.assert_allclose(lines["standard"].get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(lines["standard"].get_ydata(), [75, 60, 45])
    np.testing.assert_allclose(lines["cooperative"].get_ydata(), [75, 70, 65])
    for band in axis.collections:
        low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
        assert 30 <= low < high <= 90
    assert "PHANTOM" in texts(figure)


@pytest.mark.parametrize("kind", ["cases", "hard_examples", "severity"])
def test_the_picture_is_written_whole_and_equal_twice(kind: str, tmp_path: Path) -> None:
    writers = {"cases": write_cases, "hard_examples": write_hard_examples}
    if kind == "severity":
        given = write_levels(tmp_path / "a", "standard", 0.4)
    else:
        given = writers[kind](tmp_path / "a.npz")
    out = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in out:
        words = ["--kind", kind, "--inputs", str(given), "--title", "t", "--out", str(path)]
        segmentation_figures.main(words)
    assert out[0].read_bytes() == out[1].read_bytes()
    assert imread(out[0]).std() > 0.05  # not an empty sheet
