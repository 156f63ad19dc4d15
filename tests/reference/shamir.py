"""Shamir sharing over GF(2^31 - 1): spec section 4."""

import math
from collections.abc import Iterator, Sequence

from tests.reference.errors import Decode, Local
from tests.reference.streams import ctr_words

P31 = 2**31 - 1
SHARE = 36


def uniform_elements(key: bytes, iv: bytes) -> Iterator[int]:
    return (w for w in (word % 2**31 for word in ctr_words(key, iv)) if w != P31)


def split_secret(secret: bytes) -> list[int]:
    whole = int.from_bytes(secret, "little")
    return [(whole >> 30 * i) % 2**30 for i in range(9)]


def polynomials(secrets: Sequence[bytes], threshold: int, key: bytes, iv: bytes) -> list[list[int]]:
    """Coefficients, constant first. The stream gives all leading ones first, limb by limb."""
    limbs = [limb for secret in secrets for limb in split_secret(secret)]
    drawn = uniform_elements(key, iv)
    rows = [[next(drawn) for _ in limbs] for _ in range(threshold - 1)]
    return [[limb, *(row[i] for row in reversed(rows))] for i, limb in enumerate(limbs)]


def shamir_deal(
    secrets: Sequence[bytes], points: Sequence[int], threshold: int, key: bytes, iv: bytes
) -> list[list[bytes]]:
    """shares[point][secret]. Or Local."""
    _check_points(points)
    if not 1 <= threshold <= len(points):
        raise Local(f"threshold {threshold} with {len(points)} holders")
    if any(len(secret) != 32 for secret in secrets):
        raise Local("a secret has 32 bytes")
    rows = polynomials(secrets, threshold, key, iv)

    def at(x: int, row: Sequence[int]) -> bytes:
        return (sum(c * x**i for i, c in enumerate(row)) % P31).to_bytes(4, "little")

    values = [b"".join(at(x, row) for row in rows) for x in points]
    return [[v[i : i + SHARE] for i in range(0, len(v), SHARE)] for v in values]


def _check_points(points: Sequence[int]) -> None:
    if len(set(points)) < len(points) or not all(1 <= x < P31 for x in points):
        raise Local("points must be distinct and between 1 and the prime")


def lagrange_at_zero(points: Sequence[int]) -> list[int]:
    basis = []
    for i, x in enumerate(points):
        others = [y for j, y in enumerate(points) if j != i]
        bottom = math.prod(y - x for y in others)
        basis.append(math.prod(others) * pow(bottom, -1, P31) % P31)
    return basis


def words_of(share: bytes) -> list[int]:
    return [int.from_bytes(share[i : i + 4], "little") for i in range(0, len(share), 4)]


def shamir_limbs(points: Sequence[int], shares: Sequence[bytes]) -> list[int]:
    basis = lagrange_at_zero(points)
    words = [words_of(s) for s in shares]
    return [sum(b * w[i] for b, w in zip(basis, words, strict=True)) % P31 for i in range(9)]


def check_shares(raw: bytes, count: int) -> None:
    if len(raw) != count * SHARE:
        raise Decode(f"{len(raw)} bytes where {count} shares have {count * SHARE}")
    if any(word >= P31 for word in words_of(raw)):
        raise Decode("a share has a limb that is not below the prime")


def reconstruct(points: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """The 32-byte secret. Or Decode, or Local."""
    _check_points(points)
    if any(len(share) != SHARE for share in shares):
        raise Decode(f"a share has {SHARE} bytes")
    check_shares(b"".join(shares), len(shares))
    limbs = shamir_limbs(points, shares)
    if any(limb >= 2**30 for limb in limbs) or limbs[8] >= 2**16:
        raise Decode("the shares are not those of one 32-byte secret")
    return sum(limb << 30 * i for i, limb in enumerate(limbs)).to_bytes(32, "little")
