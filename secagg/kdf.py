"""Labels, digests and key derivation: every domain separation string is made here.

A label is a list of parts, each with its length in front, so that two different lists never
give the same bytes. Derivation is HKDF with SHA-256 (RFC 5869), without salt: every input
is a uniform 32-byte seed, or what a key agreement and a KEM gave.

A round derives hundreds of thousands of keys. So a batch is made of arrays: a part that differs
from row to row is a column, of numbers or of byte strings of one length. A kernel
(`secagg.kernels.sha256`) hashes sixteen rows at once. Where there is none, HMAC (RFC 2104) is
spelled out over OpenSSL's SHA-256 with the two hash states of the empty salt made once: half
the time of a library call, most of which is not hashing. The bytes are the same.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg import kernels
from secagg.errors import LocalError

VERSION = "secagg/1"
DIGEST_BYTES = 32
Part = bytes | str | int
"""Integers are 8 bytes, big-endian, and not negative; strings are UTF-8. LocalError otherwise."""

Table = npt.NDArray[np.uint8]
"""Byte strings of one length, (rows, length)."""

Column = Table | npt.NDArray[np.integer[Any]]
"""One part for each row of a batch: byte strings, or whole numbers that are not negative."""

Words = npt.NDArray[np.uint32]

_MOST_BYTES = 255 * DIGEST_BYTES
_LONG = 1 << 16
_DIGEST, _DERIVATION = 1500, 5000  # nanoseconds, with hashlib
_CALL = 60_000  # of a kernel, until it begins to gain
_XOR_IPAD, _XOR_OPAD = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_IPAD, _OPAD = (table[:1] * DIGEST_BYTES for table in (_XOR_IPAD, _XOR_OPAD))  # half a block
_SALT_INNER, _SALT_OUTER = sha256(_IPAD + _IPAD), sha256(_OPAD + _OPAD)


LEAST_TOGETHER = _CALL // _DIGEST
"""Rows for which a kernel is faster than a loop, of digests; fewer of derivations."""


def label(kind: str, *parts: Part) -> bytes:
    """The domain separation string of `kind` over `parts`.

    Injective among parts of the same types, which each kind fixes for each of its positions.
    """
    return extended(_VERSION + _prefixed(kind), *parts)


def extended(begun: bytes, *parts: Part) -> bytes:
    """The label with these parts after those of the label `begun`: the same bytes as at once."""
    return begun + b"".join([_prefixed(part) for part in parts])


def labels(kind: str, *parts: Part | Column) -> Table:
    """`label(kind, ...)` of each row of the columns, of which there is at least one. LocalError as
    for `digests`.
    """
    before, body = _labels(kind, parts)
    begun = np.frombuffer(before, np.uint8)
    return np.concatenate([np.broadcast_to(begun, (len(body), len(begun))), body], axis=1)


def digest(kind: str, *parts: Part) -> bytes:
    """SHA-256 of a label, 32 bytes: commitments to public values. Long parts are not copied."""
    if any(type(part) is bytes and len(part) > _LONG for part in parts):
        return _digest_in_place(kind, parts)
    return sha256(label(kind, *parts)).digest()


def digests(kind: str, *parts: Part | Column) -> Table:
    """`digest(kind, ...)` of each row of the columns, of which there is at least one: (n, 32).

    Raises LocalError for columns of different heights and for what no label has.
    """
    before, body = _labels(kind, parts)
    if (compiled := _compiled(len(body), _DIGEST)) is None:
        begun, hashes = sha256(before), []
        for row in strings(body):
            state = begun.copy()
            state.update(row)
            hashes.append(state.digest())
        return table(hashes, DIGEST_BYTES)
    whole = len(before) // compiled.BLOCK_BYTES * compiled.BLOCK_BYTES
    messages = _messages(compiled, before[whole:], body, b"", whole)
    found = compiled.digests(compiled.state_after(before[:whole]), messages)
    return _bytes_of(found, len(body), DIGEST_BYTES)


def derive(secret: bytes, kind: str, *parts: Part, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869) of `secret` with the label as `info`; `length` bytes, 0 to 8160.

    Raises LocalError for another length, and for a secret that is not bytes.
    """
    return _expand(_extract(secret), label(kind, *parts), length)


def derive_many(
    secrets: Table, kind: str, *parts: Part | Column, length: int = DIGEST_BYTES
) -> Table:
    """`derive(secret, kind, ..., length=length)` of each row of secrets and columns: (n, length).

    secrets: (n, size), or (1, size) for all rows to have the same. Raises LocalError as `derive`
    and `digests` do, and for another number of secrets.
    """
    before, body = _labels(kind, parts)
    if len(_checked(secrets, "secrets")) not in (1, len(body)):
        raise LocalError(f"{len(secrets)} secrets for {len(body)} labels")
    _check_length(length)
    compiled = _compiled(len(body), _DERIVATION) if length <= DIGEST_BYTES else None
    if compiled is None:
        keys = [_extract(secret) for secret in strings(secrets)]
        keys = keys if len(keys) == len(body) else keys * len(body)
        infos = (before + row for row in strings(body))
        return table([_expand(k, i, length) for k, i in zip(keys, infos, strict=True)], length)
    messages = _messages(compiled, before, body, b"\1", compiled.BLOCK_BYTES)
    blocks = compiled.hmacs(_keys(compiled, secrets, len(messages)), messages)
    return _bytes_of(blocks, len(body), length)


def table(strings: Sequence[bytes], length: int) -> Table:
    """Byte strings of this length as rows: (n, length), read-only. LocalError for others."""
    if set(map(len, strings)) - {length}:
        raise LocalError(f"rows of a table that do not have {length} bytes")
    return np.frombuffer(b"".join(strings), np.uint8).reshape(len(strings), length)


def strings(rows: Table) -> list[bytes]:
    """The rows of a table as byte strings."""
    (count, length), raw = rows.shape, rows.tobytes()
    return [raw[at * length : (at + 1) * length] for at in range(count)]


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
    _check_length(length)
    inner = key.translate(_XOR_IPAD) + _IPAD  # as Python integers it would show the key in time
    outer = key.translate(_XOR_OPAD) + _OPAD
    output = block = sha256(outer + sha256(inner + info + b"\1").digest()).digest()
    for counter in range(2, -(-length // DIGEST_BYTES) + 1):
        message = inner + block + info + counter.to_bytes(1, "big")
        block = sha256(outer + sha256(message).digest()).digest()
        output += block
    return output[:length]


def _check_length(length: int) -> None:
    if type(length) is not int or not 0 <= length <= _MOST_BYTES:
        raise LocalError(f"HKDF-SHA256 gives 0 to {_MOST_BYTES} bytes")


def _compiled(count: int, nanoseconds: int) -> Any:
    """The kernels, if they are worth it for so many rows that take so long without."""
    alone = count * nanoseconds
    return _loaded() if alone >= _CALL and kernels.worth(alone) else None


@cache
def _loaded() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import sha256 as compiled  # noqa: PLC0415
    except ImportError:
        return None
    return compiled if compiled.compiles() else None


def _labels(kind: str, parts: Sequence[Part | Column]) -> tuple[bytes, Table]:
    """What all labels of a batch begin with, and the rest of each, (n, length)."""
    common: list[Part] = []
    for part in parts:
        if isinstance(part, np.ndarray):
            break
        common.append(part)
    rest = parts[len(common) :]
    columns = [column for part in rest for column in _columns(part)]
    heights = {len(part) for part in rest if isinstance(part, np.ndarray)}
    if len(heights) != 1:
        raise LocalError("a batch has one column or more, all of one height")
    (count,) = heights
    body = np.empty((count, sum(column.shape[1] for column in columns)), np.uint8)
    at = 0
    for column in columns:
        body[:, at : (at := at + column.shape[1])] = column
    return label(kind, *common), body


def _keys(compiled: Any, secrets: Table, room: int) -> Words:
    """RFC 5869, 2.2: the extracted keys, (room, 8), or as many as lanes where all are one."""
    if len(secrets) == 1:
        key = np.frombuffer(_extract(secrets.tobytes()), np.uint32)
        return np.tile(key, (compiled.LANES, 1))
    salt = np.zeros((compiled.LANES, DIGEST_BYTES // 4), np.uint32)
    messages = _messages(compiled, b"", secrets, b"", compiled.BLOCK_BYTES)
    keys: Words = compiled.hmacs(salt, messages)
    return keys


def _messages(compiled: Any, before: bytes, body: Table, after: bytes, skipped: int) -> Words:
    """Rows for the kernels: the body, between what all have in common."""
    messages: Words
    room: Table
    messages, room = compiled.rows(len(body), before, body.shape[1], after, skipped)
    room[:] = body
    return messages


def _bytes_of(blocks: Words, count: int, length: int) -> Table:
    return blocks.view(np.uint8)[:count, :length]


def _columns(part: Part | Column) -> tuple[Table, ...]:
    """`_prefixed` of every row, side by side; one row stands for as many."""
    if not isinstance(part, np.ndarray):
        return (np.frombuffer(_prefixed(part), np.uint8)[None],)
    if part.ndim == 1 and part.dtype.kind in "iu":
        if part.dtype.kind == "i" and part.min(initial=0) < 0:
            raise LocalError("not a part of a label: a negative number")
        part = part.astype(">u8").view(np.uint8).reshape(len(part), 8)
    rows = _checked(part, "a column of byte strings")
    size = np.frombuffer(rows.shape[1].to_bytes(4, "big"), np.uint8)
    return size[None], rows


def _checked(rows: object, what: str) -> Table:
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2:
        raise LocalError(f"{what}: rows of bytes, not {type(rows).__name__}")
    return rows


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
