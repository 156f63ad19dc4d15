"""Negacyclic number-theoretic transforms on vectors of sixteen 32-bit words.

LLVM functions for one to four butterfly stages at a time are written here and called from
compiled loops, so that no stage depends on what the vectoriser makes of a short stride. A
vector has 16 lanes whatever the CPU: LLVM splits it where registers are narrower.

The forward transform is Cooley and Tukey's, in place, with the roots in bit-reversed order.
While a butterfly's halves are 16 words or more apart, a vector is 16 neighbours. The last four
stages mix 16 neighbours: blocks of 16 by 16 words are transposed in registers before them and
stay so, because the order of a transform is nobody's business but the inverse's.

Multiplication by a constant is Shoup's, with a quotient `q = floor(w * 2^32 / p)` prepared:
`w*y - floor(q*y / 2^32)*p` is `w*y mod p` or that plus p, for any y below 2^32. Butterflies
are lazy (Harvey, "Faster arithmetic for number-theoretic transforms", 2014): forward values
stay below 4p and inverse ones below 2p, which is why p is below 2^30. Nothing divides, and no
branch and no address depends on a value.

The kernels and the intrinsics they call share this file on purpose: numba's cache looks only
at the file of the kernel to see whether it is stale.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, intrinsic, kernel

__all__ = ["add", "compiles", "forward", "inverse", "multiply"]

_LANES = 16
_BLOCK = _LANES * _LANES
_ROWS = _LANES - 1
"""Rows of 16 roots, and as many of quotients, that the last four stages of a block need."""

_EVEN_POWERS = 0x5555
"""1, 4, …, 4096, 16384."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I32, _LANES)
_PAIRS = ir.VectorType(_I64, _LANES // 2)
_HIGH_WORDS = ir.Constant(_PAIRS, [0xFFFFFFFF << 32] * (_LANES // 2))
_LOW_WORDS = ir.Constant(_PAIRS, [0xFFFFFFFF] * (_LANES // 2))
_SHIFT = ir.Constant(_PAIRS, [32] * (_LANES // 2))


class _Vectors:
    """Emits the few operations on vectors of residues that a transform needs."""

    def __init__(self, builder: Any, prime: Any) -> None:
        self.builder = builder
        self.prime = self.spread(prime)
        self.twice = builder.add(self.prime, self.prime)

    def spread(self, word: Any) -> Any:
        """A 32-bit word in every lane."""
        one = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), word, _I32(0))
        zeros = ir.Constant(_VECTOR, [0] * _LANES)
        return self.builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)

    def once(self, value: Any, modulus: Any) -> Any:
        """`value` less `modulus` where it is not smaller: below 2^32 before."""
        less = self.builder.sub(value, modulus)
        smaller = self.builder.icmp_unsigned("<", value, less)
        return self.builder.select(smaller, value, less)

    def high(self, one: Any, other: Any) -> Any:
        """The high words of the products, even and odd lanes apart, as multipliers want them."""
        build = self.builder
        a, b = (build.bitcast(value, _PAIRS) for value in (one, other))
        even = build.mul(build.and_(a, _LOW_WORDS), build.and_(b, _LOW_WORDS))
        odd = build.mul(build.lshr(a, _SHIFT), build.lshr(b, _SHIFT))
        both = build.or_(build.lshr(even, _SHIFT), build.and_(odd, _HIGH_WORDS))
        return build.bitcast(both, _VECTOR)

    def times(self, value: Any, root: Any, quotient: Any) -> Any:
        """Shoup's product, below 2p."""
        build = self.builder
        multiple = build.mul(self.high(value, quotient), self.prime)
        return build.sub(build.mul(value, root), multiple)

    def decimate(self, low: Any, high: Any, root: tuple[Any, Any]) -> tuple[Any, Any]:
        """Cooley and Tukey's butterfly: below 4p before and after."""
        build = self.builder
        kept, product = self.once(low, self.twice), self.times(high, *root)
        return build.add(kept, product), build.sub(build.add(kept, self.twice), product)

    def gather(self, low: Any, high: Any, root: tuple[Any, Any]) -> tuple[Any, Any]:
        """Gentleman and Sande's butterfly: below 2p before and after."""
        build = self.builder
        total = self.once(build.add(low, high), self.twice)
        return total, self.times(build.sub(build.add(low, self.twice), high), *root)

    def transpose(self, rows: list[Any]) -> list[Any]:
        """Sixteen rows as columns: at each step, halves of blocks change places."""
        for distance in (8, 4, 2, 1):
            upper = [e - distance + _LANES if e & distance else e for e in range(_LANES)]
            lower = [e + _LANES if e & distance else e + distance for e in range(_LANES)]
            masks = [ir.Constant(_VECTOR, mask) for mask in (upper, lower)]
            for at in (e for e in range(_LANES) if not e & distance):
                pair = rows[at], rows[at + distance]
                rows[at], rows[at + distance] = (
                    self.builder.shuffle_vector(*pair, mask) for mask in masks
                )
        return rows


class _Memory:
    """Vectors in a numba array of 32-bit words, by the number of their first word."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any, place: int) -> None:
        array = context.make_array(signature.args[place])(context, builder, args[place])
        self.builder, self.data = builder, array.data

    def _at(self, index: Any, more: int) -> Any:
        word = self.builder.gep(self.data, [self.builder.add(index, _I64(more))])
        return self.builder.bitcast(word, _VECTOR.as_pointer())

    def load(self, index: Any, more: int = 0) -> Any:
        return self.builder.load(self._at(index, more), align=4)

    def store(self, value: Any, index: Any, more: int = 0) -> None:
        self.builder.store(value, self._at(index, more), align=4)


@intrinsic
def _decimate_2(
    typing: Any, values: Any, at: Any, distance: Any, prime: Any, root: Any, quotient: Any
) -> Any:
    """One forward stage of the vectors at `at` and `distance` words on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[3])
        memory = _Memory(context, builder, signature, args, 0)
        places = _places(builder, args, 2)
        a, b = (memory.load(place) for place in places)
        pair = vectors.decimate(a, b, _root(vectors, args[4:]))
        return _store(context, memory, pair, places)

    words = (types.uint32,) * 3
    return types.void(values, types.int64, types.int64, *words), emit


@intrinsic
def _gather_2(
    typing: Any, values: Any, at: Any, distance: Any, prime: Any, root: Any, quotient: Any
) -> Any:
    """One inverse stage of the vectors at `at` and `distance` words on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[3])
        memory = _Memory(context, builder, signature, args, 0)
        places = _places(builder, args, 2)
        a, b = (memory.load(place) for place in places)
        pair = vectors.gather(a, b, _root(vectors, args[4:]))
        return _store(context, memory, pair, places)

    words = (types.uint32,) * 3
    return types.void(values, types.int64, types.int64, *words), emit


@intrinsic
def _decimate_4(  # noqa: PLR0913,PLR0917 - words that stay in registers
    typing: Any,
    values: Any,
    at: Any,
    distance: Any,
    prime: Any,
    root: Any,
    quotient: Any,
    left: Any,
    left_quotient: Any,
    right: Any,
    right_quotient: Any,
) -> Any:
    """Two forward stages of four vectors, each `distance` words from the one before."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[3])
        memory = _Memory(context, builder, signature, args, 0)
        places = _places(builder, args, 4)
        a, b, c, d = (memory.load(place) for place in places)
        first, second, third = (_root(vectors, args[at : at + 2]) for at in (4, 6, 8))
        a, c = vectors.decimate(a, c, first)
        b, d = vectors.decimate(b, d, first)
        a, b = vectors.decimate(a, b, second)
        c, d = vectors.decimate(c, d, third)
        return _store(context, memory, (a, b, c, d), places)

    words = (types.uint32,) * 7
    return types.void(values, types.int64, types.int64, *words), emit


@intrinsic
def _gather_4(  # noqa: PLR0913,PLR0917 - words that stay in registers
    typing: Any,
    values: Any,
    at: Any,
    distance: Any,
    prime: Any,
    root: Any,
    quotient: Any,
    left: Any,
    left_quotient: Any,
    right: Any,
    right_quotient: Any,
) -> Any:
    """Two inverse stages of four vectors, each `distance` words from the one before."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[3])
        memory = _Memory(context, builder, signature, args, 0)
        places = _places(builder, args, 4)
        a, b, c, d = (memory.load(place) for place in places)
        last, first, second = (_root(vectors, args[at : at + 2]) for at in (4, 6, 8))
        a, b = vectors.gather(a, b, first)
        c, d = vectors.gather(c, d, second)
        a, c = vectors.gather(a, c, last)
        b, d = vectors.gather(b, d, last)
        return _store(context, memory, (a, b, c, d), places)

    words = (types.uint32,) * 7
    return types.void(values, types.int64, types.int64, *words), emit


@intrinsic
def _decimate_rows(typing: Any, values: Any, at: Any, roots: Any, root: Any, prime: Any) -> Any:
    """The last four forward stages of the 256 words at `at`; residues below p, transposed.

    `root` is the place in `roots` of 15 rows of 16 roots and 16 quotients.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[4])
        memory, table = (_Memory(context, builder, signature, args, at) for at in (0, 2))
        rows = vectors.transpose([memory.load(args[1], _LANES * r) for r in range(_LANES)])
        place = 0
        for distance in (8, 4, 2, 1):
            for low in range(0, _LANES, 2 * distance):
                pair = tuple(table.load(args[3], _LANES * (2 * place + half)) for half in (0, 1))
                place += 1
                for row in range(low, low + distance):
                    other = row + distance
                    rows[row], rows[other] = vectors.decimate(rows[row], rows[other], pair)
        for place, row in enumerate(rows):
            reduced = vectors.once(vectors.once(row, vectors.twice), vectors.prime)
            memory.store(reduced, args[1], _LANES * place)
        return context.get_dummy_value()

    return types.void(values, types.int64, roots, types.int64, types.uint32), emit


@intrinsic
def _gather_rows(typing: Any, values: Any, at: Any, roots: Any, root: Any, prime: Any) -> Any:
    """The first four inverse stages of the 256 transposed words at `at`, below 2p."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[4])
        memory, table = (_Memory(context, builder, signature, args, at) for at in (0, 2))
        rows = [memory.load(args[1], _LANES * r) for r in range(_LANES)]
        place = _ROWS
        for distance in (1, 2, 4, 8):
            place -= _LANES // 2 // distance
            for group, low in enumerate(range(0, _LANES, 2 * distance)):
                first = 2 * (place + group)
                pair = tuple(table.load(args[3], _LANES * (first + half)) for half in (0, 1))
                for row in range(low, low + distance):
                    other = row + distance
                    rows[row], rows[other] = vectors.gather(rows[row], rows[other], pair)
        for place, row in enumerate(vectors.transpose(rows)):
            memory.store(row, args[1], _LANES * place)
        return context.get_dummy_value()

    return types.void(values, types.int64, roots, types.int64, types.uint32), emit


@intrinsic
def _times(typing: Any, values: Any, at: Any, prime: Any, factor: Any, quotient: Any) -> Any:
    """The 16 words at `at` times a constant, below p."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[2])
        memory = _Memory(context, builder, signature, args, 0)
        product = vectors.times(memory.load(args[1]), *_root(vectors, args[3:]))
        memory.store(vectors.once(product, vectors.prime), args[1])
        return context.get_dummy_value()

    return types.void(values, types.int64, *(types.uint32,) * 3), emit


@intrinsic
def _times_rows(typing: Any, values: Any, at: Any, prime: Any, factors: Any, quotients: Any) -> Any:
    """The 16 words at `at` times those of `factors` at the same place, below 2p."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(builder, args[2])
        memory, *pair = (_Memory(context, builder, signature, args, at) for at in (0, 3, 4))
        product = vectors.times(memory.load(args[1]), *(each.load(args[1]) for each in pair))
        memory.store(product, args[1])
        return context.get_dummy_value()

    return types.void(values, types.int64, types.uint32, factors, quotients), emit


def _root(vectors: _Vectors, words: Any) -> tuple[Any, Any]:
    """A root and its quotient in every lane."""
    return vectors.spread(words[0]), vectors.spread(words[1])


def _places(builder: Any, args: Any, count: int) -> list[Any]:
    """`at`, `at + distance`, … for `args` = (values, at, distance, …)."""
    places = [args[1]]
    while len(places) < count:
        places.append(builder.add(places[-1], args[2]))
    return places


def _store(context: Any, memory: _Memory, vectors: Any, places: list[Any]) -> Any:
    for vector, place in zip(vectors, places, strict=True):
        memory.store(vector, place)
    return context.get_dummy_value()


@kernel
def forward(values: Any, roots: Any, rows: Any, prime: Any) -> None:
    """Transform `values` (N words below p) in place; residues below p.

    roots: (N / 8,) root and quotient by turns, entry m + b for block b of the stage with m
    blocks; rows: (N / 256 * 480,) those of the last four stages.
    """
    blocks, distance = 1, values.size // 2
    if not values.size & _EVEN_POWERS:  # an odd number of stages before the last four
        for at in range(0, distance, _LANES):
            _decimate_2(values, at, distance, prime, roots[2], roots[3])
        blocks, distance = 2, distance // 2
    while distance >= _LANES:
        distance //= 2
        for block in range(blocks):
            one, two = 2 * (blocks + block), 4 * (blocks + block)
            first = 4 * distance * block
            w1, q1, w2, q2 = roots[one], roots[one + 1], roots[two], roots[two + 1]
            w3, q3 = roots[two + 2], roots[two + 3]
            for at in range(first, first + distance, _LANES):
                _decimate_4(values, at, distance, prime, w1, q1, w2, q2, w3, q3)
        blocks, distance = 4 * blocks, distance // 2
    for block in range(values.size // _BLOCK):
        _decimate_rows(values, block * _BLOCK, rows, 2 * _ROWS * _LANES * block, prime)


@kernel
def inverse(values: Any, roots: Any, rows: Any, prime: Any, scale: Any, quotient: Any) -> None:
    """The inverse of `forward`, of `values` below 2p, times `scale` * N; residues below p.

    roots, rows: as for `forward`, of the inverse roots.
    """
    for block in range(values.size // _BLOCK):
        _gather_rows(values, block * _BLOCK, rows, 2 * _ROWS * _LANES * block, prime)
    distance, blocks = _LANES, values.size // (4 * _LANES)
    while blocks >= 1:
        for block in range(blocks):
            one, two = 2 * (blocks + block), 4 * (blocks + block)
            first = 4 * distance * block
            w1, q1, w2, q2 = roots[one], roots[one + 1], roots[two], roots[two + 1]
            w3, q3 = roots[two + 2], roots[two + 3]
            for at in range(first, first + distance, _LANES):
                _gather_4(values, at, distance, prime, w1, q1, w2, q2, w3, q3)
        distance, blocks = 4 * distance, blocks // 4
    if 2 * distance == values.size:
        for at in range(0, distance, _LANES):
            _gather_2(values, at, distance, prime, roots[2], roots[3])
    for at in range(0, values.size, _LANES):
        _times(values, at, prime, scale, quotient)


@kernel
def multiply(values: Any, factors: Any, quotients: Any, prime: Any) -> None:
    """`values[i] *= factors[i]`, below 2p: any words, factors below p with their quotients."""
    for at in range(0, values.size, _LANES):
        _times_rows(values, at, prime, factors, quotients)


@kernel
def add(values: Any, others: Any, prime: Any) -> None:
    """`values[i] += others[i]` mod p, all below p."""
    for index in range(values.size):
        total = values[index] + others[index]
        values[index] = min(total, np.uint32(total - prime))
