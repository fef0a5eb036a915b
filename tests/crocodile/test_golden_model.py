from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.crocodile.golden import CASES, case, fill, near, set_parameters
from workflow_scripts.crocodile.attention import DisentangledAttention
from workflow_scripts.crocodile.mixing import Mixing, TriplePathAttention
from workflow_scripts.crocodile.model import Crocodile, GroupwiseLinear, Orders, Outputs
from workflow_scripts.crocodile.protocols import PROTOCOLS
from workflow_scripts.crocodile.settings import Shape
from workflow_scripts.crocodile.transformer import sine_positions
from workflow_scripts.crocodile.variants import VARIANTS

RELEASED = PROTOCOLS["released"]


class FixedMap(nn.Module):
    """Stands in for a trunk: whatever the image, the golden feature map."""

    channels = 8

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return fill((2, 8, 4, 4), self.k)


def tiny_model() -> Crocodile:
    """Return the golden end-to-end network with its 160 tensors."""
    seeds = iter((61, 62))
    shape = Shape(features=8, heads=2, feed_forward=16)
    model = Crocodile(lambda: FixedMap(next(seeds)), 3, 2, shape, VARIANTS["full"], RELEASED)
    model = model.double().eval()

    def name(role: str) -> str:
        role = role.replace(".encoder.", ".transformer.encoder.")
        role = role.replace(".decoder.", ".transformer.decoder.")
        if role.split(".")[1].startswith("head_"):
            role = role.removesuffix(".W").removesuffix(".b") + (
                ".weight" if role.endswith(".W") else ".bias"
            )
        return role

    set_parameters(model, CASES["tiny_end_to_end_eval"]["inputs"]["parameters"], name)
    return model


def test_the_whole_network_gives_all_eleven_golden_outputs() -> None:
    expected = case("tiny_end_to_end_eval")[1]
    swapped = torch.tensor([1, 0])
    out = tiny_model()(torch.zeros(2, 1, 64, 64), Orders(swapped, swapped))
    golden_names = {
        "z_causal": "z_causal", "z_intervened": "z_intervened", "z_spurious": "z_spurious",
        "zd_causal": "zd_causal", "zd_intervened": "zd_intervened", "zd_spurious": "zd_spurious",
        "q": "Q", "q_bar": "Q_bar", "qd": "Qd", "qd_bar": "Qd_bar", "causality": "cmap",
    }  # fmt: skip
    assert set(golden_names) == set(Outputs._fields)
    for field, golden in golden_names.items():
        near(getattr(out, field), expected[golden], "tiny_end_to_end_eval")


def test_without_a_shuffle_each_image_keeps_its_own_spurious_embedding() -> None:
    expected = case("tiny_end_to_end_eval")[1]
    out = tiny_model()(torch.zeros(2, 1, 64, 64))
    near(out.z_intervened, expected["z_intervened_identity_perm"], "tiny_end_to_end_eval")
    near(out.zd_intervened, expected["zd_intervened_identity_perm"], "tiny_end_to_end_eval")


def test_the_tokens_on_the_way_are_the_golden_ones() -> None:
    model, expected = tiny_model(), case("tiny_end_to_end_eval")[1]["intermediate_disease"]
    feature_map = fill((2, 8, 4, 4), 61)
    mixed = model.shared.mix_a(feature_map) + model.shared.mix_b(feature_map)
    attended, fused = model.shared.att(feature_map), model.shared(feature_map)
    gate = model.shared.gate_conv1d(feature_map.mean(dim=(2, 3))[:, :, None]).sigmoid()
    near(mixed[0, :, 0, 0], expected["dnet_sum"], "tiny_end_to_end_eval")
    near(gate[0, :, 0], expected["gate"], "tiny_end_to_end_eval")
    near(attended[0, :, 0, 0], expected["att"], "tiny_end_to_end_eval")
    near(fused[0, :, 0, 0], expected["fused_token_0_0"], "tiny_end_to_end_eval")
    near(fused[1, :, 3, 2], expected["fused_token_1_3_2"], "tiny_end_to_end_eval")
    tokens = fused.flatten(2).transpose(1, 2)
    places = sine_positions(8, 4, 4).double().flatten(1).T[None]
    memory = model.disease.transformer.encoder(tokens, places)
    near(memory[0, 0], expected["encoder_memory_token0_sample0"], "tiny_end_to_end_eval")


def test_one_pass_gives_what_two_passes_give_when_nothing_is_dropped() -> None:
    twice, once = tiny_model(), tiny_model()
    for branch in (once.disease, once.domain):
        assert branch is not None
        branch.transformer.passes = 1
    images = torch.zeros(2, 1, 64, 64)
    for a, b in zip(twice(images), once(images), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["unfold", "matrix"])
def test_mixing_module_in_both_forms(form: str) -> None:
    inputs, expected = case("mixing_module")
    mixing = Mixing(8, form).double()
    mixing.pre_conv = nn.Identity()  # type: ignore[assignment]  # golden without it
    set_parameters(mixing, inputs["parameters"], lambda role: role)
    near(mixing.mix(fill((1, 8, 4, 5), 90)), expected["output"], "mixing_module")


def test_both_window_forms_have_the_same_gradient() -> None:
    torch.manual_seed(0)
    unfolded, shifted = Mixing(8, "unfold").double(), Mixing(8, "matrix").double()
    shifted.load_state_dict(unfolded.state_dict())
    x = torch.randn(2, 8, 5, 4, dtype=torch.float64, requires_grad=True)
    a, b = (torch.autograd.grad(part(x).square().sum(), x)[0] for part in (unfolded, shifted))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_triple_path_attention() -> None:
    attention = TriplePathAttention(4).double()
    with torch.no_grad():
        for k, name in enumerate(("se_conv", "conv1x1", "conv3x3")):
            part = getattr(attention, name)
            part.weight.copy_(fill(tuple(part.weight.shape), 101 + 2 * k, 0.3))
            part.bias.copy_(fill((4,), 102 + 2 * k, 0.1))
    name = "triple_path_attention"
    near(attention(fill((1, 4, 3, 3), 110)), case(name)[1]["output"], name)


def golden_attention(dropout: float = 0.0, before: bool = False) -> DisentangledAttention:
    attention = DisentangledAttention(4, 2, dropout, before).double()
    with torch.no_grad():
        attention.in_proj_weight.copy_(fill((12, 4), 51, 0.5))
        attention.in_proj_bias.copy_(fill((12,), 52, 0.1))
        attention.out_proj.weight.copy_(fill((4, 4), 53, 0.5))
        attention.out_proj.bias.copy_(fill((4,), 54, 0.1))
    return attention


def golden_tokens() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shapes = ((2, 1, 4), (3, 1, 4), (3, 1, 4))  # upstream's layout: tokens first
    found = [fill(shape, 55 + number).transpose(0, 1) for number, shape in enumerate(shapes)]
    return found[0], found[1], found[2]


def test_disentangled_attention() -> None:
    name = "disentangled_attention"
    expected, found = case(name)[1], golden_attention()(*golden_tokens())
    near(found.causal[0], expected["causal"], name)
    near(found.spurious[0], expected["spurious"], name)
    near(found.weights[0], expected["attention_mean_over_heads"], name)


def test_the_causal_output_is_that_of_stock_attention() -> None:
    own, tokens = golden_attention(), golden_tokens()
    stock = nn.MultiheadAttention(4, 2, batch_first=True).double()
    stock.load_state_dict(own.state_dict())
    torch.testing.assert_close(own(*tokens).causal, stock(*tokens)[0])


def test_causal_plus_spurious_is_the_same_for_all_queries() -> None:
    found = golden_attention()(*golden_tokens())
    both = found.causal + found.spurious
    torch.testing.assert_close(both[:, 0], both[:, 1])


def test_without_values_both_outputs_are_the_bias_and_one_key_leaves_nothing_out() -> None:
    attention, (query, key, value) = golden_attention(), golden_tokens()
    one = attention(query, key[:, :1], value[:, :1])
    bias = attention.out_proj.bias.expand(1, 2, 4)
    torch.testing.assert_close(one.spurious, bias)
    with torch.no_grad():
        attention.in_proj_weight[8:] = 0
        attention.in_proj_bias[8:] = 0
    empty = attention(query, key, value)
    torch.testing.assert_close(empty.causal, bias)
    torch.testing.assert_close(empty.spurious, bias)


def test_the_complement_is_of_the_dropped_attention_unless_asked_otherwise() -> None:
    tokens, found = golden_tokens(), {}
    for before in (False, True):
        torch.manual_seed(3)
        found[before] = golden_attention(0.5, before).train()(*tokens)
    assert torch.equal(found[True].causal, found[False].causal)
    assert not torch.allclose(found[True].spurious, found[False].spurious)
    undropped = golden_attention()(*tokens).spurious
    torch.testing.assert_close(found[True].spurious, undropped)
    assert not torch.allclose(found[False].spurious, undropped)
    both = found[False].causal + found[False].spurious  # holds for the mask that was drawn too
    torch.testing.assert_close(both[:, 0], both[:, 1])


def test_groupwise_linear() -> None:
    head = GroupwiseLinear(3, 4).double()
    with torch.no_grad():
        head.weight.copy_(fill((1, 3, 4), 41))
        head.bias.copy_(fill((1, 3), 42))
    near(head(fill((2, 3, 4), 43)), case("groupwise_linear")[1]["logits"], "groupwise_linear")


def test_sine_positions() -> None:
    near(sine_positions(8, 2, 3)[None], case("pos_encoding")[1]["values"], "pos_encoding")
