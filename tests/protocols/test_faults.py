"""The fault matrix of `masking`, both modes: every fault, at every stage, alone and in pairs.

The oracle knows nothing of the machines: it follows the sets U1 ⊇ U2 ⊇ U3 ⊇ U4 through the
script. Each run must end exactly as it says, in the sum, the drops, or the abort.
"""

from collections import defaultdict
from itertools import combinations, product

import msgspec
import numpy as np
import pytest

from protocols.base import SERVER, Contribute, Received, RoundClosed
from protocols.driver import Fault, Options, Outcome, Script, Simulation, run
from protocols.masking import PROTOCOL, configure
from protocols.masking.messages import Shares, Upload
from secagg.codec import decode
from secagg.errors import PeerError, ProtocolAborted
from secagg.rng import SeededSource, SystemSource
from secagg.signing import ED25519
from tests.protocols import oracle
from tests.protocols.oracle import LOST
from tests.protocols.support import (
    begin,
    exact_sum,
    one_hot,
    roster_of,
    session_of,
    signers_of,
    tight,
)

N, BITS, THRESHOLD = 5, 16, 3
STAGES = {
    "semi-honest": ("advertise", "share", "upload", "unmask"),
    "active": ("advertise", "share", "upload", "consistency", "unmask"),
}
FAULTS = {mode: tuple(product(stages, Fault)) for mode, stages in STAGES.items()}
EVERY_FAULT = pytest.mark.parametrize(
    ("mode", "stage", "fault"), [(mode, *each) for mode in STAGES for each in FAULTS[mode]]
)
EVERY_STAGE = pytest.mark.parametrize(
    ("mode", "stage"), [(mode, stage) for mode in STAGES for stage in STAGES[mode]]
)
BOTH_MODES = pytest.mark.parametrize("mode", STAGES)


def simulation_of(
    script: Script,
    mode: str = "semi-honest",
    *,
    threshold: int = THRESHOLD,
    suite: str = "X25519",
    n: int = N,
) -> Simulation:
    parameters = configure(n, n, BITS, threshold=threshold, suite=suite, adversary=mode)
    assert parameters.stages == STAGES[mode]
    inputs = {u: one_hot(u, n, BITS) for u in range(1, n + 1)}
    schemes = (ED25519,) if mode == "active" else ()
    members = roster_of(n, schemes) if schemes else None
    session = session_of(PROTOCOL, parameters, members=members)
    options = Options(signers=signers_of(n, schemes))
    return Simulation(PROTOCOL, session, inputs, SystemSource(), faults=script, options=options)


def play(script: Script, mode: str = "semi-honest", **options):
    simulation = simulation_of(script, mode, **options)
    return simulation.session.parameters, simulation.inputs, simulation.run()


def check(script: Script, mode: str = "semi-honest", **options) -> Outcome:
    """The run ends exactly as the oracle says."""
    parameters, inputs, outcome = play(script, mode, **options)
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


TWICE = {
    "advertise": "a second advert",
    "share": "shared its keys twice",
    "upload": "uploaded twice",
    "consistency": "confirmed twice",
    "unmask": "answered twice",
}
SENDS = {
    "advertise": "Advert",
    "share": "Shares",
    "upload": "Upload",
    "consistency": "Confirmation",
    "unmask": "UnmaskAnswer",
}


def refused(mode: str, stage: str, fault: Fault) -> str | None:
    """What the server answers to a message that should not have come as it did."""
    match fault:
        case Fault.DUPLICATE:
            return TWICE[stage]
        case Fault.TRUNCATE:
            return "not a valid encoding"
        case Fault.DELAY if _next(mode, stage):
            return f"unexpected {SENDS[stage]}"
        case Fault.REPLAY if before := _before(mode, stage):
            return f"unexpected {SENDS[before]}"
    return None


@pytest.mark.parametrize("client", [1, 3, 5])
@EVERY_FAULT
def test_a_single_fault(mode: str, stage: str, fault: Fault, client: int) -> None:
    outcome = check({(client, stage): fault}, mode)
    assert outcome.result is not None
    lost = stage if fault in LOST else _next(mode, stage) if fault is Fault.VANISH_AFTER else None
    assert dict(outcome.result.dropped) == ({client: lost} if lost else {})
    assert (client in outcome.result.contributors) is (lost in (None, "consistency", "unmask"))
    reason = refused(mode, stage, fault)
    if reason is None:
        assert outcome.errors == ()
        return
    ((party, error),) = outcome.errors
    assert party == SERVER
    assert isinstance(error, PeerError)
    assert error.peer == client
    assert error.stage == (_next(mode, stage) if fault is Fault.DELAY else stage)
    assert error.reason.startswith(reason)


def _next(mode: str, stage: str) -> str | None:
    later = STAGES[mode][STAGES[mode].index(stage) + 1 :]
    return later[0] if later else None


def _before(mode: str, stage: str) -> str | None:
    earlier = STAGES[mode][: STAGES[mode].index(stage)]
    return earlier[-1] if earlier else None


@EVERY_FAULT
def test_a_single_fault_in_the_hybrid_suite(mode: str, stage: str, fault: Fault) -> None:
    check({(2, stage): fault}, mode, suite="MLKEM768-X25519", n=3, threshold=2)


@pytest.mark.parametrize(("stage", "fault"), FAULTS["semi-honest"])
def test_a_fault_of_one_client_with_any_fault_of_another(stage: str, fault: Fault) -> None:
    for other_stage, other in FAULTS["semi-honest"]:
        check({(1, stage): fault, (2, other_stage): other})


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("stage", ["consistency", "unmask"])
def test_a_fault_where_modes_differ_with_any_fault_of_another(stage: str, fault: Fault) -> None:
    """The other stages of active mode have the rules of the test above, to the line."""
    for other_stage, other in FAULTS["active"]:
        check({(1, stage): fault, (2, other_stage): other}, "active")


@BOTH_MODES
@pytest.mark.parametrize("fault", Fault)
def test_the_same_fault_at_two_stages_of_one_client(mode: str, fault: Fault) -> None:
    for one, other in combinations(STAGES[mode], 2):
        check({(4, one): fault, (4, other): fault}, mode)


@pytest.mark.parametrize(
    ("mode", "stage", "threshold"),
    [
        (mode, stage, threshold)
        for mode, fewest in (("semi-honest", 2), ("active", N // 2 + 1))
        for stage in STAGES[mode]
        for threshold in range(fewest, N + 1)
    ],
)
def test_any_number_vanishes_down_to_the_threshold(mode: str, stage: str, threshold: int) -> None:
    for left in range(N, threshold - 1, -1):
        script = {(u, stage): Fault.VANISH for u in range(left + 1, N + 1)}
        outcome = check(script, mode, threshold=threshold)
        assert len(outcome.result.dropped) == N - left


BELOW = {
    "advertise": "only 2 clients advertised, fewer than 3",
    "share": "only 2 clients shared their keys, fewer than 3",
    "upload": "only 2 clients uploaded, fewer than 3",
    "consistency": "only 2 clients confirmed the survivors, fewer than 3",
    "unmask": "only 2 clients answered the unmask request, fewer than 3",
}


@EVERY_STAGE
@pytest.mark.parametrize("fault", sorted(LOST, key=lambda f: f.name))
def test_one_below_the_threshold_aborts_with_the_reason(mode, stage: str, fault: Fault) -> None:
    outcome = check({(u, stage): fault for u in (1, 2, 4)}, mode)
    assert outcome.result is None
    assert outcome.abort.reason == BELOW[stage]
    assert outcome.abort.stage == stage


@BOTH_MODES
def test_clients_vanish_at_every_stage_of_one_round(mode: str) -> None:
    stages = STAGES[mode]
    n = 2 * len(stages) + 1
    vanish = dict(zip(range(1, n, 2), stages, strict=False))
    script = {each: Fault.VANISH for each in vanish.items()}
    outcome = check(script, mode, n=n, threshold=len(stages) + 1)
    assert dict(outcome.result.dropped) == vanish
    gone = {u for u, stage in vanish.items() if stage in ("advertise", "share", "upload")}
    assert outcome.result.contributors == tuple(u for u in range(1, n + 1) if u not in gone)


@BOTH_MODES
def test_everybody_has_a_fault_and_nobody_is_lost(mode: str) -> None:
    kinds = (Fault.DUPLICATE, Fault.REPLAY, Fault.LAST, Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
    for shift in range(len(kinds)):
        script = {
            (u, stage): kinds[(u + i + shift) % len(kinds)]
            for u in range(1, N + 1)
            for i, stage in enumerate(STAGES[mode])
        }
        assert check(script, mode).result.contributors == (1, 2, 3, 4, 5)


@BOTH_MODES
def test_no_answer_holds_both_shares_of_anyone(mode: str) -> None:
    """Not even all answers together, and each share is one that its dealer published."""
    for stage, fault in FAULTS[mode]:
        _, _, outcome = play({(1, stage): fault, (2, "upload"): Fault.VANISH}, mode)
        kinds = defaultdict(set)
        for share in oracle.revealed(outcome.transcript):
            kinds[share.dealer].add(share.kind)
        assert kinds.pop(2) == {"mask"}
        expected = {"mask"} if 1 not in outcome.result.contributors else {"self"}
        assert kinds.pop(1, expected) == expected
        assert dict(kinds) == {u: {"self"} for u in (3, 4, 5)}


def test_two_runs_never_share_a_mask() -> None:
    """Same roster, same inputs, new session: every upload is new, though the sum is the same."""
    seen = set()
    for _ in range(2):
        _, _, outcome = play({})
        uploads = [decode(e.data, Upload) for e in outcome.transcript if _is_upload(e)]
        assert len(uploads) == N
        seen |= {upload.packed for upload in uploads}
        seen |= {upload.links for upload in uploads}
    assert len(seen) == 2 * (N + N - 1) + 1, "the last client has nobody above it"


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
    links = [32 * (n - u) for u in range(1, n + 1)]
    grown = sizes[-1] - sizes[0]
    assert sum(links[1:]) <= grown <= sum(links[1:]) + 4 * n, "its links for each, and no vector"
    requests = simulation.server.handle(RoundClosed())
    assert len(requests) == n
    assert len(simulation.server.machine.snapshot()) <= sizes[-1] + 2 * n, "numbers: who is asked"


def test_the_server_forgets_what_is_sealed_once_it_is_delivered() -> None:
    simulation = _at_upload(6, 8)
    posted = [e for e in simulation.transcript if (e.sender != SERVER, e.stage) == (True, "share")]
    sealed = [each for e in posted for each in decode(e.data, Shares).sealed]
    assert len(sealed) == 6 * 5
    delivered = b"".join(e.data for e in simulation.transcript if e.sender == SERVER)
    assert all(each in delivered for each in sealed)
    snapshot = simulation.server.machine.snapshot()
    assert not any(each in snapshot for each in sealed)


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
        client = simulation.parties[request.to]
        client.handle(Received(SERVER, request.data))
        begin(client, simulation.application)
        (envelope,) = client.handle(Contribute(simulation.inputs[request.to]))
        yield Received(request.to, envelope.data)


@BOTH_MODES
def test_after_the_end_the_server_holds_the_sum_and_no_seed(mode: str) -> None:
    simulation = simulation_of({}, mode)
    outcome = simulation.run()
    (tag, total, contributors, dropped, bad) = msgspec.msgpack.decode(
        simulation.server.machine.snapshot()
    )
    assert (tag, contributors, dropped, bad) == ("finished", [1, 2, 3, 4, 5], {}, [])
    assert total[0] == BITS
    assert outcome.abort is None


@EVERY_STAGE
def test_an_abort_leaves_the_server_empty(mode: str, stage: str) -> None:
    simulation = simulation_of({(u, stage): Fault.LOSE_REPLY for u in (1, 2, 3)}, mode)
    outcome = simulation.run()
    assert isinstance(outcome.abort, ProtocolAborted)
    assert msgspec.msgpack.decode(simulation.server.machine.snapshot()) == [
        "aborted",
        stage,
        BELOW[stage],
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
