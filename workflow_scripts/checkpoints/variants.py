"""Variants of a named network: `resnet50+gray`, `vgg16+features`, `vit_base_patch16_224+pooled`.

A published weight file can serve in more than one shape. The shape is part of the architecture's
name, after a plus, so that the name alone rebuilds the network wherever a certificate is read.

- `gray`: the first convolution takes one channel, its weight the mean over the published three
  (CROCODILE's trunks, its spec section 3.1).
- `features`: the convolutional part `features` alone, average-pooled (LPIPS needs no classifier).
- `pooled`: timm's transformers read out as the mean of the patch tokens after `fc_norm`, which is
  fresh (weight 1, bias 0) and replaces `norm` (DNE's default, its spec section 4.1).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from workflow_scripts.checkpoints.conversion import ConvertedTensors, mapped
from workflow_scripts.checkpoints.options import split_name
from workflow_scripts.problems import refuse

LIBRARIES = {  # which library's networks a variant is for
    "gray": ("torchvision", "timm"),
    "features": ("torchvision",),
    "pooled": ("timm",),
}
MEAN_OF_THREE = "mean over the three input channels"
FRESH = "fresh: weight 1, bias 0 (the pooled read-out has its own)"
FIX = "correct 'architecture' of this checkpoint"


def require_variants(library: str, architecture: str) -> None:
    """Refuse a variant that does not exist, or not for this library."""
    for variant in split_name(architecture)[1]:
        if library not in LIBRARIES.get(variant, ()):
            known = [name for name, libraries in LIBRARIES.items() if library in libraries]
            want = f"a variant for {library}: {', '.join(known)}"
            raise refuse("checkpoint option 'architecture'", want, repr(architecture), FIX)


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return name and module of the convolution that sees the image."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    raise refuse("architecture", "a network that begins with a convolution", "none", FIX)


def n_channels(network: nn.Module) -> int:
    """Return how many channels the network's image has (3 where no convolution says so)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def with_variants(network: nn.Module, variants: tuple[str, ...]) -> nn.Module:
    """Return a backbone in the shape of its variants (`pooled` is timm's own argument)."""
    if "features" in variants:
        trunk = getattr(network, "features", None)
        if not isinstance(trunk, nn.Module):
            raise refuse("architecture", "a network with a part 'features'", "none", FIX)
        parts = {"features": trunk, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        network = nn.Sequential(OrderedDict(parts))
    if "gray" in variants:
        name, old = first_convolution(network)
        new = nn.Conv2d(
            1,
            old.out_channels,
            (old.kernel_size[0], old.kernel_size[1]),
            stride=(old.stride[0], old.stride[1]),
            padding=old.padding
            if isinstance(old.padding, str)
            else (old.padding[0], old.padding[1]),
            dilation=(old.dilation[0], old.dilation[1]),
            bias=old.bias is not None,
        )
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, new)
    return network


def adapted(
    read: ConvertedTensors, architecture: str, expected: Mapping[str, Tensor]
) -> ConvertedTensors:
    """Return the tensors of a published file in the shape of the variants.

    Args:
        read: what the format read, under the library's names.
        architecture: its name with variants.
        expected: the variant's tensors, for their names and shapes.
    """
    variants = split_name(architecture)[1]
    if "features" in variants:
        read = without(read, [name for name in read.tensors if not name.startswith("features.")])
    if "pooled" in variants:
        fresh = {name: one for name, one in expected.items() if name.startswith("fc_norm.")}
        read = without(read, [f"norm.{field}" for field in ("weight", "bias")] + list(fresh))
        values = {
            name: torch.ones_like(one) if name.endswith("weight") else torch.zeros_like(one)
            for name, one in fresh.items()
        }
        lines = tuple(mapped(None, name, one, FRESH) for name, one in values.items())
        read = replace(read, tensors=read.tensors | values, key_map=read.key_map + lines)
    if "gray" in variants:
        read = in_gray(read, expected)
    return read


def without(read: ConvertedTensors, targets: list[str]) -> ConvertedTensors:
    """Return the tensors without some of them, whose sources count as ignored."""
    dropped = [line for line in read.key_map if line.target in targets]
    return replace(
        read,
        tensors={name: one for name, one in read.tensors.items() if name not in targets},
        key_map=tuple(line for line in read.key_map if line not in dropped),
        ignored=read.ignored + tuple(line.source for line in dropped if line.source),
    )


def in_gray(read: ConvertedTensors, expected: Mapping[str, Tensor]) -> ConvertedTensors:
    """Return the tensors with the first convolution averaged over its input channels."""
    names = [
        name
        for name, tensor in read.tensors.items()
        if name in expected and tensor.ndim == 4 and tensor.shape[1] == 3
        if expected[name].shape[1] == 1
    ]
    tensors = dict(read.tensors)
    lines = {line.target: line for line in read.key_map}
    for name in names:
        tensors[name] = tensors[name].mean(dim=1, keepdim=True)
        before = lines[name].transform
        transform = MEAN_OF_THREE if before == "copy" else f"{before}, {MEAN_OF_THREE}"
        lines[name] = mapped(lines[name].source, name, tensors[name], transform)
    return replace(read, tensors=tensors, key_map=tuple(lines.values()))
