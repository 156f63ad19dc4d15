"""Sums of multiples of known points of Ed25519, for eight signatures at once, or for one.

Everything here is public (signatures, messages, and the keys that verify them), so branches and
addresses depend on values. A lane is a signature, or a key whose table is made; vectors have
eight 64-bit lanes whatever the CPU: LLVM splits them where registers are narrower.

Elements modulo p = 2^255 - 19 and their sizes are those of `secagg.kernels.field25519`: ten limbs,
each a vector, 80 words.

Points have the extended coordinates of Hisil, Wong, Carter and Dawson (Asiacrypt 2008) for
a = -1: x = X/Z, y = Y/Z, xy = T/Z, four elements. The formulas are complete, because d is not a
square. What is multiplied is in tables: entry `entries * j + m` of a point's is 2^(32j) m times
the point, for j below 8, so that eight digits of a scalar are used between two doublings.
An entry is y + x, y - x and 2dxy, two limbs a word, and an empty word.

The kernels and the intrinsics they call share this file on purpose: numba's cache looks only
at the file of the kernel to see whether it is stale. So a change of the field's file has to
change this one, too: FIELD is its digest.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, intrinsic, kernel
from secagg.kernels.field25519 import LANES, LIMBS, TWICE_PRIME, VECTOR, WIDTHS, Field, spread

__all__ = [
    "COMBS",
    "ELEMENT_WORDS",
    "ENTRY_WORDS",
    "FIELD",
    "KEY_ENTRIES",
    "LANES",
    "LIMBS",
    "ONE_ENTRIES",
    "POINT_WORDS",
    "WIDTHS",
    "compiles",
    "encode_sums",
    "fill_tables",
]

FIELD = "d3ec7f82f24470ad"
ELEMENT_WORDS = LIMBS * LANES
POINT_WORDS = 4 * ELEMENT_WORDS
COMBS = 8
KEY_ENTRIES = 16  # digits are nibbles
ONE_ENTRIES = 256  # digits are bytes
ENTRY_WORDS = 16

_X, _Y, _Z, _T = range(0, POINT_WORDS, ELEMENT_WORDS)
_PRIME = 2**255 - 19
_TWICE_D = 2 * -121665 * pow(121666, -1, _PRIME) % _PRIME
_SHIFTS = [sum(WIDTHS[:limb]) for limb in range(LIMBS)]
_TWICE_D_LIMBS = np.array(
    [_TWICE_D >> at & (1 << w) - 1 for at, w in zip(_SHIFTS, WIDTHS, strict=True)], np.uint64
)
_WIDTHS = np.array(WIDTHS, np.uint64)
_U0, _U1, _U7, _U8, _U19, _U32, _U255 = (np.uint64(n) for n in (0, 1, 7, 8, 19, 32, 255))

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class _Memory:
    """Vectors in a numba array of 64-bit words, by the number of their first word."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any, place: int) -> None:
        array = context.make_array(signature.args[place])(context, builder, args[place])
        self.builder, self.data = builder, array.data

    def _at(self, index: Any, more: int, kind: Any) -> Any:
        word = self.builder.gep(self.data, [self.builder.add(index, _I64(more))])
        return self.builder.bitcast(word, kind.as_pointer())

    def load(self, index: Any, more: int = 0, kind: Any = VECTOR) -> Any:
        return self.builder.load(self._at(index, more, kind), align=8)

    def element(self, index: Any, more: int = 0) -> list[Any]:
        return [self.load(index, more + LANES * limb) for limb in range(LIMBS)]

    def store(self, element: list[Any], index: Any, more: int = 0) -> None:
        for limb, vector in enumerate(element):
            place = self._at(index, more + LANES * limb, VECTOR)
            self.builder.store(vector, place, align=8)


def _entries(builder: Any, first: list[Any]) -> list[list[Any]]:
    """The three elements whose words begin at `first` for each lane: eight rows as columns."""
    addresses = [builder.mul(word, _I64(8)) for word in first]
    pointers = [builder.inttoptr(address, VECTOR.as_pointer()) for address in addresses]
    words = []
    for half in range(2):
        rows = [builder.load(builder.gep(place, [_I64(half)]), align=8) for place in pointers]
        for distance in (4, 2, 1):
            upper = [e - distance + LANES if e & distance else e for e in range(LANES)]
            lower = [e + LANES if e & distance else e + distance for e in range(LANES)]
            masks = [ir.Constant(ir.VectorType(_I32, LANES), mask) for mask in (upper, lower)]
            for at in (e for e in range(LANES) if not e & distance):
                pair = rows[at], rows[at + distance]
                rows[at], rows[at + distance] = (builder.shuffle_vector(*pair, m) for m in masks)
        words += rows
    low, shift = spread(2**32 - 1), spread(32)
    limbs = [each for w in words for each in (builder.and_(w, low), builder.lshr(w, shift))]
    return [limbs[at : at + LIMBS] for at in range(0, 3 * LIMBS, LIMBS)]


def _store_point(field: Field, memory: _Memory, at: Any, of: tuple[list[Any], ...]) -> None:
    """The last products of both formulas below."""
    e, f, g, h = of
    for more, pair in {_X: (f, e), _Y: (g, h), _Z: (f, g), _T: (h, e)}.items():
        memory.store(field.times(*pair), at, more)


@intrinsic
def _double(typing: Any, values: Any, at: Any) -> Any:
    """Double the point at `at` in each lane (dbl-2008-hwcd)."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        field, memory = Field(builder), _Memory(context, builder, signature, args, 0)
        x, y, z = (memory.element(args[1], more) for more in (_X, _Y, _Z))
        a, b, zz = field.square(x), field.square(y), field.square(z)
        h, g = field.add(a, b), field.subtract(a, b)
        e = field.carry(field.subtract(h, field.square(field.add(x, y))))
        f = field.add(field.add(zz, zz), g)
        _store_point(field, memory, args[1], (e, f, g, h))
        return context.get_dummy_value()

    return types.void(values, types.int64), emit


@intrinsic
def _add(typing: Any, values: Any, at: Any, lanes: Any, base: Any) -> Any:
    """Add to the point at `at`, in each lane, the entry that begins `base` words of memory after
    the one that `lanes` gives (madd-2008-hwcd-3).
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        field, memory = Field(builder), _Memory(context, builder, signature, args, 0)
        places = _Memory(context, builder, signature, args, 2)
        first = [places.load(_I64(lane), kind=_I64) for lane in range(LANES)]
        plus, minus, product = _entries(builder, [builder.add(word, args[3]) for word in first])
        x, y, z, t = (memory.element(args[1], more) for more in (_X, _Y, _Z, _T))
        a = field.times(field.subtract(y, x), minus)
        b = field.times(field.add(y, x), plus)
        c, d = field.times(t, product), field.add(z, z)
        e, h = field.subtract(b, a), field.add(b, a)
        f, g = field.subtract(d, c), field.add(d, c)
        _store_point(field, memory, args[1], (e, f, g, h))
        return context.get_dummy_value()

    return types.void(values, types.int64, lanes, types.int64), emit


@intrinsic
def _times(typing: Any, values: Any, out: Any, one: Any, other: Any) -> Any:
    """The element at `out` becomes the product of two others."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        field, memory = Field(builder), _Memory(context, builder, signature, args, 0)
        memory.store(field.times(*map(memory.element, args[2:])), args[1])
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64, types.int64), emit


@intrinsic
def _square(typing: Any, values: Any, at: Any) -> Any:
    """The element at `at` becomes its square."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        field, memory = Field(builder), _Memory(context, builder, signature, args, 0)
        memory.store(field.square(memory.element(args[1])), args[1])
        return context.get_dummy_value()

    return types.void(values, types.int64), emit


@kernel
def _copy(values: Any, to: int, at: int, words: int) -> None:
    for word in range(words):
        values[to + word] = values[at + word]


@kernel
def _set_to(values: Any, at: int, number: int) -> None:
    """The element at `at` becomes a number below 2^25."""
    for word in range(ELEMENT_WORDS):
        values[at + word] = np.uint64(number) if word < LANES else _U0


@kernel
def _set_neutral(values: Any, at: int) -> None:
    """The point at `at` becomes the neutral one."""
    for coordinate in (_X, _Y, _Z, _T):
        _set_to(values, at + coordinate, int(coordinate in (_Y, _Z)))


@kernel
def _invert(values: Any, at: int, spare: int) -> None:
    """The element at `at` becomes its inverse, its power p - 2 = 2^5 (2^250 - 1) + 11.

    A power of 2^n - 1 gives those of 2^2n - 1 and 2^(n+1) - 1. Uses two elements at `spare`.
    """
    power, shifted, ones = spare, spare + ELEMENT_WORDS, 1
    _copy(values, power, at, ELEMENT_WORDS)
    for place in range(6, -1, -1):
        _copy(values, shifted, power, ELEMENT_WORDS)
        for _ in range(ones):
            _square(values, shifted)
        _times(values, power, power, shifted)
        ones *= 2
        if (250 >> place) & 1:
            _square(values, power)
            _times(values, power, power, at)
            ones += 1
    for place in range(4, -1, -1):
        _square(values, power)
        if (11 >> place) & 1:
            _times(values, power, power, at)
    _copy(values, at, power, ELEMENT_WORDS)


@kernel
def _make_affine(values: Any, first: int, step: int, count: int, spare: int) -> None:
    """The points at `first`, `first + step`, … get Z = 1, at the price of one inversion and a few
    products each (Montgomery). No Z is zero. Uses `count + 3` elements at `spare`.
    """
    total, inverse, before = spare, spare + ELEMENT_WORDS, spare + 3 * ELEMENT_WORDS
    _set_to(values, total, 1)
    for place in range(count):
        _copy(values, before + place * ELEMENT_WORDS, total, ELEMENT_WORDS)
        _times(values, total, total, first + place * step + _Z)
    _invert(values, total, inverse)
    for place in range(count - 1, -1, -1):
        at = first + place * step
        _times(values, inverse, total, before + place * ELEMENT_WORDS)
        _times(values, total, total, at + _Z)
        _times(values, at + _X, at + _X, inverse)
        _times(values, at + _Y, at + _Y, inverse)
        _times(values, at + _T, at + _X, at + _Y)
        _set_to(values, at + _Z, 1)


@kernel
def _write(values: Any, at: int, twice_d: int, tables: Any, lanes: Any, more: int) -> None:
    """The affine point at `at` as the entry that `_add` finds there; its Z is used up."""
    _times(values, at + _Z, at + _T, twice_d)
    for lane in range(LANES):
        for word in range(LIMBS // 2):
            low, to = at + 2 * LANES * word + lane, lanes[lane] + more + word
            high, raised = low + LANES, TWICE_PRIME[2 * word] + (TWICE_PRIME[1] << _U32)
            x = values[low + _X] | values[high + _X] << _U32
            y = values[low + _Y] | values[high + _Y] << _U32
            t = values[low + _Z] | values[high + _Z] << _U32
            tables[to], tables[to + 5], tables[to + 10] = y + x, y + (raised - x), t


@kernel
def _start(points: Any, group: int, entries: int, values: Any, lanes: Any) -> None:
    """The points of a group and what `fill_tables` needs of their multiples; where their tables
    are. Lanes that are too many repeat the last point.
    """
    for lane in range(LANES):
        row = min(group * LANES + lane, points.shape[0] - 1)
        lanes[lane] = row * COMBS * entries * ENTRY_WORDS
        for limb in range(LIMBS):
            at = POINT_WORDS + LANES * limb + lane
            values[at + _X], values[at + _Y] = points[row, 0, limb], points[row, 1, limb]
    _set_to(values, POINT_WORDS + _Z, 1)
    _times(values, POINT_WORDS + _T, POINT_WORDS + _X, POINT_WORDS + _Y)
    step = entries * POINT_WORDS
    for comb in range(COMBS):
        _set_neutral(values, comb * step)
        if comb > 0:
            _copy(values, comb * step + POINT_WORDS, (comb - 1) * step + POINT_WORDS, POINT_WORDS)
            for _ in range(256 // COMBS):
                _double(values, comb * step + POINT_WORDS)


@kernel
def fill_tables(points: Any, entries: int, tables: Any, values: Any) -> None:
    """The tables of n points, one after the other, `COMBS * entries * ENTRY_WORDS` words each.

    points: (n, 2, LIMBS), x and y of each; tables: zeros; values: room for COMBS * entries
    points and 4 elements more than that.
    """
    lanes = np.empty(LANES, np.int64)
    count, step = COMBS * entries, entries * POINT_WORDS
    twice_d = count * POINT_WORDS
    spare = twice_d + ELEMENT_WORDS
    for word in range(ELEMENT_WORDS):
        values[twice_d + word] = _TWICE_D_LIMBS[word // LANES]
    for group in range((points.shape[0] + LANES - 1) // LANES):
        _start(points, group, entries, values, lanes)
        _make_affine(values, POINT_WORDS, step, COMBS, spare)
        for comb in range(COMBS):
            first, entry = comb * step + POINT_WORDS, (comb * entries + 1) * ENTRY_WORDS
            _write(values, first, twice_d, tables, lanes, entry)
            _set_to(values, first + _Z, 1)
            for at in range(first + POINT_WORDS, (comb + 1) * step, POINT_WORDS):
                _copy(values, at, at - POINT_WORDS, POINT_WORDS)
                _add(values, at, lanes, tables.ctypes.data // 8 + entry)
        _make_affine(values, 0, POINT_WORDS, count, spare)
        for place in range(count):
            _write(values, place * POINT_WORDS, twice_d, tables, lanes, place * ENTRY_WORDS)


@kernel
def _above(values: Any, at: int) -> Any:
    """One if the element of a lane is not below p, and zero otherwise: reduced, it is below 2p."""
    carry = _U19
    for limb in range(LIMBS):
        carry = (values[at + LANES * limb] + carry) >> _WIDTHS[limb]
    return carry


@kernel
def _encode(values: Any, at: int, out: Any, row: int) -> None:
    """RFC 8032, 5.1.2: the least y, and the parity of x in the highest bit."""
    x_is_odd = (values[at + _X] ^ _above(values, at + _X)) & _U1
    carry, word, fill, byte = _U19 * _above(values, at + _Y), _U0, _U0, 0
    for limb in range(LIMBS):
        carry += values[at + _Y + LANES * limb]
        word |= (carry & ((_U1 << _WIDTHS[limb]) - _U1)) << fill
        carry >>= _WIDTHS[limb]
        fill += _WIDTHS[limb]
        while fill >= _U8:
            out[row, byte] = word & _U255
            byte, word, fill = byte + 1, word >> _U8, fill - _U8
    out[row, 31] = word | x_is_odd << _U7


@kernel
def encode_sums(one: Any, tables: Any, ones: Any, others: Any, out: Any, values: Any) -> None:
    """`out[i]`: the encoding of ones[i] times the point of `one[i]`, plus others[i] times point i.

    one, tables: where there are tables with ONE_ENTRIES and with KEY_ENTRIES, as addresses
    divided by 8; ones, others, out: (n, 32) bytes; scalars have any 256 bits, least
    significant byte first; values: room for a point and an element for each of ceil(n / LANES)
    groups, and 3 elements.

    Or a single sum: eight rows of 4 bytes, each a comb's, with tables that begin there. Their
    sums are added up to the only row of `out`; values: room for two points.
    """
    count, step, lanes = len(others), 32 // COMBS, np.empty(LANES, np.int64)
    groups, combs = (count + LANES - 1) // LANES, others.shape[1] // step
    for group in range(groups):
        at = group * POINT_WORDS
        _set_neutral(values, at)
        for nibble in range(2 * step - 1, -1, -1):
            for _ in range(4 if nibble < 2 * step - 1 else 0):  # nothing to double at first
                _double(values, at)
            for comb in range(combs):
                byte, shift = comb * step + nibble // 2, 4 * (nibble & 1)
                for lane in range(LANES):
                    row = min(group * LANES + lane, count - 1)
                    digit = (np.int64(others[row, byte]) >> shift) & 15
                    lanes[lane] = tables[row] + digit * ENTRY_WORDS
                _add(values, at, lanes, comb * KEY_ENTRIES * ENTRY_WORDS)
                if nibble & 1 == 0:
                    for lane in range(LANES):
                        row = min(group * LANES + lane, count - 1)
                        lanes[lane] = one[row] + np.int64(ones[row, byte]) * ENTRY_WORDS
                    _add(values, at, lanes, comb * ONE_ENTRIES * ENTRY_WORDS)
    if combs == 1:
        _add_up(values, lanes)
    _make_affine(values, 0, POINT_WORDS, groups, groups * POINT_WORDS)
    for row in range(len(out)):
        _encode(values, row // LANES * POINT_WORDS + row % LANES, out, row)


@kernel
def _add_up(values: Any, lanes: Any) -> None:
    """The first point becomes, in every lane, the sum over its lanes."""
    twice_d, entries = POINT_WORDS, POINT_WORDS + ELEMENT_WORDS
    _make_affine(values, 0, POINT_WORDS, 1, POINT_WORDS)
    for word in range(ELEMENT_WORDS):
        values[twice_d + word] = _TWICE_D_LIMBS[word // LANES]
    lanes[:] = np.arange(LANES) * ENTRY_WORDS
    _write(values, 0, twice_d, values[entries:], lanes, 0)
    _set_neutral(values, 0)
    for lane in range(LANES):
        lanes[:] = lane * ENTRY_WORDS
        _add(values, 0, lanes, values.ctypes.data // 8 + entries)
