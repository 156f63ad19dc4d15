"""The fault matrix: five clients, every stage, ten faults, alone and in pairs, in both modes.

Every cell ends in the exact sum over those who uploaded, or in an abort with the reason and the
blame that the script alone predicts. Here all singles and a sample of the pairs are played;
`make matrix` plays all pairs.

A corrupt message is one of a channel that does not authenticate. In its head (the kind and the
context) a flipped bit is always found by the server. In its body it is found by whoever uses
it, and the client that sent it may be blamed; a bit of the masked vector is beyond everybody
but the channel, and changes the sum by exactly that bit.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from random import Random
from typing import Any, NamedTuple

import pytest

from protocols import masking
from protocols.base import SERVER, Machine, Received
from protocols.driver import Fault, Options, Outcome, run
from protocols.masking.parameters import MaskingParameters
from secagg.errors import LocalError, PeerError
from secagg.rng import SystemSource
from tests.protocols.active_support import identity, session_with
from tests.protocols.support import exact_sum, one_hot

N, LENGTH, BITS = 5, 5, 16
HEAD, BODY = "a flipped bit in the kind or the context", "a flipped bit after them"
SCRIPTED = (
    Fault.LOSE_REQUEST,
    Fault.LOSE_REPLY,
    Fault.DELAY,
    Fault.DUPLICATE,
    Fault.LAST,
    Fault.REPLAY,
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
)
FAULTS = (*SCRIPTED, HEAD, BODY)
LOST = (Fault.LOSE_REQUEST, Fault.LOSE_REPLY, Fault.DELAY, HEAD)

ALL = os.environ.get("SECAGG_MATRIX") == "all"
SAMPLE = 80
PARTS = 20

Cell = tuple[int, str]
Script = Mapping[Cell, Any]


class Case(NamedTuple):
    """A mode, and how many have to stay: with 3 two may be lost, with 4 that is an abort."""

    mode: str
    threshold: int


CASES = [Case(mode, t) for mode in ("semi-honest", "active") for t in (3, 4)]
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.mode}, {c.threshold}")


@cache
def parameters_of(case: Case) -> MaskingParameters:
    t = case.threshold
    return masking.configure(
        N, LENGTH, BITS, threshold=t, floor=t, suite="X25519", adversary=case.mode
    )


def faults_of(case: Case) -> list[tuple[Cell, Any]]:
    """Every single fault."""
    cells = product(range(1, N + 1), parameters_of(case).stages)
    return [*product(cells, FAULTS)]


def pairs_of(case: Case) -> Iterator[Script]:
    """Every pair of faults that are not of one client at one stage."""
    for one, other in combinations(faults_of(case), 2):
        if one[0] != other[0]:
            yield dict((one, other))


# --- what must come out --------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """An abort (stage, reason), or who is in the sum, and where the others were lost."""

    abort: tuple[str, str] | None = None
    contributors: tuple[int, ...] = ()
    dropped: Mapping[int, str] | None = None


WHAT = {
    "advertise": "advertised",
    "share": "shared their keys",
    "upload": "uploaded",
    "consistency": "confirmed the survivors",
    "unmask": "answered the unmask request",
}


def expected(case: Case, script: Script) -> Expected:
    """Followed through the stages: who is lost in one takes no further part."""
    there, dropped, contributors = set(range(1, N + 1)), {}, ()
    for stage in parameters_of(case).stages:
        lost = {u for u in there if script.get((u, stage)) in LOST}
        there -= lost
        dropped |= dict.fromkeys(lost, stage)
        if len(there) < case.threshold:
            why = f"only {len(there)} clients {WHAT[stage]}, fewer than {case.threshold}"
            return Expected(abort=(stage, why))
        if stage == "upload":
            contributors = tuple(sorted(there))
    return Expected(None, contributors, dropped)


# --- playing -------------------------------------------------------------------------------


class Corruption:
    """Between the clients and the server: the message of a cell arrives with one other bit."""

    def __init__(self, script: Script) -> None:
        self.left = {cell: kind for cell, kind in script.items() if kind in (HEAD, BODY)}
        self.rng = Random(repr(sorted(self.left.items())))  # noqa: S311 - reproducible

    def server(self, session: Any, source: Any) -> Machine:
        machine = masking.new_server(session, source)
        handle: Callable[[Any], Any] = machine.handle

        def receive(event: Any) -> Any:
            if isinstance(event, Received):
                kind = self.left.pop((event.sender, machine.state.stage), None)
                event = Received(event.sender, self._flipped(event.data, kind))
            return handle(event)

        machine.handle = receive  # type: ignore[method-assign]
        return machine

    def _flipped(self, data: bytes, kind: Any) -> bytes:
        if kind is None:
            return data
        head = data.index(b"\xc4\x20") + 34  # an array, its tag, and 32 bytes of context
        at = self.rng.randrange(0, head) if kind == HEAD else self.rng.randrange(head, len(data))
        flipped = data[at] ^ 1 << self.rng.randrange(8)
        return data[:at] + bytes([flipped]) + data[at + 1 :]


def play(case: Case, script: Script) -> tuple[dict[int, Any], Outcome]:
    inputs = {u: one_hot(u, LENGTH, BITS) for u in range(1, N + 1)}
    faults = {cell: fault for cell, fault in script.items() if isinstance(fault, Fault)}
    protocol = replace(masking.PROTOCOL, server=Corruption(script).server)
    options = Options(
        record=False, signers={u: identity(u) for u in inputs if case.mode == "active"}
    )
    session = session_with(parameters_of(case))
    outcome = run(protocol, session, inputs, SystemSource(), faults=faults, options=options)
    return inputs, outcome


def check(case: Case, script: Script) -> str:
    """The cell ends as it must; how, in a word."""
    inputs, outcome = play(case, script)
    if BODY in script.values():
        return check_body(case, script, inputs, outcome)
    check_errors(script, outcome, {SERVER})
    must = expected(case, script)
    if must.abort:
        assert outcome.abort is not None, script
        assert (outcome.abort.stage, outcome.abort.reason) == must.abort, script
        assert outcome.abort.blame == (), script
        return "abort"
    assert outcome.result is not None, (script, outcome.abort)
    assert outcome.result.contributors == must.contributors, script
    assert dict(outcome.result.dropped) == must.dropped, script
    assert outcome.result.bad_answers == ()
    assert outcome.result.total.tolist() == exact_sum(inputs, must.contributors, BITS), script
    return "sum"


def check_errors(script: Script, outcome: Outcome, parties: set[int]) -> None:
    """Whoever refused something blames one that had a fault, at the right stage."""
    faulty = {u for u, _ in script}
    for party, error in outcome.errors:
        assert party in parties, (script, error)
        assert isinstance(error, PeerError), (script, error)
        assert error.peer in faulty, (script, error)


REASONS = (
    "clients advertised",
    "clients shared their keys",
    "clients uploaded",
    "clients confirmed the survivors",
    "clients answered the unmask request",
    "the masks do not cancel",
    "seed of client",
    "shares that were dealt",
)


def check_body(case: Case, script: Script, inputs: Any, outcome: Outcome) -> str:
    """A flipped bit somewhere: never a wrong sum, but for the client's own masked vector."""
    liars = {u for (u, _), fault in script.items() if fault == BODY}
    for party, error in outcome.errors:
        assert not isinstance(error, LocalError), (script, error)
        if party == SERVER:
            assert isinstance(error, PeerError)
            assert error.peer in {u for u, _ in script}, (script, error)
        elif isinstance(error, PeerError):
            assert (case.mode, error.peer) == ("semi-honest", SERVER)
        else:
            assert error.blame == (SERVER,)
    if outcome.abort:
        assert any(reason in outcome.abort.reason for reason in REASONS), outcome.abort
        assert not outcome.abort.blame or liars & set(outcome.abort.blame), (script, outcome.abort)
        return "abort, corrupt"
    total = outcome.result.total.tolist()
    right = exact_sum(inputs, outcome.result.contributors, BITS)
    off = [(a - b) % 2**BITS for a, b in zip(total, right, strict=True) if a != b]
    uploads = [u for u in liars if script.get((u, "upload")) == BODY]
    assert len(off) <= len(uploads), script
    bits = [sign * 2**i % 2**BITS for i in range(BITS) for sign in (1, -1)]
    one_or_two = {*bits, *((a + b) % 2**BITS for a in bits for b in bits if len(uploads) > 1)}
    assert one_or_two.issuperset(off), script
    for bad in outcome.result.bad_answers:
        assert {bad.dealer, bad.holder} & liars, script
    return "sum, corrupt"


@EACH_CASE
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_single_fault(case: Case, fault: Any) -> None:
    for cell, other in faults_of(case):
        if other == fault:
            ends = check(case, {cell: fault})
            assert ends == "sum" or fault == BODY


@EACH_CASE
def test_a_sample_of_pairs(case: Case) -> None:
    rng = Random(f"pairs {case}")  # noqa: S311 - reproducible
    singles = faults_of(case)
    for _ in range(SAMPLE):
        check(case, dict(rng.sample(singles, 2)))


@pytest.mark.skipif(not ALL, reason="make matrix")
@pytest.mark.parametrize("part", range(PARTS if ALL else 1))
@EACH_CASE
def test_every_pair(case: Case, part: int) -> None:
    counts: dict[str, int] = {}
    for number, script in enumerate(pairs_of(case)):
        if number % PARTS == part:
            ends = check(case, script)
            counts[ends] = counts.get(ends, 0) + 1
    assert sum(counts.values()) > 900


def test_the_matrix_has_every_cell() -> None:
    assert len(faults_of(Case("active", 3))) == 5 * 5 * len(FAULTS)
    assert len(faults_of(Case("semi-honest", 3))) == 5 * 4 * len(FAULTS)


def test_three_losses_are_predicted_as_an_abort() -> None:
    """The oracle is not always satisfied: one below the threshold has to end the session."""
    for case in CASES:
        for stage in parameters_of(case).stages:
            assert check(case, {(u, stage): Fault.LOSE_REPLY for u in (1, 3, 5)}) == "abort"
