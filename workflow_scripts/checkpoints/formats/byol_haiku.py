"""BYOL's pickle, `pretrain_res50x1.pkl`: Haiku's parameters and state of a JAX network.

A dictionary with `experiment_state`, a record whose `online_params` and `online_state` map module
names to arrays. Modules are mapped by name; projector, predictor, classifier and the target
network are ignored (spec section 2.4). The pickle is opened by `safe_pickle`, which runs nothing.

JAX's convolutions and max-pool pad SAME, which at stride 2 shifts the grid by a pixel against
torchvision's symmetric padding. As in the released code the weights are copied and the padding
stays torchvision's: features are close to, not equal to, JAX's.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workflow_scripts.checkpoints.conversion import ConvertedTensors, mapped
from workflow_scripts.checkpoints.file_kind import GET_FILE, PHANTOM_MARK, shown, start_of
from workflow_scripts.checkpoints.safe_pickle import Record, array_of, as_mapping, read_pickle
from workflow_scripts.checkpoints.synthetic import phantom_tensors
from workflow_scripts.files import void, write_atomic
from workflow_scripts.problems import InputError, refuse

LIBRARY = "torchvision"
MODULE = re.compile(
    r"res_net\d+/~/(?:initial_(?P<stem>conv|batchnorm)"
    r"|block_group_(?P<group>\d+)/~/block_(?P<block>\d+)/~/"
    r"(?:shortcut_(?P<shortcut>conv|batchnorm)|(?P<kind>conv|batchnorm)_(?P<number>\d+)))"
)
STATISTIC = re.compile(r"(?P<module>.+)/~/(?P<name>mean_ema|var_ema)")
RECORD = ("online_params", "target_params", "online_state", "target_state")  # its first fields
PARAMETERS = {"w": "weight", "scale": "weight", "offset": "bias"}
STATISTICS = {"mean_ema": "running_mean", "var_ema": "running_var"}
HWIO_TO_OIHW = (3, 2, 0, 1)
OIHW_TO_HWIO = (2, 3, 1, 0)
TRANSPOSED = "HWIO to OIHW"
FLATTENED = "(1, 1, 1, C) to (C)"
STEP = 300 * 1000  # phantom: any number of training steps
NOT_BYOL = "check the option 'format' of this checkpoint"

Modules = Mapping[str, Mapping[str, Any]]


def target_module(name: str) -> str | None:
    """Return torchvision's layer for a Haiku module; None for heads.

    >>> target_module("res_net50/~/block_group_2/~/block_0/~/shortcut_batchnorm")
    'layer3.0.downsample.1'
    """
    match = MODULE.fullmatch(name)
    if match is None:
        return None
    short = {"conv": "conv", "batchnorm": "bn"}
    if match["stem"]:
        return f"{short[match['stem']]}1"
    block = f"layer{int(match['group']) + 1}.{int(match['block'])}"
    if match["shortcut"]:
        return f"{block}.downsample.{int(match['shortcut'] == 'batchnorm')}"
    return f"{block}.{short[match['kind']]}{int(match['number']) + 1}"


def target_name(module: str, parameter: str, tables: Mapping[str, str]) -> str | None:
    """Return torchvision's name of a parameter of a module, or None where it has none."""
    layer = target_module(module)
    return None if layer is None or parameter not in tables else f"{layer}.{tables[parameter]}"


def read(path: Path, architecture: str) -> ConvertedTensors:
    """Return the online network's backbone, kernels transposed."""
    state = experiment_state(path)
    found: dict[str, tuple[str, object]] = {}
    ignored = [key for key in state if key not in ("online_params", "online_state")]
    for module, parameters in modules(path, state, "online_params").items():
        for name, value in parameters.items():
            source = f"online_params/{module}/{name}"
            target = target_name(module, name, PARAMETERS)
            _collect(path, found, ignored, source, target, value)
    for module, fields in modules(path, state, "online_state").items():
        match = STATISTIC.fullmatch(module)
        layer, statistic = (match["module"], match["name"]) if match else (module, "")
        for name, value in fields.items():
            source = f"online_state/{module}/{name}"
            used = statistic if name == "average" else ""  # beside it: hidden, counter
            target = target_name(layer, used, STATISTICS)
            _collect(path, found, ignored, source, target, value)
    if not found:
        names = shown(list(modules(path, state, "online_params")))
        raise refuse(str(path), "modules res_net50/~/initial_conv and so on", names, NOT_BYOL)
    tensors = {}
    key_map = []
    for target, (source, value) in found.items():
        tensors[target], transform = converted(path, source, value)
        key_map.append(mapped(source, target, tensors[target], transform))
    return ConvertedTensors(tensors, tuple(key_map), tuple(ignored))


def _collect(
    path: Path,
    found: dict[str, tuple[str, object]],
    ignored: list[str],
    source: str,
    target: str | None,
    value: object,
) -> None:
    if target is None:
        ignored.append(source)
    elif target in found:
        want = f"one tensor for {target!r}"
        raise refuse(str(path), want, f"{found[target][0]!r} and {source!r}", NOT_BYOL)
    else:
        found[target] = source, value


def converted(path: Path, source: str, value: object) -> tuple[torch.Tensor, str]:
    """Return an array as torch's tensor, and what was done to it."""
    array = array_of(value)
    if array is None:
        raise refuse(f"{path} {source!r}", "an array", f"a {type(value).__name__}", GET_FILE)
    if source.endswith("/w"):
        return torch.from_numpy(array.transpose(HWIO_TO_OIHW).copy(order="C")), TRANSPOSED
    if array.size != array.shape[-1]:
        want = "one value a channel, shape (1, 1, 1, C)"
        raise refuse(f"{path} {source!r}", want, f"shape {array.shape}", GET_FILE)
    return torch.from_numpy(array.reshape(-1).copy()), FLATTENED


def experiment_state(path: Path) -> Mapping[str, Any]:
    """Return the fields of the record `experiment_state`."""
    start_of(path)
    content = as_mapping(read_pickle(path))
    if content is None or "experiment_state" not in content:
        keys = "no dictionary" if content is None else f"keys {shown(list(content))}"
        raise refuse(str(path), "a dictionary with key 'experiment_state'", keys, NOT_BYOL)
    record = content["experiment_state"]
    if isinstance(record, Record) and not record.fields and len(record.arguments) >= len(RECORD):
        return dict(zip(RECORD, record.arguments, strict=False))  # class known by reference only
    state = as_mapping(record)
    if state is None or not {"online_params", "online_state"} <= set(state):
        keys = "no record" if state is None else f"fields {shown(list(state))}"
        want = "fields online_params and online_state in experiment_state"
        raise refuse(str(path), want, keys, NOT_BYOL)
    return state


def modules(path: Path, state: Mapping[str, Any], field: str) -> Modules:
    """Return the mapping from module name to its arrays by name."""
    outer = as_mapping(state[field])
    inner = {str(name): as_mapping(value) for name, value in (outer or {}).items()}
    if outer is None or any(value is None for value in inner.values()):
        raise not_modules(path, field)
    return {name: value for name, value in inner.items() if value is not None}


def not_modules(path: Path, field: str) -> InputError:
    """Return the refusal of a field that does not map modules to arrays."""
    want = "a mapping from module names to mappings of arrays"
    return refuse(f"{path} field {field!r}", want, "another kind of object", NOT_BYOL)


# The phantom: the same pickle opcodes, without dill, JAX or Haiku


class _Global:
    """A name for the pickle to hold, not imported here."""

    def __init__(self, module: str, name: str) -> None:
        self.opcode = f"c{module}\n{name}\n".encode()


class _Call:
    """A call for the pickle to hold."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


class _Pickler(pickle._Pickler):  # the one in Python, whose `save` can be extended
    """Writes globals and calls as opcodes, everything else as usual."""

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        """Write one object."""
        if isinstance(obj, _Global):
            self.write(obj.opcode)  # type: ignore[attr-defined]
        elif isinstance(obj, _Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)  # type: ignore[attr-defined]
        else:
            super().save(obj, save_persistent_id)  # type: ignore[misc]


def write_phantom(path: Path, architecture: str, seed: int) -> None:
    """Write the pickle as published: dill's named tuple around Haiku's mappings."""
    tensors = phantom_tensors(LIBRARY, architecture, seed)
    params, state = haiku_modules(tensors, architecture)
    width = tensors["fc.weight"].shape[1]
    params["projector/linear"] = {"w": np.zeros((width, 8), np.float32)}
    flat_mapping = _Global("haiku._src.data_structures", "FlatMapping")
    target: dict[str, object] = {
        name: {} for name in params
    }  # the real one doubles the file; it is ignored
    fields = (*RECORD, "opt_state")
    record = _Call(
        _Global("dill._dill", "_create_namedtuple"),
        "_ByolExperimentState",
        fields,
        "byol.byol_experiment",
    )
    values = [_Call(flat_mapping, one) for one in (params, target, state, {})]
    content = {"experiment_state": _Call(record, *values, None), "step": STEP}
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(content)
    buffer.write(PHANTOM_MARK)  # after the pickle's end, where no reader looks
    write_atomic(path, lambda partial: void(partial.write_bytes(buffer.getbuffer())))


def haiku_modules(
    tensors: Mapping[str, torch.Tensor], architecture: str
) -> tuple[dict[str, dict[str, NDArray[Any]]], dict[str, dict[str, NDArray[Any]]]]:
    """Return torchvision's ResNet tensors as Haiku's parameters and state."""
    params: dict[str, dict[str, NDArray[Any]]] = {}
    state: dict[str, dict[str, NDArray[Any]]] = {}
    network = architecture.replace("resnet", "res_net")
    for name, tensor in tensors.items():
        layer, _, field = name.rpartition(".")
        if layer == "fc" or field == "num_batches_tracked":
            continue
        module = f"{network}/~/{haiku_module(layer)}"
        values = tensor.numpy()
        if values.ndim == 4:
            params[module] = {"w": np.ascontiguousarray(values.transpose(OIHW_TO_HWIO))}
            continue
        values = values.reshape(1, 1, 1, -1)
        if field.startswith("running"):
            kind = "mean_ema" if field == "running_mean" else "var_ema"
            counter = np.array(STEP, np.int32)
            averages = {"hidden": values, "average": values, "counter": counter}
            state[f"{module}/~/{kind}"] = averages
        else:
            params.setdefault(module, {})["scale" if field == "weight" else "offset"] = values
    return params, state


def haiku_module(layer: str) -> str:
    """Return Haiku's module, below the network's, for a torchvision layer.

    >>> haiku_module("layer3.0.downsample.1")
    'block_group_2/~/block_0/~/shortcut_batchnorm'
    """
    long = {"conv": "conv", "bn": "batchnorm"}
    if "." not in layer:
        return f"initial_{long[layer[:-1]]}"
    group, block, *rest = layer.split(".")
    here = f"block_group_{int(group[-1]) - 1}/~/block_{block}/~"
    if rest[0] == "downsample":
        return f"{here}/shortcut_{'batchnorm' if rest[1] == '1' else 'conv'}"
    return f"{here}/{long[rest[0][:-1]]}_{int(rest[0][-1]) - 1}"
