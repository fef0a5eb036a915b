"""TensorFlow's checkpoint files, read and written without TensorFlow.

A checkpoint (TensorBundle, "V2" format) is one `NAME.index` and shards
`NAME.data-00000-of-00001`. The shards are tensors' bytes one after another. The index is a sorted
table in LevelDB's format, which TensorFlow writes uncompressed: blocks of key-value entries, the
last 48 bytes saying where the block that lists the blocks is. A key is a variable's name, its
value a small protocol buffer with dtype, shape, shard, offset, size and checksum; the empty key
holds the header (number of shards, byte order).

Sources: the file formats as documented by LevelDB (table format) and TensorFlow
(`tensor_bundle.proto`); checked against TensorFlow's own saver in `tests/zoo`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflow_scripts.checkpoints.crc32c import crc32c, masked
from workflow_scripts.problems import InputError, refuse

FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57  # LevelDB's table format
TRAILER_BYTES = 5  # of a block: compression, checksum
RESTART_EVERY = 16  # entries between two keys written in full
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # TensorFlow's DataType numbers
WHOLE = "get the checkpoint again, all of its files, and compare their sizes with the source's"

Array = NDArray[np.generic]
Field = tuple[int, int | bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One variable of the index."""

    dtype: int  # TensorFlow's number
    shape: tuple[int, ...]
    shard: int
    offset: int  # in the shard, bytes
    size: int  # bytes
    checksum: int  # masked CRC-32C of these bytes
    is_sliced: bool  # a partitioned variable: its parts stand under other keys


def read_index(where: str, index: bytes) -> dict[str, Entry]:
    """Return the variables that an index lists.

    Raises:
        InputError: if it is no index, is damaged, compressed, or of the other byte order.
    """
    try:
        pairs = dict(_table(where, index))
        header = dict(_fields(pairs.pop(b"")))
        entries = {key.decode(): _entry(value) for key, value in pairs.items()}
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise _damaged(where, f"what does not parse ({error})") from error
    if header.get(2, 0) != 0:
        raise refuse(where, "a little-endian checkpoint", "a big-endian one", WHOLE)
    return entries


def read_tensor(where: str, name: str, entry: Entry, shards: Mapping[int, bytes]) -> Array:
    """Return one variable, its checksum proven.

    Args:
        where: the file, for messages.
        name: of the variable.
        entry: what the index says about it.
        shards: the data files' bytes, by number.
    """
    here = f"{where} variable {name!r}"
    if entry.dtype not in DTYPES or entry.is_sliced:
        found = "a partitioned variable" if entry.is_sliced else f"data type {entry.dtype}"
        raise refuse(here, "one float or integer array", found, "convert it with TensorFlow")
    raw = shards.get(entry.shard, b"")[entry.offset : entry.offset + entry.size]
    dtype = np.dtype(DTYPES[entry.dtype])
    if len(raw) != entry.size or entry.size != math.prod(entry.shape) * dtype.itemsize:
        want = f"{math.prod(entry.shape) * dtype.itemsize} bytes for shape {entry.shape}"
        raise refuse(here, want, f"{len(raw)} bytes", WHOLE)
    checksum = masked(crc32c(raw))
    if checksum != entry.checksum:
        raise refuse(here, f"checksum {entry.checksum:08x}", f"{checksum:08x}", WHOLE)
    return np.frombuffer(raw, dtype).reshape(entry.shape)


def write_bundle(tensors: Mapping[str, Array]) -> tuple[bytes, bytes]:
    """Return the index and the only shard of a checkpoint that holds `tensors`."""
    numbers = {dtype: number for number, dtype in DTYPES.items()}
    values = {b"": _varint_field(1, 1) + b"\x1a\x02\x08\x01"}  # one shard; version: producer 1
    shard: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        raw = np.ascontiguousarray(tensors[name]).tobytes()
        dims = [_varint_field(1, size) for size in tensors[name].shape]
        shape = b"".join(_bytes_field(2, dim) for dim in dims)
        fields = [
            _varint_field(1, numbers[tensors[name].dtype.str]),
            _bytes_field(2, shape),
            _varint_field(4, offset) if offset else b"",
            _varint_field(5, len(raw)),
            b"\x35" + struct.pack("<I", masked(crc32c(raw))),  # field 6, four bytes
        ]
        values[name.encode()] = b"".join(fields)
        shard.append(raw)
        offset += len(raw)
    return _write_table(values), b"".join(shard)


# The sorted table


def _table(where: str, index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a LevelDB table."""
    if len(index) < FOOTER_BYTES or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise _damaged(where, f"{len(index)} bytes without the format's ending")
    footer = index[-FOOTER_BYTES:]
    _, at = _handle(footer, 0)  # of the block of filters, which TensorFlow leaves empty
    blocks, _ = _handle(footer, at)
    for _, value in _block(where, index, blocks):
        yield from _block(where, index, _handle(value, 0)[0])


def _block(where: str, index: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of one block; a key shares its start with the one before."""
    offset, size = handle
    content = index[offset : offset + size]
    trailer = index[offset + size : offset + size + TRAILER_BYTES]
    if len(trailer) < TRAILER_BYTES or trailer[0] != 0:
        kind = f"compression {trailer[0]}" if trailer else "a block beyond the end"
        raise _damaged(where, kind)
    if masked(crc32c(content + trailer[:1])) != struct.unpack("<I", trailer[1:])[0]:
        raise _damaged(where, "a block with a wrong checksum")
    n_restarts = struct.unpack("<I", content[-4:])[0]
    end = len(content) - 4 * (n_restarts + 1)
    at, key = 0, b""
    while at < end:
        n_shared, at = _varint(content, at)
        n_own, at = _varint(content, at)
        n_value, at = _varint(content, at)
        key = key[:n_shared] + content[at : at + n_own]
        yield key, content[at + n_own : at + n_own + n_value]
        at += n_own + n_value


def _write_table(values: Mapping[bytes, bytes]) -> bytes:
    """Return a table with one block of entries, one of filters (none) and one of blocks."""
    out = bytearray()
    handles: list[bytes] = []
    last = max(values)
    for content in (values, {}, None):
        pairs = {last: handles[0]} if content is None else content
        block = _write_block(pairs)
        handles.append(_write_varint(len(out)) + _write_varint(len(block)))
        out += block + b"\0" + struct.pack("<I", masked(crc32c(block + b"\0")))
    footer = handles[1] + handles[2]
    return bytes(out) + footer.ljust(FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", MAGIC)


def _write_block(pairs: Mapping[bytes, bytes]) -> bytes:
    out = bytearray()
    restarts = [0]
    before = b""
    for number, key in enumerate(sorted(pairs)):
        n_shared = 0
        if number and number % RESTART_EVERY == 0:
            restarts.append(len(out))
        elif number:
            ends = (i for i, (a, b) in enumerate(zip(before, key, strict=False)) if a != b)
            n_shared = next(ends, min(len(before), len(key)))
        own = key[n_shared:]
        for length in (n_shared, len(own), len(pairs[key])):
            out += _write_varint(length)
        out += own + pairs[key]
        before = key
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


# Protocol buffers, as far as needed


def _entry(value: bytes) -> Entry:
    fields = dict(_fields(value))
    numbers = {key: field for key, field in fields.items() if isinstance(field, int)}
    shape = fields.get(2, b"")
    if not isinstance(shape, bytes):
        raise ValueError("a shape that is no message")
    dims = [dict(_fields(dim)) for key, dim in _fields(shape) if key == 2 and type(dim) is bytes]
    return Entry(
        dtype=numbers.get(1, 0),
        shape=tuple(int(dim.get(1, 0)) for dim in dims),
        shard=numbers.get(3, 0),
        offset=numbers.get(4, 0),
        size=numbers.get(5, 0),
        checksum=numbers.get(6, 0),
        is_sliced=7 in fields,
    )


def _fields(message: bytes) -> Iterator[Field]:
    """Yield number and value of each field of a protocol buffer."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif kind == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif kind == 5:
            yield tag >> 3, struct.unpack("<I", message[at : at + 4])[0]
            at += 4
        else:
            raise ValueError(f"a field of wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number written seven bits a byte, low ones first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _write_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _varint_field(number: int, value: int) -> bytes:
    return _write_varint(number << 3) + _write_varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _write_varint(number << 3 | 2) + _write_varint(len(value)) + value


def _damaged(where: str, found: str) -> InputError:
    return refuse(where, "the index of a TensorFlow checkpoint, whole", found, WHOLE)
