"""Shamir's sharing of whole vectors over GF(2^31 - 1), added before they are opened.

Each element has its own uniform polynomial of degree t - 1 (CACM 1979), so shares of sums are
sums of shares (Benaloh, CRYPTO 1986). A vector of shares travels at 31 bits an element.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, combinations, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import field, kdf, packing, prg, reedsolomon
from secagg.errors import DecodeError, LocalError
from secagg.field import PRIME, Elements

BITS = 31
MOST_SUBSETS = 2000
"""Sets of holders that are suspected, one after the other, when shares do not fit together."""

Signed = NDArray[np.int64]


def share_bytes(length: int) -> int:
    """Bytes of a share of so many elements."""
    return packing.packed_bytes(length, BITS)


def deal(
    values: Signed, points: Sequence[int], threshold: int, coins: prg.StreamKey
) -> list[bytes]:
    """A share of the vector for each point; any `threshold` of them give it back.

    values: (length,), small and of either sign; points: distinct, in [1, p); coins: a stream
    that is used for nothing else. Raises LocalError.
    """
    if not 1 <= threshold <= len(points) or len(set(points)) != len(points):
        raise LocalError(f"threshold {threshold} with {len(set(points))} distinct points")
    if not all(0 < point < PRIME for point in points):
        raise LocalError("points are between 1 and the prime")
    constant = _elements(values)
    drawn = field.uniform((threshold - 1) * constant.size, coins)
    coefficients = drawn.reshape(threshold - 1, constant.size)
    shares = _evaluate(constant, coefficients, np.array(points, np.uint64))
    return [packing.pack(share, BITS) for share in shares]


def check(share: bytes, length: int) -> None:
    """Raise DecodeError unless this is a share of so many elements."""
    if np.any(packing.unpack(share, BITS, length) == PRIME):
        raise DecodeError("a share has an element that is not below the prime")


def add(shares: Sequence[bytes], length: int) -> bytes:
    """The share of the sum of vectors, from one holder's checked shares of each."""
    total = np.zeros(length, np.uint64)
    for share in shares:
        packing.add_packed(total, share, BITS)
    return packing.pack(field.reduce(total), BITS)


def candidates(
    shares: Mapping[int, bytes], threshold: int, length: int, bound: int
) -> Iterator[tuple[Signed, frozenset[int]]]:
    """Vectors that the shares may stand for, likeliest first, and whose shares are wrong then.

    No element of a vector is beyond +-`bound`. shares: by point, checked, at least `threshold`.
    The first is right where at most half of the shares beyond the threshold are wrong
    (`reedsolomon`). Others follow from sets of suspects, smallest first: so many may be wrong
    as are beyond the threshold, and the caller knows the right vector by other means.
    """
    points = sorted(shares)
    rows = np.stack([_unpacked(shares[point], length) for point in points])
    sound = reedsolomon.trusted(points, _digest_of(rows), threshold)
    seen: set[frozenset[int]] = set()
    suspected = islice(_suspicions(len(points), threshold), MOST_SUBSETS)
    for chosen in chain([sound[:threshold]], suspected):
        values = _short(rows, points, chosen, bound) if len(chosen) == threshold else None
        if values is None:
            continue
        wrong = _misfits(rows, points, chosen)
        if wrong not in seen:
            seen.add(wrong)
            yield values, wrong


def _digest_of(rows: Elements) -> Elements:
    """A combination of each holder's elements, by coefficients that nobody chose: an error
    anywhere is one in the combination but with probability 1/p.
    """
    raw = kdf.digest("share combination", rows.astype("<u4").tobytes())
    weights = field.uniform(rows.shape[1], prg.StreamKey(raw[: prg.KEY_BYTES], bytes(prg.IV_BYTES)))
    return field.reduce(field.reduce(rows * weights).sum(axis=1, dtype=np.uint64))


def _suspicions(count: int, threshold: int) -> Iterator[list[int]]:
    """`threshold` of the holders, without the suspects: nobody, then each, then each pair, …"""
    for suspects in range(count - threshold + 1):
        for without in combinations(range(count), suspects):
            yield [at for at in range(count) if at not in without][:threshold]


def _short(rows: Any, points: list[int], chosen: list[int], bound: int) -> Signed | None:
    """What these holders' shares give, unless it is not short: the first few elements tell."""
    basis = field.lagrange_at_zero([points[at] for at in chosen])
    signed = np.zeros(0, np.int64)
    for part in (rows[:, :64], rows):
        signed = _weighted(part[chosen], basis).astype(np.int64)
        signed -= (signed > PRIME // 2) * PRIME
        if np.any(np.abs(signed) > bound):
            return None
    return signed


def _misfits(rows: Any, points: list[int], chosen: list[int]) -> frozenset[int]:
    """Whose shares are not on the polynomials through those of `chosen`."""
    others = [at for at in range(len(points)) if at not in chosen]
    return frozenset(
        points[at]
        for at in others
        if np.any(_weighted(rows[chosen], _basis_at(points, chosen, points[at])) != rows[at])
    )


def _basis_at(points: list[int], chosen: list[int], at: int) -> Elements:
    """Lagrange's basis at another place: that at zero, all points moved."""
    return field.lagrange_at_zero([(points[one] - at) % PRIME for one in chosen])


def _weighted(shares: Any, basis: Elements) -> Elements:
    """`sum_j basis[j] * shares[j, l]` mod p."""
    total: Elements = field.weighted_sum(shares[None], basis)[0]
    return total


def _unpacked(share: bytes, length: int) -> Elements:
    return packing.unpack(share, BITS, length).astype(np.uint64)


def _elements(values: Signed) -> Elements:
    wide = values.astype(np.int64)
    return (wide + (wide >> 63 & PRIME)).astype(np.uint64)


def _evaluate(constant: Elements, coefficients: Elements, points: Elements) -> Any:
    """The value of each polynomial at each point, (points, length), as 32-bit words."""
    out = np.empty((points.size, constant.size), np.uint32)
    if (compiled := _compiled()) is not None:
        compiled.evaluate(constant, coefficients, points, out)
        return out
    for row, point in zip(out, points, strict=True):
        value = np.zeros(constant.size, np.uint64)
        for coefficient in coefficients:
            value = field.reduce((value + coefficient) * point)
        row[:] = field.reduce(value + constant)
    return out


@cache
def _compiled() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import shamir  # noqa: PLC0415
    except ImportError:
        return None
    return shamir if shamir.compiles() else None
