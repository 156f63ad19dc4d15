"""Vectors of k-bit values as bytes: value i is bits i*k to i*k + k - 1, least bit first.

`d` values take exactly `ceil(d * k / 8)` bytes; the last byte is padded with zero bits. For
k = 8, 16, 32 and 64 that is the plain little-endian array. Long vectors are cut into tiles that
begin at whole bytes, and all cores take their share, without the interpreter lock.
"""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from secagg import checks, kernels
from secagg.errors import DecodeError, LocalError

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Buffer = bytes | bytearray | memoryview

_RINGS = (np.dtype(np.uint32), np.dtype(np.uint64))
_WHOLE = (8, 16, 32, 64)
_CHUNK = 1 << 16
_TILE = 1 << 16
"""Values that a thread takes at a time: about 50 microseconds. A multiple of 64, whose bits are
whole 64-bit words."""


def packed_bytes(length: SupportsIndex, bits: SupportsIndex) -> int:
    """How many bytes `length` values of `bits` bits take. Raises `LocalError` out of range."""
    return (_length(length) * _width(bits, 64) + 7) // 8


def pack(values: Words, bits: SupportsIndex, *, threads: int | None = None) -> bytes:
    """The values, each below 2^bits, as `packed_bytes(len(values), bits)` bytes.

    `values` is one-dimensional, contiguous, uint32 or uint64; `bits` is 1 to 64, and may
    exceed the width of the array. `threads` defaults to all cores numba may use. Raises
    `LocalError`, also for a value of 2^bits or more.
    """
    width, most = _width(bits, 64), checks.threads(threads)
    plain = _check_values(values).view()
    plain.flags.writeable = False  # for numba, as in `_check_data`
    if width in _WHOLE:
        if width < 8 * plain.itemsize:
            _check_fits(int(plain.max(initial=0)), width)
        return bytes(plain.astype(f"<u{width // 8}", copy=False).data)
    if not kernels.worth(100 * plain.size) or (compiled := _compiled()) is None:
        _check_fits(int(plain.max(initial=0)), width)
        return _pack_numpy(plain, width)
    result = BytesIO()
    if plain.size:
        result.seek(packed_bytes(plain.size, width) - 1)
        result.write(b"\0")
    _check_fits(_pack_tiles(compiled.pack, plain, width, result.getbuffer(), most), width)
    return result.getvalue()  # the buffer itself: half the time went where it was copied


def unpack(
    data: Buffer, bits: SupportsIndex, length: SupportsIndex, *, threads: int | None = None
) -> Words:
    """The `length` values in `data`: uint32 where `bits` is at most 32, otherwise uint64.

    `threads` as for `pack`. Raises `DecodeError` when `data` has another length than
    `packed_bytes(length, bits)` or a padding bit is set: the peer who sent it is to blame, and
    only the caller knows who.
    """
    width, count = _width(bits, 64), _length(length)
    raw = _check_data(data, width, count)
    words: Any = np.zeros(count, np.uint32 if width <= 32 else np.uint64)
    _add(words, raw, width, checks.threads(threads))
    checked: Words = words
    return checked


def check_packed(data: Buffer, bits: SupportsIndex, length: SupportsIndex) -> None:
    """Raise `DecodeError` unless `data` is the packing of `length` values of `bits` bits."""
    _check_data(data, _width(bits, 64), _length(length))


def add_packed(
    acc: Words, data: Buffer, bits: SupportsIndex, *, threads: int | None = None
) -> None:
    """`acc += unpack(data, bits, len(acc))` modulo 2^32 or 2^64, in place and in one pass.

    `bits` is at most the width of `acc`, `threads` as for `pack`. Raises `DecodeError` as
    `unpack` does, `LocalError` for an unusable `acc`; it is unchanged in both cases.
    """
    plain = _check_values(acc)
    if not plain.flags.writeable:
        raise LocalError("the accumulator is read-only")
    width = _width(bits, 8 * plain.itemsize)
    most = checks.threads(threads)
    _add(plain, _check_data(data, width, plain.size), width, most)


@cache
def _compiled() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import packing  # noqa: PLC0415
    except ImportError:
        return None
    return packing if packing.compiles() else None


def _add(acc: Any, raw: npt.NDArray[np.uint8], bits: int, threads: int | None) -> None:
    """Unpack `raw`, whose length is right, into `acc` by the fastest way there is."""
    whole = bits in _WHOLE
    if not kernels.worth((1 if whole else 100) * acc.size) or (compiled := _compiled()) is None:
        (_add_whole if whole else _add_numpy)(acc, raw, bits)
        return
    add = _add_whole if whole else compiled.add

    def tile(low: int, high: int) -> None:
        part = raw[low * bits // 8 : (high * bits + 7) // 8]
        add(acc[low:high], part, bits)

    _spread(tile, acc.size, threads)


def _pack_tiles(
    kernel: Any, values: Any, bits: int, buffer: memoryview, threads: int | None
) -> int:
    """Fill the buffer; the bitwise or of all values."""
    out, seen = np.frombuffer(buffer, np.uint8), [0]

    def tile(low: int, high: int) -> None:
        part = out[low * bits // 8 : (high * bits + 7) // 8]
        seen.append(kernel(values[low:high], bits, part))

    _spread(tile, values.size, threads)
    return max(seen)


def _spread(tile: Callable[[int, int], None], size: int, threads: int | None) -> None:
    """`tile(low, high)` for all of `range(size)`, over the threads. Needs the kernels."""
    from secagg.kernels import _parallel  # noqa: PLC0415 - imports numba

    _parallel.spread(tile, size, _TILE, threads)


def _add_whole(acc: Any, raw: npt.NDArray[np.uint8], bits: int) -> None:
    """Values that are words: NumPy adds them as fast as memory goes."""
    np.add(acc, raw.view(f"<u{bits // 8}"), out=acc)


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


def _length(length: SupportsIndex) -> int:
    return checks.whole(length, "a length", 0, unit=" values")


def _width(bits: SupportsIndex, most: int) -> int:
    return checks.whole(bits, "a width", 1, most, " bits")


def _check_fits(highest: int, bits: int) -> None:
    """`highest` is the maximum of the values, or their bitwise or: the same test."""
    if highest >> bits:
        raise LocalError(f"a value does not fit in {bits} bits")


def _check_values(values: object) -> Any:
    """`values` as a plain array that shares their memory."""
    if not isinstance(values, np.ndarray) or values.dtype not in _RINGS:
        raise LocalError("values are an array of native uint32 or uint64")
    if values.ndim != 1 or not (values.flags.c_contiguous and values.flags.aligned):
        raise LocalError("values are one-dimensional, contiguous and aligned")
    return np.asarray(values)


def _check_data(data: Buffer, bits: int, length: int) -> npt.NDArray[np.uint8]:
    """The bytes as an array, once their number and their padding are right."""
    try:
        raw = np.frombuffer(memoryview(data).cast("B"), np.uint8)
    except TypeError:
        raise LocalError("packed values are contiguous bytes") from None
    raw.flags.writeable = False  # numba compiles a kernel once more for each kind of array
    expected = packed_bytes(length, bits)
    if raw.size != expected:
        raise DecodeError(f"{length} values of {bits} bits are {expected} bytes, got {raw.size}")
    used = length * bits % 8
    if used and raw[-1] >> used:
        raise DecodeError(f"a padding bit after {length} values of {bits} bits is set")
    return raw
