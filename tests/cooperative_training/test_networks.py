from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.cooperative_training.golden_network import (
    GOLDEN,
    MODULES,
    NETWORK,
    assert_summary,
    fill_weights,
    golden_batch,
)
from workflow_scripts.cooperative_training.networks import (
    CooperativeNetworks,
    Norm,
    Up,
    map_of_labels,
    map_of_logits,
    protected,
)


def test_parameters_have_the_released_names_shapes_and_order() -> None:
    networks = CooperativeNetworks()
    for name in MODULES:
        found = [[key, list(one.shape)] for key, one in getattr(networks, name).named_parameters()]
        assert found == NETWORK["parameter_order"][name]
        total = sum(math.prod(shape) for _, shape in found)
        assert total == NETWORK["parameter_counts"][name]
    total = sum(one.numel() for one in networks.parameters())
    assert total == NETWORK["parameter_counts"]["total"]


def test_forward_is_golden() -> None:
    networks = fill_weights(CooperativeNetworks()).eval()
    clean, _, label = golden_batch()
    assert torch.bincount(label.flatten()).tolist() == NETWORK["input"]["label_counts"]
    golden = NETWORK["eval_mode_forward_on_clean_image"]
    with torch.no_grad():
        codes = networks.image_encoder(clean)
        logits = networks.segment(clean)
        shape_code = networks.shape_encoder(map_of_logits(logits))
        found = {
            "z_i": codes.image,
            "z_s": codes.shape,
            "ftn_logits": logits,
            "recon_image": networks.image_decoder(codes.image),
            "shape_code": shape_code,
            "stn_logits": networks.shape_decoder(shape_code),
            "stn_logits_from_ground_truth": networks.correct(map_of_labels(label)),
        }
        for name, tensor in found.items():
            assert_summary(tensor, golden[name], rel=1e-4, atol=1e-5)
        torch.testing.assert_close(networks.predict(clean, 0), logits)
        once = networks.correct(map_of_logits(logits))
        torch.testing.assert_close(networks.predict(clean, 1), once)
        twice = networks.correct(map_of_logits(once))
        torch.testing.assert_close(networks.predict(clean, 2), twice)


@pytest.mark.parametrize("sharing", ["share_code", "without_filter"])
def test_ablations_are_golden(sharing: str) -> None:
    names = {"share_code": "FCN_16_standard_share_code", "without_filter": "_w_o_filter"}
    golden = NETWORK["ablation_network_types_eval_clean"]
    golden = next(value for key, value in golden.items() if key.endswith(names[sharing]))
    networks = fill_weights(CooperativeNetworks(sharing=sharing)).eval()  # type: ignore[arg-type]
    clean = golden_batch()[0]
    with torch.no_grad():
        codes = networks.image_encoder(clean)
        assert torch.equal(codes.image, codes.shape) is golden["z_i_is_z_s"]
        assert_summary(codes.image, golden["z_i"], rel=1e-4, atol=1e-5)
        assert_summary(networks.segment(clean), golden["ftn_logits"], rel=1e-4, atol=1e-5)
        recon = networks.image_decoder(codes.image)
        assert_summary(recon, golden["recon"], rel=1e-4, atol=1e-5)


def test_codes_have_a_sixteenth_of_the_image_and_are_not_negative() -> None:
    networks = CooperativeNetworks(width=2)
    codes = networks.image_encoder(torch.rand(2, 1, 48, 32))
    shape_code = networks.shape_encoder(torch.rand(2, 4, 48, 32))
    for code in (*codes, shape_code):
        assert code.shape == (2, 16, 3, 2)
        assert code.min() >= 0
    image = networks.image_decoder(codes.image)
    assert image.shape == (2, 1, 48, 32)
    assert 0 < image.min() < image.max() < 1
    linear = CooperativeNetworks(width=2, image_output="linear")
    assert linear.image_decoder(codes.image).abs().max() > 1


def test_codes_of_the_papers_image_size_are_golden() -> None:
    networks = CooperativeNetworks().eval()
    with torch.no_grad():
        codes = networks.image_encoder(torch.rand(1, 1, 192, 192))
        shape_code = networks.shape_encoder(torch.rand(1, 4, 192, 192))
    found = {"z_i": codes.image, "z_s": codes.shape, "shape_code": shape_code}
    shapes = {name: list(code.shape) for name, code in found.items()}
    assert shapes == NETWORK["latent_shapes_for_192"]


def test_slow_networks_input_is_golden() -> None:
    golden = GOLDEN["stn_input"]
    soft = map_of_logits(torch.tensor(golden["logits"]))
    np.testing.assert_allclose(soft, golden["softmax_temperature_2"], atol=1e-6)
    hard = map_of_labels(torch.tensor(golden["labels_NHW"]))
    np.testing.assert_array_equal(hard, golden["one_hot"])


def test_shortcut_before_doubling_equals_the_published_order() -> None:
    torch.manual_seed(0)
    up = Up(4, 3, is_learned=False)
    maps = torch.randn(2, 4, 5, 6)
    double = F.interpolate(maps, scale_factor=2, mode="nearest")
    expected = F.leaky_relu(up.conv_input(double) + up.conv(double), 0.2)
    torch.testing.assert_close(up(maps), expected, rtol=1e-5, atol=1e-6)


def test_a_protected_norm_uses_the_batch_and_keeps_no_trace() -> None:
    norm = Norm(3)
    maps = (torch.rand(4, 3, 5, 5) * 7).requires_grad_()
    free = norm(maps.detach())
    mean, count = norm.running_mean.clone(), int(norm.num_batches_tracked)
    with protected(norm):
        out = norm(maps)
    torch.testing.assert_close(out, free)
    out.square().sum().backward()
    assert norm.weight.grad is None
    assert norm.bias.grad is None
    assert maps.grad is not None
    assert torch.equal(norm.running_mean, mean)
    assert int(norm.num_batches_tracked) == count
    norm(maps.detach())
    assert int(norm.num_batches_tracked) == count + 1  # only inside the block


def test_initial_weights_follow_the_released_distributions() -> None:
    torch.manual_seed(0)
    networks = CooperativeNetworks()
    weight = networks.image_encoder.general_encoder.down4.conv[0].weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.01)
    scales = torch.cat([part.weight for part in networks.modules() if isinstance(part, Norm)])
    assert scales.std().item() == pytest.approx(0.02, rel=0.1)
    assert scales.mean().item() == pytest.approx(1, abs=0.005)
    assert networks.shape_decoder.final_conv.bias.abs().max() == 0
    assert networks.image_decoder.final_conv.bias.abs().max() > 0
