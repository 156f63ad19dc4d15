"""Vectors of sealing, each sealed by the references of RFC 9180, FIPS 203 and X-Wing."""

import hashlib

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.reference.curve import LOW_ORDER, P255, ladder, x25519, x25519_public
from tests.reference.hpke import (
    dhkem_encapsulate,
    dhkem_shared,
    hpke_seal,
    key_schedule,
    labeled_expand,
    labeled_extract,
    public_of,
    xwing_encapsulate,
)
from tests.reference.labels import derive
from tests.reference.seal import CIPHERTEXT, SEED, KeyPair, encapsulate_with
from tests.vectors.files import Vectors, error, load, refused

__all__ = [
    "LOW_ORDER",
    "P255",
    "derive",
    "dhkem_encapsulate",
    "encapsulate_with",
    "error",
    "key_schedule",
    "labeled_expand",
    "labeled_extract",
    "ladder",
    "load",
    "public_of",
    "seal_vectors",
    "stretch",
    "x25519",
    "x25519_public",
    "xwing_encapsulate",
]

RFC7748 = {  # section 6.1: private and public key of Alice and Bob
    "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a": (
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    ),
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb": (
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    ),
}
RFC9180 = {  # appendix A.1.1 (AES-128-GCM), which the reference must reproduce
    "info": "4f6465206f6e2061204772656369616e2055726e",
    "ephemeral": "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
    "public": "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
    "enc": "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
    "shared": "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc",
    "key": "4531685d41d65f03dc48f6b8302c05b0",
    "base_nonce": "56d890e5accaaf011cff4b7d",
}
XWING = {  # the draft's first test vector: its seed expands to the 96 bytes of a key pair
    "seed": "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
    "coins": "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2"
    "35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
    "shared": "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
}


def stretch(name: str, length: int) -> bytes:
    return hashlib.shake_256(name.encode()).digest(length)


def refused_points() -> list[tuple[str, int]]:
    """Encodings of 32 bytes that are no public key: of low order, or not canonical."""
    wrapped = [(f"low order, not canonical: p + {u}", P255 + u) for u in (0, 1)]
    high = [(f"low order, top bit set: {i}", u + 2**255) for i, u in enumerate(LOW_ORDER)]
    other = [("p + 9", P255 + 9), ("p + 18", P255 + 18), ("9, top bit set", 9 + 2**255)]
    low = [(f"low order: {i}", u) for i, u in enumerate(LOW_ORDER)]
    return low + wrapped + high + [*other, ("all bits set", 2**256 - 1)]


def seal_refusals(opened: dict[str, Vectors]) -> list[Vectors]:
    """Keys that are none, and sealings with one thing wrong."""
    no_key, no_open = "not a X25519 public key", "does not open"
    points = [(why, u.to_bytes(32, "little")) for why, u in refused_points()]
    hybrid = bytes.fromhex(opened["MLKEM768-X25519"]["public"])
    too_large = (3329).to_bytes(2, "little") + hybrid[2:]
    keys = [
        *(("X25519", why, raw, no_key) for why, raw in points),
        ("X25519", "too short", points[0][1][1:], "32 bytes"),
        ("X25519", "too long", points[0][1] + b"\0", "32 bytes"),
        ("X25519", "empty", b"", "32 bytes"),
        *(
            ("MLKEM768-X25519", why, hybrid[:1184] + raw, "public key")
            for why, raw in points[: len(LOW_ORDER) + 2]
        ),
        ("MLKEM768-X25519", "a coefficient of q", too_large, "public key"),
        ("MLKEM768-X25519", "too short", hybrid[1:], "1216 bytes"),
    ]
    sealings = []
    for good in opened.values():
        sealed, enc = bytes.fromhex(good["sealed"]), len(good["sealed"]) // 2 - 16 - 9
        changed = {
            "enc, first byte": (0, 1),
            "enc, last byte": (enc - 1, 1),
            "enc, top bit (ignored by X25519)": (enc - 1, 0x80),
            "ciphertext": (enc, 1),
            "tag": (len(sealed) - 1, 0x80),
        }
        for why, (at, bit) in changed.items():
            raw = sealed[:at] + bytes([sealed[at] ^ bit]) + sealed[at + 1 :]
            sealings.append(good | {"refused": "open", "why": why, "sealed": raw.hex()})
        shapes = {
            "empty": b"",
            "enc only": sealed[:enc],
            "cut": sealed[:-1],
            "longer": sealed + b"\0",
        }
        sealings += [
            good | {"refused": "open", "why": why, "sealed": raw.hex()}
            for why, raw in shapes.items()
        ]
        sealings.append(good | {"refused": "open", "why": "info", "info": good["info"] + "00"})
        raw = sealed[: enc - 32] + bytes(32) + sealed[enc:]
        sealings.append(good | {"refused": "open", "why": "enc of low order", "sealed": raw.hex()})
    sealings.append(opened["X25519"] | known_to_all(opened["X25519"]))
    trimmed = [{k: v for k, v in s.items() if k not in ("public", "plaintext")} for s in sealings]
    return [
        refused("key", "DecodeError", message, suite=suite, why=why, raw=raw.hex())
        for suite, why, raw, message in keys
    ] + [s | {"error": "DecodeError", "message": no_open} for s in trimmed]


def known_to_all(good: Vectors) -> Vectors:
    """An enc of low order whose shared secret needs no private key (RFC 9180, section 7.1.4)."""
    enc, public, info = bytes(32), bytes.fromhex(good["public"]), bytes.fromhex(good["info"])
    key, nonce = key_schedule(0x0020, 2, dhkem_shared(bytes(32), enc, public), info)
    sealed = enc + AESGCM(key).encrypt(nonce, bytes.fromhex(good["plaintext"]), b"")
    return {"refused": "open", "why": "a shared secret of zero", "sealed": sealed.hex()}


def between_vectors() -> list[Vectors]:
    """Sealed from the first key pair to the second, with these coins for ML-KEM."""
    sealed = []
    for suite, seed_bytes in SEED.items():
        seeds = [stretch(f"{suite} {end}", seed_bytes) for end in ("one end", "other end")]
        one, other = (KeyPair(suite, seed) for seed in seeds)
        coins = stretch(f"{suite} between", 32)
        for info, plaintext in ((b"info", b"plaintext"), (b"", b"")):
            sealed.append(
                {
                    "suite": suite,
                    "seeds": [seed.hex() for seed in seeds],
                    "coins": coins.hex(),
                    "info": info.hex(),
                    "plaintext": plaintext.hex(),
                    "sealed": one.seal(
                        other.public, plaintext, info, encapsulate_with(coins)
                    ).hex(),
                }
            )
    return sealed


def between_refusals(good: Vectors) -> list[Vectors]:
    """What was sealed between two, with one thing wrong."""
    sealed, cut = bytes.fromhex(good["sealed"]), CIPHERTEXT[good["suite"]]
    seed = bytes.fromhex(good["seeds"][1])
    wrong = {
        "first byte": flipped(sealed, 0),
        "ciphertext": flipped(sealed, cut),
        "tag": flipped(sealed, len(sealed) - 1),
        "empty": b"",
        "tag only": sealed[-16:],
        "cut": sealed[:-1],
        "longer": sealed + b"\0",
    }
    seeds = {"another X25519 key": seed[:-32] + bytes(31) + b"\1"}
    if cut:
        seeds["another ML-KEM key"] = bytes(64) + seed[-32:]
    bad = [good | {"why": why, "sealed": raw.hex()} for why, raw in wrong.items()]
    bad += [good | {"why": why, "seeds": [good["seeds"][0], s.hex()]} for why, s in seeds.items()]
    bad.append(good | {"why": "info", "info": good["info"] + "00"})
    error = {"refused": "between", "error": "DecodeError", "message": "does not open"}
    unknown = ("coins", "plaintext")
    return [{k: v for k, v in each.items() if k not in unknown} | error for each in bad]


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def seal_vectors() -> Vectors:
    opened = []
    for suite, seed_bytes, coin_bytes in (("X25519", 32, 32), ("MLKEM768-X25519", 96, 64)):
        seed, coins = stretch(f"{suite} seed", seed_bytes), stretch(f"{suite} coins", coin_bytes)
        public = public_of(suite, seed)
        for info, plaintext in ((b"info", b"plaintext"), (b"", b"")):
            opened.append(
                {
                    "suite": suite,
                    "seed": seed.hex(),
                    "public": public.hex(),
                    "info": info.hex(),
                    "plaintext": plaintext.hex(),
                    "sealed": hpke_seal(suite, public, coins, info, plaintext).hex(),
                }
            )
    xwing_seed = hashlib.shake_256(bytes.fromhex(XWING["seed"])).digest(96)
    first = {case["suite"]: case for case in reversed(opened)}
    between = between_vectors()
    return {
        "rfc7748": RFC7748,
        "rfc9180": RFC9180,
        "xwing": XWING,
        "key_pair": [
            {"suite": suite, "seed": seed.hex(), "public": public_of(suite, seed).hex()}
            for suite, seed in (
                ("X25519", bytes(32)),
                ("X25519", b"\xff" * 32),
                ("MLKEM768-X25519", bytes(96)),
                ("MLKEM768-X25519", xwing_seed),
            )
        ],
        "open": opened,
        "between": between,
        "negative": seal_refusals(first)
        + [bad for good in between[::2] for bad in between_refusals(good)],
    }
