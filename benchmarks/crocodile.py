"""One training step of the published network: as released, and as `corrected` computes it.

    python -m benchmarks.crocodile [--batch 1] [--side 320] [--channels 2048]

Both have the same weights and no dropout; loss and gradients must be equal up to rounding. Memory
is what the graph keeps for the backward pass, counted without computing anything, so it is that
of any device; weights, gradients and AdamW's state (16 bytes a parameter) come on top of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.reference.crocodile import released_way
from benchmarks.timing import Comparison, compare
from workflow_scripts.checkpoints.backbone import build_backbone
from workflow_scripts.crocodile.model import Crocodile, Objective, total
from workflow_scripts.crocodile.protocols import PROTOCOLS
from workflow_scripts.crocodile.settings import LossWeights, Shape
from workflow_scripts.crocodile.trunk import STRIDE, as_trunk
from workflow_scripts.crocodile.variants import VARIANTS
from workflow_scripts.datasets.chest_findings import NINE

PUBLISHED_BATCH = 12  # images on one GPU (released launcher)
FULL_CHANNELS = 2048  # of the ResNet-50
GIB = 2**30
TOLERANCE = 1e-3  # of the norm; float32, sums in another order through 50 and more layers
WATCHED = ("disease.query", "shared.mix_a.q_conv.weight", "shared.mix_b.pos_conv.weight")


class Narrow(nn.Module):
    """Stands in for the ResNet where a narrower network is asked for: one strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.convolution = nn.Conv2d(1, channels, STRIDE, stride=STRIDE)

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map, (B, 1, S, S) -> (B, C, S/16, S/16)."""
        found: Tensor = self.convolution(images)
        return found


class Step(NamedTuple):
    """What one training step gave."""

    loss: Tensor
    gradients: tuple[Tensor, ...]  # of the parameters `WATCHED`


def make_network(side: int, channels: int, dropout: float, variant: str) -> Crocodile:
    """Return the network of the corrected protocol with random weights."""
    shape = Shape(
        image_size=side, features=channels, feed_forward=4 * channels, dropout=dropout,
        intervention_dropout=dropout,
    )  # fmt: skip

    def trunk() -> nn.Module:
        if channels != FULL_CHANNELS:
            return Narrow(channels)
        network = build_backbone("torchvision", "resnet50+gray")
        fit_norms(network, side)
        return as_trunk(network, "resnet50+gray")

    torch.manual_seed(0)
    options = PROTOCOLS["corrected"]
    return Crocodile(trunk, len(NINE), 3, shape, VARIANTS[variant], options)


def fit_norms(network: nn.Module, side: int) -> None:
    """Let the norms' statistics be those of noise, so that features have a trained one's scale."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # the statistics of the one batch that follows
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 1, side, side))
    network.eval()


def measure(batch: int, side: int, channels: int) -> Comparison:
    """Time a forward and backward pass of the whole objective, one repeat of each."""
    network = make_network(side, channels, 0.0, "full")
    ones = LossWeights(**dict.fromkeys(LossWeights.__slots__, 1.0))
    objective = Objective(network, NINE, 3, channels, ones)
    images = torch.randn(batch, 1, side, side)
    labels = (torch.rand(batch, len(NINE)) > 0.5).float()
    domains = torch.arange(batch) % 3

    def step(way: Callable[[], AbstractContextManager[None]]) -> Step:
        objective.zero_grad(set_to_none=True)
        with way():
            loss = total(objective(images, labels, domains, None))
        loss.backward()
        own = dict(network.named_parameters())
        return Step(loss.detach(), tuple(own[name].grad.clone() for name in WATCHED))  # type: ignore[union-attr]

    found = compare(
        f"CROCODILE step, {batch} x {side} px, {channels} channels",
        lambda: step(lambda: released_way(network)), lambda: step(nullcontext), equal, 1,
    )  # fmt: skip
    rates = [batch / one.cpu_s for one in (found.baseline, found.product)]
    print(
        f"images a CPU-second, forward and backward: released {rates[0]:.4f}, ours {rates[1]:.4f}"
    )
    return found


def equal(expected: Step, found: Step) -> bool:
    """Tell whether loss and gradients agree up to float32 rounding."""
    pairs = [(expected.loss, found.loss), *zip(expected.gradients, found.gradients, strict=True)]
    differences = [float((a - b).norm() / a.norm()) for a, b in pairs]
    print("relative differences: " + ", ".join(f"{one:.1e}" for one in differences))
    return max(differences) <= TOLERANCE


def kept_bytes(network: Crocodile, batch: int, side: int) -> int:
    """Return what the graph of one forward pass keeps besides the weights, in bytes."""
    own = {tensor.untyped_storage()._cdata for tensor in network.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        number = tensor.untyped_storage()._cdata
        if number not in own:
            kept[number] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(torch.empty(batch, 1, side, side, device="meta"))
    assert out.z_causal.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def memory(batch: int, side: int, channels: int) -> tuple[int, int]:
    """Print and return what a training step keeps, as released and as corrected, in bytes."""
    with torch.device("meta"):
        network = make_network(side, channels, 0.1, "contrastive").train()
        with released_way(network):
            released = kept_bytes(network, batch, side)
        ours = kept_bytes(network, batch, side)
    weights = 16 * sum(p.numel() for p in network.parameters() if p.requires_grad)
    print(
        f"kept for the backward pass, {batch} x {side} px, fp32: released {released / GIB:.2f} GiB,"
        f" ours {ours / GIB:.2f} GiB; weights, gradients and AdamW {weights / GIB:.2f} GiB"
    )
    return released, ours


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line; fails only where the results differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1, help="images of the timed step")
    parser.add_argument("--side", type=int, default=320, help="pixels")
    parser.add_argument("--channels", type=int, default=FULL_CHANNELS)
    given = parser.parse_args(arguments)
    memory(PUBLISHED_BATCH, given.side, given.channels)
    return 0 if measure(given.batch, given.side, given.channels).equal else 1


if __name__ == "__main__":
    sys.exit(main())
