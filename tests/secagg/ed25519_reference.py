"""Ed25519 in whole numbers, as RFC 8032 writes it and OpenSSL decides: slow, and for tests only."""

import hashlib
from typing import NamedTuple

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1)

Point = tuple[int, int]


class Signed(NamedTuple):
    """A raw public key, and what claims to be a signature of a message under it."""

    public: bytes
    signature: bytes
    message: bytes


def square_root(a: int) -> int:
    """One of `a`, or of -a where `a` has none."""
    root = pow(a, (P + 3) // 8, P)
    return root if root * root % P == a % P else root * ROOT % P


def add(one: Point, other: Point) -> Point:
    (x, y), (u, v) = one, other
    product = D * x * u * y * v % P
    return (
        (x * v + u * y) * pow(1 + product, -1, P) % P,
        (y * v + x * u) * pow(1 - product, -1, P) % P,
    )


def negative(point: Point) -> Point:
    return -point[0] % P, point[1]


def times(number: int, point: Point) -> Point:
    """Not reduced modulo L: that matters where the point has a part of small order."""
    total, (x, y) = (0, 1, 1), point
    for bit in bin(number)[2:]:
        total = _sum(total, total)
        total = _sum(total, (x, y, 1)) if bit == "1" else total
    inverse = pow(total[2], -1, P)
    return total[0] * inverse % P, total[1] * inverse % P


def _sum(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    """`add` without an inversion: x = X/Z and y = Y/Z (Bernstein et al. 2008, section 6)."""
    (x, y, z), (u, v, w) = one, other
    both, a, b = z * w % P, x * u % P, y * v % P
    product = D * a * b % P
    less, more = (both * both - product) % P, (both * both + product) % P
    cross = (x + y) * (u + v) - a - b
    return both * less * cross % P, both * more * (a + b) % P, less * more % P


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decoded(raw: bytes) -> Point:
    """For a canonical encoding of a point."""
    number = int.from_bytes(raw, "little")
    y, parity = number % 2**255, number >> 255
    x = square_root((y * y - 1) * pow(D * y * y + 1, -1, P) % P)
    assert (y * y - x * x - 1 - D * x * x * y * y) % P == 0
    return (x if x & 1 == parity else P - x), y


BASE = decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def points_of_small_order() -> list[Point]:
    """All points with [8]P = 0: the multiples of one of order 8, whose y is (0, x)'s half."""
    for number in range(2, 99):
        x = square_root((number * number - 1) * pow(D * number * number + 1, -1, P) % P)
        if (number * number - x * x - 1 - D * x * x * number * number) % P == 0:
            point = times(L, (x, number))
            if times(4, point) != NEUTRAL:
                return [times(k, point) for k in range(8)]
    raise AssertionError


def challenge(public: bytes, r: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % L


def signed(secret: int, torsion: Point, nonce: bytes | int, message: bytes) -> Signed:
    """With s = r + h * secret under secret * B + torsion; R is given, or r."""
    public = encoded(add(times(secret, BASE), torsion))
    r, raw = (nonce, encoded(times(nonce, BASE))) if isinstance(nonce, int) else (0, nonce)
    s = (r + challenge(public, raw, message) * secret) % L
    return Signed(public, raw + s.to_bytes(32, "little"), message)


def verifies(claim: Signed) -> bool:
    """RFC 8032, 5.1.7, without a cofactor; the key is a canonical encoding."""
    raw, s = claim.signature[:32], int.from_bytes(claim.signature[32:], "little")
    if len(claim.signature) != 64 or s >= L:
        return False
    h = challenge(claim.public, raw, claim.message)
    return encoded(add(times(s, BASE), times(h, negative(decoded(claim.public))))) == raw
