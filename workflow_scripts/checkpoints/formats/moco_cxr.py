"""MoCo-CXR's files, `r8w-00001.pth.tar` (ResNet-18) and `d1w-00001.pth.tar` (DenseNet-121).

A whole training state: query and key encoder, queue and optimiser. The query encoder is selected
by prefix; the projection head that replaced the classifier is ignored (spec section 2.2).
"""

from __future__ import annotations

from pathlib import Path

import torch

from workflow_scripts.checkpoints.backbone import classifier_prefixes
from workflow_scripts.checkpoints.conversion import ConvertedTensors, take_tensors
from workflow_scripts.checkpoints.safe_pickle import inert_baggage
from workflow_scripts.checkpoints.source_file import (
    read_torch,
    state_dict_of,
    write_phantom_torch,
)
from workflow_scripts.checkpoints.synthetic import backbone_of, phantom_tensors

LIBRARY = "torchvision"
QUERY, KEY = "module.encoder_q.", "module.encoder_k."
EMBEDDING = 128
QUEUE = 64  # phantom: the published queue is longer


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the query encoder's tensors; everything else is ignored."""
    with inert_baggage():
        content = read_torch(path)
    source = state_dict_of(path, content, wrapper="state_dict")
    heads = classifier_prefixes(LIBRARY, architecture)
    return take_tensors(path, source, prefix=QUERY, heads=heads)


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the training state: both encoders with two-layer heads, queue, optimiser."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    backbone, width = backbone_of(tensors, LIBRARY, architecture)
    (head,) = classifier_prefixes(LIBRARY, architecture)
    generator = torch.Generator().manual_seed(seed)
    for layer, outputs in {"0": width, "2": EMBEDDING}.items():
        backbone[f"{head}{layer}.weight"] = torch.randn(outputs, width, generator=generator)
        backbone[f"{head}{layer}.bias"] = torch.zeros(outputs)
    state = {QUERY + key: value for key, value in backbone.items()}
    state |= {KEY + key: torch.zeros_like(value) for key, value in backbone.items()}
    state["module.queue"] = torch.randn(EMBEDDING, QUEUE, generator=generator)
    state["module.queue_ptr"] = torch.zeros(1, dtype=torch.long)
    momentum = {0: {"momentum_buffer": torch.zeros(8)}}
    content = {
        "epoch": 1,
        "arch": architecture,
        "state_dict": state,
        "optimizer": {"state": momentum, "param_groups": [{"lr": 1e-4, "params": [0]}]},
    }
    write_phantom_torch(path, content, zip_format=False)
