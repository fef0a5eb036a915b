"""Pickles from elsewhere, read without running anything that they name.

A pickle is a program: it names functions and calls them. Here every name is looked up in the
lists below and nowhere else; nothing is imported. NumPy and JAX arrays are rebuilt by our own
few lines, records and mappings of a few research packages become inert `Record`s, and every
other name (`os.system`, `builtins.eval`, ...) is refused before anything happens.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse

INERT_PACKAGES = (  # their classes become records: contents kept, code never run
    "byol",
    "haiku",
    "jax",
    "jaxlib",
    "jaxline",
    "ml_collections",
    "optax",
)
CLASS_NAME = re.compile(r"_*[A-Z]\w*|frozendict")  # a class by its name; functions are refused
NUMBER_TYPE = re.compile(r"[<>=|]?[fiub]\d+|bool")
PLAIN = {  # containers without behaviour
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("collections", "OrderedDict"): OrderedDict,
}


class Record:
    """An object whose class is not imported: what it was made from, and its state.

    Attributes:
        fields: names of the arguments, of a named tuple; empty otherwise.
        arguments: what its constructor was called with.
        state: what its `__setstate__` or `__dict__` would have received.
        items: what was put into it by key.
    """

    fields: tuple[str, ...] = ()

    def __new__(cls, *arguments: object, **_: object) -> Record:
        """Keep what the class would have been called with."""
        self = super().__new__(cls)
        self.arguments = arguments
        self.state = None
        self.items = {}
        return self

    def __init__(self, *arguments: object, **named: object) -> None:
        self.arguments: tuple[object, ...]
        self.state: object
        self.items: dict[Any, Any]

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value


def as_mapping(value: object) -> Mapping[Any, Any] | None:
    """Return the mapping that `value` is or wraps; None if there is none.

    A record of named fields is the mapping of its fields. Haiku's mappings are pickled with
    their content as the only argument, or in their state.
    """
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, Record):
        return None
    if value.fields:
        return dict(zip(value.fields, value.arguments, strict=True))
    if value.items:
        return value.items
    if len(value.arguments) == 1:
        return as_mapping(value.arguments[0])
    if isinstance(value.state, Mapping):
        inner = [one for one in value.state.values() if isinstance(one, (Mapping, Record))]
        return as_mapping(inner[0]) if len(inner) == 1 else None
    return None


# Arrays, rebuilt by hand


class _Dtype:
    """A NumPy data type under construction; numbers only."""

    def __new__(cls, code: str, *_: object) -> _Dtype:
        self = super().__new__(cls)
        if not isinstance(code, str) or not NUMBER_TYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"array of type {code!r}, which is no number")
        self.dtype = np.dtype(code)
        return self

    def __init__(self, *_: object) -> None:
        self.dtype: np.dtype[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A NumPy array under construction."""

    values: NDArray[Any]

    def __new__(cls, *_: object) -> _Array:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, is_fortran, raw = state[-4:]
        self.values = _array(raw, dtype, shape, "F" if is_fortran else "C")


def _array(raw: bytes, dtype: object, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
        raise pickle.UnpicklingError("an array that is not made of plain numbers")
    flat: NDArray[Any] = np.frombuffer(raw, dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(raw: bytes, dtype: object, shape: tuple[int, ...], order: str) -> _Array:
    made = _Array()
    made.values = _array(raw, dtype, shape, order)
    return made


def _from_parts(function: object, arguments: object, state: tuple[Any, ...], *_: object) -> _Array:
    """Rebuild what JAX and dill write for an array: NumPy's own parts, in their own call."""
    if function is not _Array:
        raise pickle.UnpicklingError("an array that is not made from a NumPy array")
    made = _Array()
    made.__setstate__(state)
    return made


def _scalar(dtype: object, raw: bytes) -> _Array:
    return _from_buffer(raw, dtype, (), "C")


def _latin1(text: str, encoding: str) -> bytes:
    """Rebuild bytes from protocol 2, which writes them as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"a text in encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Rebuild empty bytes from protocol 2; takes no size, so that no file can ask for memory."""
    return b""


def _named_tuple(name: str, fields: tuple[str, ...], *_: object) -> type[Record]:
    """Return a record class with named fields: how dill writes any named tuple."""
    return type(str(name), (Record,), {"fields": tuple(fields)})


NUMPY_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
REBUILT: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _Array for core in NUMPY_CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in NUMPY_CORES},
    ("jax._src.array", "_reconstruct_array"): _from_parts,
    ("dill._dill", "_create_array"): _from_parts,
    ("dill.dill", "_create_array"): _from_parts,
    ("_codecs", "encode"): _latin1,
    ("builtins", "bytes"): _no_bytes,
    ("dill._dill", "_create_namedtuple"): _named_tuple,
    ("dill.dill", "_create_namedtuple"): _named_tuple,
}


def array_of(value: object) -> NDArray[Any] | None:
    """Return the array that `value` stands for, or None."""
    return value.values if isinstance(value, _Array) and hasattr(value, "values") else None


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows the names of this module and no others."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 (the base class's)
        """Return what stands for `module.name` here; anything unknown is refused."""
        # Protocol 2, BYOL's, has the names of Python 2.
        key = ("builtins" if module == "__builtin__" else module, name)
        known = REBUILT.get(key) or PLAIN.get(key)
        if known is not None:
            return known
        if module.split(".")[0] in INERT_PACKAGES and CLASS_NAME.fullmatch(name):
            return type(name, (Record,), {})
        raise pickle.UnpicklingError(f"the name {module}.{name}")


def read_pickle(path: Path) -> object:
    """Return the content of a pickle: plain containers, arrays, records.

    Raises:
        InputError: if it names anything but those, or is cut short.
    """
    try:
        with path.open("rb") as handle:
            return RestrictedUnpickler(handle).load()
    except pickle.UnpicklingError as error:
        raise refuse(
            str(path),
            "arrays, plain containers and records only",
            str(error)[:200],
            "nothing of it was run; do not open this file with pickle or dill, and get it again "
            "from its publisher",
        ) from error
    except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise refuse(
            str(path), "a whole pickle", f"{type(error).__name__}: {error}"[:200], "get it again"
        ) from error


# What training scripts leave in torch files beside the weights. None of it is used; each becomes
# a Record, so that torch's own weights-only reader can pass over it.
BAGGAGE = (
    "argparse.Namespace",
    "pathlib.PosixPath",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
)


@contextmanager
def inert_baggage() -> Iterator[None]:
    """Let `torch.load(weights_only=True)` meet the names of `BAGGAGE`, as inert records."""
    import torch

    stand_ins: list[Any] = [(type(name.rsplit(".")[-1], (Record,), {}), name) for name in BAGGAGE]
    with torch.serialization.safe_globals(stand_ins):
        yield
