"""HPKE, base mode (RFC 9180), with DHKEM(X25519) and X-Wing, coins as an argument."""

import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.reference.curve import x25519, x25519_public
from tests.reference.errors import Decode
from tests.reference.labels import hkdf_expand, hkdf_extract
from tests.reference.mlkem import mlkem_encapsulate, mlkem_public


def labeled_extract(suite_id: bytes, salt: bytes, name: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite_id + name + ikm)


def labeled_expand(suite_id: bytes, prk: bytes, name: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + name + info, length)


def dhkem_encapsulate(public: bytes, ephemeral: bytes) -> tuple[bytes, bytes]:
    """RFC 9180, section 4.1, with the ephemeral private key as an argument."""
    enc = x25519_public(ephemeral)
    return dhkem_shared(x25519(ephemeral, public), enc, public), enc


def dhkem_decapsulate(seed: bytes, enc: bytes) -> bytes:
    """Or Decode, by section 7.1.4, if enc has low order."""
    dh = x25519(seed, enc)
    if not any(dh):
        raise Decode("a sealed message does not open")
    return dhkem_shared(dh, enc, x25519_public(seed))


def dhkem_shared(dh: bytes, enc: bytes, public: bytes) -> bytes:
    kem = b"KEM\x00\x20"
    prk = labeled_extract(kem, b"", b"eae_prk", dh)
    return labeled_expand(kem, prk, b"shared_secret", enc + public, 32)


def xwing_encapsulate(public: bytes, coins: bytes) -> tuple[bytes, bytes]:
    """draft-connolly-cfrg-xwing-kem, section 5.4: coins are 32 for ML-KEM, 32 for X25519."""
    mlkem_shared, mlkem_sealed = mlkem_encapsulate(public[:1184], coins[:32])
    x_sealed, x_shared = x25519_public(coins[32:]), x25519(coins[32:], public[1184:])
    shared = xwing_shared(mlkem_shared, x_shared, x_sealed, public[1184:])
    return shared, mlkem_sealed + x_sealed


def xwing_decapsulate(seed: bytes, enc: bytes) -> bytes:
    """Section 5.5."""
    mlkem_shared = MLKEM768PrivateKey.from_seed_bytes(seed[:64]).decapsulate(enc[:1088])
    x_shared, public = x25519(seed[64:], enc[1088:]), x25519_public(seed[64:])
    return xwing_shared(mlkem_shared, x_shared, enc[1088:], public)


def xwing_shared(mlkem: bytes, x: bytes, x_enc: bytes, x_public: bytes) -> bytes:
    return hashlib.sha3_256(mlkem + x + x_enc + x_public + b"\\.//^\\").digest()


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
Decapsulate = Callable[[bytes, bytes], bytes]
KEMS: dict[str, tuple[int, int, Encapsulate, Decapsulate]] = {  # number, bytes of enc
    "X25519": (0x0020, 32, dhkem_encapsulate, dhkem_decapsulate),
    "MLKEM768-X25519": (0x647A, 1120, xwing_encapsulate, xwing_decapsulate),
}


def hpke_seal(suite: str, public: bytes, coins: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Single-shot sealing with AES-256-GCM and no associated data."""
    kem, _, encapsulate, _ = KEMS[suite]
    shared, enc = encapsulate(public, coins)
    key, nonce = key_schedule(kem, 2, shared, info)
    return enc + AESGCM(key).encrypt(nonce, plaintext, b"")


def hpke_open(suite: str, seed: bytes, info: bytes, sealed: bytes) -> bytes:
    """What `hpke_seal` sealed for the key pair of this seed. Or Decode."""
    kem, size, _, decapsulate = KEMS[suite]
    enc, ciphertext = sealed[:size], sealed[size:]
    if len(enc) < size:
        raise Decode("a sealed message does not open")
    key, nonce = key_schedule(kem, 2, decapsulate(seed, enc), info)
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, b"")
    except InvalidTag:
        raise Decode("a sealed message does not open") from None


def public_of(suite: str, seed: bytes) -> bytes:
    if suite == "X25519":
        return x25519_public(seed)
    return mlkem_public(seed[:64]) + x25519_public(seed[64:])
