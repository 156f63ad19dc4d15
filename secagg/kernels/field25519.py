"""Arithmetic modulo p = 2^255 - 19 on vectors of eight 64-bit lanes, as LLVM code.

An element is ten limbs of 26 and 25 bits by turns, each a vector: 80 words. It is *reduced* where
its limbs are below 2^26 + 2^17 and 2^25 + 2^17, and of size s where they are below s times that.
A product of sizes s and t is reduced, if t <= 3 (so that 19 times a limb has 32 bits) and
s * t <= 16 (so that ten products, most of them 19-fold or 38-fold, have 64).
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir

from secagg.kernels._jit import declare, features

__all__ = ["LANES", "LIMBS", "TWICE_PRIME", "VECTOR", "WIDTHS", "Field", "spread"]

_FUSED = {"avx512f", "avx512ifma"} <= features()
"""Whether products are made by fused instructions, in two thirds of the time."""

LANES = 8
LIMBS = 10
WIDTHS = (26, 25) * 5
_JOINED = (51,) * 5

TWICE_PRIME = np.array([2 * (2**w - 1) for w in WIDTHS], np.uint64)
TWICE_PRIME[0] -= np.uint64(36)

VECTOR = ir.VectorType(ir.IntType(64), LANES)
_VECTORS = ir.LiteralStructType([VECTOR] * LIMBS)


def spread(word: int) -> Any:
    """A vector of this word only."""
    return ir.Constant(VECTOR, [word] * LANES)


class Field:
    """Emits arithmetic on elements, each a list of ten vectors."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def add(self, one: list[Any], other: list[Any]) -> list[Any]:
        """Of the size of both together."""
        return [self.builder.add(a, b) for a, b in zip(one, other, strict=True)]

    def subtract(self, one: list[Any], other: list[Any]) -> list[Any]:
        """`one + 2p - other`, of the size of `one` and 2 more; `other` is reduced."""
        raised = self.add(one, [spread(int(limb)) for limb in TWICE_PRIME])
        return [self.builder.sub(a, b) for a, b in zip(raised, other, strict=True)]

    def times(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The product, reduced; see above for the sizes."""
        return self._call("secagg.ed25519.times", one, other)

    def square(self, one: list[Any]) -> list[Any]:
        """The square, reduced."""
        return self._call("secagg.ed25519.square", one)

    def carry(self, limbs: list[Any], widths: Sequence[int] = WIDTHS) -> list[Any]:
        """The same element: what each limb has above its width goes up, all at once."""
        build = self.builder
        over = [build.lshr(limb, spread(w)) for limb, w in zip(limbs, widths, strict=True)]
        rest = [build.and_(a, spread((1 << w) - 1)) for a, w in zip(limbs, widths, strict=True)]
        return self.add(rest, [self._sum(self._times19(over.pop())), *over])

    def _call(self, name: str, *factors: list[Any]) -> list[Any]:
        """Through a function that a module has once: inlined, it takes long to compile."""
        kind = ir.FunctionType(_VECTORS, [VECTOR] * LIMBS * len(factors))
        function = declare(self.builder.module, kind, name)
        if function.is_declaration:
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            inside = Field(ir.IRBuilder(function.append_basic_block()))
            product = inside._product(function.args[:LIMBS], function.args[-LIMBS:])
            value = ir.Constant(_VECTORS, ir.Undefined)
            for limb, vector in enumerate(product):
                value = inside.builder.insert_value(value, vector, limb)
            inside.builder.ret(value)
        both = self.builder.call(function, [limb for factor in factors for limb in factor])
        return [self.builder.extract_value(both, limb) for limb in range(LIMBS)]

    def _product(self, one: Any, other: Any) -> list[Any]:
        """Limbs i and j meet in limb i + j, doubled where both have 25 bits; 2^255 is 19."""
        if _FUSED:
            return self._fused_product(one, other)
        build, low, same = self.builder, spread(2**32 - 1), one == other
        right = [build.and_(limb, low) for limb in other]  # so that LLVM sees 32-bit factors
        right19 = [build.and_(build.mul(limb, spread(19)), low) for limb in right]
        products: list[list[Any]] = [[] for _ in range(LIMBS)]
        for i in range(LIMBS):
            left = [build.and_(build.shl(one[i], spread(n)), low) for n in range(3)]
            for j in range(i if same else 0, LIMBS):
                a = left[(i & j & 1) + (same and i < j)]
                b = right[j] if i + j < LIMBS else right19[j]
                products[(i + j) % LIMBS].append(build.mul(a, b))
        return self.carry(self.carry([self._sum(each) for each in products]))

    def _fused_product(self, one: Any, other: Any) -> list[Any]:
        """The same with five limbs of 51 bits, by instructions that add the low or the high 52
        bits of a product of 52-bit numbers. High ones have twice the next limb's worth, and those
        of limbs that meet twice, in a square, count twice: what is doubled more is added earlier.
        """
        build, same, kind = self.builder, one == other, ir.FunctionType(VECTOR, [VECTOR] * 3)
        names = [f"llvm.x86.avx512.vpmadd52{half}.uq.512" for half in "lh"]
        low, high = (declare(build.module, kind, name) for name in names)
        left, right = self._joined(one), self._joined(other)
        columns = [spread(0)] * LIMBS
        for doubled in (2, 1, 0):
            columns = [build.shl(column, spread(1)) for column in columns]
            for i, j, (up, add) in product(range(5), range(5), ((0, low), (1, high))):
                if up + (same and i < j) == doubled and not (same and i > j):
                    at = i + j + up
                    columns[at] = build.call(add, (columns[at], left[i], right[j]))
        folded = zip(columns[:5], map(self._times19, columns[5:]), strict=True)
        limbs = self.carry([self._sum([a, *b]) for a, b in folded], _JOINED)
        rest, width = spread(2**26 - 1), spread(26)
        return [half for a in limbs for half in (build.and_(a, rest), build.lshr(a, width))]

    def _joined(self, limbs: Any) -> list[Any]:
        """Pairs of limbs, of any size up to 16, as limbs below 2^51 + 2^10."""
        upper = [self.builder.shl(limb, spread(26)) for limb in limbs[1::2]]
        return self.carry(self.add(limbs[::2], upper), _JOINED)

    def _times19(self, limb: Any) -> list[Any]:
        return [limb, *(self.builder.shl(limb, spread(n)) for n in (1, 4))]

    def _sum(self, terms: list[Any]) -> Any:
        total = terms[0]
        for term in terms[1:]:
            total = self.builder.add(total, term)
        return total
