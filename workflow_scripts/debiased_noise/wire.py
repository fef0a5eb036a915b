"""What travels between embedding service and client: arrays in NumPy's own file format.

float32 without rounding, so that an edit trained through the service is the one trained in this
process. The header is read and judged before any memory is taken for the content.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.problems import InputError, refuse

ARRAY_TYPE = "application/x-npy"
MODEL_HEADER = "X-Backbone-Sha256"  # of the model that gave an answer
EMBED_PATH, HEALTH_PATH = "/embed", "/health"
HEADER_BYTES = 256  # a .npy header of these arrays has 128
Floats = NDArray[np.float32]


def encode(array: Floats) -> bytes:
    """Return an array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    return buffer.getvalue()


def decode(content: bytes, where: str, shape: tuple[int | None, ...]) -> Floats:
    """Return the array in the bytes of a .npy file, after judging its header.

    Args:
        content: the bytes; never unpickled.
        where: what a message calls them.
        shape: wanted; None allows any length.

    Raises:
        InputError: no such array, another type or shape, missing bytes, values not finite.
    """
    expected = f"a .npy array, float32, shape {_shown(shape)}"
    advice = "send numpy.save(file, array.astype('float32')) of such an array"
    try:
        found, fortran, dtype, start = _header(content)
    except (ValueError, EOFError, SyntaxError, UnicodeError) as error:
        raise refuse(where, expected, f"no .npy file ({error})", advice) from error
    fits = len(found) == len(shape) and all(
        want is None or size == want for size, want in zip(found, shape, strict=True)
    )
    if dtype != np.dtype("<f4") or fortran or not fits:
        order = ", columns first" if fortran else ""
        raise refuse(where, expected, f"{dtype} of shape {_shown(found)}{order}", advice)
    n_bytes = 4 * int(np.prod(found, dtype=np.int64))
    if len(content) - start != n_bytes:
        said = f"{len(content) - start} bytes of values instead of {n_bytes}"
        raise refuse(where, expected, said, advice)
    array: Floats = np.frombuffer(content, np.float32, offset=start).reshape(found)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
    if len(bad):
        rows = ", ".join(map(str, bad[:10]))
        advice = "check what made these rows"
        raise refuse(where, "finite values", f"values that are not, in rows {rows}", advice)
    return array


def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order, type and where the values begin."""
    buffer = io.BytesIO(content)
    version = np.lib.format.read_magic(buffer)
    if version != (1, 0):
        raise ValueError(f"format version {version}, expected (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(
        buffer, max_header_size=HEADER_BYTES
    )
    return shape, fortran, dtype, buffer.tell()


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def problems_as_json(error: InputError) -> dict[str, Any]:
    """Return a refusal as the service's answer to a bad request."""
    names = ("where", "expected", "found", "next_step")
    return {"problems": [{name: getattr(one, name) for name in names} for one in error.problems]}
