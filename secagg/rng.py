"""The one source of randomness.

Everything random in this project starts as bytes from a `RandomSource`. Machines receive
what they need as arguments, so a run is replayed by giving them a `SeededSource`, which is
for tests and published vectors only.
"""

import hashlib
import secrets
from typing import Protocol

SEED_BYTES = 32


class RandomSource(Protocol):
    """Where seeds come from."""

    def seed(self) -> bytes:
        """Fresh, uniform 32 bytes."""
        ...


class SystemSource:
    """The operating system's generator."""

    def seed(self) -> bytes:
        """32 bytes nobody else has."""
        return secrets.token_bytes(SEED_BYTES)


class SeededSource:
    """A reproducible source for tests and test vectors: SHA-256 of a seed and a counter.

    Never use it where the seed is not as secret as what it generates.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = hashlib.sha256(b"secagg/seeded-source" + seed).digest()
        self._drawn = 0

    def seed(self) -> bytes:
        """The next 32 bytes of this source."""
        self._drawn += 1
        return hashlib.sha256(self._seed + self._drawn.to_bytes(8, "big")).digest()
