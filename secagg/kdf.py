"""Labels, digests and key derivation: every domain separation string is made here.

A label is a list of parts, each with its length in front, so that two different lists never
give the same bytes. Derivation is HKDF with SHA-256 (RFC 5869), without salt: every input
is a uniform 32-byte seed, or what a key agreement gave.

A round derives hundreds of thousands of keys, so HMAC (RFC 2104) is spelled out over OpenSSL's
SHA-256 and the two hash states of the empty salt are made once: half the time of a library
call, most of which is not hashing. The tests compare the two.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256

from secagg.errors import LocalError

VERSION = "secagg/1"
DIGEST_BYTES = 32

Part = bytes | str | int
"""Integers are 8 bytes, big-endian, and not negative; strings are UTF-8. LocalError otherwise."""

_MOST_BYTES = 255 * DIGEST_BYTES
_LONG = 1 << 16
_XOR_IPAD, _XOR_OPAD = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_IPAD, _OPAD = (table[:1] * DIGEST_BYTES for table in (_XOR_IPAD, _XOR_OPAD))  # half a block
_SALT_INNER, _SALT_OUTER = sha256(_IPAD + _IPAD), sha256(_OPAD + _OPAD)


def label(kind: str, *parts: Part) -> bytes:
    """The domain separation string of `kind` over `parts`.

    Injective among parts of the same types, which each kind fixes for each of its positions.
    """
    return _VERSION + _prefixed(kind) + b"".join([_prefixed(part) for part in parts])


def digest(kind: str, *parts: Part) -> bytes:
    """SHA-256 of a label, 32 bytes: commitments to public values. Long parts are not copied."""
    if any(type(part) is bytes and len(part) > _LONG for part in parts):
        return _digest_in_place(kind, parts)
    return sha256(label(kind, *parts)).digest()


def digests(kind: str, common: Sequence[Part], each: Iterable[Sequence[Part]]) -> list[bytes]:
    """`digest(kind, *common, *parts)` for each list of parts; the common ones are hashed once."""
    begun = sha256(label(kind, *common))
    results = []
    for parts in each:
        state = begun.copy()
        state.update(b"".join([_prefixed(part) for part in parts]))
        results.append(state.digest())
    return results


def derive(secret: bytes, kind: str, *parts: Part, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869) of `secret` with the label as `info`; `length` bytes, 0 to 8160.

    Raises LocalError for another length, and for a secret that is not bytes.
    """
    return _expand(_extract(secret), label(kind, *parts), length)


def derive_many(
    secrets: Sequence[bytes],
    kind: str,
    parts: Sequence[tuple[Part, ...]],
    *,
    common: Sequence[Part] = (),
    length: int = 32,
) -> list[bytes]:
    """`derive(secrets[i], kind, *common, *parts[i], length=length)` for every i.

    Raises LocalError as it does, and unless there are as many secrets as parts. A secret that
    stands several times in a row, as the same object, is extracted once.
    """
    if len(secrets) != len(parts):
        raise LocalError(f"{len(secrets)} secrets with {len(parts)} lists of parts")
    prefix = label(kind, *common)
    infos = [prefix + b"".join([_prefixed(part) for part in each]) for each in parts]
    keys = _extract_each(secrets)
    return [_expand(key, info, length) for key, info in zip(keys, infos, strict=True)]


def _extract_each(secrets: Sequence[bytes]) -> Iterator[bytes]:
    last: object = object()  # no secret
    key = b""
    for secret in secrets:
        if secret is not last:
            last, key = secret, _extract(secret)
        yield key


def _extract(secret: bytes) -> bytes:
    """RFC 5869, 2.2, with the salt of zeros."""
    inner, outer = _SALT_INNER.copy(), _SALT_OUTER.copy()
    try:
        inner.update(secret)
    except (TypeError, ValueError, BufferError):
        raise LocalError("a secret is bytes") from None
    outer.update(inner.digest())
    return outer.digest()


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, 2.3."""
    if type(length) is not int or not 0 <= length <= _MOST_BYTES:
        raise LocalError(f"HKDF-SHA256 gives 0 to {_MOST_BYTES} bytes")
    inner = key.translate(_XOR_IPAD) + _IPAD  # as Python integers it would show the key in time
    outer = key.translate(_XOR_OPAD) + _OPAD
    output = block = sha256(outer + sha256(inner + info + b"\1").digest()).digest()
    for counter in range(2, -(-length // DIGEST_BYTES) + 1):
        message = inner + block + info + counter.to_bytes(1, "big")
        block = sha256(outer + sha256(message).digest()).digest()
        output += block
    return output[:length]


def _digest_in_place(kind: str, parts: Sequence[Part]) -> bytes:
    state = sha256(label(kind))
    for part in parts:
        if type(part) is bytes:
            state.update(len(part).to_bytes(4, "big"))
            state.update(part)
        else:
            state.update(_prefixed(part))
    return state.digest()


def _prefixed(part: Part) -> bytes:
    if type(part) is bytes:
        return len(part).to_bytes(4, "big") + part
    if not isinstance(part, int | str):
        raise LocalError(f"a label has no part of type {type(part).__name__}")
    return _public_prefixed(part)


@lru_cache(maxsize=4096, typed=True)
def _public_prefixed(part: str | int) -> bytes:
    """Of names and numbers, which are no secrets and recur."""
    try:
        raw = part.to_bytes(8, "big") if isinstance(part, int) else part.encode()
    except (OverflowError, UnicodeError) as error:
        raise LocalError(f"not a part of a label: {error}") from None
    return len(raw).to_bytes(4, "big") + raw


_VERSION = _prefixed(VERSION)
