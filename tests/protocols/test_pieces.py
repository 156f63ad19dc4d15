"""Uploads in several messages: taken in order, all or nothing, and in bounded memory."""

import numpy as np
import pytest
from msgspec.structs import replace

from protocols.base import MAX_OPEN_BYTES, SERVER, Contribute, Received, RoundClosed
from protocols.driver import Simulation
from protocols.masking import PROTOCOL, configure
from protocols.masking.messages import Upload
from protocols.registry import PROTOCOLS, load
from secagg.codec import decode, encode
from secagg.errors import LocalError, PeerError
from secagg.rng import SystemSource
from tests.protocols.support import begin, exact_sum, one_hot, session_of

N, BITS, LENGTH = 4, 7, 20
# 20 values, 10 zeros and a one: pieces of 8, 8, 8 and 7 coordinates, of 7 bits each


def at_upload(length: int = LENGTH, chunk: int = 8, n: int = N) -> Simulation:
    parameters = configure(n, length, BITS, suite="X25519", threshold=2, floor=2, chunk=chunk)
    inputs = {u: one_hot(u, length, BITS) for u in range(1, n + 1)}
    simulation = Simulation(PROTOCOL, session_of(PROTOCOL, parameters), inputs, SystemSource())
    simulation.step("advertise")
    simulation.step("share")
    for request in [e for e in simulation.transcript if e.sender == SERVER][-n:]:
        simulation.parties[request.to].handle(Received(SERVER, request.data))
        begin(simulation.parties[request.to], simulation.application)
    return simulation


def pieces_of(simulation: Simulation, client: int) -> list[bytes]:
    sent = simulation.parties[client].handle(Contribute(simulation.inputs[client]))
    return [envelope.data for envelope in sent]


def give(simulation: Simulation, client: int, *pieces: bytes) -> None:
    for piece in pieces:
        assert simulation.server.handle(Received(client, piece)) == ()


def ends_with(simulation: Simulation, *uploaders: int) -> None:
    """Close the stage, unmask, and compare."""
    for request in simulation.server.handle(RoundClosed()):
        (answer,) = simulation.parties[request.to].handle(Received(SERVER, request.data))
        simulation.server.handle(Received(request.to, answer.data))
    simulation.server.handle(RoundClosed())
    result = simulation.server.machine.result
    assert result.contributors == uploaders
    assert result.total.tolist() == exact_sum(simulation.inputs, uploaders, BITS)


def test_pieces_of_several_clients_may_be_mixed() -> None:
    simulation = at_upload()
    waiting = {u: pieces_of(simulation, u) for u in (1, 2, 3, 4)}
    assert {len(pieces) for pieces in waiting.values()} == {4}
    for at in range(4):
        for u in (3, 1, 4, 2):
            assert u in simulation.server.machine.waits_for
            give(simulation, u, waiting[u][at])
    assert simulation.server.machine.waits_for == frozenset()
    assert simulation.server.machine.unfinished == frozenset()
    ends_with(simulation, 1, 2, 3, 4)


@pytest.mark.parametrize("parts", [0, 1, 2, 3])
def test_an_upload_that_is_not_complete_is_not_in_the_sum(parts: int) -> None:
    simulation = at_upload()
    for u in (1, 3):
        give(simulation, u, *pieces_of(simulation, u))
    give(simulation, 2, *pieces_of(simulation, 2)[:parts])
    give(simulation, 4, *pieces_of(simulation, 4)[: 3 - parts])
    assert simulation.server.machine.waits_for == {2, 4}
    assert simulation.server.machine.unfinished == {u for u, k in ((2, parts), (4, 3 - parts)) if k}
    ends_with(simulation, 1, 3)
    assert dict(simulation.server.machine.result.dropped) == {2: "upload", 4: "upload"}


def other(piece: bytes, **fields: object) -> bytes:
    return encode(replace(decode(piece, Upload), **fields))


WRONG = {
    "the next but one": (lambda p: p[2], "piece 2 where 1 is next"),
    "the last": (lambda p: p[3], "piece 3 where 1 is next"),
    "the first again": (lambda p: p[0], "piece 0 where 1 is next"),
    "beyond the last": (lambda p: other(p[1], index=4), "piece 4 where 1 is next"),
    "far beyond": (lambda p: other(p[1], index=2**53), "piece 9007199254740992 where 1 is next"),
    "negative": (lambda p: other(p[1], index=-1), "not a valid encoding"),
    "empty": (lambda p: other(p[1], packed=b""), "got 0"),
    "the whole": (lambda p: other(p[1], packed=bytes(28)), "got 28"),
    "a byte short": (lambda p: other(p[1], packed=bytes(6)), "got 6"),
    "a byte long": (lambda p: other(p[1], packed=bytes(8)), "got 8"),
    "another session": (lambda p: other(p[1], context=bytes(32)), "of another session"),
    "links too early": (lambda p: other(p[1], links=bytes(96)), "96 bytes of links in piece 1"),
    "a byte of links": (lambda p: other(p[1], links=b"\0"), "1 bytes of links in piece 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_piece_that_is_wrong(case: str) -> None:
    simulation = at_upload()
    pieces = pieces_of(simulation, 1)
    give(simulation, 1, pieces[0])
    change, reason = WRONG[case]
    before = simulation.server.machine.snapshot()
    with pytest.raises(PeerError) as caught:
        simulation.server.handle(Received(1, change(pieces)))
    assert (caught.value.peer, caught.value.stage) == (1, "upload")
    assert reason in caught.value.reason
    assert caught.value.expected
    assert simulation.server.machine.snapshot() == before
    give(simulation, 1, *pieces[1:])
    give(simulation, 2, *pieces_of(simulation, 2))
    ends_with(simulation, 1, 2)


@pytest.mark.parametrize("client", [1, 2, 4])
def test_links_are_in_the_last_piece_one_for_each_higher_neighbour(client: int) -> None:
    simulation = at_upload()
    pieces = pieces_of(simulation, client)
    links = [decode(piece, Upload).links for piece in pieces]
    assert links[:-1] == [b""] * 3
    size = 32 * (N - client)
    assert len(links[-1]) == size
    give(simulation, client, *pieces[:-1])
    before = simulation.server.machine.snapshot()
    for wrong in {0, 1, size - 32, size - 1, size + 1, size + 32} - {-32, -1, size}:
        with pytest.raises(PeerError, match=f"{wrong} bytes of links in piece 3") as caught:
            give(simulation, client, other(pieces[-1], links=bytes(wrong)))
        assert caught.value.peer == client
        assert simulation.server.machine.snapshot() == before
    give(simulation, client, pieces[-1])
    give(simulation, 3, *pieces_of(simulation, 3))
    ends_with(simulation, *sorted((client, 3)))


def test_padding_is_checked_in_the_last_piece() -> None:
    simulation = at_upload()
    *pieces, last = pieces_of(simulation, 1)
    give(simulation, 1, *pieces)
    packed = decode(last, Upload).packed
    padded = other(last, packed=packed[:-1] + bytes([packed[-1] | 0x80]))
    before = simulation.server.machine.snapshot()
    with pytest.raises(PeerError, match="padding bit"):
        simulation.server.handle(Received(1, padded))
    assert simulation.server.machine.snapshot() == before


@pytest.mark.parametrize("at", [0, 7, 8, LENGTH - 1])
def test_a_value_that_does_not_fit_in_any_piece_sends_none_of_them(at: int) -> None:
    simulation = at_upload()
    client = simulation.parties[1]
    values = np.zeros(LENGTH, np.uint64)
    values[at] = 2**BITS
    before = client.machine.snapshot()
    with pytest.raises(LocalError, match="does not fit"):
        client.handle(Contribute(values))
    assert client.machine.snapshot() == before
    give(simulation, 1, *pieces_of(simulation, 1))


def test_a_restart_resends_all_pieces() -> None:
    simulation = at_upload()
    pieces = pieces_of(simulation, 1)
    give(simulation, 1, pieces[0])
    resent = simulation._restart(1)
    assert [envelope.data for envelope in resent] == pieces
    with pytest.raises(PeerError, match="piece 0 where 1 is next"):
        give(simulation, 1, *pieces)
    give(simulation, 1, *pieces[1:])
    assert 1 not in simulation.server.machine.waits_for


def test_a_server_in_the_middle_of_an_upload_survives_its_snapshot() -> None:
    simulation = at_upload()
    pieces = pieces_of(simulation, 1)
    give(simulation, 1, *pieces[:2])
    machine = simulation.server.machine
    machine.restore(machine.snapshot())
    give(simulation, 1, *pieces[2:])
    give(simulation, 2, *pieces_of(simulation, 2))
    ends_with(simulation, 1, 2)


def test_one_client_after_the_other_costs_one_vector_more_and_no_further() -> None:
    length, n = 4096, 8
    links = sum(32 * (n - u) for u in range(1, n + 1))
    simulation = at_upload(length, chunk=512, n=n)
    empty = len(simulation.server.machine.snapshot())
    vector = length * BITS // 8
    sizes = []
    for u in range(1, n + 1):
        for piece in pieces_of(simulation, u):
            give(simulation, u, piece)
            sizes.append(len(simulation.server.machine.snapshot()) - empty)
    assert max(sizes) < vector + links + 200
    assert links <= sizes[-1] <= links + 4 * n


@pytest.mark.parametrize(("room", "most"), [(1, 1), (2, 2), (3, 3), (4, 4), (100, 4)])
def test_long_uploads_wait_for_each_other_by_their_bytes(
    monkeypatch: pytest.MonkeyPatch, room: int, most: int
) -> None:
    """Room for so many whole uploads lets so many be incomplete, at most four; one always."""
    simulation = at_upload(n=6)
    size = simulation.server.machine.session.parameters.upload_bytes
    assert size == -(-LENGTH * BITS // 8)
    monkeypatch.setattr("protocols.base.MAX_OPEN_BYTES", room * size + size - 1 if room > 1 else 1)
    waiting = {u: pieces_of(simulation, u) for u in range(1, 7)}
    for u in range(1, most + 1):
        give(simulation, u, waiting[u][0])
    with pytest.raises(LocalError, match=f"^{most} uploads are incomplete"):
        give(simulation, 6, waiting[6][0])
    give(simulation, 1, *waiting[1][1:])
    give(simulation, 6, *waiting[6])
    for u in range(2, 6):
        give(simulation, u, *waiting[u][1 if u <= most else 0 :])
    ends_with(simulation, 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_beside_the_sum_of_a_long_vector_one_incomplete_upload_is_kept(name: str) -> None:
    parameters = load(name).configure(5, 10**8, 32)
    assert MAX_OPEN_BYTES // parameters.upload_bytes == 0
    assert parameters.upload_bytes >= 4 * 10**8


def test_a_fifth_incomplete_upload_waits_and_nobody_is_blamed() -> None:
    """The server's memory is bounded whatever the number of clients: its driver must wait."""
    simulation = at_upload(n=6)
    waiting = {u: pieces_of(simulation, u) for u in range(1, 7)}
    for u in (1, 2, 3, 4):
        give(simulation, u, waiting[u][0])
    before = simulation.server.machine.snapshot()
    with pytest.raises(LocalError, match="4 uploads are incomplete"):
        simulation.server.handle(Received(5, waiting[5][0]))
    assert simulation.server.machine.snapshot() == before
    assert simulation.server.machine.unfinished == {1, 2, 3, 4}
    give(simulation, 2, *waiting[2][1:])
    give(simulation, 5, *waiting[5])
    for u in (1, 3, 4):
        give(simulation, u, *waiting[u][1:])
    give(simulation, 6, *waiting[6])
    ends_with(simulation, 1, 2, 3, 4, 5, 6)
