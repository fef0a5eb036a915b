"""The U-Net, its heads and the generic wrapper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workflow_scripts.layer_ensembles.heads import segmentation_head, vector_head
from workflow_scripts.layer_ensembles.losses import dice_loss, weighted_cross_entropy
from workflow_scripts.layer_ensembles.methods import MultiHeadUNet, make_members, predictions_of
from workflow_scripts.layer_ensembles.protocols import OPTIONS
from workflow_scripts.layer_ensembles.wrapper import (
    LayerEnsembles,
    attach_heads,
    head_logits,
    total_loss,
)
from workflow_scripts.networks.scse_unet import (
    ScseUNet,
    SpatialChannelAttention,
    UNetWidths,
)
from workflow_scripts.problems import InputError

Golden = dict[str, Any]
TINY = UNetWidths(8, (32, 16, 16, 8, 8))
EXAMPLE = torch.zeros(1, 1, 64, 64)


def parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def tiny(n_classes: int = 2) -> ScseUNet:
    torch.manual_seed(0)
    return ScseUNet(n_classes, widths=TINY)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_published_network_has_the_golden_numbers_of_parameters(
    golden: Golden, n_classes: int
) -> None:
    case = golden["architecture"]
    with torch.device("meta"):
        network = ScseUNet(n_classes)
        layers = [segmentation_head(c, s, n_classes) for c, s in
                  zip(case["tap_channels"][:9], case["tap_strides"][:9], strict=True)]  # fmt: skip
    assert parameters(network) == case["params"][f"plain_{n_classes}class"]
    with_heads = parameters(network) + sum(map(parameters, layers))
    assert with_heads == case["params"][f"le10_{n_classes}class"]
    own = parameters(segmentation_head(case["tap_channels"][9], 1, n_classes))
    assert sum(map(parameters, layers)) + own == case["params"][f"heads10_{n_classes}class"]
    if n_classes == 2:
        assert parameters(network.encoder) == case["params"]["encoder"]
        assert parameters(network.decoder) == case["params"]["decoder"]


def test_automatic_layers_are_the_ten_of_the_paper(golden: Golden) -> None:
    wrapped = attach_heads(tiny(), EXAMPLE, "segmentation", 2)
    assert wrapped.layer_names == (
        "encoder.relu", *(f"encoder.layer{i}" for i in range(1, 5)),
        *(f"decoder.blocks.{i}" for i in range(4)),
    )  # fmt: skip
    scales = [64 // int(x.shape[-1]) for x in LayerEnsembles(tiny(), wrapped.layer_names)(EXAMPLE).values()]  # fmt: skip  # noqa: E501
    assert scales == golden["architecture"]["tap_strides"]
    shapes = {tuple(one.shape) for one in head_logits(wrapped(EXAMPLE))}
    assert shapes == {(1, 2, 64, 64)}


def test_pattern_finds_the_layers_of_the_newest_commit(golden: Golden) -> None:
    case = golden["architecture"]
    wrapped = attach_heads(tiny(), EXAMPLE, "segmentation", 2, r".*\.relu")
    newest = case["newest_commit_wrapper"]
    assert list(wrapped.layer_names) == newest["hooked_names"]
    sides = [int(one.shape[-1]) for one in LayerEnsembles(tiny(), wrapped.layer_names)(EXAMPLE).values()]  # fmt: skip  # noqa: E501
    assert [64 // side for side in sides[:-1]] == newest["scale_factors"]
    assert len(head_logits(wrapped(EXAMPLE))) == newest["outputs_including_final"]
    with torch.device("meta"):
        full = attach_heads(ScseUNet(2), EXAMPLE.to("meta"), "segmentation", 2, r".*\.relu")
        unused = segmentation_head(newest["unused_extra_head_in_channels"], 1, 2)  # theirs only
    assert parameters(full) + parameters(unused) == newest["params_2class"]
    from workflow_scripts.networks.resnet import resnet

    classifier = resnet("resnet18")
    wrapped = attach_heads(classifier, torch.zeros(1, 3, 64, 64), "classification", 1000, r".*\.relu")  # fmt: skip  # noqa: E501
    assert list(wrapped.layer_names) == case["torchvision_resnet18_hooked"]


def test_attention_and_upsampling_have_the_golden_values(golden: Golden) -> None:
    case, bilinear = golden["scse"], golden["bilinear_align_corners"]
    module = SpatialChannelAttention(2).double()
    reduce, expand, spatial = module.cSE[1], module.cSE[3], module.sSE[0]
    for conv, weight, bias in (
        (reduce, case["c_reduce_weight"], [case["c_reduce_bias"]]),
        (expand, case["c_expand_weight"], case["c_expand_bias"]),
        (spatial, case["s_weight"], [case["s_bias"]]),
    ):
        conv.weight.data = torch.tensor(weight, dtype=torch.float64).reshape(conv.weight.shape)
        conv.bias.data = torch.tensor(bias, dtype=torch.float64)
    found = module(torch.tensor(case["x"], dtype=torch.float64))
    torch.testing.assert_close(
        found, torch.tensor(case["y"], dtype=torch.float64), rtol=1e-9, atol=1e-12
    )
    up = segmentation_head(1, bilinear["scale"], 1)[2]
    found = up(torch.tensor(bilinear["x"]))
    torch.testing.assert_close(found, torch.tensor(bilinear["y"]), rtol=1e-6, atol=1e-6)


def test_losses_have_the_golden_values_and_gradients(golden: Golden) -> None:
    case, entropy = golden["dice_loss"], golden["weighted_cross_entropy"]
    logits = torch.tensor(case["logits_BCHW"]).double().requires_grad_()
    truth = torch.tensor(case["target_map_BHW"])
    foreground = dice_loss(logits, truth, all_classes=False)
    foreground.backward()
    assert foreground.item() == pytest.approx(case["multilabel_class1_sigmoid"], rel=1e-9)
    assert logits.grad is not None
    assert float(logits.grad[:, 0].abs().sum()) == case["grad_channel0_abs_sum"]
    np.testing.assert_allclose(logits.grad[:, 1], case["grad_channel1"], rtol=1e-6)
    both = dice_loss(logits, truth, all_classes=True)
    assert both.item() == pytest.approx(case["multiclass_softmax_both_classes"], rel=1e-9)
    empty = torch.zeros_like(truth)
    found = dice_loss(logits, empty, all_classes=False).item()
    assert found == case["all_background_multilabel_class1"]
    found = dice_loss(logits, empty, all_classes=True).item()
    assert found == pytest.approx(case["all_background_multiclass"], rel=1e-9)
    hearts = torch.tensor(entropy["logits_BCHW"]).double()
    if hearts.ndim == 3:
        hearts = hearts[None]
    found = weighted_cross_entropy(hearts, torch.tensor(entropy["target_map_BHW"])).item()
    assert found == pytest.approx(entropy["one_hot_target_mean"], rel=1e-9)
    weights, truth = torch.tensor(entropy["weights"]).double(), torch.tensor(entropy["target_map_BHW"])  # fmt: skip  # noqa: E501
    other = nn.functional.cross_entropy(hearts, truth, weight=weights).item()
    assert other == pytest.approx(entropy["index_target_mean"], rel=1e-7)  # what ours must not be
    half = [dice_loss(8 * logits.detach().half(), truth.new_ones(2, 2, 2), all_classes=True),
            weighted_cross_entropy(hearts.half(), truth)]  # fmt: skip
    assert [one.dtype for one in half] == [torch.float32] * 2


@pytest.mark.parametrize("all_classes", [False, True])
def test_dice_loss_is_a_share_and_nothing_where_the_prediction_is_right(all_classes: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    truth = torch.randint(0, 2, (2, 8, 8), generator=generator)
    right = 40.0 * (nn.functional.one_hot(truth).movedim(-1, 1) - 0.5)
    assert float(dice_loss(right, truth, all_classes=all_classes)) == pytest.approx(0, abs=1e-6)
    wrong = float(dice_loss(-right, truth, all_classes=all_classes))
    random = torch.randn(2, 2, 8, 8, generator=generator)
    assert 0 < float(dice_loss(random, truth, all_classes=all_classes)) < wrong <= 1


def test_own_output_is_untouched_and_the_dry_pass_changes_nothing() -> None:
    plain, wrapped = tiny(), tiny()
    before = {name: one.clone() for name, one in wrapped.named_buffers()}
    wrapped.train()
    network = attach_heads(wrapped, EXAMPLE, "segmentation", 2)
    assert wrapped.training
    assert all(torch.equal(before[name], one) for name, one in wrapped.named_buffers())
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = network.eval()(images)
        assert torch.equal(outputs["final"], plain.eval()(images))
    assert list(outputs) == [*network.layer_names, "final"]
    assert not network._features  # no feature outlives its pass


def test_loss_is_the_sum_of_the_heads_and_reaches_every_head() -> None:
    network = attach_heads(tiny(), EXAMPLE, "segmentation", 2)
    images = torch.randn(2, 1, 64, 64)
    truth = torch.randint(0, 2, (2, 64, 64))

    def criterion(logits: Tensor) -> Tensor:
        return dice_loss(logits, truth, all_classes=True)

    outputs = network.eval()(images)
    total = total_loss(outputs, criterion)
    each = sum(criterion(one) for one in head_logits(outputs))
    torch.testing.assert_close(total, each)
    total.backward()
    assert all(float(head[1].weight.grad.abs().sum()) > 0 for head in network.output_heads)
    network.zero_grad()
    outputs = network(images)
    total_loss(dict(list(outputs.items())[:1]), criterion).backward()  # the first head alone
    assert float(network.model.encoder.conv1.weight.grad.abs().sum()) > 0
    assert network.model.segmentation_head.weight.grad is None


def test_heads_are_set_once_and_wrong_words_are_refused() -> None:
    wrapped = LayerEnsembles(tiny(), ["encoder.relu"])
    with pytest.raises(ValueError, match="task"):
        wrapped.set_output_heads([8], [2], "detection", 2)  # type: ignore[arg-type]
    wrapped.set_output_heads([8], [2], "segmentation", 2)
    with pytest.raises(ValueError, match="only once"):
        wrapped.set_output_heads([8], [2], "segmentation", 2)
    with pytest.raises(ValueError, match="pooling"):
        vector_head(8, 2, "median")
    with pytest.raises(KeyError, match="no layer"):
        LayerEnsembles(tiny(), ["encoder.gelu"])
    assert isinstance(vector_head(8, 2)[3], nn.Linear)
    assert isinstance(segmentation_head(8, 2, 2)[1], nn.Conv2d)


def test_what_cannot_carry_a_head_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"did you mean 'encoder\.relu'"):
        attach_heads(tiny(), EXAMPLE, "segmentation", 2, ["encoder.rellu"])
    with pytest.raises(InputError, match="the network's own output: expected shape"):
        attach_heads(tiny(), EXAMPLE, "segmentation", 4)
    with pytest.raises(InputError, match="changes in place"):
        attach_heads(tiny(), EXAMPLE, "segmentation", 2, ["encoder.bn1"])
    with pytest.raises(ValueError, match="multiples of 32"):
        attach_heads(tiny(), torch.zeros(1, 1, 24, 24), "segmentation", 2)


class Tokens(nn.Module):
    """A transformer's shape: 4 x 4 patches and a class token in front."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, stride=8)
        self.blocks = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        logits: Tensor = self.head(self.blocks(tokens)[:, 0])
        return logits


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_token_networks_get_heads_by_pattern_for_both_vector_tasks(task: Any) -> None:
    example = torch.zeros(2, 3, 32, 32)
    with pytest.raises(InputError, match="transformer"):
        attach_heads(Tokens(), example, task, 5)
    network = attach_heads(Tokens(), example, task, 5, r"blocks\.\d")
    assert [tuple(one.shape) for one in head_logits(network(example))] == [(2, 5)] * 4


def test_wrapper_works_compiled_and_leaves_out_uncalled_layers() -> None:
    network = attach_heads(Tokens(), torch.zeros(1, 3, 32, 32), "classification", 5, r"blocks\.\d")
    compiled = torch.compile(network.eval(), backend="eager", fullgraph=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for found, expected in zip(head_logits(compiled(images)), head_logits(network(images)),
                                   strict=True):  # fmt: skip
            assert torch.equal(found, expected)
    network.layer_names = ("blocks.9",)
    with pytest.raises(RuntimeError, match="were not called"):
        network(images)


@pytest.mark.parametrize("method", ["plain", "multi_head", "deep_ensembles", "layer_ensembles"])
def test_every_method_gives_logits_of_full_size(method: str) -> None:
    members = make_members(
        method, 0, 2, n_classes=4, widths=TINY, n_heads=3, options=OPTIONS["paper"]
    )
    logits = predictions_of(list(members.eval()), torch.randn(1, 1, 64, 64))
    expected = {"plain": 1, "multi_head": 3, "deep_ensembles": 2, "layer_ensembles": 10}[method]
    assert tuple(logits.shape) == (expected, 1, 4, 64, 64)
    if method == "deep_ensembles":
        assert not torch.equal(logits[0], logits[1])  # initialised differently


def test_heads_of_multi_head_start_apart() -> None:
    network = MultiHeadUNet(2, TINY, 3).eval()
    first, second, _ = network(torch.randn(1, 1, 64, 64))
    assert not torch.equal(first, second)
