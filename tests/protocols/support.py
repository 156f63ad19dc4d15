"""What the protocol tests share: variants, sessions, inputs, and sources that remember."""

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from hypothesis import settings

from protocols.base import Parameters, Protocol, Session
from protocols.masking import MaskingParameters, sparse
from protocols.registry import PROTOCOLS, load
from secagg.rng import SeededSource
from secagg.seal import HpkeSealer, PublicKey
from tests.protocols import trivial

MODULI = (1, 7, 16, 32, 33, 64)
APPLICATION = bytes(range(32))
ROSTER = b"r" * 32

Inputs = dict[int, np.ndarray]


@dataclass(frozen=True)
class Variant:
    """One protocol with one way to choose its parameters: what the battery runs on."""

    name: str
    protocol: Protocol
    configure: Callable[[int, int, int], Parameters]
    clients: tuple[int, int] = (2, 6)

    @property
    def stages(self) -> tuple[str, ...]:
        """Of the smallest session; they do not depend on its size."""
        return self.configure(self.clients[0], 1, 8).stages

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


def k_regular(suite: str) -> Callable[[int, int, int], Parameters]:
    """A sparse graph, on which two fifths of the clients may drop."""
    return lambda n, length, bits: sparse(n, length, bits, corrupt=0.0, dropout=0.4, suite=suite)


VARIANTS = (
    *(Variant(name, load(name), load(name).configure) for name in PROTOCOLS),
    Variant("masking, X25519", load("masking"), masking_with(suite="X25519")),
    Variant("masking, t=2", load("masking"), masking_with(suite="X25519", threshold=2)),
    Variant("masking, in pieces", load("masking"), masking_with(suite="X25519", chunk=8)),
    Variant("masking, k-regular", load("masking"), k_regular("X25519"), (6, 10)),
    Variant("masking, k-regular hybrid", load("masking"), k_regular("MLKEM768-X25519"), (6, 8)),
    Variant("masking, k-regular tight", load("masking"), tight, (8, 11)),
    Variant("trivial", trivial.PROTOCOL, trivial.configure),
)


def examples(share: float) -> settings:
    """A share of the profile's number of examples, for tests whose examples are dear."""
    return settings(max_examples=max(1, round(settings.default.max_examples * share)))


def session_of(protocol: Protocol, parameters: Parameters, number: int = 0) -> Session:
    """Session `number` of one roster."""
    return Session(protocol.name, parameters, number.to_bytes(32, "big"), ROSTER)


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
    """Seals for real, and gives the same ciphertext for the same question: runs can be replayed."""

    def __init__(self) -> None:
        self._sealed: dict[tuple[bytes, bytes, bytes], bytes] = {}
        self._real = HpkeSealer()

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        question = (to.raw, plaintext, info)
        if question not in self._sealed:
            self._sealed[question] = self._real.seal(to, plaintext, info)
        return self._sealed[question]


def forms(secret: bytes) -> tuple[str, ...]:
    """How a secret could look in a text."""
    return secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode()
