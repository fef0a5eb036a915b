from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.cooperative_training.golden_network import GOLDEN
from workflow_scripts.cooperative_training.masking import (
    MaskDraw,
    MaskOptions,
    draw_mask,
    draw_mask_type,
    drop_channels,
    self_challenge,
    targeted_mask,
)

MASKING = GOLDEN["latent_masking"]
CODE = torch.tensor(MASKING["code"])
LABELS = torch.tensor(MASKING["labels_NHW"])


def released_python(seed: int) -> random.Random:
    """Return Python's generator as the released code seeds it."""
    return random.Random(seed)  # noqa: S311  # no secret


def decode(code: Tensor, weight: list[list[float]], bias: list[float], factor: int) -> Tensor:
    maps = F.conv2d(code, torch.tensor(weight)[:, :, None, None], torch.tensor(bias))
    return maps.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def gradient_of(case: dict[str, Any]) -> tuple[float, Tensor]:
    """Return loss and gradient with respect to the golden code."""
    code = CODE.clone().requires_grad_()
    decoder = MASKING[case["decoder"]]
    output = decode(code, decoder["W"], decoder["b"], 2)
    loss = {
        "mse": lambda: F.mse_loss(output, torch.tensor(MASKING["clean_image"])),
        "ce": lambda: F.cross_entropy(output, LABELS),
        "corr": lambda: self_challenge(output, LABELS),
    }[case["loss"]]()
    (gradient,) = torch.autograd.grad(loss, code)
    return loss.item(), gradient


@pytest.mark.parametrize(
    "case", MASKING["cases"], ids=lambda c: f"{c['loss']}-{c['kind']}-{c['percentile']}-{c['hard']}"
)
def test_targeted_masks_are_golden(case: dict[str, Any]) -> None:
    loss, gradient = gradient_of(case)
    options = MaskOptions(
        mask_type=case["kind"],
        max_threshold=case["percentile"],
        has_random_threshold=case.get("random", False),
        is_soft=not case["hard"],
    )
    shares = np.random.RandomState(case.get("numpy_random_seed", 0))  # the released generator
    draw = draw_mask(options, released_python(0), shares)
    assert draw.threshold == pytest.approx(case.get("drawn_percentile", case["percentile"]))
    generator = torch.Generator().manual_seed(case.get("torch_manual_seed", 0))
    mask = targeted_mask(gradient, draw, options.is_soft, generator)
    flat = mask.squeeze((2, 3)) if case["kind"] == "channel" else mask.squeeze(1)
    np.testing.assert_allclose(flat, case["mask"], atol=1e-6)
    if "score" in case:
        axes = (2, 3) if case["kind"] == "channel" else (1,)
        np.testing.assert_allclose(gradient.mean(axes), case["score"], atol=1e-6)
        assert loss == pytest.approx(case["loss_value"], abs=1e-5)
        assert (CODE * mask).sum().item() == pytest.approx(case["masked_code_sum"], rel=1e-5)


def test_ties_mask_fewer_and_a_threshold_of_one_is_refused() -> None:
    case = MASKING["tie_case"]
    code = torch.tensor(case["code"]).requires_grad_()
    loss = decode(code, case["W"], case["b"], 1).square().mean()
    (gradient,) = torch.autograd.grad(loss, code)
    mask = targeted_mask(gradient, MaskDraw("channel", 0.5), False, None)
    assert mask.flatten().tolist() == case["mask"]
    with pytest.raises(ValueError, match="targeted mask"):  # upstream: IndexError
        targeted_mask(gradient, MaskDraw("channel", 1.0), False, None)
    with pytest.raises(ValueError, match="max_threshold"):
        MaskOptions(max_threshold=1.0)


def test_dropout_is_golden() -> None:
    golden = GOLDEN["dropout_masking"]
    generator = torch.Generator().manual_seed(golden["torch_manual_seed"])
    masked = drop_channels(CODE, golden["threshold"], generator)
    np.testing.assert_allclose(masked, golden["masked_code"], atol=1e-6)


def test_dropout_keeps_half_of_the_channels_at_twice_their_value() -> None:
    code = torch.rand(50, 40, 2, 2) + 0.1
    masked = drop_channels(code, 0.5, torch.Generator().manual_seed(0))
    ratio = masked / code
    assert set(ratio.unique().round(decimals=4).tolist()) == {0.0, 2.0}
    assert (ratio > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (ratio == ratio[:, :, :1, :1]).all()


@pytest.mark.parametrize("seed", GOLDEN["random_mask_type_sequence"]["first_12_draws"])
def test_kinds_are_drawn_as_released(seed: str) -> None:
    kinds = released_python(int(seed))
    golden = GOLDEN["random_mask_type_sequence"]["first_12_draws"][seed]
    assert [draw_mask_type(kinds) for _ in range(12)] == golden


@given(st.integers(0, 2**32 - 1), st.sampled_from(["channel", "spatial"]), st.floats(0, 0.99))
@settings(max_examples=40)
def test_the_largest_scores_are_masked_and_nothing_else_changes(
    seed: int, kind: str, threshold: float
) -> None:
    gradient = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 7, 4, 5)))
    mask = targeted_mask(gradient, MaskDraw(kind, threshold), True, None)  # type: ignore[arg-type]
    score = gradient.mean((2, 3) if kind == "channel" else 1).flatten(1)
    factor = mask.flatten(1)
    n_masked = int(score.shape[1] * threshold)
    assert factor.shape == score.shape  # constant over the other axes
    for scores, factors in zip(score, factor, strict=True):
        is_masked = factors != 1
        assert int(is_masked.sum()) == n_masked
        assert (factors[is_masked] < 0.5).all()
        if n_masked:
            assert scores[is_masked].min() > scores[~is_masked].max()


def test_share_is_below_the_limit_and_dropout_ignores_it() -> None:
    kinds, shares = released_python(3), np.random.default_rng(3)
    drawn = [draw_mask(MaskOptions(), kinds, shares) for _ in range(300)]
    targeted = [draw.threshold for draw in drawn if draw.mask_type != "dropout"]
    assert 0 <= min(targeted) < max(targeted) <= 0.5
    assert {draw.threshold for draw in drawn if draw.mask_type == "dropout"} == {0.5}
    counts = [sum(draw.mask_type == kind for draw in drawn) for kind in ("dropout", "spatial")]
    assert all(70 < count < 130 for count in counts)
