"""`committee`: clients and decryptors that vanish, lie, or are asked for too much."""

import numpy as np
import pytest
from msgspec.structs import replace

from protocols.base import SERVER, BadAnswer, Begin, Contribute, Join, Received
from protocols.committee import PROTOCOL, CommitteeParameters
from protocols.committee.messages import (
    Announcement,
    Answer,
    Committee,
    Delivery,
    OpenRequest,
    Report,
    Upload,
)
from protocols.driver import Fault, Simulation, run
from secagg import packing
from secagg.codec import decode, encode
from secagg.errors import LocalError, ParameterError, PeerError, ProtocolAborted
from secagg.field import PRIME
from secagg.rng import SystemSource
from tests.protocols.support import exact_sum, random_values, session_of

CLIENTS = 4
STAGES = ("keys", "upload", "report", "open")


def parameters(clients: int = CLIENTS, length: int = 20, **options) -> CommitteeParameters:
    return PROTOCOL.configure(clients, length, 32, **{"suite": "X25519", **options})


def inputs_of(chosen: CommitteeParameters) -> dict[int, np.ndarray]:
    return {u: random_values(u, chosen.length, 32) for u in range(1, chosen.clients + 1)}


def outcome_of(chosen: CommitteeParameters, faults=None):
    inputs = inputs_of(chosen)
    session = session_of(PROTOCOL, chosen)
    return inputs, run(PROTOCOL, session, inputs, SystemSource(), faults=faults or {})


class Scene:
    """A session just before a stage; what parties would send in it is in `sent`."""

    def __init__(self, stage: str, **options) -> None:
        chosen = parameters(**options)
        self.inputs = inputs_of(chosen)
        self.simulation = Simulation(
            PROTOCOL, session_of(PROTOCOL, chosen), self.inputs, SystemSource()
        )
        self.server = self.simulation.server
        for before in STAGES[: STAGES.index(stage)]:
            self.simulation.step(before)
        self.requests = {e.to: e.data for e in self.simulation._requests}

    def sent(self, party: int) -> bytes:
        """The one message of a party in this stage."""
        machine = self.simulation.parties[party]
        if not self.requests:
            (envelope,) = machine.handle(Join())
        else:
            sent = list(machine.handle(Received(SERVER, self.requests[party])))
            if party in self.inputs:
                sent += machine.handle(Contribute(self.inputs[party]))
            (envelope,) = sent
        return envelope.data

    def hear(self, sender: int, data: bytes) -> None:
        self.server.handle(Received(sender, data))

    def refuses(self, sender: int, message: object, why: str) -> None:
        before = self.server.machine.snapshot()
        with pytest.raises(PeerError, match=why) as caught:
            self.hear(sender, encode(message))
        assert caught.value.peer == sender
        assert self.server.machine.snapshot() == before

    def close(self, *stages: str):
        """Close this stage, run those that follow, and say how it ended."""
        self.simulation._close("")
        for stage in stages:
            if not self.simulation.abort:
                self.simulation.step(stage)
        return self.simulation.abort or self.server.machine.result


GONE = (Fault.VANISH, Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DELAY, Fault.CRASH_AFTER)


@pytest.mark.parametrize("fault", [*GONE, Fault.DUPLICATE, Fault.TRUNCATE, Fault.CRASH_BEFORE])
@pytest.mark.parametrize("stage", STAGES)
def test_clients_and_decryptors_may_vanish_anywhere(stage: str, fault: Fault) -> None:
    decryptors = [CLIENTS + 1, CLIENTS + 3]
    faults = {(party, stage): fault for party in (2, *decryptors)}
    inputs, outcome = outcome_of(parameters(), faults)
    assert outcome.result is not None, outcome.abort
    there = outcome.result.contributors
    lost = {
        "keys": {Fault.VANISH, Fault.LOSE_REQUEST},  # it never began
        "upload": {*GONE, Fault.TRUNCATE} - {Fault.CRASH_AFTER},
    }
    assert there == ((1, 3, 4) if fault in lost.get(stage, ()) else (1, 2, 3, 4))
    assert outcome.result.total.tolist() == exact_sum(inputs, there, 32)


@pytest.mark.parametrize("stage", STAGES)
def test_decryptors_may_be_some_of_the_clients(stage: str) -> None:
    """Each of four hosts is a client and a decryptor; one of them is lost as a whole."""
    host = 2
    faults = {(party, stage): Fault.VANISH for party in (host, CLIENTS + host)}
    inputs, outcome = outcome_of(parameters(decryptors=CLIENTS), faults)
    assert outcome.result is not None, outcome.abort
    lost = stage in ("keys", "upload")
    assert outcome.result.contributors == ((1, 3, 4) if lost else (1, 2, 3, 4))
    assert outcome.result.total.tolist() == exact_sum(inputs, outcome.result.contributors, 32)


@pytest.mark.parametrize("stage", ["keys", "report", "open"])
def test_fewer_decryptors_than_the_threshold_open_nothing(stage: str) -> None:
    faults = {(CLIENTS + v, stage): Fault.VANISH for v in (1, 2, 4)}
    _, outcome = outcome_of(parameters(), faults)
    assert outcome.abort.stage == stage
    assert "only 2 decryptors" in outcome.abort.reason


def test_a_committee_of_one_hundred_loses_half() -> None:
    chosen = parameters(clients=3, decryptors=100)
    assert chosen.threshold == 51
    stages = ["keys"] * 16 + ["report"] * 16 + ["open"] * 17
    faults = {(3 + v, stage): Fault.VANISH for v, stage in enumerate(stages, start=2)}
    inputs, outcome = outcome_of(chosen, faults)
    assert outcome.result.total.tolist() == exact_sum(inputs, (1, 2, 3), 32)


def test_a_client_sends_one_message_and_is_asked_for_no_other() -> None:
    _, outcome = outcome_of(parameters())
    for client in range(1, CLIENTS + 1):
        assert [e.stage for e in outcome.transcript if e.sender == client] == ["upload"]
        assert [e.stage for e in outcome.transcript if e.to == client] == ["keys"]


# --- decryptors that lie ---------------------------------------------------------------------


def wrong(data: bytes, place: int = 100) -> bytes:
    """An answer with one element changed."""
    answer = decode(data, Answer)
    elements = packing.unpack(answer.total, 31, 4096)
    elements[place] = (elements[place] + 1) % PRIME
    return encode(replace(answer, total=packing.pack(elements, 31)))


@pytest.mark.parametrize("liars", [(5,), (7,), (5, 9), (8, 9)])
def test_wrong_answers_are_found_where_more_than_t_answered(liars: tuple[int, ...]) -> None:
    scene = Scene("open")
    for party in range(5, 10):
        data = scene.sent(party)
        scene.hear(party, wrong(data) if party in liars else data)
    result = scene.close()
    assert result.bad_answers == tuple(BadAnswer(SERVER, party, "sum of shares") for party in liars)
    assert result.total.tolist() == exact_sum(scene.inputs, scene.inputs, 32)


def test_a_wrong_answer_among_exactly_t_ends_the_session() -> None:
    scene = Scene("open")
    for party in (5, 6, 7):
        data = scene.sent(party)
        scene.hear(party, wrong(data) if party == 6 else data)
    abort = scene.close()
    assert isinstance(abort, ProtocolAborted)
    assert "cannot be said whose is wrong" in abort.reason


def test_an_answer_that_is_no_vector_of_shares_is_refused() -> None:
    scene = Scene("open")
    answer = decode(scene.sent(5), Answer)
    top = packing.pack(np.full(4096, PRIME, np.uint32), 31)
    scene.refuses(5, replace(answer, total=top), "not below the prime")
    scene.refuses(5, replace(answer, total=answer.total[:-1]), "bytes, got")
    scene.refuses(5, replace(answer, context=bytes(32)), "another session")
    scene.refuses(1, answer, "was not asked")
    scene.hear(5, encode(answer))
    scene.refuses(5, answer, "answered twice")


def test_reports_are_about_those_who_uploaded() -> None:
    scene = Scene("report")
    report = decode(scene.sent(5), Report)
    assert report.opened == (1, 2, 3, 4)
    for opened in ((2, 1, 3, 4), (1, 1), (1, 9), (5,)):
        scene.refuses(5, replace(report, opened=opened), "in order")
    scene.refuses(3, report, "was not asked")
    scene.hear(5, encode(report))
    scene.refuses(5, report, "answered twice")


@pytest.mark.parametrize("liar_opens", [(), (1, 2)])
def test_a_decryptor_that_opens_nothing_is_done_without(liar_opens: tuple[int, ...]) -> None:
    scene = Scene("report")
    for party in range(5, 10):
        report = decode(scene.sent(party), Report)
        opened = liar_opens if party == 6 else report.opened
        scene.hear(party, encode(replace(report, opened=opened)))
    result = scene.close("open")
    assert result.contributors == (1, 2, 3, 4)
    assert result.bad_answers == ()


# --- clients that lie ------------------------------------------------------------------------


def spoiled(data: bytes, places: range) -> bytes:
    upload = decode(data, Upload)
    sealed = [bytes(len(s)) if at in places else s for at, s in enumerate(upload.sealed)]
    return encode(replace(upload, sealed=tuple(sealed)))


@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_shares_that_do_not_open_cost_a_decryptor_each(spoilt: int) -> None:
    scene = Scene("upload")
    for client in scene.inputs:
        data = scene.sent(client)
        scene.hear(client, spoiled(data, range(spoilt)) if client == 3 else data)
    result = scene.close("report", "open")
    assert result.total.tolist() == exact_sum(scene.inputs, scene.inputs, 32)


def test_a_client_whose_shares_do_not_open_is_named() -> None:
    scene = Scene("upload")
    for client in scene.inputs:
        data = scene.sent(client)
        scene.hear(client, spoiled(data, range(3)) if client == 3 else data)
    abort = scene.close("report", "open")
    assert isinstance(abort, ProtocolAborted)
    assert abort.blame == (3,)
    assert abort.stage == "report"


def test_malformed_uploads_are_refused() -> None:
    scene = Scene("upload")
    upload = decode(scene.sent(1), Upload)
    scene.refuses(1, replace(upload, sealed=upload.sealed[:-1]), "one for each decryptor")
    short = (upload.sealed[0][:-1], *upload.sealed[1:])
    scene.refuses(1, replace(upload, sealed=short), "one for each decryptor")
    scene.refuses(1, replace(upload, packed=upload.packed[:-1]), "bytes, got")
    scene.refuses(1, replace(upload, packed=b"\xff" * len(upload.packed)), "not below its prime")
    scene.refuses(1, replace(upload, index=1), "piece 1 where 0")
    scene.refuses(5, upload, "not a member of the roster")
    scene.hear(1, encode(upload))
    scene.refuses(1, upload, "uploaded twice")


def test_another_clients_sealed_shares_do_not_open() -> None:
    scene = Scene("upload")
    uploads = {client: decode(scene.sent(client), Upload) for client in scene.inputs}
    uploads[2] = replace(uploads[2], sealed=uploads[1].sealed)
    for client, upload in uploads.items():
        scene.hear(client, encode(upload))
    assert scene.close("report").blame == (2,)


def test_a_ciphertext_under_another_key_breaks_the_canary() -> None:
    scene = Scene("upload")
    uploads = {client: decode(scene.sent(client), Upload) for client in scene.inputs}
    uploads[2] = replace(uploads[2], packed=uploads[1].packed)
    for client, upload in uploads.items():
        scene.hear(client, encode(upload))
    abort = scene.close("report", "open")
    assert "do not give the sum of short keys" in abort.reason


LONG = {"length": 2 * 2 * 4096 + 5, "ring": "A", "step": 1, "largest": 2**28}
"""Two whole polynomials and a bit, one a message."""


class Pieces:
    """A long session before its uploads, which are in several messages."""

    def __init__(self, clients: int = CLIENTS) -> None:
        self.chosen = parameters(clients=clients, **LONG)
        self.inputs = {u: random_values(u, self.chosen.length, 28) for u in range(1, clients + 1)}
        session = session_of(PROTOCOL, self.chosen)
        self.simulation = Simulation(PROTOCOL, session, self.inputs, SystemSource())
        self.server = self.simulation.server
        self.simulation.step("keys")
        self.uploads = {}
        for request in self.simulation._requests:
            party = self.simulation.parties[request.to]
            party.handle(Received(SERVER, request.data))
            sent = party.handle(Contribute(self.inputs[request.to]))
            self.uploads[request.to] = [decode(e.data, Upload) for e in sent]
        self.simulation._requests = []

    def hear(self, sender: int, upload: Upload) -> None:
        self.server.handle(Received(sender, encode(upload)))

    def finish(self):
        self.simulation._close("upload")
        for stage in ("report", "open"):
            if not self.simulation.abort:
                self.simulation.step(stage)
        return self.simulation.abort or self.server.machine.result


def test_pieces_come_in_order_and_count_only_when_they_are_complete() -> None:
    scene = Pieces()
    first, second, last = scene.uploads[1]
    for bad, why in (
        (second, "piece 1 where 0"),
        (replace(first, sealed=last.sealed), "one for each"),
        (replace(first, packed=first.packed[:-60]), "bytes, got"),
    ):
        with pytest.raises(PeerError, match=why):
            scene.hear(1, bad)
    scene.hear(1, first)
    with pytest.raises(PeerError, match="piece 0 where 1"):
        scene.hear(1, first)
    assert scene.server.machine.unfinished == {1}
    for client in (2, 3, 4):
        for upload in scene.uploads[client]:
            scene.hear(client, upload)
    result = scene.finish()
    assert result.contributors == (2, 3, 4)
    assert result.total.tolist() == exact_sum(scene.inputs, (2, 3, 4), 32)


def test_more_than_a_few_open_uploads_wait() -> None:
    scene = Pieces(clients=6)
    for client in (1, 2, 3, 4):
        scene.hear(client, scene.uploads[client][0])
    with pytest.raises(LocalError, match="4 uploads are incomplete"):
        scene.hear(5, scene.uploads[5][0])
    for upload in scene.uploads[1][1:]:
        scene.hear(1, upload)
    scene.hear(5, scene.uploads[5][0])


def test_chunks_in_each_others_place_end_the_session() -> None:
    """The canary is in the last chunk; the others tell by sums that are too large."""
    scene = Pieces()
    first, second, last = scene.uploads[1]
    swapped = replace(first, packed=second.packed), replace(second, packed=first.packed), last
    for client in scene.uploads:
        for upload in swapped if client == 1 else scene.uploads[client]:
            scene.hear(client, upload)
    abort = scene.finish()
    assert isinstance(abort, ProtocolAborted)
    assert abort.stage == "open"
    assert "a key or its sum is wrong" in abort.reason


# --- a server that asks for too much ---------------------------------------------------------


def decryptor_at(stage: str):
    scene = Scene(stage)
    return scene, scene.simulation.parties[5].machine


def test_a_decryptor_answers_once_for_enough_clients_that_it_reported() -> None:
    scene, machine = decryptor_at("open")
    request = decode(scene.requests[5], OpenRequest)
    before = machine.snapshot()
    for survivors in ((2, 1, 3), (1, 1, 2), (1, 2, 9)):
        with pytest.raises(PeerError, match="survivors"):
            machine.handle(Received(SERVER, encode(replace(request, survivors=survivors))))
    with pytest.raises(PeerError, match="only the server"):
        machine.handle(Received(1, encode(request)))
    assert machine.snapshot() == before
    machine.handle(Received(SERVER, encode(request)))
    other = replace(request, survivors=request.survivors[:-1])
    for again in (request, other):
        with pytest.raises(PeerError):
            machine.handle(Received(SERVER, encode(again)))
    assert machine.finished
    assert len(machine.snapshot()) < 100  # no share is left


def test_a_decryptor_refuses_to_open_few_clients() -> None:
    scene, machine = decryptor_at("open")
    request = decode(scene.requests[5], OpenRequest)
    with pytest.raises(ProtocolAborted, match="a sum of only 2 clients"):
        machine.handle(Received(SERVER, encode(replace(request, survivors=(1, 2)))))
    assert machine.finished
    with pytest.raises(PeerError):
        machine.handle(Received(SERVER, encode(request)))


def test_a_decryptor_checks_what_it_is_given() -> None:
    scene, machine = decryptor_at("report")
    delivery = decode(scene.requests[5], Delivery)
    before = machine.snapshot()
    first, second = delivery.delivered[:2]
    for bad, why in (
        (replace(delivery, keys=delivery.keys[1:]), "our own key"),
        (replace(delivery, delivered=(second, first)), "in order"),
        (replace(delivery, delivered=(first, first)), "in order"),
        (replace(delivery, delivered=(replace(first, sender=5),)), "in order"),
    ):
        with pytest.raises(PeerError, match=why):
            machine.handle(Received(SERVER, encode(bad)))
    with pytest.raises(PeerError, match="only the server"):
        machine.handle(Received(2, encode(delivery)))
    assert machine.snapshot() == before
    other = replace(delivery, application=b"m" * 32)
    (sent,) = machine.handle(Received(SERVER, encode(other)))
    assert decode(sent.data, Report).opened == ()  # sealed for another model


def test_a_client_checks_the_committee() -> None:
    scene = Scene("upload")
    machine = scene.simulation.parties[1].machine
    committee = decode(scene.requests[1], Committee)
    keys, before = committee.keys, machine.snapshot()
    for bad, why in (
        (replace(committee, application=b"m" * 32), "differs from ours"),
        (replace(committee, keys=(keys[1], keys[0], *keys[2:])), "in order"),
        (replace(committee, keys=(*keys, replace(keys[0], party=10))), "in order"),
        (replace(committee, keys=(replace(keys[0], party=1), *keys[1:])), "in order"),
        (replace(committee, keys=(replace(keys[0], public=keys[1].public), *keys[1:])), "twice"),
        (replace(committee, keys=(replace(keys[0], public=bytes(32)), *keys[1:])), "decryptor 5"),
    ):
        with pytest.raises(PeerError, match=why):
            machine.handle(Received(SERVER, encode(bad)))
    with pytest.raises(PeerError, match="only the server"):
        machine.handle(Received(5, encode(committee)))
    assert machine.snapshot() == before
    with pytest.raises(ProtocolAborted, match="only 2 decryptors"):
        machine.handle(Received(SERVER, encode(replace(committee, keys=keys[:2]))))


def test_announcements_are_checked() -> None:
    scene = Scene("keys")
    first, second = (decode(scene.sent(party), Announcement) for party in (5, 6))
    scene.refuses(1, first, "not a member of the committee")
    scene.refuses(5, replace(first, public=bytes(32)), "not a X25519 public key")
    scene.refuses(5, replace(first, public=b"short"), "32 bytes")
    scene.hear(5, encode(first))
    scene.refuses(5, second, "twice")
    scene.refuses(6, first, "not its own")
    with pytest.raises(LocalError, match="Begin is said once"):
        scene.server.handle(Begin(bytes(32)))


# --- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"decryptors": 0}, "choose 1 to 100"),
        ({"decryptors": 101}, "choose 1 to 100"),
        ({"threshold": 6}, "at most all"),
        ({"threshold": 2}, "two sets of 2"),
        ({"threshold": 3, "corrupt_decryptors": 3}, "more than collude"),
        ({"threshold": 3, "corrupt_decryptors": 1}, "two sets of 3"),
        ({"floor": 3, "corrupt": 2}, "fewer than 2 honest"),
        ({"largest": 0}, "largest"),
        ({"step": 0}, "at least 1 polynomial"),
        ({"clients": 1000, "decryptors": 100}, "MiB of sealed shares"),
        ({"suite": "none"}, "no suite"),
    ],
)
def test_parameters_that_are_not_safe_are_refused(options: dict, why: str) -> None:
    with pytest.raises(ParameterError, match=why):
        parameters(**options)


def test_who_is_no_decryptor_gets_no_machine() -> None:
    session = session_of(PROTOCOL, parameters())
    for stranger in (0, 1, 4, 10):
        with pytest.raises(LocalError, match="decryptor"):
            PROTOCOL.helper(session, stranger, SystemSource(), None)
