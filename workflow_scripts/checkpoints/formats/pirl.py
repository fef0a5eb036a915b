"""PIRL's file from PyContrast, `PIRL.pth`: a dictionary of a whole training run.

`model` holds `module.encoder.` (the backbone, which has no classifier there) beside the heads
`module.head.` and `module.head_jig.`; `opt` is an `argparse.Namespace`, passed over as an inert
record; `contrast`, `optimizer` and `epoch` are ignored (spec section 2.2).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from workflow_scripts.checkpoints.conversion import ConvertedTensors, take_tensors
from workflow_scripts.checkpoints.safe_pickle import inert_baggage
from workflow_scripts.checkpoints.source_file import (
    read_torch,
    state_dict_of,
    write_phantom_torch,
)
from workflow_scripts.checkpoints.synthetic import backbone_of, phantom_tensors

LIBRARY = "torchvision"
PREFIX = "module.encoder."
EMBEDDING = 128  # size of both projections
N_PATCHES = 9  # of the jigsaw
EPOCHS = 800


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the encoder's tensors; everything else is ignored."""
    with inert_baggage():
        content = read_torch(path)
    source = state_dict_of(path, content, wrapper="model")
    return take_tensors(path, source, prefix=PREFIX)


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the dictionary as the trainer saves it, options as a Namespace."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    backbone, width = backbone_of(tensors, LIBRARY, architecture)
    generator = torch.Generator().manual_seed(seed)
    heads = {
        "module.head.0.weight": torch.randn(EMBEDDING, width, generator=generator),
        "module.head_jig.fc1.weight": torch.randn(EMBEDDING, width, generator=generator),
        "module.head_jig.fc2.weight": torch.zeros(EMBEDDING, N_PATCHES * EMBEDDING),
    }
    options = argparse.Namespace(method="PIRL", arch=architecture, jigsaw=True, epochs=EPOCHS)
    content = {
        "opt": options,
        "model": {PREFIX + key: value for key, value in backbone.items()} | heads,
        "contrast": {"memory": torch.zeros(4, EMBEDDING)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.03, "params": []}]},
        "epoch": EPOCHS,
    }
    write_phantom_torch(path, content, zip_format=False)
