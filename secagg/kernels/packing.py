"""k-bit packing and unpacking through 64-bit words at byte addresses, for k below 64.

A value of at most 57 bits lies within the eight bytes that begin where its first bit is; a
wider one may need a ninth. Little-endian machines only. The kernels index without bounds
checks and load eight bytes at a time: the callers in `secagg.packing` guarantee the lengths.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, intrinsic, kernel

__all__ = ["add", "compiles", "pack"]

_I64 = ir.IntType(64)
_U0, _U1, _U7, _U8, _U63, _U64 = (np.uint64(n) for n in (0, 1, 7, 8, 63, 64))


def _word_at(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """The address of eight bytes, `args[1]` bytes into the array `args[0]`."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), _I64.as_pointer())


@intrinsic
def _load(typing: Any, raw: Any, offset: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_word_at(context, builder, signature, args), align=1)

    return types.uint64(raw, types.intp), emit


@intrinsic
def _store(typing: Any, raw: Any, offset: Any, word: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _word_at(context, builder, signature, args), align=1)
        return context.get_dummy_value()

    return types.void(raw, types.intp, types.uint64), emit


@kernel
def pack(values: Any, bits: int, out: Any) -> Any:
    """Fill `out`, all of it; returns the bitwise or of the values, for a range check."""
    seen, word, fill, place, width = _U0, _U0, _U0, 0, np.uint64(bits)
    for index in range(values.size):
        value = np.uint64(values[index])
        seen |= value
        word |= value << fill
        fill += width
        if fill >= _U64:
            _store(out, place, word)
            place += 8
            fill -= _U64
            word = value >> (width - fill)
    while place < out.size:
        out[place] = word & np.uint64(255)
        word >>= _U8
        place += 1
    return seen


@kernel
def add(acc: Any, raw: Any, bits: int) -> None:
    """`acc[i] += ` value i of `raw`, modulo the ring of `acc`; `raw` may be longer."""
    mask = (_U1 << np.uint64(bits)) - _U1
    safe = min(acc.size, max(0, 8 * (raw.size - 9)) // bits)
    if bits <= 57:
        for index in range(safe):
            bit = index * bits
            acc[index] += acc.dtype.type((_load(raw, bit >> 3) >> np.uint64(bit & 7)) & mask)
    else:
        for index in range(safe):
            bit = index * bits
            shift = np.uint64(bit & 7)
            high = (np.uint64(raw[(bit >> 3) + 8]) << _U1) << (_U63 - shift)
            acc[index] += acc.dtype.type(((_load(raw, bit >> 3) >> shift) | high) & mask)
    for index in range(safe, acc.size):
        acc[index] += acc.dtype.type(_slow(raw, index * bits, bits))


@kernel
def _slow(raw: Any, bit: int, bits: int) -> Any:
    """One value, bit by bit: for the last few, where eight bytes are not there to load."""
    value = _U0
    for place in range(bits):
        byte = np.uint64(raw[(bit + place) >> 3])
        value |= ((byte >> np.uint64((bit + place) & 7)) & _U1) << np.uint64(place)
    return value
