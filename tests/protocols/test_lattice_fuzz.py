"""Whatever bytes arrive, `lattice` and `committee` refuse them as the sender's fault, or abort."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.base import SERVER, Contribute, Join, Machine, Received
from protocols.committee.messages import Delivery, Report, context_of, info
from protocols.driver import Simulation
from protocols.registry import load
from secagg.codec import decode, encode
from secagg.errors import PeerError, ProtocolAborted
from secagg.rng import SeededSource
from secagg.seal import SystemSealer, suite
from tests.protocols.support import begin, examples, one_hot, session_of

CLIENTS = 3
TARGETS = {
    "lattice": [(stage, to) for stage in ("share", "upload", "unmask") for to in (SERVER, 1)],
    "committee": [
        ("keys", SERVER),
        ("upload", 1),
        ("upload", SERVER),
        ("report", 4),
        ("report", SERVER),
        ("open", 4),
        ("open", SERVER),
    ],
}


@cache
def before(name: str, stage: str) -> tuple[Simulation, dict[int, bytes]]:
    """A session at the beginning of a stage, and its requests."""
    protocol = load(name)
    parameters = protocol.configure(CLIENTS, 5, 16, suite="X25519")
    inputs = {u: one_hot(u, 5, 16) for u in range(1, CLIENTS + 1)}
    session = session_of(protocol, parameters)
    simulation = Simulation(protocol, session, inputs, SeededSource(b"fuzz"))
    for earlier in parameters.stages[: parameters.stages.index(stage)]:
        simulation.step(earlier)
    return simulation, {e.to: e.data for e in simulation._requests}


@cache
def target(name: str, stage: str, to: int) -> tuple[Machine, bytes, int, bytes]:
    """A machine, its state, and who sends it what there."""
    simulation, requests = before(name, stage)
    if to != SERVER:
        machine = simulation.parties[to].machine
        return machine, machine.snapshot(), SERVER, requests[to]
    sender = 1 if name == "lattice" or stage == "upload" else CLIENTS + 1
    machine = simulation.parties[sender].machine
    stored = machine.snapshot()
    event = Received(SERVER, requests[sender]) if requests else Join()
    sent = [*machine.handle(event), *begin(machine, simulation.application)]
    if Contribute in machine.accepts:
        sent += machine.handle(Contribute(one_hot(sender, 5, 16)))
    machine.restore(stored)
    server = simulation.server.machine
    return server, server.snapshot(), sender, sent[0].data


@st.composite
def mutations(draw, data: bytes) -> bytes:
    """Some bytes changed, cut out, or put in; mostly near the beginning, where structure is."""
    raw = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        most = draw(st.sampled_from([8, 80, 400, len(raw)]))
        at = draw(st.integers(0, max(0, min(most, len(raw)) - 1)))
        match draw(st.sampled_from(["flip", "set", "cut", "put", "end"])):
            case "flip" if raw:
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if raw:
                raw[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0x90, 0xC0, 0xC4, 0xDC, 0xFF]))
            case "cut":
                del raw[at : at + draw(st.integers(1, 9))]
            case "put":
                raw[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "end":
                del raw[at:]
    return bytes(raw)


@pytest.mark.parametrize(
    ("name", "stage", "to"),
    [(name, stage, to) for name, targets in TARGETS.items() for stage, to in targets],
)
@given(data=st.data())
@examples(0.5)
def test_mutated_messages_are_refused(name: str, stage: str, to: int, data) -> None:
    machine, stored, sender, message = target(name, stage, to)
    machine.restore(stored)
    mutated = data.draw(mutations(message))
    try:
        machine.handle(Received(sender, mutated))
    except PeerError as error:
        assert error.peer == sender  # noqa: PT017 - no error at all is fine too
        assert machine.snapshot() == stored
    except ProtocolAborted:
        assert machine.finished


@given(data=st.data())
@examples(0.3)
def test_plaintexts_mutated_inside_the_seal_are_not_reported_as_opened(data) -> None:
    machine, stored, _, message = target("committee", "report", 4)
    machine.restore(stored)
    delivery = decode(message, Delivery)
    keys = machine._keys(machine.state.seed)  # what nobody else has
    context1 = context_of(machine.session.context, delivery.application, delivery.keys)
    first, *rest = delivery.delivered
    share = keys.open(first.sealed, info(context1, first.sender, 4))
    mutated = data.draw(mutations(share))
    public = suite("X25519").public_key(keys.public.raw)
    sealed = SystemSealer().seal(public, mutated, info(context1, first.sender, 4))
    delivered = (type(first)(first.sender, sealed), *rest)
    again = Delivery(delivery.context, delivery.application, delivery.keys, delivered)
    (sent,) = machine.handle(Received(SERVER, encode(again)))
    opened = decode(sent.data, Report).opened
    assert set(opened) >= {each.sender for each in rest}
    assert len(mutated) == len(share) or first.sender not in opened
