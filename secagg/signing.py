"""Long-lived signing keys: who a party is, beyond one session.

Two signature schemes, both from `cryptography`: Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204,
pure, empty context, hedged: two signatures of one message differ). What is signed should be
a label of `secagg.kdf`, so that a signature made for one purpose never serves another.

An Ed25519 key must be the canonical encoding of a point of large order. Under a point of
order 1, 2, 4 or 8 one signature holds for many messages, and OpenSSL verifies it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from secagg import ed25519
from secagg.errors import DecodeError, LocalError, ParameterError
from secagg.kdf import derive, digest
from secagg.rng import SEED_BYTES, RandomSource


@dataclass(frozen=True, slots=True)
class Scheme:
    """A signature scheme: its name, the bytes of a public key and of a signature."""

    name: str
    public_bytes: int
    signature_bytes: int
    _private_kind: type = field(repr=False)
    _private: Callable[[bytes], Any] = field(repr=False)
    _public: Callable[[bytes], Any] = field(repr=False)


def scheme(name: str) -> Scheme:
    """The scheme called `name`; ParameterError lists what exists."""
    if name not in SCHEMES:
        raise ParameterError(f"no signature scheme {name!r}; choose {' or '.join(SCHEMES)}")
    return SCHEMES[name]


@dataclass(frozen=True)
class PublicIdentity:
    """A public key: the scheme's name and the raw key (32 or 1952 bytes).

    Raises ParameterError for a scheme that does not exist, DecodeError for bytes that are no
    key of it.
    """

    scheme: str
    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        kind = scheme(self.scheme)
        if type(self.raw) is not bytes or len(self.raw) != kind.public_bytes:
            raise DecodeError(f"an {self.scheme} public key has {kind.public_bytes} bytes")
        _ = self._handle

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.scheme, self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise DecodeError unless `signature` is one of `message` under this key."""
        if len(signature) != self.signature_bytes:
            raise DecodeError(_UNVERIFIED)
        try:
            self._handle.verify(signature, message)
        except InvalidSignature:
            raise DecodeError(_UNVERIFIED) from None

    @property
    def signature_bytes(self) -> int:
        """How long a signature is: 64 or 3309."""
        return scheme(self.scheme).signature_bytes

    @property
    def fingerprint(self) -> str:
        """What people compare: a digest of scheme and key, 64 hexadecimal digits in eights."""
        text = digest("identity", self.scheme, self.raw).hex()
        return " ".join(text[i : i + 8] for i in range(0, len(text), 8))

    @cached_property
    def _handle(self) -> Any:
        try:
            return scheme(self.scheme)._public(self.raw)
        except ValueError:
            raise DecodeError(f"not an {self.scheme} public key") from None


class Claim(NamedTuple):
    """That `signature` is one of `message` under the key `public`; `what` names it to people."""

    what: str
    public: PublicIdentity
    signature: bytes
    message: bytes


def verify_all(claims: Sequence[Claim]) -> None:
    """Raise DecodeError, which begins with `what`, for the first claim that does not hold.

    As one `PublicIdentity.verify` after the other, and faster for many Ed25519 keys.
    """
    verified = _verified_together(claims)
    for place, claim in enumerate(claims):
        if place not in verified:
            try:
                claim.public.verify(claim.signature, claim.message)
            except DecodeError as error:
                raise DecodeError(f"{claim.what}: {error}") from None


def prepare(publics: Iterable[PublicIdentity]) -> None:
    """Make once what signatures under any of these keys are verified with, one by one as well."""
    ed25519.prepare([public._handle for public in publics if public.scheme == ED25519])


class Signer(Protocol):
    """Signs for one identity: an `Identity`, or whatever keeps the key elsewhere."""

    @property
    def public(self) -> PublicIdentity:
        """The public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A signature of `message`, which is a label of `secagg.kdf`."""
        ...


@dataclass(frozen=True)
class Identity:
    """A private key; its repr shows the public half only."""

    public: PublicIdentity
    _handle: Any = field(repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        raise LocalError("a private identity does not travel between processes: load its file")

    @classmethod
    def from_seed(cls, scheme_name: str, seed: bytes) -> "Identity":
        """The key that a uniform 32-byte seed stands for. Or ParameterError, LocalError."""
        kind = scheme(scheme_name)
        if len(seed) != SEED_BYTES:
            raise LocalError(f"an identity needs {SEED_BYTES} bytes of seed")
        return cls._of(kind, kind._private(seed))

    @classmethod
    def draw(cls, scheme_name: str, source: RandomSource) -> "Identity":
        """A new key."""
        return cls.from_seed(scheme_name, source.seed())

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> "Identity":
        """The key of a PKCS#8 file. Raises DecodeError: what is wrong, and never the content."""
        try:
            handle = load_pem_private_key(pem, password)
        except TypeError:
            is_not = "is protected and needs a" if password is None else "is not protected by a"
            raise DecodeError(f"the private key {is_not} passphrase") from None
        except (ValueError, UnsupportedAlgorithm, InternalError):
            reason = "not a PKCS#8 private key" if password is None else _WRONG_PASSPHRASE
            raise DecodeError(reason) from None
        for kind in SCHEMES.values():
            if isinstance(handle, kind._private_kind):
                return cls._of(kind, handle)
        raise DecodeError(f"a private key that is not one of {' or '.join(SCHEMES)}")

    def to_pem(self, password: bytes | None = None) -> bytes:
        """The key as a PKCS#8 file, encrypted (AES-256-CBC, PBKDF2) where there is a password.

        The library's PBKDF2 has 2048 iterations: make the password hard to guess before.
        """
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        pem: bytes = self._handle.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        return pem

    def sign(self, message: bytes) -> bytes:
        """See `Signer`."""
        signature: bytes = self._handle.sign(message)
        return signature

    def derived(self, kind: str) -> bytes:
        """32 bytes that only who has the private key can derive: to seal its own store with."""
        return derive(self._handle.private_bytes_raw(), kind)

    @classmethod
    def _of(cls, kind: Scheme, handle: Any) -> "Identity":
        return cls(PublicIdentity(kind.name, handle.public_key().public_bytes_raw()), handle)


def _verified_together(claims: Sequence[Claim]) -> set[int]:
    """Places of claims that hold; what is not among them is still to be verified."""
    places = [
        place
        for place, claim in enumerate(claims)
        if claim.public.scheme == ED25519 and len(claim.signature) == ed25519.SIGNATURE_BYTES
    ]
    chosen = [claims[place] for place in places]
    verified = ed25519.verified([(c.public._handle, c.signature, c.message) for c in chosen])
    return {place for place, holds in zip(places, verified, strict=True) if holds}


ED25519 = "Ed25519"
ML_DSA_65 = "ML-DSA-65"
SCHEMES = {
    each.name: each
    for each in (
        Scheme(
            ED25519,
            ed25519.KEY_BYTES,
            ed25519.SIGNATURE_BYTES,
            Ed25519PrivateKey,
            Ed25519PrivateKey.from_private_bytes,
            ed25519.Key,
        ),
        Scheme(
            ML_DSA_65,
            1952,
            3309,
            MLDSA65PrivateKey,
            MLDSA65PrivateKey.from_seed_bytes,
            MLDSA65PublicKey.from_public_bytes,
        ),
    )
}
_UNVERIFIED = "a signature does not verify"
_WRONG_PASSPHRASE = "the passphrase is wrong, or the private key is damaged"  # noqa: S105
