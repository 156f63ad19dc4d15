"""Transforms in loops, for timing: ours, one as it is first written, and butterflies alone."""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels import ntt
from secagg.kernels._jit import intrinsic

_LANES, _LIVE = 16, 4
_I32, _I64 = ir.IntType(32), ir.IntType(64)


@numba.njit(nogil=True)
def forward_often(values: Any, roots: Any, rows: Any, prime: Any, times: int) -> None:
    """Our transform, `times` over."""
    for _ in range(times):
        ntt.forward(values, roots, rows, prime)


@numba.njit(nogil=True)
def naive(values: Any, powers: Any, prime: Any) -> None:
    """The textbook's transform, one remainder a butterfly, in place."""
    blocks, distance = 1, values.size // 2
    while distance:
        for block in range(blocks):
            root = powers[blocks + block]
            for low in range(2 * block * distance, (2 * block + 1) * distance):
                product = np.uint64(values[low + distance]) * root % prime
                kept = np.uint64(values[low])
                values[low] = np.uint32((kept + product) % prime)
                values[low + distance] = np.uint32((kept + prime - product) % prime)
        blocks, distance = 2 * blocks, distance // 2


@numba.njit(nogil=True)
def naive_often(values: Any, powers: Any, prime: Any, times: int) -> None:
    """The same, `times` over."""
    for _ in range(times):
        naive(values, powers, prime)


@intrinsic
def _spin(typing: Any, count: Any, prime: Any, root: Any, quotient: Any) -> Any:
    """`count` turns of four independent butterflies, in registers; any word of the last."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = ntt._Vectors(builder, args[1])
        pair = vectors.spread(args[2]), vectors.spread(args[3])
        start = [vectors.spread(_I32(n)) for n in range(2 * _LIVE)]
        before, loop = builder.block, builder.append_basic_block("turn")
        after = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(_I64)
        live = [builder.phi(value.type) for value in start]
        following = []
        for place in range(_LIVE):
            following += vectors.decimate(live[2 * place], live[2 * place + 1], pair)
        stepped = builder.add(index, _I64(1))
        for phi, first, again in zip(
            (index, *live), (_I64(0), *start), (stepped, *following), strict=True
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(again, loop)
        builder.cbranch(builder.icmp_unsigned("<", stepped, args[0]), loop, after)
        builder.position_at_end(after)
        mixed = following[0]
        for value in following[1:]:
            mixed = builder.xor(mixed, value)
        word = builder.extract_element(mixed, _I32(0))
        for lane in range(1, _LANES):
            word = builder.xor(word, builder.extract_element(mixed, _I32(lane)))
        return word

    return types.uint32(types.int64, *(types.uint32,) * 3), emit


@numba.njit(nogil=True)
def limit_often(degree: int, prime: Any, times: int) -> Any:
    """As many butterflies as `times` transforms have."""
    stages = 0
    while (1 << stages) < degree:
        stages += 1
    turns = degree // 2 * stages // 64 * times
    return _spin(turns, prime, np.uint32(12345), np.uint32((12345 << 32) // np.uint64(prime)))
