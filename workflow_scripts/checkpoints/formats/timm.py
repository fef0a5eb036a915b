"""A state dict of a timm network: `model.safetensors`, `pytorch_model.bin` or a `.pth` file.

The bare tensors, or under `state_dict` as timm's training script saves them. The classifier,
which timm's own description of the network names, is ignored.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from workflow_scripts.checkpoints.backbone import classifier_prefixes
from workflow_scripts.checkpoints.conversion import ConvertedTensors, take_tensors
from workflow_scripts.checkpoints.file_kind import PHANTOM_MARK
from workflow_scripts.checkpoints.source_file import (
    is_safetensors,
    read_safetensors,
    read_torch,
    state_dict_of,
    write_phantom_torch,
)
from workflow_scripts.checkpoints.synthetic import phantom_tensors
from workflow_scripts.files import write_safetensors

LIBRARY = "timm"


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the backbone's tensors; the classifier's are ignored."""
    content = read_safetensors(path) if is_safetensors(path) else read_torch(path)
    wrapper = "state_dict" if isinstance(content, dict) and "state_dict" in content else None
    source = state_dict_of(path, content, wrapper=wrapper)
    return take_tensors(path, source, heads=classifier_prefixes(LIBRARY, architecture))


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the tensors as the model hub does; the suffix of `path` decides the container."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    if path.suffix == ".safetensors":
        write_safetensors(path, save(tensors, {"phantom": PHANTOM_MARK.decode()}))
        return
    write_phantom_torch(path, tensors)
