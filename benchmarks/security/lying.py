"""A server that lies, against real client machines: what each of its tricks gets out of them.

Everything up to the lie is an honest session of the target. The victim is client 1, and an
attempt has worked if the server ends up with the victim's vector, to the last bit. Here: the
masked protocols, `lattice` around one included, and the reference; `opening` has the others.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.security.targets import Target, Words
from benchmarks.security.views import ask
from benchmarks.security.vulnerable.messages import Ask
from benchmarks.security.vulnerable.parameters import ZEROS
from benchmarks.security.vulnerable.server import Unmask
from protocols.base import SERVER, Message, Parameters, Received
from protocols.journal import Party
from protocols.lattice.states import Relay
from protocols.lattice.states import Upload as Ciphertext
from protocols.masking import keys
from protocols.masking.bitmap import bitmap_of
from protocols.masking.messages import (
    Confirmation,
    Signed,
    SurvivorSet,
    UnmaskAnswer,
    UnmaskProof,
    UnmaskRequest,
    Upload,
)
from secagg import kdf, prg, rlwe, shamir
from secagg.codec import decode, encode
from secagg.errors import DecodeError, SecaggError
from secagg.gaussian import BOUND
from secagg.packing import unpack
from secagg.rng import SystemSource
from secagg.seal import SystemSealer
from secagg.shamir import SHARE_BYTES

VICTIM = 1
LENGTH, BITS = 6, 32
LAST_HONEST = {"committee": "report"}
"""The last stage in which the server keeps to the protocol; `upload` where nothing is said."""


@dataclass
class Attempt:
    """One session: whether it worked, and the first thing that an honest client refused."""

    worked: bool = False
    refusal: str = ""

    def refused(self, error: Exception) -> None:
        """Remember the first one."""
        self.refusal = self.refusal or str(error)


@dataclass
class Lie:
    """A session in which the server lies once everything is uploaded.

    before: its state as the last honest stage began; context: what requests are bound to, the
    inner protocol's where one is relayed; keyed: the parameters of the protocol of the shares.
    """

    target: Target
    parameters: Parameters
    number: int = 0
    attempt: Attempt = field(default_factory=Attempt)

    def __post_init__(self) -> None:
        random = np.random.default_rng([5, self.number])
        self.everyone = tuple(range(1, self.parameters.clients + 1))
        bits, length = self.parameters.modulus_bits, self.parameters.length
        self.inputs: dict[int, Words] = {
            u: random.integers(0, 2**bits, length, dtype=np.uint64) for u in self.everyone
        }
        self.simulation = self.target.simulation(self.parameters, self.inputs, self.number)
        stages = self.parameters.stages
        for stage in stages[: stages.index(LAST_HONEST.get(self.target.family, "upload")) + 1]:
            self.before: Any = self.simulation.server.machine.state
            self.simulation.step(stage)
        state: Any = self.simulation.server.machine.state
        self.relayed = self.target.family == "lattice"
        self.outer: bytes = state.expected_context or b""
        masking = state.inner if self.relayed else state
        self.context: bytes = masking.expected_context or b""
        self.context1: bytes = masking.context  # where masking is what is lied to
        self.keyed: Any = getattr(self.parameters, "inner", self.parameters)

    def tell(self, u: int, message: Message, kind: type[Any]) -> Any:
        """What party u answers, None if it refuses or says nothing."""
        data = encode(message)
        data = encode(Relay(self.outer, data)) if self.relayed else data
        try:
            sent = self.simulation.parties[u].handle(Received(SERVER, data))
        except SecaggError as error:
            self.attempt.refused(error)
            return None
        if not sent:
            return None
        return decode(decode(sent[0].data, Relay).data if self.relayed else sent[0].data, kind)

    def restart(self, u: int) -> None:
        """Party u is killed, and takes up what its journal has."""
        session, signer = self.simulation.session, self.target.signers(self.parameters).get(u)
        machine = self.target.protocol.party(session, u, SystemSource(), SystemSealer(), signer)
        self.simulation.parties[u] = Party(machine, self.simulation.journal)
        self.simulation.parties[u].resume()

    def uploads(self, kind: type[Any]) -> list[Any]:
        """What the victim uploaded."""
        machine = self.simulation.server.machine
        mine = [e for e in self.simulation.transcript if (e.sender, e.stage) == (VICTIM, "upload")]
        bodies = [decode(e.data, machine.receivable) for e in mine]
        return [body for body in bodies if isinstance(body, kind)]

    def opened(self, uploads: Iterable[Any], key: Any) -> Words:
        """The victim's vector from its ciphertext and its short key. DecodeError if not its."""
        parameters: Any = self.parameters
        total = rlwe.zero_sum(parameters.plan)
        for chunks, upload in zip(parameters.pieces, uploads, strict=True):
            rlwe.add_chunks(parameters.plan, total, chunks, upload.packed)
        bits = parameters.modulus_bits
        values = rlwe.open_sum(parameters.plan, total, self.outer, key, 1, bits)
        return np.asarray(values, np.uint64)

    def compare(self, found: Words | None) -> Attempt:
        """Whether this is the victim's vector."""
        same = found is not None and np.array_equal(found, self.inputs[VICTIM])
        self.attempt.worked = bool(same)
        return self.attempt


Answers = list[tuple[int, frozenset[int], UnmaskAnswer]]
"""(holder, the U3 that it was told, what it gave)."""


def semi_honest(lie: Lie, told: Iterable[tuple[int, frozenset[int]]]) -> Answers:
    """Ask each client to unmask for the U3 that it is told."""
    answers: Answers = []
    for u, survivors in told:
        request = UnmaskRequest(lie.context, tuple(sorted(survivors)), len(survivors))
        answer = lie.tell(u, request, UnmaskAnswer)
        if answer is not None:
            answers.append((u, survivors, answer))
    return answers


def active(lie: Lie, told: Iterable[tuple[int, frozenset[int]]]) -> Answers:
    """The same with the round of signatures before: all that signed are shown to all."""
    signed: dict[int, tuple[frozenset[int], bytes]] = {}
    for u, survivors in told:
        message = SurvivorSet(lie.context, bitmap_of(survivors, len(lie.everyone)))
        confirmation = lie.tell(u, message, Confirmation)
        if confirmation is not None:
            signed[u] = (survivors, confirmation.signature)
    answers: Answers = []
    for u, (survivors, _) in signed.items():
        shown = [v for v in sorted(signed) if v in survivors]
        alike = [v for v in shown if signed[v][0] == survivors]
        chosen = (alike if len(alike) >= lie.parameters.floor else shown)[: lie.parameters.floor]
        proof = UnmaskProof(lie.context, tuple(Signed(v, signed[v][1]) for v in chosen))
        answer = lie.tell(u, proof, UnmaskAnswer)
        if answer is not None:
            answers.append((u, survivors, answer))
    return answers


def recovered(lie: Lie, answers: Answers) -> Words | None:
    """The victim's vector from t shares of each of its seeds, None with fewer."""
    shares: dict[str, dict[int, bytes]] = {"own": {}, "mask": {}}
    for holder, survivors, answer in answers:
        gone = [v for v in lie.everyone if v != holder and v not in survivors]
        for kind, listed, raw in (
            ("own", sorted(survivors), answer.self_shares),
            ("mask", gone, answer.mask_shares),
        ):
            if VICTIM in listed:
                at = listed.index(VICTIM) * SHARE_BYTES
                shares[kind][holder] = raw[at : at + SHARE_BYTES]
    try:
        own, mask = (_secret(shares[kind], lie.keyed.threshold) for kind in ("own", "mask"))
        return _relayed_vector(lie, own, mask) if lie.relayed else _masked_vector(lie, own, mask)
    except DecodeError as error:
        lie.attempt.refused(error)
        return None


def _masked_vector(lie: Lie, own: bytes, mask: bytes) -> Words:
    (upload,) = lie.uploads(Upload)
    return _unmasked(lie, upload, own, mask)


def _relayed_vector(lie: Lie, own: bytes, mask: bytes) -> Words:
    """What was masked is the short key, shifted to be unsigned; with it the ciphertext opens."""
    uploads = lie.uploads(Ciphertext)
    short = _unmasked(lie, decode(uploads[-1].inner, Upload), own, mask)
    return lie.opened(uploads, short.astype(np.int64) - BOUND)


def _secret(shares: Mapping[int, bytes], threshold: int) -> bytes:
    chosen = sorted(shares.items())[:threshold]
    if len(chosen) < threshold:
        raise DecodeError(f"{len(chosen)} shares of one kind, and {threshold} are needed")
    return shamir.reconstruct([at for at, _ in chosen], [[share for _, share in chosen]])[0]


def _unmasked(lie: Lie, upload: Upload, own: bytes, mask: bytes) -> Words:
    """The upload without its masks; the victim has the lowest number, so all pairs are its own."""
    parameters = lie.keyed
    words = unpack(upload.packed, parameters.modulus_bits, parameters.masked_length).copy()
    near = np.array([v for v in lie.everyone if v != VICTIM])
    secrets = keys.edges(kdf.table([mask], len(mask)), lie.context1, VICTIM, near)
    pairs = keys.pair_streams(secrets, lie.context, np.full_like(near, VICTIM), near)
    streams = [keys.own_stream(own, lie.context, VICTIM), *pairs]
    prg.add_masks(words, streams, [-1] * len(streams))
    top = np.uint64(2**parameters.modulus_bits - 1)
    return np.asarray(words[: parameters.length], np.uint64) & top


def _all(lie: Lie) -> frozenset[int]:
    return frozenset(lie.everyone)


def _masking_both(lie: Lie) -> Answers:
    """Ask every client for both kinds of share of the victim, with a restart in between."""
    ways = active if lie.parameters.signed else semi_honest
    with_it, without = _all(lie), _all(lie) - {VICTIM}
    answers = ways(lie, [(u, with_it) for u in lie.everyone])
    for u in sorted(without):
        lie.restart(u)
    return answers + ways(lie, [(u, without) for u in sorted(without)])


def _masking_split(lie: Lie) -> Answers:
    """Tell half of the clients that the victim uploaded, and half that it dropped out."""
    ways = active if lie.parameters.signed else semi_honest
    everyone, others = _all(lie), lie.everyone[1:]
    half = set(others[: len(others) // 2])
    told = [(u, everyone - {VICTIM} if u in half else everyone) for u in lie.everyone]
    return ways(lie, told)


def _weak(lie: Lie, requests: Callable[[int], Collection[Ask]]) -> Words | None:
    """The reference: whatever it answers to these requests, put together."""
    answers: dict[int, Any] = {}
    for u in lie.everyone:
        for request in requests(u):
            answer = ask(lie.simulation, u, request)
            if answer is None:
                lie.attempt.refusal = lie.attempt.refusal or "a client refused"
                continue
            own = answers[u].own if u in answers else ()
            kept = answers[u].keys if u in answers else ()
            answers[u] = type(answer)(answer.context, own + answer.own, kept + answer.keys)
    state: Any = lie.simulation.server.machine.state
    parameters: Any = lie.parameters
    unmask = Unmask(parameters, lie.context, state.keys, answers)
    try:
        words = unmask.words(state.uploads[VICTIM]) - unmask.own(VICTIM)
        words = (words - unmask.pairs(VICTIM, lie.everyone))[:-ZEROS]
    except DecodeError:
        return None
    return np.asarray(words, np.uint64) & np.uint64(2**parameters.modulus_bits - 1)


def _weak_both(lie: Lie) -> Words | None:
    victim = (VICTIM,)
    return _weak(lie, lambda _u: [Ask(lie.context, victim, ()), Ask(lie.context, (), victim)])


def _weak_split(lie: Lie) -> Words | None:
    half = len(lie.everyone) // 2
    with_it, without = ((VICTIM,), ()), ((), (VICTIM,))
    return _weak(lie, lambda u: [Ask(lie.context, *(without if u > half else with_it))])


def both_shares(lie: Lie) -> Words | None:
    """Ask for both shares of the victim, in two requests."""
    if lie.target.is_reference:
        return _weak_both(lie)
    return recovered(lie, _masking_both(lie))


def split_view(lie: Lie) -> Words | None:
    """Tell each client another set of survivors, so that half give one share, half the other."""
    if lie.target.is_reference:
        return _weak_split(lie)
    return recovered(lie, _masking_split(lie))
