"""The error contract: whatever arrives, the answer names peer, stage and expectation.

Each case plays an honest session up to one message, hands over something else instead, and
then goes on: the machine's state must be the same to the byte, and the session must still end
in the exact sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocols import masking, plain
from protocols.base import SERVER, Begin, Join, Received
from protocols.masking import keys
from protocols.masking.messages import Cohort, Keys, MaskShare, SelfShare
from secagg.codec import encode
from secagg.errors import PeerError, ProtocolAborted
from secagg.graph import neighbours_of
from secagg.merkle import proof, root
from secagg.rng import SeededSource
from secagg.seal import HpkeSealer, suite
from secagg.shamir import SHARE_BYTES
from tests.protocols.scene import LENGTH, STOPS, Scene, Stop, messages_of, plain_stop
from tests.protocols.support import examples, session_of

STAGE = {
    "advert": "advertise",
    "cohort": "share",
    "shares": "share",
    "inbox": "upload",
    "upload": "upload",
    "request": "unmask",
    "answer": "unmask",
}
NAME = {
    "advert": "Advert",
    "cohort": "Cohort",
    "shares": "Shares",
    "inbox": "Inbox",
    "upload": "Upload",
    "request": "UnmaskRequest",
    "answer": "UnmaskAnswer",
}
ENCODING = "not a valid encoding"
PRIME25519 = 2**255 - 19


@cache
def honest(number: int = 0, suite_name: str = "X25519") -> dict[str, bytes]:
    return messages_of(Scene(number=number, suite=suite_name))


def refused(
    stop: Stop, body: Any, reason: str, *, sender: int | None = None, blames: int | None = None
) -> PeerError:
    """Hand `body` over: it is refused, with the blame, and nothing has changed."""
    before, waits = stop.machine.snapshot(), stop.machine.waits_for
    with pytest.raises(PeerError) as caught:
        stop.deliver(body, sender)
    error = caught.value
    who = stop.sender if sender is None else sender
    assert error.peer == (who if blames is None else blames)
    assert error.stage == stop.machine.state.stage
    assert reason in error.reason, error.reason
    assert error.expected
    assert error.code == "peer"
    assert str(error) == (
        f"party {error.peer}, stage {error.stage}: {error.reason}; expected {error.expected}"
    )
    assert stop.machine.snapshot() == before
    assert stop.machine.waits_for == waits
    return error


# --- what every message is tried with ----------------------------------------------------


def array_of(data: bytes) -> list[Any]:
    """The message as plain MessagePack, to be put together wrongly."""
    return msgspec.msgpack.decode(data)


def longer_header(data: bytes) -> bytes:
    """The same value in another encoding: the array's length in two bytes."""
    assert data[0] & 0xF0 == 0x90
    return b"\xdc" + (data[0] & 0x0F).to_bytes(2, "big") + data[1:]


def as_map(data: bytes) -> bytes:
    return msgspec.msgpack.encode(dict(enumerate(array_of(data))))


GENERAL: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda _d: b"", ENCODING),
    "one byte more": (lambda d: d + b"\0", ENCODING),
    "twice in one": (lambda d: d + d, ENCODING),
    "nil": (lambda _d: b"\xc0", ENCODING),
    "reserved byte": (lambda _d: b"\xc1", ENCODING),
    "an integer": (lambda _d: b"\x01", ENCODING),
    "a string that is not UTF-8": (lambda d: b"\x92\xa2\xff\xff" + d[1:], ENCODING),
    "no end of nesting": (lambda _d: b"\x91" * 100_000, ENCODING),
    "a claim of 4 GiB": (lambda _d: b"\xdd\xff\xff\xff\xff", ENCODING),
    "a map": (as_map, ENCODING),
    "an empty array": (lambda _d: b"\x90", ENCODING),
    "no fields": (lambda d: encode(array_of(d)[:1]), ENCODING),
    "a field less": (lambda d: encode(array_of(d)[:-1]), ENCODING),
    "a field more": (lambda d: encode([*array_of(d), 0]), ENCODING),
    "an unknown tag": (lambda d: encode(["hello", *array_of(d)[1:]]), "unknown kind of message"),
    "a tag that is a number": (lambda d: encode([7, *array_of(d)[1:]]), ENCODING),
    "fields of nil": (lambda d: encode([array_of(d)[0], *[None] * 7]), ENCODING),
    "another encoding": (longer_header, "another encoding of the same value"),
    "a short context": (lambda d: encode(_with(d, 1, bytes(31))), ENCODING),
    "a text for the context": (lambda d: encode(_with(d, 1, "c" * 32)), ENCODING),
    "another context": (lambda d: encode(_with(d, 1, bytes(32))), "of another session"),
}


def _with(data: bytes, at: int, value: object) -> list[Any]:
    return [*array_of(data)[:at], value, *array_of(data)[at + 1 :]]


@pytest.mark.parametrize("case", GENERAL)
@pytest.mark.parametrize("name", STOPS)
def test_what_is_not_a_message(name: str, case: str) -> None:
    scene = Scene()
    stop = scene.until(name)
    change, reason = GENERAL[case]
    error = refused(stop, change(stop.data), reason)
    assert (error.stage, NAME[name] in error.expected or "bound" in error.expected) == (
        STAGE[name],
        True,
    )
    scene.finish()


@pytest.mark.parametrize("name", STOPS)
def test_every_proper_prefix(name: str) -> None:
    scene = Scene()
    stop = scene.until(name)
    for end in range(len(stop.data)):
        refused(stop, stop.data[:end], ENCODING)
    scene.finish()


@pytest.mark.parametrize("other", STOPS)
@pytest.mark.parametrize("name", STOPS)
def test_a_message_of_another_stage_or_direction(name: str, other: str) -> None:
    scene = Scene()
    stop = scene.until(name)
    if other != name:
        same_direction = (STOPS.index(other) in (1, 3, 5)) == (STOPS.index(name) in (1, 3, 5))
        reason = f"unexpected {NAME[other]}" if same_direction else "unknown kind of message"
        refused(stop, honest()[other], reason)
    scene.finish()


@pytest.mark.parametrize("name", STOPS)
def test_the_same_message_of_another_session(name: str) -> None:
    scene = Scene()
    error = refused(scene.until(name), honest(number=1)[name], "of another session")
    assert "this session" in error.expected
    scene.finish()


@pytest.mark.parametrize("name", STOPS)
def test_the_same_message_once_more(name: str) -> None:
    scene = Scene()
    stop = scene.until(name)
    stop.machine.handle(Received(stop.sender, stop.data))
    again = {
        "advert": "a second advert",
        "shares": "shared its keys twice",
        "upload": "uploaded twice",
        "answer": "answered twice",
    }
    refused(stop, None, again.get(name, f"unexpected {NAME[name]}"))


STRANGERS = {  # who must not send this, and what is said of it
    "advert": [(0, "not a member"), (-1, "not a member"), (7, "not a member")],
    "cohort": [(1, "only the server"), (2, "only the server"), (99, "only the server")],
    "shares": [(0, "not in the cohort"), (6, "not in the cohort"), (99, "not in the cohort")],
    "inbox": [(1, "only the server"), (2, "only the server")],
    "upload": [(0, "did not share"), (5, "did not share"), (6, "did not share")],
    "request": [(1, "only the server"), (3, "only the server")],
    "answer": [(0, "did not upload"), (4, "did not upload"), (5, "did not upload")],
}


@pytest.mark.parametrize(
    ("name", "sender", "reason"), [(n, *s) for n in STOPS for s in STRANGERS[n]]
)
def test_a_sender_who_has_no_say(name: str, sender: int, reason: str) -> None:
    scene = Scene()
    refused(scene.until(name), None, reason, sender=sender)
    scene.finish()


@pytest.mark.parametrize("name", STOPS[1:])
def test_every_message_replayed_at_every_later_stage(name: str) -> None:
    """To its own recipient, from its own sender: never taken a second time."""
    scene = Scene()
    stop = scene.until(name)
    seen = honest()
    for old in STOPS[: STOPS.index(name)]:
        to_server = old not in ("cohort", "inbox", "request")
        machine = scene.server if to_server else scene.clients[1]
        before = machine.snapshot()
        with pytest.raises(PeerError) as caught:
            machine.handle(Received(1 if to_server else SERVER, seen[old]))
        assert caught.value.reason
        assert machine.snapshot() == before
    assert stop.data
    scene.finish()


# --- each field --------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """`change` makes the wrong message out of the scene and the right one."""

    name: str
    stop: str
    reason: str
    change: Callable[[Scene, Any], Any]
    suite: str = "X25519"

    def __repr__(self) -> str:
        return f"{self.stop}: {self.name}"


def little(point: int) -> bytes:
    return point.to_bytes(32, "little")


LOW_ORDER = (
    0,
    1,
    PRIME25519 - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
NOT_CANONICAL = (PRIME25519, PRIME25519 + 1, PRIME25519 + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1)
HYBRID = "MLKEM768-X25519"


def advert_of(scene: Scene, party: int) -> Keys:
    return scene.server.state.adverts[party]


ADVERT = [
    Case("a short key", "advert", "32 bytes", lambda _s, m: replace(m, mask_key=m.mask_key[:-1])),
    Case("a long key", "advert", "32 bytes", lambda _s, m: replace(m, mask_key=m.mask_key + b"k")),
    Case("an empty key", "advert", "32 bytes", lambda _s, m: replace(m, channel_key=b"")),
    Case("one key twice", "advert", "own", lambda _s, m: replace(m, channel_key=m.mask_key)),
    Case("a short nonce", "advert", ENCODING, lambda _s, m: replace(m, nonce=m.nonce[:-1])),
    Case("a long nonce", "advert", ENCODING, lambda _s, m: replace(m, nonce=m.nonce + b"n")),
    Case(
        "another's mask key",
        "advert",
        "a public key that is not its own",
        lambda s, m: replace(m, mask_key=advert_of(s, 2).mask_key),
    ),
    Case(
        "another's mask key for the channel",
        "advert",
        "a public key that is not its own",
        lambda s, m: replace(m, channel_key=advert_of(s, 3).mask_key),
    ),
    Case(
        "another's two keys",
        "advert",
        "a public key that is not its own",
        lambda s, m: replace(
            m, mask_key=advert_of(s, 2).mask_key, channel_key=advert_of(s, 2).channel_key
        ),
    ),
    *(
        Case(
            f"{field} {why} {i}",
            "advert",
            "not a X25519 public key",
            lambda _s, m, field=field, point=point: replace(m, **{field: little(point)}),
        )
        for field in ("mask_key", "channel_key")
        for why, points in (("of low order", LOW_ORDER), ("not canonical", NOT_CANONICAL))
        for i, point in enumerate(points)
    ),
    Case(
        "hybrid: ML-KEM coefficients above q",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: replace(m, mask_key=b"\xff" * 1184 + m.mask_key[1184:]),
        HYBRID,
    ),
    Case(
        "hybrid: one ML-KEM coefficient is q",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: replace(m, mask_key=_with_coefficient(m.mask_key, 3329)),
        HYBRID,
    ),
    Case(
        "hybrid: an X25519 half of low order",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: replace(m, channel_key=m.channel_key[:1184] + bytes(32)),
        HYBRID,
    ),
    Case(
        "hybrid: an X25519 half that is not canonical",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: replace(m, channel_key=m.channel_key[:1184] + little(PRIME25519 + 9)),
        HYBRID,
    ),
    Case(
        "hybrid: only the X25519 half",
        "advert",
        "1216 bytes",
        lambda _s, m: replace(m, mask_key=m.mask_key[1184:]),
        HYBRID,
    ),
    Case(
        "hybrid: the halves in the other order",
        "advert",
        "public key",
        lambda _s, m: replace(m, mask_key=b"\xff" * 32 + m.mask_key[:1184]),
        HYBRID,
    ),
]


def _with_coefficient(key: bytes, value: int) -> bytes:
    """The ML-KEM key with its first 12-bit coefficient replaced."""
    first = int.from_bytes(key[:3], "little") & ~0xFFF | value
    return first.to_bytes(3, "little") + key[3:]


def members(scene: Scene) -> list[Keys]:
    return list(scene.server.state.adverts.values())


def republished(cohort: Cohort, leaves: list[Keys], me: int = 1) -> Cohort:
    """A cohort whose root, path and neighbours agree on these leaves."""
    data = [keys.leaf(own) for own in leaves]
    index = next((i for i, own in enumerate(leaves) if own.party == me), 0)
    return replace(
        cohort,
        size=len(leaves),
        root=root(data),
        index=index,
        path=proof(data, index),
        neighbours=tuple(own for own in leaves if own.party != me),
    )


def altered(scene: Scene, cohort: Cohort, party: int, **fields: Any) -> Cohort:
    """A consistent cohort in which one advert is not what that client sent."""
    leaves = [replace(own, **fields) if own.party == party else own for own in members(scene)]
    return republished(cohort, leaves)


NEIGHBOURS = "neighbours that are not other members, in order"
OWN_ADVERT = "our own advert is not in the published cohort"
ROOT = "the published root is not that of the cohort"

COHORT = [
    Case(
        "another model",
        "cohort",
        "the model or the round configuration differs",
        lambda _s, m: replace(m, application=bytes(32)),
    ),
    Case(
        "more than the roster", "cohort", "a cohort of 7 from 6", lambda _s, m: replace(m, size=7)
    ),
    Case("a size of 2^53", "cohort", "a cohort of", lambda _s, m: replace(m, size=2**53)),
    Case("a size beyond any", "cohort", ENCODING, lambda _s, m: replace(m, size=2**53 + 1)),
    Case("a negative size", "cohort", ENCODING, lambda _s, m: replace(m, size=-1)),
    Case("one less than there are", "cohort", OWN_ADVERT, lambda _s, m: replace(m, size=4)),
    Case("another index", "cohort", OWN_ADVERT, lambda _s, m: replace(m, index=1)),
    Case("an index outside", "cohort", OWN_ADVERT, lambda _s, m: replace(m, index=5)),
    Case("a huge index", "cohort", OWN_ADVERT, lambda _s, m: replace(m, index=2**53)),
    Case("a negative index", "cohort", ENCODING, lambda _s, m: replace(m, index=-1)),
    Case("no path", "cohort", OWN_ADVERT, lambda _s, m: replace(m, path=())),
    Case("a short path", "cohort", OWN_ADVERT, lambda _s, m: replace(m, path=m.path[:-1])),
    Case("a long path", "cohort", OWN_ADVERT, lambda _s, m: replace(m, path=(*m.path, bytes(32)))),
    Case("a path reversed", "cohort", OWN_ADVERT, lambda _s, m: replace(m, path=m.path[::-1])),
    Case(
        "a path with another node",
        "cohort",
        OWN_ADVERT,
        lambda _s, m: replace(m, path=(bytes(32), *m.path[1:])),
    ),
    Case(
        "a node of 31 bytes",
        "cohort",
        ENCODING,
        lambda _s, m: replace(m, path=(bytes(31), *m.path[1:])),
    ),
    Case("another root", "cohort", OWN_ADVERT, lambda _s, m: replace(m, root=bytes(32))),
    Case("a root of 33 bytes", "cohort", ENCODING, lambda _s, m: replace(m, root=bytes(33))),
    Case("a short graph seed", "cohort", ENCODING, lambda _s, m: replace(m, graph_seed=b"s")),
    Case(
        "neighbours permuted",
        "cohort",
        NEIGHBOURS,
        lambda _s, m: replace(m, neighbours=m.neighbours[::-1]),
    ),
    Case(
        "a neighbour twice",
        "cohort",
        NEIGHBOURS,
        lambda _s, m: replace(m, neighbours=(m.neighbours[0], *m.neighbours)),
    ),
    Case(
        "ourselves among the neighbours",
        "cohort",
        NEIGHBOURS,
        lambda s, m: replace(m, neighbours=tuple(members(s))),
    ),
    Case(
        "a neighbour outside the roster",
        "cohort",
        NEIGHBOURS,
        lambda _s, m: replace(m, neighbours=(*m.neighbours, replace(m.neighbours[0], party=7))),
    ),
    Case(
        "the server as a neighbour",
        "cohort",
        ENCODING,
        lambda _s, m: replace(m, neighbours=(replace(m.neighbours[0], party=0), *m.neighbours)),
    ),
    Case(
        "a neighbour is missing",
        "cohort",
        ROOT,
        lambda _s, m: replace(m, neighbours=m.neighbours[:-1]),
    ),
    Case(
        "a neighbour is not in the tree",
        "cohort",
        ROOT,
        lambda _s, m: replace(m, neighbours=(*m.neighbours, replace(m.neighbours[0], party=6))),
    ),
    Case(
        "a neighbour's key exchanged",
        "cohort",
        ROOT,
        lambda _s, m: replace(
            m, neighbours=(replace(m.neighbours[0], mask_key=bytes(32)), *m.neighbours[1:])
        ),
    ),
    Case(
        "a neighbour's nonce exchanged",
        "cohort",
        ROOT,
        lambda _s, m: replace(
            m, neighbours=(replace(m.neighbours[0], nonce=bytes(32)), *m.neighbours[1:])
        ),
    ),
    Case(
        "a consistent tree without us",
        "cohort",
        OWN_ADVERT,
        lambda s, m: republished(m, [own for own in members(s) if own.party != 1]),
    ),
    Case(
        "our own key exchanged",
        "cohort",
        OWN_ADVERT,
        lambda s, m: altered(s, m, 1, mask_key=b"\x09" + bytes(31)),
    ),
    Case(
        "our own nonce exchanged",
        "cohort",
        OWN_ADVERT,
        lambda s, m: altered(s, m, 1, nonce=bytes(32)),
    ),
    Case(
        "a neighbour's key of low order, consistently",
        "cohort",
        "a key of client 2: not a X25519 public key",
        lambda s, m: altered(s, m, 2, mask_key=bytes(32)),
    ),
    Case(
        "a neighbour's channel key not canonical, consistently",
        "cohort",
        "a key of client 5: not a X25519 public key",
        lambda s, m: altered(s, m, 5, channel_key=little(PRIME25519 + 9)),
    ),
    Case(
        "a neighbour's key of 31 bytes, consistently",
        "cohort",
        "a key of client 3: a X25519 public key has 32 bytes",
        lambda s, m: altered(s, m, 3, mask_key=bytes(31)),
    ),
    Case(
        "our key for a neighbour, consistently",
        "cohort",
        "a public key appears twice",
        lambda s, m: altered(s, m, 2, mask_key=advert_of(s, 1).mask_key),
    ),
    Case(
        "one neighbour's key for another, consistently",
        "cohort",
        "a public key appears twice",
        lambda s, m: altered(s, m, 2, mask_key=advert_of(s, 3).channel_key),
    ),
    Case(
        "a neighbour with one key for both, consistently",
        "cohort",
        "a public key appears twice",
        lambda s, m: altered(s, m, 2, mask_key=advert_of(s, 2).channel_key),
    ),
    Case(
        "hybrid: a neighbour's ML-KEM half is bad, consistently",
        "cohort",
        "a key of client 4: not a MLKEM768-X25519 public key",
        lambda s, m: altered(s, m, 4, mask_key=b"\xff" * 1184 + advert_of(s, 4).mask_key[1184:]),
        HYBRID,
    ),
]


def one_posted(message: Any, at: int = 0, **fields: Any) -> Any:
    posted = list(message.posted)
    posted[at] = replace(posted[at], **fields)
    return replace(message, posted=tuple(posted))


FOR_EXACTLY = "shares that are not for exactly its neighbours, in order"
SEALED = "a sealed message of the wrong length"

SHARES = [
    Case("permuted", "shares", FOR_EXACTLY, lambda _s, m: replace(m, posted=m.posted[::-1])),
    Case("one missing", "shares", FOR_EXACTLY, lambda _s, m: replace(m, posted=m.posted[1:])),
    Case("none", "shares", FOR_EXACTLY, lambda _s, m: replace(m, posted=())),
    Case(
        "one twice",
        "shares",
        FOR_EXACTLY,
        lambda _s, m: replace(m, posted=(m.posted[0], *m.posted)),
    ),
    Case(
        "one twice, another missing",
        "shares",
        FOR_EXACTLY,
        lambda _s, m: replace(m, posted=(m.posted[0], m.posted[0], *m.posted[2:])),
    ),
    Case("for itself", "shares", FOR_EXACTLY, lambda _s, m: one_posted(m, to=1)),
    Case("for one who is not in U1", "shares", FOR_EXACTLY, lambda _s, m: one_posted(m, 3, to=6)),
    Case("for one outside", "shares", FOR_EXACTLY, lambda _s, m: one_posted(m, 3, to=2**31 - 2)),
    Case("for the server", "shares", ENCODING, lambda _s, m: one_posted(m, to=0)),
    Case("for 2^31 - 1", "shares", ENCODING, lambda _s, m: one_posted(m, 3, to=2**31 - 1)),
    Case("an empty contribution", "shares", SEALED, lambda _s, m: one_posted(m, contribution=b"")),
    Case(
        "a short contribution",
        "shares",
        SEALED,
        lambda _s, m: one_posted(m, contribution=m.posted[0].contribution[:-1]),
    ),
    Case(
        "a long contribution",
        "shares",
        SEALED,
        lambda _s, m: one_posted(m, 2, contribution=m.posted[0].contribution + b"\0"),
    ),
    Case("empty shares", "shares", SEALED, lambda _s, m: one_posted(m, shares=b"")),
    Case(
        "short shares", "shares", SEALED, lambda _s, m: one_posted(m, shares=m.posted[0].shares[1:])
    ),
    Case(
        "contribution and shares exchanged",
        "shares",
        SEALED,
        lambda _s, m: one_posted(
            m, contribution=m.posted[0].shares, shares=m.posted[0].contribution
        ),
    ),
    Case("a short commitment", "shares", ENCODING, lambda _s, m: replace(m, commitment=bytes(31))),
    Case(
        "a long fingerprint",
        "shares",
        ENCODING,
        lambda _s, m: replace(m, own_fingerprint=bytes(17)),
    ),
    Case(
        "a short fingerprint",
        "shares",
        ENCODING,
        lambda _s, m: one_posted(m, self_fingerprint=bytes(15)),
    ),
]


def one_delivered(message: Any, at: int = 0, **fields: Any) -> Any:
    delivered = list(message.delivered)
    delivered[at] = replace(delivered[at], **fields)
    return replace(message, delivered=tuple(delivered))


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def resealed(scene: Scene, message: Any, what: str, plaintext: bytes) -> Any:
    """Client 2's delivery with another plaintext inside the AEAD, sealed as it should be."""
    context1 = scene.clients[1].state.context
    kind = suite(scene.session.parameters.suite)
    own = advert_of(scene, 1)
    raw = own.mask_key if what == "contribution" else own.channel_key
    bind = keys.contribution_info if what == "contribution" else keys.shares_info
    sealed = HpkeSealer().seal(kind.public_key(raw), plaintext, bind(context1, 2, 1))
    return one_delivered(message, **{what: sealed})


def sealed_for_another(scene: Scene, message: Any) -> Any:
    """What client 3 sealed for us, delivered as client 2's."""
    return one_delivered(
        message,
        contribution=message.delivered[1].contribution,
        shares=message.delivered[1].shares,
    )


def old_delivery(message: Any) -> Any:
    """What client 2 sealed for us in another session."""
    old = msgspec.msgpack.decode(honest(number=1)["inbox"])[2][0]
    return one_delivered(message, contribution=old[1], shares=old[2])


SENDERS = "deliveries that are not from distinct neighbours, in order"
OPENS = "the delivery of client 2: a sealed message does not open"

INBOX = [
    Case("permuted", "inbox", SENDERS, lambda _s, m: replace(m, delivered=m.delivered[::-1])),
    Case(
        "one twice",
        "inbox",
        SENDERS,
        lambda _s, m: replace(m, delivered=(m.delivered[0], *m.delivered)),
    ),
    Case("from ourselves", "inbox", SENDERS, lambda _s, m: one_delivered(m, sender=1)),
    Case("from one outside U1", "inbox", SENDERS, lambda _s, m: one_delivered(m, 2, sender=6)),
    Case("from the server", "inbox", ENCODING, lambda _s, m: one_delivered(m, sender=0)),
    Case("an empty ciphertext", "inbox", OPENS, lambda _s, m: one_delivered(m, contribution=b"")),
    Case("a ciphertext of one byte", "inbox", OPENS, lambda _s, m: one_delivered(m, shares=b"s")),
    Case(
        "a ciphertext of zeros", "inbox", OPENS, lambda _s, m: one_delivered(m, shares=bytes(120))
    ),
    *(
        Case(
            f"{what} with bit {at} flipped",
            "inbox",
            OPENS,
            lambda _s, m, what=what, at=at: one_delivered(
                m, **{what: flipped(getattr(m.delivered[0], what), at)}
            ),
        )
        for what in ("contribution", "shares")
        for at in (0, 31, 32, -17, -1)
    ),
    Case(
        "a ciphertext cut short",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, shares=m.delivered[0].shares[:-1]),
    ),
    Case(
        "contribution and shares exchanged",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(
            m, contribution=m.delivered[0].shares, shares=m.delivered[0].contribution
        ),
    ),
    Case("another neighbour's ciphertexts", "inbox", OPENS, sealed_for_another),
    Case("the ciphertexts of another session", "inbox", OPENS, lambda _s, m: old_delivery(m)),
    Case(
        "inside: a contribution of 31 bytes",
        "inbox",
        "the delivery of client 2: a sealed message has the wrong length",
        lambda s, m: resealed(s, m, "contribution", bytes(31)),
    ),
    Case(
        "inside: no contribution",
        "inbox",
        "the delivery of client 2: a sealed message has the wrong length",
        lambda s, m: resealed(s, m, "contribution", b""),
    ),
    Case(
        "inside: one share only",
        "inbox",
        "the delivery of client 2: a sealed message has the wrong length",
        lambda s, m: resealed(s, m, "shares", bytes(SHARE_BYTES)),
    ),
    Case(
        "inside: a byte more than two shares",
        "inbox",
        "the delivery of client 2: a sealed message has the wrong length",
        lambda s, m: resealed(s, m, "shares", bytes(2 * SHARE_BYTES + 1)),
    ),
    *(
        Case(
            f"inside: limb {limb} is {value:#x}",
            "inbox",
            "the delivery of client 2: a share has a limb that is not below the prime",
            lambda s, m, limb=limb, value=value: resealed(s, m, "shares", with_limb(limb, value)),
        )
        for limb, value in ((0, 2**31 - 1), (8, 2**31), (9, 2**32 - 1), (17, 2**31 - 1))
    ),
    Case(
        "hybrid: the ML-KEM ciphertext tampered",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, contribution=flipped(m.delivered[0].contribution, 5)),
        HYBRID,
    ),
    Case(
        "hybrid: the X25519 half tampered",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, shares=flipped(m.delivered[0].shares, 1100)),
        HYBRID,
    ),
]


def with_limb(limb: int, value: int, shares: int = 2) -> bytes:
    raw = bytearray(shares * SHARE_BYTES)
    raw[4 * limb : 4 * limb + 4] = value.to_bytes(4, "little")
    return bytes(raw)


UPLOAD = [
    Case("empty", "upload", "got 0", lambda _s, m: replace(m, packed=b"")),
    Case(
        "a byte short", "upload", "15 bytes, got 14", lambda _s, m: replace(m, packed=m.packed[1:])
    ),
    Case(
        "a byte long",
        "upload",
        "15 bytes, got 16",
        lambda _s, m: replace(m, packed=m.packed + b"\0"),
    ),
    Case(
        "the padding bit set",
        "upload",
        "a padding bit after 17 values of 7 bits is set",
        lambda _s, m: replace(m, packed=m.packed[:-1] + bytes([m.packed[-1] | 0x80])),
    ),
    Case("a text", "upload", ENCODING, lambda _s, m: ["upload", m.context, "text"]),
]

SURVIVORS = "survivors that are not distinct neighbours, in order"

REQUEST = [
    Case("permuted", "request", SURVIVORS, lambda _s, m: replace(m, survivors=(3, 2, 1))),
    Case("one twice", "request", SURVIVORS, lambda _s, m: replace(m, survivors=(1, 2, 2, 3))),
    Case(
        "who did not share", "request", SURVIVORS, lambda _s, m: replace(m, survivors=(1, 2, 3, 5))
    ),
    Case("who never came", "request", SURVIVORS, lambda _s, m: replace(m, survivors=(1, 2, 3, 6))),
    Case(
        "one outside the roster",
        "request",
        SURVIVORS,
        lambda _s, m: replace(m, survivors=(1, 2, 3, 99)),
    ),
    Case(
        "without us",
        "request",
        "we uploaded, and are not among the survivors",
        lambda _s, m: replace(m, survivors=(2, 3, 4)),
    ),
    Case(
        "nobody",
        "request",
        "we uploaded, and are not among the survivors",
        lambda _s, m: replace(m, survivors=()),
    ),
    Case("the server", "request", ENCODING, lambda _s, m: replace(m, survivors=(0, 1, 2, 3))),
    Case("a negative one", "request", ENCODING, lambda _s, m: replace(m, survivors=(-1, 1, 2, 3))),
    Case("a negative count", "request", ENCODING, lambda _s, m: replace(m, uploads=-1)),
    Case("a count beyond any", "request", ENCODING, lambda _s, m: replace(m, uploads=2**53 + 1)),
    Case("a fraction", "request", ENCODING, lambda _s, m: [*array_of(encode(m))[:3], 3.0]),
]

ALIVE = "self-mask shares of others than the surviving neighbours"
GONE = "mask-seed shares of others than the dropped neighbours"


def one_survivor(message: Any, at: int = 0, **fields: Any) -> Any:
    shares = list(message.survivors)
    shares[at] = replace(shares[at], **fields)
    return replace(message, survivors=tuple(shares))


def one_dropped(message: Any, **fields: Any) -> Any:
    return replace(message, dropped=(replace(message.dropped[0], **fields),))


ANSWER = [
    Case("permuted", "answer", ALIVE, lambda _s, m: replace(m, survivors=m.survivors[::-1])),
    Case("one missing", "answer", ALIVE, lambda _s, m: replace(m, survivors=m.survivors[:-1])),
    Case(
        "one twice",
        "answer",
        ALIVE,
        lambda _s, m: replace(m, survivors=(m.survivors[0], *m.survivors)),
    ),
    Case(
        "both shares of the dropped one",
        "answer",
        ALIVE,
        lambda _s, m: replace(m, survivors=(*m.survivors, SelfShare(4, bytes(SHARE_BYTES)))),
    ),
    Case(
        "both shares of a survivor",
        "answer",
        GONE,
        lambda _s, m: replace(m, dropped=(MaskShare(2, bytes(SHARE_BYTES), bytes(32)), *m.dropped)),
    ),
    Case("the dropped one is missing", "answer", GONE, lambda _s, m: replace(m, dropped=())),
    Case("the dropped one twice", "answer", GONE, lambda _s, m: replace(m, dropped=m.dropped * 2)),
    Case("another dropped one", "answer", GONE, lambda _s, m: one_dropped(m, of=5)),
    Case("of one outside", "answer", ALIVE, lambda _s, m: one_survivor(m, 2, of=99)),
    Case("nothing", "answer", ALIVE, lambda _s, m: replace(m, survivors=(), dropped=())),
    Case("of the server", "answer", ENCODING, lambda _s, m: one_survivor(m, of=0)),
    Case("35 bytes", "answer", ENCODING, lambda _s, m: one_survivor(m, share=bytes(35))),
    Case("37 bytes", "answer", ENCODING, lambda _s, m: one_dropped(m, share=bytes(37))),
    Case(
        "a short contribution", "answer", ENCODING, lambda _s, m: one_dropped(m, contribution=b"")
    ),
    *(
        Case(
            f"a self share whose limb {limb} is {value:#x}",
            "answer",
            "a share has a limb that is not below the prime",
            lambda _s, m, limb=limb, value=value: one_survivor(m, share=with_limb(limb, value, 1)),
        )
        for limb, value in ((0, 2**31 - 1), (4, 2**31), (8, 2**32 - 1))
    ),
    Case(
        "a mask share with a limb of p",
        "answer",
        "a share has a limb that is not below the prime",
        lambda _s, m: one_dropped(m, share=with_limb(8, 2**31 - 1, 1)),
    ),
]

CASES = [*ADVERT, *COHORT, *SHARES, *INBOX, *UPLOAD, *REQUEST, *ANSWER]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_a_field_that_is_wrong(case: Case) -> None:
    scene = Scene(suite=case.suite)
    stop = scene.until(case.stop)
    body = case.change(scene, stop.message)
    refused(stop, encode(body), case.reason)
    scene.finish()


def test_there_are_as_many_cases_as_were_asked_for() -> None:
    assert len(CASES) >= 60
    assert {case.stop for case in CASES} == set(STOPS)


# --- what the rules answer with an abort ------------------------------------------------

ABORTS = [
    ("cohort", "only 2 clients advertised, fewer than 3", lambda _s, m: replace(m, size=2)),
    (
        "cohort",
        "only 2 neighbours advertised, fewer than 3",
        lambda _s, m: replace(m, neighbours=m.neighbours[:1]),
    ),
    (
        "inbox",
        "only 2 neighbours shared their keys, fewer than 3",
        lambda _s, m: replace(m, delivered=m.delivered[:1]),
    ),
    ("inbox", "only 1 neighbours shared", lambda _s, m: replace(m, delivered=())),
    (
        "request",
        "only 2 neighbours uploaded, fewer than 3",
        lambda _s, m: replace(m, survivors=(1, 2)),
    ),
    ("request", "only 2 clients uploaded, fewer than 3", lambda _s, m: replace(m, uploads=2)),
]


@pytest.mark.parametrize(("stop_name", "reason", "change"), ABORTS)
def test_a_client_that_is_told_of_too_few_aborts_and_forgets(stop_name, reason, change) -> None:
    stop = Scene().until(stop_name)
    with pytest.raises(ProtocolAborted) as caught:
        stop.deliver(change(None, stop.message))
    assert reason in caught.value.reason
    assert caught.value.stage == STAGE[stop_name]
    tag, at, why, blame = msgspec.msgpack.decode(stop.machine.snapshot())
    assert (tag, at, blame) == ("aborted", STAGE[stop_name], [])
    assert why == caught.value.reason
    error = refused(stop, None, f"unexpected {NAME[stop_name]}")
    assert error.expected == "no message at this stage"


# --- other graphs, other times -----------------------------------------------------------


def sparse_scene() -> Scene:
    parameters = masking.sparse(8, 8, 7, corrupt=0.0, dropout=0.2, suite="X25519")
    assert not parameters.complete
    return Scene(parameters=parameters)


def test_neighbours_that_the_graph_does_not_give() -> None:
    scene = sparse_scene()
    stop = next(stop for stop in scene.play() if stop.name == "cohort")
    parameters, cohort = scene.session.parameters, stop.message
    near = {v + 1 for v in neighbours_of(0, 8, parameters.degree, cohort.graph_seed).tolist()}
    assert {n.party for n in cohort.neighbours} <= near
    far = next(own for own in members(scene) if own.party not in near | {1})
    wrong = sorted([*cohort.neighbours[1:], far], key=lambda own: own.party)
    refused(stop, replace(cohort, neighbours=tuple(wrong)), "neighbours that the graph does not")
    other_seed = replace(cohort, graph_seed=bytes(32))
    refused(stop, other_seed, "neighbours that the graph does not give us")


def test_a_cohort_before_this_client_knows_the_model() -> None:
    scene = Scene()
    client = masking.Client(scene.session, 1, SeededSource(b"early"), HpkeSealer())
    for event in (None, Join()):
        if event:
            client.handle(event)
        stop = Stop("cohort", client, SERVER, honest()["cohort"])
        error = refused(stop, None, "unexpected Cohort")
        assert error.expected == "no message at this stage"
    client.handle(Begin(scene.application))


def test_another_view_of_the_graph_seed_opens_nothing() -> None:
    """On the complete graph the seed decides nothing, and is bound all the same."""
    scene = Scene()
    stop = scene.until("cohort")
    stop.deliver(replace(stop.message, graph_seed=bytes(32)))
    inbox = Stop("inbox", scene.clients[1], SERVER, honest()["inbox"])
    refused(inbox, None, "of another session")
    context = scene.clients[1].state.context
    forged = replace(inbox.message, context=context)
    error = refused(inbox, forged, "the delivery of client 2: a sealed message does not open")
    assert error.expected == "what that client sealed for us in this session"


def test_an_application_hint_that_lies_opens_nothing() -> None:
    """Client 1 was shown another model, and the hint was made to fit: the AEAD decides."""
    scene = Scene()
    stop = scene.until("cohort")
    other = masking.Client(scene.session, 1, SeededSource(b"other"), HpkeSealer())
    other.restore(scene.clients[1].snapshot())
    other.state = replace(other.state, application=bytes(32))
    stop = Stop("cohort", other, SERVER, encode(replace(stop.message, application=bytes(32))))
    stop.deliver()
    inbox = Stop("inbox", other, SERVER, honest()["inbox"])
    forged = replace(inbox.message, context=other.state.context)
    refused(inbox, forged, "does not open")


# --- plain -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GENERAL)
def test_plain_what_is_not_a_message(case: str) -> None:
    stop, finish = plain_stop()
    change, reason = GENERAL[case]
    refused(stop, change(stop.data), reason)
    finish()


PLAIN: dict[str, tuple[str, int, Callable[[Any], Any]]] = {
    "empty": ("6 bytes, got 0", 1, lambda m: replace(m, packed=b"")),
    "short": ("6 bytes, got 5", 1, lambda m: replace(m, packed=m.packed[1:])),
    "long": ("6 bytes, got 7", 1, lambda m: replace(m, packed=m.packed + b"\0")),
    "padding": ("a padding bit", 1, lambda m: replace(m, packed=m.packed[:-1] + b"\xff")),
    "the server": ("not a member of the roster", 0, lambda m: m),
    "a stranger": ("not a member of the roster", 4, lambda m: m),
    "twice": ("uploaded twice", 2, lambda m: m),
    "an advert": ("unknown kind of message", 1, lambda _m: honest()["advert"]),
    "masked": ("unknown kind of message", 1, lambda _m: honest()["upload"]),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_a_field_that_is_wrong(case: str) -> None:
    stop, finish = plain_stop()
    reason, sender, change = PLAIN[case]
    refused(stop, change(stop.message), reason, sender=sender)
    finish()


def test_plain_every_prefix_and_another_session() -> None:
    stop, finish = plain_stop()
    for end in range(len(stop.data)):
        refused(stop, stop.data[:end], ENCODING)
    refused(stop, plain_stop(number=1)[0].data, "of another session")
    finish()


def test_plain_an_upload_before_the_server_knows_what_is_trained() -> None:
    stop, _ = plain_stop()
    session = session_of(plain.PROTOCOL, plain.configure(3, LENGTH, 7))
    early = Stop("early", plain.Server(session, SeededSource(b"x")), 1, stop.data)
    refused(early, None, "of another session")


@pytest.mark.parametrize("sender", [SERVER, 1, 2, 99])
def test_plain_a_client_expects_nothing(sender: int) -> None:
    stop, _ = plain_stop()
    session = session_of(plain.PROTOCOL, plain.configure(3, LENGTH, 7))
    client = plain.Client(session, 1, SeededSource(b"x"), HpkeSealer())
    for event in (None, Join(), Begin(bytes(32))):
        if event:
            client.handle(event)
        error = refused(Stop("any", client, sender, stop.data), None, "unexpected Upload")
        assert error.expected == "no message at this stage"
        refused(Stop("any", client, sender, b"junk"), None, ENCODING)


# --- a light fuzz ------------------------------------------------------------------------


@cache
def target(name: str) -> tuple[Stop, bytes]:
    """A machine in its state, and the snapshot to put it back."""
    stop = plain_stop()[0] if name == "plain upload" else Scene().until(name)
    return stop, stop.machine.snapshot()


def attacked(name: str, data: bytes, sender: int | None = None) -> None:
    """Anything goes, except another kind of exception or a changed state after a refusal."""
    stop, before = target(name)
    try:
        stop.deliver(data, sender)
    except PeerError:
        unchanged = stop.machine.snapshot() == before
    except ProtocolAborted:
        unchanged = stop.machine.finished
    else:
        unchanged = True
    stop.machine.restore(before)
    assert unchanged


FUZZED = pytest.mark.parametrize("name", [*STOPS, "plain upload"])


@FUZZED
@given(data=st.binary(max_size=400), sender=st.sampled_from([0, 1, 2, 99]))
@examples(2)
def test_random_bytes(name: str, data: bytes, sender: int) -> None:
    attacked(name, data, sender)


@FUZZED
@given(at=st.integers(0, 2**16), value=st.integers(1, 255))
@examples(3)
def test_a_single_byte_changed(name: str, at: int, value: int) -> None:
    data = bytearray(target(name)[0].data)
    data[at % len(data)] ^= value
    attacked(name, bytes(data))


@FUZZED
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 2**16), st.integers(0, 40), st.binary(max_size=40)), max_size=4
    )
)
@examples(2)
def test_pieces_cut_out_and_put_in(name: str, edits: list[tuple[int, int, bytes]]) -> None:
    data = target(name)[0].data
    for at, cut, new in edits:
        start = at % (len(data) + 1)
        data = data[:start] + new + data[start + cut :]
    attacked(name, data)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@FUZZED
@given(data=st.data())
@examples(2)
def test_any_tree_in_place_of_a_field(name: str, data: st.DataObject) -> None:
    tree = array_of(target(name)[0].data)
    at = data.draw(st.integers(0, len(tree) - 1))
    tree[at] = data.draw(TREES)
    if at > 1 and isinstance(tree[-1], list) and tree[-1]:
        tree[-1] = data.draw(st.lists(st.sampled_from([*tree[-1], tree[at]]), max_size=6))
    attacked(name, msgspec.msgpack.encode(tree))
