"""TenSEAL for tests: real keys, and always the same ones.

TenSEAL cannot be seeded; with these engines a run of `ckks` or `bfv` can be replayed.
"""

from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType

import numpy as np

from protocols import bfv, ckks
from protocols.base import Parameters, Protocol
from protocols.he import keys
from protocols.he.client import Client
from protocols.he.engine import Engine, Keys
from protocols.he.holder import KeyHolder
from protocols.he.server import Server
from secagg.prg import StreamKey
from secagg.rng import SystemSource


class RecallingEngine(Engine):
    """One key pair for one set of parameters."""

    def __init__(self, real: Engine) -> None:
        self.real = real
        self._keys: Keys | None = None

    def new_keys(self) -> Keys:
        self._keys = self._keys or self.real.new_keys()
        return self._keys

    def check_public(self, public: bytes) -> None:
        self.real.check_public(public)

    def encrypt(
        self, public: bytes, slots: np.ndarray, coins: StreamKey, first: int = 0
    ) -> tuple[bytes, ...]:
        return self.real.encrypt(public, slots, coins, first)

    def check(self, ciphertexts: Sequence[bytes], count: int) -> None:
        self.real.check(ciphertexts, count)

    def add(self, total: Sequence[bytes], other: Sequence[bytes]) -> tuple[bytes, ...]:
        return self.real.add(total, other)

    def decrypt(self, secret: bytes, ciphertexts: Sequence[bytes], clients: int) -> np.ndarray:
        return self.real.decrypt(secret, ciphertexts, clients)


def recalling(folder: ModuleType) -> Protocol:
    """The protocol of this folder, over engines that remember."""
    engine_of: Callable[[Parameters], Engine] = cache(
        lambda parameters: RecallingEngine(folder.engine_of(parameters))
    )
    real = folder.PROTOCOL
    return Protocol(
        real.name,
        real.parameters,
        real.configure,
        lambda s, me, source, sealer: Client(s, me, source, sealer, engine_of(s.parameters)),
        lambda s, source: Server(s, source, engine_of(s.parameters)),
        lambda s, me, _source, _sealer: KeyHolder(s, me, engine_of(s.parameters)),
    )


CKKS, BFV = recalling(ckks), recalling(bfv)


def coins() -> StreamKey:
    """Of one encryption, drawn for it."""
    return keys.coins(SystemSource().seed(), bytes(32))
