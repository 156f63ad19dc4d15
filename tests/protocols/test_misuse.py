"""What a caller or a store can get wrong, and what a request can lie about."""

import msgspec
import pytest
from msgspec.structs import replace

from protocols import plain
from protocols.base import Begin, Contribute, RoundClosed
from protocols.journal import Claim, MemoryJournal, Stored
from secagg.errors import LocalError, PeerError
from secagg.rng import SeededSource
from tests.protocols.scene import LENGTH, Scene
from tests.protocols.support import session_of


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
    journal.close(b"s", 1, b"terminal")
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
