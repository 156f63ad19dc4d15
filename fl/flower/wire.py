"""What travels in Flower's messages: one strict struct, and the machines' bytes beside it.

The struct is in a ConfigRecord, the bytes in an ArrayRecord, which Flower sends in chunks.
Both are taken out before the app, or another mod, sees the message.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from secagg.codec import Bytes32, Count, Value, decode, encode
from secagg.errors import DecodeError, SecaggError

RECORD = "secagg"
BYTES = "secagg.bytes"
VERSION = 3

T = TypeVar("T", bound=Value)


class Refusal(SecaggError):  # noqa: N818 - what the docs call it
    """What one end will not take part in. Its text may be told to the other end."""

    code = "refused"


class Offer(Value, frozen=True):
    """A session to join: its parameters, to be compared with one's own for vectors of this
    length, the nodes of clients and of helpers in order of their numbers, clients first, and the
    recipient's own number.

    nodes is empty and number 0 where members have a roster of their own.
    """

    session: Bytes32
    protocol: str
    parameters: bytes
    length: Count
    nodes: tuple[int, ...]
    helpers: tuple[int, ...]
    number: Count


class Step(Value, frozen=True):
    """So many of the message's byte strings are for this session's machine."""

    session: Bytes32
    count: Count


class Request(Value, frozen=True):
    """From the server, in a stage of `session`: sessions to join, and steps of that session and
    of later ones. Without a session it asks only whether the node is a helper.

    open: the sessions that are not over; the others are to be forgotten. failed: those of late
    that ended before anybody was to be asked for a last word; in any other that is over an update
    may be known in a sum, whether its node was asked or not. attempt: which one at this model,
    from 1, and application: the server's own digest of what is trained, a hint that names a
    mismatch, where the message has a model; 0 and empty elsewhere.
    """

    version: int
    stage: str
    session: bytes
    open: tuple[Bytes32, ...]
    failed: tuple[Bytes32, ...]
    offers: tuple[Offer, ...]
    steps: tuple[Step, ...]
    attempt: Count
    application: bytes


class Named(Value, frozen=True):
    """One metric: its name, and how many numbers it has, None where it is not a list."""

    name: str
    numbers: Count | None


class Schema(Value, frozen=True):
    """What a client's vector means: names and counts, never a value."""

    arrays: str
    metrics: str
    names: tuple[Named, ...]

    def __str__(self) -> str:
        return f"{self.metrics}: {', '.join(each.name for each in self.names)}"


class Parcel(Value, frozen=True):
    """So many of the message's byte strings belong to this session, from this number."""

    session: Bytes32
    number: Count
    count: Count


class Reply(Value, frozen=True):
    """From a node: whether it is a helper, what its machines say, and what its upload means."""

    version: int
    helper: bool
    parcels: tuple[Parcel, ...]
    schema: Schema | None


def pack(body: Value, data: Iterable[bytes]) -> RecordDict:
    """The records of one message."""
    records = RecordDict({RECORD: ConfigRecord({"body": encode(body)})})
    arrays = {str(i): _array(each) for i, each in enumerate(data)}
    if arrays:
        records[BYTES] = ArrayRecord(arrays)
    return records


def is_ours(content: RecordDict) -> bool:
    """Whether the other end speaks this protocol at all."""
    return RECORD in content.config_records


def unpack(content: RecordDict, kind: type[T]) -> tuple[T, tuple[bytes, ...]]:
    """The struct and the byte strings. Raises Refusal for another version, DecodeError."""
    raw = content.config_records[RECORD].get("body")
    if not isinstance(raw, bytes):
        raise DecodeError("not a message of this adapter")
    arrays = content.array_records.get(BYTES, ArrayRecord())
    return _decode(raw, kind), tuple(array.data for array in arrays.values())


def without_ours(content: RecordDict) -> RecordDict:
    """The app's own records, which are shared and not copied."""
    return RecordDict({k: v for k, v in content.items() if k not in (RECORD, BYTES)})


def shared_out(parcels: Sequence[Parcel | Step], data: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Each parcel's byte strings. Raises DecodeError where they are not all of them."""
    out, start = [], 0
    for parcel in parcels:
        out.append(data[start : start + parcel.count])
        start += parcel.count
    if start != len(data):
        raise DecodeError("another number of byte strings than announced")
    return out


def _decode(raw: bytes, kind: type[T]) -> T:
    try:
        body = decode(raw, kind)
    except DecodeError:
        raise _other_version("another version") from None
    version = getattr(body, "version", VERSION)
    if version != VERSION:
        raise _other_version(f"version {version}")
    return body


def _other_version(what: str) -> Refusal:
    return Refusal(
        f"{what} of the adapter, and this end has {VERSION}; install the same at both ends"
    )


def _array(data: bytes) -> Array:
    return Array(dtype="uint8", shape=(len(data),), stype="secagg.bytes", data=data)
