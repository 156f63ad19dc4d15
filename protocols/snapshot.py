"""How a state becomes bytes for its party's own store, and back. Secrets are in them."""

from typing import Any

import msgspec

from secagg.errors import LocalError
from secagg.ring import RingVector


def dump(state: msgspec.Struct) -> bytes:
    """The state as bytes."""
    return _encoder.encode(state)


def load(snapshot: bytes, states: Any, role: str) -> Any:
    """The state, one of the union `states`. LocalError where it is not one of this role."""
    try:
        return msgspec.msgpack.decode(snapshot, type=states, dec_hook=_decode_vector)
    except (msgspec.MsgspecError, ValueError, TypeError):
        raise LocalError(f"not a stored state of a {role}") from None


def _encode_vector(value: Any) -> Any:
    if isinstance(value, RingVector):
        return value.to_state()
    raise TypeError(type(value).__name__)


def _decode_vector(_kind: type, raw: Any) -> RingVector:
    bits, data = raw
    return RingVector.from_state(bits, data)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_vector)
