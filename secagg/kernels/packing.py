"""k-bit packing and unpacking through 64-bit words at byte addresses, for k below 64.

A value of at most 57 bits lies within the eight bytes that begin where its first bit is; a
wider one may need a ninth. Eight values end where a byte does, so that eight at a time have the
same offsets and shifts each time, and none waits for another. Little-endian machines only. The
kernels index without bounds checks and load eight bytes at a time: the callers in
`secagg.packing` guarantee the lengths.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, intrinsic, kernel

__all__ = ["add", "compiles", "pack"]

_I64 = ir.IntType(64)
_U0, _U1, _U8, _U63, _U64 = (np.uint64(n) for n in (0, 1, 8, 63, 64))
_PAIRS = 2048


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
    seen, state, pairs = _U0, (_U0, _U0, 0), np.empty(_PAIRS, np.uint64)
    done, width = 0, np.uint64(bits)
    while bits < 32 and done + 2 <= values.size:
        count = min(_PAIRS, (values.size - done) // 2)
        seen |= _paired(values[done : done + 2 * count], width, pairs)
        state = _append(pairs[:count], np.uint64(2) * width, out, state)
        done += 2 * count
    for index in range(done, values.size):
        seen |= np.uint64(values[index])
    word, _, place = _append(values[done:], width, out, state)
    pairs.fill(0)
    while place < out.size:
        out[place] = word & np.uint64(255)
        word >>= _U8
        place += 1
    return seen


@kernel
def _paired(values: Any, width: Any, pairs: Any) -> Any:
    """Two values as one of twice the bits, which vector units do; the bitwise or of all."""
    seen = _U0
    for index in range(values.size // 2):
        low, high = np.uint64(values[2 * index]), np.uint64(values[2 * index + 1])
        seen |= low | high
        pairs[index] = low | (high << width)
    return seen


@kernel
def _append(values: Any, width: Any, out: Any, state: Any) -> Any:
    """Write values behind what is there; state: the bits of an unfinished word, how many they
    are, and the byte where it will be.
    """
    word, fill, place = state
    for index in range(values.size):
        value = np.uint64(values[index])
        word |= value << fill
        fill += width
        if fill >= _U64:
            _store(out, place, word)
            place += 8
            fill -= _U64
            word = value >> (width - fill)
    return word, fill, place


@kernel
def _offset(place: int, bits: int) -> Any:
    """The byte and the bit in it where a value begins, of eight."""
    return (place * bits) >> 3, np.uint64((place * bits) & 7)


@kernel
def add(acc: Any, raw: Any, bits: int) -> None:
    """`acc[i] += ` value i of `raw`, modulo the ring of `acc`; `raw` may be longer."""
    mask = (_U1 << np.uint64(bits)) - _U1
    safe = min(acc.size, max(0, 8 * (raw.size - 9)) // bits)
    if bits <= 57:
        safe = _add_eights(acc, raw, bits, mask, safe // 8)
    else:
        for index in range(safe):
            bit = index * bits
            shift = np.uint64(bit & 7)
            high = (np.uint64(raw[(bit >> 3) + 8]) << _U1) << (_U63 - shift)
            acc[index] += acc.dtype.type(((_load(raw, bit >> 3) >> shift) | high) & mask)
    for index in range(safe, acc.size):
        acc[index] += acc.dtype.type(_slow(raw, index * bits, bits))


@kernel
def _add_eights(acc: Any, raw: Any, bits: int, mask: Any, groups: int) -> Any:
    """Eight values at a time; how many there were."""
    (b1, s1), (b2, s2), (b3, s3) = _offset(1, bits), _offset(2, bits), _offset(3, bits)
    (b4, s4), (b5, s5), (b6, s6) = _offset(4, bits), _offset(5, bits), _offset(6, bits)
    b7, s7 = _offset(7, bits)
    word = acc.dtype.type
    for group in range(groups):
        at, byte = 8 * group, group * bits
        acc[at] += word(_load(raw, byte) & mask)
        acc[at + 1] += word((_load(raw, byte + b1) >> s1) & mask)
        acc[at + 2] += word((_load(raw, byte + b2) >> s2) & mask)
        acc[at + 3] += word((_load(raw, byte + b3) >> s3) & mask)
        acc[at + 4] += word((_load(raw, byte + b4) >> s4) & mask)
        acc[at + 5] += word((_load(raw, byte + b5) >> s5) & mask)
        acc[at + 6] += word((_load(raw, byte + b6) >> s6) & mask)
        acc[at + 7] += word((_load(raw, byte + b7) >> s7) & mask)
    return 8 * groups


@kernel
def _slow(raw: Any, bit: int, bits: int) -> Any:
    """One value, bit by bit: for the last few, where eight bytes are not there to load."""
    value = _U0
    for place in range(bits):
        byte = np.uint64(raw[(bit + place) >> 3])
        value |= ((byte >> np.uint64((bit + place) & 7)) & _U1) << np.uint64(place)
    return value
