"""What the protocol tests share: variants, sessions, inputs, and sources that remember."""

import base64
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from hypothesis import settings

from protocols.base import Begin, Envelope, Machine, Parameters, Protocol, Session
from protocols.driver import Options
from protocols.journal import Party
from protocols.masking import MaskingParameters, sparse
from protocols.registry import PROTOCOLS, load
from secagg.identity import Member, Roster
from secagg.rng import RandomSource, SeededSource
from secagg.seal import PublicKey, Sealer, SystemSealer
from secagg.signing import ED25519, ML_DSA_65, Identity, PublicIdentity
from tests.protocols import recalling, trivial

MODULI = (1, 7, 16, 32, 33, 64)
APPLICATION = bytes(range(32))
ROSTER = b"r" * 32

Inputs = dict[int, np.ndarray]


@dataclass(frozen=True)
class Variant:
    """One protocol with one way to choose its parameters: what the battery runs on.

    schemes: of the members' identities, in turn, where the protocol checks signatures; helped:
    stages in which all helpers speak; error: how far a sum may be off, modulo 2^k.
    """

    name: str
    protocol: Protocol
    configure: Callable[[int, int, int], Parameters]
    clients: tuple[int, int] = (2, 6)
    schemes: tuple[str, ...] = ()
    helped: tuple[str, ...] = ()
    error: Callable[[Parameters], int] = lambda _parameters: 0

    def speakers(self, parameters: Parameters, stage: str, clients: Collection[int]) -> set[int]:
        """Who is heard in this stage if nothing goes wrong."""
        helpers = helpers_of(parameters) if stage in self.helped else ()
        return {*helpers, *(clients if stage in self.client_stages else ())}

    @property
    def stages(self) -> tuple[str, ...]:
        """Of the smallest session; they do not depend on its size."""
        return self.configure(self.clients[0], 1, 8).stages

    @property
    def client_stages(self) -> tuple[str, ...]:
        """Those in which clients send."""
        return self.configure(self.clients[0], 1, 8).client_stages

    def session(self, parameters: Parameters, number: int = 0) -> Session:
        """Session `number` of one roster, with its members where they sign."""
        members = roster_of(parameters.clients, self.schemes) if self.schemes else None
        return session_of(self.protocol, parameters, number, members)

    def options(self, parameters: Parameters) -> Options:
        """The driver's, with the members' identities."""
        return Options(signers=signers_of(parameters.clients, self.schemes))

    def client(
        self, session: Session, me: int, source: RandomSource, sealer: Sealer | None = None
    ) -> Machine:
        """Client `me`, with its identity, or that of client 1 if it is nobody."""
        signers = signers_of(session.parameters.clients, self.schemes)
        identity = {"signer": signers.get(me, signers[1])} if signers else {}
        return self.protocol.client(session, me, source, sealer or SystemSealer(), **identity)

    def __repr__(self) -> str:
        return self.name


def masking_with(**options: object) -> Callable[[int, int, int], Parameters]:
    """Complete-graph parameters with these options."""
    return lambda n, length, bits: load("masking").configure(n, length, bits, **options)


def tight(clients: int, length: int, bits: int) -> Parameters:
    """Four neighbours, of whom three must stay: clients are pruned, and abort, early."""
    chosen = MaskingParameters(
        clients=clients,
        floor=clients - 3,
        length=length,
        modulus_bits=bits,
        threshold=4,
        degree=4,
        suite="X25519",
        adversary="semi-honest",
        corrupt=0,
    )
    chosen.check()
    return chosen


def cautious(clients: int, length: int, bits: int) -> Parameters:
    """Active mode, and more clients in a sum than a secret needs shares."""
    options = {"adversary": "active", "suite": "X25519"}
    return load("masking").configure(clients, length, bits, floor=max(clients - 1, 2), **options)


def k_regular(suite: str) -> Callable[[int, int, int], Parameters]:
    """A sparse graph, on which two fifths of the clients may drop."""
    return lambda n, length, bits: sparse(n, length, bits, corrupt=0.0, dropout=0.4, suite=suite)


def helpers_of(parameters: Parameters) -> range:
    """The numbers of the helpers."""
    return range(parameters.clients + 1, parameters.clients + parameters.helpers + 1)


def with_key_holder(name: str, protocol: Protocol, error=lambda _p: 0, **options) -> Variant:
    """`ckks` or `bfv` with these options; small sessions, because key pairs are dear."""

    def configure(clients: int, length: int, bits: int) -> Parameters:
        grid = {"grid_bits": min(options.get("grid_bits", 0), max(bits - 1, 0))}
        chosen = {**options, **(grid if "grid_bits" in options else {})}
        return protocol.configure(clients, length, bits, **chosen)

    return Variant(
        name,
        protocol,
        configure,
        (2, 4),
        helped=("join", "open"),
        error=error,
    )


KEY_HOLDER = ("ckks", "bfv")
VARIANTS = (
    *(
        Variant(name, load(name), load(name).configure)
        for name in PROTOCOLS
        if name not in KEY_HOLDER
    ),
    with_key_holder("ckks", recalling.CKKS),
    with_key_holder("bfv", recalling.BFV),
    with_key_holder("ckks, in pieces", recalling.CKKS, suite="X25519", chunk=1),
    with_key_holder("bfv, X25519", recalling.BFV, suite="X25519"),
    with_key_holder("ckks, grid", recalling.CKKS, lambda p: p.error, suite="X25519", grid_bits=3),
    Variant("masking, X25519", load("masking"), masking_with(suite="X25519")),
    Variant("masking, t=2", load("masking"), masking_with(suite="X25519", threshold=2)),
    Variant("masking, in pieces", load("masking"), masking_with(suite="X25519", chunk=8)),
    Variant("masking, k-regular", load("masking"), k_regular("X25519"), (6, 10)),
    Variant("masking, k-regular hybrid", load("masking"), k_regular("MLKEM768-X25519"), (6, 8)),
    Variant("masking, k-regular tight", load("masking"), tight, (8, 11)),
    Variant(
        "masking, active",
        load("masking"),
        masking_with(suite="X25519", adversary="active"),
        schemes=(ED25519,),
    ),
    Variant("masking, active cautious", load("masking"), cautious, (4, 6), schemes=(ED25519,)),
    Variant(
        "masking, active hybrid",
        load("masking"),
        masking_with(suite="MLKEM768-X25519", adversary="active"),
        (2, 4),
        schemes=(ML_DSA_65, ED25519),
    ),
    Variant(
        "lattice, active",
        load("lattice"),
        partial(load("lattice").configure, suite="X25519", adversary="active"),
        schemes=(ED25519,),
    ),
    Variant("trivial", trivial.PROTOCOL, trivial.configure),
)


def examples(share: float) -> settings:
    """A share of the profile's number of examples, for tests whose examples are dear."""
    return settings(max_examples=max(1, round(settings.default.max_examples * share)))


def session_of(
    protocol: Protocol, parameters: Parameters, number: int = 0, members: Roster | None = None
) -> Session:
    """Session `number` of one roster."""
    digest = members.digest() if members else ROSTER
    return Session(protocol.name, parameters, number.to_bytes(32, "big"), digest, members)


@cache
def signers_of(clients: int, schemes: tuple[str, ...]) -> dict[int, "RecallingSigner"]:
    """The identities of clients 1..n, whose schemes alternate; none without schemes."""
    if not schemes:
        return {}
    return {u: signer_of(u, schemes[(u - 1) % len(schemes)]) for u in range(1, clients + 1)}


@cache
def signer_of(party: int, scheme: str) -> "RecallingSigner":
    """The identity of one party."""
    seed = hashlib.sha256(f"{scheme} {party}".encode()).digest()
    return RecallingSigner(Identity.from_seed(scheme, seed))


@cache
def roster_of(clients: int, schemes: tuple[str, ...]) -> Roster:
    """All of them as members."""
    signers = signers_of(clients, schemes)
    return Roster(Member(f"client {u}", signer.public) for u, signer in signers.items())


def begin(party: Party | Machine, application: bytes = APPLICATION) -> tuple[Envelope, ...]:
    """Say what is trained, if that is what comes next: what every driver does after each event."""
    machine = party.machine if isinstance(party, Party) else party
    return party.handle(Begin(application)) if Begin in machine.accepts else ()


def one_hot(party: int, length: int, bits: int) -> np.ndarray:
    """A power of two in the party's own coordinate: what is counted twice, or not, shows."""
    values = np.zeros(length, np.uint64)
    values[party - 1] = 1 << (5 * party % bits)
    return values


def random_values(party: int, length: int, bits: int) -> np.ndarray:
    """Uniform below 2^bits."""
    words = np.random.default_rng(party).integers(0, 2**64, length, np.uint64)
    return words >> np.uint64(64 - bits)


def top_values(_party: int, length: int, bits: int) -> np.ndarray:
    """The largest value everywhere."""
    return np.full(length, 2**bits - 1, np.uint64)


KINDS = (one_hot, random_values, top_values)


def exact_sum(inputs: Mapping[int, np.ndarray], of: Collection[int], bits: int) -> list[int]:
    """The sum over these clients modulo 2^bits, in Python's integers."""
    columns = zip(*(inputs[party].tolist() for party in of), strict=True)
    return [sum(column) % 2**bits for column in columns]


class RecordingSource(SeededSource):
    """Remembers what it gave out: all of it is secret, or treated so here."""

    def __init__(self, seed: bytes = b"test") -> None:
        super().__init__(seed)
        self.drawn: list[bytes] = []

    def seed(self) -> bytes:
        self.drawn.append(super().seed())
        return self.drawn[-1]


class RecallingSealer:
    """Seals for real, and gives the same answer to the same question: runs can be replayed."""

    def __init__(self) -> None:
        self._sealed: dict[tuple[bytes, bytes, bytes], bytes] = {}
        self._encapsulated: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
        self._real = SystemSealer()

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        question = (to.raw, plaintext, info)
        if question not in self._sealed:
            self._sealed[question] = self._real.seal(to, plaintext, info)
        return self._sealed[question]

    def encapsulate(self, to: PublicKey, info: bytes) -> tuple[bytes, bytes]:
        question = (to.raw, info)
        if question not in self._encapsulated:
            self._encapsulated[question] = self._real.encapsulate(to, info)
        return self._encapsulated[question]


class RecallingSigner:
    """Signs for real, and the same message once: ML-DSA draws coins of its own."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._signatures: dict[bytes, bytes] = {}

    @property
    def public(self) -> PublicIdentity:
        return self._identity.public

    def sign(self, message: bytes) -> bytes:
        if message not in self._signatures:
            self._signatures[message] = self._identity.sign(message)
        return self._signatures[message]


def forms(secret: bytes) -> tuple[str, ...]:
    """How a secret could look in a text."""
    return secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode()
