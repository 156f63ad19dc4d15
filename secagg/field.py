"""Vectors over the prime field GF(p), p = 2^31 - 1, as arrays of 64-bit words below p.

Reduction folds the high bits onto the low ones (p is a Mersenne prime), so no operation
divides, and none branches on a value.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secagg import prg

PRIME = 2**31 - 1

Elements = NDArray[np.uint64]


def reduce(value: Elements) -> Elements:
    """`value` mod p, for any 64-bit value."""
    for _ in range(3):
        value = (value & np.uint64(PRIME)) + (value >> np.uint64(31))
    return np.where(value == PRIME, np.uint64(0), value)


def uniform(count: int, coins: prg.StreamKey) -> Elements:
    """`count` uniform elements by rejection: 31-bit words of the stream other than p."""
    drawn = np.empty(0, np.uint32)
    start = 0
    while drawn.size < count:
        words = prg.stream(coins, count - drawn.size, np.uint32, start=start) & np.uint32(PRIME)
        start += words.size
        drawn = np.concatenate([drawn, words[words != PRIME]])
    return drawn.astype(np.uint64)


def weighted_sum(values: Elements, weights: Elements) -> Elements:
    """`sum_j weights[j] * values[i, j, l]` mod p: values (m, t, l), weights (t,), (m, l)."""
    return reduce(reduce(values * weights[None, :, None]).sum(axis=1, dtype=np.uint64))


def lagrange_at_zero(points: Sequence[int]) -> Elements:
    """`prod_{j != i} x_j / (x_j - x_i)` mod p for each i; the points distinct, in [1, p)."""
    x = np.array(points, np.uint64)
    difference = reduce(x[None, :] + np.uint64(PRIME) - x[:, None])
    np.fill_diagonal(difference, 1)
    numerator = _product(np.where(np.eye(len(points), dtype=bool), np.uint64(1), x[None, :]))
    inverse = [pow(int(d), -1, PRIME) for d in _product(difference)]  # the points are public
    return reduce(numerator * np.array(inverse, np.uint64))


def _product(rows: Elements) -> Elements:
    """The product of each row mod p."""
    result = np.ones(len(rows), np.uint64)
    for column in rows.T:
        result = reduce(result * column)
    return result
