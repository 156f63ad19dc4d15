"""The contract battery: one set of tests for every protocol that is registered, and one more.

Whatever a protocol does inside, a session ends in the exact sum over those whose upload was
accepted, or in an abort that says why; and its machines keep the rules of `protocols.base` at
every event, which `watch` checks.
"""

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from protocols import registry
from protocols.base import (
    SERVER,
    Aborted,
    Begin,
    Contribute,
    Join,
    Local,
    Machine,
    Received,
    Session,
    Terminal,
)
from protocols.driver import Fault, Outcome, Simulation, run
from secagg.errors import LocalError, ParameterError, PeerError, ProtocolAborted
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from tests.protocols import oracle, trivial
from tests.protocols.support import (
    APPLICATION,
    KEY_HOLDER,
    KINDS,
    MODULI,
    VARIANTS,
    Inputs,
    Variant,
    begin,
    exact_sum,
    examples,
    helpers_of,
    one_hot,
    session_of,
)
from tests.protocols.watch import Watch

EVERY = pytest.mark.parametrize("variant", VARIANTS, ids=repr)
MARGIN = 2


@st.composite
def sessions(draw, variant: Variant):
    """Parameters, inputs of whoever joins, and a script of faults."""
    fewest, most = variant.clients
    n = draw(st.sampled_from(range(most, fewest - 1, -1)), label="clients")
    bits = draw(st.sampled_from(MODULI), label="modulus bits")
    kind = draw(st.sampled_from(KINDS), label="inputs")
    absent = draw(st.sets(st.integers(1, n), max_size=draw(st.sampled_from([0, 0, 1, n]))))
    parameters = variant.configure(n, n + MARGIN, bits)
    inputs = {u: kind(u, n + MARGIN, bits) for u in range(1, n + 1) if u not in absent}
    where = st.tuples(st.integers(1, n), st.sampled_from(variant.client_stages))
    if variant.helped:
        helpers = st.sampled_from(helpers_of(parameters))
        where |= st.tuples(helpers, st.sampled_from(variant.helped))
    size = draw(st.sampled_from([n // 2, n // 2 + 1, 2, 1]))
    faults = st.dictionaries(where, st.sampled_from(Fault), min_size=size - 1, max_size=size)
    return parameters, inputs, draw(faults, label="faults")


def watched_run(variant: Variant, parameters, inputs: Inputs, faults) -> tuple[Outcome, Watch]:
    watch = Watch()
    outcome = run(
        watch.over(variant.protocol),
        variant.session(parameters),
        inputs,
        watch.source,
        application=APPLICATION,
        faults=faults,
        sealer=watch.sealer,
        options=variant.options(parameters),
    )
    return outcome, watch


@EVERY
@given(data=st.data())
@examples(0.4)
def test_any_session_ends_in_the_exact_sum_or_a_named_abort(variant: Variant, data) -> None:
    parameters, inputs, faults = data.draw(sessions(variant))
    outcome, watch = watched_run(variant, parameters, inputs, faults)
    assert (outcome.result is None) is (outcome.abort is not None)
    uploaded = watch.accepted.get(_upload_stage(variant), set())
    expected = _expected(variant, parameters, inputs, faults, outcome)
    _no_honest_client_is_surprised(outcome)
    if outcome.abort:
        event(f"abort: {outcome.abort.stage}")
        assert outcome.abort.reason
        assert set(outcome.abort.blame) <= set(helpers_of(parameters))
        _check_abort(expected, outcome)
        return
    event(f"sum of {len(uploaded)} of {parameters.clients}")
    result = outcome.result
    assert result.contributors == tuple(sorted(uploaded))
    assert len(uploaded) >= parameters.floor
    _check_sum(variant, parameters, result.total, inputs, uploaded)
    assert result.bad_answers == ()
    assert set(result.dropped.values()) <= set(variant.stages)
    assert set(inputs) | set(result.dropped) == set(range(1, parameters.clients + 1))
    if expected:
        assert expected == oracle.Expected(result.contributors, dict(result.dropped))


def _check_sum(variant: Variant, parameters, total: np.ndarray, inputs: Inputs, uploaded) -> None:
    """Exact, or as near modulo 2^k as the protocol says."""
    exact = exact_sum(inputs, uploaded, parameters.modulus_bits)
    modulus = 2**parameters.modulus_bits
    off = [(got - want) % modulus for got, want in zip(total.tolist(), exact, strict=True)]
    assert max(min(each, modulus - each) for each in off) <= variant.error(parameters)


def _no_honest_client_is_surprised(outcome: Outcome) -> None:
    """A server asks no client for what it must refuse; only a lonely one leaves, and early."""
    for party, error in outcome.errors:
        if party != SERVER:
            assert isinstance(error, ProtocolAborted)
            assert "neighbours advertised" in error.reason


def _upload_stage(variant: Variant) -> str:
    stages = variant.stages
    return "upload" if "upload" in stages else stages[-1]


def _expected(variant: Variant, parameters, inputs, faults, outcome) -> oracle.Expected | None:
    """From the protocol's own oracle; a protocol without one is held to the rest."""
    if variant.protocol.name == "masking":
        graph = oracle.graph_of(parameters, outcome.transcript)
        return oracle.masking(parameters, inputs, faults, graph)
    if variant.protocol.name in KEY_HOLDER:
        return oracle.key_holder(parameters, inputs, faults)
    if len(variant.stages) == 1:
        return oracle.one_stage(variant.stages[0], parameters, inputs, faults)
    return None


def _check_abort(expected: oracle.Expected | None, outcome: Outcome) -> None:
    if expected is not None:
        assert expected.abort is not None, outcome.abort
        stage, reason = expected.abort
        assert outcome.abort.stage == stage
        assert outcome.abort.reason.startswith(reason)


@EVERY
def test_an_honest_session_records_every_byte_and_refuses_nothing(variant: Variant) -> None:
    n = variant.clients[1]
    parameters = variant.configure(n, n, 32)
    inputs = {u: one_hot(u, n, 32) for u in range(1, n + 1)}
    outcome, watch = watched_run(variant, parameters, inputs, {})
    assert outcome.errors == ()
    assert outcome.result.contributors == tuple(inputs)
    assert dict(outcome.result.dropped) == {}
    for u in inputs:
        sent = [e for e in outcome.transcript if e.sender == u]
        assert list(dict.fromkeys(e.stage for e in sent)) == list(variant.client_stages)
        for stage, count in outcome.bytes_by_stage(u).items():
            assert count == sum(len(e.data) for e in sent if e.stage == stage)
    assert all(watch.accepted[s] & set(inputs) == set(inputs) for s in variant.client_stages)
    for stage in variant.helped:
        assert watch.accepted[stage] == variant.speakers(parameters, stage, inputs)


@EVERY
def test_the_same_seed_gives_the_same_bytes(variant: Variant) -> None:
    n = variant.clients[0]
    parameters = variant.configure(n, n, 16)
    inputs = {u: one_hot(u, n, 16) for u in range(1, n + 1)}
    watch = Watch()
    seen = []
    for _ in range(2):
        source = type(watch.source)(b"again")
        session, options = variant.session(parameters), variant.options(parameters)
        outcome = run(
            variant.protocol, session, inputs, source, sealer=watch.sealer, options=options
        )
        seen.append(outcome)
    assert seen[0].transcript == seen[1].transcript
    assert np.array_equal(seen[0].result.total, seen[1].result.total)


@EVERY
def test_every_row_of_the_table_is_used_and_every_state_reached(variant: Variant) -> None:
    watch = Watch()
    n = variant.clients[1]
    parameters = variant.configure(n, n, 16)
    inputs = {u: one_hot(u, n, 16) for u in range(1, n + 1)}
    simulation = Simulation(
        watch.over(variant.protocol),
        variant.session(parameters),
        inputs,
        watch.source,
        sealer=watch.sealer,
        options=variant.options(parameters),
    )
    everyone = [party.machine for party in simulation.parties.values()]
    machines = {type(machine) for machine in (simulation.server.machine, *everyone)}
    starts = [*(type(m.state) for m in everyone), _first_server_state(variant, parameters)]
    simulation.run()
    for machine in machines:
        used = {(state, rule) for kind, state, rule in watch.rows if kind is machine}
        assert used == {(row.state.__name__, row.rule) for row in machine.rows()}
        reached = {start.__name__ for start in starts} | {
            to for row in machine.rows() for to in row.leads_to
        }
        assert {state.__name__ for state in _states(machine)} - {"Aborted"} <= reached


def _states(machine: type) -> tuple[type, ...]:
    return machine.states.__args__


def _first_server_state(variant: Variant, parameters) -> type:
    session = variant.session(parameters)
    return type(variant.protocol.server(session, SystemSource()).state)


@EVERY
def test_the_table_is_well_formed(variant: Variant) -> None:
    n = variant.clients[1]
    parameters = variant.configure(n, n, 16)
    session = variant.session(parameters)
    client = variant.client(session, 1, SystemSource())
    server = variant.protocol.server(session, SystemSource())
    assert (client.me, server.me) == (1, SERVER)
    helpers = [
        variant.protocol.party(session, u, SystemSource(), SystemSealer())
        for u in helpers_of(parameters)
    ]
    assert client.role != server.role
    for machine in (client, server, *helpers):
        assert isinstance(machine, Machine)
        states = _states(type(machine))
        tags = [state.__struct_config__.tag for state in states]
        assert len(set(tags)) == len(tags)
        assert Aborted in states
        messages = getattr(machine.receivable, "__args__", (machine.receivable,))
        for row in machine.rows():
            assert row.state in states
            assert not issubclass(row.state, Terminal), "nothing happens in a terminal state"
            assert issubclass(row.event, Local) or row.event in messages
            assert set(row.leads_to) <= {state.__name__ for state in states}
        assert all(issubclass(s, Terminal) or _leaves(machine, s) for s in states)
    stages = [state.stage for state in _states(type(server)) if not issubclass(state, Terminal)]
    wraps = any(isinstance(stage, property) for stage in stages)  # the stages of a machine inside
    assert wraps or tuple(dict.fromkeys(stages)) == variant.stages


def _leaves(machine, state: type) -> bool:
    return any(set(row.leads_to) - {state.__name__} for row in machine.rows() if row.state is state)


@EVERY
def test_every_state_survives_its_snapshot_and_junk_does_not(variant: Variant) -> None:
    n = variant.clients[0]
    session = variant.session(variant.configure(n, n, 16))
    client = variant.client(session, 1, SystemSource())
    server = variant.protocol.server(session, SystemSource())
    for machine, other in ((client, server), (server, client)):
        before = machine.snapshot()
        for junk in (b"", b"\xc1", before[:-1], before + b"\0", other.snapshot(), b"\x91\xa1x"):
            with pytest.raises(LocalError, match=f"not a stored state of a {machine.role}"):
                machine.restore(junk)
            assert machine.snapshot() == before


@EVERY
def test_who_is_not_on_the_roster_gets_no_machine(variant: Variant) -> None:
    n = variant.clients[0]
    session = variant.session(variant.configure(n, n, 16))
    for stranger in (-1, SERVER, n + 1):
        with pytest.raises(LocalError, match=f"client {stranger} of {n}"):
            variant.client(session, stranger, SystemSource())


BAD_VECTORS = {
    "too short": lambda n: np.zeros(n - 1, np.uint64),
    "too long": lambda n: np.zeros(n + 1, np.uint64),
    "empty": lambda n: np.zeros(0, np.uint64),
    "two-dimensional": lambda n: np.zeros((n, 1), np.uint64),
    "a scalar": lambda _n: np.uint64(1),
    "signed": lambda n: np.zeros(n, np.int64),
    "floats": np.zeros,
    "objects": lambda n: np.zeros(n, object),
    "above the modulus": lambda n: np.full(n, 2**16, np.uint64),
    "the top bit": lambda n: np.full(n, 2**63, np.uint64),
}


@EVERY
@pytest.mark.parametrize("bad", BAD_VECTORS)
def test_a_vector_that_does_not_fit_is_the_callers_fault(variant: Variant, bad: str) -> None:
    n = variant.clients[0]
    simulation = _before_upload(variant, n)
    client = simulation.parties[1]
    before = client.machine.snapshot()
    with pytest.raises(LocalError):
        client.handle(Contribute(BAD_VECTORS[bad](n)))
    assert client.machine.snapshot() == before
    (envelope,) = client.handle(Contribute(one_hot(1, n, 16)))
    assert envelope.to == SERVER


def _before_upload(variant: Variant, n: int) -> Simulation:
    """A session in which client 1 can contribute now, and has not."""
    session = variant.session(variant.configure(n, n, 16))
    inputs = {u: one_hot(u, n, 16) for u in range(1, n + 1)}
    options = variant.options(session.parameters)
    simulation = Simulation(variant.protocol, session, inputs, SystemSource(), options=options)
    upload = _upload_stage(variant)
    for stage in variant.stages:
        if stage == upload:
            break
        simulation.step(stage)
    _bring_to_contribution(simulation)
    return simulation


def _bring_to_contribution(simulation: Simulation) -> None:
    client = simulation.parties[1]
    if Join in client.machine.accepts:
        client.handle(Join())
    begin(client)
    if Contribute not in client.machine.accepts:
        request = [e for e in simulation.transcript if e.to == 1][-1]
        client.handle(Received(SERVER, request.data))
        begin(client)
    assert Contribute in client.machine.accepts


@EVERY
def test_begin_takes_a_digest(variant: Variant) -> None:
    n = variant.clients[0]
    session = variant.session(variant.configure(n, n, 16))
    server = variant.protocol.server(session, SystemSource())
    before = server.snapshot()
    for digest in (b"", bytes(31), bytes(33)):
        with pytest.raises(LocalError, match="digest"):
            server.handle(Begin(digest))
    assert server.snapshot() == before
    client = variant.client(session, 1, SystemSource())
    client.handle(Join())
    if Begin in client.accepts:
        before = client.snapshot()
        with pytest.raises(LocalError, match="digest"):
            client.handle(Begin(bytes(31)))
        assert client.snapshot() == before


@EVERY
def test_nothing_happens_after_the_end(variant: Variant) -> None:
    n = variant.clients[0]
    parameters = variant.configure(n, n, 16)
    inputs = {u: one_hot(u, n, 16) for u in range(1, n + 1)}
    watch = Watch()
    simulation = Simulation(
        watch.over(variant.protocol),
        variant.session(parameters),
        inputs,
        watch.source,
        sealer=watch.sealer,
        options=variant.options(parameters),
    )
    outcome = simulation.run()
    for party in (simulation.server, *simulation.parties.values()):
        assert party.machine.finished
        assert party.machine.accepts == frozenset()
        assert party.machine.waits_for == frozenset()
        for envelope in outcome.transcript:
            if envelope.to == party.machine.me:
                with pytest.raises(PeerError):
                    party.handle(Received(envelope.sender, envelope.data))


@EVERY
def test_two_sessions_have_two_contexts(variant: Variant) -> None:
    n = variant.clients[0]
    parameters = variant.configure(n, n, 16)
    first = variant.session(parameters)
    others = [
        variant.session(parameters, 1),
        variant.session(variant.configure(n, n + 1, 16)),
        variant.session(variant.configure(n, n, 17)),
        Session("another", parameters, first.session_id, first.roster),
        Session(first.protocol, parameters, first.session_id, b"s" * 32),
    ]
    assert len({first.context, *(other.context for other in others)}) == 1 + len(others)


@EVERY
@pytest.mark.parametrize(
    ("clients", "length", "bits"), [(0, 4, 16), (1, 4, 16), (8, 0, 16), (8, 4, 0), (8, 4, 65)]
)
def test_wrong_configuration_is_refused_before_anything_starts(
    variant: Variant, clients: int, length: int, bits: int
) -> None:
    with pytest.raises(ParameterError, match=r"^[^\n]+$"):
        variant.configure(clients, length, bits)


def test_a_protocol_is_added_with_one_folder_and_one_line(monkeypatch) -> None:
    line = registry.Entry(
        "tests.protocols.trivial", "a control", "nothing", "nothing", frozenset({"sum"})
    )
    monkeypatch.setitem(registry.PROTOCOLS, "trivial", line)
    protocol = registry.load("trivial")
    assert protocol is trivial.PROTOCOL
    session = session_of(protocol, protocol.configure(3, 3, 16))
    outcome = run(protocol, session, {u: one_hot(u, 3, 16) for u in (1, 3)}, SystemSource())
    assert outcome.result.total.tolist() == exact_sum(
        {u: one_hot(u, 3, 16) for u in (1, 3)}, (1, 3), 16
    )
    assert dict(outcome.result.dropped) == {2: "vote"}


def test_an_unknown_protocol_is_refused_with_what_exists() -> None:
    for ask in (registry.entry, registry.load):
        with pytest.raises(ParameterError, match=r"choose one of .*masking, plain"):
            ask("secagg++")
