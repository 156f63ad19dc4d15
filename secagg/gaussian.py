"""The discrete Gaussian of standard deviation 6.4 on the integers from -80 to 80.

Sampled by inversion: 128 uniform bits are compared with every entry of a table, whatever they
are, so neither time nor any address depends on the sample. The lowest of the 128 bits is the
sign and takes no part in the comparison (all entries are even); the others decide |x|, as the
number of k with u < 2^128 * P(|x| >= k). The entries are exact to the last bit: the
distribution is within 80 * 2^-128 of the one named, in statistical distance, and what is cut
off has probability below 2^-118 (`tail`); docs/lattice.md says what that adds up to.
"""

from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import prg
from secagg.checks import whole
from secagg.errors import LocalError

SIGMA = Decimal("6.4")
BOUND = 80
"""B: no sample is larger in absolute value."""

WORDS = 4
"""Words of 32 bits that a sample takes."""

_DIGITS = 80
_MOST = prg.STREAM_BYTES // (4 * WORDS)


@cache
def entries() -> tuple[int, ...]:
    """2^128 * P(|x| >= k) for k = 1 to 80, rounded to the nearest even integer."""
    with localcontext() as context:
        context.prec = _DIGITS
        weights = [_weight(k) * (2 if k else 1) for k in range(BOUND + 1)]
        total = sum(weights, Decimal())
        tails = (sum(weights[k:], Decimal()) / total for k in range(1, BOUND + 1))
        return tuple(2 * int((tail * 2**127).to_integral_value()) for tail in tails)


@cache
def tail() -> Decimal:
    """An upper bound on the probability that an uncut sample is beyond the bound.

    The weights beyond fall faster than a geometric series of ratio w(82) / w(81).
    """
    with localcontext() as context:
        context.prec = _DIGITS
        first, ratio = _weight(BOUND + 1), _weight(BOUND + 2) / _weight(BOUND + 1)
        total = _weight(0) + 2 * sum(_weight(k) for k in range(1, BOUND + 1))
        return 2 * first / (1 - ratio) / total


def _weight(k: int) -> Decimal:
    return (-Decimal(k * k) / (2 * SIGMA * SIGMA)).exp()


def sample(count: int, coins: prg.StreamKey, *, start: int = 0) -> NDArray[np.int32]:
    """`count` samples, from words `start` to `start + 4 * count - 1` of a stream.

    The first 2 * count words are the high halves of the uniform numbers, as 64-bit words, and
    the others the low halves. `start` is even. The stream is used for nothing else. Raises
    LocalError where there is no such count or stream.
    """
    words = np.zeros(2 * whole(count, "a number of samples", 0, _MOST), np.uint64)
    if whole(start, "start", 0) % 2:
        raise LocalError("a sample starts at an even word")
    prg.add_masks(words, [coins], [1], start=start // 2, threads=1)
    out = np.empty(count, np.int32)
    if (compiled := _compiled()) is None:
        out[:] = sample_reference(words)
    else:
        compiled.sample(words, *_table(), out)
    words.fill(0)
    return out


def sample_reference(words: NDArray[np.uint64]) -> list[int]:
    """The samples that these words stand for, in Python's integers: halves as in `sample`."""
    high, low = words.reshape(2, -1).tolist()
    numbers = [(one << 64) + other for one, other in zip(high, low, strict=True)]
    sizes = [sum(u < entry for entry in entries()) for u in numbers]
    return [-size if u & 1 else size for u, size in zip(numbers, sizes, strict=True)]


@cache
def _table() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The high and the low halves of the entries."""
    high = np.array([entry >> 64 for entry in entries()], np.uint64)
    low = np.array([entry & (2**64 - 1) for entry in entries()], np.uint64)
    return high, low


@cache
def _compiled() -> Any:
    """The compiled kernel, or None where it cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import gaussian  # noqa: PLC0415
    except ImportError:
        return None
    return gaussian if gaussian.compiles() else None
