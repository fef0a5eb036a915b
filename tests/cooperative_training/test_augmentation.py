from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from tests.cooperative_training.golden_network import GOLDEN
from workflow_scripts.cooperative_training.augmentation import (
    NO_AUGMENTATION,
    CaseDraw,
    Policy,
    augment,
    draw_case,
    flip,
    jitter,
    join_draws,
    rescale,
)
from workflow_scripts.cooperative_training.warps import (
    affine_matrices,
    affine_places,
    elastic,
    sample_cubic,
    sample_linear,
    sample_nearest,
    smooth,
)

TRANSFORMS = GOLDEN["transforms"]
SIZE = 24


@pytest.mark.parametrize("case", TRANSFORMS["affine"]["cases"], ids=lambda c: c["mode"])
def test_affine_maps_are_golden(case: dict[str, Any]) -> None:
    image = torch.tensor(TRANSFORMS["affine"]["input"])[None]
    matrix = torch.tensor(case["matrix"], dtype=torch.float64)
    if "params" in case:
        given = {name: torch.tensor([value]) for name, value in case["params"].items()}
        shift = torch.stack([given["h_frac"], given["w_frac"]], dim=1)
        zoom = torch.stack([given["zh"], given["zw"]], dim=1)
        linear, offset = affine_matrices(given["deg"], shift, zoom, (5, 5))
        np.testing.assert_allclose(linear[0], matrix[:2, :2], atol=1e-6)
        np.testing.assert_allclose(offset[0], matrix[:2, 2], atol=1e-6)
    places = affine_places(matrix[None, :2, :2], matrix[None, :2, 2], (5, 5))
    sample = sample_linear if case["mode"] == "bilinear" else sample_nearest
    np.testing.assert_allclose(sample(image, places)[0], case["output"], atol=1e-4)


def test_flips_are_golden() -> None:
    golden = TRANSFORMS["flip_both"]
    flipped = flip(torch.tensor(golden["input"])[None], torch.tensor([[True, True]]))
    np.testing.assert_array_equal(flipped[0], golden["output"])
    sideways = flip(torch.tensor(golden["input"])[None], torch.tensor([[True, False]]))
    np.testing.assert_array_equal(sideways[0], np.array(golden["input"])[:, ::-1])


def test_jitter_is_golden() -> None:
    golden = TRANSFORMS["intensity_jitter"]
    image = torch.tensor(golden["input"])[None]
    factors = torch.tensor([golden["scale"]]), torch.tensor([golden["shift"]])
    found = jitter(image, torch.tensor([True]), *factors)
    np.testing.assert_allclose(found[0], golden["output"], atol=1e-6)
    assert torch.equal(jitter(image, torch.tensor([False]), *factors), image)


def test_rescaling_is_golden_and_a_constant_slice_becomes_zero() -> None:
    golden = TRANSFORMS["slice_minmax"]
    found = rescale(torch.tensor(golden["input"])[None])
    np.testing.assert_allclose(found[0], golden["output"], atol=1e-6)
    for value in (0.0, 3.0):
        assert rescale(torch.full((1, 2, 2), value)).tolist() == [golden["constant_output"]]


def test_elastic_deformation_is_golden() -> None:
    golden = TRANSFORMS["elastic"]
    rng = np.random.RandomState(0)
    noise = np.stack([rng.uniform(-1, 1, (8, 8)) for _ in range(2)])
    field = smooth(torch.from_numpy(noise)[None], torch.tensor([golden["sigma"]])) * golden["alpha"]
    expected = [gaussian_filter(one, golden["sigma"], mode="constant", cval=0) for one in noise]
    np.testing.assert_allclose(field[0] / golden["alpha"], expected, atol=1e-12)
    image = torch.tensor(golden["image"], dtype=torch.float64)[None]
    label = torch.tensor(golden["label"]).long()[None]
    # drawn along columns first, then along rows
    moved, classes = elastic(image, label, field.flip(1), 4)
    np.testing.assert_allclose(moved[0], golden["output_image"], atol=1e-4)
    np.testing.assert_array_equal(classes[0], golden["output_label"])


@pytest.mark.parametrize("mode", ["reflect", "nearest"])
def test_cubic_sampling_equals_scipy(mode: str) -> None:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, 3, 17, 22))
    # far outside as well, beyond the 12 pixels that scipy pads: there equal to 1e-6 only
    places = np.indices((17, 22))[None] + rng.normal(scale=6, size=(2, 2, 17, 22))
    found = sample_cubic(torch.from_numpy(images), torch.from_numpy(places), mode)
    for n in range(2):
        for c in range(3):
            expected = map_coordinates(images[n, c], places[n], order=3, mode=mode)
            np.testing.assert_allclose(found[n, c], expected, atol=1e-6)


def test_smoothing_with_a_wide_filter_equals_scipy() -> None:
    noise = np.random.default_rng(2).uniform(-1, 1, (2, 2, SIZE, SIZE))
    sigma = [1.8, 9.3]  # the second reaches beyond the map
    found = smooth(torch.from_numpy(noise), torch.tensor(sigma, dtype=torch.float64))
    for n in range(2):
        for axis in range(2):
            expected = gaussian_filter(noise[n, axis], sigma[n], mode="constant", cval=0)
            np.testing.assert_allclose(found[n, axis], expected, atol=1e-12)


def make_slices(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.random((n, SIZE, SIZE)).astype(np.float32))
    return images, torch.from_numpy(rng.integers(0, 4, (n, SIZE, SIZE)))


def draws_of(n: int, policy: Policy) -> list[CaseDraw]:
    return [draw_case(np.random.default_rng(case), policy, SIZE) for case in range(n)]


def test_a_batch_is_what_its_slices_are_alone() -> None:
    images, labels = make_slices(6)
    draws = draws_of(6, Policy())
    assert {draw.noise is None for draw in draws} == {True, False}
    together = augment(images, labels, join_draws(draws, SIZE), 4)
    for case, draw in enumerate(draws):
        one = slice(case, case + 1)
        alone = augment(images[one], labels[one], join_draws([draw], SIZE), 4)
        torch.testing.assert_close(together[0][one], alone[0])
        # a spline of noise may be 0.5 up to rounding
        assert (together[1][one] == alone[1]).float().mean() > 0.99


def test_without_augmentation_only_the_last_row_and_column_are_lost() -> None:
    images, labels = make_slices(3)
    found = augment(images, labels, join_draws(draws_of(3, NO_AUGMENTATION), SIZE), 4)
    torch.testing.assert_close(found[0][:, :-2, :-2], images[:, :-2, :-2])
    assert torch.equal(found[1], labels)


def test_draws_stay_in_their_ranges() -> None:
    numbers = np.stack([draw.numbers for draw in draws_of(400, Policy())])
    assert numbers[:, :2].mean() == pytest.approx(0.2, abs=0.05)
    assert numbers[:, [2, 11]].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.08)
    ranges = {3: (0.8, 1.2), 4: (-0.1, 0.1), 5: (-15, 15), 6: (-0.1, 0.1), 7: (-0.1, 0.1)}
    ranges |= {8: (0.8, 1.1), 9: (0.8, 1.1), 12: (1.5 * SIZE, 2 * SIZE)}
    ranges |= {13: (0.075 * SIZE, 0.15 * SIZE)}
    for column, (low, high) in ranges.items():
        values = numbers[:, column]
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    assert sorted(set(numbers[:, 10])) == [45 * step for step in range(8)]


def test_labels_move_with_their_image() -> None:
    labels = make_slices(8)[1] * 0
    labels[:, 8:16, 8:16] = 2
    images = labels.float() / 2
    found = augment(images, labels, join_draws(draws_of(8, Policy(jitter_chance=0)), SIZE), 4)
    assert set(found[1].unique().tolist()) == {0, 2}
    agree = ((found[0] > 0.5) == (found[1] == 2)).float().mean()
    assert agree > 0.97
