"""The strict codec: one encoding a value, and DecodeError for everything else."""

import enum
import math
import struct
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import protocols.masking.messages as masking_messages
from secagg import codec
from secagg.codec import Bytes16, Bytes32, Count, PartyId, decode, encode
from secagg.errors import DecodeError


class Note(codec.Value, frozen=True, tag="note"):
    count: Count
    body: bytes


class Post(codec.Value, frozen=True, tag="post"):
    party: PartyId
    short: Bytes16
    long: Bytes32
    name: str
    notes: tuple[Note, ...] = ()


class Flag(codec.Value, frozen=True, tag="flag"):
    on: bool
    maybe: int | None = None


class Real(codec.Value, frozen=True, tag="real"):
    value: float


class Tree(codec.Value, frozen=True):
    branches: tuple["Tree", ...]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Paint(codec.Value, frozen=True):
    colour: Colour


class Table(codec.Value, frozen=True):
    rows: dict[int, bytes]


Message = Note | Post | Flag | Real
KINDS: list[Any] = [Message, Note, Post, Flag, Real, Tree, object]

notes = st.builds(Note, st.integers(0, 2**53), st.binary(max_size=40))
posts = st.builds(
    Post,
    st.integers(1, 2**31 - 2),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.text(max_size=40),
    st.lists(notes, max_size=5).map(tuple),
)
flags = st.builds(Flag, st.booleans(), st.none() | st.integers(-(2**63), 2**64 - 1))
reals = st.builds(Real, st.floats(allow_nan=False))
messages = st.one_of(notes, posts, flags, reals)


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def packed_note(count: str, body: str, tag: str = "a46e6f7465", head: str = "93") -> bytes:
    """A note from the encodings of its pieces, in hex."""
    return bytes.fromhex(head + tag + count + body)


@given(messages)
def test_decode_is_the_inverse_of_encode(value: Any) -> None:
    data = encode(value)
    again = decode(data, Message)
    assert again == value
    assert type(again) is type(value)
    assert encode(again) == data


def test_a_known_encoding() -> None:
    """An array of tag and fields, each in MessagePack's shortest form."""
    assert encode(Note(1, b"ab")) == packed_note("01", "c4026162")
    assert encode(Flag(True)) == bytes.fromhex("93a4666c6167c3c0")


@pytest.mark.parametrize("wrap", [bytearray, memoryview])
def test_any_buffer_decodes(wrap: Any) -> None:
    assert decode(wrap(encode(Note(1, b"ab"))), Note) == Note(1, b"ab")


@settings(max_examples=300)
@given(st.binary(max_size=80), st.sampled_from(KINDS))
@example(b"", Message)
@example(b"\xc1", object)
@example(b"\xd7\xff" + b"\xff" * 8, object)  # a timestamp out of range
def test_random_bytes_raise_nothing_but_decode_error(data: bytes, kind: Any) -> None:
    try:
        value = decode(data, kind)
    except DecodeError:
        return
    assert encode(value) == data


@settings(max_examples=300)
@given(messages, st.data())
def test_damaged_messages_decode_to_something_else_or_not_at_all(value: Any, data: Any) -> None:
    raw = bytearray(encode(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        again = decode(bytes(raw), Message)
    except DecodeError:
        return
    assert again != value or math.copysign(1, again.value) != math.copysign(1, value.value)


@given(messages, st.binary(min_size=1, max_size=8))
def test_leftovers_are_refused(value: Any, extra: bytes) -> None:
    with pytest.raises(DecodeError, match="not a valid encoding"):
        decode(encode(value) + extra, Message)


@settings(max_examples=30)
@given(messages)
def test_every_truncation_is_refused(value: Any) -> None:
    data = encode(value)
    for size in range(len(data)):
        with pytest.raises(DecodeError, match="truncated"):
            decode(data[:size], Message)


SHORT, LONG = bytes(16), bytes(32)
WRONG = {
    "an additional field": (["note", 1, b"", 2], "length"),
    "a missing field": (["note", 1], "length"),
    "no field": (["note"], "length"),
    "nothing": ([], "length"),
    "a map": ({"type": "note", "count": 1, "body": b""}, "Expected `array`"),
    "nil": (None, "Expected `array`"),
    "an unknown tag": (["nope", 1, b""], "an unknown kind of message"),
    "a tag of another type": ([7, 1, b""], "Expected `str`"),
    "a string for an integer": (["note", "1", b""], "Expected `int`"),
    "a float for an integer": (["note", 1.0, b""], "Expected `int`"),
    "a boolean for an integer": (["note", True, b""], "Expected `int`"),
    "nil for an integer": (["note", None, b""], "Expected `int`"),
    "a string for bytes": (["note", 1, "AAAA"], "Expected `bytes`"),
    "a list for bytes": (["note", 1, [1, 2]], "Expected `bytes`"),
    "bytes for a string": (["post", 1, SHORT, LONG, b"name", []], "Expected `str`"),
    "an integer for a boolean": (["flag", 1, None], "Expected `bool`"),
    "a negative count": (["note", -1, b""], ">= 0"),
    "a count too large": (["note", 2**53 + 1, b""], "<= 9007199254740992"),
    "the largest integer": (["note", 2**64 - 1, b""], "<= 9007199254740992"),
    "the server as a party": (["post", 0, SHORT, LONG, "", []], ">= 1"),
    "a party that is no point": (["post", 2**31 - 1, SHORT, LONG, "", []], "<= 2147483646"),
    "15 bytes": (["post", 1, SHORT[1:], LONG, "", []], "length >= 16"),
    "17 bytes": (["post", 1, SHORT + b"\0", LONG, "", []], "length <= 16"),
    "31 bytes": (["post", 1, SHORT, LONG[1:], "", []], "length >= 32"),
    "33 bytes": (["post", 1, SHORT, LONG + b"\0", "", []], "length <= 32"),
    "another type inside": (["post", 1, SHORT, LONG, "", [["post", 1, b""]]], "unknown kind"),
    "an untagged inner value": (["post", 1, SHORT, LONG, "", [[1, b""]]], "not a valid"),
    "an integer for a float": (["real", 1], "another encoding"),
    "a default left out": (["flag", True], "another encoding"),
    "an extension": (["note", 1, msgspec.msgpack.Ext(5, b"")], "Expected `bytes`"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_values_are_refused(wrong: str) -> None:
    value, message = WRONG[wrong]
    with pytest.raises(DecodeError, match=message):
        decode(pack(value), Message)


@pytest.mark.parametrize("kind", [Post, Flag])
def test_a_message_of_another_kind_is_refused(kind: Any) -> None:
    with pytest.raises(DecodeError, match=r"unknown kind|length"):
        decode(encode(Note(1, b"")), kind)


OTHER = {
    "int as uint8": packed_note("cc01", "c400"),
    "int as uint16": packed_note("cd0001", "c400"),
    "int as uint32": packed_note("ce00000001", "c400"),
    "int as uint64": packed_note("cf0000000000000001", "c400"),
    "int as int8": packed_note("d001", "c400"),
    "int as int64": packed_note("d30000000000000001", "c400"),
    "bin16": packed_note("01", "c5000161"),
    "bin32": packed_note("01", "c60000000161"),
    "str8 tag": packed_note("01", "c400", tag="d9046e6f7465"),
    "str16 tag": packed_note("01", "c400", tag="da00046e6f7465"),
    "str32 tag": packed_note("01", "c400", tag="db000000046e6f7465"),
    "array16": packed_note("01", "c400", head="dc0003"),
    "array32": packed_note("01", "c400", head="dd00000003"),
    "a single float": b"\x92\xa4real\xca" + struct.pack(">f", 1.0),
}


@pytest.mark.parametrize("other", OTHER)
def test_another_encoding_of_a_value_is_refused(other: str) -> None:
    assert isinstance(msgspec.msgpack.decode(OTHER[other], type=Message), Note | Real)
    with pytest.raises(DecodeError, match="another encoding of the same value"):
        decode(OTHER[other], Message)


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(DecodeError, match="another encoding"):
        decode(bytes.fromhex("918201c40001c400"), Table)


def test_no_message_has_a_map_because_the_order_of_its_keys_is_free() -> None:
    assert decode(encode(Table({2: b"", 1: b""})), Table) == Table({1: b"", 2: b""})
    messages = [*masking_messages.Message.__subclasses__(), masking_messages.Keys]
    assert len(messages) > 6
    for message in messages:
        assert "dict" not in str(typing.get_type_hints(message))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0, -0.0, 5e-324])
def test_every_double_has_its_own_encoding(value: float) -> None:
    again = decode(encode(Real(value)), Real).value
    assert struct.pack(">d", again) == struct.pack(">d", value)


@pytest.mark.parametrize("bits", ["7ff8000000000000", "7ff0000000000001", "ffffffffffffffff"])
def test_nan_is_refused_or_keeps_its_bits(bits: str) -> None:
    data = b"\x92\xa4real\xcb" + bytes.fromhex(bits)
    try:
        value = decode(data, Real)
    except DecodeError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    "data",
    [b"\x93\xa4\xff\xff\xff\xff\x01\xc4\x00", bytes.fromhex("96a4706f737401") + b"\xc4\x10" + SHORT
     + b"\xc4\x20" + LONG + b"\xa2\xc3\x28\x90"],
    ids=["in a tag", "in a field"],
)  # fmt: skip
def test_a_string_that_is_not_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        decode(data, Message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("byte", [b"\x91", b"\x81", b"\xdd\0\0\0\x01", b"\x92"])
@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
def test_a_nesting_bomb_is_refused(kind: Any, byte: bytes, depth: int) -> None:
    with pytest.raises(DecodeError):
        decode(byte * depth, kind)


@pytest.mark.parametrize("kind", [Tree, object])
def test_closed_nesting_decodes_or_is_refused(kind: Any) -> None:
    """Also where decoding just fits in the stack: encoding again must not fail then."""
    step = b"\x91\x91" if kind is Tree else b"\x91"
    last = b"\x91\x90" if kind is Tree else b"\x90"
    outcomes = set()
    for depth in (*range(1, 400, 13), *range(400, 1100), 5000):
        data = step * depth + last
        try:
            outcomes.add(encode(decode(data, kind)) == data)
        except DecodeError as error:
            outcomes.add("recursion" in str(error))
    assert outcomes == {True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["dd", "df", "c6", "db", "c9"])
def test_a_huge_length_is_refused_without_memory(kind: Any, head: str) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(head + "ffffffff"), kind)
    inside = b"\x93\xa4note" + bytes.fromhex(head + "ffffffff")
    with pytest.raises(DecodeError):
        decode(inside, kind)


SECRETS = [
    (["note", "SECRET", b""], Message),
    (["SECRET", 1, b""], Message),
    (["note", 1, "SECRET"], Message),
    ([{"SECRET": 1}], Note),
    ({"SECRET": 1}, Message),
    ([["SECRET"]], Tree),
]


@pytest.mark.parametrize(("value", "kind"), SECRETS)
def test_the_reason_quotes_nothing(value: object, kind: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(pack(value), kind)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_reason_quotes_no_enum_value() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(pack(["SECRET"]), Paint)
    assert "SECRET" not in str(caught.value)


@given(messages)
def test_a_repr_shows_the_type_only(value: Any) -> None:
    name = type(value).__name__
    assert repr(value) == str(value) == f"{value}" == f"<{name}>"
    assert list(value.__rich_repr__()) == []


def test_values_are_frozen_and_hashable() -> None:
    note = Note(1, b"")
    with pytest.raises(AttributeError):
        note.count = 2  # type: ignore[misc]
    assert hash(note) == hash(Note(1, b""))
