"""The strict codec: one encoding for each value, and nothing else decodes.

MessagePack through msgspec, with typed structs. A decoder refuses unknown types, missing or
additional fields, values out of their range, leftovers, and every encoding that is not the
one that `encode` produces; so hashing the bytes is hashing the value. (Maps alone may order
their keys freely, so no message has one.)
"""

from typing import Annotated, Any, TypeVar

import msgspec

from secagg.errors import DecodeError

T = TypeVar("T")

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
PartyId = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 2)]
"""A client's number: roster index + 1, so that it is a Shamir point (0 is the server)."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Value(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that is encoded. Its repr shows no field: any of them may be secret."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> Any:
        return iter(())


_encoder = msgspec.msgpack.Encoder()
_LONG = 1 << 16


def encode(value: object) -> bytes:
    """The one encoding of `value`.

    A long one is copied: msgspec allocates half as much again and gives it back at the end, and
    between messages that are kept, the heap keeps what was given back as holes.
    """
    data = _encoder.encode(value)
    return data if len(data) < _LONG else bytes(memoryview(data))


def decode(data: bytes, kind: type[T]) -> T:
    """The `kind` (a struct or a union of tagged structs) that `data` is the encoding of.

    Raises DecodeError, which says what is wrong and never quotes the data.
    """
    try:
        value = msgspec.msgpack.decode(data, type=kind, strict=True)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DecodeError(f"not a valid encoding: {_reason(error)}") from None
    except UnicodeDecodeError:
        raise DecodeError("not a valid encoding: a string is not UTF-8") from None
    if _encoder.encode(value) != data:
        raise DecodeError("not a valid encoding: another encoding of the same value")
    return value


def _reason(error: Exception) -> str:
    """What the decoder says, unless it quotes what the peer sent."""
    text = str(error)
    quotes = text.startswith("Invalid") or "unknown field" in text
    return "an unknown kind of message or value" if quotes else text
