"""Transforms modulo primes of up to 61 bits, and one public-key encryption, on 64-bit words.

The transform is Cooley and Tukey's, in place, roots in bit-reversed order: what comes out at
place k is the polynomial at psi^(2 brv(k) + 1). Multiplication by a constant is Shoup's, with
`floor(w * 2^64 / p)` prepared, and an estimate of the quotient that leaves out the lowest of the
four products of halves: it is at most 3 too small, so that a product is below 4p, for any word.
Butterflies are lazy (Harvey, "Faster arithmetic for number-theoretic transforms", 2014): values
stay below 8p on the way out and below 4p on the way back. Nothing divides, and no branch and no
address depends on a value.

All loops are over neighbours, which LLVM makes vectors of: no instruction multiplies vectors of
64-bit words to their high halves, but any CPU multiplies vectors of 32-bit ones. The four stages
of the shortest strides are done on the 16 rows of the transposed polynomial.

`secagg.lpr` holds the tables and the reference. The functions share this file on purpose: numba's
cache looks only at the file of a kernel to see whether it is stale.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from secagg.kernels._jit import compiles, declare, intrinsic, kernel

__all__ = ["compiles", "encrypt", "forward", "inverse", "scale_up"]

_I64 = ir.IntType(64)
_ROWS = 16
_COINS = np.uint64(21)
"""Coins on each side of an error's centred binomial distribution."""
_MASK = np.uint64((1 << 21) - 1)
_LOW, _HALF = np.uint64(2**32 - 1), np.uint64(32)
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)


@intrinsic
def _ones(typing: Any, word: Any) -> Any:
    """How many bits of a word are set."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        function = declare(builder.module, ir.FunctionType(_I64, [_I64]), "llvm.ctpop.i64")
        return builder.call(function, args)

    return types.uint64(types.uint64), emit


@kernel
def _high(value: Any, factor: Any) -> Any:
    """The high word of a product, or up to 2 less."""
    upper, lower = factor >> _HALF, factor & _LOW
    crossed = ((value >> _HALF) * lower >> _HALF) + ((value & _LOW) * upper >> _HALF)
    return (value >> _HALF) * upper + crossed


@kernel
def _times(value: Any, factor: Any, quotient: Any, prime: Any) -> Any:
    """Any word times a factor, below 4p."""
    return value * factor - _high(value, quotient) * prime


@kernel
def _once(value: Any, bound: Any) -> Any:
    """A value below twice the bound, below the bound."""
    return min(value, value - bound)


@kernel
def _reduced(value: Any, prime: Any) -> Any:
    """A value below 4p, below p."""
    return _once(_once(value, prime << _ONE), prime)


@kernel
def _apart(low: Any, high: Any, root: Any, quotient: Any, prime: Any) -> None:
    """Butterflies of one root on the way out."""
    most = prime << _TWO
    for at in range(low.size):
        kept = _once(low[at], most)
        turned = _times(high[at], root, quotient, prime)
        low[at], high[at] = kept + turned, kept + (most - turned)


@kernel
def _apart_each(low: Any, high: Any, roots: Any, quotients: Any, prime: Any) -> None:
    """Butterflies of a root each."""
    most = prime << _TWO
    for at in range(low.size):
        kept = _once(low[at], most)
        turned = _times(high[at], roots[at], quotients[at], prime)
        low[at], high[at] = kept + turned, kept + (most - turned)


@kernel
def _together(low: Any, high: Any, root: Any, quotient: Any, prime: Any) -> None:
    """Butterflies of one root on the way back."""
    most = prime << _TWO
    for at in range(low.size):
        one, other = low[at], high[at]
        low[at] = _once(one + other, most)
        high[at] = _times(one + (most - other), root, quotient, prime)


@kernel
def _together_each(low: Any, high: Any, roots: Any, quotients: Any, prime: Any) -> None:
    """Butterflies of a root each."""
    most = prime << _TWO
    for at in range(low.size):
        one, other = low[at], high[at]
        low[at] = _once(one + other, most)
        high[at] = _times(one + (most - other), roots[at], quotients[at], prime)


@kernel
def forward(values: Any, roots: Any, last: Any, prime: Any) -> None:
    """Transform N words below 8p in place; residues below p.

    roots: (2, N), powers and their quotients; last: (2, 15, N / 16), those of the last stages.
    """
    blocks, distance = 1, values.size // 2
    while distance >= _ROWS:
        for block in range(blocks):
            first, at = 2 * distance * block, blocks + block
            low, high = values[first : first + distance], values[first + distance :][:distance]
            _apart(low, high, roots[0, at], roots[1, at], prime)
        blocks, distance = 2 * blocks, distance // 2
    rows = np.empty((_ROWS, values.size // _ROWS), np.uint64)
    square = values.reshape(-1, _ROWS)
    for row in range(_ROWS):
        rows[row] = square[:, row]
    at = 0
    while distance:
        for first in range(0, _ROWS, 2 * distance):
            for row in range(first, first + distance):
                _apart_each(rows[row], rows[row + distance], last[0, at], last[1, at], prime)
            at += 1
        distance //= 2
    for block in range(rows.shape[1]):
        for row in range(_ROWS):
            square[block, row] = _reduced(_once(rows[row, block], prime << _TWO), prime)
    rows[:] = 0


@kernel
def inverse(values: Any, roots: Any, last: Any, prime: Any) -> None:
    """Undo `forward`, of words below 4p; residues below p. Root 0 holds the inverse of N."""
    rows = np.empty((_ROWS, values.size // _ROWS), np.uint64)
    square = values.reshape(-1, _ROWS)
    for row in range(_ROWS):
        rows[row] = square[:, row]
    distance, at = 1, last.shape[1]
    while distance < _ROWS:
        at -= _ROWS // (2 * distance)
        for group in range(_ROWS // (2 * distance)):
            roots_, quotients = last[0, at + group], last[1, at + group]
            first = 2 * distance * group
            for row in range(first, first + distance):
                _together_each(rows[row], rows[row + distance], roots_, quotients, prime)
        distance *= 2
    for block in range(rows.shape[1]):
        for row in range(_ROWS):
            square[block, row] = rows[row, block]
    rows[:] = 0
    blocks = values.size // (2 * distance)
    while blocks:
        for block in range(blocks):
            first, at = 2 * distance * block, blocks + block
            low, high = values[first : first + distance], values[first + distance :][:distance]
            _together(low, high, roots[0, at], roots[1, at], prime)
        blocks, distance = blocks // 2, 2 * distance
    for at in range(values.size):
        values[at] = _reduced(_times(values[at], roots[0, 0], roots[1, 0], prime), prime)


@kernel
def _ternary(words: Any, prime: Any, out: Any) -> None:
    """-1, 0 or 1 for each word, as a residue."""
    for at in range(out.size):
        word = words[at]
        third = ((word >> _HALF) * _THREE + ((word & _LOW) * _THREE >> _HALF)) >> _HALF
        out[at] = _once(third + (prime - _ONE), prime)


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
        out[at] = _reduced(_times(above, factor[0], factor[1], large), large)


@kernel
def encrypt(
    words: Any,
    message: Any,
    key: Any,
    roots: Any,
    last: Any,
    numbers: Any,
    flat: Any,
    out: Any,
) -> None:
    """One ciphertext, (2, N), of a message (N residues), from 3N uniform words.

    key: (2, 2, 2, N): polynomial, prime, factor or quotient, the transformed key, modulo the
    first prime divided by the second; roots, last: by prime, then for `forward` and `inverse`;
    numbers: both primes, the second's inverse and its quotient; flat: 1 for coefficients, 0 for
    transforms.
    """
    n, large, small, factor = message.size, numbers[0], numbers[1], numbers[2:]
    short, shorter = np.empty(n, np.uint64), np.empty(n, np.uint64)
    rest = np.empty(n, np.uint64)
    _ternary(words, large, short)
    _ternary(words, small, shorter)
    forward(short, roots[0, 0], last[0, 0], large)
    forward(shorter, roots[1, 0], last[1, 0], small)
    for part in range(2):
        row, (factors, quotients) = out[part], key[part, 1]
        for at in range(n):
            rest[at] = _times(shorter[at], factors[at], quotients[at], small)
        inverse(rest, roots[1, 1], last[1, 1], small)
        _divided(rest, words[(part + 1) * n :], large, small, factor, row)
        if part == 0:
            for at in range(n):
                row[at] = _once(row[at] + message[at], large)
        if not flat:
            forward(row, roots[0, 0], last[0, 0], large)
        factors, quotients = key[part, 0]
        for at in range(n):
            rest[at] = _times(short[at], factors[at], quotients[at], large)
        if flat:
            inverse(rest, roots[0, 1], last[0, 1], large)
        for at in range(n):
            row[at] = _once(row[at] + _reduced(rest[at], large), large)
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
        for _ in range(4):
            above = np.uint64(left >= modulus)
            estimate += above
            left -= above * modulus
        values[at] = whole * value + estimate
