"""From the tensors of a published file to those of a backbone, and the proof that all fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from workflow_scripts.checkpoints.file_kind import shown
from workflow_scripts.problems import InputError, Problem, refuse

COUNTER = "num_batches_tracked"  # BatchNorm's batch counter; evaluation never reads it
COPY = "copy"
ZERO_COUNTER = "zero (the file has no BatchNorm counters; evaluation never reads them)"


@dataclass(frozen=True, slots=True)
class MappedKey:
    """Where one tensor of the backbone comes from.

    Attributes:
        source: its name in the published file; None where `transform` says why.
        target: its name in torchvision or timm.
        shape: of the target.
        dtype: of the target, such as `float32`.
        transform: what was done to the values, `copy` when nothing.
    """

    source: str | None
    target: str
    shape: tuple[int, ...]
    dtype: str
    transform: str


@dataclass(frozen=True, slots=True)
class ConvertedTensors:
    """What a format's `read` returns: tensors by target name, their origin, keys not used."""

    tensors: dict[str, Tensor]
    key_map: tuple[MappedKey, ...]
    ignored: tuple[str, ...]


def dtype_name(tensor: Tensor) -> str:
    """Return a dtype as NumPy writes it: `float32`, `int64`."""
    return str(tensor.dtype).removeprefix("torch.")


def mapped(source: str | None, target: str, tensor: Tensor, transform: str = COPY) -> MappedKey:
    """Return the key map's line for `tensor`."""
    return MappedKey(source, target, tuple(tensor.shape), dtype_name(tensor), transform)


def select_keys(
    keys: Sequence[str], prefix: str, heads: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Choose the backbone's keys by prefix and leave the heads out.

    Args:
        keys: names in the published file.
        prefix: what a backbone's name begins with; it is cut off.
        heads: beginnings, after the prefix, of the names that belong to a head.

    Returns:
        The name without prefix of each chosen key, and the keys not used.

    >>> select_keys(["q.conv1.weight", "q.fc.0.bias", "queue"], "q.", ["fc."])
    ({'q.conv1.weight': 'conv1.weight'}, ['q.fc.0.bias', 'queue'])
    """
    chosen: dict[str, str] = {}
    ignored: list[str] = []
    for key in keys:
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and not name.startswith(tuple(heads)):
            chosen[key] = name
        else:
            ignored.append(key)
    return chosen, ignored


def take_tensors(
    path: Path,
    source: Mapping[str, Tensor],
    prefix: str = "",
    heads: Sequence[str] = (),
    rename: Callable[[str], str] = str,
) -> ConvertedTensors:
    """Select, rename and copy the backbone's tensors of a state dict.

    Args:
        path: the file, for messages.
        source: its state dict.
        prefix: what a backbone's name begins with.
        heads: beginnings, after the prefix, of the names that belong to a head.
        rename: from the name without prefix to the target's name.

    Raises:
        InputError: if no key has the prefix, or two keys mean the same tensor.
    """
    chosen, ignored = select_keys(list(source), prefix, heads)
    if not chosen:
        raise refuse(
            str(path),
            f"tensors whose names begin with {prefix!r}",
            f"names {shown(list(source))}" if source else "no tensor at all",
            "check the option 'format' of this checkpoint",
        )
    tensors: dict[str, Tensor] = {}
    key_map: list[MappedKey] = []
    for key, name in chosen.items():
        target = rename(name)
        if target in tensors:
            raise refuse(
                str(path),
                f"one tensor for {target!r}",
                f"a second one, {key!r}",
                "the file mixes two naming styles: download it again",
            )
        tensors[target] = source[key].detach().clone().contiguous()
        key_map.append(mapped(key, target, tensors[target]))
    return ConvertedTensors(tensors, tuple(key_map), tuple(ignored))


def with_counters(converted: ConvertedTensors, expected: Mapping[str, Tensor]) -> ConvertedTensors:
    """Add BatchNorm's counters, as zero, to a file that has none of them."""
    counters = [name for name in expected if name.endswith(COUNTER)]
    if any(name in converted.tensors for name in counters):
        return converted
    zeros = {name: torch.zeros_like(expected[name], device="cpu") for name in counters}
    lines = tuple(mapped(None, name, zero, ZERO_COUNTER) for name, zero in zeros.items())
    return replace(converted, tensors=converted.tensors | zeros, key_map=converted.key_map + lines)


def prove_complete(where: str, converted: ConvertedTensors, expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are missing, extra, misshapen, of another dtype or not finite."""
    tensors = converted.tensors
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    wrong = "check 'format' and 'architecture' of this checkpoint, then the file"
    problems = []
    if missing:
        found = f"{len(missing)} missing: {shown(missing)}"
        problems.append(Problem(where, f"{len(expected)} tensors", found, wrong))
    if extra:
        found = f"{len(extra)} unexpected: {shown(extra)}"
        problems.append(Problem(where, "no tensor beside the architecture's", found, wrong))
    for name in expected:
        if name in tensors:
            problems.extend(tensor_problems(where, name, tensors[name], expected[name], wrong))
    if problems:
        raise InputError(problems)


def tensor_problems(
    where: str, name: str, tensor: Tensor, expected: Tensor, next_step: str
) -> list[Problem]:
    """Return what is wrong with one tensor."""
    here = f"{where} tensor {name!r}"
    want = f"{dtype_name(expected)} of shape {tuple(expected.shape)}"
    have = f"{dtype_name(tensor)} of shape {tuple(tensor.shape)}"
    if want != have:
        return [Problem(here, want, have, next_step)]
    n_bad = int((~torch.isfinite(tensor)).sum())
    if n_bad:
        step = "the training that made this file diverged, or the file is damaged: get another"
        return [Problem(here, "finite values", f"{n_bad} not finite", step)]
    return []
