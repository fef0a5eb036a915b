"""SimCLR v1's TensorFlow checkpoint: `ResNet50_1x.zip`, or the `.index` file of an unpacked one.

Variables are numbered in the order in which the graph made them: `conv2d`, `conv2d_1`, ... by
NUMBER, never by the alphabet; the projection shortcut of a group's first block comes before its
three convolutions. Heads, optimiser slots and the step count are ignored (spec section 2.3).

Input: pixels in [0, 1] without mean and std. TensorFlow's max-pool pads (0, 1) where
torchvision's pads 1 on both sides, so features are close to but not those of TensorFlow; as in
the released code, the weights are copied and the padding stays torchvision's.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workflow_scripts.checkpoints.conversion import COPY, ConvertedTensors, mapped
from workflow_scripts.checkpoints.file_kind import (
    GET_FILE,
    PHANTOM_MARK,
    ZIP_START,
    shown,
    start_of,
)
from workflow_scripts.checkpoints.synthetic import phantom_tensors
from workflow_scripts.checkpoints.tensor_bundle import read_index, read_tensor, write_bundle
from workflow_scripts.files import write_atomic
from workflow_scripts.problems import refuse

LIBRARY = "torchvision"
BLOCKS = {"resnet50": (3, 4, 6, 3)}  # bottleneck blocks a group; others are not published
FOLDER, NAME = "ResNet50_1x", "model.ckpt-225206"  # as published
VARIABLE = re.compile(
    r"base_model/(conv2d|batch_normalization)(?:_(\d+))?"
    r"/(kernel|gamma|beta|moving_mean|moving_variance)"
)
# not the `._` copies that macOS puts beside
CHECKPOINT_INDEX = re.compile(r"(?:.*/)?model\.ckpt-\d+\.index")
FIELDS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
HWIO_TO_OIHW = (3, 2, 0, 1)
OIHW_TO_HWIO = (2, 3, 1, 0)
TRANSPOSED = "HWIO to OIHW"

Array = NDArray[np.generic]


def layer_names(architecture: str) -> list[tuple[str, str]]:
    """Return torchvision's convolution and BatchNorm for each of TensorFlow's numbers.

    >>> layer_names("resnet50")[10]
    ('layer1.2.conv3', 'layer1.2.bn3')
    """
    if architecture not in BLOCKS:
        raise refuse(
            "checkpoint option 'architecture'",
            f"one of {', '.join(BLOCKS)} for format 'simclr_tf'",
            repr(architecture),
            "correct this checkpoint's entry in the configuration",
        )
    names = [("conv1", "bn1")]
    for group, n_blocks in enumerate(BLOCKS[architecture], start=1):
        for block in range(n_blocks):
            here = f"layer{group}.{block}"
            if block == 0:
                names.append((f"{here}.downsample.0", f"{here}.downsample.1"))
            names += [(f"{here}.conv{i}", f"{here}.bn{i}") for i in (1, 2, 3)]
    return names


def target_name(variable: str, names: list[tuple[str, str]]) -> str | None:
    """Return torchvision's name of a variable; None for heads, slots and counters.

    >>> target_name("base_model/conv2d_10/kernel", layer_names("resnet50"))
    'layer1.2.conv3.weight'
    """
    match = VARIABLE.fullmatch(variable)
    if match is None:
        return None
    kind, number, field = match[1], int(match[2] or 0), match[3]
    is_norm = kind == "batch_normalization"
    if is_norm == (field == "kernel"):
        return None
    if number >= len(names):
        return variable  # one layer too many: the proof of completeness will name it
    return f"{names[number][is_norm]}.{FIELDS[field]}"


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the base model's variables, kernels transposed."""
    names = layer_names(architecture)
    index, shards = read_files(path)
    entries = read_index(str(path), index)
    tensors: dict[str, torch.Tensor] = {}
    key_map = []
    ignored = []
    for variable, entry in entries.items():
        target = target_name(variable, names)
        if target is None:
            ignored.append(variable)
            continue
        values = read_tensor(str(path), variable, entry, shards)
        is_kernel = values.ndim == 4
        values = values.transpose(HWIO_TO_OIHW) if is_kernel else values
        tensors[target] = torch.from_numpy(values.copy(order="C"))
        transform = TRANSPOSED if is_kernel else COPY
        key_map.append(mapped(variable, target, tensors[target], transform))
    if not tensors:
        raise refuse(
            str(path),
            "variables base_model/conv2d/kernel and so on",
            shown(list(entries)),
            "check the option 'format' of this checkpoint",
        )
    return ConvertedTensors(tensors, tuple(key_map), tuple(ignored))


def read_files(path: Path) -> tuple[bytes, dict[int, bytes]]:
    """Return the bytes of the index and of the shards, from the zip or from beside the index."""
    if start_of(path).startswith(ZIP_START):
        return read_zip(path)
    if path.suffix != ".index":
        raise refuse(str(path), "a zip or an .index file", f"suffix {path.suffix!r}", GET_FILE)
    shards = sorted(path.parent.glob(f"{path.stem}.data-*-of-*"))
    if not shards:
        found = "no such file"
        raise refuse(f"{path.with_suffix('')}.data-00000-of-00001", "the data", found, GET_FILE)
    return path.read_bytes(), {shard_number(one.name): one.read_bytes() for one in shards}


def read_zip(path: Path) -> tuple[bytes, dict[int, bytes]]:
    """Return the bytes of the checkpoint in a zip; its own checksums are proven.

    The published zip holds a hub module as well, whose `variables.index` describes another file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            indices = [name for name in members if CHECKPOINT_INDEX.fullmatch(name)]
            if len(indices) != 1:
                want = "one checkpoint (model.ckpt-NUMBER.index) in the zip"
                raise refuse(str(path), want, shown(members), "take the published ResNet50_1x.zip")
            data = [name for name in members if name.startswith(f"{indices[0][:-6]}.data-")]
            shards = {shard_number(name): archive.read(name) for name in data}
            return archive.read(indices[0]), shards
    except zipfile.BadZipFile as error:
        raise refuse(str(path), "a whole zip", str(error), GET_FILE) from error


def shard_number(name: str) -> int:
    """Return the number in `NAME.data-00000-of-00001`."""
    return int(name.rsplit(".data-", 1)[1].split("-of-")[0])


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the zip as published: base model, heads, optimiser slots, step count."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    variables = {
        name: values.transpose(OIHW_TO_HWIO) if values.ndim == 4 else values
        for name, values in base_model(tensors, architecture).items()
    }
    first = "base_model/conv2d/kernel"  # one optimiser slot: as many would double the file
    variables[f"{first}/Momentum"] = np.zeros_like(variables[first])
    width = tensors["fc.weight"].shape[1]
    variables["global_step"] = np.array(225206, dtype=np.int64)
    variables["head_supervised/linear_layer/dense/kernel"] = tensors["fc.weight"].numpy().T
    variables["head_supervised/linear_layer/dense/bias"] = tensors["fc.bias"].numpy()
    variables["head_contrastive/nl_0/dense/kernel"] = np.zeros((width, 128), dtype=np.float32)
    index, shard = write_bundle(variables)

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w") as archive:
            listing = f'model_checkpoint_path: "{NAME}"\n'
            archive.writestr(f"{FOLDER}/checkpoint", listing)
            archive.writestr(f"{FOLDER}/{NAME}.index", index)
            archive.writestr(f"{FOLDER}/{NAME}.data-00000-of-00001", shard)
            archive.comment = PHANTOM_MARK

    write_atomic(path, write)


def base_model(tensors: dict[str, torch.Tensor], architecture: str) -> dict[str, Array]:
    """Return torchvision's tensors under TensorFlow's names, kernels not yet transposed."""
    variables: dict[str, Array] = {}
    for number, (convolution, norm) in enumerate(layer_names(architecture)):
        suffix = f"_{number}" if number else ""
        kernel = tensors[f"{convolution}.weight"].numpy()
        variables[f"base_model/conv2d{suffix}/kernel"] = kernel
        for field in ("gamma", "beta", "moving_mean", "moving_variance"):
            values = tensors[f"{norm}.{FIELDS[field]}"].numpy()
            variables[f"base_model/batch_normalization{suffix}/{field}"] = values
    return variables
