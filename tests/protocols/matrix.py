"""What the fault matrices share: ten faults, a channel that flips bits, and what must come out.

A corrupt message is one of a channel that does not authenticate. In its head (the kind and the
context) a flipped bit is always found by the server. In its body it falls on the framing or on
one of the message's byte strings, each as likely, and is found by whoever uses that.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from random import Random
from typing import Any, NamedTuple

import msgspec

from protocols.base import SERVER, BadAnswer, Machine, Protocol, Received
from protocols.driver import Fault, Outcome
from secagg.errors import PeerError
from secagg.ringset import Plan
from tests.protocols.support import exact_sum

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
PARTS = 20

Cell = tuple[int, str]
Script = Mapping[Cell, Any]
Inputs = Mapping[int, Any]


def singles_of(cells: Iterable[Cell]) -> list[tuple[Cell, Any]]:
    """Every single fault."""
    return [*product(cells, FAULTS)]


def pairs_of(singles: Iterable[tuple[Cell, Any]]) -> Iterator[Script]:
    """Every pair of faults that are not of one party at one stage."""
    for one, other in combinations(singles, 2):
        if one[0] != other[0]:
            yield dict((one, other))


# --- the channel ---------------------------------------------------------------------------


class Flip(NamedTuple):
    """Bit `bit` of a byte string, which was `was`; `string` is its number, 1 being the first
    after the context, or 0 for what frames them.
    """

    string: int
    bit: int
    was: bytes


class Corruption:
    """Between the parties and the server: the message of a cell arrives with one other bit.

    `flips` says by cell which bits of bodies it was; a body that is empty stays as it is.
    """

    def __init__(self, protocol: Protocol, script: Script) -> None:
        self.protocol = protocol
        self.flips: dict[Cell, Flip] = {}
        self._left = {cell: kind for cell, kind in script.items() if kind in (HEAD, BODY)}
        self._rng = Random(repr(sorted(self._left.items())))  # noqa: S311 - reproducible

    def server(self, session: Any, source: Any) -> Machine:
        """The protocol's server, behind the channel."""
        machine = self.protocol.server(session, source)
        handle: Callable[[Any], Any] = machine.handle

        def receive(event: Any) -> Any:
            if isinstance(event, Received):
                cell = (event.sender, machine.state.stage)
                event = Received(event.sender, self._on_the_way(cell, event.data))
            return handle(event)

        machine.handle = receive  # type: ignore[method-assign]
        return machine

    def _on_the_way(self, cell: Cell, data: bytes) -> bytes:
        kind = self._left.pop(cell, None)
        if kind is None:
            return data
        head = data.index(b"\xc4\x20") + 34  # an array, its tag, and 32 bytes of context
        if kind == HEAD:
            return _flipped(data, self._rng.randrange(8 * head))
        strings = _strings(data, head)
        framing = [at for at in range(head, len(data)) if not any(at in each for each in strings)]
        if not framing:
            return data
        number = self._rng.randrange(len(strings) + 1)
        places = strings[number - 1] if number else framing
        at = self._rng.randrange(8 * len(places))
        was = data[places[0] : places[-1] + 1]
        self.flips[cell] = Flip(number, at, was)
        return _flipped(data, 8 * places[at // 8] + at % 8)


def _strings(data: bytes, head: int) -> list[range]:
    """Where the byte strings after the head are."""
    found = []
    for each in _flat(msgspec.msgpack.decode(data)[2:]):
        if isinstance(each, bytes) and each:
            start = data.index(each, head)
            head = start + len(each)
            found.append(range(start, head))
    return found


def _flat(value: Any) -> Iterator[Any]:
    if not isinstance(value, list):
        yield value
        return
    for each in value:
        yield from _flat(each)


def _flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


# --- what must come out --------------------------------------------------------------------

Refusal = tuple[int, int, str]
"""Who refused a message, whose it was, and at which stage."""


@dataclass(frozen=True)
class Expected:
    """An abort (stage, reason, blame), or the sum of whom; and who refused what on the way."""

    abort: tuple[str, str, tuple[int, ...]] | None = None
    contributors: tuple[int, ...] = ()
    dropped: Mapping[int, str] = field(default_factory=dict)
    bad_answers: tuple[BadAnswer, ...] = ()
    total: tuple[int, ...] = ()
    refusals: Counter[Refusal] = field(default_factory=Counter)


def ended(outcome: Outcome) -> Expected:
    """How it did end. That anybody refused what its own caller said is no part of any script."""
    for party, error in outcome.errors:
        assert isinstance(error, PeerError), (party, error)
    refusals = Counter((u, e.peer, e.stage) for u, e in outcome.errors if isinstance(e, PeerError))
    if outcome.abort:
        abort = outcome.abort.stage, outcome.abort.reason, outcome.abort.blame
        return Expected(abort, refusals=refusals)
    result = outcome.result
    assert result is not None
    total = tuple(result.total.tolist())
    return Expected(
        None, result.contributors, dict(result.dropped), result.bad_answers, total, refusals
    )


class Story:
    """Whose messages are taken at each stage, followed through the script."""

    def __init__(self, script: Script, flips: Mapping[Cell, Flip]) -> None:
        self.script, self.flips = script, flips
        self.refusals: Counter[Refusal] = Counter()
        self._sent: set[int] = set()
        self._late: set[int] = set()

    def stage(
        self,
        stage: str,
        asked: Collection[int],
        *,
        refusing: Collection[int] = (),
        unsound: Callable[[Flip], bool] = lambda flip: flip.string == 0,
    ) -> set[int]:
        """Those among `asked` whom the server hears, in time.

        refusing: of them, who finds the request wrong; unsound: whether the server finds this
        bit in a body.
        """
        self.refusals.update((SERVER, u, stage) for u in self._late)
        self._late = set()
        return {u for u in asked if self._is_heard(u, stage, u in refusing, unsound)}

    def flip(self, u: int, stage: str) -> Flip:
        """What hit the message of a party, which has such a fault there."""
        return self.flips[u, stage]

    def hit(self, among: Collection[int], stage: str) -> dict[int, Flip]:
        """The bits of bodies that were flipped on their way to the server, by sender."""
        return {u: self.flips[u, stage] for u in among if (u, stage) in self.flips}

    def abort(self, stage: str, reason: str, *blame: int) -> Expected:
        """It ends here."""
        return Expected((stage, reason, blame), refusals=self.refusals)

    def _is_heard(self, u: int, stage: str, refuses: bool, unsound: Callable[[Flip], bool]) -> bool:
        fault = self.script.get((u, stage))
        if fault is Fault.LOSE_REQUEST:
            return False
        again = u in self._sent and (
            fault is Fault.REPLAY or (refuses and fault is Fault.CRASH_AFTER)
        )
        if refuses:
            self.refusals[u, SERVER, stage] += 1
            self.refusals[SERVER, u, stage] += again
            return False
        flip = self.flips.get((u, stage))
        found = fault == HEAD or (flip is not None and unsound(flip))
        self.refusals[SERVER, u, stage] += found or again or fault is Fault.DUPLICATE
        self._sent.add(u)
        if fault is Fault.DELAY:
            self._late.add(u)
        return fault not in LOST and not found


# --- a bit of a ciphertext -----------------------------------------------------------------


def moved(plan: Plan, flip: Flip) -> tuple[int, int] | None:
    """The coefficient of which a bit in a packed ciphertext of one chunk is, and by how much it
    changes that modulo q; None where what is left is no residue.
    """
    place, bit = divmod(flip.bit, 30)
    row, coefficient = divmod(place, plan.width(0))
    before = int.from_bytes(flip.was, "little") >> 30 * place & 2**30 - 1
    after = before ^ 1 << bit
    q, prime = plan.ring.modulus, plan.ring.primes[row]
    if after >= prime:
        return None
    return coefficient, (after - before) * (q // prime) * pow(q // prime, -1, prime) % q


def openings(
    plan: Plan, bits: int, inputs: Inputs, of: Collection[int], flips: Iterable[Flip]
) -> set[tuple[int, ...] | None]:
    """The sums that may be read with these bits of ciphertexts flipped; None: it is seen that
    something is wrong. A coefficient is `delta M` and noise of up to 2nB, which nobody knows.
    """
    changes: Counter[int] = Counter()
    for flip in flips:
        change = moved(plan, flip)
        assert change is not None
        changes[change[0]] += change[1]
    read = [_read(plan, each, changes[at]) for at, each in enumerate(_messages(plan, inputs, of))]
    return {_values(plan, bits, len(of), digits) for digits in product(*read)}


def _messages(plan: Plan, inputs: Inputs, of: Collection[int]) -> list[int]:
    """What the coefficients of the sum carry."""
    sums = exact_sum(inputs, of, 64)
    carried = [0] * plan.width(0)
    for at, value in enumerate(sums):
        place, coefficient = divmod(at, plan.carriers)
        carried[coefficient] += value << plan.radix * place
    carried[plan.carriers] = len(of)
    return carried


def _read(plan: Plan, message: int, change: int) -> set[int]:
    exact = plan.delta * message + change
    return {(exact + noise) % plan.ring.modulus // plan.delta for noise in (0, 2 * plan.noise)}


def _values(plan: Plan, bits: int, count: int, messages: tuple[int, ...]) -> Any:
    tail = messages[plan.carriers :]
    if any(each >> plan.radix * plan.fields for each in messages) or any(tail[1:]):
        return None
    if tail[0] != count:
        return None
    places = (divmod(at, plan.carriers) for at in range(plan.length))
    mask = 2**plan.radix - 1
    digits = (messages[at] >> plan.radix * place & mask for place, at in places)
    return tuple(digit % 2**bits for digit in digits)
