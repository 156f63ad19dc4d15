"""Shamir's secret sharing (CACM 1979) of 32-byte secrets, in limbs over a 31-bit prime.

A secret is nine 30-bit limbs, little-endian (the last has 16 bits); each limb is shared by
its own uniform polynomial of degree t - 1 over GF(2^31 - 1). Many secrets are shared at the
same points in one call, and many reconstructed with one Lagrange basis. A share travels as
36 bytes: nine little-endian 32-bit limbs, each below the prime.
"""

from collections.abc import Sequence

import numpy as np

from secagg import field, prg
from secagg.errors import DecodeError, LocalError
from secagg.field import PRIME

LIMBS = 9
LIMB_BITS = 30
SECRET_BYTES = 32
SHARE_BYTES = 4 * LIMBS
_BIT = np.arange(LIMB_BITS, dtype=np.uint64)

Limbs = field.Elements


def deal(
    secrets: Sequence[bytes], points: Sequence[int], threshold: int, coins: prg.StreamKey
) -> list[list[bytes]]:
    """Shares of each secret for each point: `shares[point][secret]`, 36 bytes each.

    secrets: 32 bytes each; points: distinct, in [1, p); threshold: any `threshold` shares of
    a secret give it back and fewer say nothing, 1 <= threshold <= len(points); coins: a
    stream that is used for nothing else. Raises LocalError.
    """
    _check_points(points)
    if not 1 <= threshold <= len(points):
        raise LocalError(f"threshold {threshold} with {len(points)} points")
    limbs = np.concatenate([_split(secret) for secret in secrets])
    coefficients = field.uniform((threshold - 1) * limbs.size, coins).reshape(-1, limbs.size)
    shares = _evaluate(limbs, coefficients, np.array(points, np.uint64)).astype("<u4")
    return [[row.tobytes() for row in at.reshape(-1, LIMBS)] for at in shares]


def reconstruct(points: Sequence[int], shares: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The secrets whose shares at `points` are given: `shares[secret][point]`.

    Exactly as many points as the threshold. Raises DecodeError where a share is malformed or
    the shares do not lie on polynomials of a 32-byte secret, LocalError for bad points.
    """
    _check_points(points)
    if not shares:
        return []
    values = np.stack([np.stack([parse_share(s) for s in of]) for of in shares])
    basis = field.lagrange_at_zero(points)
    limbs = field.weighted_sum(values, basis)
    return [_join(row) for row in limbs]


def parse_share(share: bytes) -> Limbs:
    """The nine limbs of a share. Raises DecodeError for a wrong length or a limb >= p."""
    if len(share) != SHARE_BYTES:
        raise DecodeError(f"a share has {SHARE_BYTES} bytes")
    limbs = np.frombuffer(share, "<u4").astype(np.uint64)
    if np.any(limbs >= PRIME):
        raise DecodeError("a share has a limb that is not below the prime")
    return limbs


def _check_points(points: Sequence[int]) -> None:
    if len(set(points)) != len(points) or not all(0 < x < PRIME for x in points):
        raise LocalError("points must be distinct and between 1 and the prime")


def _split(secret: bytes) -> Limbs:
    if len(secret) != SECRET_BYTES:
        raise LocalError(f"a secret has {SECRET_BYTES} bytes")
    bits = np.zeros(LIMBS * LIMB_BITS, np.uint64)
    bits[: 8 * SECRET_BYTES] = np.unpackbits(np.frombuffer(secret, np.uint8), bitorder="little")
    limbs: Limbs = (bits.reshape(LIMBS, LIMB_BITS) << _BIT).sum(axis=1, dtype=np.uint64)
    return limbs


def _join(limbs: Limbs) -> bytes:
    bits = (limbs[:, None] >> np.arange(31, dtype=np.uint64)) & np.uint64(1)
    flat = bits[:, :LIMB_BITS].ravel().astype(np.uint8)
    if np.any(bits[:, LIMB_BITS]) or np.any(flat[8 * SECRET_BYTES :]):
        raise DecodeError("the shares are not those of one 32-byte secret")
    return np.packbits(flat[: 8 * SECRET_BYTES], bitorder="little").tobytes()


def _evaluate(constant: Limbs, coefficients: Limbs, points: Limbs) -> Limbs:
    """Horner's rule: the value of every polynomial at every point, (points, limbs)."""
    x = points[:, None]
    value = np.zeros((len(points), constant.size), np.uint64)
    for coefficient in coefficients:
        value = field.reduce((value + coefficient) * x)
    return field.reduce(value + constant)
