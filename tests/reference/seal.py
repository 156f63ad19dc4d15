"""Key pairs and sealing between two published keys: spec section 4."""

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.reference.curve import is_key
from tests.reference.errors import Decode
from tests.reference.labels import derive
from tests.reference.mlkem import mlkem_encapsulate

SEED = {"X25519": 32, "MLKEM768-X25519": 96}
PUBLIC = {"X25519": 32, "MLKEM768-X25519": 1216}
CIPHERTEXT = {"X25519": 0, "MLKEM768-X25519": 1088}

Encapsulate = Callable[[bytes, bytes], tuple[bytes, bytes]]
"""ML-KEM-768 for a public key, for the message of an info: secret and ciphertext."""


def sealed_bytes(suite: str, plaintext: int) -> int:
    return CIPHERTEXT[suite] + plaintext + 16


def encapsulate_by_the_library(public: bytes, _info: bytes) -> tuple[bytes, bytes]:
    return MLKEM768PublicKey.from_public_bytes(public[:-32]).encapsulate()


def encapsulate_with(coins: bytes) -> Encapsulate:
    return lambda public, _info: mlkem_encapsulate(public[:-32], coins)


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

    def seal(self, to: bytes, plaintext: bytes, info: bytes, encapsulate: Encapsulate) -> bytes:
        secret, ciphertext = (b"", b"") if self.suite == "X25519" else encapsulate(to, info)
        key = derive(secret + self.agree(to), "between", info, ciphertext)
        return ciphertext + AESGCM(key).encrypt(bytes(12), plaintext, None)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        return b"" if self.suite == "X25519" else self.mlkem.decapsulate(ciphertext)

    def open(self, sender: bytes, sealed: bytes, info: bytes) -> bytes:
        cut = CIPHERTEXT[self.suite]
        ciphertext, body = sealed[:cut], sealed[cut:]
        try:
            secret = self.decapsulate(ciphertext)
            key = derive(secret + self.agree(sender), "between", info, ciphertext)
            return AESGCM(key).decrypt(bytes(12), body, None)
        except (InvalidTag, ValueError):
            raise Decode("a sealed message does not open") from None
