"""The fault matrix of `committee`, `ckks` and `bfv`: every party, helpers too, at every stage.

As in test_matrix.py: each cell ends in the exact sum (`ckks` with a grid: within its stated
error), or in the abort that the script predicts, with its reason and its blame; and whoever
refuses something on the way names whom the script says. All singles and a sample of the pairs
are played here, all pairs by `make matrix`, but for those with a cell in which the party is not
addressed and sends nothing: the singles show that such a fault changes nothing.

What a flipped bit does is predicted from where it fell. Sealed uploads of `ckks` and `bfv` do
not open, a decryptor's wrong answer is found, and a bit of a ciphertext of `committee` is seen
in the opened sum, or has the effect on one coefficient that arithmetic says. Nobody but the
channel can find a bit of the sum that a key holder returns.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from random import Random
from typing import Any

import pytest

from protocols import bfv, ckks, committee
from protocols.base import SERVER, BadAnswer, Parameters, Protocol
from protocols.ckks import CkksParameters
from protocols.driver import Fault, Options, Outcome, run
from secagg.rng import SystemSource
from tests.protocols import recalling
from tests.protocols.matrix import (
    ALL,
    BODY,
    FAULTS,
    LOST,
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
from tests.protocols.support import exact_sum, one_hot, random_values, session_of

N, LENGTH, BITS = 5, 5, 16
SAMPLE = 25
UNUSED = 255
"""The bit that no X25519 public key has set (RFC 7748, section 5), so that it is found at once."""

Flips = Mapping[Cell, Flip]


@dataclass(frozen=True)
class Case:
    """Parameters, and what predicts how a script ends: all that may come out.

    silent: (stages, helpers) at which clients, or helpers, are not addressed and send nothing;
    remembering: the protocol with keys that cost nothing, for scripts without the key holder.
    """

    name: str
    protocol: Protocol
    parameters: Parameters
    foretell: Callable[["Case", Script, Flips], list[Expected]]
    silent: tuple[tuple[str, bool], ...]
    values: Callable[[int, int, int], Any] = one_hot
    remembering: Protocol | None = None

    @property
    def clients(self) -> range:
        return range(1, N + 1)

    @property
    def helpers(self) -> range:
        return range(N + 1, N + 1 + self.parameters.helpers)

    @cached_property
    def inputs(self) -> dict[int, Any]:
        return {u: self.values(u, LENGTH, BITS) for u in self.clients}

    def cells(self, *, silent: bool = True) -> Iterator[Cell]:
        """Every party at every stage."""
        for party in (*self.clients, *self.helpers):
            for stage in self.parameters.stages:
                if silent or (stage, party in self.helpers) not in self.silent:
                    yield party, stage

    def __str__(self) -> str:
        return self.name


# --- what must come out --------------------------------------------------------------------


def with_committee(case: Case, script: Script, flips: Flips) -> list[Expected]:
    """A changed report that was about some of the clients may be one about others, and be taken:
    as little use as before, but not refused.
    """
    ends = of_committee(case, script, flips)
    hit = Counter((SERVER, u, stage) for u, stage in flips if stage == "report")
    some = any(flip.string > 1 for (_, stage), flip in flips.items() if stage == "upload")
    return [*ends, *(replace(e, refusals=e.refusals - hit) for e in ends if hit and some)]


def of_committee(case: Case, script: Script, flips: Flips) -> list[Expected]:
    """One message a client; decryptors are heard three times."""
    story, parameters = Story(script, flips), case.parameters
    assert isinstance(parameters, committee.CommitteeParameters)
    need, floor, plan = parameters.threshold, parameters.floor, parameters.plan

    keyed = story.stage("keys", case.helpers, unsound=lambda f: f.string == 0 or f.bit == UNUSED)
    if len(keyed) < need:
        return [story.abort("keys", f"only {len(keyed)} decryptors have keys, fewer than {need}")]
    strangers = {u for u in case.clients if not begins(script, u)}
    uploaded = story.stage(
        "upload",
        case.clients,
        refusing=strangers,
        unsound=lambda flip: flip.string == 0 or (flip.string == 1 and not moved(plan, flip)),
    )
    if len(uploaded) < floor:
        return [story.abort("upload", f"only {len(uploaded)} clients uploaded, fewer than {floor}")]
    spoilt = spoilt_shares(story, uploaded, keyed)
    # A decryptor whose key was changed on its way finds that it is not its own.
    reported = story.stage("report", keyed, refusing=story.hit(keyed, "keys"))
    if len(reported) < need:
        why = f"only {len(reported)} decryptors reported, fewer than {need}"
        return [story.abort("report", why)]
    able = reported - spoilt.keys()
    if len(able) < need:
        why = "too few decryptors could open all shares; run a session without the clients named"
        named = sorted({u for v in reported for u in spoilt.get(v, ())})
        return [story.abort("report", why, *named)]
    answered = story.stage("open", able)
    if len(answered) < need:
        why = f"only {len(answered)} decryptors answered, fewer than {need}"
        return [story.abort("open", why)]
    liars = sorted(story.hit(answered, "open"))
    unreadable = story.abort(
        "open",
        f"the answers of {len(answered)} decryptors do not give the sum of short keys, and with "
        f"a threshold of {need} it cannot be said whose is wrong",
    )
    if len(answered) - len(liars) < need:
        return [unreadable]
    bits = [flip for flip in story.hit(uploaded, "upload").values() if flip.string == 1]
    bad = tuple(BadAnswer(SERVER, v, "sum of shares") for v in liars)
    dropped = dict.fromkeys(sorted({*case.clients} - uploaded), "upload")
    sums = openings(plan, BITS, case.inputs, uploaded, bits)
    return [
        unreadable
        if total is None
        else Expected(None, tuple(sorted(uploaded)), dropped, bad, total, story.refusals)
        for total in sums
    ]


def begins(script: Script, client: int) -> bool:
    """A client begins when it is told to, or when it starts again."""
    told = script.get((client, "keys")) is not Fault.LOSE_REQUEST
    return told or script.get((client, "upload")) is Fault.CRASH_BEFORE


def spoilt_shares(
    story: Story, uploaded: Collection[int], keyed: Collection[int]
) -> dict[int, set[int]]:
    """Whose shares a decryptor cannot open: those after the ciphertext, one for each key."""
    spoilt: dict[int, set[int]] = {}
    for u, flip in story.hit(uploaded, "upload").items():
        if flip.string > 1:
            spoilt.setdefault(sorted(keyed)[flip.string - 2], set()).add(u)
    return spoilt


def with_key_holder(case: Case, script: Script, flips: Flips) -> list[Expected]:
    """A changed key is one that SEAL refuses at once, or one that the key holder disowns."""
    changed = flips.get((N + 1, "join"))
    if changed is None or changed.string == 0:
        return [of_key_holder(case, script, flips, takes=False)]
    return [of_key_holder(case, script, flips, takes=takes) for takes in (True, False)]


def of_key_holder(case: Case, script: Script, flips: Flips, *, takes: bool) -> Expected:
    """Joined, uploaded, opened. takes: whether SEAL takes a changed key."""
    story, floor, holder = Story(script, flips), case.parameters.floor, N + 1

    there = story.stage("join", {*case.clients, holder}, unsound=lambda _flip: not takes)
    if holder not in there:
        return story.abort("join", "the key holder sent no key", holder)
    joined = there - {holder}
    if len(joined) < floor:
        return story.abort("join", f"only {len(joined)} clients joined, fewer than {floor}")
    uploaded = story.stage("upload", joined, unsound=lambda _flip: True)
    if len(uploaded) < floor:
        return story.abort("upload", f"only {len(uploaded)} clients uploaded, fewer than {floor}")
    if not story.stage("open", {holder}, refusing=story.hit({holder}, "join")):
        return story.abort("open", "the key holder opened no sum", holder)
    total = exact_sum(case.inputs, uploaded, BITS)
    for flip in story.hit({holder}, "open").values():
        total[flip.bit // BITS] ^= 1 << flip.bit % BITS
    missing = sorted({*case.clients} - uploaded)
    dropped = {u: "upload" if u in joined else "join" for u in missing}
    return Expected(None, tuple(sorted(uploaded)), dropped, (), tuple(total), story.refusals)


# --- the cases -----------------------------------------------------------------------------


def committee_case(threshold: int) -> Case:
    """Of five decryptors and as many clients, `threshold` have to stay."""
    parameters = committee.configure(
        N, LENGTH, BITS, threshold=threshold, floor=threshold, suite="X25519"
    )
    silent = (("report", False), ("open", False), ("upload", True))
    name = f"committee, {threshold}"
    return Case(name, committee.PROTOCOL, parameters, with_committee, silent)


def key_holder_case(name: str, folder: Any, floor: int, **options: Any) -> Case:
    """Small parameters, and a new key pair only where the key holder has a fault."""
    parameters = folder.configure(N, LENGTH, BITS, floor=floor, suite="X25519", **options)
    return Case(
        name,
        folder.PROTOCOL,
        parameters,
        with_key_holder,
        (("open", False), ("upload", True)),
        random_values if options else one_hot,
        recalling.CKKS if folder is ckks else recalling.BFV,
    )


CASES = (
    committee_case(4),
    key_holder_case("ckks, 4", ckks, 4),
    key_holder_case("bfv, 4", bfv, 4),
)
"""One may be lost, and two of a kind are an abort: the singles."""

MORE = (
    committee_case(3),
    key_holder_case("ckks, 3, grid", ckks, 3, grid_bits=3),
    key_holder_case("bfv, 3", bfv, 3),
)
"""Two may be lost."""


# --- playing -------------------------------------------------------------------------------


def play(case: Case, script: Script) -> tuple[Outcome, Flips]:
    own_keys = any(party > N for party, _ in script)
    protocol = case.protocol if own_keys else case.remembering or case.protocol
    channel = Corruption(protocol, script)
    faults = {cell: fault for cell, fault in script.items() if isinstance(fault, Fault)}
    outcome = run(
        replace(protocol, server=channel.server),
        session_of(protocol, case.parameters),
        case.inputs,
        SystemSource(),
        faults=faults,
        options=Options(record=False),
    )
    return outcome, channel.flips


def check(case: Case, script: Script) -> str:
    """The cell ends as it must; how, in a word."""
    outcome, flips = play(case, script)
    happened = ended(outcome)
    possible = case.foretell(case, script, flips)
    assert is_one_of(case, happened, possible), (script, flips, happened, possible)
    return "abort" if happened.abort else "sum"


def is_one_of(case: Case, happened: Expected, possible: Collection[Expected]) -> bool:
    return any(same(case, happened, must) for must in possible)


def same(case: Case, happened: Expected, must: Expected) -> bool:
    """Equal, with a total that may be off by the error that the parameters state."""
    most = case.parameters.error if isinstance(case.parameters, CkksParameters) else 0
    both = zip(happened.total, must.total, strict=len(must.total) == len(happened.total))
    close = all(min((a - b) % 2**BITS, (b - a) % 2**BITS) <= most for a, b in both)
    return close and replace(happened, total=()) == replace(must, total=())


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_single_fault(case: Case, fault: Any) -> None:
    for cell in case.cells():
        ends = check(case, {cell: fault})
        only = case.parameters.helpers == 1 and cell[0] > N and cell not in silent_of(case)
        assert fault == BODY or (ends == "abort") is (only and fault in LOST), (cell, fault)


def silent_of(case: Case) -> set[Cell]:
    return {*case.cells()} - {*case.cells(silent=False)}


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=str)
def test_a_sample_of_pairs(case: Case) -> None:
    rng = Random(f"pairs {case}")  # noqa: S311 - reproducible
    singles = singles_of(case.cells(silent=False))
    for _ in range(SAMPLE):
        check(case, dict(rng.sample(singles, 2)))


@pytest.mark.skipif(not ALL, reason="make matrix")
@pytest.mark.parametrize("part", range(PARTS if ALL else 1))
@pytest.mark.parametrize("case", [*CASES, *MORE], ids=str)
def test_every_pair(case: Case, part: int) -> None:
    ends: Counter[str] = Counter()
    for number, script in enumerate(pairs_of(singles_of(case.cells(silent=False)))):
        if number % PARTS == part:
            ends[check(case, script)] += 1
    assert ends.total() > 300
    assert min(ends["sum"], ends["abort"]) > 0


def test_the_matrix_has_every_cell() -> None:
    by_name = {str(case): case for case in CASES}
    assert len(singles_of(by_name["committee, 4"].cells())) == (5 + 5) * 4 * len(FAULTS)
    assert len(silent_of(by_name["committee, 4"])) == 5 * 2 + 5
    for name in ("ckks, 4", "bfv, 4"):
        assert len(singles_of(by_name[name].cells())) == (5 + 1) * 3 * len(FAULTS)
        assert len(silent_of(by_name[name])) == 5 + 1


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=str)
def test_losses_beyond_what_is_tolerated_are_predicted_as_an_abort(case: Case) -> None:
    """The oracle is not always satisfied: one more client, or decryptor, has to end it."""
    lost = N + 1 - case.parameters.floor
    for stage in case.parameters.client_stages:
        assert check(case, dict.fromkeys([(u, stage) for u in range(lost)[1:]], LOST[1])) == "sum"
        gone = {(u, stage): Fault.LOSE_REPLY for u in case.clients[:lost]}
        assert check(case, gone) == "abort"
    for stage in case.parameters.stages:
        silent = (stage, True) in case.silent
        gone = {(v, stage): Fault.LOSE_REPLY for v in case.helpers[:lost]}
        assert check(case, gone) == ("sum" if silent else "abort")


def test_two_clients_whose_shares_do_not_open_are_both_named() -> None:
    """Rare among random pairs: shares for different decryptors are hit, and too few are left."""
    for pair in combinations(CASES[0].clients, 2):
        script = {(u, "upload"): BODY for u in pair}
        outcome, _ = play(CASES[0], script)
        check(CASES[0], script)
        if outcome.abort and outcome.abort.blame:
            assert outcome.abort.blame == pair
            return
    pytest.fail("no pair has hit the shares of two decryptors")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_was_foretold_of_another_script_is_not_what_happened(case: Case) -> None:
    """Each loss of a client, each abort, and each refusal is told apart from all others."""
    scripts: list[Script] = [
        {},
        *({(u, "upload"): fault} for u in case.clients for fault in LOST[1:3]),
        *({(u, "upload"): Fault.DUPLICATE} for u in case.clients),
        *({(u, case.parameters.stages[0]): Fault.DUPLICATE} for u in case.helpers),
    ]
    played = [(script, *play(case, script)) for script in scripts]
    for script, outcome, flips in played:
        for other in scripts:
            possible = case.foretell(case, other, flips)
            assert is_one_of(case, ended(outcome), possible) is (other == script), (script, other)
