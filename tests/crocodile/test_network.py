"""What must hold of the network whatever its weights (CROCODILE spec section 15)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from tests.crocodile.golden import case
from workflow_scripts.crocodile.build import make_objective
from workflow_scripts.crocodile.model import Crocodile, Objective, Orders, total
from workflow_scripts.crocodile.plain import PlainObjective
from workflow_scripts.crocodile.protocols import PROTOCOLS, CrocodileOptions
from workflow_scripts.crocodile.settings import LossWeights, Shape
from workflow_scripts.crocodile.trunk import DilatedResNet, FrozenBatchNorm, SmallTrunk, as_trunk
from workflow_scripts.crocodile.variants import VARIANTS
from workflow_scripts.datasets.chest_findings import NINE
from workflow_scripts.networks.resnet import ResNet, resnet
from workflow_scripts.problems import InputError
from workflow_scripts.training.schedules import one_cycle

RELEASED, CORRECTED = PROTOCOLS["released"], PROTOCOLS["corrected"]
TINY = Shape("small", 64, features=64, heads=4, feed_forward=32)
ONES = LossWeights(**dict.fromkeys((one for one in LossWeights.__slots__), 1.0))
IMAGES = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
LABELS = (torch.rand(4, 9, generator=torch.Generator().manual_seed(1)) > 0.6).float()
DOMAINS = torch.tensor([0, 1, 2, 0])


def objective(
    variant: str = "full", options: CrocodileOptions = CORRECTED, shape: Shape = TINY
) -> Objective:
    trunks = [SmallTrunk(), SmallTrunk()]
    found = make_objective(trunks, NINE, 3, shape, VARIANTS[variant], options, ONES, seed=0)
    assert isinstance(found, Objective)
    return found


def gray_resnet(name: str = "resnet50") -> ResNet:
    network = resnet(name)
    network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()  # type: ignore[assignment]
    return network


def count(module: nn.Module, only_trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not only_trained)


def test_the_released_network_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        shape = Shape()
        model = Crocodile(
            lambda: as_trunk(gray_resnet(), "here"), 9, 3, shape, VARIANTS["full"], RELEASED
        )
        scorer = Objective(model, NINE, 3, shape.features, ONES).scorer
    assert count(model) == 643_190_144
    assert count(model, only_trained=True) == 642_757_888
    transformer = model.disease.transformer
    assert (count(transformer.encoder), count(transformer.decoder)) == (50_358_272, 167_866_368)
    shared = model.shared
    assert count(shared.mix_a) + count(shared.mix_b) == 101_014_748
    assert count(shared.att) == 46_143_488
    assert (count(shared.fuse_conv), count(shared.gate_conv1d)) == (8_390_656, 4_196_352)
    assert count(model.disease.trunk) == 23_454_912 - 6_272
    assert count(model.disease.trunk, only_trained=True) == 23_232_512
    assert scorer is not None
    assert (count(scorer), count(scorer, only_trained=True)) == (47_775_852, 0)


@pytest.mark.parametrize("options", [RELEASED, CORRECTED])
def test_shapes_of_the_eleven_outputs(options: CrocodileOptions) -> None:
    out = objective(options=options).model(IMAGES)
    shapes = [tuple(one.shape) for one in out]
    assert shapes[:6] == [(4, 9)] * 3 + [(4, 3)] * 3
    assert shapes[6:] == [(4, 9, 64), (4, 9, 64), (4, 3, 64), (4, 3, 64), (4, 9, 9)]


def test_the_trunk_keeps_16_pixels_a_place_and_its_beginning_and_norms_never_move() -> None:
    network = gray_resnet().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trunk = as_trunk(network, "here").train()
    found = trunk(IMAGES[:2])
    assert found.shape == (2, 2048, 4, 4)
    found.square().mean().backward()
    frozen = [name for name, p in trunk.named_parameters() if p.grad is None]
    assert len(frozen) == 11
    assert all(name.startswith(("conv1", "layer1")) for name in frozen)
    assert sum(1 for _ in trunk.parameters()) == 53
    for name, value in trunk.named_buffers():
        assert torch.equal(value, before[name]), name
    assert not any(isinstance(part, nn.BatchNorm2d) for part in trunk.modules())


def test_frozen_norm_is_batch_norm_in_evaluation() -> None:
    learned = nn.BatchNorm2d(3)
    with torch.no_grad():
        for tensor in (learned.weight, learned.bias, learned.running_mean):
            assert tensor is not None
            tensor.normal_()
        assert learned.running_var is not None
        learned.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(FrozenBatchNorm(learned)(x), learned.eval()(x))


def without_gradient(found: Objective) -> list[str]:
    out = found.model(IMAGES)
    terms = found.disease_terms(out, LABELS)
    from workflow_scripts.crocodile.model import domain_terms

    total(terms | domain_terms(out, DOMAINS)).backward()
    return [n for n, p in found.model.named_parameters() if p.requires_grad and p.grad is None]


def test_sixteen_released_tensors_never_get_a_gradient_and_no_corrected_one() -> None:
    dead = without_gradient(objective(options=RELEASED))
    assert len(dead) == 16
    assert all("decoder.layers.0" in name and "spurious" in name for name in dead)
    assert without_gradient(objective(options=CORRECTED)) == []


def test_the_branches_share_the_mixing_block_and_nothing_else() -> None:
    model = objective().model.eval()
    before = model(IMAGES)
    with torch.no_grad():
        model.disease.transformer.encoder.layers[0].ffn_in.weight.add_(0.1)  # type: ignore[union-attr,operator]
    after = model(IMAGES)
    assert not torch.equal(before.z_causal, after.z_causal)
    assert torch.equal(before.zd_causal, after.zd_causal)  # type: ignore[arg-type]
    with torch.no_grad():
        model.shared.mix_a.q_conv.weight.mul_(3)
    last = model(IMAGES)
    assert not torch.equal(after.z_causal, last.z_causal)
    assert not torch.equal(after.zd_causal, last.zd_causal)  # type: ignore[arg-type]


def test_no_dropout_no_shuffle_and_no_spurious_embedding_leave_the_causal_one() -> None:
    branch = objective(shape=replace(TINY, intervention_dropout=0.0)).model.disease
    found = branch.transformer(torch.randn(4, 64, 4, 4), branch.query)
    silent = found._replace(spurious=torch.zeros_like(found.spurious))
    assert torch.equal(branch.intervene(silent, None), found.causal)
    order = torch.tensor([1, 2, 3, 0])
    expected = found.causal + found.spurious[order]
    assert torch.equal(branch.intervene(found, order), expected)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch() -> None:
    model = objective().eval().model
    alone = model.read(IMAGES[:1])
    together = model.read(IMAGES)
    for name, value in alone.items():
        torch.testing.assert_close(value, together[name][:1], rtol=1e-4, atol=1e-5)


TERMS = {
    "baseline": {"asl_causal", "kl_spurious", "asl_intervened"},
    "causal_cxr": {"asl_causal", "kl_spurious", "asl_intervened"},
}
TERMS["domain"] = TERMS["baseline"] | {"ce_causal", "kl_domain_spurious", "ce_intervened"}
TERMS["contrastive"] = TERMS["domain"] | {
    "image", "same_disease", "different_disease", "same_domain", "different_domain",
}  # fmt: skip
TERMS["full"] = TERMS["contrastive"] | {"prior"}


@pytest.mark.parametrize("options", [RELEASED, CORRECTED])
@pytest.mark.parametrize("variant", list(TERMS))
def test_each_variant_has_exactly_its_terms_and_trains(
    variant: str, options: CrocodileOptions
) -> None:
    found = objective(variant, options)
    terms = found(IMAGES, LABELS, DOMAINS, Orders(torch.randperm(4), torch.randperm(4)))
    assert set(terms) == TERMS[variant]
    assert all(torch.isfinite(value) for value in terms.values())
    assert (found.model.domain is None) == ("ce_causal" not in TERMS[variant])
    loss = total(terms)
    torch.testing.assert_close(loss, sum(terms.values(), torch.zeros(())))
    loss.backward()


def test_the_competitor_pushes_the_intervened_logits_and_concatenates() -> None:
    found = objective("causal_cxr")
    assert found.model.disease.head_intervened.weight.shape == (1, 9, 128)
    out = found.model(IMAGES)
    ours, theirs = (
        objective("baseline").disease_terms(out, LABELS),
        found.disease_terms(out, LABELS),
    )
    torch.testing.assert_close(theirs["asl_causal"], 10 * ours["asl_causal"])
    assert not torch.isclose(theirs["kl_spurious"], ours["kl_spurious"])


def test_the_plain_baseline_is_its_trunk_and_one_layer() -> None:
    found = make_objective(
        [SmallTrunk()], NINE, 3, TINY, VARIANTS["resnet_asl"], CORRECTED, ONES, seed=0
    )
    assert isinstance(found, PlainObjective)
    assert count(found) - count(SmallTrunk()) == 64 * 9 + 9
    assert set(found(IMAGES, LABELS, DOMAINS, None)) == {"asl_causal"}


def weighted_golden() -> tuple[dict[str, float], dict[str, float]]:
    inputs, expected = case("total_loss")
    names = {
        "asl_causal": ("w_CE_y", "asl_x"), "kl_spurious": ("w_KL_y", "kl_y"),
        "asl_intervened": ("w_CE_y_bd", "asl_bd"), "ce_causal": ("w_CE_d", "ce_d"),
        "kl_domain_spurious": ("w_KL_d", "kl_d"), "ce_intervened": ("w_CE_d_bd", "ce_d_bd"),
        "image": ("w_img", "img"), "same_disease": ("w_Yca", "Yca"),
        "different_disease": ("w_Ysp", "Ysp"), "same_domain": ("w_Dca", "Dca"),
        "different_domain": ("w_Dsp", "Dsp"), "prior": ("w_prior", "prior"),
    }  # fmt: skip
    weights = {name: inputs["weights"][w] for name, (w, _) in names.items()}
    parts = {name: weights[name] * inputs["components"][c] for name, (_, c) in names.items()}
    return weights, {**parts, "total": expected["total"]}


def test_the_configured_released_weights_are_the_launchers_and_give_the_golden_total() -> None:
    weights, parts = weighted_golden()
    with open("config.yaml", encoding="utf-8") as handle:
        configured = yaml.safe_load(handle)["crocodile"]["loss_weights"]
    assert configured["released"] == weights
    assert asdict(LossWeights(**configured["corrected"]))["image"] == 0.68
    expected = parts.pop("total")
    terms = {name: torch.tensor(value, dtype=torch.float64) for name, value in parts.items()}
    assert total(terms).item() == pytest.approx(expected)
    golden = case("total_loss")[1]
    levels = {
        "L_disease": TERMS["baseline"], "L_domain": TERMS["domain"] - TERMS["baseline"],
        "L_image": {"image"}, "L_batch": TERMS["contrastive"] - TERMS["domain"] - {"image"},
        "L_prior": {"prior"},
    }  # fmt: skip
    for level, own in levels.items():
        assert total({name: terms[name] for name in own}).item() == pytest.approx(golden[level])


def test_the_cycle_is_the_golden_one() -> None:
    inputs, expected = case("onecycle")
    for step, golden in expected.items():
        found = one_cycle(int(step), inputs["total_steps"])
        assert inputs["max_lr"] * found.factor == pytest.approx(golden["lr"], rel=1e-6)
        assert found.beta1 == pytest.approx(golden["beta1"], rel=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_size": 48}, "multiple of 32, at least 64"),
        ({"image_size": 100}, "multiple of 32"),
        ({"features": 30}, "multiple of 4"),
        ({"features": 36, "heads": 8}, "and of heads"),
        ({"trunk": "vgg"}, "resnet or small"),
        ({"dropout": 1.0}, "below 1"),
        ({"encoder_layers": 0}, "at least 1"),
    ],
)
def test_a_geometry_that_the_network_cannot_take_is_refused(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Shape(**changed)


def test_the_released_network_refuses_features_other_than_the_trunks_channels() -> None:
    with pytest.raises(InputError, match="64 channels"):
        objective(options=RELEASED, shape=replace(TINY, features=32))
    assert objective(shape=replace(TINY, features=32)).model(IMAGES).q.shape == (4, 9, 32)


@pytest.mark.parametrize("network", [nn.Linear(2, 2), gray_resnet("resnet18"), resnet("resnet50")])
def test_only_a_gray_resnet_with_bottlenecks_becomes_a_trunk(network: nn.Module) -> None:
    with pytest.raises(InputError, match="gray"):
        as_trunk(network, "certificate.json")


def test_half_precision_changes_the_loss_by_rounding_only() -> None:
    found = objective().eval()
    exact = total(found(IMAGES, LABELS, DOMAINS, None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough: Tensor = total(found(IMAGES, LABELS, DOMAINS, None))
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    assert rough.item() != exact.item()


def test_a_trunk_of_the_checkpoint_type_has_2048_channels() -> None:
    assert isinstance(trunk := as_trunk(gray_resnet(), "here"), DilatedResNet)
    assert trunk.channels == 2048
