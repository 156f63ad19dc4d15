"""What may never happen twice, and what a store must forget."""

import dataclasses

import msgspec
import numpy as np
import pytest

from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Envelope,
    Join,
    Received,
    RoundClosed,
)
from protocols.driver import Fault, Options, Simulation
from protocols.journal import Claim, MemoryJournal, Party, Stored, already_claimed
from protocols.masking import PROTOCOL, Client, configure
from protocols.masking.client_state import (
    Advertised,
    Confirmed,
    Done,
    Ready,
    Shared,
    Unconfirmed,
    Uploaded,
)
from secagg.errors import LocalError, ProtocolAborted
from secagg.rng import SeededSource
from secagg.seal import SystemSealer
from secagg.signing import ML_DSA_65
from tests.protocols.support import (
    APPLICATION,
    VARIANTS,
    RecordingSource,
    Variant,
    begin,
    one_hot,
    roster_of,
    session_of,
    signers_of,
)

N = 4
STAGES = {
    "semi-honest": ("advertise", "share", "upload", "unmask"),
    "active": ("advertise", "share", "upload", "consistency", "unmask"),
}
BOTH_MODES = pytest.mark.parametrize("mode", STAGES)


def steps_of(*, fewer: int = 0) -> pytest.MarkDecorator:
    """After 1, 2, ... stages of each mode."""
    each = [(m, k) for m in STAGES for k in range(1, len(STAGES[m]) + 1 - fewer)]
    return pytest.mark.parametrize(("mode", "steps"), each)


SESSION = b"s" * 32
ENVELOPE = Envelope(1, SERVER, "upload", b"masked")


def claim(**changes: object) -> Claim:
    return Claim(SESSION, 1, "upload", b"d" * 32)._replace(**changes)


# --- the store ---------------------------------------------------------------------------


def test_a_stage_is_claimed_once_whatever_for() -> None:
    journal = MemoryJournal()
    journal.commit(claim(), Stored(b"first", (ENVELOPE,)))
    for again in (claim(), claim(digest=b"e" * 32)):
        with pytest.raises(LocalError, match="already sent its messages of stage upload") as caught:
            journal.commit(again, Stored(b"second", ()))
        assert str(caught.value) == str(already_claimed(claim()))
        assert journal.latest(SESSION, 1) == Stored(b"first", (ENVELOPE,))


@pytest.mark.parametrize("change", [{"session": b"t" * 32}, {"party": 2}, {"stage": "unmask"}])
def test_claims_of_others_are_apart(change: dict[str, object]) -> None:
    journal = MemoryJournal()
    journal.commit(claim(), Stored(b"first", ()))
    journal.commit(claim(**change), Stored(b"second", ()))
    assert journal.latest(*claim(**change)[:2]).snapshot == b"second"


def test_what_was_never_stored_is_none() -> None:
    journal = MemoryJournal()
    journal.commit(claim(), Stored(b"first", ()))
    assert journal.latest(SESSION, 2) is None
    assert journal.latest(b"t" * 32, 1) is None


def test_closing_replaces_state_and_outbox() -> None:
    journal = MemoryJournal()
    journal.commit(claim(), Stored(b"secret", (ENVELOPE,)))
    journal.close(SESSION, 1, Stored(b"aborted", ()))
    assert journal.latest(SESSION, 1) == Stored(b"aborted", ())
    with pytest.raises(LocalError):
        journal.commit(claim(), Stored(b"again", ()))


def test_what_is_stored_does_not_show() -> None:
    assert repr(Stored(b"secret state", (ENVELOPE,))) == "<Stored with 1 envelopes>"
    assert "masked" not in repr(ENVELOPE)


# --- the party ---------------------------------------------------------------------------


class World:
    """A simulation of N clients, all of whose secrets are known to the test."""

    def __init__(self, mode: str = "semi-honest", faults=None) -> None:
        self.source = RecordingSource()
        parameters = configure(N, N, 16, threshold=3, suite="X25519", adversary=mode)
        schemes = (ML_DSA_65,) if mode == "active" else ()
        self.signers = signers_of(N, schemes)
        members = roster_of(N, schemes) if schemes else None
        self.session = session_of(PROTOCOL, parameters, members=members)
        inputs = {u: one_hot(u, N, 16) for u in range(1, N + 1)}
        options = Options(signers=self.signers)
        self.simulation = Simulation(
            PROTOCOL, self.session, inputs, self.source, faults=faults, options=options
        )
        self.journal = self.simulation.journal

    def client(self, me: int = 1) -> Party:
        return self.simulation.parties[me]

    def another(self, me: int = 1) -> Party:
        """A new machine for the same session, which has not resumed."""
        signer, source = self.signers.get(me), SeededSource(b"another")
        machine = PROTOCOL.party(self.session, me, source, SystemSealer(), signer)
        return Party(machine, self.journal)

    def stored(self, me: int = 1) -> Stored:
        return self.journal.latest(self.session.session_id, me)


def test_a_second_fresh_machine_is_refused() -> None:
    world = World()
    world.simulation.step("advertise")
    second = world.another()
    before, stored = second.machine.snapshot(), world.stored()
    for _ in range(2):
        with pytest.raises(LocalError, match="party 1 already sent its messages of stage adverti"):
            second.handle(Join())
        assert second.machine.snapshot() == before
    assert world.stored() == stored


def test_a_second_fresh_server_is_refused() -> None:
    world = World()
    world.simulation.step("advertise")
    server = PROTOCOL.server(world.session, SeededSource(b"another"))
    second = Party(server, world.journal)
    for envelope in world.simulation.transcript:
        if envelope.to == SERVER:
            second.handle(Received(envelope.sender, envelope.data))
    before = server.snapshot()
    with pytest.raises(LocalError, match="party 0 already sent its messages of stage advertise"):
        second.handle(RoundClosed())
    assert server.snapshot() == before


@steps_of()
def test_a_resumed_party_resends_the_same_bytes(mode: str, steps: int) -> None:
    world = World(mode)
    for stage in STAGES[mode][:steps]:
        world.simulation.step(stage)
    for me in range(1, N + 1):
        sent = [e for e in world.simulation.transcript if e.sender == me]
        resumed = world.another(me)
        assert resumed.resume() == (sent[-1],)
        assert resumed.machine.state.stage == world.client(me).machine.state.stage
        assert resumed.machine.snapshot() == world.stored(me).snapshot


@steps_of(fewer=1)
def test_a_resumed_server_resends_the_same_bytes(mode: str, steps: int) -> None:
    world = World(mode)
    for stage in STAGES[mode][:steps]:
        world.simulation.step(stage)
    server = PROTOCOL.server(world.session, SeededSource(b"another"))
    resumed = Party(server, world.journal)
    sent = [e for e in world.simulation.transcript if e.sender == SERVER]
    assert list(resumed.resume()) == [e for e in sent if e.stage == sent[-1].stage]
    begin(resumed, world.simulation.application)
    assert server.snapshot() == world.simulation.server.machine.snapshot()


def test_a_party_without_a_past_starts_anew() -> None:
    party = World().another()
    before = party.machine.snapshot()
    assert party.resume() == ()
    assert party.machine.snapshot() == before


@pytest.mark.parametrize("another_model", [APPLICATION, bytes(32)])
@BOTH_MODES
def test_two_copies_cannot_upload_two_vectors(mode: str, another_model: bytes) -> None:
    """The two-time pad: a second encoding under the same masks. And of another model, whose
    masks are others: a session has one upload.
    """
    world = World(mode)
    world.simulation.step("advertise")
    world.simulation.step("share")
    (inbox,) = [e for e in world.simulation.transcript if (e.to, e.stage) == (1, "share")]
    first, second = world.client(), world.another()
    second.resume()
    for copy, application in ((first, APPLICATION), (second, another_model)):
        copy.handle(Received(SERVER, inbox.data))
        copy.handle(Begin(application))
    first.handle(Contribute(one_hot(1, N, 16)))
    ready = second.machine.snapshot()
    for values in (one_hot(1, N, 16), np.zeros(N, np.uint64)):
        with pytest.raises(LocalError, match="stage upload"):
            second.handle(Contribute(values))
        assert second.machine.snapshot() == ready


def test_two_copies_cannot_answer_two_requests() -> None:
    """A second answer, to another U3, would hold the other share of somebody."""
    _, request, first, second = two_copies_before("semi-honest", "unmask")
    assert first.handle(request)
    with pytest.raises(LocalError, match="stage unmask"):
        second.handle(request)


def test_two_copies_cannot_confirm_two_sets_of_survivors() -> None:
    """Two signatures over two sets would be two sums: the journal allows one of them."""
    world, request, first, second = two_copies_before("active", "consistency")
    tag, context, survivors = msgspec.msgpack.decode(request.data)
    assert survivors == b"\x0f"
    other = Received(SERVER, msgspec.msgpack.encode([tag, context, b"\x07"]))
    assert first.handle(request)
    before, stored = second.machine.snapshot(), world.stored()
    for again in (request, other):
        with pytest.raises(LocalError, match="stage consistency"):
            second.handle(again)
        assert second.machine.snapshot() == before
    assert world.stored() == stored


def test_two_copies_cannot_answer_twice_in_active_mode_either() -> None:
    _, request, first, second = two_copies_before("active", "unmask")
    assert first.handle(request)
    with pytest.raises(LocalError, match="stage unmask"):
        second.handle(request)


def two_copies_before(mode: str, stage: str) -> tuple[World, Received, Party, Party]:
    """Client 1 twice, and what the server sends it for this stage."""
    world = World(mode)
    before = STAGES[mode][: STAGES[mode].index(stage)]
    for each in before:
        world.simulation.step(each)
    second = world.another()
    second.resume()
    (request,) = [e for e in world.simulation.transcript if (e.to, e.stage) == (1, before[-1])]
    return world, Received(SERVER, request.data), world.client(), second


class Broken(MemoryJournal):
    """A store whose disk is full."""

    def commit(self, claim: Claim, stored: Stored) -> None:
        raise OSError("no space left on device")


def test_nothing_is_sent_and_nothing_changes_when_the_store_fails() -> None:
    session = World().session
    machine = Client(session, 1, SeededSource(b"x"), SystemSealer())
    before = machine.snapshot()
    with pytest.raises(OSError, match="no space"):
        Party(machine, Broken()).handle(Join())
    assert machine.snapshot() == before


def test_an_abort_is_stored_and_spends_the_session() -> None:
    world = World(faults={(u, "upload"): Fault.LOSE_REPLY for u in (1, 2)})
    outcome = world.simulation.run()
    assert isinstance(outcome.abort, ProtocolAborted)
    server = PROTOCOL.server(world.session, SeededSource(b"another"))
    resumed = Party(server, world.journal)
    assert resumed.resume() == ()
    assert isinstance(server.state, Aborted)
    assert server.state.reason == outcome.abort.reason
    with pytest.raises(LocalError, match="not allowed at stage aborted"):
        resumed.handle(RoundClosed())


@BOTH_MODES
def test_a_clients_abort_is_stored_without_its_seeds(mode: str) -> None:
    """Client 1 is told of a cohort that is too small for it."""
    world = World(mode)
    world.simulation.step("advertise")
    party = world.client()
    (cohort,) = [e for e in world.simulation.transcript if (e.to, e.stage) == (1, "advertise")]
    (tag, context, size, *rest) = msgspec.msgpack.decode(cohort.data)
    assert size == N
    with pytest.raises(ProtocolAborted, match="only 2 clients advertised"):
        party.handle(Received(SERVER, msgspec.msgpack.encode([tag, context, 2, *rest])))
    assert not any(seed in world.stored().snapshot for seed in world.source.drawn)
    assert world.stored().outbox == ()


# --- what is forgotten -------------------------------------------------------------------


def seeds_of(party: Party) -> dict[str, bytes]:
    """The seeds of a client that has just advertised, by name; the nonce is public."""
    seeds = party.machine.state.seeds
    return {name: getattr(seeds, name) for name in ("channel", "mask", "own", "coins")}


@BOTH_MODES
def test_each_state_holds_only_the_secrets_it_still_needs(mode: str) -> None:
    world = World(mode, faults={(4, "upload"): Fault.LOSE_REPLY})
    party = world.client()
    world.simulation.step("advertise")
    assert isinstance(party.machine.state, Advertised)
    seeds = seeds_of(party)
    assert all(seed in world.stored().snapshot for seed in seeds.values())

    world.simulation.step("share")
    state = party.machine.state
    assert isinstance(state, Shared)
    held, masks = [state.own_share], [*seeds.values(), *state.agreed]
    assert len(set(state.agreed)) == N - 1
    assert all(secret in world.stored().snapshot for secret in (*held, *masks))
    masks += pair_secrets_of(world)

    world.simulation.step("upload")
    state = party.machine.state
    assert isinstance(state, Unconfirmed if mode == "active" else Uploaded)
    held += [share for peer in state.peers for share in (peer.mask_share, peer.self_share)]
    assert len(set(held)) == 2 * (N - 1) + 1
    holds_only(world, party, held, masks)
    if mode == "active":
        world.simulation.step("consistency")
        assert isinstance(party.machine.state, Confirmed)
        holds_only(world, party, held, masks)

    world.simulation.step("unmask")
    assert isinstance(party.machine.state, Done)
    holds_only(world, party, [], [*held, *masks])
    assert len(world.stored().snapshot) < 16


def pair_secrets_of(world: World) -> tuple[bytes, ...]:
    """Those of client 1, from a copy that has opened its inbox: no seed is left in it."""
    copy = world.another()
    copy.resume()
    (inbox,) = [e for e in world.simulation.transcript if (e.to, e.stage) == (1, "share")]
    before = copy.machine.state
    assert copy.machine.handle(Received(SERVER, inbox.data)) == ()
    state, snapshot = copy.machine.state, copy.machine.snapshot()
    assert isinstance(state, Ready)
    assert len(set(state.pair_secrets)) == N - 1
    gone = (before.seeds.mask, before.seeds.channel, before.seeds.coins, *before.agreed)
    assert not any(secret in snapshot for secret in gone)
    return state.pair_secrets


def holds_only(world: World, party: Party, held: list[bytes], gone: list[bytes]) -> None:
    for snapshot in (world.stored().snapshot, party.machine.snapshot()):
        assert all(secret in snapshot for secret in held)
        assert not any(secret in snapshot for secret in gone)


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_no_terminal_state_holds_a_seed(variant: Variant) -> None:
    n = variant.clients[1]
    source = RecordingSource()
    parameters = variant.configure(n, n, 16)
    inputs = {u: one_hot(u, n, 16) for u in range(1, n + 1)}
    session, options = variant.session(parameters), variant.options(parameters)
    simulation = Simulation(variant.protocol, session, inputs, source, options=options)
    simulation.run()
    for party in (simulation.server, *simulation.parties.values()):
        assert party.machine.finished
        kept = simulation.journal.latest(session.session_id, party.machine.me).snapshot
        for snapshot in (kept, party.machine.snapshot()):
            assert not any(seed in snapshot for seed in source.drawn)


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_no_stored_state_repeats_an_input(variant: Variant) -> None:
    """A client's vector is in its upload, masked or not, and nowhere else."""
    n = variant.clients[1]
    parameters = variant.configure(n, 64, 64)
    random = np.random.default_rng(7)
    inputs = {u: random.integers(1, 2**58, 64, np.uint64) for u in range(1, n + 1)}
    session, options = variant.session(parameters), variant.options(parameters)
    simulation = Simulation(variant.protocol, session, inputs, RecordingSource(), options=options)
    simulation.run()
    for me, party in simulation.parties.items():
        stored = simulation.journal.latest(session.session_id, me)
        of = [inputs[me]] if me in inputs else list(inputs.values())  # a helper has none
        for chunk in (part.tobytes() for values in of for part in (values[:8], values[-8:])):
            assert chunk not in stored.snapshot
            assert not any(chunk in bytes(vector) for vector in stored.vectors)
            assert chunk not in party.machine.snapshot()


def test_a_claim_is_bound_to_all_that_is_sent() -> None:
    """Two outboxes that differ in a recipient or a byte have different digests."""
    seen = set()
    for change in ({}, {"to": 2}, {"data": b"other"}):
        journal = _Spy()
        envelope = dataclasses.replace(ENVELOPE, **change)
        machine = _Fixed(envelope)
        Party(machine, journal).handle(Join())
        seen.add(journal.claims[0].digest)
    assert len(seen) == 3


class _Spy(MemoryJournal):
    def __init__(self) -> None:
        super().__init__()
        self.claims: list[Claim] = []

    def commit(self, claim: Claim, stored: Stored) -> None:
        self.claims.append(claim)


class _Fixed(Client):
    """Always sends the same."""

    def __init__(self, envelope: Envelope) -> None:
        super().__init__(World().session, 1, SeededSource(b"x"), SystemSealer())
        self._envelope = envelope

    def handle(self, _event: object) -> tuple[Envelope, ...]:
        return (self._envelope,)
