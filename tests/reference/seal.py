"""Key pairs and sealing between two published keys: spec section 4."""

from collections.abc import Callable

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
    Suite,
)

from tests.reference.curve import is_key
from tests.reference.errors import Decode
from tests.reference.labels import derive

SEED = {"X25519": 32, "MLKEM768-X25519": 96}
PUBLIC = {"X25519": 32, "MLKEM768-X25519": 1216}
_ENC = {"X25519": 0, "MLKEM768-X25519": 1120}
_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

Hpke = Callable[[bytes, bytes, bytes], bytes]
"""HPKE with X-Wing: (public key, info, plaintext) to enc and ciphertext."""


def sealed_bytes(suite: str, plaintext: int) -> int:
    return _ENC[suite] + plaintext + 16


def hpke_of_the_library(public: bytes, info: bytes, plaintext: bytes) -> bytes:
    mlkem = MLKEM768PublicKey.from_public_bytes(public[:1184])
    point = X25519PublicKey.from_public_bytes(public[1184:])
    return _HPKE.encrypt(plaintext, MLKEM768X25519PublicKey(mlkem, point), info=info)


def check_key(suite: str, raw: bytes) -> None:
    """Or Decode."""
    if len(raw) != PUBLIC[suite]:
        raise Decode(f"a {suite} public key has {PUBLIC[suite]} bytes")
    values = raw[:-32]
    pairs = [int.from_bytes(values[i : i + 3], "little") for i in range(0, len(values) - 32, 3)]
    if not is_key(raw[-32:]) or any(max(v % 4096, v >> 12) >= 3329 for v in pairs):
        raise Decode(f"not a {suite} public key")


class KeyPair:
    """What a KEM seed stands for."""

    def __init__(self, suite: str, seed: bytes) -> None:
        self.suite = suite
        self.scalar = X25519PrivateKey.from_private_bytes(seed[-32:])
        self.public = self.scalar.public_key().public_bytes_raw()
        if suite != "X25519":
            self.mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:64])
            self.public = self.mlkem.public_key().public_bytes_raw() + self.public

    def agree(self, other: bytes) -> bytes:
        return self.scalar.exchange(X25519PublicKey.from_public_bytes(other[-32:]))

    def seal(self, to: bytes, plaintext: bytes, info: bytes, active: bool, hpke: Hpke) -> bytes:
        dh = self.agree(to)
        if self.suite == "X25519":
            raw = derive(dh, "between", info, length=44)
            return AESGCM(raw[:32]).encrypt(raw[32:], plaintext, None)
        return hpke(to, derive(dh, "between", info) if active else info, plaintext)

    def open(self, sender: bytes, sealed: bytes, info: bytes, active: bool) -> bytes:
        dh = self.agree(sender)
        try:
            if self.suite == "X25519":
                raw = derive(dh, "between", info, length=44)
                return AESGCM(raw[:32]).decrypt(raw[32:], sealed, None)
            info = derive(dh, "between", info) if active else info
            private = MLKEM768X25519PrivateKey(self.mlkem, self.scalar)
            return _HPKE.decrypt(sealed, private, info=info)
        except (InvalidTag, ValueError):
            raise Decode("a sealed message does not open") from None
