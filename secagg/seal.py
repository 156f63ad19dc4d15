"""Sealing with the suites `X25519` and `MLKEM768-X25519`.

To anybody whose public key is known: HPKE (RFC 9180, base mode), which has no associated data
in its public call, so everything that a ciphertext is bound to goes into `info`. Base mode does
not authenticate the sender.

Between two parties that both published a key (`seal_each`, `open_each`): the key agreement of
Bonawitz et al. 2017, one X25519 scalar multiplication an end for both directions, which only
the other end can have made. `MLKEM768-X25519` adds to each message a secret that ML-KEM-768
encapsulates for its recipient: a hybrid shared secret (NIST SP 800-56C revision 2, section 2), in
the order of TLS's X25519MLKEM768, so that reading takes breaking both. Forging takes X25519.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
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

from secagg import x25519
from secagg.errors import DecodeError, LocalError, ParameterError
from secagg.kdf import Table, derive_many, strings, table

TAG_BYTES = 16
_ONE_MESSAGE = bytes(12)
"""The nonce of a key that seals one message."""
_X25519_BYTES = 32
_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SEED_BYTES = 64
_MLKEM_CIPHERTEXT_BYTES = 1088
_MLKEM_SECRET_BYTES = 32
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
    """A public key that passed every check of its suite, or that is a key pair's own."""

    suite: "Suite"
    raw: bytes
    handle: Any = field(repr=False, compare=False)
    point: X25519PublicKey = field(repr=False, compare=False)
    kem: MLKEM768PublicKey | None = field(repr=False, compare=False)

    def encapsulate(self) -> tuple[bytes, bytes]:
        """A fresh secret, and the ML-KEM-768 ciphertext from which only its key pair gets it (FIPS
        203, section 7.2): 32 and 1088 bytes, both empty where the suite has no KEM.
        """
        return self.kem.encapsulate() if self.kem else (b"", b"")

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """RFC 9180 single-shot encryption. DecodeError: the key is of low order."""
        try:
            return self.suite.hpke.encrypt(plaintext, self.handle, info=info)
        except ValueError:
            raise _low_order() from None


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair of a suite; its repr shows the public half only."""

    public: PublicKey
    _private: Any = field(repr=False, compare=False)
    _scalar: X25519PrivateKey = field(repr=False, compare=False)
    _kem: MLKEM768PrivateKey | None = field(repr=False, compare=False)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The plaintext of `sealed`. Raises DecodeError, which never says why it failed."""
        try:
            return self.public.suite.hpke.decrypt(sealed, self._private, info=info)
        except (InvalidTag, ValueError):
            raise does_not_open() from None

    def agree(self, other: PublicKey) -> bytes:
        """The 32-byte secret that both ends compute from the X25519 halves of their keys (RFC
        7748, section 6.1). DecodeError: the other key is of low order.
        """
        try:
            return self._scalar.exchange(other.point)
        except ValueError:
            raise _low_order() from None

    def agree_each(self, others: Sequence[PublicKey]) -> list[bytes]:
        """`agree` with each of these, together where that is faster."""
        points = [other.raw[-_X25519_BYTES:] for other in others]
        together = x25519.agreed(self._scalar.private_bytes_raw(), points)
        if together is None:
            return [self.agree(other) for other in others]
        if not all(together):
            raise _low_order()
        return together

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The secret of `PublicKey.encapsulate`; of other 1088 bytes, a secret that nobody else has
        (FIPS 203, section 7.3). Empty where the suite has no KEM.
        """
        return self._kem.decapsulate(ciphertext) if self._kem else b""


@dataclass(frozen=True, slots=True)
class Suite:
    """A named choice of KEM, with HKDF-SHA256 and AES-256-GCM.

    encapsulated_bytes: what HPKE puts before a ciphertext; ciphertext_bytes: what ML-KEM puts
    before a message between two published keys, with a secret of secret_bytes.
    """

    name: str
    seed_bytes: int
    public_bytes: int
    encapsulated_bytes: int
    ciphertext_bytes: int
    secret_bytes: int
    hpke: Hpke = field(repr=False, compare=False)
    _pair: Callable[["Suite", bytes], KeyPair] = field(repr=False, compare=False)
    _public: Callable[["Suite", bytes], PublicKey] = field(repr=False, compare=False)

    def key_pair(self, seed: bytes) -> KeyPair:
        """The key pair that a uniform seed of `seed_bytes` bytes stands for. Or LocalError."""
        if len(seed) != self.seed_bytes:
            raise LocalError(f"{self.name} needs {self.seed_bytes} bytes of seed")
        return self._pair(self, seed)

    def agreement_pair(self, seed: bytes) -> KeyPair:
        """The X25519 half of `key_pair(seed)`: it agrees as the whole does. Or LocalError."""
        return X25519.key_pair(seed[-_X25519_BYTES:])

    def public_key(self, raw: bytes) -> PublicKey:
        """Check a received public key of `public_bytes` bytes; DecodeError refuses it."""
        if len(raw) != self.public_bytes:
            raise DecodeError(f"a {self.name} public key has {self.public_bytes} bytes")
        try:
            return self._public(self, raw)
        except ValueError:
            raise DecodeError(f"not a {self.name} public key") from None

    def sealed_bytes(self, plaintext_bytes: int) -> int:
        """How long HPKE's sealing of a plaintext is."""
        return self.encapsulated_bytes + plaintext_bytes + TAG_BYTES

    def sealed_between_bytes(self, plaintext_bytes: int) -> int:
        """How long the sealing of a plaintext between two published keys is."""
        return self.ciphertext_bytes + plaintext_bytes + TAG_BYTES


class Sealer(Protocol):
    """What needs coins. An argument of the machines, because the library's cannot be seeded.

    Each call has its `info`, by which one that repeats a session knows what was asked.
    """

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        """A ciphertext that only `to` opens, and only with the same `info`."""
        ...

    def encapsulate(self, to: PublicKey, info: bytes) -> tuple[bytes, bytes]:
        """As `PublicKey.encapsulate`, for the message of this `info`."""
        ...


class SystemSealer:
    """The real one: fresh coins from the operating system for every message."""

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        """By HPKE. DecodeError: the key is of low order."""
        return to.seal(plaintext, info)

    def encapsulate(self, to: PublicKey, info: bytes) -> tuple[bytes, bytes]:
        """By ML-KEM-768."""
        return to.encapsulate()


def seal_each(
    to: Sequence[PublicKey],
    agreed: Sequence[bytes],
    plaintexts: Sequence[bytes],
    infos: Table,
    sealer: Sealer,
) -> list[bytes]:
    """Seal a message for each of these ends, of one suite and at least one.

    agreed: what `KeyPair.agree` gave, 32 bytes each; infos: (n, size), which serve one message
    each between two ends, and say its direction: without a KEM they alone make keys differ. Raises
    LocalError for secrets and ciphertexts that do not have their suite's lengths.
    """
    shared = [sealer.encapsulate(key, info) for key, info in zip(to, strings(infos), strict=True)]
    secrets, ciphertexts = zip(*shared, strict=True)
    keys = _keys_of(to[0].suite, secrets, agreed, infos, ciphertexts)
    return [
        ciphertext + AESGCM(key).encrypt(_ONE_MESSAGE, plaintext, None)
        for key, ciphertext, plaintext in zip(keys, ciphertexts, plaintexts, strict=True)
    ]


def open_each(
    own: KeyPair, agreed: Sequence[bytes], sealed: Sequence[bytes], infos: Table
) -> list[bytes | None]:
    """What each of these ends sealed for `own` (see `seal_each`), None for what does not open."""
    cut = own.public.suite.ciphertext_bytes
    ciphertexts = [each[:cut].ljust(cut, b"\0") for each in sealed]
    secrets = [own.decapsulate(ciphertext) for ciphertext in ciphertexts]
    keys = _keys_of(own.public.suite, secrets, agreed, infos, ciphertexts)
    return [_opened(key, each[cut:]) for key, each in zip(keys, sealed, strict=True)]


def seal_between(
    agreed: bytes, to: PublicKey, plaintext: bytes, info: bytes, sealer: Sealer
) -> bytes:
    """`seal_each` for one message."""
    return seal_each([to], [agreed], [plaintext], table([info], len(info)), sealer)[0]


def open_between(agreed: bytes, own: KeyPair, sealed: bytes, info: bytes) -> bytes:
    """`open_each` for one message. Raises DecodeError, which never says why it failed."""
    (plaintext,) = open_each(own, [agreed], [sealed], table([info], len(info)))
    if plaintext is None:
        raise does_not_open()
    return plaintext


def does_not_open() -> DecodeError:
    """The error for every sealed message that does not open, whatever is wrong with it."""
    return DecodeError("a sealed message does not open")


def _low_order() -> DecodeError:
    return DecodeError("a public key is of low order")


def _keys_of(
    of: Suite,
    secrets: Sequence[bytes],
    agreed: Sequence[bytes],
    infos: Table,
    ciphertexts: Sequence[bytes],
) -> list[bytes]:
    """An AEAD key for each message: from both secrets, bound to the info and the ciphertext."""
    halves = table(secrets, of.secret_bytes), table(agreed, _X25519_BYTES)
    bound = table(ciphertexts, of.ciphertext_bytes)
    return strings(derive_many(np.concatenate(halves, axis=1), "between", infos, bound))


def _opened(key: bytes, ciphertext: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(_ONE_MESSAGE, ciphertext, None)
    except InvalidTag:
        return None


def _x25519_pair(suite: Suite, seed: bytes) -> KeyPair:
    scalar = X25519PrivateKey.from_private_bytes(seed)
    point = scalar.public_key()
    public = PublicKey(suite, point.public_bytes_raw(), point, point, None)
    return KeyPair(public, scalar, scalar, None)


def _x25519_public(suite: Suite, raw: bytes) -> PublicKey:
    point = _point(raw)
    return PublicKey(suite, raw, point, point, None)


def _point(raw: bytes) -> X25519PublicKey:
    number = int.from_bytes(raw, "little")
    if number >= _X25519_PRIME or number in _LOW_ORDER:
        raise ValueError("not canonical, or of low order")  # two names for one key; no secret
    return X25519PublicKey.from_public_bytes(raw)


def _hybrid_pair(suite: Suite, seed: bytes) -> KeyPair:
    kem = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED_BYTES])
    scalar = X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED_BYTES:])
    halves = kem.public_key(), scalar.public_key()
    public = _hybrid(suite, b"".join(half.public_bytes_raw() for half in halves), *halves)
    return KeyPair(public, MLKEM768X25519PrivateKey(kem, scalar), scalar, kem)


def _hybrid_public(suite: Suite, raw: bytes) -> PublicKey:
    kem = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES])
    return _hybrid(suite, raw, kem, _point(raw[_MLKEM_PUBLIC_BYTES:]))


def _hybrid(suite: Suite, raw: bytes, kem: MLKEM768PublicKey, point: X25519PublicKey) -> PublicKey:
    return PublicKey(suite, raw, MLKEM768X25519PublicKey(kem, point), point, kem)


X25519 = Suite(
    name="X25519",
    seed_bytes=_X25519_BYTES,
    public_bytes=_X25519_BYTES,
    encapsulated_bytes=_X25519_BYTES,
    ciphertext_bytes=0,
    secret_bytes=0,
    hpke=Hpke(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    _pair=_x25519_pair,
    _public=_x25519_public,
)
MLKEM768_X25519 = Suite(
    name="MLKEM768-X25519",
    seed_bytes=_MLKEM_SEED_BYTES + _X25519_BYTES,
    public_bytes=_MLKEM_PUBLIC_BYTES + _X25519_BYTES,
    encapsulated_bytes=_MLKEM_CIPHERTEXT_BYTES + _X25519_BYTES,
    ciphertext_bytes=_MLKEM_CIPHERTEXT_BYTES,
    secret_bytes=_MLKEM_SECRET_BYTES,
    hpke=Hpke(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    _pair=_hybrid_pair,
    _public=_hybrid_public,
)
SUITES = {suite.name: suite for suite in (X25519, MLKEM768_X25519)}
DEFAULT_SUITE = MLKEM768_X25519.name


def suite(name: str) -> Suite:
    """The suite called `name`; ParameterError lists what exists."""
    if name not in SUITES:
        raise ParameterError(f"no suite {name!r}; choose one of {', '.join(SUITES)}")
    return SUITES[name]
