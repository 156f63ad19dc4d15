"""Changes to bytes and to values, drawn from a generator."""

from random import Random
from typing import Any

import msgspec

INTERESTING = (0, 1, -1, 2, 3, 4, 5, 127, 255, 2**31 - 2, 2**31 - 1, 2**53, 2**53 + 1, 2**64 - 1)
LENGTHS = (0, 1, 15, 16, 31, 32, 33, 36, 63, 64, 104, 120, 1216)


def changed_bytes(rng: Random, data: bytes) -> bytes:
    """One to four changes: bits, bytes, pieces taken out, repeated, cut off or put in."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _CHANGES[rng.randrange(len(_CHANGES))](rng, out)
    return bytes(out)


def _flip(rng: Random, out: bytearray) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set(rng: Random, out: bytearray) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.choice((0, 1, 0x7F, 0x80, 0x90, 0xC0, 0xC4, 0xFF))


def _cut(rng: Random, out: bytearray) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _remove(rng: Random, out: bytearray) -> None:
    at = rng.randrange(len(out) + 1)
    del out[at : at + rng.randrange(1, 9)]


def _repeat(rng: Random, out: bytearray) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = out[at : at + rng.randrange(1, 40)]


def _insert(rng: Random, out: bytearray) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = rng.randbytes(rng.randrange(1, 9))


def _exchange(rng: Random, out: bytearray) -> None:
    half = len(out) // 2
    out[:] = out[half:] + out[:half]


_CHANGES = (_flip, _flip, _flip, _set, _cut, _remove, _repeat, _insert, _exchange)


def changed_message(rng: Random, data: bytes) -> bytes:
    """A message with another value somewhere inside, encoded as values are; or other bytes."""
    if rng.random() < 0.3:
        return changed_bytes(rng, data)
    value = msgspec.msgpack.decode(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(rng, value, depth=0)
    return msgspec.msgpack.encode(value)


def _changed(rng: Random, value: Any, depth: int) -> Any:
    if isinstance(value, list) and value and rng.random() < 0.85:
        return _in_list(rng, value, depth)
    if isinstance(value, bytes) and rng.random() < 0.85:
        return _other_bytes(rng, value)
    if isinstance(value, int) and rng.random() < 0.85:
        near = (value + 1, value - 1, value ^ (1 << rng.randrange(8)))
        return min(max(rng.choice((*INTERESTING, *near)), -(2**63)), 2**64 - 1)
    return _anything(rng)


def _in_list(rng: Random, value: list[Any], depth: int) -> list[Any]:
    out = list(value)
    first = 2 if depth == 0 and len(out) > 2 and rng.random() < 0.9 else 0  # after tag and context
    at = rng.randrange(first, len(out))
    match rng.randrange(12):
        case 0:
            del out[at]
        case 1:
            out.insert(at, out[at])
        case 2:
            other = rng.randrange(first, len(out))
            out[at], out[other] = out[other], out[at]
        case 3:
            out = out[: at + 1]
        case _:
            out[at] = _changed(rng, out[at], depth + 1)
    return out


def _other_bytes(rng: Random, value: bytes) -> bytes:
    match rng.randrange(6):
        case 0:
            return rng.randbytes(len(value))
        case 1:
            return bytes(len(value))
        case 2:
            return b"\xff" * len(value)
        case 3:
            return rng.randbytes(rng.choice(LENGTHS))
        case 4:
            return changed_bytes(rng, value)
    out = bytearray(value)
    _flip(rng, out)
    return bytes(out)


def _anything(rng: Random) -> Any:
    return rng.choice(
        (None, True, 0, -1, 2**63, 1.5, "", "x" * 32, b"", bytes(32), [], [[]], {}, {1: 2}, [b""])
    )


def must(holds: bool) -> None:
    """An assertion about an exception, inside its handler."""
    assert holds
