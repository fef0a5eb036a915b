"""The four methods: which networks are trained, and the predictions that one pass gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workflow_scripts.layer_ensembles.protocols import METHODS, Options
from workflow_scripts.layer_ensembles.wrapper import attach_heads, head_logits
from workflow_scripts.networks.scse_unet import STRIDE, ScseUNet, UNetWidths, segmentation_conv
from workflow_scripts.training.streams import initialised

RELU_LAYERS = r"encoder\..*relu"  # the stem's and the eight blocks' (newest commit)


class MultiHeadUNet(nn.Module):
    """A U-Net with several heads on its last decoder map; ours, for the paper gives no code.

    Source: spec section 2.4.
    """

    def __init__(self, n_classes: int, widths: UNetWidths, n_heads: int) -> None:
        super().__init__()
        self.trunk = ScseUNet(n_classes, widths=widths)
        self.trunk.segmentation_head = nn.Identity()
        self.heads = nn.ModuleList(
            segmentation_conv(widths.decoder[-1], n_classes) for _ in range(n_heads)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return one (N, C, H, W) for each head."""
        features = self.trunk(images)
        return [head(features) for head in self.heads]


def make_network(
    method: str, n_classes: int, widths: UNetWidths, n_heads: int, options: Options
) -> nn.Module:
    """Return one network of a method, initialised from torch's current stream.

    Args:
        method: one of `METHODS`; a member of deep ensembles is a plain network.
        n_classes: background included.
        widths: of the U-Net.
        n_heads: of `multi_head`.
        options: of the protocol.

    Raises:
        ValueError: an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected {', '.join(METHODS)}, found {method!r}")
    if method == "multi_head":
        return MultiHeadUNet(n_classes, widths, n_heads)
    network = ScseUNet(n_classes, widths=widths)
    if method != "layer_ensembles":
        return network
    layers = RELU_LAYERS if options.layers == "relu" else None  # None finds the paper's ten stages
    example = torch.zeros(1, 1, 2 * STRIDE, 2 * STRIDE)
    return attach_heads(network, example, "segmentation", n_classes, layers, xavier=options.xavier)


def make_members(
    method: str,
    seed: int,
    n_members: int,
    **network: Any,  # noqa: ANN401
) -> nn.ModuleList:
    """Return the networks that a run trains: one, or the members of deep ensembles.

    Each is initialised from its own stream, the same on every rank.
    """
    members = []
    for number in range(n_members if method == "deep_ensembles" else 1):
        with initialised(seed, "network", str(number)):
            members.append(make_network(method, **network))
    return nn.ModuleList(members)


def predictions_of(members: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Return the logits of all T predictions of one batch, shape (T, N, C, H, W).

    T is the number of heads, or of members; shallow heads come first.
    """
    return torch.stack([one for member in members for one in head_logits(member(images))])
