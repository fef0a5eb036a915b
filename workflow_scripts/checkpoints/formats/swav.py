"""SwAV's file, `swav_800ep_pretrain.pth.tar`: the state dict of a parallel network.

Bare, or under `state_dict` as the training script saves it. The projection head and the
prototypes are ignored (spec section 2.2).
"""

from __future__ import annotations

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
PREFIX = "module."
HEADS = ("projection_head.", "prototypes.")
EMBEDDING = 128  # size of the projection
N_PROTOTYPES = 3000  # of the published run


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the backbone's tensors; projection head and prototypes are ignored."""
    with inert_baggage():
        content = read_torch(path)
    wrapper = "state_dict" if isinstance(content, dict) and "state_dict" in content else None
    source = state_dict_of(path, content, wrapper=wrapper)
    return take_tensors(path, source, prefix=PREFIX, heads=HEADS)


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the bare state dict with a two-layer projection head and the prototypes."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    backbone, width = backbone_of(tensors, LIBRARY, architecture)
    generator = torch.Generator().manual_seed(seed)
    heads = {
        "projection_head.0.weight": torch.randn(width, width, generator=generator),
        "projection_head.1.running_mean": torch.zeros(width),
        "projection_head.3.weight": torch.randn(EMBEDDING, width, generator=generator),
        "prototypes.weight": torch.randn(N_PROTOTYPES, EMBEDDING, generator=generator),
    }
    named = {PREFIX + key: value for key, value in (backbone | heads).items()}
    write_phantom_torch(path, named)
