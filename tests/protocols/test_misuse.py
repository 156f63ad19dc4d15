"""What a caller or a store can get wrong, and what a request can lie about."""

import msgspec
import pytest
from msgspec.structs import replace

from protocols import masking, plain
from protocols.base import Begin, Contribute, RoundClosed, Session
from protocols.journal import Claim, MemoryJournal, Stored
from protocols.masking.bitmap import bitmap_of, members_of
from secagg.errors import DecodeError, LocalError, ParameterError, PeerError
from secagg.identity import Member, Roster
from secagg.rng import SeededSource
from secagg.seal import SystemSealer
from secagg.signing import ED25519, ML_DSA_65
from tests.protocols.scene import LENGTH, Scene
from tests.protocols.support import roster_of, session_of, signer_of


def test_cohort_size_is_bound():
    stop = Scene().until("cohort")
    with pytest.raises(PeerError):
        stop.deliver(replace(stop.message, size=6))  # 5 are published


@pytest.mark.parametrize("uploads", [4, 7, 2**53])
def test_uploads_is_checked_against_survivors(uploads):
    stop = Scene().until("request")
    with pytest.raises(PeerError):
        stop.deliver(replace(stop.message, uploads=uploads))


def test_more_survivors_than_uploads():
    stop = Scene().until("request")
    with pytest.raises(PeerError):
        stop.deliver(replace(stop.message, survivors=(1, 2, 3, 4), uploads=3))


@pytest.mark.parametrize("values", [[0] * LENGTH, (0,) * LENGTH])
def test_a_list_is_a_local_error(values):
    def check(scene):
        with pytest.raises(LocalError):
            scene.clients[1].handle(Contribute(values))

    Scene(before_upload=check).run()


def test_a_spent_session_is_spent():
    journal = MemoryJournal()
    journal.close(b"s", 1, Stored(b"terminal", ()))
    with pytest.raises(LocalError):
        journal.commit(Claim(b"s", 1, "upload", b""), Stored(b"live secrets", ()))


def test_plain_close_before_begin_is_the_callers_fault():
    server = plain.Server(session_of(plain.PROTOCOL, plain.configure(3, 6, 7)), SeededSource(b""))
    with pytest.raises(LocalError):
        server.handle(RoundClosed())


@pytest.mark.parametrize("digest", [None, "x" * 32, [0] * 32])
@pytest.mark.parametrize("kind", ["masking", "plain"])
def test_begin_of_another_type(kind, digest):
    server = (
        Scene().server
        if kind == "masking"
        else plain.Server(session_of(plain.PROTOCOL, plain.configure(3, 6, 7)), SeededSource(b""))
    )
    with pytest.raises(LocalError):
        server.handle(Begin(digest))


@pytest.mark.parametrize("total", [[7, b""], [0, bytes(68)], [16, bytes(68)], [7, bytes(72)]])
def test_a_stored_total_of_another_shape(total):
    stop = Scene().until("upload")
    raw = msgspec.msgpack.decode(stop.machine.snapshot())
    raw[-1] = total
    with pytest.raises(LocalError):
        stop.machine.restore(msgspec.msgpack.encode(raw))


# --- rosters and identities --------------------------------------------------------------

ACTIVE = masking.configure(3, LENGTH, 7, suite="X25519", adversary="active")
MEMBERS = roster_of(3, (ED25519,))


def active_client(session: Session, me: int = 1, *identity: object) -> object:
    return masking.new_client(session, me, SeededSource(b""), SystemSealer(), *identity)


def test_active_mode_needs_the_members_and_an_identity() -> None:
    without = session_of(masking.PROTOCOL, ACTIVE)
    session = session_of(masking.PROTOCOL, ACTIVE, members=MEMBERS)
    with pytest.raises(LocalError, match="needs the roster of identity keys"):
        active_client(without, 1, signer_of(1, ED25519))
    with pytest.raises(LocalError, match="needs the roster of identity keys"):
        masking.new_server(without, SeededSource(b""))
    with pytest.raises(LocalError, match="client 1 needs its identity"):
        active_client(session)
    assert isinstance(active_client(session, 1, signer_of(1, ED25519)), masking.ActiveClient)
    assert isinstance(masking.new_server(session, SeededSource(b"")), masking.ActiveServer)


@pytest.mark.parametrize("other", [signer_of(2, ED25519), signer_of(1, ML_DSA_65)])
def test_an_identity_that_is_not_the_members_is_refused(other: object) -> None:
    session = session_of(masking.PROTOCOL, ACTIVE, members=MEMBERS)
    with pytest.raises(LocalError, match="not that of member 1 in the roster"):
        active_client(session, 1, other)


@pytest.mark.parametrize("me", [-1, 0, 4])
def test_who_is_not_a_member_gets_no_active_client(me: int) -> None:
    session = session_of(masking.PROTOCOL, ACTIVE, members=MEMBERS)
    with pytest.raises(LocalError, match=f"client {me} of 3"):
        active_client(session, me, signer_of(1, ED25519))


def test_semi_honest_mode_ignores_an_identity_and_signs_nothing() -> None:
    parameters = masking.configure(3, LENGTH, 7, suite="X25519")
    client = active_client(session_of(masking.PROTOCOL, parameters), 1, signer_of(1, ED25519))
    assert type(client) is masking.Client


def test_a_session_has_the_roster_that_its_digest_says() -> None:
    for n in (2, 4):
        with pytest.raises(ParameterError, match=f"a roster of {n} members for 3 clients"):
            session_of(masking.PROTOCOL, ACTIVE, members=roster_of(n, (ED25519,)))
    with pytest.raises(ParameterError, match="not that of the members"):
        Session("masking", ACTIVE, bytes(32), b"r" * 32, MEMBERS)
    renamed = Roster(Member(f"{m.name} x", m.public) for m in MEMBERS.members)
    with pytest.raises(ParameterError, match="not that of the members"):
        Session("masking", ACTIVE, bytes(32), MEMBERS.digest(), renamed)


def test_a_session_does_not_print_its_members() -> None:
    session = session_of(masking.PROTOCOL, ACTIVE, members=MEMBERS)
    assert "client 1" not in repr(session)


@pytest.mark.parametrize("bitmap", [b"", bytes(2), b"\x08", b"\x80", b"\xff"])
def test_a_set_of_clients_has_one_encoding(bitmap: bytes) -> None:
    with pytest.raises(DecodeError, match="not a set of the 3 clients"):
        members_of(bitmap, 3)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64])
def test_sets_of_clients_come_back(n: int) -> None:
    for members in (set(), {1}, {n}, set(range(1, n + 1)), set(range(1, n + 1, 3))):
        raw = bitmap_of(members, n)
        assert len(raw) == -(-n // 8)
        assert members_of(raw, n) == members
        assert all(bool(raw[(v - 1) // 8] >> (v - 1) % 8 & 1) is (v in members) for v in members)
