"""The fault matrix of `masking`: every fault, at every stage, alone and in pairs.

The oracle knows nothing of the machines: it follows the sets U1 ⊇ U2 ⊇ U3 ⊇ U4 through the
script. Each run must end exactly as it says, in the sum, the drops, or the abort.
"""

from itertools import combinations, product

import msgspec
import numpy as np
import pytest

from protocols.base import SERVER, Contribute, Received, RoundClosed
from protocols.driver import Fault, Outcome, Script, Simulation, run
from protocols.masking import PROTOCOL, configure
from protocols.masking.messages import UnmaskAnswer, Upload
from secagg.codec import decode
from secagg.errors import PeerError, ProtocolAborted
from secagg.rng import SeededSource, SystemSource
from tests.protocols import oracle
from tests.protocols.oracle import LOST, STAGES
from tests.protocols.support import exact_sum, one_hot, session_of, tight

N, BITS, THRESHOLD = 5, 16, 3
FAULTS = tuple(product(STAGES, Fault))


def play(script: Script, *, threshold: int = THRESHOLD, suite: str = "X25519", n: int = N):
    parameters = configure(n, n, BITS, threshold=threshold, suite=suite)
    inputs = {u: one_hot(u, n, BITS) for u in range(1, n + 1)}
    source = SystemSource()
    outcome = run(PROTOCOL, session_of(PROTOCOL, parameters), inputs, source, faults=script)
    return parameters, inputs, outcome


def check(script: Script, **options) -> Outcome:
    """The run ends exactly as the oracle says."""
    parameters, inputs, outcome = play(script, **options)
    graph = oracle.complete(parameters)
    expected = oracle.masking(parameters, inputs, script, graph)
    if expected.abort:
        assert outcome.abort is not None, script
        assert (outcome.abort.stage, outcome.abort.reason) == expected.abort, script
        assert outcome.abort.blame == ()
        return outcome
    result = outcome.result
    assert result is not None, (script, outcome.abort)
    assert oracle.Expected(result.contributors, dict(result.dropped)) == expected, script
    assert result.total.tolist() == exact_sum(inputs, expected.contributors, BITS), script
    assert result.bad_answers == ()
    _nothing_sent_twice(outcome)
    return outcome


def _nothing_sent_twice(outcome: Outcome) -> None:
    """Whatever was resent is the same bytes: one message for each party, stage and recipient."""
    sent: dict[tuple[int, int, str], set[bytes]] = {}
    for e in outcome.transcript:
        sent.setdefault((e.sender, e.to, e.stage), set()).add(e.data)
    assert all(len(versions) == 1 for versions in sent.values())


REFUSED = {  # what the server answers to a message that should not have come as it did
    Fault.DUPLICATE: (
        "a second advert",
        "shared its keys twice",
        "uploaded twice",
        "answered twice",
    ),
    Fault.TRUNCATE: ("not a valid encoding",) * 4,
    Fault.DELAY: ("unexpected Advert", "unexpected Shares", "unexpected Upload", None),
    Fault.REPLAY: (None, "unexpected Advert", "unexpected Shares", "unexpected Upload"),
}


@pytest.mark.parametrize("client", [1, 3, 5])
@pytest.mark.parametrize(("stage", "fault"), FAULTS)
def test_a_single_fault(stage: str, fault: Fault, client: int) -> None:
    outcome = check({(client, stage): fault})
    assert outcome.result is not None
    lost = stage if fault in LOST else _next(stage) if fault is Fault.VANISH_AFTER else None
    assert dict(outcome.result.dropped) == ({client: lost} if lost else {})
    assert (client in outcome.result.contributors) is (lost in (None, "unmask"))
    refused = REFUSED.get(fault, (None,) * 4)[STAGES.index(stage)]
    if refused is None:
        assert outcome.errors == ()
        return
    ((party, error),) = outcome.errors
    assert party == SERVER
    assert isinstance(error, PeerError)
    assert error.peer == client
    assert error.stage == (_next(stage) if fault is Fault.DELAY else stage)
    assert error.reason.startswith(refused)


def _next(stage: str) -> str | None:
    later = STAGES[STAGES.index(stage) + 1 :]
    return later[0] if later else None


@pytest.mark.parametrize(("stage", "fault"), FAULTS)
def test_a_single_fault_in_the_hybrid_suite(stage: str, fault: Fault) -> None:
    check({(2, stage): fault}, suite="MLKEM768-X25519", n=3, threshold=2)


@pytest.mark.parametrize(("stage", "fault"), FAULTS)
def test_a_fault_of_one_client_with_any_fault_of_another(stage: str, fault: Fault) -> None:
    for other_stage, other in FAULTS:
        check({(1, stage): fault, (2, other_stage): other})


@pytest.mark.parametrize("fault", Fault)
def test_the_same_fault_at_two_stages_of_one_client(fault: Fault) -> None:
    for one, other in combinations(STAGES, 2):
        check({(4, one): fault, (4, other): fault})


@pytest.mark.parametrize("threshold", [2, 3, 4, 5])
@pytest.mark.parametrize("stage", STAGES)
def test_any_number_vanishes_down_to_the_threshold(stage: str, threshold: int) -> None:
    for left in range(N, threshold - 1, -1):
        script = {(u, stage): Fault.VANISH for u in range(left + 1, N + 1)}
        outcome = check(script, threshold=threshold)
        assert len(outcome.result.dropped) == N - left


BELOW = {
    "advertise": "only 2 clients advertised, fewer than 3",
    "share": "only 2 clients shared their keys, fewer than 3",
    "upload": "only 2 clients uploaded, fewer than 3",
    "unmask": "only 2 clients answered the unmask request, fewer than 3",
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fault", sorted(LOST, key=lambda f: f.name))
def test_one_below_the_threshold_aborts_with_the_reason(stage: str, fault: Fault) -> None:
    outcome = check({(u, stage): fault for u in (1, 2, 4)})
    assert outcome.result is None
    assert outcome.abort.reason == BELOW[stage]
    assert outcome.abort.stage == stage


def test_clients_vanish_at_every_stage_of_one_round() -> None:
    script = {(u, stage): Fault.VANISH for u, stage in zip((1, 3, 5, 7), STAGES, strict=True)}
    outcome = check(script, n=9, threshold=5)
    assert dict(outcome.result.dropped) == {u: stage for (u, stage) in script}
    assert outcome.result.contributors == (2, 4, 6, 7, 8, 9)


def test_everybody_has_a_fault_and_nobody_is_lost() -> None:
    kinds = (Fault.DUPLICATE, Fault.REPLAY, Fault.LAST, Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
    for shift in range(len(kinds)):
        script = {
            (u, stage): kinds[(u + i + shift) % len(kinds)]
            for u in range(1, N + 1)
            for i, stage in enumerate(STAGES)
        }
        assert check(script).result.contributors == (1, 2, 3, 4, 5)


def test_no_answer_holds_both_shares_of_anyone() -> None:
    for stage, fault in FAULTS:
        _, _, outcome = play({(1, stage): fault, (2, "upload"): Fault.VANISH})
        for envelope in outcome.transcript:
            if envelope.sender != SERVER and envelope.stage == "unmask":
                answer = decode(envelope.data, UnmaskAnswer)
                alive = {share.of for share in answer.survivors}
                gone = {share.of for share in answer.dropped}
                assert not alive & gone


def test_two_runs_never_share_a_mask() -> None:
    """Same roster, same inputs, new session: every upload is new, though the sum is the same."""
    seen = set()
    for _ in range(2):
        _, _, outcome = play({})
        uploads = [decode(e.data, Upload).packed for e in outcome.transcript if _is_upload(e)]
        assert len(uploads) == N
        seen |= set(uploads)
    assert len(seen) == 2 * N


def _is_upload(envelope) -> bool:
    return envelope.sender != SERVER and envelope.stage == "upload"


# --- the server's memory -----------------------------------------------------------------


def test_the_servers_memory_does_not_grow_with_the_uploads() -> None:
    n, length = 8, 4096
    simulation = _at_upload(n, length)
    sizes = []
    for envelope in _uploads(simulation):
        simulation.server.handle(envelope)
        sizes.append(len(simulation.server.machine.snapshot()))
    vector = 4 * length
    assert vector < sizes[0]
    assert sizes[-1] - sizes[0] <= 2 * n, "one small number for each upload, and no vector"
    requests = simulation.server.handle(RoundClosed())
    assert len(requests) == n
    assert len(simulation.server.machine.snapshot()) < sizes[-1], "the ciphertexts are dropped"


def test_the_servers_state_holds_one_vector_whatever_the_number_of_clients() -> None:
    """Without its total, the state of 12 clients is as large for long vectors as for short."""
    rest = []
    for length in (16, 4096):
        simulation = _at_upload(12, length)
        for envelope in _uploads(simulation):
            simulation.server.handle(envelope)
        snapshot = simulation.server.machine.snapshot()
        masked = simulation.session.parameters.masked_length
        rest.append(len(snapshot) - 4 * masked)
    assert abs(rest[0] - rest[1]) <= 4


def _at_upload(n: int, length: int) -> Simulation:
    parameters = configure(n, length, 32, suite="X25519")
    inputs = {u: np.ones(length, np.uint32) for u in range(1, n + 1)}
    session = session_of(PROTOCOL, parameters)
    simulation = Simulation(PROTOCOL, session, inputs, SystemSource())
    simulation.step("advertise")
    simulation.step("share")
    return simulation


def _uploads(simulation: Simulation):
    """What the clients send in answer to their inboxes."""
    for request in [e for e in simulation.transcript if e.sender == SERVER][
        -len(simulation.inputs) :
    ]:
        client = simulation.clients[request.to]
        client.handle(Received(SERVER, request.data))
        (envelope,) = client.handle(Contribute(simulation.inputs[request.to]))
        yield Received(request.to, envelope.data)


def test_after_the_end_the_server_holds_the_sum_and_no_seed() -> None:
    parameters = configure(N, N, BITS, threshold=THRESHOLD, suite="X25519")
    inputs = {u: one_hot(u, N, BITS) for u in range(1, N + 1)}
    simulation = Simulation(PROTOCOL, session_of(PROTOCOL, parameters), inputs, SystemSource())
    outcome = simulation.run()
    (tag, total, contributors, dropped, bad) = msgspec.msgpack.decode(
        simulation.server.machine.snapshot()
    )
    assert (tag, contributors, dropped, bad) == ("finished", [1, 2, 3, 4, 5], {}, [])
    assert total[0] == BITS
    assert outcome.abort is None


def test_an_abort_leaves_every_machine_terminal_or_waiting_and_the_server_empty() -> None:
    script = {(u, "unmask"): Fault.LOSE_REPLY for u in (1, 2, 3)}
    parameters = configure(N, N, BITS, threshold=THRESHOLD, suite="X25519")
    inputs = {u: one_hot(u, N, BITS) for u in range(1, N + 1)}
    simulation = Simulation(
        PROTOCOL, session_of(PROTOCOL, parameters), inputs, SystemSource(), faults=script
    )
    outcome = simulation.run()
    assert isinstance(outcome.abort, ProtocolAborted)
    assert msgspec.msgpack.decode(simulation.server.machine.snapshot()) == [
        "aborted",
        "unmask",
        BELOW["unmask"],
        [],
    ]


# --- sparse graphs -----------------------------------------------------------------------


def test_a_round_that_cannot_finish_asks_nobody() -> None:
    """Too few neighbours of somebody in U3 are: no update is spent on it."""
    stopped = 0
    for pair in combinations(range(1, 9), 2):
        parameters = tight(8, 8, BITS)
        inputs = {u: one_hot(u, 8, BITS) for u in range(1, 9)}
        script = dict.fromkeys([(u, "upload") for u in pair], Fault.VANISH)
        session = session_of(PROTOCOL, parameters)
        outcome = run(PROTOCOL, session, inputs, SeededSource(b"tight"), faults=script)
        graph = oracle.graph_of(parameters, outcome.transcript)
        expected = oracle.masking(parameters, inputs, script, graph)
        asked = [e for e in outcome.transcript if (e.sender, e.stage) == (SERVER, "upload")]
        stopped += not asked
        assert len(asked) in (0, 6)
        assert outcome.errors == ()
        if expected.abort:
            assert (outcome.abort.stage, outcome.abort.reason) == expected.abort
        else:
            assert outcome.result.total.tolist() == exact_sum(inputs, expected.contributors, BITS)
    assert stopped
