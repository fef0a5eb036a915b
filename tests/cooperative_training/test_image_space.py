from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import correlate

from workflow_scripts.cooperative_training.image_space import (
    BORDER,
    KERNEL_SIZES,
    outside_windows,
    random_convolutions,
    random_windows,
)


def test_windows_are_noise_inside_the_border_and_leave_the_rest() -> None:
    images = torch.full((200, 1, 48, 60), 2.0)  # outside of the noise's range
    filled = random_windows(images, np.random.default_rng(0))
    changed = filled != 2
    assert torch.equal(images, torch.full_like(images, 2.0))
    assert 0 <= filled[changed].min() < 0.01
    assert 0.99 < filled[changed].max() <= 1
    for edge in (changed[..., :BORDER, :], changed[..., -BORDER:, :], changed[..., -BORDER:]):
        assert not edge.any()
    assert changed[..., BORDER, :].any()  # the border is as narrow as it should be
    assert changed[..., -BORDER - 1].any()
    share = changed.float().mean((1, 2, 3))
    assert (share == 0).float().mean().item() < 0.12  # no window at all: chance 0.05
    assert share.max() <= 5 * (16 * 20) / (48 * 60)  # five windows of a third each way
    again = random_windows(images, np.random.default_rng(0))
    assert torch.equal(again, filled)
    assert not torch.equal(random_windows(images, np.random.default_rng(1)), filled)


def test_out_painting_is_the_other_way_round() -> None:
    images = torch.full((20, 1, 48, 60), 2.0)
    inside = random_windows(images, np.random.default_rng(0)) != 2
    assert torch.equal(outside_windows(images, np.random.default_rng(0)) == 2, inside)


class Fixed:
    """A generator whose next numbers are given."""

    def __init__(self, size: int, kernel: np.ndarray, share: float) -> None:
        self.size, self.kernel, self.share = size, kernel, share

    def choice(self, sizes: tuple[int, ...]) -> int:
        assert sizes == KERNEL_SIZES
        return self.size

    def normal(self, mean: float, spread: float, shape: tuple[int, ...]) -> np.ndarray:
        assert (mean, spread, shape) == (0, 1 / self.size, (1, 1, self.size, self.size))
        return self.kernel

    def random(self) -> float:
        return self.share


def test_a_random_convolution_is_that_of_scipy_mixed_with_the_image() -> None:
    image = np.random.default_rng(0).random((9, 11))
    kernel = np.random.default_rng(1).normal(size=(3, 3))
    drawn = Fixed(3, kernel[None, None], 0.3)
    given = torch.from_numpy(image)[None, None]
    found = random_convolutions(given, drawn)[0, 0]  # type: ignore[arg-type]  # as a generator
    mixed = 0.3 * image + 0.7 * correlate(image, kernel, mode="constant")
    expected = (mixed - mixed.min()) / (mixed.max() - mixed.min())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    ranges = Fixed(1, np.array([[[[5.0]]]]), 0.5), Fixed(3, drawn.kernel, 1.0)
    only_range, unmixed = (random_convolutions(given, one) for one in ranges)  # type: ignore[arg-type]  # as above
    torch.testing.assert_close(only_range, unmixed)
