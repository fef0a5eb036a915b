"""The edit and both ways of training it reproduce the released code's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.debiased_noise.golden import GOLDEN, FlatModel, tiny_batches, tiny_head
from workflow_scripts.debiased_noise import gezo
from workflow_scripts.debiased_noise.gezo import Position, Settings
from workflow_scripts.debiased_noise.noise_edit import edited
from workflow_scripts.debiased_noise.objective import Weights, edit_loss
from workflow_scripts.debiased_noise.order import released_order
from workflow_scripts.debiased_noise.white_box import accumulate_gradient, restart

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # as the golden vectors state


def test_edit_is_added_to_every_image_and_channel_and_never_clamped() -> None:
    golden = GOLDEN["A_dne_layer"]
    out = edited(torch.tensor(golden["images"]), torch.tensor(golden["noise"]))
    torch.testing.assert_close(out, torch.tensor(golden["out"]), **CLOSE)
    assert out.max() > 1


@pytest.mark.parametrize("case", GOLDEN["B_white_box"]["loss_and_grad_batch0"])
def test_white_box_loss_and_gradient_equal_the_released_ones(case: dict[str, Any]) -> None:
    images, attribute = tiny_batches()[0]
    noise = torch.tensor(case["noise"], requires_grad=True)
    weights = Weights(1.0, case["lambda_reg"])
    loss = accumulate_gradient(noise, FlatModel(), tiny_head(), images, attribute, weights, 2)
    assert loss.item() == pytest.approx(case["total"], rel=1e-5)
    torch.testing.assert_close(noise.grad, torch.tensor(case["grad"]), **CLOSE)


@pytest.mark.parametrize("run", GOLDEN["B_white_box"]["runs"])
def test_white_box_epochs_equal_the_released_ones(run: dict[str, Any]) -> None:
    golden = GOLDEN["B_white_box"]
    start = torch.zeros(2, 2) if run["start"] == "zeros" else torch.tensor(golden["noise_given"])
    noise = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([noise], lr=golden["lr"])
    weights, head, model = Weights(run["lambda_1"], run["lambda_reg"]), tiny_head(), FlatModel()
    for epoch in run["epochs"]:
        restart(optimiser)
        losses = []
        for images, attribute in tiny_batches():
            optimiser.zero_grad()
            losses.append(accumulate_gradient(noise, model, head, images, attribute, weights, 128))
            optimiser.step()
        torch.testing.assert_close(noise.detach(), torch.tensor(epoch["noise"]), **CLOSE)
        assert sum(losses).item() / len(losses) == pytest.approx(epoch["mean_loss"], rel=1e-5)


def test_a_persistent_adam_gives_another_edit_than_one_made_anew_each_epoch() -> None:
    def trained(restarts: bool) -> torch.Tensor:
        noise = torch.zeros(2, 2, requires_grad=True)
        optimiser = torch.optim.Adam([noise], lr=1e-2)
        for _ in range(2):
            if restarts:
                restart(optimiser)
            for images, attribute in tiny_batches():
                optimiser.zero_grad()
                weights = Weights(1.0, 1.0)
                accumulate_gradient(
                    noise, FlatModel(), tiny_head(), images, attribute, weights, 128
                )
                optimiser.step()
        return noise.detach()

    assert (trained(True) - trained(False)).abs().max() > 1e-4


def test_a_strong_penalty_keeps_the_edit_near_zero() -> None:
    noise = torch.zeros(2, 2, requires_grad=True)
    optimiser = torch.optim.Adam([noise], lr=1e-3)
    for _ in range(100):
        for images, attribute in tiny_batches():
            optimiser.zero_grad()
            accumulate_gradient(
                noise, FlatModel(), tiny_head(), images, attribute, Weights(1.0, 100.0), 128
            )
            optimiser.step()
    assert noise.detach().norm() < 1e-3 * 2 * 10  # lr x side x 10 (spec 15.6)


def loss_on_golden_batches(lambda_reg: float) -> gezo.BatchLoss:
    batches, head, model = tiny_batches(), tiny_head(), FlatModel()

    def loss_of(noise: torch.Tensor, batch: int) -> float:
        images, attribute = batches[batch]
        logits = head.logits(model.embed(edited(images, noise)))
        return float(edit_loss(logits, attribute, noise, Weights(1.0, lambda_reg)))

    return loss_of


def test_released_gezo_equals_the_released_code_given_its_draws() -> None:
    golden = GOLDEN["C_gezo_upstream"]
    settings = Settings(golden["init_step"], golden["sampled_steps"], golden["momentum"])
    loss_of = loss_on_golden_batches(golden["lambda_reg"])
    zeros = torch.zeros(2, 2)
    position = Position(zeros, zeros, settings.init_step)
    for epoch in golden["epochs"]:
        before = torch.tensor(epoch["noise_before"])
        torch.testing.assert_close(position.noise, before, **CLOSE)
        draws = list(torch.tensor(epoch["z"]))
        wanted = [one["loss"] for one in epoch["trace"] if one["sign"] == 1]
        dropped = [
            loss_of(before - settings.init_step * draws[one["sample"]], one["batch"])
            for one in epoch["trace"]
            if one["sign"] == -1
        ]
        update = gezo.released_update(position, draws, loss_of, settings)
        assert [one.loss for one in update.tried] == pytest.approx(wanted, rel=1e-5)
        unused = [one["loss"] for one in epoch["trace"] if one["sign"] == -1]
        assert dropped == pytest.approx(unused, rel=1e-5)
        assert update.best.loss == pytest.approx(epoch["printed_best_loss"], rel=1e-5)
        torch.testing.assert_close(
            update.position.noise, torch.tensor(epoch["noise_after"]), **CLOSE
        )
        assert update.position.step == epoch["printed_step"]
        assert update.accepted
        assert update.batch_queries == 6  # half of the released code's twelve
        moved = update.position.noise - position.noise
        assert any(torch.allclose(moved, settings.init_step * draw) for draw in draws)
        position = update.position


@pytest.mark.parametrize("run", ["always_accept", "accept_if_improves", "reject"])
def test_paper_gezo_equals_the_reference_of_the_specification(run: str) -> None:
    golden = GOLDEN["C_gezo_reference_paper_form"]
    history = golden.get(run) or golden["reject_with_lambda_reg_50"]["history"]
    accept = "always" if run == "always_accept" else "improve"
    settings = Settings(0.03, golden["sampled_steps"], golden["momentum"], accept)
    loss_of = loss_on_golden_batches(50.0 if run == "reject" else golden["lambda_reg"])
    zeros = torch.zeros(2, 2)
    position = Position(zeros, zeros, settings.init_step)
    for draws, epoch in zip(golden["z"], history, strict=True):
        base = sum(loss_of(position.noise, batch) for batch in range(2)) / 2
        assert base == pytest.approx(epoch["base_loss"], rel=1e-5)
        update = gezo.paper_update(position, list(torch.tensor(draws)), loss_of, settings)
        wanted = [(one["sample"], one["sign"], one["mean_loss"]) for one in epoch["trace"]]
        assert [one[:2] for one in update.tried] == [one[:2] for one in wanted]
        assert [one.loss for one in update.tried] == pytest.approx(
            [one[2] for one in wanted], rel=1e-5
        )
        assert (update.best.sample, update.best.sign) == (
            epoch["best"]["sample"], epoch["best"]["sign"]
        )  # fmt: skip
        assert update.accepted == epoch["accepted"]
        position = update.position
        torch.testing.assert_close(position.noise, torch.tensor(epoch["noise_after"]).float())
        velocity = torch.tensor(epoch["velocity"]).float()
        torch.testing.assert_close(position.velocity, velocity, **CLOSE)
        assert position.step == pytest.approx(epoch["step_after"])
        assert update.batch_queries == 12 + 2 * (accept == "improve")


def test_without_momentum_accepted_updates_never_raise_the_loss_on_their_own_batches() -> None:
    loss_of = loss_on_golden_batches(1.0)
    settings = Settings(0.05, 2, momentum=0.0, accept="improve")
    generator = torch.Generator().manual_seed(3)
    zeros = torch.zeros(2, 2)
    position, rejected = Position(zeros, zeros, settings.init_step), 0
    for _ in range(40):
        before = sum(loss_of(position.noise, batch) for batch in range(2)) / 2
        draws = list(torch.randn(2, 2, 2, generator=generator))
        update = gezo.paper_update(position, draws, loss_of, settings)
        after = sum(loss_of(update.position.noise, batch) for batch in range(2)) / 2
        if update.accepted:
            assert after < before
        else:
            rejected += 1
            torch.testing.assert_close(update.position.noise, position.noise, rtol=0, atol=0)
            assert update.position.step == pytest.approx(0.95 * position.step)
        position = update.position
    assert rejected > 0  # else the test proves half of what it says


def test_a_loss_that_is_not_finite_is_refused_and_never_chosen() -> None:
    zeros = torch.zeros(2, 2)
    position = Position(zeros, zeros, 0.1)
    for update in (gezo.released_update, gezo.paper_update):
        with pytest.raises(FloatingPointError):
            update(position, [zeros + 1], lambda noise, batch: float("nan"), Settings())


def test_training_order_is_that_of_the_released_sampler() -> None:
    golden = GOLDEN["R_distributed_sampler"]
    for epoch, order in golden["order_by_epoch"].items():
        assert released_order(golden["n"], int(epoch)).tolist() == order
