"""A state dict as torchvision publishes it, such as `resnet50-0676ba61.pth`.

The bare tensors of the whole network, classifier included. The DenseNet files are from 2017
and differ twice: inside the dense layers names have one more dot (`norm.1`, spec section 2.5),
and they lack BatchNorm's batch counters.
"""

from __future__ import annotations

import re
from pathlib import Path

from workflow_scripts.checkpoints.backbone import classifier_prefixes
from workflow_scripts.checkpoints.conversion import ConvertedTensors, take_tensors
from workflow_scripts.checkpoints.source_file import (
    read_torch,
    state_dict_of,
    verify_name_hash,
    write_phantom_torch,
)
from workflow_scripts.checkpoints.synthetic import phantom_tensors

LIBRARY = "torchvision"
OLD_DENSE_KEY = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")  # norm.1 is norm1
NEW_DENSE_KEY = re.compile(r"(.*denselayer\d+\.(?:norm|conv))([12]\..*)")


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the backbone's tensors; the classifier's are ignored."""
    source = state_dict_of(path, read_torch(path))
    verify_name_hash(path)
    return take_tensors(
        path,
        source,
        heads=classifier_prefixes(LIBRARY, architecture),
        rename=lambda key: OLD_DENSE_KEY.sub(r"\1\2", key),
    )


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write a state dict as published, DenseNets in the style of 2017.

    Torch's old format holds memory addresses, so DenseNet files with equal tensors differ in bytes.
    """
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    is_old = architecture.startswith("densenet")
    if is_old:
        tensors = {
            NEW_DENSE_KEY.sub(r"\1.\2", key): tensor
            for key, tensor in tensors.items()
            if not key.endswith("num_batches_tracked")
        }
    write_phantom_torch(path, tensors, zip_format=not is_old)
