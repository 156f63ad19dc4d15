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
from protocols.base import Contribute, Envelope, Machine, Received, Session
from protocols.committee.messages import Answer as SumOfShares
from protocols.driver import Simulation
from protocols.he import keys as he_keys
from protocols.he.messages import Batch, Opened
from protocols.he.messages import Upload as Sealed
from protocols.journal import MemoryJournal, Party
from protocols.lattice.states import Relay
from protocols.masking.messages import UnmaskAnswer
from secagg.codec import decode, encode
from secagg.errors import LocalError, PeerError, SecaggError
from secagg.rng import SystemSource
from secagg.seal import suite

CLIENTS, LENGTH, BITS = 4, 5, 32
LIAR = 1


class Tampered(Simulation):
    """Client 1's message reaches the server in every wrong form first, and then as it is."""

    found: list[tuple[str, bool]]
    target: Target

    def _deliver_to_server(self, envelopes: Iterable[Envelope]) -> None:
        sent = list(envelopes)
        for envelope in [e for e in sent if e.sender == LIAR]:
            for name, sender, data in self._wrong(envelope):
                self.found.append((name, self._refused(sender, data)))
        super()._deliver_to_server(sent)

    def _wrong(self, envelope: Envelope) -> list[tuple[str, int, bytes]]:
        return _wrong(envelope, self.session.parameters.clients + 9)

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


class UnderSeal(Tampered):
    """What client 1 seals for the server of `ckks` and `bfv` is wrong, and the seal is not."""

    def _contribute(self, me: int) -> list[Envelope]:
        return Simulation._contribute(self, me)

    def _wrong(self, envelope: Envelope) -> list[tuple[str, int, bytes]]:
        machine: Any = self.server.machine
        upload = decode(envelope.data, machine.receivable)
        if not isinstance(upload, Sealed):
            return []
        pair = he_keys.sealing_keys(
            suite(machine.parameters.suite), machine.state.seed, machine.session.context
        )
        info = he_keys.sealing_info(upload.context, LIAR, upload.index)
        batch = decode(pair.open(upload.sealed, info), Batch).ciphertexts
        return [
            (name, LIAR, encode(replace(upload, sealed=pair.public.seal(raw, info))))
            for name, raw in _wrong_batches(batch, machine._engine, machine.parameters)
        ]


def _wrong_batches(batch: tuple[bytes, ...], engine: Any, parameters: Any) -> Iterable[Any]:
    """A client's ciphertexts in every wrong form, encoded."""
    first, rest = batch[0], batch[1:]
    zeros = parameters.spread(np.zeros(LENGTH, np.uint64))
    coins = he_keys.coins(SystemSource().seed(), bytes(32))
    yield "not even a batch", b"\0" * 40
    for name, changed in (
        ("a ciphertext cut", (first[:-1], *rest)),
        ("a ciphertext too long", (first + b"\0", *rest)),
        ("a ciphertext of zero bytes", (bytes(len(first)), *rest)),
        ("another header", (_flipped(first), *rest)),
        ("another body", (first[:64] + bytes(64) + first[128:], *rest)),
        ("a ciphertext more", (*batch, first)),
        ("no ciphertext", ()),
        ("under another session's key", engine.encrypt(engine.new_keys().public, zeros, coins)),
    ):
        yield name, encode(Batch(changed))


class WrongShare(Simulation):
    """Who holds what opens the sum returns what it was not dealt: client 1, or a helper."""

    def _deliver_to_server(self, envelopes: Iterable[Envelope]) -> None:
        me, machine = liar_of(self.session), self.server.machine
        last = self.session.parameters.stages[-1]
        super()._deliver_to_server(
            [_lie(e, machine) if (e.sender, e.stage) == (me, last) else e for e in envelopes]
        )


def liar_of(session: Session) -> int:
    """The first helper, where helpers open the sum, and client 1 elsewhere."""
    return session.parameters.clients + 1 if session.parameters.helpers else LIAR


def _lie(envelope: Envelope, machine: Any) -> Envelope:
    body: Any = decode(envelope.data, machine.receivable)
    if isinstance(body, Relay):
        changed = encode(replace(body, data=encode(_false(decode(body.data, UnmaskAnswer)))))
    else:
        changed = encode(_false(body))
    return Envelope(envelope.sender, envelope.to, envelope.stage, changed)


def _false(body: Any) -> Any:
    match body:
        case Answer():
            own = tuple(replace(piece, share=_flipped(piece.share)) for piece in body.own)
            return replace(body, own=own)
        case UnmaskAnswer():
            return replace(body, self_shares=_flipped(body.self_shares))
        case SumOfShares():
            return replace(body, total=_flipped(body.total))
        case Opened():
            return replace(body, packed=_flipped(body.packed))
    raise TypeError(f"no lie for {type(body).__name__}")


def _flipped(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]


def _inputs(number: int) -> dict[int, Any]:
    random = np.random.default_rng([11, number])
    return {u: random.integers(0, 2**20, LENGTH, dtype=np.uint64) for u in range(1, CLIENTS + 1)}


def wrong_messages(
    target: Target, number: int, way: type[Tampered] = Tampered
) -> list[tuple[str, bool]]:
    """Every wrong form of every message of client 1, and whether it was refused by name."""
    parameters = target.parameters(CLIENTS, LENGTH, BITS)
    kind: Any = type("Tampered", (way,), {"found": [], "target": target})
    simulation = target.simulation(parameters, _inputs(number), number, kind=kind)
    outcome = simulation.run()
    exact = sum(_inputs(number).values())
    same = outcome.result is not None and np.array_equal(outcome.result.total, exact)
    return [*kind.found, ("the sum is exact all the same", bool(same))]


def wrong_shares(target: Target, number: int) -> bool:
    """Whether the liar is named, or the sum is exact without it."""
    parameters = target.parameters(CLIENTS, LENGTH, BITS)
    simulation = target.simulation(parameters, _inputs(number), number, kind=WrongShare)
    outcome, liar = simulation.run(), liar_of(simulation.session)
    if outcome.abort:
        return liar in outcome.abort.blame
    named = outcome.result is not None and any(
        bad.holder == liar for bad in outcome.result.bad_answers
    )
    by_error = any(isinstance(e, PeerError) and e.peer == liar for _, e in outcome.errors)
    return named or by_error


def _messages(target: Target, effort: Effort, way: type[Tampered] = Tampered) -> Measured:
    found: list[tuple[str, bool]] = []
    number = 0
    while len(found) < effort.of(100, 400):
        found += wrong_messages(target, number, way)
        number += 1
    missed = sorted({name for name, ok in found if not ok})
    note = f"not found: {', '.join(missed)}" if missed else "all of them"
    return proportion(sum(ok for _, ok in found), len(found), note)


def _sealed(target: Target, effort: Effort) -> Measured | None:
    return None if target.family in _UNSEALED else _messages(target, effort, UnderSeal)


def _shares(target: Target, effort: Effort) -> Measured | None:
    if target.family in _UNSHARED:
        return None
    held = target.family in ("ckks", "bfv")  # a session takes long, and few show it
    tries = effort.of(8, 20) if held else effort.of(75, 120)
    found = sum(wrong_shares(target, n) for n in range(tries))
    return proportion(found, tries, _HOLDER if held and not found else "")


_HOLDER = "nothing proves that the key holder's answer is the sum: it passes, and the sum is wrong"
_UNSHARED = {"plain": "nobody is dealt a share"}
_OWN = "no ciphertext is sealed for the server; what it is sent is in the first setting"
_UNSEALED = {
    name: _OWN for name in ("plain", "masking", "lattice", "committee", "vulnerable_reference")
}
_RULE = Rule(bar=0.95, baseline=0.98, wins="below")
ATTACK = Attack(
    "malformed messages, unequal shares, NaN, wrap-around",
    "Everything that a client can send wrongly. How much is found, and blamed on the right one?",
    "docs/spec.md",
    "found and attributed",
    (
        Case("messages and vectors", _RULE, _messages),
        Case("shares that were not dealt", _RULE, _shares, absent=_UNSHARED),
        Case(
            "ciphertexts under the seal",
            _RULE,
            _sealed,
            control="messages and vectors",
            absent=_UNSEALED,
        ),
    ),
)
