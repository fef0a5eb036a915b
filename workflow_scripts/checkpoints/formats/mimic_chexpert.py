"""CovidPrognosis' files, `mimic-chexpert_lr_*_bs_128_fd_128_qs_65536.pt` (DenseNet-121).

Saved by PyTorch Lightning from a MoCo module: under `state_dict`, `model.encoder_q.` is the query
encoder, whose classifier is the projection to 128 values; key encoder and queue are ignored
(spec section 2.2). What Lightning adds is passed over as inert records.
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
QUERY, KEY = "model.encoder_q.", "model.encoder_k."
EMBEDDING = 128  # `fd_128` in the file's name
QUEUE = 64  # phantom: the published queue holds 65,536


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the query encoder's tensors; everything else is ignored."""
    with inert_baggage():
        content = read_torch(path)
    source = state_dict_of(path, content, wrapper="state_dict")
    heads = classifier_prefixes(LIBRARY, architecture)
    return take_tensors(path, source, prefix=QUERY, heads=heads)


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the module's state dict: both encoders with a linear projection, and the queue."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    backbone, width = backbone_of(tensors, LIBRARY, architecture)
    (head,) = classifier_prefixes(LIBRARY, architecture)
    generator = torch.Generator().manual_seed(seed)
    backbone[f"{head}weight"] = torch.randn(EMBEDDING, width, generator=generator)
    backbone[f"{head}bias"] = torch.zeros(EMBEDDING)
    state = {QUERY + key: value for key, value in backbone.items()}
    state |= {KEY + key: torch.zeros_like(value) for key, value in backbone.items()}
    state["model.queue"] = torch.randn(EMBEDDING, QUEUE, generator=generator)
    state["model.queue_ptr"] = torch.zeros(1, dtype=torch.long)
    write_phantom_torch(path, {"epoch": 200, "global_step": 1, "state_dict": state})
