"""The fault matrix of `masking` and `lattice`: five clients, every stage, ten faults, both modes.

Every cell ends in the exact sum over those who uploaded, or in an abort with the reason and the
blame that the script alone predicts, and whoever refuses a message names whom the script says.
Here all singles and a sample of the pairs are played; `make matrix` plays all pairs.

A flipped bit in a body may be found by a client, and the client that sent it may be blamed. A
bit of the masked vector is beyond everybody but the channel, and changes the sum by exactly that
bit. A bit of `lattice`'s ciphertext is seen in the opened sum, or has the effect on one
coefficient that arithmetic says; one of its masked short key never changes a sum.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from random import Random
from typing import Any, NamedTuple

import pytest

from protocols.base import SERVER, Parameters, Protocol, Session
from protocols.driver import Fault, Options, Outcome, run
from protocols.lattice import LatticeParameters
from protocols.registry import load
from secagg.errors import LocalError, PeerError, ProtocolAborted
from secagg.rng import SystemSource
from tests.protocols.active_support import identity, roster_of
from tests.protocols.matrix import (
    ALL,
    BODY,
    FAULTS,
    PARTS,
    Cell,
    Corruption,
    Expected,
    Flip,
    Script,
    Story,
    ended,
    moved,
    openings,
    pairs_of,
    singles_of,
)
from tests.protocols.support import exact_sum, one_hot

N, LENGTH, BITS = 5, 5, 16
SAMPLE = {"masking": 80, "lattice": 25}
INPUTS = {u: one_hot(u, LENGTH, BITS) for u in range(1, N + 1)}

Flips = Mapping[Cell, Flip]


class Case(NamedTuple):
    """A protocol, a mode, and how many have to stay: with 3 two may be lost, with 4 that is an
    abort.
    """

    protocol: str
    mode: str
    threshold: int

    @property
    def stages(self) -> tuple[str, ...]:
        return parameters_of(self).stages

    def faults(self) -> list[tuple[Cell, Any]]:
        """Every single fault."""
        return singles_of((u, stage) for u in INPUTS for stage in self.stages)

    def __str__(self) -> str:
        return ", ".join(map(str, self))


CASES = [
    Case(protocol, mode, t)
    for protocol in ("masking", "lattice")
    for mode in ("semi-honest", "active")
    for t in (3, 4)
]
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=str)
SINGLES = [case for case in CASES if case.protocol == "masking" or case.threshold == 4]


@cache
def parameters_of(case: Case) -> Parameters:
    protocol, mode, t = case
    options = {"threshold": t, "floor": t, "suite": "X25519", "adversary": mode}
    return load(protocol).configure(N, LENGTH, BITS, **options)


# --- what must come out --------------------------------------------------------------------

WHAT = {
    "advertise": "advertised",
    "share": "shared their keys",
    "upload": "uploaded",
    "consistency": "confirmed the survivors",
    "unmask": "answered the unmask request",
}
SPILLED = "the opened sum does not end in its canary: a key or its sum is wrong"


def foretold(case: Case, script: Script, flips: Flips) -> list[Expected]:
    """Followed through the stages: who is lost in one takes no further part."""
    story, there, need = Story(script, flips), {*INPUTS}, case.threshold
    dropped: dict[int, str] = {}
    contributors: tuple[int, ...] = ()
    for stage in case.stages:
        heard = story.stage(stage, there, unsound=partial(is_found, case, stage))
        dropped |= dict.fromkeys(sorted(there - heard), stage)
        there = heard
        if len(there) < need:
            why = f"only {len(there)} clients {WHAT[stage]}, fewer than {need}"
            return [story.abort(stage, why)]
        if stage == "upload":
            contributors = tuple(sorted(there))
    return [
        story.abort("unmask", SPILLED)
        if total is None
        else Expected(None, contributors, dropped, (), total, story.refusals)
        for total in totals(case, contributors, flips)
    ]


def is_ciphertext(case: Case, stage: str, flip: Flip) -> bool:
    return (case.protocol, stage, flip.string) == ("lattice", "upload", 1)


def is_found(case: Case, stage: str, flip: Flip) -> bool:
    """Whether the server sees at once that this is no such message."""
    plan = plan_of(case)
    if plan and is_ciphertext(case, stage, flip):
        return moved(plan, flip) is None
    return flip.string == 0


def totals(case: Case, of: tuple[int, ...], flips: Flips) -> set[tuple[int, ...] | None]:
    """What may be read: the exact sum, but for bits of ciphertexts."""
    plan = plan_of(case)
    if plan is None:
        return {tuple(exact_sum(INPUTS, of, BITS))}
    bits = [f for (u, at), f in flips.items() if u in of and is_ciphertext(case, at, f)]
    return openings(plan, BITS, INPUTS, of, bits)


def plan_of(case: Case) -> Any:
    parameters = parameters_of(case)
    return parameters.plan if isinstance(parameters, LatticeParameters) else None


# --- playing -------------------------------------------------------------------------------


def play(case: Case, script: Script) -> tuple[Outcome, Flips]:
    protocol: Protocol = load(case.protocol)
    channel = Corruption(protocol, script)
    faults = {cell: fault for cell, fault in script.items() if isinstance(fault, Fault)}
    active = case.mode == "active"
    roster = roster_of(N)
    session = Session(
        case.protocol, parameters_of(case), bytes(32), roster.digest(), roster if active else None
    )
    options = Options(record=False, signers={u: identity(u) for u in INPUTS if active})
    behind = replace(protocol, server=channel.server)
    outcome = run(behind, session, INPUTS, SystemSource(), faults=faults, options=options)
    return outcome, channel.flips


def check(case: Case, script: Script) -> str:
    """The cell ends as it must; how, in a word."""
    outcome, flips = play(case, script)
    if not all(f.string == 0 or is_ciphertext(case, at, f) for (_, at), f in flips.items()):
        return check_body(case, script, flips, outcome)
    happened, possible = ended(outcome), foretold(case, script, flips)
    assert happened in possible, (script, flips, happened, possible)
    return "abort" if happened.abort else "sum"


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
OPENING = (SPILLED, "short keys is beyond its bound")


def check_body(case: Case, script: Script, flips: Flips, outcome: Outcome) -> str:
    """A flipped bit somewhere: never a wrong sum, but for the client's own masked vector."""
    liars = {u for u, _ in flips}
    for party, error in outcome.errors:
        assert not isinstance(error, LocalError), (script, error)
        if party == SERVER:
            assert isinstance(error, PeerError)
            assert error.peer in {u for u, _ in script}, (script, error)
        elif isinstance(error, PeerError):
            assert (case.mode, error.peer) == ("semi-honest", SERVER)
        else:
            assert isinstance(error, ProtocolAborted)
            assert error.blame == (SERVER,)
    if outcome.abort:
        reasons = (*REASONS, *(OPENING if case.protocol == "lattice" else ()))
        assert any(reason in outcome.abort.reason for reason in reasons), outcome.abort
        assert not outcome.abort.blame or liars & set(outcome.abort.blame), (script, outcome.abort)
        return "abort, corrupt"
    assert outcome.result is not None
    for bad in outcome.result.bad_answers:
        assert {bad.dealer, bad.holder} & liars, script
    read = tuple(outcome.result.total.tolist())
    assert any(
        total is not None and is_off(case, flips, read, total)
        for total in totals(case, outcome.result.contributors, flips)
    ), (script, flips, read)
    return "sum, corrupt"


def is_off(case: Case, flips: Flips, read: tuple[int, ...], total: tuple[int, ...]) -> bool:
    """Whether the sum is off by no more than a bit for each masked vector that was hit."""
    off = [(a - b) % 2**BITS for a, b in zip(read, total, strict=True) if a != b]
    hit = [cell for cell in flips if cell[1] == "upload" and case.protocol == "masking"]
    bits = [sign * 2**i % 2**BITS for i in range(BITS) for sign in (1, -1)]
    two = {(a + b) % 2**BITS for a in bits for b in bits} if len(hit) > 1 else set()
    return len(off) <= len(hit) and {*bits, *two}.issuperset(off)


@pytest.mark.parametrize("case", SINGLES, ids=str)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_single_fault(case: Case, fault: Any) -> None:
    for cell, other in case.faults():
        if other == fault:
            ends = check(case, {cell: fault})
            assert ends == "sum" or fault == BODY


@EACH_CASE
def test_a_sample_of_pairs(case: Case) -> None:
    rng = Random(f"pairs {case}")  # noqa: S311 - reproducible
    singles = case.faults()
    for _ in range(SAMPLE[case.protocol]):
        check(case, dict(rng.sample(singles, 2)))


@pytest.mark.skipif(not ALL, reason="make matrix")
@pytest.mark.parametrize("part", range(PARTS if ALL else 1))
@EACH_CASE
def test_every_pair(case: Case, part: int) -> None:
    ends: Counter[str] = Counter()
    for number, script in enumerate(pairs_of(case.faults())):
        if number % PARTS == part:
            ends[check(case, script)] += 1
    assert ends.total() > 900


def test_the_matrix_has_every_cell() -> None:
    for protocol in ("masking", "lattice"):
        assert len(Case(protocol, "active", 3).faults()) == 5 * 5 * len(FAULTS)
        assert len(Case(protocol, "semi-honest", 3).faults()) == 5 * 4 * len(FAULTS)


@EACH_CASE
def test_three_losses_are_predicted_as_an_abort(case: Case) -> None:
    """The oracle is not always satisfied: one below the threshold has to end the session."""
    for stage in case.stages:
        assert check(case, {(u, stage): Fault.LOSE_REPLY for u in (1, 3, 5)}) == "abort"
