from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.cooperative_training.golden_network import (
    GOLDEN,
    MODULES,
    NETWORK,
    assert_summary,
    fill_weights,
    golden_batch,
    norm_counters,
)
from workflow_scripts.cooperative_training.losses import (
    Batch,
    Draws,
    HardExamples,
    StandardPass,
    Terms,
    TrainingOptions,
    hard_pass,
    image_loss,
    loss_terms,
    make_hard_examples,
    standard_pass,
    total_loss,
)
from workflow_scripts.cooperative_training.masking import MaskDraw, MaskOptions, MaskType
from workflow_scripts.cooperative_training.networks import (
    CooperativeNetworks,
    Norm,
    map_of_labels,
    protected,
)

GOLDEN_STEPS = NETWORK["one_training_step"]["cases"]
NAMES = {
    "seg": "standard/seg",
    "image_half_mse": "standard/image",
    "gt_shape": "standard/gt_shape",
    "pred_shape": "standard/shape",
}
HARD_NAMES = {
    "seg": "hard/seg",
    "image_half_mse": "hard/image",
    "shape_on_ftn_prediction": "hard/shape",
    "shape_on_corrupted_seg": "hard/corrupted_shape",
}


def golden_options(kind: MaskType, is_separate: bool) -> tuple[TrainingOptions, Draws]:
    mask = MaskOptions(kind, 0.5, has_random_threshold=False, is_soft=False)
    options = TrainingOptions(image_mask=mask, shape_mask=mask, is_separate=is_separate)
    draw = MaskDraw(kind, 0.5)
    return options, Draws(draw, draw, torch.Generator().manual_seed(0))


def counters(networks: CooperativeNetworks) -> dict[str, list[int]]:
    return {name: norm_counters(getattr(networks, name)) for name in MODULES}


@pytest.mark.parametrize("name", ["none", "channel", "spatial", "channel_separate_training"])
def test_one_training_step_is_golden(name: str) -> None:
    golden = GOLDEN_STEPS[name]
    networks = fill_weights(CooperativeNetworks()).train()
    batch = Batch(*golden_batch())
    options, draws = golden_options(
        "spatial" if name == "spatial" else "channel", name.endswith("separate_training")
    )
    standard = standard_pass(networks, batch, options)
    for key, term in NAMES.items():
        assert standard.terms[term].item() == pytest.approx(golden["standard"][key], rel=1e-3)
    assert counters(networks) == golden["bn_counter_after"]["standard"]
    terms = standard.terms
    if name != "none":
        hard = make_hard_examples(networks, batch, standard, options, draws)
        assert counters(networks) == golden["bn_counter_after"]["generation"]
        assert hard.image is not None
        assert hard.logits is not None
        found = [hard.image.requires_grad, hard.logits.requires_grad]
        assert found == golden["corrupted_requires_grad"]
        assert_summary(hard.image, golden["corrupted_image"], rel=1e-3, atol=1e-4)
        assert_summary(hard.logits, golden["corrupted_seg_logits"], rel=1e-3, atol=1e-3)
        terms = terms | hard_pass(networks, batch, hard, options)
        for key, term in HARD_NAMES.items():
            assert terms[term].item() == pytest.approx(golden["hard"][key], rel=1e-3)
        assert counters(networks) == golden["bn_counter_after"]["hard"]
    loss = total_loss(terms, options)
    assert loss.item() == pytest.approx(golden["total"], rel=1e-3)
    optimiser = torch.optim.Adam(networks.parameters(), lr=1e-4)
    loss.backward()
    for module, norm in golden["grad_l2_per_module"].items():
        parts = [one.grad for one in getattr(networks, module).parameters() if one.grad is not None]
        total = torch.cat([part.flatten() for part in parts]).norm().item()
        assert total == pytest.approx(norm, rel=5e-2), module
    optimiser.step()
    for module, expected in golden["param_abs_sum_after_adam_step"].items():
        total = sum(one.abs().sum().item() for one in getattr(networks, module).parameters())
        assert total == pytest.approx(expected, rel=1e-4)


def test_dropout_leaves_the_decoders_statistics_alone() -> None:
    networks = CooperativeNetworks(width=2).train()
    options, draws = golden_options("dropout", False)
    loss_terms(networks, Batch(*golden_batch()), options, draws)
    assert counters(networks) == GOLDEN_STEPS["dropout_bn_only"]["bn_counter_after"]["hard"]


def test_loss_functions_are_golden() -> None:
    golden = GOLDEN["cross_entropy"]
    logits, labels = torch.tensor(golden["logits"]), torch.tensor(golden["labels_NHW"])
    found = F.cross_entropy(logits, labels).item()
    for name in ("training_loss", "masking_loss"):  # one function for both
        assert found == pytest.approx(golden[f"{name}_hard_labels"], abs=1e-6)
    assert found == pytest.approx(golden["basic_loss_fn_cross_entropy"], abs=1e-6)
    golden = GOLDEN["image_reconstruction_loss"]
    recon, clean = torch.tensor(golden["recon"]), torch.tensor(golden["clean"])
    assert image_loss(recon, clean).item() == pytest.approx(golden["half_mse"])
    assert F.mse_loss(recon, clean).item() == pytest.approx(golden["masking_mse"])


ROUTES = {
    "standard/seg": "standard/seg",
    "standard/image": "standard/image",
    "standard/gt_shape": "standard/gt_shape",
    "standard/pred_shape": "standard/shape",
    "hard/seg": "hard/seg",
    "hard/image": "hard/image",
    "hard/shape_on_ftn_prediction": "hard/shape",
    "hard/shape_on_corrupted_seg": "hard/corrupted_shape",
}


def routes(networks: CooperativeNetworks, term: torch.Tensor) -> dict[str, str]:
    """Say which parameters get a gradient from one term, in the golden words."""
    named = dict(networks.named_parameters())
    gradients = torch.autograd.grad(
        term, list(named.values()), retain_graph=True, allow_unused=True
    )
    reached = {key for key, one in zip(named, gradients, strict=True) if one is not None}
    norms = {
        f"{path}.{leaf}"
        for path, part in networks.named_modules()
        if isinstance(part, Norm)
        for leaf in ("weight", "bias")
    }
    found = {}
    for module in MODULES:
        mine = {key for key in named if key.startswith(module + ".")}
        filtered = {key for key in mine if ".code_decoupler." in key}
        got = mine & reached
        if not got:
            continue
        words = "conv+norm" if got & norms else "conv only (norm scale/shift frozen)"
        if filtered and not got & filtered:
            words += ", general encoder only"
            mine -= filtered
        assert got == (mine if "+" in words else mine - norms), f"{module}: a part is missing"
        found[module] = words
    return found


@pytest.mark.parametrize("is_separate", [False, True])
def test_gradients_go_where_they_should(is_separate: bool) -> None:
    networks = CooperativeNetworks(width=2).train()
    options, draws = golden_options("channel", is_separate)
    terms = loss_terms(networks, Batch(*golden_batch()), options, draws)
    suffix = " [separate_training]" if is_separate else ""
    for key, term in ROUTES.items():
        assert routes(networks, terms[term]) == NETWORK["gradient_routing"][key + suffix], key


def test_making_hard_examples_leaves_decoders_without_gradient() -> None:
    networks = CooperativeNetworks(width=2).train()
    before = {key: value.clone() for key, value in networks.named_parameters()}
    batch, (options, draws) = Batch(*golden_batch()), golden_options("spatial", False)
    standard = standard_pass(networks, batch, options)
    make_hard_examples(networks, batch, standard, options, draws)
    for key, value in networks.named_parameters():
        assert value.grad is None
        assert value.requires_grad
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    ("scope", "hard_terms"),
    [
        ((), set()),
        (("image code",), {"hard/seg", "hard/image", "hard/shape"}),
        (("shape code",), {"hard/corrupted_shape"}),
    ],
)
def test_scope_decides_the_hard_terms(scope: Any, hard_terms: set[str]) -> None:
    networks = CooperativeNetworks(width=2).train()
    _, draws = golden_options("channel", False)
    options = TrainingOptions(mask_scope=scope)
    terms = loss_terms(networks, Batch(*golden_batch()), options, draws)
    assert {name for name in terms if name.startswith("hard/")} == hard_terms
    total_loss(terms, options).backward()
    for key, value in networks.named_parameters():  # the slow network and D_i always learn
        assert value.grad is not None, key


def test_label_term_can_be_logged_without_training() -> None:
    terms: Terms = {"standard/seg": torch.tensor(1.0), "standard/gt_shape": torch.tensor(5.0)}
    assert total_loss(terms, TrainingOptions()).item() == 6
    assert total_loss(terms, TrainingOptions(has_label_loss=False)).item() == 1


def reference_hard_example(
    decoder: nn.Module, code: torch.Tensor, loss: Any, mask: Any
) -> torch.Tensor:
    """Decode a copy of the code once more, as published, and mask by its gradient."""
    copy = code.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(decoder(copy)), copy)
    with torch.no_grad(), protected(decoder):
        out: torch.Tensor = decoder(copy * mask(gradient))
    return out


def test_gradient_of_the_standard_pass_equals_a_second_decoding() -> None:
    from workflow_scripts.cooperative_training.masking import targeted_mask

    torch.manual_seed(1)
    first, second = (CooperativeNetworks(width=4).train() for _ in range(2))
    second.load_state_dict(first.state_dict())
    batch, (options, draws) = Batch(*golden_batch()), golden_options("channel", False)
    standard: StandardPass = standard_pass(first, batch, options)
    fast: HardExamples = make_hard_examples(first, batch, standard, options, draws)
    plain = standard_pass(second, batch, options)

    def mask(gradient: torch.Tensor) -> torch.Tensor:
        return targeted_mask(gradient, draws.image, False, None)

    image = reference_hard_example(
        second.image_decoder, plain.codes.image, lambda out: F.mse_loss(out, batch.clean), mask
    )
    logits = reference_hard_example(
        *(second.segmentation_decoder, plain.codes.shape),
        *(lambda out: F.cross_entropy(out, batch.labels), mask),
    )
    torch.testing.assert_close(fast.image, image)
    torch.testing.assert_close(fast.logits, logits)
    for key, value in first.state_dict().items():  # running statistics included
        torch.testing.assert_close(value, second.state_dict()[key], msg=key)


def test_labels_become_exact_maps() -> None:
    labels = torch.tensor([[[0, 3], [1, 2]]])
    assert torch.equal(map_of_labels(labels).argmax(1), labels)
