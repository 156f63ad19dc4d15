"""HPKE, base mode (RFC 9180), with DHKEM(X25519) and X-Wing, coins as an argument."""

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.reference.curve import x25519, x25519_public
from tests.reference.labels import hkdf_expand, hkdf_extract
from tests.reference.mlkem import mlkem_encapsulate, mlkem_public


def labeled_extract(suite_id: bytes, salt: bytes, name: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite_id + name + ikm)


def labeled_expand(suite_id: bytes, prk: bytes, name: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + name + info, length)


def dhkem_encapsulate(public: bytes, ephemeral: bytes) -> tuple[bytes, bytes]:
    """RFC 9180, section 4.1, with the ephemeral private key as an argument."""
    kem, enc = b"KEM\x00\x20", x25519_public(ephemeral)
    prk = labeled_extract(kem, b"", b"eae_prk", x25519(ephemeral, public))
    return labeled_expand(kem, prk, b"shared_secret", enc + public, 32), enc


def xwing_encapsulate(public: bytes, coins: bytes) -> tuple[bytes, bytes]:
    """draft-connolly-cfrg-xwing-kem, section 5.4: coins are 32 for ML-KEM, 32 for X25519."""
    mlkem_shared, mlkem_sealed = mlkem_encapsulate(public[:1184], coins[:32])
    x_sealed, x_shared = x25519_public(coins[32:]), x25519(coins[32:], public[1184:])
    joined = mlkem_shared + x_shared + x_sealed + public[1184:] + b"\\.//^\\"
    return hashlib.sha3_256(joined).digest(), mlkem_sealed + x_sealed


def key_schedule(kem: int, aead: int, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """RFC 9180, section 5.1, with HKDF-SHA256 and mode 0: key and base nonce."""
    suite_id = b"HPKE" + b"".join(i.to_bytes(2, "big") for i in (kem, 1, aead))
    hashed = [
        labeled_extract(suite_id, b"", name, value)
        for name, value in ((b"psk_id_hash", b""), (b"info_hash", info))
    ]
    context = b"\0" + b"".join(hashed)
    secret = labeled_extract(suite_id, shared, b"secret", b"")
    key = labeled_expand(suite_id, secret, b"key", context, {1: 16, 2: 32}[aead])
    return key, labeled_expand(suite_id, secret, b"base_nonce", context, 12)


Encapsulate = Callable[[bytes, bytes], tuple[bytes, bytes]]
KEMS: dict[str, tuple[int, Encapsulate]] = {
    "X25519": (0x0020, dhkem_encapsulate),
    "MLKEM768-X25519": (0x647A, xwing_encapsulate),
}


def hpke_seal(suite: str, public: bytes, coins: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Single-shot sealing with AES-256-GCM and no associated data."""
    kem, encapsulate = KEMS[suite]
    shared, enc = encapsulate(public, coins)
    key, nonce = key_schedule(kem, 2, shared, info)
    return enc + AESGCM(key).encrypt(nonce, plaintext, b"")


def public_of(suite: str, seed: bytes) -> bytes:
    if suite == "X25519":
        return x25519_public(seed)
    return mlkem_public(seed[:64]) + x25519_public(seed[64:])
