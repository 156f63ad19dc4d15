"""What clients send wrongly: malformed messages, unequal shares, NaN, values that wrap.

Found and attributed means: a PeerError that names the sender, a LocalError on the client's own
side before anything leaves, or a result or abort that names the liar.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from benchmarks.security.attack import Attack, Case, Effort, proportion
from benchmarks.security.targets import Target
from benchmarks.security.verdict import Measured, Rule
from benchmarks.security.vulnerable.messages import Answer
from protocols.base import Contribute, Envelope, Machine, Received
from protocols.driver import Simulation
from protocols.journal import MemoryJournal, Party
from protocols.masking.messages import UnmaskAnswer
from secagg.codec import decode, encode
from secagg.errors import LocalError, PeerError, SecaggError

CLIENTS, LENGTH, BITS = 4, 5, 32
LIAR = 1


class Tampered(Simulation):
    """Client 1's message reaches the server in every wrong form first, and then as it is."""

    found: list[tuple[str, bool]]
    target: Target

    def _deliver_to_server(self, envelopes: Iterable[Envelope]) -> None:
        sent = list(envelopes)
        for envelope in [e for e in sent if e.sender == LIAR]:
            for name, sender, data in _wrong(envelope, self.session.parameters.clients + 9):
                self.found.append((name, self._refused(sender, data)))
        super()._deliver_to_server(sent)

    def _refused(self, sender: int, data: bytes) -> bool:
        """By a copy of the server, which so is not disturbed where it takes it."""
        server: Machine = self._new_server()
        server.restore(self.server.machine.snapshot())
        try:
            server.handle(Received(sender, data))
        except PeerError as error:
            return error.peer == sender
        except SecaggError:
            return False
        return False

    def _contribute(self, me: int) -> list[Envelope]:
        machine = self.parties[me].machine
        if me == LIAR and Contribute in machine.accepts:
            for name, values in _bad_vectors():
                copy = self.target.client(self.session, me, 7)
                copy.restore(machine.snapshot())
                self.found.append((name, _local(Party(copy, MemoryJournal()), values)))
        return super()._contribute(me)


def _local(party: Party, values: Any) -> bool:
    try:
        with np.errstate(all="ignore"):
            party.handle(Contribute(values))
    except LocalError:
        return True
    return False


def _bad_vectors() -> list[tuple[str, Any]]:
    return [
        ("NaN", np.full(LENGTH, np.nan)),
        ("infinity", np.full(LENGTH, np.inf)),
        ("a value that wraps", np.full(LENGTH, 2**BITS + 1, np.uint64)),
        ("too short", np.zeros(LENGTH - 1, np.uint64)),
        ("too long", np.zeros(LENGTH + 1, np.uint64)),
    ]


def _wrong(envelope: Envelope, stranger: int) -> list[tuple[str, int, bytes]]:
    data = envelope.data
    raw = msgspec.msgpack.decode(data)
    encoded = msgspec.msgpack.encode
    longest = max(range(len(raw)), key=lambda i: len(raw[i]) if isinstance(raw[i], bytes) else 0)
    forms = [
        ("cut", data[: len(data) // 2]),
        ("leftovers", data + b"\0"),
        ("empty", b""),
        ("a field more", encoded([*raw, 0])),
        ("a field less", encoded(raw[:-1])),
        ("another session's", encoded([raw[0], bytes(32), *raw[2:]])),
        ("another kind", encoded(["unknown", *raw[1:]])),
    ]
    if longest > 1:  # beside the context: a key, a vector
        value = raw[longest]
        for name, changed in (("a field cut", value[:-1]), ("a field too long", value + b"\0")):
            forms.append((name, encoded([*raw[:longest], changed, *raw[longest + 1 :]])))
    wrong = [(name, LIAR, form) for name, form in forms]
    return [*wrong, ("from a stranger", stranger, data)]


class WrongShare(Simulation):
    """Client 1 returns shares that it was not dealt."""

    def _deliver_to_server(self, envelopes: Iterable[Envelope]) -> None:
        super()._deliver_to_server(
            [_lie(e) if (e.sender, e.stage) == (LIAR, "unmask") else e for e in envelopes]
        )


def _lie(envelope: Envelope) -> Envelope:
    body: Any = decode(envelope.data, UnmaskAnswer | Answer)
    if isinstance(body, Answer):
        own = tuple(replace(piece, share=_flipped(piece.share)) for piece in body.own)
        changed = encode(replace(body, own=own))
    else:
        changed = encode(replace(body, self_shares=_flipped(body.self_shares)))
    return Envelope(envelope.sender, envelope.to, envelope.stage, changed)


def _flipped(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]


def _inputs(number: int) -> dict[int, Any]:
    random = np.random.default_rng([11, number])
    return {u: random.integers(0, 2**20, LENGTH, dtype=np.uint64) for u in range(1, CLIENTS + 1)}


def wrong_messages(target: Target, number: int) -> list[tuple[str, bool]]:
    """Every wrong form of every message of client 1, and whether it was refused by name."""
    parameters = target.parameters(CLIENTS, LENGTH, BITS)
    kind: Any = type("Tampered", (Tampered,), {"found": [], "target": target})
    simulation = target.simulation(parameters, _inputs(number), number, kind=kind)
    outcome = simulation.run()
    exact = sum(_inputs(number).values())
    same = outcome.result is not None and np.array_equal(outcome.result.total, exact)
    return [*kind.found, ("the sum is exact all the same", bool(same))]


def wrong_shares(target: Target, number: int) -> bool:
    """Whether the liar is named, or the sum is exact without it."""
    parameters = target.parameters(CLIENTS, LENGTH, BITS)
    simulation = target.simulation(parameters, _inputs(number), number, kind=WrongShare)
    outcome = simulation.run()
    if outcome.abort:
        return LIAR in outcome.abort.blame
    named = outcome.result is not None and any(
        bad.holder == LIAR for bad in outcome.result.bad_answers
    )
    by_error = any(isinstance(e, PeerError) and e.peer == LIAR for _, e in outcome.errors)
    return named or by_error


def _messages(target: Target, effort: Effort) -> Measured:
    found: list[tuple[str, bool]] = []
    number = 0
    while len(found) < effort.of(150, 400):
        found += wrong_messages(target, number)
        number += 1
    missed = sorted({name for name, ok in found if not ok})
    note = f"not found: {', '.join(missed)}" if missed else "all of them"
    return proportion(sum(ok for _, ok in found), len(found), note)


def _shares(target: Target, effort: Effort) -> Measured | None:
    if target.family != "masking" and not target.is_reference:
        return None
    tries = effort.of(80, 120)
    return proportion(sum(wrong_shares(target, n) for n in range(tries)), tries)


_RULE = Rule(bar=0.95, baseline=0.98, wins="below")
ATTACK = Attack(
    "malformed messages, unequal shares, NaN, wrap-around",
    "Everything that a client can send wrongly. How much is found, and blamed on the right one?",
    "docs/spec.md",
    "found and attributed",
    (
        Case("messages and vectors", _RULE, _messages),
        Case("shares that were not dealt", _RULE, _shares),
    ),
)
