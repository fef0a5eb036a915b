"""The format of `torch.save` before 1.6, with the same bytes for the same tensors.

torch still writes it, but names and orders the storages by their addresses in memory; a phantom
whose bytes change from run to run would change every hash that follows from it.

A file is: magic number, version and machine as one pickle each; the object, where a storage is a
persistent id; the names of the storages; then each storage as its length and its values.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from typing import IO, Any

import torch
from torch.serialization import DEFAULT_PROTOCOL, MAGIC_NUMBER, PROTOCOL_VERSION

MACHINE = {
    "protocol_version": PROTOCOL_VERSION,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


class _Pickler(pickle.Pickler):
    """Pickles an object and leaves its storages, in the order in which they come, outside."""

    def __init__(self, handle: IO[bytes]) -> None:
        super().__init__(handle, protocol=DEFAULT_PROTOCOL)
        self.storages: list[Any] = []

    def persistent_id(self, obj: object) -> tuple[object, ...] | None:
        """Return what stands for a storage: its type, name, device and number of values."""
        if not isinstance(obj, torch.TypedStorage):
            return None
        storage: Any = obj  # torch has no types for its methods
        kind = getattr(torch, storage._pickle_storage_type())
        self.storages.append(storage)
        return ("storage", kind, str(len(self.storages) - 1), "cpu", storage._size(), None)


def save_old_torch(content: Mapping[str, Any], handle: IO[bytes]) -> None:
    """Write `content` to `handle`; tensors lie on the CPU, and no two share their values."""
    for part in (MAGIC_NUMBER, PROTOCOL_VERSION, MACHINE):
        pickle.dump(part, handle, protocol=DEFAULT_PROTOCOL)
    pickler = _Pickler(handle)
    pickler.dump(dict(content))
    names = [str(number) for number in range(len(pickler.storages))]
    pickle.dump(names, handle, protocol=DEFAULT_PROTOCOL)
    for storage in pickler.storages:
        handle.write(struct.pack("<q", storage._size()))
        handle.write(torch.tensor(storage._untyped_storage, dtype=torch.uint8).numpy().data)
