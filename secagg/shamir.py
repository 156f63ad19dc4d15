"""Shamir's secret sharing (CACM 1979) of 32-byte secrets, in limbs over a 31-bit prime.

A secret is nine 30-bit limbs, little-endian (the last has 16 bits); each limb is shared by
its own uniform polynomial of degree t - 1 over GF(2^31 - 1). Many secrets are shared at the
same points in one call, and many reconstructed with one Lagrange basis. A share travels as
36 bytes: nine little-endian 32-bit limbs, each below the prime.

The arithmetic is compiled where numba is (`secagg.kernels.shamir`), and NumPy elsewhere.
"""

import operator
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg import field, kernels, prg
from secagg.errors import DecodeError, LocalError
from secagg.field import PRIME

LIMBS = 9
LIMB_BITS = 30
SECRET_BYTES = 32
SHARE_BYTES = 4 * LIMBS

Limbs = field.Elements
Bytes = npt.NDArray[np.uint8]

_LIMB = np.uint64(2**LIMB_BITS - 1)
_SHIFTS = np.arange(0, 2 * LIMBS, 2, dtype=np.uint64)  # limb i begins 2i bits before word i
_TOP = np.array([2**LIMB_BITS] * (LIMBS - 1) + [2**16], np.uint64)


def deal(
    secrets: Sequence[bytes], points: Sequence[int], threshold: int, coins: prg.StreamKey
) -> list[list[bytes]]:
    """Shares of each secret for each point: `shares[point][secret]`, 36 bytes each.

    secrets: 32 bytes each; points: distinct, in [1, p); threshold: any `threshold` shares of
    a secret give it back and fewer say nothing, 1 <= threshold <= len(points); coins: a
    stream that is used for nothing else. Raises LocalError.
    """
    x = _checked_points(points)
    if not (isinstance(threshold, int) and 1 <= threshold <= len(points)):
        raise LocalError(f"threshold {threshold} with {len(points)} points")
    limbs = _split(secrets).ravel()
    coefficients = field.uniform((threshold - 1) * limbs.size, coins)
    raw = _evaluate(limbs, coefficients.reshape(threshold - 1, limbs.size), x).tobytes()
    shares = [raw[at : at + SHARE_BYTES] for at in range(0, len(raw), SHARE_BYTES)]
    of_point = len(secrets)
    return [shares[at * of_point : (at + 1) * of_point] for at in range(len(points))]


def reconstruct(points: Sequence[int], shares: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The secrets whose shares at `points` are given: `shares[secret][point]`.

    Exactly as many points as the threshold. Raises DecodeError where a share is malformed or
    the shares do not lie on polynomials of a 32-byte secret, LocalError for bad points or
    another number of shares.
    """
    if any(len(of) != len(points) for of in shares):
        raise LocalError(f"one share of each secret for each point, {len(points)}")
    raw = np.frombuffer(b"".join([_joined(of) for of in shares]), np.uint8)
    rows = reconstruct_rows(points, raw.reshape(len(shares), len(points), SHARE_BYTES))
    return [secret.tobytes() for secret in rows]


def reconstruct_rows(points: Sequence[int], shares: Bytes) -> Bytes:
    """`reconstruct` of bytes in arrays: (secrets, points, 36) gives (secrets, 32)."""
    x = _checked_points(points)
    if shares.dtype != np.uint8 or shares.ndim != 3 or shares.shape[1:] != (x.size, SHARE_BYTES):
        raise LocalError(f"shares of {SHARE_BYTES} bytes, one of each secret for {x.size} points")
    if not len(shares):
        return np.empty((0, SECRET_BYTES), np.uint8)
    if not x.size:
        raise LocalError("a secret is reconstructed from at least one share")
    return _join(_interpolate(x, np.ascontiguousarray(shares).view("<u4")))


def parse_share(share: bytes) -> Limbs:
    """The nine limbs of a share. Raises DecodeError for a wrong length or a limb >= p."""
    limbs = np.frombuffer(_joined([share]), "<u4")
    _check_limbs(int(limbs.max()))
    return limbs.astype(np.uint64)


def check_shares(raw: bytes, count: int) -> None:
    """Raise DecodeError unless `raw` is that many shares, one after the other."""
    if not isinstance(raw, bytes):
        raise LocalError("shares are bytes")
    if len(raw) != count * SHARE_BYTES:
        raise DecodeError(f"{len(raw)} bytes where {count} shares have {count * SHARE_BYTES}")
    _check_limbs(int(np.frombuffer(raw, "<u4").max(initial=0)))


@cache
def _compiled() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import shamir  # noqa: PLC0415
    except ImportError:
        return None
    return shamir if shamir.compiles() else None


def _checked_points(points: Sequence[int]) -> Limbs:
    try:
        whole = [operator.index(x) for x in points]
    except TypeError:
        raise LocalError("points are whole numbers") from None
    if len(set(whole)) != len(whole) or not all(0 < x < PRIME for x in whole):
        raise LocalError("points must be distinct and between 1 and the prime")
    return np.array(whole, np.uint64)


def _joined(shares: Sequence[bytes]) -> bytes:
    """These shares one after the other, their lengths checked while they are in the cache."""
    try:
        joined = b"".join(shares)
    except TypeError:
        raise LocalError("shares are bytes") from None
    if set(map(len, shares)) - {SHARE_BYTES} or len(joined) != len(shares) * SHARE_BYTES:
        raise DecodeError(f"a share has {SHARE_BYTES} bytes")
    return joined


def _check_limbs(highest: int) -> None:
    if highest >= PRIME:
        raise DecodeError("a share has a limb that is not below the prime")


def _split(secrets: Sequence[bytes]) -> Limbs:
    """The limbs of each secret, (secrets, LIMBS): limb i is what words i - 1 and i have of it."""
    if not all(isinstance(each, bytes) and len(each) == SECRET_BYTES for each in secrets):
        raise LocalError(f"a secret has {SECRET_BYTES} bytes")
    words = np.zeros((len(secrets), LIMBS + 1), np.uint64)
    words[:, 1:-1] = np.frombuffer(b"".join(secrets), "<u4").reshape(-1, LIMBS - 1)
    below, above = words[:, :-1] >> (np.uint64(32) - _SHIFTS), words[:, 1:] << _SHIFTS
    limbs: Limbs = (below | above) & _LIMB
    return limbs


def _join(limbs: Limbs) -> Bytes:
    """The inverse of `_split`. Raises DecodeError for limbs that no secret has."""
    if np.any(limbs >= _TOP):
        raise DecodeError("the shares are not those of one 32-byte secret")
    below, above = limbs[:, :-1] >> _SHIFTS[:-1], limbs[:, 1:] << (LIMB_BITS - _SHIFTS[:-1])
    return (below | above).astype("<u4").view(np.uint8)  # without the bits above the 32nd


def _evaluate(constant: Limbs, coefficients: Limbs, points: Limbs) -> Any:
    """The value of every polynomial at every point, (points, limbs), as 32-bit words."""
    worth = kernels.worth(10 * points.size * coefficients.size)
    if not worth or (compiled := _compiled()) is None:
        return _evaluate_numpy(constant, coefficients, points).astype("<u4")
    out = np.empty((points.size, constant.size), np.uint32)
    compiled.evaluate(constant, coefficients, points, out)
    return out


def _evaluate_numpy(constant: Limbs, coefficients: Limbs, points: Limbs) -> Limbs:
    """Reference: Horner's rule, the first coefficient being that of the highest power."""
    x = points[:, None]
    value = np.zeros((len(points), constant.size), np.uint64)
    for coefficient in coefficients:
        value = field.reduce((value + coefficient) * x)
    return field.reduce(value + constant)


def _interpolate(points: Limbs, shares: Any) -> Limbs:
    """The limbs of each secret from `shares` (secrets, points, limbs), once in range."""
    worth = kernels.worth(10 * shares.size + 1000 * points.size)
    if not worth or (compiled := _compiled()) is None:
        _check_limbs(int(shares.max(initial=0)))
        return field.weighted_sum(shares.astype(np.uint64), field.lagrange_at_zero(points.tolist()))
    basis = np.empty_like(points)
    compiled.lagrange(points, basis)
    out = np.empty((len(shares), LIMBS), np.uint64)
    _check_limbs(int(compiled.interpolate(shares, basis, out)))
    return out
