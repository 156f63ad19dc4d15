"""Labels, digests and key derivation: every domain separation string is made here.

A label is a list of parts, each with its length in front, so that two different lists never
give the same bytes. Derivation is HKDF with SHA-256 (RFC 5869), without salt: every input
is a uniform 32-byte seed, or what a key agreement gave.

A round derives hundreds of thousands of keys, so HMAC (RFC 2104) is spelled out over OpenSSL's
SHA-256 and the two hash states of the empty salt are made once: half the time of a library
call, most of which is not hashing. The tests compare the two. Batches whose labels are alike in
types and lengths go through a kernel (`secagg.kernels.sha256`) instead, with labels that are
made column by column; what is left is sorted into such batches. The bytes are the same.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg import kernels
from secagg.errors import LocalError

VERSION = "secagg/1"
DIGEST_BYTES = 32
LEAST_TOGETHER = 48
"""Items for which a kernel is faster than a loop: fewer of derivation, more of digests."""

Part = bytes | str | int
"""Integers are 8 bytes, big-endian, and not negative; strings are UTF-8. LocalError otherwise."""

Table = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

_MOST_BYTES = 255 * DIGEST_BYTES
_LONG = 1 << 16
_DIGEST, _DERIVATION = 1500, 5000  # nanoseconds, with hashlib
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
    prefix, lists = label(kind, *common), list(each)
    if (compiled := _compiled(len(lists), _DIGEST)) is not None:
        if (columns := _columns(lists)) is not None:
            return _digest_alike(compiled, prefix, len(lists), columns)
        if len(groups := _groups(map(_shape, lists))) > 1:
            return _merged(groups, lambda of: digests(kind, common, [lists[i] for i in of]))
    begun = sha256(prefix)
    results = []
    for parts in lists:
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
    if (compiled := _one_block(secrets, length)) is not None:
        columns, sizes = _columns(parts), list(map(len, secrets))
        if columns is not None and len(set(sizes)) == 1:
            return _derive_alike(compiled, secrets, prefix, columns, length)
        if len(groups := _groups(zip(sizes, map(_shape, parts), strict=True))) > 1:
            return _merged(
                groups,
                lambda of: derive_many(
                    [secrets[i] for i in of],
                    kind,
                    [parts[i] for i in of],
                    common=common,
                    length=length,
                ),
            )
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


def _one_block(secrets: Sequence[bytes], length: int) -> Any:
    """The kernels, if they are worth it and derive keys of this length from these."""
    fits = type(length) is int and 0 <= length <= DIGEST_BYTES
    if not fits or not set(map(type, secrets)) <= {bytes}:
        return None
    return _compiled(len(secrets), _DERIVATION)


def _compiled(count: int, nanoseconds: int) -> Any:
    """The kernels, if they are worth it for so many items that take so long without."""
    return _loaded() if count >= LEAST_TOGETHER and kernels.worth(count * nanoseconds) else None


@cache
def _loaded() -> Any:
    """The compiled kernels, or None where they cannot be used. Imports numba when called."""
    try:
        from secagg.kernels import sha256 as compiled  # noqa: PLC0415
    except ImportError:
        return None
    return compiled if compiled.compiles() else None


def _derive_alike(
    compiled: Any, secrets: Sequence[bytes], prefix: bytes, columns: list[Table], length: int
) -> list[bytes]:
    """`derive_many` for secrets of one length, labels of one shape and one block of output."""
    table = _filled(compiled, len(secrets), prefix, columns, b"\1", compiled.BLOCK_BYTES)
    blocks = compiled.hmacs(_keys(compiled, secrets, len(table)), table)
    return _cut(blocks, len(secrets), length)


def _keys(compiled: Any, secrets: Sequence[bytes], room: int) -> Words:
    """The extracted keys, (room, 8), of which one is enough if all secrets are one object."""
    held = list(secrets)  # so that no two have the same place in memory
    objects = np.fromiter(map(id, held), np.uint64, len(held))
    first = np.flatnonzero(np.append(True, objects[1:] != objects[:-1]))
    distinct = _extracted(compiled, [held[at] for at in first.tolist()])
    if len(distinct) == 1:
        return np.tile(distinct, (compiled.LANES, 1))
    keys = np.zeros((room, DIGEST_BYTES // 4), np.uint32)
    keys[: len(held)] = np.repeat(distinct, np.diff(first, append=len(held)), axis=0)
    return keys


def _extracted(compiled: Any, secrets: Sequence[bytes]) -> Words:
    """RFC 5869, 2.2, for secrets of one length: (n, 8)."""
    if len(secrets) < LEAST_TOGETHER:
        raw = np.frombuffer(b"".join(map(_extract, secrets)), np.uint32)
        return raw.reshape(len(secrets), DIGEST_BYTES // 4)
    columns = [_stacked(secrets)]
    table = _filled(compiled, len(secrets), b"", columns, b"", compiled.BLOCK_BYTES)
    salt = np.zeros((compiled.LANES, DIGEST_BYTES // 4), np.uint32)
    keys: Words = compiled.hmacs(salt, table)
    return keys[: len(secrets)]


def _digest_alike(compiled: Any, prefix: bytes, count: int, columns: list[Table]) -> list[bytes]:
    """`digests` for labels of one shape."""
    whole = len(prefix) // compiled.BLOCK_BYTES * compiled.BLOCK_BYTES
    table = _filled(compiled, count, prefix[whole:], columns, b"", whole)
    start = compiled.state_after(prefix[:whole])
    return _cut(compiled.digests(start, table), count, DIGEST_BYTES)


def _filled(
    compiled: Any, count: int, before: bytes, columns: list[Table], after: bytes, skipped: int
) -> Words:
    """Messages for the kernels: the columns side by side, between what all have in common."""
    width = sum(column.shape[1] for column in columns)
    table: Words
    room: Table
    table, room = compiled.rows(count, before, width, after, skipped)
    at = 0
    for column in columns:
        room[:, at : at + column.shape[1]] = column
        at += column.shape[1]
    return table


def _cut(blocks: Words, count: int, length: int) -> list[bytes]:
    raw = blocks.tobytes()
    return [raw[at : at + length] for at in range(0, count * DIGEST_BYTES, DIGEST_BYTES)]


def _columns(lists: Sequence[Sequence[Part]]) -> list[Table] | None:
    """`_prefixed` of every first part, of every second one, …; None unless each is all of one
    length, and for a part that no label has.
    """
    if len(set(map(len, lists))) != 1:
        return None
    columns = []
    for parts in zip(*lists, strict=True):
        if (column := _column(parts)) is None:
            return None
        columns.append(column)
    return columns


def _column(parts: Sequence[Any]) -> Table | None:
    """See `_columns`; one row for all stands for as many."""
    types = set(map(type, parts))
    if types == {bytes} and len(set(map(len, parts))) == 1:
        data = _stacked(parts)
    elif types == {int}:
        try:
            data = np.array(parts, ">u8").view(np.uint8).reshape(len(parts), 8)
        except OverflowError:
            return None
    elif types == {str} and len(set(parts)) == 1:
        return np.frombuffer(_prefixed(parts[0]), np.uint8)[None]
    else:
        return None
    size = np.frombuffer(data.shape[1].to_bytes(4, "big"), np.uint8)
    return np.hstack([np.broadcast_to(size, (len(data), 4)), data])


def _stacked(parts: Sequence[bytes]) -> Table:
    return np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), len(parts[0]))


def _shape(parts: Sequence[Part]) -> Hashable:
    """The same for lists whose labels are alike."""
    return tuple([len(p) if type(p) is bytes else p if type(p) is str else type(p) for p in parts])


def _groups(shapes: Iterable[Hashable]) -> list[list[int]]:
    """The places of equal shapes."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for at, shape in enumerate(shapes):
        found[shape].append(at)
    return list(found.values())


def _merged(groups: list[list[int]], work: Callable[[list[int]], list[bytes]]) -> list[bytes]:
    """What `work` makes of each group, at the places of the group."""
    results = [b""] * sum(map(len, groups))
    for places in groups:
        for at, result in zip(places, work(places), strict=True):
            results[at] = result
    return results


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
