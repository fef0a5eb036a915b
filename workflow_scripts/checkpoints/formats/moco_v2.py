"""MoCo-v2's pre-training file: `state_dict` with the query encoder of a parallel network.

Published for ResNet-50; MoCo-CXR uses the same format with ResNet-18 and DenseNet-121. Only
`module.encoder_q.` is the backbone: the key encoder, the queue and the projection head that
replaced the classifier are ignored (spec section 2.2).
"""

from __future__ import annotations

from pathlib import Path

import torch

from workflow_scripts.checkpoints.backbone import classifier_prefixes
from workflow_scripts.checkpoints.conversion import ConvertedTensors, take_tensors
from workflow_scripts.checkpoints.source_file import (
    read_torch,
    state_dict_of,
    write_phantom_torch,
)
from workflow_scripts.checkpoints.synthetic import phantom_tensors

LIBRARY = "torchvision"
PREFIX = "module.encoder_q."
EMBEDDING = 128  # size of the contrastive embedding in the published file
EPOCHS = 800  # of the published run


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the query encoder's tensors; everything else is ignored."""
    source = state_dict_of(path, read_torch(path), wrapper="state_dict")
    heads = classifier_prefixes(LIBRARY, architecture)
    return take_tensors(path, source, prefix=PREFIX, heads=heads)


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the file as `main_moco` saves it: query encoder with a two-layer head `fc`."""
    (head,) = classifier_prefixes(LIBRARY, architecture)
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    width = tensors[f"{head}weight"].shape[1]
    backbone = {key: value for key, value in tensors.items() if not key.startswith(head)}
    generator = torch.Generator().manual_seed(seed)
    layers = {"0": width, "2": EMBEDDING}  # the layer between them is the ReLU
    for layer, outputs in layers.items():
        weight = torch.randn(outputs, width, generator=generator) / width**0.5
        backbone[f"{head}{layer}.weight"] = weight
        backbone[f"{head}{layer}.bias"] = torch.zeros(outputs)
    content = {
        "epoch": EPOCHS,
        "arch": architecture,
        "state_dict": {PREFIX + key: value for key, value in backbone.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.03, "momentum": 0.9, "params": []}]},
    }
    write_phantom_torch(path, content)
