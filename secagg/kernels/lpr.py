"""Transforms modulo primes of up to 61 bits, and one public-key encryption, on 64-bit words.

The transform is Cooley and Tukey's, in place, roots in bit-reversed order: what comes out at
place k is the polynomial at psi^(2 brv(k) + 1). Multiplication by a constant is Shoup's, with
`floor(w * 2^64 / p)` prepared: `w y - floor(q y / 2^64) p` is `w y mod p` or that plus p, for any
word y. Butterflies are lazy (Harvey, "Faster arithmetic for number-theoretic transforms", 2014):
values stay below 4p on the way out and below 2p on the way back. Nothing divides, and no branch
and no address depends on a value.

Tables have a row of N roots (or factors) and a row of their quotients. `secagg.lpr` holds the
reference. The functions share this file on purpose: numba's cache looks only at the file of a
kernel to see whether it is stale.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, declare, intrinsic, kernel

__all__ = ["compiles", "encrypt", "forward", "inverse", "scale_up"]

_I64, _I128 = ir.IntType(64), ir.IntType(128)
_COINS = np.uint64(21)
"""Coins on each side of an error's centred binomial distribution."""
_MASK = np.uint64((1 << 21) - 1)
_THREE, _ONE = np.uint64(3), np.uint64(1)


@intrinsic
def _high(typing: Any, one: Any, other: Any) -> Any:
    """The high word of a product of two words."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = builder.mul(*(builder.zext(each, _I128) for each in args))
        return builder.trunc(builder.lshr(wide, _I128(64)), _I64)

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def _ones(typing: Any, word: Any) -> Any:
    """How many bits of a word are set."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        function = declare(builder.module, ir.FunctionType(_I64, [_I64]), "llvm.ctpop.i64")
        return builder.call(function, args)

    return types.uint64(types.uint64), emit


@kernel
def _times(value: Any, factor: Any, quotient: Any, prime: Any) -> Any:
    """Any word times a factor, below 2p."""
    return value * factor - _high(value, quotient) * prime


@kernel
def _once(value: Any, bound: Any) -> Any:
    """A value below twice the bound, below the bound."""
    return min(value, value - bound)


@kernel
def forward(values: Any, roots: Any, prime: Any) -> None:
    """Transform N words below 4p in place; residues below p."""
    twice = prime + prime
    blocks, distance = 1, values.size
    while distance > 1:
        distance //= 2
        for block in range(blocks):
            root, quotient = roots[0, blocks + block], roots[1, blocks + block]
            first = 2 * distance * block
            for at in range(first, first + distance):
                low = _once(values[at], twice)
                high = _times(values[at + distance], root, quotient, prime)
                values[at] = low + high
                values[at + distance] = low + (twice - high)
        blocks *= 2
    for at in range(values.size):
        values[at] = _once(_once(values[at], twice), prime)


@kernel
def inverse(values: Any, roots: Any, prime: Any) -> None:
    """Undo `forward`, of words below 2p; residues below p. Root 0 holds the inverse of N."""
    twice = prime + prime
    blocks, distance = values.size, 1
    while blocks > 1:
        blocks //= 2
        for block in range(blocks):
            root, quotient = roots[0, blocks + block], roots[1, blocks + block]
            first = 2 * distance * block
            for at in range(first, first + distance):
                low, high = values[at], values[at + distance]
                values[at] = _once(low + high, twice)
                values[at + distance] = _times(low + (twice - high), root, quotient, prime)
        distance *= 2
    for at in range(values.size):
        values[at] = _once(_times(values[at], roots[0, 0], roots[1, 0], prime), prime)


@kernel
def _ternary(words: Any, prime: Any, out: Any) -> None:
    """-1, 0 or 1 for each word, as a residue."""
    for at in range(out.size):
        out[at] = _once(_high(words[at], _THREE) + (prime - _ONE), prime)


@kernel
def _error(word: Any) -> Any:
    """A centred binomial error, plus 21: never negative."""
    return _ones(word & _MASK) + (_COINS - _ones(word >> _COINS & _MASK))


@kernel
def _divided(rest: Any, words: Any, large: Any, small: Any, factor: Any, out: Any) -> None:
    """`out` = (error - r) / small modulo large, r being rest + error modulo small, centred."""
    half = small >> _ONE
    for at in range(rest.size):
        error = _error(words[at])
        sum_ = _once(rest[at] + error + (small - _COINS), small + small)
        rounded = _once(_once(sum_, small) + half, small)
        above = error + (large - _COINS) + half - rounded
        out[at] = _once(_times(above, factor[0], factor[1], large), large)


@kernel
def encrypt(
    words: Any, message: Any, key: Any, roots: Any, primes: Any, factor: Any, flat: Any, out: Any
) -> None:
    """One ciphertext, (2, N), of a message (N residues), from 3N uniform words.

    key: (2, 2, 2, N): polynomial, prime, factor or quotient, the transformed key, modulo the
    first prime divided by the second; roots: (2, 2, 2, N): prime, forward or inverse; factor: the
    second prime's inverse and its quotient; flat: 1 for coefficients, 0 for transforms.
    """
    n, large, small = message.size, primes[0], primes[1]
    short, shorter = np.empty(n, np.uint64), np.empty(n, np.uint64)
    rest = np.empty(n, np.uint64)
    _ternary(words, large, short)
    _ternary(words, small, shorter)
    forward(short, roots[0, 0], large)
    forward(shorter, roots[1, 0], small)
    for part in range(2):
        row, (factors, quotients) = out[part], key[part, 1]
        for at in range(n):
            rest[at] = _times(shorter[at], factors[at], quotients[at], small)
        inverse(rest, roots[1, 1], small)
        _divided(rest, words[(part + 1) * n :], large, small, factor, row)
        if part == 0:
            for at in range(n):
                row[at] = _once(row[at] + message[at], large)
        if not flat:
            forward(row, roots[0, 0], large)
        factors, quotients = key[part, 0]
        for at in range(n):
            rest[at] = _times(short[at], factors[at], quotients[at], large)
        if flat:
            inverse(rest, roots[0, 1], large)
        for at in range(n):
            row[at] = _once(row[at] + _once(rest[at], large), large)
    short[:] = 0
    shorter[:] = 0
    rest[:] = 0


@kernel
def scale_up(values: Any, whole: Any, rest: Any, quotient: Any, modulus: Any) -> None:
    """`values[i] = whole * v + floor((rest * v + (t + 1) / 2) / t)` for v below the modulus t.

    quotient: floor(rest * 2^64 / t).
    """
    half = (modulus + _ONE) >> _ONE
    for at in range(values.size):
        value = values[at]
        estimate = _high(value, quotient)
        left = value * rest - estimate * modulus + half
        for _ in range(2):
            above = np.uint64(left >= modulus)
            estimate += above
            left -= above * modulus
        values[at] = whole * value + estimate
