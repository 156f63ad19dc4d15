"""How a state becomes bytes for its party's own store, and back. Secrets are in them.

A running sum is long: 80 MB for 20 million values. Where a store wants it, it stays outside
of the encoding, as a view of the memory that it is in, and is written from there piece by
piece; where it is read back, the memory that it was read into becomes the sum. The idea is
that of pickle's out-of-band buffers (PEP 574).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from secagg.errors import LocalError
from secagg.ring import RingVector


class Dump(NamedTuple):
    """A state apart from its vectors, which are views of the memory that the party works in:
    whoever keeps one for longer than a call copies them.
    """

    head: bytes
    vectors: tuple[memoryview, ...]

    def __repr__(self) -> str:
        return f"<Dump with {len(self.vectors)} vectors>"


def dump(state: msgspec.Struct) -> Dump:
    """The state, in two parts."""
    vectors: list[memoryview] = []

    def outside(value: Any) -> tuple[int, int]:
        bits, words = _vector(value)
        vectors.append(words)
        return bits, len(vectors) - 1

    return Dump(msgspec.msgpack.Encoder(enc_hook=outside).encode(state), tuple(vectors))


def encode(state: msgspec.Struct) -> bytes:
    """The state as one piece of bytes, a copy of everything."""
    return _encoder.encode(state)


def load(
    stored: bytes, states: Any, role: str, vectors: Sequence[bytes | bytearray | memoryview] = ()
) -> Any:
    """The state, one of the union `states`: of `encode`, or of a `Dump`'s two parts.

    What can be written to in `vectors` becomes part of the state, without a copy. Raises
    LocalError where it is not a state of this role.
    """

    def decode_vector(_kind: type, raw: Any) -> RingVector:
        bits, data = raw
        if type(data) is int:
            return RingVector.from_state(bits, vectors[data], adopt=True)
        return RingVector.from_state(bits, data)

    try:
        return msgspec.msgpack.decode(stored, type=states, dec_hook=decode_vector)
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError):
        raise LocalError(f"not a stored state of a {role}") from None


def _vector(value: Any) -> tuple[int, memoryview]:
    if isinstance(value, RingVector):
        return value.to_state()
    raise TypeError(type(value).__name__)


_encoder = msgspec.msgpack.Encoder(enc_hook=_vector)
