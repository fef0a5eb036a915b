from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, layer_norm

from tests.crocodile.golden import case, doubles, fill, near
from workflow_scripts.crocodile.causality import causality_map, prior_loss, prior_matrix
from workflow_scripts.crocodile.losses import (
    FlatScorer,
    PairScorer,
    asymmetric_loss,
    class_spreads,
    flat_pairs,
    image_loss,
    label_value_spread,
    relation_targets,
    uniform_kl,
)
from workflow_scripts.datasets.chest_findings import NINE

ASL = {
    "gneg2_gpos0": {},
    "gneg4_gpos1": {"gamma_negative": 4.0, "gamma_positive": 1.0},
    "gneg0_gpos0": {"gamma_negative": 0.0},
    "gneg2_gpos0_weight_detached": {"detach_weight": True},
    "gneg2_gpos0_clip0": {"clip": 0.0},
}


def check_asl(name: str, expected: dict[str, Any], options: dict[str, Any]) -> None:
    inputs = case(name)[0]
    logits = doubles(inputs["logits"]).requires_grad_()
    loss = asymmetric_loss(logits, doubles(inputs["targets"]), **options)
    near(loss, expected["loss"], name)
    near(torch.autograd.grad(loss, logits)[0], expected["grad"], name)


@pytest.mark.parametrize("name", ["asl_zeros", "asl_saturation"])
def test_asymmetric_loss(name: str) -> None:
    check_asl(name, case(name)[1], {})


@pytest.mark.parametrize("which", list(ASL))
def test_asymmetric_loss_with_other_exponents(which: str) -> None:
    check_asl("asl_2x9", case("asl_2x9")[1][which], ASL[which])


def test_asymmetric_loss_forgets_easy_negatives_and_repeated_batches() -> None:
    easy = torch.tensor([[-3.2, -4.0]], requires_grad=True)  # chances of 0.04 and 0.02
    loss = asymmetric_loss(easy, torch.zeros(1, 2))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, easy)[0].abs().max() == 0
    logits, labels = fill((3, 9), 1, 2.0), (fill((3, 9), 5) > 0).double()
    twice = asymmetric_loss(logits.repeat(2, 1), labels.repeat(2, 1))
    torch.testing.assert_close(twice, asymmetric_loss(logits, labels))


@pytest.mark.parametrize("name", ["kl_uniform_K9", "kl_uniform_K3"])
def test_uniform_kl(name: str) -> None:
    inputs, expected = case(name)
    logits = doubles(inputs["logits"]).requires_grad_()
    loss = uniform_kl(logits)
    near(loss, expected["loss"], name)
    near(torch.autograd.grad(loss, logits)[0], expected["grad"], name)


def test_uniform_kl_is_zero_for_constants_and_blind_to_a_shift() -> None:
    name = "kl_uniform_constant"
    near(uniform_kl(doubles(case(name)[0]["logits"])), case(name)[1]["loss"], name)
    logits = fill((4, 9), 2)
    assert uniform_kl(logits) > 0
    torch.testing.assert_close(uniform_kl(logits + 7), uniform_kl(logits))


def test_domain_cross_entropy() -> None:
    inputs, expected = case("domain_ce")
    loss = cross_entropy(doubles(inputs["logits"]), torch.tensor(inputs["targets"]))
    near(loss, expected["loss"], "domain_ce")


def tiny_embeddings() -> list[torch.Tensor]:
    return [fill((2, 2, 2), k) for k in (11, 12, 13, 14)]


def test_image_level_loss_of_the_released_scorer() -> None:
    name = "image_level_tiny"
    expected, embeddings = case(name)[1], tiny_embeddings()
    scorer = FlatScorer(16, 2).double()
    with torch.no_grad():
        scorer.linear.weight.copy_(fill((16, 64), 15, 0.3))
        scorer.linear.bias.copy_(fill((16,), 16, 0.1))
    scores = scorer(*embeddings)
    near(flat_pairs(*embeddings)[0], expected["flat_input_row0"], name)
    near(scores, expected["scores"], name)
    short, exact = relation_targets(2, 2, "one_short"), relation_targets(2, 2, "exact")
    near(short, expected["ground_truth_row"], name)
    near(image_loss(scores, short.double()), expected["loss"], name)
    near(image_loss(scores, exact.double()), expected["loss_with_corrected_ground_truth"], name)
    assert not any(p.requires_grad for p in scorer.parameters())


def test_relation_targets_of_nine_findings_and_three_domains() -> None:
    expected = case("image_level_gt_9x3")[1]
    short, exact = relation_targets(9, 3, "one_short"), relation_targets(9, 3, "exact")
    ones = short.nonzero()[:, 0]
    assert len(short) == expected["length"]
    assert (ones[0], ones[-1], len(ones)) == (
        expected["first_one"], expected["last_one"], expected["n_ones"],
    )  # fmt: skip
    assert exact.sum() == expected["corrected_n_ones"]
    assert exact.nonzero()[-1] == expected["corrected_last_one"]


@pytest.mark.parametrize("scorer", [FlatScorer(4 * 9 * 3, 4), PairScorer(4)])
def test_a_scorer_without_weights_loses_a_quarter(scorer: torch.nn.Module) -> None:
    for parameter in scorer.parameters():
        torch.nn.init.zeros_(parameter)
    q, qd = torch.randn(2, 9, 4), torch.randn(2, 3, 4)
    loss = image_loss(scorer(q, q, qd, qd), relation_targets(9, 3, "exact"))
    near(loss, case("image_level_zero_scorer")[1]["loss"], "image_level_zero_scorer")


def test_a_linear_pair_score_cannot_beat_the_constant_but_ours_can() -> None:
    """Why the corrected scorer has a hidden layer: the target is an exclusive or."""
    torch.manual_seed(0)
    q, q_bar, qd, qd_bar = (torch.eye(4)[i].expand(1, 1, 4) for i in range(4))
    targets = relation_targets(1, 1, "exact")
    left, right = torch.randn(2, 2, requires_grad=True)

    def linear() -> torch.Tensor:
        scores = torch.stack([left[i] + right[j] for i in (0, 1) for j in (0, 1)]).sigmoid()
        return image_loss(scores[None], targets)

    pairs = PairScorer(4)
    for parameters, loss in (
        ([left, right], linear),
        (list(pairs.parameters()), lambda: image_loss(pairs(q, q_bar, qd, qd_bar), targets)),
    ):
        parameters = (
            [p.detach().requires_grad_() for p in parameters] if loss is linear else parameters
        )
        if loss is linear:
            left, right = parameters
        optimiser = torch.optim.Adam(parameters, lr=0.05)
        for _ in range(400):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
    assert linear().item() > 0.2499
    assert image_loss(pairs(q, q_bar, qd, qd_bar), targets).item() < 0.01


def test_batch_loss_over_findings_as_released_and_by_class() -> None:
    name = "minibatch_disease"
    inputs, expected = case(name)
    z, labels = doubles(inputs["z"]), torch.tensor(inputs["labels"])
    same = label_value_spread(z, labels, "same", "zero")
    different = label_value_spread(z, labels, "different", "zero")
    near(same, expected["upstream_positive"], name)
    near(different, expected["upstream_negative"], name)
    for relation, golden in (("same", "same"), ("different", "diff")):
        terms = class_spreads(z, labels, relation)  # type: ignore[arg-type]
        near(torch.stack(terms).sum(), expected[f"per_class_{golden}_sum"], name)
        assert len(terms) == expected[f"per_class_{golden}_terms"]


@pytest.mark.parametrize(
    "name",
    ["minibatch_domain_3dom", "minibatch_domain_2dom", "minibatch_domain_1dom",
     "minibatch_disease_all_ones"],
)  # fmt: skip
def test_batch_loss_over_domains(name: str) -> None:
    z = doubles(case("minibatch_disease")[0]["z"])
    inputs, expected = case(name)
    labels = torch.tensor(inputs["labels"])
    near(label_value_spread(z, labels, "same", "zero"), expected["positive"], name)
    near(label_value_spread(z, labels, "different", "zero"), expected["negative"], name)


def test_gradient_of_the_batch_loss_flows_through_the_mean() -> None:
    z = doubles(case("minibatch_disease")[0]["z"]).requires_grad_()
    inputs, expected = case("minibatch_grad")
    loss = label_value_spread(z, torch.tensor(inputs["labels"]), "same", "zero")
    near(torch.autograd.grad(loss, z)[0], expected["grad"], "minibatch_grad")


def test_batch_loss_of_identical_rows_of_singletons_and_of_a_shifted_batch() -> None:
    z, labels = fill((1, 2, 3), 4).expand(4, -1, -1), torch.tensor([0, 0, 1, 1])
    assert label_value_spread(z, labels, "same", "skip") < 1e-15
    own = fill((4, 2, 3), 9)
    assert label_value_spread(own, torch.arange(4), "same", "skip") < 1e-15
    shifted = label_value_spread(own + 5, labels, "same", "skip")
    torch.testing.assert_close(shifted, label_value_spread(own, labels, "same", "skip"))
    assert class_spreads(own, torch.eye(4)[:, :2], "same") == []  # one image a class


def test_task_prior() -> None:
    name = "task_prior"
    expected = case(name)[1]
    target = prior_matrix(NINE).double()
    near(target, expected["target"], name)
    assert int((target > 0).sum()) == expected["nonzero"]
    near(target.sum(), expected["sum"], name)
    prior = doubles(expected["target"])
    near(prior_loss(torch.zeros(2, 9, 9).double(), prior), expected["loss_a"], name)
    near(prior_loss(0.5 + 0.5 * fill((2, 9, 9), 31), prior), expected["loss_b"], name)
    own = prior_loss(prior[None], prior)
    torch.testing.assert_close(own, doubles(expected["loss_target"]), rtol=1e-6, atol=0)


def test_no_map_of_rank_one_can_fit_the_prior_better_than_its_bound() -> None:
    values = torch.linalg.svdvals(prior_matrix(NINE).double())
    assert (values[1:].square().sum() / 81).item() == pytest.approx(0.0213518, abs=1e-7)


@pytest.mark.parametrize("name", ["causality_map_nonneg", "causality_map_shift"])
def test_released_causality_map(name: str) -> None:
    inputs, expected = case(name)
    near(causality_map(doubles(inputs["x"]), "batch"), expected["cmap"], name)


def test_released_causality_map_depends_on_the_rest_of_the_batch_and_ours_does_not() -> None:
    inputs, expected = case("causality_map_shift")
    x = doubles(inputs["x"])
    near(causality_map(x[1:], "batch"), expected["cmap_sample1_alone"], "causality_map_shift")
    assert not torch.allclose(causality_map(x, "batch")[1:], causality_map(x[1:], "batch"))
    torch.testing.assert_close(causality_map(x, "row")[1:], causality_map(x[1:], "row"))


def test_causality_map_of_normed_embeddings() -> None:
    name = "causality_map_layernorm"
    expected = case(name)[1]
    found = causality_map(layer_norm(fill((1, 9, 64), 32), (64,)), "batch")
    near(found, expected["cmap"], name)
    near(found.max(), expected["max"], name)


@pytest.mark.parametrize("shift", ["batch", "row"])
def test_causality_map_has_rank_one_fits_its_convention_and_stays_below_one(shift: Any) -> None:
    x = fill((3, 5, 16), 7).abs()
    found = causality_map(x, shift)
    assert (torch.linalg.matrix_rank(found, rtol=1e-6) == 1).all()
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(causality_map(3 * x, shift), found, rtol=1e-6, atol=1e-9)
    lifted = x - x.amin(dim=2, keepdim=True) if shift == "row" else x
    sums = lifted.sum(dim=2)  # map[i, j] s_j = map[j, i] s_i
    torch.testing.assert_close(
        found * sums[:, None, :], (found * sums[:, None, :]).transpose(1, 2), rtol=1e-5, atol=1e-8
    )
