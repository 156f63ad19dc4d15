"""Vectors of the codec: each message of masking, and bytes that are none."""

from collections.abc import Iterator
from typing import Any

from tests.reference.errors import Decode
from tests.reference.labels import sha256
from tests.reference.wire import FIELDS, RANGES, Message, decode, pack
from tests.vectors.files import Vectors, refused

CONTEXT = sha256(b"context")
Fields = dict[str, Any]


def _b32(name: str) -> bytes:
    return sha256(name.encode())


KEYS = [[2, _b32("n2"), b"\x02" * 32, b""], [300, _b32("n300"), b"\x03" * 32, b"\x04" * 64]]
EXAMPLES: list[tuple[str, Fields]] = [
    ("advert", {"nonce": _b32("n"), "channel_key": _b32("k"), "signature": b""}),
    ("advert", {"nonce": _b32("n"), "channel_key": bytes(1216), "signature": bytes(3309)}),
    (
        "cohort",
        {
            "size": 3,
            "graph_seed": _b32("g"),
            "root": _b32("r"),
            "index": 127,
            "path": [_b32("p"), _b32("q")],
            "neighbours": KEYS,
        },
    ),
    (
        "cohort",
        {
            "size": 2**53,
            "graph_seed": _b32("g"),
            "root": _b32("r"),
            "index": 128,
            "path": [_b32(str(i)) for i in range(16)],
            "neighbours": [],
        },
    ),
    (
        "shares",
        {
            "mask_commitment": _b32("m"),
            "self_commitment": _b32("s"),
            "own_fingerprint": bytes(16),
            "mask_fingerprints": bytes(32),
            "self_fingerprints": bytes(range(32)),
            "sealed": [bytes(120), bytes(1208)],
        },
    ),
    ("inbox", {"delivered": [[1, b"\x01" * 120], [2**31 - 2, b""]]}),
    ("inbox", {"delivered": []}),
    ("upload", {"index": 0, "packed": bytes(255), "links": b""}),
    ("upload", {"index": 255, "packed": bytes(256), "links": bytes(64)}),
    ("upload", {"index": 256, "packed": bytes(65536), "links": b""}),
    ("upload", {"index": 65536, "packed": b"\x07", "links": b""}),
    ("upload", {"index": 2**32, "packed": b"\x07", "links": b""}),
    ("survivor-set", {"survivors": b"\xff\x01"}),
    ("confirmation", {"signature": bytes(64)}),
    ("unmask-request", {"survivors": list(range(1, 20)), "uploads": 19}),
    ("unmask-proof", {"signatures": [[1, bytes(64)], [2, bytes(3309)]]}),
    ("unmask-answer", {"self_shares": bytes(72), "mask_shares": b""}),
]


def message_vectors() -> Vectors:
    return {
        "message": [
            {
                "tag": tag,
                "context": CONTEXT.hex(),
                "fields": _plain(fields),
                "encoded": Message(tag, CONTEXT, **fields).encoded().hex(),
            }
            for tag, fields in EXAMPLES
        ],
        "negative": [_refused(why, tag, data) for why, tag, data in _bad()],
    }


def _refused(why: str, tag: str, data: bytes) -> Vectors:
    try:
        decode(data, [tag])
    except Decode as error:
        return refused("decode", error.name, error.reason, why=why, tag=tag, data=data.hex())
    raise AssertionError(why)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _bad() -> Iterator[tuple[str, str, bytes]]:
    seen = set()
    for tag, fields in EXAMPLES:
        if tag not in seen:
            seen.add(tag)
            yield from _bad_shapes(tag, fields)
            yield from _bad_fields(tag, fields)
    yield from _bad_encodings()


def _bad_shapes(tag: str, fields: Fields) -> Iterator[tuple[str, str, bytes]]:
    body = [CONTEXT, *fields.values()]
    good = pack([tag, *body])
    yield "cut off", tag, good[:-1]
    yield "a byte more", tag, good + b"\0"
    yield "a field less", tag, pack([tag, *body[:-1]])
    yield "a field more", tag, pack([tag, *body, 0])
    yield "a short context", tag, pack([tag, CONTEXT[1:], *body[1:]])


def _bad_fields(tag: str, fields: Fields) -> Iterator[tuple[str, str, bytes]]:
    """Each field once of another type, and once out of its range."""
    for name, kind in FIELDS[tag].items():
        wrong: dict[str, Any] = {"of another type": "text"}
        if kind in ("b32", "b16"):
            wrong["a byte longer"] = fields[name] + b"\0"
        elif isinstance(kind, str) and kind in RANGES:
            wrong["out of range"] = RANGES[kind][1] + 1
        elif isinstance(kind, list):
            wrong |= _bad_items(kind[0])
        for why, value in wrong.items():
            changed = [value if each == name else fields[each] for each in FIELDS[tag]]
            yield f"{name} {why}", tag, pack([tag, CONTEXT, *changed])


def _bad_items(kind: Any) -> Fields:
    if kind == "party":
        return {"with nobody": [0], "with a number too large": [2**31 - 1]}
    if kind in ("b32", "bytes"):
        return {"with a number": [1]}
    good = {"party": 1, "b32": CONTEXT, "bytes": b""}
    item = [good[each] for each in kind]
    return {
        "with an item too short": [item[:-1]],
        "with an item too long": [[*item, 0]],
        "with party 0": [[0, *item[1:]]],
    }


def _bad_encodings() -> Iterator[tuple[str, str, bytes]]:
    tag, fields = "upload", {"index": 5, "packed": b"\x07", "links": b""}
    good = Message(tag, CONTEXT, **fields).encoded()
    context = b"\xc4\x20" + CONTEXT

    def upload(index: bytes, packed: bytes = b"\xc4\x01\x07", links: bytes = b"\xc4\0") -> bytes:
        return b"\x95\xa6upload" + context + index + packed + links

    assert upload(b"\x05") == good
    yield "nothing", tag, b""
    yield "another tag", tag, b"\x95\xa6uploae" + good[8:]
    yield "a tag of another message", tag, pack(["confirmation", CONTEXT, b""])
    yield "a tag that is bytes", tag, b"\x95\xc4\x06upload" + good[8:]
    yield "a longer form of the array", tag, b"\xdc\0\x05" + good[1:]
    yield "a longer form of the tag", tag, b"\x95\xd9\x06upload" + good[8:]
    yield "a longer form of the context", tag, b"\x95\xa6upload\xc5\0\x20" + good[10:]
    yield "a number in two bytes", tag, upload(b"\xcc\x05")
    yield "a number in nine bytes", tag, upload(b"\xcf" + bytes(7) + b"\x05")
    yield "a signed number", tag, upload(b"\xd0\x05")
    yield "a negative number", tag, upload(b"\xff")
    yield "a float", tag, upload(b"\xca\x40\xa0\0\0")
    yield "true", tag, upload(b"\xc3")
    yield "nil", tag, upload(b"\xc0")
    yield "a number beyond 2^53", tag, upload(b"\xcf" + (2**53 + 1).to_bytes(8, "big"))
    yield "bytes in a longer form", tag, upload(b"\x05", b"\xc5\0\x01\x07")
    yield "a string for bytes", tag, upload(b"\x05", b"\xa1\x07")
    yield "bytes that end too soon", tag, upload(b"\x05", b"\xc4\x01\x07", b"\xc4\x01")
    yield "an extension", tag, upload(b"\x05", b"\xd4\x01\x07")
    yield "a map", tag, b"\x85" + good[1:]
    yield "an array of arrays", tag, b"\x91" + good
    yield "a number only", tag, b"\x05"
    yield "a tag that is not UTF-8", tag, b"\x95\xa6\xff\xffload" + good[8:]
    yield "a reserved byte", tag, b"\xc1"
