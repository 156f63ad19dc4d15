"""The error contract: whatever arrives, the answer names peer, stage and expectation.

Each case plays an honest session up to one message, hands over something else instead, and
then goes on: the machine's state must be the same to the byte, and the session must still end
in the exact sum. In active mode what only a server that lies can have sent is an abort that
blames it, and nothing secret is left.
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
from protocols.base import SERVER, Begin, Join, Received, RoundClosed
from protocols.masking import keys
from protocols.masking.messages import Cohort, Confirmation, Keys, UnmaskAnswer
from secagg.codec import decode, encode
from secagg.errors import PeerError, ProtocolAborted
from secagg.graph import neighbours_of
from secagg.merkle import proof, root
from secagg.rng import SeededSource
from secagg.seal import SystemSealer, seal_between, suite
from secagg.shamir import SHARE_BYTES
from secagg.signing import ED25519, ML_DSA_65
from tests.protocols.scene import (
    ACTIVE_STOPS,
    LENGTH,
    STOPS,
    Scene,
    Stop,
    messages_of,
    plain_stop,
)
from tests.protocols.support import examples, session_of, signer_of

STAGE = {
    "advert": "advertise",
    "cohort": "share",
    "shares": "share",
    "inbox": "upload",
    "upload": "upload",
    "survivors": "consistency",
    "confirmation": "consistency",
    "request": "unmask",
    "proof": "unmask",
    "answer": "unmask",
}
NAME = {
    "advert": "Advert",
    "cohort": "Cohort",
    "shares": "Shares",
    "inbox": "Inbox",
    "upload": "Upload",
    "survivors": "SurvivorSet",
    "confirmation": "Confirmation",
    "request": "UnmaskRequest",
    "proof": "UnmaskProof",
    "answer": "UnmaskAnswer",
}
TO_CLIENT = ("cohort", "inbox", "survivors", "request", "proof")
EVERY_STOP = [*((False, name) for name in STOPS), *((True, name) for name in ACTIVE_STOPS)]
BOTH_MODES = pytest.mark.parametrize(
    ("active", "name"), EVERY_STOP, ids=lambda v: {True: "active", False: "semi-honest"}.get(v, v)
)
ENCODING = "not a valid encoding"
PRIME25519 = 2**255 - 19


@cache
def honest(number: int = 0, *, active: bool = False) -> dict[str, bytes]:
    return messages_of(Scene(number=number, active=active))


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


def aborted(stop: Stop, body: Any, reason: str) -> None:
    """Hand `body` over: the client takes no further part, blames the server, and forgets."""
    stage = stop.machine.state.stage
    with pytest.raises(ProtocolAborted) as caught:
        stop.deliver(body)
    error = caught.value
    assert reason in error.reason, error.reason
    assert (error.stage, error.blame) == (stage, (SERVER,))
    told = ["aborted", stage, error.reason, [SERVER]]
    assert msgspec.msgpack.decode(stop.machine.snapshot()) == told
    refused(stop, None, "unexpected")


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
@BOTH_MODES
def test_what_is_not_a_message(active: bool, name: str, case: str) -> None:
    scene = Scene(active=active)
    stop = scene.until(name)
    change, reason = GENERAL[case]
    error = refused(stop, change(stop.data), reason)
    assert (error.stage, NAME[name] in error.expected or "bound" in error.expected) == (
        STAGE[name],
        True,
    )
    scene.finish()


@BOTH_MODES
def test_every_proper_prefix(active: bool, name: str) -> None:
    scene = Scene(active=active)
    stop = scene.until(name)
    for end in range(len(stop.data)):
        refused(stop, stop.data[:end], ENCODING)
    scene.finish()


@BOTH_MODES
def test_a_message_of_another_stage_direction_or_mode(active: bool, name: str) -> None:
    scene = Scene(active=active)
    stop = scene.until(name)
    for of_active in (False, True):
        for other, data in honest(active=of_active).items():
            if other == name:
                continue
            known = other in scene.stops and (other in TO_CLIENT) == (name in TO_CLIENT)
            reason = f"unexpected {NAME[other]}" if known else "unknown kind of message"
            refused(stop, data, reason)
    scene.finish()


@BOTH_MODES
def test_the_same_message_of_another_session(active: bool, name: str) -> None:
    scene = Scene(active=active)
    other = honest(number=1, active=active)[name]
    error = refused(scene.until(name), other, "of another session")
    assert "this session" in error.expected
    scene.finish()


@BOTH_MODES
def test_the_same_message_once_more(active: bool, name: str) -> None:
    scene = Scene(active=active)
    stop = scene.until(name)
    stop.machine.handle(Received(stop.sender, stop.data))
    again = {
        "advert": "a second advert",
        "shares": "shared its keys twice",
        "upload": "uploaded twice",
        "confirmation": "confirmed twice",
        "answer": "answered twice",
    }
    refused(stop, None, again.get(name, f"unexpected {NAME[name]}"))


STRANGERS = {  # who must not send this, and what is said of it; one more in active mode
    "advert": [(0, "not a member"), (-1, "not a member"), (7, "not a member")],
    "cohort": [(1, "only the server"), (2, "only the server"), (99, "only the server")],
    "shares": [(0, "not in the cohort"), (6, "not in the cohort"), (99, "not in the cohort")],
    "inbox": [(1, "only the server"), (2, "only the server")],
    "upload": [(0, "did not share"), (5, "did not share"), (6, "did not share")],
    "survivors": [(1, "only the server"), (5, "only the server")],
    "confirmation": [(-1, "did not upload"), (4, "did not upload"), (5, "did not upload")],
    "request": [(1, "only the server"), (3, "only the server")],
    "proof": [(1, "only the server"), (4, "only the server")],
    "answer": [(-1, "did not upload"), (4, "did not upload"), (5, "did not upload")],
}


@BOTH_MODES
def test_a_sender_who_has_no_say(active: bool, name: str) -> None:
    scene = Scene(active=active)
    stop = scene.until(name)
    for sender, reason in STRANGERS[name]:
        shifted = active and name not in TO_CLIENT and 4 <= sender <= 7
        refused(stop, None, reason, sender=sender + shifted)
    scene.finish()


def test_a_survivor_that_did_not_confirm_is_not_asked() -> None:
    """Client 1 of active mode uploaded, and its confirmation never came."""
    scene = Scene(active=True, uploaders=(1, 2, 3, 4, 5))
    stop = scene.until("confirmation")
    sent = {e.to for e in stop.machine.handle(RoundClosed())}
    assert sent == {2, 3, 4, 5}
    answer = replace(decoded_answer(), context=stop.machine.state.bound)
    refused(stop, encode(answer), "was not asked: it did not upload and confirm")


def decoded_answer() -> UnmaskAnswer:
    return decode(honest(active=True)["answer"], UnmaskAnswer)


@pytest.mark.parametrize(("active", "name"), [each for each in EVERY_STOP if each[1] != "advert"])
def test_every_message_replayed_at_every_later_stage(active: bool, name: str) -> None:
    """To its own recipient, from its own sender: never taken a second time."""
    scene = Scene(active=active)
    stop = scene.until(name)
    seen = honest(active=active)
    for old in scene.stops[: scene.stops.index(name)]:
        to_server = old not in TO_CLIENT
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
    """`change` makes the wrong message out of the scene and the right one.

    signed: what is said of it in active mode, where that is not the reason.
    """

    name: str
    stop: str
    reason: str
    change: Callable[[Scene, Any], Any]
    suite: str = "X25519"
    signed: str | None = None

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
    return scene.adverts[party]


UNSIGNED = "a signature does not verify"

ADVERT = [
    Case("a short key", "advert", "32 bytes", lambda _s, m: with_key(m, m.channel_key[:-1])),
    Case("a long key", "advert", "32 bytes", lambda _s, m: with_key(m, m.channel_key + b"k")),
    Case("an empty key", "advert", "32 bytes", lambda _s, m: with_key(m, b"")),
    Case("a short nonce", "advert", ENCODING, lambda _s, m: replace(m, nonce=m.nonce[:-1])),
    Case("a long nonce", "advert", ENCODING, lambda _s, m: replace(m, nonce=m.nonce + b"n")),
    *(
        Case(
            f"the key of client {u}",
            "advert",
            "a public key that is not its own",
            lambda s, m, u=u: with_key(m, advert_of(s, u).channel_key),
            signed=UNSIGNED,
        )
        for u in (2, 5)
    ),
    Case(
        "a signature where none is asked for",
        "advert",
        "a signature in a session without any",
        lambda _s, m: replace(m, signature=b"s" * 64),
        signed=UNSIGNED,
    ),
    *(
        Case(
            f"a key {why} {i}",
            "advert",
            "not a X25519 public key",
            lambda _s, m, point=point: with_key(m, little(point)),
        )
        for why, points in (("of low order", LOW_ORDER), ("not canonical", NOT_CANONICAL))
        for i, point in enumerate(points)
    ),
    Case(
        "hybrid: ML-KEM coefficients above q",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: with_key(m, b"\xff" * 1184 + m.channel_key[1184:]),
        HYBRID,
    ),
    Case(
        "hybrid: one ML-KEM coefficient is q",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: with_key(m, _with_coefficient(m.channel_key, 3329)),
        HYBRID,
    ),
    Case(
        "hybrid: an X25519 half of low order",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: with_key(m, m.channel_key[:1184] + bytes(32)),
        HYBRID,
    ),
    Case(
        "hybrid: an X25519 half that is not canonical",
        "advert",
        "not a MLKEM768-X25519 public key",
        lambda _s, m: with_key(m, m.channel_key[:1184] + little(PRIME25519 + 9)),
        HYBRID,
    ),
    Case(
        "hybrid: only the X25519 half",
        "advert",
        "1216 bytes",
        lambda _s, m: with_key(m, m.channel_key[1184:]),
        HYBRID,
    ),
    Case(
        "hybrid: the halves in the other order",
        "advert",
        "public key",
        lambda _s, m: with_key(m, b"\xff" * 32 + m.channel_key[:1184]),
        HYBRID,
    ),
]


def with_key(message: Any, key: bytes) -> Any:
    return replace(message, channel_key=key)


def _with_coefficient(key: bytes, value: int) -> bytes:
    """The ML-KEM key with its first 12-bit coefficient replaced."""
    first = int.from_bytes(key[:3], "little") & ~0xFFF | value
    return first.to_bytes(3, "little") + key[3:]


def members(scene: Scene) -> list[Keys]:
    return list(scene.adverts.values())


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
OF_CLIENT = "the advert of client {}: a signature does not verify"

COHORT = [
    Case(
        "more than the roster",
        "cohort",
        "a cohort of 8 from",
        lambda _s, m: replace(m, size=8),
    ),
    Case("a size of 2^53", "cohort", "a cohort of", lambda _s, m: replace(m, size=2**53)),
    Case("a size beyond any", "cohort", ENCODING, lambda _s, m: replace(m, size=2**53 + 1)),
    Case("a negative size", "cohort", ENCODING, lambda _s, m: replace(m, size=-1)),
    Case(
        "one less than there are",
        "cohort",
        OWN_ADVERT,
        lambda _s, m: replace(m, size=len(m.neighbours)),
    ),
    Case("another index", "cohort", OWN_ADVERT, lambda _s, m: replace(m, index=1)),
    Case("an index outside", "cohort", OWN_ADVERT, lambda _s, m: replace(m, index=m.size)),
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
        lambda _s, m: replace(m, neighbours=(*m.neighbours, replace(m.neighbours[0], party=8))),
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
        lambda s, m: replace(
            m, neighbours=(*m.neighbours, replace(m.neighbours[0], party=len(s.clients) + 1))
        ),
    ),
    Case(
        "a neighbour's key exchanged",
        "cohort",
        ROOT,
        lambda _s, m: replace(
            m, neighbours=(replace(m.neighbours[0], channel_key=bytes(32)), *m.neighbours[1:])
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
        lambda s, m: altered(s, m, 1, channel_key=b"\x09" + bytes(31)),
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
        "the key of client 2: not a X25519 public key",
        lambda s, m: altered(s, m, 2, channel_key=bytes(32)),
        signed=OF_CLIENT.format(2),
    ),
    Case(
        "a neighbour's key not canonical, consistently",
        "cohort",
        "the key of client 5: not a X25519 public key",
        lambda s, m: altered(s, m, 5, channel_key=little(PRIME25519 + 9)),
        signed=OF_CLIENT.format(5),
    ),
    Case(
        "a neighbour's key of 31 bytes, consistently",
        "cohort",
        "the key of client 3: a X25519 public key has 32 bytes",
        lambda s, m: altered(s, m, 3, channel_key=bytes(31)),
        signed=OF_CLIENT.format(3),
    ),
    Case(
        "our key for a neighbour, consistently",
        "cohort",
        "a public key appears twice",
        lambda s, m: altered(s, m, 2, channel_key=advert_of(s, 1).channel_key),
    ),
    Case(
        "one neighbour's key for another, consistently",
        "cohort",
        "a public key appears twice",
        lambda s, m: altered(s, m, 2, channel_key=advert_of(s, 3).channel_key),
    ),
    Case(
        "a signed advert, consistently",
        "cohort",
        "signed adverts in a session without signatures",
        lambda s, m: altered(s, m, 4, signature=b"s" * 64),
        signed=OF_CLIENT.format(4),
    ),
    Case(
        "hybrid: a neighbour's ML-KEM half is bad, consistently",
        "cohort",
        "the key of client 4: not a MLKEM768-X25519 public key",
        lambda s, m: altered(
            s, m, 4, channel_key=b"\xff" * 1184 + advert_of(s, 4).channel_key[1184:]
        ),
        HYBRID,
        signed=OF_CLIENT.format(4),
    ),
]


FOR_EXACTLY = "shares that are not for exactly its"
SEALED = "a sealed message of the wrong length"
PRINTS = ("mask_fingerprints", "self_fingerprints")


def one_sealed(message: Any, at: int, sealed: bytes) -> Any:
    return replace(message, sealed=(*message.sealed[:at], sealed, *message.sealed[at + 1 :]))


def with_prints(message: Any, name: str, change: Callable[[bytes], bytes]) -> Any:
    return replace(message, **{name: change(getattr(message, name))})


SHARES = [
    Case("one missing", "shares", FOR_EXACTLY, lambda _s, m: replace(m, sealed=m.sealed[1:])),
    Case("none", "shares", FOR_EXACTLY, lambda _s, m: replace(m, sealed=())),
    Case(
        "one twice",
        "shares",
        FOR_EXACTLY,
        lambda _s, m: replace(m, sealed=(m.sealed[0], *m.sealed)),
    ),
    Case(
        "nothing for anyone",
        "shares",
        FOR_EXACTLY,
        lambda _s, m: replace(m, sealed=(), mask_fingerprints=b"", self_fingerprints=b""),
    ),
    *(
        Case(
            f"{what} {name.replace('_', ' ')}",
            "shares",
            FOR_EXACTLY,
            lambda _s, m, name=name, change=change: with_prints(m, name, change),
        )
        for name in PRINTS
        for what, change in (
            ("no", lambda _raw: b""),
            ("a missing one of the", lambda raw: raw[16:]),
            ("one more of the", lambda raw: raw + raw[:16]),
            ("a short one of the", lambda raw: raw[:-1]),
            ("a long one of the", lambda raw: raw + b"\0"),
        )
    ),
    Case(
        "a fingerprint moved from one kind to the other",
        "shares",
        FOR_EXACTLY,
        lambda _s, m: replace(
            m,
            mask_fingerprints=m.mask_fingerprints + m.self_fingerprints[:16],
            self_fingerprints=m.self_fingerprints[16:],
        ),
    ),
    *(
        Case(
            f"an envelope of {len(bad)} bytes at {at}",
            "shares",
            SEALED,
            lambda _s, m, at=at, bad=bad: one_sealed(m, at, bad),
        )
        for at, bad in ((0, b""), (2, bytes(119)), (3, bytes(121)))
    ),
    Case(
        "all in one envelope",
        "shares",
        SEALED,
        lambda _s, m: replace(m, sealed=(b"".join(m.sealed), *[b""] * (len(m.sealed) - 1))),
    ),
    Case(
        "hybrid: an envelope without its encapsulation",
        "shares",
        SEALED,
        lambda _s, m: one_sealed(m, 1, m.sealed[1][1088:]),
        HYBRID,
    ),
    *(
        Case(
            f"a {name.replace('_', ' ')} of {size} bytes",
            "shares",
            ENCODING,
            lambda _s, m, name=name, size=size: replace(m, **{name: bytes(size)}),
        )
        for name, size in (
            ("mask_commitment", 31),
            ("mask_commitment", 33),
            ("self_commitment", 31),
            ("self_commitment", 0),
            ("own_fingerprint", 15),
            ("own_fingerprint", 17),
        )
    ),
]


def one_delivered(message: Any, at: int = 0, **fields: Any) -> Any:
    delivered = list(message.delivered)
    delivered[at] = replace(delivered[at], **fields)
    return replace(message, delivered=tuple(delivered))


def flipped(data: bytes, at: int, bits: int = 1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= bits
    return bytes(changed)


def resealed(scene: Scene, message: Any, plaintext: bytes) -> Any:
    """Client 2's delivery with another plaintext inside the AEAD, sealed as it should be."""
    state = scene.clients[2].state
    agreed = dict(zip(state.neighbours, state.agreed, strict=True))[1]
    seeds, parameters = scene.clients[1].state.seeds, scene.session.parameters
    to = keys.channel_keys(suite(parameters.suite), seeds.channel, scene.session.context, 1).public
    info = keys.shares_info(state.context, 2, 1)
    return one_delivered(message, sealed=seal_between(agreed, to, plaintext, info, SystemSealer()))


def reflected(scene: Scene, message: Any) -> Any:
    """Our own envelope for client 2, as if it came from there: what both agree on is the same."""
    ours = scene.sent_by_1.sealed[0]
    assert len(ours) == len(message.delivered[0].sealed)
    return one_delivered(message, sealed=ours)


def inside(limb: int, value: int) -> bytes:
    """The secret of the edge, and two shares of which one limb is wrong."""
    return bytes(32) + with_limb(limb, value)


def old_delivery(scene: Scene, message: Any) -> Any:
    """What client 2 sealed for us in another session."""
    old = msgspec.msgpack.decode(honest(number=1, active=scene.active)["inbox"])[2][0]
    return one_delivered(message, sealed=old[1])


SENDERS = "deliveries that are not from distinct neighbours, in order"
OPENS = "the delivery of client 2: a sealed message does not open"
LENGTH_INSIDE = "the delivery of client 2: not an edge's secret and two shares"

INBOX = [
    Case("permuted", "inbox", SENDERS, lambda _s, m: replace(m, delivered=m.delivered[::-1])),
    Case(
        "one twice",
        "inbox",
        SENDERS,
        lambda _s, m: replace(m, delivered=(m.delivered[0], *m.delivered)),
    ),
    Case("from ourselves", "inbox", SENDERS, lambda _s, m: one_delivered(m, sender=1)),
    Case("from one outside U1", "inbox", SENDERS, lambda _s, m: one_delivered(m, 2, sender=7)),
    Case("from the server", "inbox", ENCODING, lambda _s, m: one_delivered(m, sender=0)),
    Case("an empty ciphertext", "inbox", OPENS, lambda _s, m: one_delivered(m, sealed=b"")),
    Case("a ciphertext of one byte", "inbox", OPENS, lambda _s, m: one_delivered(m, sealed=b"s")),
    Case(
        "a ciphertext of zeros", "inbox", OPENS, lambda _s, m: one_delivered(m, sealed=bytes(120))
    ),
    *(
        Case(
            f"bit {bit} of byte {at} flipped",
            "inbox",
            OPENS,
            lambda _s, m, at=at, bit=bit: one_delivered(
                m, sealed=flipped(m.delivered[0].sealed, at, 1 << bit)
            ),
        )
        for at in (0, 31, 32, 67, 68, 103, -17, -16, -1)
        for bit in (0, 7)
    ),
    Case(
        "a ciphertext cut short",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, sealed=m.delivered[0].sealed[:-1]),
    ),
    Case(
        "another neighbour's ciphertext",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, sealed=m.delivered[1].sealed),
    ),
    Case("what we sealed for that neighbour", "inbox", OPENS, reflected),
    Case("the ciphertext of another session", "inbox", OPENS, old_delivery),
    *(
        Case(
            f"inside: {size} bytes",
            "inbox",
            LENGTH_INSIDE,
            lambda s, m, size=size: resealed(s, m, bytes(size)),
        )
        for size in (0, 31, 32, 68, 103, 105)
    ),
    *(
        Case(
            f"inside: limb {limb} is {value:#x}",
            "inbox",
            "the delivery of client 2: a share has a limb that is not below the prime",
            lambda s, m, limb=limb, value=value: resealed(s, m, inside(limb, value)),
        )
        for limb, value in ((0, 2**31 - 1), (8, 2**31), (9, 2**32 - 1), (17, 2**31 - 1))
    ),
    Case(
        "hybrid: the ML-KEM ciphertext tampered",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, sealed=flipped(m.delivered[0].sealed, 5)),
        HYBRID,
    ),
    Case(
        "hybrid: the end of the ML-KEM ciphertext tampered",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, sealed=flipped(m.delivered[0].sealed, 1087)),
        HYBRID,
    ),
    Case(
        "hybrid: what is sealed tampered",
        "inbox",
        OPENS,
        lambda _s, m: one_delivered(m, sealed=flipped(m.delivered[0].sealed, 1088)),
        HYBRID,
    ),
    Case("hybrid: what we sealed for that neighbour", "inbox", OPENS, reflected, HYBRID),
    Case(
        "hybrid, inside: a byte too few",
        "inbox",
        LENGTH_INSIDE,
        lambda s, m: resealed(s, m, bytes(103)),
        HYBRID,
    ),
]


def with_limb(limb: int, value: int, shares: int = 2) -> bytes:
    raw = bytearray(shares * SHARE_BYTES)
    raw[4 * limb : 4 * limb + 4] = value.to_bytes(4, "little")
    return bytes(raw)


LINKS = "bytes of links in piece 0"

UPLOAD = [
    Case("empty", "upload", "got 0", lambda _s, m: replace(m, packed=b"")),
    Case(
        "a byte short",
        "upload",
        "15 bytes, got 14",
        lambda _s, m: replace(m, packed=m.packed[1:]),
        signed="16 bytes, got 15",
    ),
    Case(
        "a byte long",
        "upload",
        "15 bytes, got 16",
        lambda _s, m: replace(m, packed=m.packed + b"\0"),
        signed="16 bytes, got 17",
    ),
    Case(
        "the padding bit set",
        "upload",
        "a padding bit after 17 values of 7 bits is set",
        lambda _s, m: replace(m, packed=m.packed[:-1] + bytes([m.packed[-1] | 0x80])),
        signed="a padding bit after 18 values of 7 bits is set",
    ),
    Case("a text", "upload", ENCODING, lambda _s, m: ["upload", m.context, 0, "text", b""]),
    Case("no links", "upload", f"0 {LINKS}", lambda _s, m: replace(m, links=b"")),
    Case("a link missing", "upload", LINKS, lambda _s, m: replace(m, links=m.links[32:])),
    Case("a link more", "upload", LINKS, lambda _s, m: replace(m, links=m.links + bytes(32))),
    Case("a link cut short", "upload", LINKS, lambda _s, m: replace(m, links=m.links[:-1])),
    Case("a byte of link more", "upload", LINKS, lambda _s, m: replace(m, links=m.links + b"\0")),
    Case(
        "links of nil", "upload", ENCODING, lambda _s, m: ["upload", m.context, 0, m.packed, None]
    ),
    Case(
        "the second piece", "upload", "piece 1 where 0 is next", lambda _s, m: replace(m, index=1)
    ),
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

OF_SELF, OF_MASK = "bytes where {} shares have", "bytes where 1 shares have 36"
LIMB = "a share has a limb that is not below the prime"


def with_shares(message: Any, name: str, change: Callable[[bytes], bytes]) -> Any:
    return replace(message, **{name: change(getattr(message, name))})


def at_limb(raw: bytes, limb: int, value: int) -> bytes:
    return raw[: 4 * limb] + value.to_bytes(4, "little") + raw[4 * limb + 4 :]


ANSWER = [
    *(
        Case(
            f"{what} {name.replace('_', ' ')}",
            "answer",
            "shares have",
            lambda _s, m, name=name, change=change: with_shares(m, name, change),
        )
        for name in ("self_shares", "mask_shares")
        for what, change in (
            ("no", lambda _raw: b""),
            ("a missing one of the", lambda raw: raw[SHARE_BYTES:]),
            ("one more of the", lambda raw: raw + bytes(SHARE_BYTES)),
            ("a short one of the", lambda raw: raw[:-1]),
            ("a long one of the", lambda raw: raw + b"\0"),
        )
    ),
    Case(
        "nothing",
        "answer",
        "0 bytes where",
        lambda _s, m: replace(m, self_shares=b"", mask_shares=b""),
    ),
    Case(
        "a share of the dropped one among those of survivors",
        "answer",
        "shares have",
        lambda _s, m: replace(m, self_shares=m.self_shares + m.mask_shares, mask_shares=b""),
    ),
    Case(
        "a survivor as dropped",
        "answer",
        "shares have",
        lambda _s, m: replace(
            m,
            self_shares=m.self_shares[:-SHARE_BYTES],
            mask_shares=m.mask_shares + m.self_shares[-SHARE_BYTES:],
        ),
    ),
    Case(
        "both kinds exchanged",
        "answer",
        "shares have",
        lambda _s, m: replace(m, self_shares=m.mask_shares, mask_shares=m.self_shares),
    ),
    Case("a text", "answer", ENCODING, lambda _s, m: ["unmask-answer", m.context, "text", b""]),
    Case("no bytes", "answer", ENCODING, lambda _s, m: ["unmask-answer", m.context, b"", None]),
    *(
        Case(
            f"limb {limb} of the {name.replace('_', ' ')} is {value:#x}",
            "answer",
            LIMB,
            lambda _s, m, name=name, limb=limb, value=value: with_shares(
                m, name, lambda raw: at_limb(raw, limb, value)
            ),
        )
        for name, limb, value in (
            ("self_shares", 0, 2**31 - 1),
            ("self_shares", 13, 2**31),
            ("self_shares", 26, 2**32 - 1),
            ("mask_shares", 0, 2**31),
            ("mask_shares", 8, 2**31 - 1),
        )
    ),
]

# --- what only active mode has ------------------------------------------------------------


def signed_by(party: int, what: bytes, scheme: str = ED25519) -> bytes:
    return signer_of(party, scheme).sign(what)


def resigned(scene: Scene, message: Any, by: int = 1, scheme: str = ED25519, **fields) -> Any:
    """The advert with a signature by another, or over other fields."""
    own = Keys(1, message.nonce, message.channel_key, b"")
    what = keys.signed_advert(scene.session.context, replace(own, **fields))
    return replace(message, signature=signed_by(by, what, scheme))


def confirmed(scene: Scene, message: Any, *survivors: int, party: int = 1) -> Any:
    """A confirmation of these survivors."""
    raw = bytes([sum(1 << (v - 1) for v in survivors)])
    what = keys.signed_survivors(scene.clients[1].state.context, raw)
    return replace(message, signature=signed_by(party, what))


def forged_proof(scene: Scene, message: Any, at: int, by: int, *survivors: int) -> Any:
    """One signature of the proof is that of `by` over these survivors."""
    signature = confirmed(scene, Confirmation(message.context, b""), *survivors, party=by).signature
    return one_signed(message, at, signature=signature)


def one_signed(message: Any, at: int, **fields: Any) -> Any:
    signatures = list(message.signatures)
    signatures[at] = replace(signatures[at], **fields)
    return replace(message, signatures=tuple(signatures))


MEMBERS_OF = "not a set of the 7 clients"
IN_ORDER = "signatures that are not of distinct survivors, in order"

ACTIVE = [
    Case("no signature", "advert", UNSIGNED, lambda _s, m: replace(m, signature=b"")),
    Case("a flipped bit", "advert", UNSIGNED, lambda _s, m: one_flip(m, 0)),
    Case("another flipped bit", "advert", UNSIGNED, lambda _s, m: one_flip(m, 63)),
    Case("63 bytes", "advert", UNSIGNED, lambda _s, m: replace(m, signature=m.signature[:-1])),
    Case("65 bytes", "advert", UNSIGNED, lambda _s, m: replace(m, signature=m.signature + b"\0")),
    Case("of another key", "advert", UNSIGNED, lambda s, m: resigned(s, m, channel_key=bytes(32))),
    Case("of another nonce", "advert", UNSIGNED, lambda s, m: resigned(s, m, nonce=bytes(32))),
    Case("of another number", "advert", UNSIGNED, lambda s, m: resigned(s, m, party=2)),
    Case("by another member", "advert", UNSIGNED, lambda s, m: resigned(s, m, by=2)),
    Case("by another scheme", "advert", UNSIGNED, lambda s, m: resigned(s, m, scheme=ML_DSA_65)),
    Case(
        "of another session",
        "advert",
        UNSIGNED,
        lambda _s, m: replace(m, signature=signed_in(honest(number=1, active=True)["advert"])),
    ),
    Case(
        "another member's advert",
        "advert",
        UNSIGNED,
        lambda s, m: replace(
            m, **{f: getattr(advert_of(s, 2), f) for f in ("nonce", "channel_key", "signature")}
        ),
    ),
    Case(
        "an advert with another's signature, consistently",
        "cohort",
        OF_CLIENT.format(3),
        lambda s, m: altered(s, m, 3, signature=advert_of(s, 2).signature),
    ),
    Case(
        "an advert without a signature, consistently",
        "cohort",
        OF_CLIENT.format(6),
        lambda s, m: altered(s, m, 6, signature=b""),
    ),
    Case(
        "a fresh key, consistently",
        "cohort",
        OF_CLIENT.format(2),
        lambda s, m: altered(s, m, 2, channel_key=b"\x09" + bytes(31)),
    ),
    Case(
        "two adverts exchanged, consistently",
        "cohort",
        OF_CLIENT.format(2),
        lambda s, m: republished(
            m,
            [
                replace(own, party={2: 3, 3: 2}.get(own.party, own.party))
                for own in (members(s)[i] for i in (0, 2, 1, 3, 4, 5))
            ],
        ),
    ),
    Case(
        "too few in all",
        "cohort",
        "only 3 clients advertised, fewer than 4",
        lambda _s, m: replace(m, size=3),
    ),
    Case(
        "too few neighbours",
        "cohort",
        "only 3 neighbours advertised, fewer than 4",
        lambda _s, m: replace(m, neighbours=m.neighbours[:2]),
    ),
    Case(
        "too few deliveries",
        "inbox",
        "only 3 neighbours shared their keys, fewer than 4",
        lambda _s, m: replace(m, delivered=m.delivered[:2]),
    ),
    Case(
        "too few in all",
        "cohort",
        "only 3 clients advertised, fewer than 4",
        lambda _s, m: replace(m, size=3),
    ),
    Case(
        "too few neighbours",
        "cohort",
        "only 3 neighbours advertised, fewer than 4",
        lambda _s, m: replace(m, neighbours=m.neighbours[:2]),
    ),
    Case(
        "too few deliveries",
        "inbox",
        "only 3 neighbours shared their keys, fewer than 4",
        lambda _s, m: replace(m, delivered=m.delivered[:2]),
    ),
    Case(
        "too few in all",
        "cohort",
        "only 3 clients advertised, fewer than 4",
        lambda _s, m: replace(m, size=3),
    ),
    Case(
        "too few neighbours",
        "cohort",
        "only 3 neighbours advertised, fewer than 4",
        lambda _s, m: replace(m, neighbours=m.neighbours[:2]),
    ),
    Case(
        "too few deliveries",
        "inbox",
        "only 3 neighbours shared their keys, fewer than 4",
        lambda _s, m: replace(m, delivered=m.delivered[:2]),
    ),
    Case("no survivors", "survivors", MEMBERS_OF, lambda _s, m: replace(m, survivors=b"")),
    Case(
        "a byte more",
        "survivors",
        MEMBERS_OF,
        lambda _s, m: replace(m, survivors=m.survivors + b"\0"),
    ),
    Case("one outside", "survivors", MEMBERS_OF, lambda _s, m: replace(m, survivors=b"\x8f")),
    Case(
        "without us",
        "survivors",
        "we uploaded, and are not among the survivors",
        lambda _s, m: replace(m, survivors=b"\x1e"),
    ),
    Case(
        "nobody",
        "survivors",
        "we uploaded, and are not among the survivors",
        lambda _s, m: replace(m, survivors=b"\0"),
    ),
    *(
        Case(
            f"client {bit + 1}, who did not share",
            "survivors",
            "survivors of whom we have no shares",
            lambda _s, m, bit=bit: replace(m, survivors=bytes([m.survivors[0] | 1 << bit])),
        )
        for bit in (5, 6)
    ),
    Case(
        "too few",
        "survivors",
        "only 3 clients uploaded, fewer than 4",
        lambda _s, m: replace(m, survivors=b"\x07"),
    ),
    Case("a text", "survivors", ENCODING, lambda _s, m: ["survivor-set", m.context, "text"]),
    Case("no signature", "confirmation", UNSIGNED, lambda _s, m: replace(m, signature=b"")),
    Case("a flipped bit", "confirmation", UNSIGNED, lambda _s, m: one_flip(m, 40)),
    Case("one survivor less", "confirmation", UNSIGNED, lambda s, m: confirmed(s, m, 1, 2, 3)),
    Case("another survivor", "confirmation", UNSIGNED, lambda s, m: confirmed(s, m, 1, 2, 3, 5)),
    Case(
        "one survivor more", "confirmation", UNSIGNED, lambda s, m: confirmed(s, m, 1, 2, 3, 4, 5)
    ),
    Case(
        "another's confirmation",
        "confirmation",
        UNSIGNED,
        lambda s, m: confirmed(s, m, 1, 2, 3, 4, party=2),
    ),
    Case(
        "the signature of our advert",
        "confirmation",
        UNSIGNED,
        lambda s, m: replace(m, signature=members(s)[0].signature),
    ),
    Case(
        "of another session",
        "confirmation",
        UNSIGNED,
        lambda _s, m: replace(
            m, signature=signed_in(honest(number=1, active=True)["confirmation"])
        ),
    ),
    Case("none", "proof", "only 0 survivors", lambda _s, m: replace(m, signatures=())),
    Case(
        "one less",
        "proof",
        "only 3 survivors confirmed, fewer than 4",
        lambda _s, m: replace(m, signatures=m.signatures[1:]),
    ),
    Case("permuted", "proof", IN_ORDER, lambda _s, m: replace(m, signatures=m.signatures[::-1])),
    Case(
        "one twice",
        "proof",
        IN_ORDER,
        lambda _s, m: replace(m, signatures=(m.signatures[0], *m.signatures)),
    ),
    Case(
        "one twice for another",
        "proof",
        IN_ORDER,
        lambda _s, m: replace(m, signatures=(*m.signatures[:2], *m.signatures[1:3])),
    ),
    Case("by one who dropped", "proof", IN_ORDER, lambda _s, m: one_signed(m, 3, party=5)),
    Case("by one outside", "proof", IN_ORDER, lambda _s, m: one_signed(m, 3, party=99)),
    Case("by the server", "proof", ENCODING, lambda _s, m: one_signed(m, 0, party=0)),
    *(
        Case(
            f"{what} at {at}",
            "proof",
            f"client {at + 1} on the survivors: {UNSIGNED}",
            lambda s, m, at=at, change=change: change(s, m, at),
        )
        for at in (0, 1, 3)
        for what, change in (
            ("no signature", lambda _s, m, at: one_signed(m, at, signature=b"")),
            ("another's", lambda s, m, at: forged_proof(s, m, at, (at + 1) % 4 + 1, 1, 2, 3, 4)),
            ("over fewer", lambda s, m, at: forged_proof(s, m, at, at + 1, 1, 2, 3)),
            ("over more", lambda s, m, at: forged_proof(s, m, at, at + 1, 1, 2, 3, 4, 5)),
            ("over others", lambda s, m, at: forged_proof(s, m, at, at + 1, 1, 2, 4, 5)),
        )
    ),
]


def one_flip(message: Any, at: int) -> Any:
    return replace(message, signature=flipped(message.signature, at))


def signed_in(data: bytes) -> bytes:
    return msgspec.msgpack.decode(data)[-1]


CASES = [*ADVERT, *COHORT, *SHARES, *INBOX, *UPLOAD, *REQUEST, *ANSWER]
IN_ACTIVE = [*(case for case in CASES if case.stop != "request"), *ACTIVE]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_a_field_that_is_wrong(case: Case) -> None:
    scene = Scene(suite=case.suite)
    stop = scene.until(case.stop)
    body = case.change(scene, stop.message)
    refused(stop, encode(body), case.reason)
    scene.finish()


@pytest.mark.parametrize("case", IN_ACTIVE, ids=repr)
def test_a_field_that_is_wrong_in_active_mode(case: Case) -> None:
    scene = Scene(suite=case.suite, active=True)
    stop = scene.until(case.stop)
    body, reason = encode(case.change(scene, stop.message)), case.signed or case.reason
    if case.stop in TO_CLIENT and reason != ENCODING:
        aborted(stop, body, reason)
        return
    refused(stop, body, reason)
    scene.finish()


def test_there_are_as_many_cases_as_were_asked_for() -> None:
    assert len(CASES) >= 60
    assert {case.stop for case in CASES} == set(STOPS)
    assert {case.stop for case in IN_ACTIVE} == set(ACTIVE_STOPS)


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


def test_a_cohort_before_this_client_has_joined() -> None:
    scene = Scene()
    client = masking.Client(scene.session, 1, SeededSource(b"early"), SystemSealer())
    stop = Stop("cohort", client, SERVER, honest()["cohort"])
    error = refused(stop, None, "unexpected Cohort")
    assert error.expected == "no message at this stage"
    client.handle(Join())
    refused(stop, None, "our own advert is not in the published cohort")


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


@pytest.mark.parametrize("active", [False, True])
def test_client_and_server_that_are_bound_to_different_models(active: bool) -> None:
    """The server refuses what client 1 uploads, and client 1 what the server asks of others."""
    uploaders = (1, 2, 3, 4, 5) if active else (1, 2, 3, 4)
    scene = Scene(active=active, applications={1: bytes(32)}, uploaders=uploaders)
    stop = scene.until("upload")
    error = refused(stop, None, "Upload of another session")
    assert error.expected == "a message bound to this session, roster and model"
    requests = scene.server.handle(RoundClosed())
    assert {e.to for e in requests} == set(uploaders[1:])
    for each in requests:
        refused(Stop("request", scene.clients[1], SERVER, each.data), None, "of another session")


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
    client = plain.Client(session, 1, SeededSource(b"x"), SystemSealer())
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
    *active, place = name.split(", ")
    stop = plain_stop()[0] if place == "plain upload" else Scene(active=bool(active)).until(place)
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


FUZZED = pytest.mark.parametrize(
    "name", [*STOPS, *(f"active, {name}" for name in ACTIVE_STOPS), "plain upload"]
)


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
