"""Sealing with the suites `X25519` and `MLKEM768-X25519`.

To anybody whose public key is known: HPKE (RFC 9180, base mode), which has no associated data
in its public call, so everything that a ciphertext is bound to goes into `info`. Base mode does
not authenticate the sender.

Between two parties that both published a key (`seal_under`, `open_under`): with `X25519`
the key agreement of Bonawitz et al. 2017, one scalar multiplication an end for both directions,
which only the other end can have made. A KEM has no such thing: `MLKEM768-X25519` seals with
HPKE there too, and where the sender has to be known, under a secret that the X25519 halves of
both keys agree on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
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
from secagg.kdf import DIGEST_BYTES, Table, derive_many, strings, table

TAG_BYTES = 16
_NONCE_BYTES = 12
_AEAD_KEY_BYTES = 32
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
    point: X25519PublicKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair of a suite; its repr shows the public half only."""

    public: PublicKey
    _private: Any = field(repr=False, compare=False)
    _scalar: X25519PrivateKey = field(repr=False, compare=False)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The plaintext of `sealed`. Raises DecodeError, which never says why it failed."""
        try:
            return self.public.suite.hpke.decrypt(sealed, self._private, info=info)
        except (InvalidTag, ValueError):
            raise _does_not_open() from None

    def agree(self, other: PublicKey) -> bytes:
        """The 32-byte secret that both ends compute from the X25519 halves of their keys (RFC
        7748, section 6.1). DecodeError: the other key is of low order.
        """
        try:
            return self._scalar.exchange(other.point)
        except ValueError:
            raise DecodeError("a public key is of low order") from None


@dataclass(frozen=True, slots=True)
class Suite:
    """A named choice of KEM, with HKDF-SHA256 and AES-256-GCM."""

    name: str
    seed_bytes: int
    public_bytes: int
    encapsulated_bytes: int
    agrees: bool
    hpke: Hpke = field(repr=False, compare=False)
    _private: Callable[[bytes], tuple[bytes, Any, X25519PrivateKey]] = field(
        repr=False, compare=False
    )
    _public: Callable[[bytes], tuple[Any, X25519PublicKey]] = field(repr=False, compare=False)

    def key_pair(self, seed: bytes) -> KeyPair:
        """The key pair that a uniform seed of `seed_bytes` bytes stands for. Or LocalError."""
        if len(seed) != self.seed_bytes:
            raise LocalError(f"{self.name} needs {self.seed_bytes} bytes of seed")
        raw, private, scalar = self._private(seed)
        return KeyPair(self.public_key(raw), private, scalar)

    def agreement_pair(self, seed: bytes) -> KeyPair:
        """The X25519 half of `key_pair(seed)`: it agrees as the whole does. Or LocalError."""
        return X25519.key_pair(seed[-_X25519_BYTES:])

    def public_key(self, raw: bytes) -> PublicKey:
        """Check a received public key of `public_bytes` bytes; DecodeError refuses it."""
        if len(raw) != self.public_bytes:
            raise DecodeError(f"a {self.name} public key has {self.public_bytes} bytes")
        try:
            return PublicKey(self, raw, *self._public(raw))
        except ValueError:
            raise DecodeError(f"not a {self.name} public key") from None

    def sealed_bytes(self, plaintext_bytes: int) -> int:
        """How long the sealing of a plaintext is."""
        return self.encapsulated_bytes + plaintext_bytes + TAG_BYTES

    def sealed_between_bytes(self, plaintext_bytes: int) -> int:
        """How long the sealing of a plaintext between two published keys is."""
        encapsulated = 0 if self.agrees else self.encapsulated_bytes
        return encapsulated + plaintext_bytes + TAG_BYTES


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


def secrets_between(of: Suite, agreed: Sequence[bytes], infos: Table) -> list[bytes]:
    """For each info, what one message between two ends that `agreed` (`KeyPair.agree`) is sealed
    under: a key and a nonce, or HPKE's info, which only they know.

    agreed: 32 bytes each, or none each where the suite seals without and the sender need not
    be known.
    """
    if not (of.agrees or any(agreed)):
        return strings(infos)
    length = _AEAD_KEY_BYTES + _NONCE_BYTES if of.agrees else DIGEST_BYTES
    return strings(derive_many(table(agreed, _X25519_BYTES), "between", infos, length=length))


def seal_under(secret: bytes, to: PublicKey, plaintext: bytes, sealer: Sealer) -> bytes:
    """Seal for the other end under one of `secrets_between`, which serves once. Or DecodeError."""
    if not to.suite.agrees:
        return sealer.seal(to, plaintext, secret)
    aead, nonce = _aead(secret)
    return aead.encrypt(nonce, plaintext, None)


def open_under(secret: bytes, own: KeyPair, sealed: bytes) -> bytes:
    """The plaintext that the other end sealed. Raises DecodeError, which never says why."""
    if not own.public.suite.agrees:
        return own.open(sealed, secret)
    aead, nonce = _aead(secret)
    try:
        return aead.decrypt(nonce, sealed, None)
    except InvalidTag:
        raise _does_not_open() from None


def seal_between(
    agreed: bytes, to: PublicKey, plaintext: bytes, info: bytes, sealer: Sealer
) -> bytes:
    """`seal_under` for a single message. One message for each `info`."""
    return seal_under(_secret(to.suite, agreed, info), to, plaintext, sealer)


def open_between(agreed: bytes, own: KeyPair, sealed: bytes, info: bytes) -> bytes:
    """`open_under` for a single message."""
    return open_under(_secret(own.public.suite, agreed, info), own, sealed)


def _secret(of: Suite, agreed: bytes, info: bytes) -> bytes:
    return secrets_between(of, [agreed], table([info], len(info)))[0]


def _aead(secret: bytes) -> tuple[AESGCM, bytes]:
    return AESGCM(secret[:_AEAD_KEY_BYTES]), secret[_AEAD_KEY_BYTES:]


def _does_not_open() -> DecodeError:
    return DecodeError("a sealed message does not open")


def _x25519_private(seed: bytes) -> tuple[bytes, X25519PrivateKey, X25519PrivateKey]:
    private = X25519PrivateKey.from_private_bytes(seed)
    return private.public_key().public_bytes_raw(), private, private


def _x25519_public(raw: bytes) -> tuple[X25519PublicKey, X25519PublicKey]:
    number = int.from_bytes(raw, "little")
    if number >= _X25519_PRIME or number in _LOW_ORDER:
        raise ValueError("not canonical, or of low order")  # two names for one key; no secret
    point = X25519PublicKey.from_public_bytes(raw)
    return point, point


def _hybrid_private(seed: bytes) -> tuple[bytes, MLKEM768X25519PrivateKey, X25519PrivateKey]:
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED_BYTES])
    raw, scalar, _ = _x25519_private(seed[_MLKEM_SEED_BYTES:])
    public = mlkem.public_key().public_bytes_raw() + raw
    return public, MLKEM768X25519PrivateKey(mlkem, scalar), scalar


def _hybrid_public(raw: bytes) -> tuple[MLKEM768X25519PublicKey, X25519PublicKey]:
    mlkem = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES])
    point, _ = _x25519_public(raw[_MLKEM_PUBLIC_BYTES:])
    return MLKEM768X25519PublicKey(mlkem, point), point


X25519 = Suite(
    name="X25519",
    seed_bytes=_X25519_BYTES,
    public_bytes=_X25519_BYTES,
    encapsulated_bytes=_X25519_BYTES,
    agrees=True,
    hpke=Hpke(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    _private=_x25519_private,
    _public=_x25519_public,
)
MLKEM768_X25519 = Suite(
    name="MLKEM768-X25519",
    seed_bytes=_MLKEM_SEED_BYTES + _X25519_BYTES,
    public_bytes=_MLKEM_PUBLIC_BYTES + _X25519_BYTES,
    encapsulated_bytes=1088 + _X25519_BYTES,
    agrees=False,
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
