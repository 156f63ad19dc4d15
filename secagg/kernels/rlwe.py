"""Key-additive encryption, a row of residues modulo one prime at a time.

Residues travel in groups: 16 of 30 bits are 15 words of 32 bits, or 60 bytes, the same bytes as
`secagg.packing` makes. A group is packed, unpacked, checked and added in registers, by two
shuffles and two shifts by constants. Nothing here branches on a secret or divides by one;
uniform words and opened sums are public. `secagg.rlwe_numpy` is the reference.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, intrinsic, kernel

__all__ = ["accept", "add_packed", "beyond", "compiles", "decode", "encode", "pack", "subtract"]

_GROUP = 16
_BITS = 30
_GROUP_BYTES = _GROUP * _BITS // 8
_WORDS = _GROUP_BYTES // 4

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_FULL, _HALF = ir.VectorType(_I32, _GROUP), ir.VectorType(_I32, _GROUP // 2)
_MASK = np.uint32(2**_BITS - 1)
_U32 = np.uint64(32)
_LOW = np.uint64(2**32 - 1)


def _constant(values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(values)), values)


_BIT = [_BITS * place for place in range(_GROUP)]
_FIRST = [bit // 32 for bit in _BIT]
_NEXT = [min(word + 1, _WORDS - 1) for word in _FIRST]
_SLOT = [min(32 * word // _BITS, _GROUP - 2) for word in range(_GROUP)]
_OFFSET = [min(32 * word - _BITS * slot, _BITS - 2) for word, slot in enumerate(_SLOT)]


class _Groups:
    """Emits groups: packed at a byte of an array of bytes, or plain at a word of one of words."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args

    def _place(self, number: int, kind: Any, more: int = 0) -> Any:
        """Where argument `number` is indexed by the argument after it, `more` bytes on."""
        array = self.context.make_array(self.signature.args[number])
        data = array(self.context, self.builder, self.args[number]).data
        place = self.builder.gep(data, [self.args[number + 1]])
        raw = self.builder.bitcast(place, ir.IntType(8).as_pointer())
        return self.builder.bitcast(self.builder.gep(raw, [_I64(more)]), kind.as_pointer())

    def load(self, number: int) -> Any:
        return self.builder.load(self._place(number, _FULL), align=4)

    def store(self, value: Any, number: int) -> None:
        self.builder.store(value, self._place(number, _FULL), align=4)

    def unpacked(self, number: int) -> Any:
        """The residues of the group at a byte; words 0 to 7 and 7 to 14 are loaded."""
        build = self.builder
        pair = [build.load(self._place(number, _HALF, more), align=1) for more in (0, 28)]
        first, following = (
            build.shuffle_vector(*pair, _constant([w if w < 8 else w + 1 for w in words]))
            for words in (_FIRST, _NEXT)
        )
        shifts = [bit % 32 for bit in _BIT]
        low = build.lshr(first, _constant(shifts))
        twice = build.shl(following, _constant([1] * _GROUP))  # so that no shift is by 32
        high = build.shl(twice, _constant([31 - shift for shift in shifts]))
        return build.and_(build.or_(low, high), _constant([int(_MASK)] * _GROUP))

    def store_packed(self, value: Any, number: int) -> None:
        """The inverse of `unpacked`, for residues below 2^30."""
        build = self.builder
        first, following = (
            build.shuffle_vector(value, value, _constant([slot + more for slot in _SLOT]))
            for more in (0, 1)
        )
        low = build.lshr(first, _constant(_OFFSET))
        high = build.shl(following, _constant([_BITS - offset for offset in _OFFSET]))
        words = build.or_(low, high)
        for begin in (0, 7):
            half = build.shuffle_vector(words, words, _constant(list(range(begin, begin + 8))))
            build.store(half, self._place(number, _HALF, 4 * begin), align=1)

    def spread(self, word: Any) -> Any:
        one = self.builder.insert_element(ir.Constant(_FULL, ir.Undefined), word, _I32(0))
        return self.builder.shuffle_vector(one, one, _constant([0] * _GROUP))


@intrinsic
def _pack_group(typing: Any, values: Any, at: Any, raw: Any, byte: Any) -> Any:
    """Pack the 16 residues at `at` into the 60 bytes at `byte`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        groups = _Groups(context, builder, signature, args)
        groups.store_packed(groups.load(0), 2)
        return context.get_dummy_value()

    return types.void(values, types.int64, raw, types.int64), emit


@intrinsic
def _add_group(typing: Any, acc: Any, at: Any, raw: Any, byte: Any, prime: Any) -> Any:
    """Add the packed residues at `byte` to the 16 at `at`, all below the prime."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        groups = _Groups(context, builder, signature, args)
        total = builder.add(groups.load(0), groups.unpacked(2))
        less = builder.sub(total, groups.spread(args[4]))
        smaller = builder.icmp_unsigned("<", total, less)
        groups.store(builder.select(smaller, total, less), 0)
        return context.get_dummy_value()

    return types.void(acc, types.int64, raw, types.int64, types.uint32), emit


@intrinsic
def _beyond_group(typing: Any, raw: Any, byte: Any, prime: Any) -> Any:
    """A bit for each of the packed residues at `byte` that is not below the prime."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        groups = _Groups(context, builder, signature, args)
        over = builder.icmp_unsigned(">=", groups.unpacked(0), groups.spread(args[2]))
        return builder.zext(builder.bitcast(over, _I16), _I64)

    return types.int64(raw, types.int64, types.uint32), emit


@kernel
def pack(values: Any, raw: Any) -> None:
    """Groups of residues below 2^30 as bytes, 60 a group."""
    for group in range(values.size // _GROUP):
        _pack_group(values, group * _GROUP, raw, group * _GROUP_BYTES)


@kernel
def add_packed(acc: Any, raw: Any, degree: int, primes: Any) -> None:
    """Add packed chunks to `acc`, whole chunks of `degree` but for the last.

    A chunk is one row for each prime. All residues are below their primes, before and after.
    """
    done, count = 0, primes.size
    while done < acc.size:
        width = min(degree, (acc.size - done) // count)
        for row in range(count):
            for at in range(done + row * width, done + (row + 1) * width, _GROUP):
                _add_group(acc, at, raw, at // _GROUP * _GROUP_BYTES, primes[row])
        done += count * width


@kernel
def beyond(raw: Any, residues: int, degree: int, primes: Any) -> Any:
    """Not zero if one of the packed residues is not below its prime."""
    done, count, found = 0, primes.size, np.int64(0)
    while done < residues:
        width = min(degree, (residues - done) // count)
        for row in range(count):
            for at in range(done + row * width, done + (row + 1) * width, _GROUP):
                found |= _beyond_group(raw, at // _GROUP * _GROUP_BYTES, primes[row])
        done += count * width
    return found


@kernel
def accept(words: Any, prime: Any, out: Any) -> int:
    """The first `out.size` words whose low 30 bits are below the prime; how many there are."""
    found, at = 0, 0
    while found < out.size and at < words.size:
        candidate = words[at] & _MASK
        out[found] = candidate
        found += candidate < prime
        at += 1
    return found


@kernel
def _times(value: Any, factor: Any, quotient: Any, prime: Any) -> Any:
    """Shoup's product of any 32-bit value, below 2p. See `secagg.kernels.ntt`."""
    high = np.uint32((np.uint64(value) * np.uint64(quotient)) >> _U32)
    return np.uint32(value * factor - high * prime)


@kernel
def _once(value: Any, prime: Any) -> Any:
    return min(value, np.uint32(value - prime))


@kernel
def encode(row: Any, noise: Any, values: Any, factors: Any, quotients: Any, prime: Any) -> None:
    """`row += noise + sum_f factors[f] * values[f]` mod p, in place, everything below p.

    values: (fields, row.size) of 32 or 64 bits; factors, quotients: (fields, 2), for the low
    and the high word of a value.
    """
    for at in range(row.size):
        sign = np.uint32(noise[at] >> np.int32(31))
        row[at] = _once(np.uint32(row[at] + np.uint32(noise[at]) + (sign & prime)), prime)
    for field in range(values.shape[0]):
        low, low_quotient = factors[field, 0], quotients[field, 0]
        for at in range(row.size):
            product = _times(np.uint32(values[field, at]), low, low_quotient, prime)
            row[at] = _once(np.uint32(row[at] + _once(product, prime)), prime)
        if values.itemsize == 8:
            high, high_quotient = factors[field, 1], quotients[field, 1]
            for at in range(row.size):
                word = np.uint32(np.uint64(values[field, at]) >> _U32)
                product = _times(word, high, high_quotient, prime)
                row[at] = _once(np.uint32(row[at] + _once(product, prime)), prime)


@kernel
def subtract(row: Any, product: Any, shift: Any, prime: Any) -> None:
    """`product = row - product + shift` mod p, everything below p."""
    for at in range(row.size):
        less = _once(np.uint32(row[at] + prime - product[at]), prime)
        product[at] = _once(np.uint32(less + shift), prime)


@kernel
def decode(
    rows: Any, primes: Any, inverses: Any, quotients: Any, delta: Any, radix: Any, out: Any
) -> int:
    """`out[f, i]`: digit f, base 2^radix, of `rows[:, i]` as an integer, divided by `delta`.

    By Garner's algorithm: `inverses[j, l]` is p_j^-1 mod p_l, with its quotient. Digits are cut
    to 64 bits. Returns how many numbers have more digits than `out`. These are public.
    """
    count, spilled = primes.size, 0
    digits = np.empty(count, np.uint32)
    limbs = np.zeros(count + 4, np.uint64)
    for at in range(rows.shape[1]):
        for place in range(count):
            value, prime = rows[place, at], primes[place]
            for j in range(place):
                shifted = np.uint32(value + prime + prime - digits[j])
                value = _times(shifted, inverses[j, place], quotients[j, place], prime)
            digits[place] = _once(value, prime)
        _positional(digits, primes, limbs)
        rest = np.uint64(0)
        for limb in range(count - 1, -1, -1):
            both = (rest << _U32) | limbs[limb]
            limbs[limb] = both // delta
            rest = both - limbs[limb] * delta
        for field in range(out.shape[0]):
            out[field, at] = _bits(limbs, field * radix, radix)
        above = out.shape[0] * radix
        over = np.uint64(0)
        while above < 32 * count:
            over |= _bits(limbs, above, 32)
            above += 32
        spilled += over != 0
    return spilled


@kernel
def _positional(digits: Any, primes: Any, limbs: Any) -> None:
    """`d_0 + p_0 (d_1 + p_1 (d_2 + …))` in limbs of 32 bits."""
    count = digits.size
    for limb in range(count):
        limbs[limb] = np.uint64(0)
    for place in range(count - 1, -1, -1):
        carry = np.uint64(digits[place])
        for limb in range(count):
            carry += limbs[limb] * np.uint64(primes[place])
            limbs[limb] = carry & _LOW
            carry >>= _U32


@kernel
def _bits(limbs: Any, begin: int, count: int) -> Any:
    """At most 64 bits of the number, from bit `begin` on; zeros follow its limbs."""
    limb, shift = begin // 32, np.uint64(begin % 32)
    value = limbs[limb] >> shift
    value |= limbs[limb + 1] << (_U32 - shift)
    value |= (limbs[limb + 2] << _U32) << (_U32 - shift)
    return value if count >= 64 else value & ((np.uint64(1) << np.uint64(count)) - np.uint64(1))
