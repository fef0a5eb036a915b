"""Schedules against the released code's values and against torch's own schedulers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow_scripts.training import schedules

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "ssl_transfer.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("step", "rate"), GOLDEN["cosine_lr_5000"]["lr_used_at_step"].items())
def test_the_cosine_gives_the_released_learning_rates(step: str, rate: float) -> None:
    base = GOLDEN["cosine_lr_5000"]["base_lr"]
    assert base * schedules.cosine_to_zero(int(step), 5000) == pytest.approx(rate, rel=1e-6)


def test_nesterov_sgd_with_the_cosine_moves_the_weights_as_released() -> None:
    golden = GOLDEN["sgd_nesterov_cosine"]
    weights = torch.nn.Parameter(torch.tensor(golden["init"]))
    optimiser = torch.optim.SGD(
        [weights],
        lr=golden["lr"],
        momentum=golden["momentum"],
        weight_decay=golden["weight_decay"],
        nesterov=True,
    )
    for number, step in enumerate(golden["steps"]):
        factor = schedules.cosine_to_zero(number, golden["T_max"])
        schedules.scale_learning_rates(optimiser, factor)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(step["lr_used"], rel=1e-8)
        weights.grad = torch.tensor(step["grad"])
        optimiser.step()
        np.testing.assert_allclose(
            weights.detach().numpy(), step["param_after"], atol=2e-7
        )  # float32


def torch_rates(make: Any, steps: int) -> list[tuple[float, float]]:
    """Return learning rate and beta1 that a torch scheduler uses at each step."""
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimiser)
    used = []
    for _ in range(steps):
        group = optimiser.param_groups[0]
        used.append((group["lr"], group["betas"][0]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # steps without updates, on purpose
            scheduler.step()
    return used


@pytest.mark.parametrize("total", [11, 100, 997])
def test_one_cycle_is_torchs_with_its_defaults(total: int) -> None:
    expected = torch_rates(
        lambda optimiser: torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, total), total
    )
    found = [schedules.one_cycle(step, total) for step in range(total)]
    np.testing.assert_allclose([cycle.factor for cycle in found], [r for r, _ in expected])
    np.testing.assert_allclose([cycle.beta1 for cycle in found], [b for _, b in expected])


def test_polynomial_and_steps_are_torchs() -> None:
    scheduler = torch.optim.lr_scheduler
    expected = torch_rates(lambda o: scheduler.PolynomialLR(o, total_iters=9, power=0.9), 12)
    found = [schedules.polynomial(step, 9, 0.9) for step in range(12)]
    np.testing.assert_allclose(found, [rate for rate, _ in expected], atol=1e-12)
    expected = torch_rates(lambda o: scheduler.MultiStepLR(o, [2, 5], gamma=0.1), 8)
    found = [schedules.step_decay(step, [2, 5], 0.1) for step in range(8)]
    np.testing.assert_allclose(found, [rate for rate, _ in expected])


@given(st.integers(0, 200), st.integers(1, 100))
def test_every_factor_lies_between_0_and_1(step: int, total: int) -> None:
    for factor in (
        schedules.constant(step),
        schedules.cosine_to_zero(step, total),
        schedules.warm_up(step, total),
        schedules.polynomial(step, total, 0.9),
        schedules.step_decay(step, [total], 0.5),
    ):
        assert 0 <= factor <= 1


def test_warm_up_times_cosine_starts_at_0_and_peaks_at_its_end() -> None:
    factors = [
        schedules.warm_up(step, 5) * schedules.cosine_to_zero(max(step - 5, 0), 20)
        for step in range(26)
    ]
    assert factors[0] == 0
    assert factors[5] == max(factors) == 1
    assert factors[25] == 0


def test_each_group_keeps_its_own_base_rate() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.1)]
    optimiser = torch.optim.SGD(groups)
    for factor in (0.5, 0.25):
        schedules.scale_learning_rates(optimiser, factor)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.025]
