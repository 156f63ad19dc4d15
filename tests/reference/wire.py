"""The codec: the subset of MessagePack of spec section 2, and the messages of `masking`."""

from collections.abc import Collection
from typing import Any

from tests.reference.errors import Decode

# --- values ------------------------------------------------------------------------------


def pack(value: Any) -> bytes:
    """The one encoding of a whole number, bytes, a string or a list."""
    if isinstance(value, int):
        return _number(value)
    if isinstance(value, bytes):
        return _header(len(value), (), (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, str):
        raw = value.encode("utf-8")
        return _header(len(raw), (0xA0, 32), (0xD9, 0xDA, 0xDB)) + raw
    return _header(len(value), (0x90, 16), (None, 0xDC, 0xDD)) + b"".join(map(pack, value))


def unpack(data: bytes) -> Any:
    """The value, if these are exactly the bytes that `pack` gives for it."""
    value, rest = _read(data)
    if rest or pack(value) != data:
        raise Decode("not a valid encoding")
    return value


def _number(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    width = next(w for w in (1, 2, 4, 8) if value < 256**w)
    return bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[width]]) + value.to_bytes(width, "big")


def _header(length: int, short: tuple[int, ...], codes: tuple[int | None, ...]) -> bytes:
    if short and length < short[1]:
        return bytes([short[0] + length])
    for width, code in zip((1, 2, 4), codes, strict=True):
        if code is not None and length < 256**width:
            return bytes([code]) + length.to_bytes(width, "big")
    raise OverflowError("too long")


_WIDTH = {
    **dict(zip((0xCC, 0xCD, 0xCE, 0xCF), (1, 2, 4, 8), strict=True)),
    **dict(zip((0xC4, 0xC5, 0xC6), (1, 2, 4), strict=True)),
    **dict(zip((0xD9, 0xDA, 0xDB), (1, 2, 4), strict=True)),
    **dict(zip((0xDC, 0xDD), (2, 4), strict=True)),
}


def _read(data: bytes) -> tuple[Any, bytes]:
    code, rest = _take(data, 1)
    first = code[0]
    if first < 0x80:
        return first, rest
    if first & 0xF0 == 0x90:
        return _items(first & 15, rest)
    if first & 0xE0 == 0xA0:
        return _text(first & 31, rest)
    if first not in _WIDTH:
        raise Decode("not a valid encoding")
    raw, rest = _take(rest, _WIDTH[first])
    size = int.from_bytes(raw, "big")
    if first >= 0xDC:
        return _items(size, rest)
    if first >= 0xD9:
        return _text(size, rest)
    return (size, rest) if first >= 0xCC else _take(rest, size)


def _take(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise Decode("not a valid encoding")
    return data[:size], data[size:]


def _text(size: int, data: bytes) -> tuple[str, bytes]:
    raw, rest = _take(data, size)
    try:
        return raw.decode("utf-8"), rest
    except UnicodeDecodeError:
        raise Decode("not a valid encoding") from None


def _items(count: int, data: bytes) -> tuple[list[Any], bytes]:
    items = []
    for _ in range(count):
        item, data = _read(data)
        items.append(item)
    return items, data


# --- messages ----------------------------------------------------------------------------

KEYS = ("party", "b32", "bytes", "bytes")
FIELDS: dict[str, dict[str, Any]] = {
    "advert": {"nonce": "b32", "channel_key": "bytes", "signature": "bytes"},
    "cohort": {
        "size": "count",
        "graph_seed": "b32",
        "root": "b32",
        "index": "count",
        "path": ["b32"],
        "neighbours": [KEYS],
    },
    "shares": {
        "mask_commitment": "b32",
        "self_commitment": "b32",
        "own_fingerprint": "b16",
        "mask_fingerprints": "bytes",
        "self_fingerprints": "bytes",
        "sealed": ["bytes"],
    },
    "inbox": {"delivered": [("party", "bytes")]},
    "upload": {"index": "count", "packed": "bytes", "links": "bytes"},
    "survivor-set": {"survivors": "bytes"},
    "confirmation": {"signature": "bytes"},
    "unmask-request": {"survivors": ["party"], "uploads": "count"},
    "unmask-proof": {"signatures": [("party", "bytes")]},
    "unmask-answer": {"self_shares": "bytes", "mask_shares": "bytes"},
}
RANGES = {"party": (1, 2**31 - 2), "count": (0, 2**53)}


class Message:
    """A message that was decoded, or is about to be encoded."""

    def __init__(self, tag: str, context: bytes, **fields: Any) -> None:
        assert set(fields) == set(FIELDS[tag]), tag
        self.tag, self.context, self.fields = tag, context, fields

    def __getattr__(self, name: str) -> Any:
        return self.fields[name]

    def encoded(self) -> bytes:
        return pack([self.tag, self.context, *(self.fields[n] for n in FIELDS[self.tag])])


def decode(data: bytes, tags: Collection[str]) -> Message:
    """A message with one of these tags. Or Decode."""
    value = unpack(data)
    if not isinstance(value, list) or not value or value[0] not in [*tags]:
        raise Decode("not a valid encoding")
    names = FIELDS[value[0]]
    _check(value[1:], ("b32", *names.values()))
    return Message(value[0], value[1], **dict(zip(names, value[2:], strict=True)))


def _check(value: Any, kind: Any) -> None:
    if isinstance(kind, str):
        good = _is_scalar(value, kind)
    else:
        good = isinstance(value, list) and (isinstance(kind, list) or len(value) == len(kind))
    if not good:
        raise Decode("not a valid encoding")
    if not isinstance(kind, str):
        kinds = kind * len(value) if isinstance(kind, list) else kind
        for item, of in zip(value, kinds, strict=True):
            _check(item, of)


def _is_scalar(value: Any, kind: str) -> bool:
    if kind in RANGES:
        low, high = RANGES[kind]
        return isinstance(value, int) and low <= value <= high
    return isinstance(value, bytes) and (kind == "bytes" or len(value) == int(kind[1:]))
