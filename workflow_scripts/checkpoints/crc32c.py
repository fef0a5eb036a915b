"""CRC-32C, the checksum with which TensorFlow protects what it writes.

Python's library has none. A loop over bytes would need a minute for a ResNet-50, so long inputs
are cut into equal lanes that NumPy advances together; CRCs being linear over GF(2), the lanes'
values are then joined by "shifting" the left one over the length of the right one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed (RFC 3720)
MASK_DELTA = 0xA282EAD8  # LevelDB's masking: a stored CRC is not the CRC of data with a CRC in it
MAX_LANES = 1 << 14  # more make joining dearer than walking
LANE_BYTES = 64  # shortest lane worth the joining
FEW_BYTES = 4096  # up to here a plain loop is faster
WORD = 0xFFFFFFFF

Bits = NDArray[np.uint32]


def _byte_table() -> Bits:
    table: Bits = np.arange(256, dtype=np.uint32)
    polynomial = np.array([0, POLYNOMIAL], dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ polynomial[table & np.uint32(1)]
    return table


TABLE = _byte_table()
STEPS: list[int] = TABLE.tolist()  # the same as Python numbers


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data`.

    >>> hex(crc32c(b"123456789"))  # the check value of RFC 3720
    '0xe3069283'
    """
    if len(data) <= FEW_BYTES:
        return walked(data, WORD) ^ WORD
    values = np.frombuffer(data, dtype=np.uint8)
    n_lanes = min(MAX_LANES, 1 << max(0, (len(data) // LANE_BYTES).bit_length() - 1))
    length = len(data) // n_lanes
    lanes = np.ascontiguousarray(values[: n_lanes * length].reshape(n_lanes, length).T)
    state = np.zeros(n_lanes, dtype=np.uint32)
    for column in lanes:
        state = TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
    operator = zeros_operator(length)
    while len(state) > 1:
        state = apply(operator, state[0::2]) ^ state[1::2]
        operator = apply(operator, operator)
    start = apply(zeros_operator(n_lanes * length), np.array([WORD], dtype=np.uint32))
    return walked(data[n_lanes * length :], int(state[0] ^ start[0])) ^ WORD


def walked(data: bytes, value: int) -> int:
    """Return the register after `data`, byte by byte."""
    for byte in data:
        value = STEPS[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value


def zeros_operator(n_bytes: int) -> Bits:
    """Return the GF(2) matrix, one word a column, that feeds `n_bytes` zero bytes."""
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)  # identity
    power = TABLE[result & 0xFF] ^ (result >> 8)  # one zero byte
    while n_bytes:
        if n_bytes & 1:
            result = apply(power, result)
        power = apply(power, power)
        n_bytes >>= 1
    return result


def apply(operator: Bits, words: Bits) -> Bits:
    """Return the matrix times each word, over GF(2)."""
    result = np.zeros_like(words)
    for bit in range(32):
        result ^= np.where((words >> np.uint32(bit)) & 1, operator[bit], np.uint32(0))
    return result


def masked(crc: int) -> int:
    """Return the CRC as TensorFlow and LevelDB store it."""
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & WORD
