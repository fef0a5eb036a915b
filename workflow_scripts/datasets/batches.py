"""CIFAR's Python batches: pickles of 10,000 images, opened without running what is in them.

A pickle can call any function. Here it can name four things, and gets harmless stand-ins of ours
for them: not even numpy's code sees what the file says. Anything else is refused.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import refuse

SIDE: Final = 32  # pixels
IMAGE_BYTES: Final = 3 * SIDE * SIDE  # red plane, green plane, blue plane
ADVICE: Final = "download the archive again and compare its checksum"
# What Python's unpickler raises for bytes that are no pickle, or not one of ours.
UNPICKLING_ERRORS: Final = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class Batch(NamedTuple):
    """One file of images.

    Attributes:
        pixels: shape (N, 3072), uint8: the planes of each image one after the other.
        labels: shape (N,), class indices.
        names: the file name that each image once had.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]


class _Type:
    """Stands in for `numpy.dtype`; only plain bytes are wanted."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Take note of nothing: byte order and fields do not matter for single bytes."""


class _Array:
    """Stands in for `numpy.ndarray` while the pickle is read."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def to_numpy(self) -> NDArray[np.uint8]:
        """Return the array that the pickle describes, which has to be of bytes in rows."""
        _, shape, kind, is_fortran, raw = self.state
        is_bytes = isinstance(kind, _Type) and kind.code in (b"u1", "u1")
        if not is_bytes or is_fortran or not isinstance(raw, bytes) or len(shape) != 2:
            raise ValueError("an array of something else than rows of bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Return bytes that Python 3 writes as text into pickles of this protocol."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")


STAND_INS: Final[Mapping[tuple[str, str], Callable[..., object]]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # as published, by Python 2
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # numpy 2
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Knows a short list of names."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Return our stand-in for a name of the list."""
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"the name {module}.{name}, which has no place in it")
        return STAND_INS[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        """Refuse a reference to something outside the file."""
        raise pickle.UnpicklingError("a reference to something outside the file")


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary of a pickle that holds lists, texts and byte arrays only.

    Raises:
        InputError: no such file; not a pickle; it names anything else.
    """
    if not path.is_file():
        raise refuse(str(path), "a file of CIFAR's Python version", "no file", ADVICE)
    expected = "a pickle of lists, texts and byte arrays"
    try:
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except UNPICKLING_ERRORS as error:
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise refuse(str(path), expected, found, ADVICE) from error
    if not isinstance(content, dict):
        raise refuse(str(path), "a dictionary", type(content).__name__, ADVICE)
    return {_text(key): value for key, value in content.items()}


def _text(value: object) -> str:
    """Return a text that Python 2 wrote as bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def read_batch(path: Path, n_classes: int) -> Batch:
    """Return images and labels of a batch.

    Raises:
        InputError: see `read_pickle`; or the arrays are not those of a batch.
    """
    content = read_pickle(path)
    data = content.get("data")
    try:
        pixels = data.to_numpy() if isinstance(data, _Array) else np.empty((0, 0), np.uint8)
    except (TypeError, ValueError) as error:
        raise refuse(f"{path} key 'data'", "rows of bytes", str(error), ADVICE) from error
    if pixels.ndim != 2 or pixels.shape[1] != IMAGE_BYTES or not len(pixels):
        found = f"shape {pixels.shape}"
        raise refuse(f"{path} key 'data'", f"rows of {IMAGE_BYTES} bytes", found, ADVICE)
    labels, names = (_list(path, content, key, len(pixels)) for key in ("labels", "filenames"))
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < n_classes:
            expected = f"a class of 0 to {n_classes - 1}"
            raise refuse(f"{path} labels[{row}]", expected, repr(label)[:80], ADVICE)
    return Batch(pixels, np.array(labels, np.int64), tuple(map(_text, names)))


def _list(path: Path, content: Mapping[str, Any], key: str, length: int) -> list[Any]:
    """Return a value that has to be a list of `length`."""
    value = content.get(key)
    if isinstance(value, list) and len(value) == length:
        return value
    found = f"{len(value)}" if isinstance(value, list) else type(value).__name__
    raise refuse(f"{path} key {key!r}", f"a list of {length}", found, ADVICE)


def read_row(path: Path, row: int) -> bytes:
    """Return the bytes of one image of a batch.

    Raises:
        OSError: there is no such file.
        InputError: it is no batch.
        IndexError: it has fewer images.
    """
    stamp = os.stat(path)
    pixels: bytes = _pixels(str(path), stamp.st_mtime_ns, stamp.st_size)[row].tobytes()
    return pixels


@functools.lru_cache(maxsize=2)  # 31 MB each; images are asked for in the order of the batches
def _pixels(path: str, mtime_ns: int, n_bytes: int) -> NDArray[np.uint8]:
    return read_batch(Path(path), n_classes=256).pixels


def pickled(content: Mapping[str, Any]) -> bytes:
    """Return a dictionary as Python 2 pickled it for the published files (protocol 2).

    Args:
        content: values may be int, bytes, lists of these, and byte arrays of two dimensions.

    >>> pickled({"num_vis": 3072})[:4]
    b'\\x80\\x02}('
    """
    items = b"".join(_opcodes(key.encode()) + _opcodes(value) for key, value in content.items())
    return b"\x80\x02}(" + items + b"u."


def _opcodes(value: object) -> bytes:
    """Return what makes the unpickler push `value`."""
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little", signed=True)
    if isinstance(value, bytes):  # a `str` of Python 2, short or long
        is_short = len(value) < 256
        head = b"U" if is_short else b"T"
        return head + len(value).to_bytes(1 if is_short else 4, "little") + value
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 2:
        return _array_opcodes(value)
    raise TypeError(f"{type(value).__name__} has no place in a batch")


def _array_opcodes(array: NDArray[np.uint8]) -> bytes:
    """Return what makes numpy's unpickling build a byte array."""
    make = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + b"(K\x00tU\x01btR"
    minus_one = _opcodes(-1)
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + 2 * minus_one + b"K\x00tb"
    shape = b"(" + b"".join(map(_opcodes, array.shape)) + b"t"
    return make + b"(K\x01" + shape + kind + b"\x89" + _opcodes(array.tobytes()) + b"tb"
