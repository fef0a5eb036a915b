"""The figure of heat maps shows the numbers of its cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as pictures
from matplotlib.colors import to_rgba

from workflow_scripts.layer_ensembles import heat_maps
from workflow_scripts.metrics import uncertainty


def example(name: str, n_heads: int = 5) -> heat_maps.Example:
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    radius = np.hypot(y, x)
    margin = np.stack([(0.6 + 0.05 * head - radius) * (2 + head) for head in range(n_heads)])
    logits = np.stack([-margin, margin], axis=1).astype(np.float16)  # (T, 2, H, W)
    image = np.random.default_rng(0).normal(100, 20, (48, 48)).astype(np.float32)
    return heat_maps.Example(name, image, (radius < 0.6).astype(np.uint8), logits)


def test_figure_has_image_contours_and_three_maps_with_the_aula_of_the_kept_heads() -> None:
    cases = [example("first"), example("second")]
    figure = heat_maps.draw(cases, skip=1, title="PHANTOM words")
    axes = np.array(figure.axes).reshape(2, 5)
    titles = [axis.get_title() for axis in axes[0]]
    assert titles[:2] == ["image", "reference, prediction"]
    assert titles[2:] == ["entropy", "mutual information", "variance"]
    p = uncertainty.softmax(cases[0].logits[1:])
    area = uncertainty.aula(uncertainty.layer_agreement(p.argmax(axis=1) > 0))
    assert axes[0, 0].get_ylabel() == f"first\nAULA {area:.2f} of 2"
    colours = [tuple(one.get_edgecolor()[0]) for one in axes[0, 1].collections]
    assert colours == [to_rgba("lime"), to_rgba("deepskyblue")]
    assert not axes[0, 0].collections  # the image stands alone
    maps = uncertainty.uncertainty_maps(p, "corrected")
    for axis, heat in zip(axes[0, 2:], maps, strict=True):
        assert tuple(axis.collections[0].get_edgecolor()[0]) == to_rgba("black")
        shown = axis.get_images()[0].get_array()
        expected = heat_maps.blended(heat_maps.gray(cases[0].image), heat)
        np.testing.assert_allclose(shown, expected)
    assert figure.get_suptitle() == "PHANTOM words"


def test_structures_have_colours_of_their_own_and_dashed_predictions() -> None:
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    ring = np.clip(((1.0 - np.hypot(y, x)) * 4).astype(int), 0, 3)  # 0 outside to 3 inside
    one_hot = np.eye(4)[np.roll(ring, 3, axis=0)].transpose(2, 0, 1)
    logits = np.stack([4 * one_hot] * 3).astype(np.float16)
    heart = heat_maps.Example("heart", x.astype(np.float32), ring.astype(np.uint8), logits)
    axis = heat_maps.draw([heart], skip=0, title="t").axes[1]
    colours = [tuple(one.get_edgecolor()[0]) for one in axis.collections]
    assert colours == [to_rgba(name) for name in heat_maps.STRUCTURES for _ in range(2)]
    is_dashed = [one.get_linestyle()[0][1] is not None for one in axis.collections]
    assert is_dashed == [False, True] * 3


def test_blend_is_sum_over_maximum_and_hot_where_the_map_is() -> None:
    gray = np.full((2, 2), 0.5)
    found = heat_maps.blended(gray, np.array([[0.0, 0.0], [0.0, 3.0]]))
    assert found.max() == pytest.approx(1.0)
    assert found[1, 1, 0] > found[0, 0, 0]  # red
    assert found[0, 0, 2] > found[1, 1, 2]  # blue


def test_empty_masks_and_a_flat_image_are_drawn_without_contour(tmp_path: Path) -> None:
    logits = np.zeros((2, 2, 32, 32), dtype=np.float16)
    blank = np.zeros((32, 32))
    case = {"image_0": blank.astype(np.float32), "truth_0": blank.astype(np.uint8)}
    np.savez(tmp_path / "e.npz", names=np.array(["empty"]), logits_0=logits, **case)
    out = tmp_path / "maps.png"
    words = ["--examples", str(tmp_path / "e.npz"), "--skip", "0", "--title", "t", "--phantom"]
    heat_maps.main([*words, "--out", str(out)])
    assert pictures.imread(out).std() > 0
    figure = heat_maps.draw(heat_maps.read_examples(tmp_path / "e.npz"), 0, "t")
    assert not any(axis.collections for axis in figure.axes)
