"""Labels, digests and key derivation: every domain separation string is made here.

A label is a list of parts, each with its length in front, so that two different lists never
give the same bytes. Derivation is HKDF with SHA-256 (RFC 5869), without salt: every input
is a uniform 32-byte seed or a concatenation of them.
"""

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = "secagg/1"
DIGEST_BYTES = 32

Part = bytes | str | int
"""Integers are 8 bytes, big-endian, and not negative; strings are UTF-8."""


def label(kind: str, *parts: Part) -> bytes:
    """The domain separation string of `kind` over `parts`: injective in all of them."""
    return b"".join(_prefixed(part) for part in (VERSION, kind, *parts))


def digest(kind: str, *parts: Part) -> bytes:
    """SHA-256 of a label, 32 bytes: commitments to public values."""
    return hashlib.sha256(label(kind, *parts)).digest()


def derive(secret: bytes, kind: str, *parts: Part, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869) of `secret` with the label as `info`; `length` bytes."""
    return HKDF(SHA256(), length, salt=None, info=label(kind, *parts)).derive(secret)


def _prefixed(part: Part) -> bytes:
    raw = _bytes(part)
    return len(raw).to_bytes(4, "big") + raw


def _bytes(part: Part) -> bytes:
    if isinstance(part, str):
        return part.encode()
    return part.to_bytes(8, "big") if isinstance(part, int) else part
