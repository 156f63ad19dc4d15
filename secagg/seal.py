"""HPKE sealing (RFC 9180, base mode) with the suites `X25519` and `MLKEM768-X25519`.

Keys are derived from seeds, so that whoever recovers a seed recovers the key pair. HPKE's
public call has no associated data: everything that a ciphertext is bound to goes into
`info`. Base mode does not authenticate the sender.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import (
    Suite as Hpke,
)

from secagg.errors import DecodeError, LocalError, ParameterError

TAG_BYTES = 16
_X25519_BYTES = 32
_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SEED_BYTES = 64
_X25519_PRIME = 2**255 - 19
_LOW_ORDER = frozenset(  # the canonical points of order 1, 2, 4 and 8 (RFC 7748, section 6.1)
    (
        0,
        1,
        _X25519_PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that passed every check of its suite."""

    suite: "Suite"
    raw: bytes
    handle: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair of a suite; its repr shows the public half only."""

    public: PublicKey
    _private: Any = field(repr=False, compare=False)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The plaintext of `sealed`. Raises DecodeError, which never says why it failed."""
        try:
            return self.public.suite.hpke.decrypt(sealed, self._private, info=info)
        except (InvalidTag, ValueError):
            raise DecodeError("a sealed message does not open") from None


@dataclass(frozen=True, slots=True)
class Suite:
    """A named choice of KEM, with HKDF-SHA256 and AES-256-GCM."""

    name: str
    seed_bytes: int
    public_bytes: int
    encapsulated_bytes: int
    hpke: Hpke = field(repr=False, compare=False)
    _private: Callable[[bytes], Any] = field(repr=False, compare=False)
    _public: Callable[[bytes], Any] = field(repr=False, compare=False)

    def key_pair(self, seed: bytes) -> KeyPair:
        """The key pair that a uniform seed of `seed_bytes` bytes stands for. Or LocalError."""
        if len(seed) != self.seed_bytes:
            raise LocalError(f"{self.name} needs {self.seed_bytes} bytes of seed")
        raw, private = self._private(seed)
        return KeyPair(self.public_key(raw), private)

    def public_key(self, raw: bytes) -> PublicKey:
        """Check a received public key of `public_bytes` bytes; DecodeError refuses it."""
        if len(raw) != self.public_bytes:
            raise DecodeError(f"a {self.name} public key has {self.public_bytes} bytes")
        try:
            return PublicKey(self, raw, self._public(raw))
        except ValueError:
            raise DecodeError(f"not a {self.name} public key") from None

    def sealed_bytes(self, plaintext_bytes: int) -> int:
        """How long the sealing of a plaintext is."""
        return self.encapsulated_bytes + plaintext_bytes + TAG_BYTES


class Sealer(Protocol):
    """Seals a message. An argument of the machines, because HPKE cannot be seeded."""

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        """A ciphertext that only `to` opens, and only with the same `info`."""
        ...


class HpkeSealer:
    """The real one: a fresh ephemeral key from the operating system for every message."""

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        """RFC 9180 single-shot encryption. DecodeError: the key is of low order."""
        try:
            return to.suite.hpke.encrypt(plaintext, to.handle, info=info)
        except ValueError:
            raise DecodeError("a public key is of low order") from None


def _x25519_private(seed: bytes) -> tuple[bytes, X25519PrivateKey]:
    private = X25519PrivateKey.from_private_bytes(seed)
    return private.public_key().public_bytes_raw(), private


def _x25519_public(raw: bytes) -> X25519PublicKey:
    point = int.from_bytes(raw, "little")
    if point >= _X25519_PRIME or point in _LOW_ORDER:
        raise ValueError("not canonical, or of low order")  # two names for one key; no secret
    return X25519PublicKey.from_public_bytes(raw)


def _hybrid_private(seed: bytes) -> tuple[bytes, MLKEM768X25519PrivateKey]:
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED_BYTES])
    raw, x25519 = _x25519_private(seed[_MLKEM_SEED_BYTES:])
    public = mlkem.public_key().public_bytes_raw() + raw
    return public, MLKEM768X25519PrivateKey(mlkem, x25519)


def _hybrid_public(raw: bytes) -> MLKEM768X25519PublicKey:
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]),
        _x25519_public(raw[_MLKEM_PUBLIC_BYTES:]),
    )


X25519 = Suite(
    name="X25519",
    seed_bytes=_X25519_BYTES,
    public_bytes=_X25519_BYTES,
    encapsulated_bytes=_X25519_BYTES,
    hpke=Hpke(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    _private=_x25519_private,
    _public=_x25519_public,
)
MLKEM768_X25519 = Suite(
    name="MLKEM768-X25519",
    seed_bytes=_MLKEM_SEED_BYTES + _X25519_BYTES,
    public_bytes=_MLKEM_PUBLIC_BYTES + _X25519_BYTES,
    encapsulated_bytes=1088 + _X25519_BYTES,
    hpke=Hpke(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    _private=_hybrid_private,
    _public=_hybrid_public,
)
SUITES = {suite.name: suite for suite in (X25519, MLKEM768_X25519)}
DEFAULT_SUITE = MLKEM768_X25519.name


def suite(name: str) -> Suite:
    """The suite called `name`; ParameterError lists what exists."""
    if name not in SUITES:
        raise ParameterError(f"no suite {name!r}; choose one of {', '.join(SUITES)}")
    return SUITES[name]
