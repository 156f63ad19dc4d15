"""X25519 of one scalar with eight points at once: the ladder of RFC 7748, section 5.

The scalar is secret. It decides nothing but masks: no branch and no address depends on it, or on
what is computed from it. The points are public.

An element modulo p = 2^255 - 19 is five limbs of 51 bits, each a vector of eight 64-bit lanes, a
lane for each point: 40 words. It is *reduced* where its limbs are below 2^51 + 2^14. Every
operation takes reduced elements and gives reduced ones, because the instructions take factors of
52 bits: they add the low or the high 52 bits of a product.
"""

from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, declare, features, intrinsic, kernel
from secagg.kernels._parallel import spread

__all__ = ["LANES", "LIMBS", "WIDTH", "ladders", "usable"]

LANES = 8
LIMBS = 5
WIDTH = 51
_ELEMENT = LANES * LIMBS
_X1, _X2, _Z2, _X3, _Z3, _POWER, _SHIFTED = range(0, 7 * _ELEMENT, _ELEMENT)
_GROUPS = 4
"""Of eight points, that a thread takes at a time."""

_A24 = 121665
_TOP, _LOWEST = 254, 3
"""The bits of a scalar that count: the highest is set, those below the lowest are not."""

_WORD, _VECTOR = ir.IntType(64), ir.VectorType(ir.IntType(64), LANES)
_MASK = (1 << WIDTH) - 1
_TWICE_PRIME = [2 * _MASK - 36, *[2 * _MASK] * 4]
_U0, _U1, _U19, _U51 = (np.uint64(n) for n in (0, 1, 19, 51))
_U_MASK = np.uint64(_MASK)


def usable() -> bool:
    """Whether this CPU has the instructions, and numba compiles them."""
    return compiles() and {"avx512f", "avx512ifma"} <= features()


def _constant(word: int) -> Any:
    return ir.Constant(_VECTOR, [word] * LANES)


class _Field:
    """Emits arithmetic on reduced elements, lists of five vectors, that gives reduced ones."""

    def __init__(self, builder: Any, values: Any) -> None:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        names = (f"llvm.x86.avx512.vpmadd52{half}.uq.512" for half in "lh")
        self._low, self._high = (declare(builder.module, kind, name) for name in names)
        self.builder, self._values = builder, values

    def load(self, at: Any) -> list[Any]:
        """The element that begins at this word."""
        return [self.builder.load(self._place(at, limb), align=8) for limb in range(LIMBS)]

    def store(self, element: list[Any], at: Any) -> None:
        """Write it there."""
        for limb, vector in enumerate(element):
            self.builder.store(vector, self._place(at, limb), align=8)

    def add(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The sum."""
        return self._carried([self.builder.add(a, b) for a, b in zip(one, other, strict=True)])

    def subtract(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The difference, raised by 2p on the way."""
        raised = [self.builder.add(a, _constant(p)) for a, p in zip(one, _TWICE_PRIME, strict=True)]
        return self._carried([self.builder.sub(a, b) for a, b in zip(raised, other, strict=True)])

    def times(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The product. Its high halves have twice the worth of the next limb, and what meets twice
        in a square counts twice: what is doubled more often is added earlier.
        """
        same = one is other
        columns = [_constant(0)] * (2 * LIMBS)
        for doubled in (2, 1, 0):
            columns = [self.builder.shl(column, _constant(1)) for column in columns]
            for i, j, up in product(range(LIMBS), range(LIMBS), range(2)):
                if up + (same and i < j) == doubled and not (same and i > j):
                    columns[i + j + up] = self._added(up, columns[i + j + up], one[i], other[j])
        folded = zip(columns[:LIMBS], columns[LIMBS:], strict=True)
        return self._carried([self.builder.add(a, self._times19(b)) for a, b in folded])

    def add_scaled(self, one: list[Any], other: list[Any], factor: int) -> list[Any]:
        """`one` and as many times `other`; the factor has 17 bits."""
        high = [self._added(1, _constant(0), limb, _constant(factor)) for limb in other]
        high = [self.builder.shl(limb, _constant(1)) for limb in high]
        limbs = [self._added(0, a, b, _constant(factor)) for a, b in zip(one, other, strict=True)]
        raised = [self._times19(high.pop()), *high]
        return self._carried([self.builder.add(a, b) for a, b in zip(limbs, raised, strict=True)])

    def swapped(self, mask: Any, one: list[Any], other: list[Any]) -> tuple[list[Any], list[Any]]:
        """Both, exchanged where the mask is all ones and not zeros."""
        build = self.builder
        both = [build.and_(mask, build.xor(a, b)) for a, b in zip(one, other, strict=True)]
        return [*map(build.xor, one, both)], [*map(build.xor, other, both)]

    def everywhere(self, word: Any) -> Any:
        """The vector of this word only."""
        lane = ir.IntType(32)
        alone = self.builder.insert_element(_constant(0), word, lane(0))
        lanes = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
        return self.builder.shuffle_vector(alone, alone, lanes)

    def _place(self, at: Any, limb: int) -> Any:
        word = self.builder.add(at, _WORD(LANES * limb))
        return self.builder.bitcast(self.builder.gep(self._values, [word]), _VECTOR.as_pointer())

    def _added(self, up: int, column: Any, one: Any, other: Any) -> Any:
        return self.builder.call(self._high if up else self._low, (column, one, other))

    def _carried(self, limbs: list[Any]) -> list[Any]:
        """What each limb, below 2^60, has above its width goes up, all at once."""
        over = [self.builder.lshr(limb, _constant(WIDTH)) for limb in limbs]
        rest = [self.builder.and_(limb, _constant(_MASK)) for limb in limbs]
        raised = [self._times19(over.pop()), *over]
        return [self.builder.add(a, b) for a, b in zip(rest, raised, strict=True)]

    def _times19(self, limb: Any) -> Any:
        return self.builder.mul(limb, _constant(19))


def _field(context: Any, builder: Any, signature: Any, args: Any) -> _Field:
    """Over the array that is the first argument."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return _Field(builder, array.data)


def _opaque(builder: Any, word: Any) -> Any:
    """The same word, of which LLVM knows nothing: so it cannot make a branch of what it decides."""
    kind = ir.FunctionType(_WORD, [_WORD])
    return builder.asm(kind, "", "=r,0", (word,), side_effect=True)


@intrinsic
def _step(typing: Any, values: Any, swap: Any) -> Any:
    """A step of the ladder, after its points changed places if `swap` is 1 and not 0."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        field = _field(context, builder, signature, args)
        mask = field.everywhere(builder.sub(_WORD(0), _opaque(builder, args[1])))
        x1, x2, z2, x3, z3 = (field.load(_WORD(at)) for at in (_X1, _X2, _Z2, _X3, _Z3))
        (x2, x3), (z2, z3) = field.swapped(mask, x2, x3), field.swapped(mask, z2, z3)
        a, b = field.add(x2, z2), field.subtract(x2, z2)
        c, d = field.add(x3, z3), field.subtract(x3, z3)
        da, cb, aa, bb = field.times(d, a), field.times(c, b), field.times(a, a), field.times(b, b)
        e, plus, minus = field.subtract(aa, bb), field.add(da, cb), field.subtract(da, cb)
        found = {
            _X3: field.times(plus, plus),
            _Z3: field.times(x1, field.times(minus, minus)),
            _X2: field.times(aa, bb),
            _Z2: field.times(e, field.add_scaled(aa, e, _A24)),
        }
        for at, element in found.items():
            field.store(element, _WORD(at))
        return context.get_dummy_value()

    return types.void(values, types.uint64), emit


@intrinsic
def _times(typing: Any, values: Any, out: Any, one: Any, other: Any) -> Any:
    """The element at `out` becomes the product of two others."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        field = _field(context, builder, signature, args)
        field.store(field.times(field.load(args[2]), field.load(args[3])), args[1])
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64, types.int64), emit


@intrinsic
def _square(typing: Any, values: Any, at: Any) -> Any:
    """The element at `at` becomes its square."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        field = _field(context, builder, signature, args)
        element = field.load(args[1])
        field.store(field.times(element, element), args[1])
        return context.get_dummy_value()

    return types.void(values, types.int64), emit


@kernel
def _copy(values: Any, to: int, at: int) -> None:
    for word in range(_ELEMENT):
        values[to + word] = values[at + word]


@kernel
def _invert(values: Any, at: int) -> None:
    """The element at `at` becomes its inverse, its power p - 2 = 2^5 (2^250 - 1) + 11; zero stays.

    A power of 2^n - 1 gives those of 2^2n - 1 and 2^(n+1) - 1.
    """
    ones = 1
    _copy(values, _POWER, at)
    for place in range(6, -1, -1):
        _copy(values, _SHIFTED, _POWER)
        for _ in range(ones):
            _square(values, _SHIFTED)
        _times(values, _POWER, _POWER, _SHIFTED)
        ones *= 2
        if (250 >> place) & 1:
            _square(values, _POWER)
            _times(values, _POWER, _POWER, at)
            ones += 1
    for place in range(4, -1, -1):
        _square(values, _POWER)
        if (11 >> place) & 1:
            _times(values, _POWER, _POWER, at)
    _copy(values, at, _POWER)


@kernel
def _encode(values: Any, at: int, out: Any, row: int) -> None:
    """The least number that the element of a lane stands for, as four words: below 2p, it is that
    element or p less.
    """
    carry = _U19
    for limb in range(LIMBS):
        carry = (values[at + LANES * limb] + carry) >> _U51
    carry *= _U19
    for word in range(4):
        out[row, word] = _U0
    for limb in range(LIMBS):
        carry += values[at + LANES * limb]
        word, bit = WIDTH * limb // 64, np.uint64(WIDTH * limb % 64)
        out[row, word] |= (carry & _U_MASK) << bit
        if limb % 4 > 0:
            out[row, word + 1] |= (carry & _U_MASK) >> (np.uint64(64) - bit)
        carry >>= _U51


def ladders(scalar: bytes, points: Any, out: Any) -> None:
    """`out[i]`: the u-coordinate of `scalar` times point i, on all cores.

    scalar: 32 bytes, decoded as RFC 7748 says; points: (n, LIMBS), their u-coordinates in limbs
    of WIDTH bits; out: (n, 4), numbers of 255 bits, the least significant word first.
    """
    secret = np.frombuffer(scalar, np.uint8)

    def work(low: int, high: int) -> None:
        values = np.empty(7 * _ELEMENT, np.uint64)
        _climb(secret, points, out, low, high, values)
        values.fill(0)  # or the secrets would lie in memory that is handed out next

    spread(work, len(points), _GROUPS * LANES, None)


@kernel
def _climb(scalar: Any, points: Any, out: Any, first: int, last: int, values: Any) -> None:
    """Rows from `first` up to `last`. Where the last ones do not fill all lanes, the others repeat
    the last. values: room for x_1, the two points of the ladder, and two elements to invert.
    """
    for low in range(first, last, LANES):
        for lane in range(LANES):
            row = min(low + lane, last - 1)
            for limb in range(LIMBS):
                at = LANES * limb + lane
                values[_X1 + at] = values[_X3 + at] = points[row, limb]
                values[_X2 + at] = values[_Z3 + at] = _U1 if limb == 0 else _U0
                values[_Z2 + at] = _U0
        before = _U0
        for at in range(_TOP, -1, -1):
            bit = (np.uint64(scalar[at >> 3]) >> np.uint64(at & 7)) & _U1
            bit = _U1 if at == _TOP else bit if at >= _LOWEST else _U0
            _step(values, bit ^ before)
            before = bit
        _invert(values, _Z2)
        _times(values, _X2, _X2, _Z2)
        for lane in range(min(LANES, last - low)):
            _encode(values, _X2 + lane, out, low + lane)
