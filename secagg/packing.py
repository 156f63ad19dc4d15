"""Vectors of k-bit values as bytes: value i is bits i*k to i*k + k - 1, least bit first.

`d` values take exactly `ceil(d * k / 8)` bytes; the last byte is padded with zero bits. For
k = 8, 16, 32 and 64 that is the plain little-endian array.
"""

import operator
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from secagg.errors import LocalError

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Buffer = bytes | bytearray | memoryview

_RINGS = (np.dtype(np.uint32), np.dtype(np.uint64))
_CHUNK = 1 << 16


def packed_bytes(length: SupportsIndex, bits: SupportsIndex) -> int:
    """How many bytes `length` values of `bits` bits take. Raises `LocalError` out of range."""
    width = _check_bits(bits, 64)
    count = operator.index(length)
    if count < 0:
        raise LocalError("a length is not negative")
    return (count * width + 7) // 8


def pack(values: Words, bits: SupportsIndex) -> bytes:
    """The values, each below 2^bits, as `packed_bytes(len(values), bits)` bytes.

    `values` is one-dimensional, contiguous, uint32 or uint64; `bits` is 1 to 64, and may
    exceed the width of the array. Raises `LocalError`, also for a value of 2^bits or more.
    """
    width = _check_bits(bits, 64)
    _check_values(values)
    if width < 8 * values.itemsize and values.size and int(values.max()) >> width:
        raise LocalError(f"a value does not fit in {width} bits")
    return _pack_numpy(values, width)


def unpack(data: Buffer, bits: SupportsIndex, length: SupportsIndex) -> Words:
    """The `length` values in `data`: uint32 where `bits` is at most 32, otherwise uint64.

    Raises `ValueError` when `data` has another length than `packed_bytes(length, bits)` or
    a padding bit is set: the peer who sent it is to blame, and only the caller knows who.
    """
    width = _check_bits(bits, 64)
    words: Words = np.zeros(operator.index(length), np.uint32 if width <= 32 else np.uint64)
    raw = _check_data(data, width, words.size)
    _add_numpy(words, raw, width)
    return words


def add_packed(acc: Words, data: Buffer, bits: SupportsIndex) -> None:
    """`acc += unpack(data, bits, len(acc))` modulo 2^32 or 2^64, in place and in one pass.

    `bits` is at most the width of `acc`. Raises `ValueError` as `unpack` does, `LocalError`
    for an unusable `acc`; it is unchanged in both cases.
    """
    _check_values(acc)
    if not acc.flags.writeable:
        raise LocalError("the accumulator is read-only")
    width = _check_bits(bits, 8 * acc.itemsize)
    _add_numpy(acc, _check_data(data, width, acc.size), width)


def _pack_numpy(values: Words, bits: int) -> bytes:
    """Reference: every bit is a byte for a moment, so it works on chunks of values."""
    parts = []
    for low in range(0, values.size, _CHUNK):
        chunk = values[low : low + _CHUNK].astype("<u8")
        lanes = np.unpackbits(chunk.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        parts.append(np.packbits(lanes[:, :bits], bitorder="little").tobytes())
    return b"".join(parts)


def _add_numpy(acc: Words, raw: npt.NDArray[np.uint8], bits: int) -> None:
    """Reference: the inverse of `_pack_numpy`, added."""
    for low in range(0, acc.size, _CHUNK):
        part = acc[low : low + _CHUNK]
        piece = raw[low * bits // 8 : low * bits // 8 + packed_bytes(part.size, bits)]
        flat = np.unpackbits(piece, count=part.size * bits, bitorder="little")
        lanes = np.zeros((part.size, 64), np.uint8)
        lanes[:, :bits] = flat.reshape(-1, bits)
        words = np.packbits(lanes, axis=1, bitorder="little").view("<u8")[:, 0]
        part += words.astype(acc.dtype)


def _check_bits(bits: SupportsIndex, most: int) -> int:
    try:
        width = operator.index(bits)
    except TypeError:
        raise LocalError("a width is a whole number of bits") from None
    if not 1 <= width <= most:
        raise LocalError(f"a width is 1 to {most} bits, got {width}")
    return width


def _check_values(values: object) -> None:
    if not isinstance(values, np.ndarray) or values.dtype not in _RINGS:
        raise LocalError("values are an array of native uint32 or uint64")
    if values.ndim != 1 or not (values.flags.c_contiguous and values.flags.aligned):
        raise LocalError("values are one-dimensional, contiguous and aligned")


def _check_data(data: Buffer, bits: int, length: int) -> npt.NDArray[np.uint8]:
    """The bytes as an array, once their number and their padding are right."""
    raw = np.frombuffer(data, np.uint8)
    expected = packed_bytes(length, bits)
    if raw.size != expected:
        raise ValueError(f"{length} values of {bits} bits are {expected} bytes, got {raw.size}")
    used = length * bits % 8
    if used and raw[-1] >> used:
        raise ValueError(f"a padding bit after {length} values of {bits} bits is set")
    return raw
