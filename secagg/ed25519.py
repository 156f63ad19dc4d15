"""Public keys of Ed25519, and the verification of many signatures at once.

RFC 8032, 5.1.7, as OpenSSL does it: s below the group's order L, and the encoding of
[s]B - [h mod L]A is R to the bit, without a cofactor. So a signature that holds only up to a
point of small order is refused, and so is an R that is no canonical encoding.

A key keeps the table that the kernel (`secagg.kernels.ed25519`) needs of it, 16 KB, from its
first signature in a batch on, or from `prepare`: a roster is the same in every round. With it
a signature that comes alone, too, takes two fifths of OpenSSL's time.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import sha512
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secagg import kernels

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MOST_ALONE = 3
"""Signatures that OpenSSL verifies: from the next on they are verified together."""

_D = -121665 * pow(121666, -1, PRIME) % PRIME
_ROOT_OF_MINUS_ONE = pow(2, (PRIME - 1) // 4, PRIME)
_BASE = (4 * pow(5, -1, PRIME) % PRIME).to_bytes(KEY_BYTES, "little")
_VERIFICATION = 100_000  # nanoseconds, with OpenSSL

Table = tuple[int, npt.NDArray[np.uint64]]
"""Where it is, as an address divided by 8, and what keeps it there."""

Claim = tuple["Key", bytes, bytes]
"""A key, and a signature of 64 bytes that should be one of a message under it."""


class Key:
    """A public key: the canonical encoding of a point of large order. Or ValueError."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.point = _decoded(raw)
        self._handle = Ed25519PublicKey.from_public_bytes(raw)
        self._table: Table | None = None

    def verify(self, signature: bytes, message: bytes) -> None:
        """InvalidSignature unless `signature` is one of `message`. OpenSSL has the last word."""
        claim = self, signature, message
        if not (self._table and _verified_alone(_compiled(), self._table, claim)):
            self._handle.verify(signature, message)


def verified(claims: Sequence[Claim]) -> list[bool]:
    """Which signatures verify, together; none where that is not worth it, or not possible."""
    worth = len(claims) > MOST_ALONE and kernels.worth(_VERIFICATION * len(claims))
    if not worth or (compiled := _compiled()) is None:
        return [False] * len(claims)
    return _verified(compiled, claims)


def prepare(keys: Sequence[Key]) -> None:
    """Make the tables of keys whose signatures will come one by one, if that is worth it."""
    worth = len(keys) > MOST_ALONE and kernels.worth(_VERIFICATION * len(keys))
    if worth and (compiled := _compiled()) is not None:
        _tables(compiled, keys)


@cache
def _compiled() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import ed25519  # noqa: PLC0415
    except ImportError:
        return None
    return ed25519 if ed25519.compiles() else None


def _verified(compiled: Any, claims: Sequence[Claim]) -> list[bool]:
    keys, signatures, _ = zip(*claims, strict=True)
    of = np.frombuffer(b"".join(signatures), np.uint8).reshape(len(claims), 2, KEY_BYTES)
    scalars = np.ascontiguousarray(of[:, 1])
    others = np.frombuffer(_challenges(claims), np.uint8).reshape(len(claims), KEY_BYTES)
    groups = -(-len(claims) // compiled.LANES)
    room = groups * compiled.POINT_WORDS + (groups + 3) * compiled.ELEMENT_WORDS
    out, tables = np.empty_like(others), _tables(compiled, keys)
    one = np.full_like(tables, _table_of_one()[0])
    compiled.encode_sums(one, tables, scalars, others, out, np.empty(room, np.uint64))
    same: list[bool] = (np.all(out == of[:, 0], axis=1) & _low(scalars)).tolist()
    return same


def _verified_alone(compiled: Any, table: Table, claim: Claim) -> bool:
    """Whether a signature verifies, with the table of its key."""
    if len(claim[1]) != SIGNATURE_BYTES:
        return False
    nonce, scalar = np.frombuffer(claim[1], np.uint8).reshape(2, KEY_BYTES)
    other = np.frombuffer(_challenges([claim]), np.uint8)
    one, combs = _combs()
    digits = scalar.reshape(len(combs), -1), other.reshape(len(combs), -1)
    out, room = np.empty((1, KEY_BYTES), np.uint8), np.empty(2 * compiled.POINT_WORDS, np.uint64)
    compiled.encode_sums(one, combs + table[0], *digits, out, room)
    return bool(_low(scalar) and np.array_equal(out[0], nonce))


def _challenges(claims: Sequence[Claim]) -> bytes:
    """h mod L of each."""
    hashes = [sha512(s[:KEY_BYTES] + key.raw + message).digest() for key, s, message in claims]
    numbers = [int.from_bytes(each, "little") % ORDER for each in hashes]
    return b"".join([number.to_bytes(KEY_BYTES, "little") for number in numbers])


def _low(scalars: npt.NDArray[np.uint8]) -> Any:
    """Which are below 2^252, and so below L. Between the two is one of 2^127: for OpenSSL."""
    return scalars[..., -1] < 1 << 4


def _tables(compiled: Any, keys: Sequence[Key]) -> npt.NDArray[np.int64]:
    """Where those of the points' negatives are."""
    new = [key for key in dict.fromkeys(keys) if key._table is None]
    points = [(PRIME - x, y) for x, y in (key.point for key in new)]
    for key, table in zip(new, _made(compiled, points, compiled.KEY_ENTRIES), strict=True):
        key._table = table
    return np.array([key._table[0] for key in keys if key._table], np.int64)


@cache
def _table_of_one() -> Table:
    """The base point's."""
    compiled = _compiled()
    return _made(compiled, [_decoded(_BASE)], compiled.ONE_ENTRIES)[0]


@cache
def _combs() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the combs of the base point's table begin, and those of a key's from its begin."""
    compiled = _compiled()
    words = np.arange(compiled.COMBS) * compiled.ENTRY_WORDS
    return _table_of_one()[0] + words * compiled.ONE_ENTRIES, words * compiled.KEY_ENTRIES


def _made(compiled: Any, points: Sequence[tuple[int, int]], entries: int) -> list[Table]:
    """The tables of these points."""
    count = compiled.COMBS * entries
    limbs = [[_limbs(number, compiled.WIDTHS) for number in point] for point in points]
    tables = np.zeros((len(points), count * compiled.ENTRY_WORDS), np.uint64)
    room = count * compiled.POINT_WORDS + (count + 4) * compiled.ELEMENT_WORDS
    if points:
        of = np.array(limbs, np.uint64)
        compiled.fill_tables(of, entries, tables.reshape(-1), np.empty(room, np.uint64))
    return [(row.ctypes.data // 8, row) for row in tables]


def _limbs(number: int, widths: Sequence[int]) -> list[int]:
    limbs = []
    for width in widths:
        limbs.append(number & (1 << width) - 1)
        number >>= width
    return limbs


def _decoded(raw: bytes) -> tuple[int, int]:
    """RFC 8032, 5.1.3, in whole numbers: public keys are not secret."""
    number = int.from_bytes(raw, "little")
    y, parity = number & (1 << 255) - 1, number >> 255
    square = y * y % PRIME
    of_small_order = square in (0, 1) or (_D * square * square + 2 * square - 1) % PRIME == 0
    u, v = square - 1, _D * square + 1
    x = u * v**3 * pow(u * v**7, (PRIME - 5) // 8, PRIME) % PRIME
    if (v * x * x + u) % PRIME == 0:
        x = x * _ROOT_OF_MINUS_ONE % PRIME
    if y >= PRIME or of_small_order or (v * x * x - u) % PRIME:
        raise ValueError("not canonical, not on the curve, or of small order")
    return (x if x & 1 == parity else PRIME - x), y
