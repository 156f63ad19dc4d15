"""Slow references for the primitives, and the generator of `tests/vectors/*.json`.

Plain Python integers, `hashlib` and `hmac`, written from the documents that each section
names. Nothing here imports `secagg`. AES (in counter mode and in GCM) is the one thing taken
from `cryptography`. `python tests/secagg/vectors_reference.py` writes the files; the tests
make them again and compare.
"""

import builtins
import hashlib
import hmac
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR

FOLDER = Path(__file__).parents[1] / "vectors"
Vectors = dict[str, Any]


def load(name: str) -> Vectors:
    """The published vectors of one module."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def error(name: str, module: object) -> type[Exception]:
    """The class that a negative vector names: one of `module`, or Python's own."""
    return getattr(module, name, None) or getattr(builtins, name)


def refused(what: str, kind: str, message: str, **inputs: object) -> Vectors:
    return {"refused": what, **inputs, "error": kind, "message": message}


# --- labels and derivation: RFC 5869 -----------------------------------------------------

Part = bytes | str | int


def label(kind: str, *parts: Part) -> bytes:
    out = b""
    for part in ("secagg/1", kind, *parts):
        raw = part.to_bytes(8, "big") if isinstance(part, int) else part
        raw = raw.encode("utf-8") if isinstance(raw, str) else raw
        out += len(raw).to_bytes(4, "big") + raw
    return out


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def digest(kind: str, *parts: Part) -> bytes:
    return sha256(label(kind, *parts))


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), secret, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    out = block = b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([i]), "sha256")
        out += block
    return out[:length]


def derive(secret: bytes, kind: str, *parts: Part, length: int = 32) -> bytes:
    return hkdf_expand(hkdf_extract(b"", secret), label(kind, *parts), length)


def to_json(part: Part) -> Vectors:
    if isinstance(part, bytes):
        return {"hex": part.hex()}
    return {"str" if isinstance(part, str) else "int": part}


def from_json(part: Vectors) -> Part:
    return bytes.fromhex(part["hex"]) if "hex" in part else part.get("str", part.get("int"))


RFC5869 = [  # appendix A.1 to A.3: IKM, salt, info, OKM
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6"
        "5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


def kdf_vectors() -> Vectors:
    secret, seeds = bytes(range(32)), bytes(range(64))
    labels: list[tuple[str, list[Part]]] = [
        ("empty", []),
        ("", [""]),
        ("one", [b""]),
        ("int", [0, 1, 2**31 - 2, 2**64 - 1]),
        ("text", ["é", "e\u0301", "", "\0"]),
        ("split", [b"ab", b"c"]),
        ("split", [b"a", b"bc"]),
        ("spli", ["t", b"abc"]),
        ("mask", [sha256(b"context"), 3, 7]),
    ]
    derived = [
        (secret, "pair", [sha256(b"context"), 3, 7], 32),
        (seeds, "pair", [sha256(b"context"), 3, 7], 32),
        (secret, "stream", [sha256(b"context"), 3, "update"], 28),
        (secret, "length", [], 1),
        (secret, "length", [], 33),
        (secret, "length", [], 96),
        (b"", "no secret", [], 16),
    ]
    return {
        "rfc5869": [dict(zip(("ikm", "salt", "info", "okm"), t, strict=True)) for t in RFC5869],
        "label": [
            {
                "kind": kind,
                "parts": [to_json(p) for p in parts],
                "label": label(kind, *parts).hex(),
                "digest": digest(kind, *parts).hex(),
            }
            for kind, parts in labels
        ],
        "derive": [
            {
                "secret": s.hex(),
                "kind": kind,
                "parts": [to_json(p) for p in parts],
                "length": n,
                "out": derive(s, kind, *parts, length=n).hex(),
            }
            for s, kind, parts, n in derived
        ],
        "negative": [
            refused("label", "OverflowError", "negative", parts=[{"int": -1}]),
            refused("label", "OverflowError", "too big", parts=[{"int": 2**64}]),
            refused("label", "UnicodeEncodeError", "surrogates", parts=[{"str": "\ud800"}]),
            refused("label", "TypeError", "", parts=[{"int": None}]),
            refused("label", "TypeError", "", parts=[{"int": 1.5}]),
            refused("derive", "ValueError", "8160", length=8161),
            refused("derive", "OverflowError", "negative", length=-1),
        ],
    }


# --- Merkle tree: RFC 9162, section 2.1, with labelled hashes -----------------------------


def largest_power_below(n: int) -> int:
    return 1 << (n - 1).bit_length() - 1


def merkle_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of section 2.1.1."""
    if len(leaves) == 1:
        return digest("merkle leaf", leaves[0])
    k = largest_power_below(len(leaves))
    return digest("merkle node", merkle_hash(leaves[:k]), merkle_hash(leaves[k:]))


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The hash of the tree, under the number of its leaves."""
    return digest("merkle root", len(leaves), merkle_hash(leaves))


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH of section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if index < k:
        return [*merkle_path(leaves[:k], index), merkle_hash(leaves[k:])]
    return [*merkle_path(leaves[k:], index - k), merkle_hash(leaves[:k])]


def merkle_leaves(size: int) -> list[bytes]:
    return [b"leaf %d" % i for i in range(size)]


def merkle_case(size: int, index: int) -> Vectors:
    leaves = merkle_leaves(size)
    path = [p.hex() for p in merkle_path(leaves, index)]
    root, leaf = merkle_root(leaves).hex(), leaves[index].hex()
    return {"root": root, "leaf": leaf, "index": index, "size": size, "path": path}


def merkle_vectors() -> Vectors:
    good = merkle_case(5, 2)
    leaves = merkle_leaves(5)
    inner = digest("merkle leaf", leaves[0]) + digest("merkle leaf", leaves[1])
    hashed = label("merkle node", inner[:32], inner[32:])
    flipped = bytes([bytes.fromhex(good["path"][0])[0] ^ 1]) + bytes.fromhex(good["path"][0])[1:]
    return {
        "root": [
            {
                "leaves": [x.hex() for x in merkle_leaves(n)],
                "root": merkle_root(merkle_leaves(n)).hex(),
            }
            for n in (1, 2, 3, 4, 5, 6, 7, 8, 13)
        ],
        "proof": [merkle_case(n, i) for n in (1, 2, 3, 5, 7) for i in range(n)],
        "negative": [  # what `verify` answers False to
            good | {"why": "another leaf", "leaf": leaves[3].hex()},
            good | {"why": "another index", "index": 3},
            good | {"why": "index below zero", "index": -1},
            good | {"why": "index beyond the end", "index": 5},
            good | {"why": "an empty tree", "index": 0, "size": 0},
            good | {"why": "a smaller tree", "size": 4},
            good | {"why": "a much larger tree", "size": 9},
            good | {"why": "a path too short", "path": good["path"][:-1]},
            good | {"why": "a path too long", "path": [*good["path"], good["root"]]},
            good | {"why": "no path", "path": []},
            good | {"why": "siblings swapped", "path": good["path"][::-1]},
            good | {"why": "a bit of a sibling", "path": [flipped.hex(), *good["path"][1:]]},
            good | {"why": "a bit of the root", "root": sha256(b"root").hex()},
            good
            | {
                "why": "an inner node's preimage as a leaf",
                "leaf": inner.hex(),
                "index": 0,
                "size": 3,
                "path": merkle_case(5, 0)["path"][1:],
            },
            good
            | {
                "why": "an inner node's label as a leaf",
                "leaf": hashed.hex(),
                "index": 0,
                "size": 3,
                "path": merkle_case(5, 0)["path"][1:],
            },
        ],
    }


# --- contexts ----------------------------------------------------------------------------

CONTEXTS: dict[str, dict[str, Any]] = {  # the arguments of one call each, bytes in hex
    "roster_digest": {"names": ["a", "bc", "é"]},
    "session_context": {
        "protocol": "masking",
        "parameters": "00ff",
        "session_id": "11" * 32,
        "roster": "22" * 32,
    },
    "bound_context": {
        "context0": "33" * 32,
        "application": "44" * 32,
        "graph_seed": "55" * 32,
        "adverts": "66" * 32,
    },
    "application_digest": {
        "arrays": [["w", "<f4", [2, 3], "00" * 24], ["b", "<f4", [3], "01" * 12]],
        "configuration": "7b7d",
    },
}
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("roster_digest", {"names": ["ab", "c", "é"]}),
    ("roster_digest", {"names": ["bc", "a", "é"]}),
    ("roster_digest", {"names": ["a", "bc", "e\u0301"]}),
    ("roster_digest", {"names": ["a", "bc"]}),
    ("roster_digest", {"names": []}),
    ("session_context", {"protocol": "maskin", "parameters": "6700ff"}),
    ("session_context", {"parameters": "00", "session_id": "ff" + "11" * 32}),
    ("session_context", {"roster": ""}),
    ("bound_context", {"context0": "44" * 32, "application": "33" * 32}),
    ("bound_context", {"graph_seed": "66" * 32, "adverts": "55" * 32}),
    ("application_digest", {"configuration": "7b7d20"}),
    (
        "application_digest",
        {"arrays": [["b", "<f4", [3], "01" * 12], ["w", "<f4", [2, 3], "00" * 24]]},
    ),
    (
        "application_digest",
        {"arrays": [["w", "<f4", [3, 2], "00" * 24], ["b", "<f4", [3], "01" * 12]]},
    ),
    (
        "application_digest",
        {"arrays": [["w", "<i4", [2, 3], "00" * 24], ["b", "<f4", [3], "01" * 12]]},
    ),
    ("application_digest", {"arrays": []}),
]


def unhex(value: object) -> Any:
    return bytes.fromhex(value) if isinstance(value, str) else value


def context_arguments(call: str, case: Vectors) -> dict[str, Any]:
    """The arguments as the functions take them."""
    if call == "roster_digest":
        return dict(case)
    if call == "application_digest":
        arrays = [(n, d, s, bytes.fromhex(raw)) for n, d, s, raw in case["arrays"]]
        return {"arrays": arrays, "configuration": bytes.fromhex(case["configuration"])}
    return {k: v if k == "protocol" else bytes.fromhex(v) for k, v in case.items()}


def context_reference(call: str, case: Vectors) -> bytes:
    given = context_arguments(call, case)
    if call == "application_digest":
        described = [
            label("array", name, dtype, label("shape", *shape), digest("array bytes", raw))
            for name, dtype, shape, raw in given["arrays"]
        ]
        return digest("application", given["configuration"], *described)
    kind = {"roster_digest": "roster", "session_context": "context0"}.get(call, "context1")
    return digest(kind, *(given["names"] if call == "roster_digest" else given.values()))


def context_vectors() -> Vectors:
    positive = [(call, CONTEXTS[call]) for call in CONTEXTS]
    changed = [(call, CONTEXTS[call] | change) for call, change in CHANGES]
    array = ["w", "<f4", [2], "00" * 8]
    return {
        "positive": [
            {"call": c, "arguments": a, "digest": context_reference(c, a).hex()}
            for c, a in positive + changed
        ],
        "negative": [
            refused(
                "roster_digest", "UnicodeEncodeError", "surrogates", arguments={"names": ["\ud800"]}
            ),
            refused("roster_digest", "TypeError", "", arguments={"names": [None]}),
            refused(
                "session_context",
                "UnicodeEncodeError",
                "surrogates",
                arguments=CONTEXTS["session_context"] | {"protocol": "\udfff"},
            ),
            *(
                refused(
                    "application_digest",
                    kind,
                    message,
                    arguments={
                        "arrays": [[array[0], array[1], shape, array[3]]],
                        "configuration": "",
                    },
                )
                for shape, kind, message in (
                    ([-1], "OverflowError", "negative"),
                    ([2**64], "OverflowError", "too big"),
                    ([1.5], "TypeError", ""),
                    ([None], "TypeError", ""),
                )
            ),
        ],
    }


# --- Shamir's secret sharing over GF(2^31 - 1) --------------------------------------------

P31 = 2**31 - 1


def ctr_words(key: bytes, iv: bytes) -> Iterator[int]:
    """32-bit little-endian words of AES-128-CTR from block 0 (SP 800-38A, section 6.5)."""
    encryptor = Cipher(AES128(key), CTR(iv + bytes(4))).encryptor()
    while True:
        yield int.from_bytes(encryptor.update(bytes(4)), "little")


def uniform_elements(key: bytes, iv: bytes) -> Iterator[int]:
    return (w for w in (word % 2**31 for word in ctr_words(key, iv)) if w != P31)


def split_secret(secret: bytes) -> list[int]:
    whole = int.from_bytes(secret, "little")
    return [(whole >> 30 * i) % 2**30 for i in range(9)]


def polynomials(secrets: Sequence[bytes], threshold: int, key: bytes, iv: bytes) -> list[list[int]]:
    """Coefficients, constant first. The stream gives all leading ones first, limb by limb."""
    limbs = [limb for secret in secrets for limb in split_secret(secret)]
    drawn = uniform_elements(key, iv)
    rows = [[next(drawn) for _ in limbs] for _ in range(threshold - 1)]
    return [[limb, *(row[i] for row in reversed(rows))] for i, limb in enumerate(limbs)]


def shamir_deal(
    secrets: Sequence[bytes], points: Sequence[int], threshold: int, key: bytes, iv: bytes
) -> list[list[bytes]]:
    rows = polynomials(secrets, threshold, key, iv)

    def at(x: int, row: Sequence[int]) -> bytes:
        return (sum(c * x**i for i, c in enumerate(row)) % P31).to_bytes(4, "little")

    values = [b"".join(at(x, row) for row in rows) for x in points]
    return [[v[i : i + 36] for i in range(0, len(v), 36)] for v in values]


def lagrange_at_zero(points: Sequence[int]) -> list[int]:
    basis = []
    for i, x in enumerate(points):
        others = [y for j, y in enumerate(points) if j != i]
        bottom = math.prod(y - x for y in others)
        basis.append(math.prod(others) * pow(bottom, -1, P31) % P31)
    return basis


def shamir_limbs(points: Sequence[int], shares: Sequence[bytes]) -> list[int]:
    basis = lagrange_at_zero(points)
    words = [[int.from_bytes(s[i : i + 4], "little") for i in range(0, 36, 4)] for s in shares]
    return [sum(b * w[i] for b, w in zip(basis, words, strict=True)) % P31 for i in range(9)]


REJECTING = (bytes(range(16)), bytes.fromhex("c4a90b166ec04541b0255aae"))
"""A stream whose word 1 is p: found by decrypting blocks that hold it until one was
the counter block of a stream's start."""


def share_of(limb: int, place: int = 0) -> str:
    words = [limb if i == place else 0 for i in range(9)]
    return b"".join(w.to_bytes(4, "little") for w in words).hex()


def shamir_vectors() -> Vectors:
    secrets = [bytes(range(32)), bytes(32), b"\xff" * 32, sha256(b"secret")]
    key, iv = sha256(b"key")[:16], sha256(b"iv")[:12]
    cases = [
        (secrets[:1], [1], 1, (key, iv)),
        (secrets[:1], [1, 2, 3], 2, (key, iv)),
        (secrets[:2], [1, 2, 3], 2, REJECTING),
        (secrets, [1, 3, 7, P31 - 1], 3, (key, iv)),
        (secrets[2:], [5, 4, 2**30], 3, (key, iv)),
        (secrets[3:], list(range(1, 12)), 11, (key, iv)),
    ]
    good = [s[0] for s in shamir_deal(secrets[:1], [1, 2, 3], 2, key, iv)]
    zero, two = bytes(36).hex(), [1, 2]
    deal = {"secrets": [secrets[0].hex()], "points": [1, 2, 3], "threshold": 2}
    bad_points = "points must be distinct and between 1 and the prime"
    not_one = "not those of one 32-byte secret"
    return {
        "deal": [
            {
                "secrets": [s.hex() for s in ss],
                "points": points,
                "threshold": t,
                "key": k.hex(),
                "iv": v.hex(),
                "shares": [[s.hex() for s in row] for row in shamir_deal(ss, points, t, k, v)],
            }
            for ss, points, t, (k, v) in cases
        ],
        "negative": [
            refused("deal", "LocalError", "threshold 0", **deal | {"threshold": 0}),
            refused("deal", "LocalError", "threshold -1", **deal | {"threshold": -1}),
            refused("deal", "LocalError", "threshold 4", **deal | {"threshold": 4}),
            refused("deal", "LocalError", bad_points, **deal | {"points": [0, 1, 2]}),
            refused("deal", "LocalError", bad_points, **deal | {"points": [1, P31]}),
            refused("deal", "LocalError", bad_points, **deal | {"points": [1, 2, 1]}),
            refused("deal", "LocalError", "threshold 2 with 0", **deal | {"points": []}),
            refused("deal", "LocalError", "32 bytes", **deal | {"secrets": ["00" * 31]}),
            refused("deal", "LocalError", "32 bytes", **deal | {"secrets": ["00" * 33]}),
            refused("reconstruct", "LocalError", bad_points, points=[1, 1], shares=[zero, zero]),
            refused("reconstruct", "LocalError", bad_points, points=[0, 1], shares=[zero, zero]),
            refused("reconstruct", "DecodeError", "36 bytes", points=two, shares=[zero, zero[2:]]),
            refused(
                "reconstruct", "DecodeError", "36 bytes", points=two, shares=[zero + "00", zero]
            ),
            refused("reconstruct", "DecodeError", "36 bytes", points=two, shares=["", zero]),
            refused(
                "reconstruct", "DecodeError", "prime", points=two, shares=[share_of(P31), zero]
            ),
            refused(
                "reconstruct",
                "DecodeError",
                "prime",
                points=two,
                shares=[zero, share_of(2**32 - 1, 8)],
            ),
            refused("reconstruct", "DecodeError", not_one, points=[1], shares=[share_of(2**30)]),
            refused("reconstruct", "DecodeError", not_one, points=[1], shares=[share_of(P31 - 1)]),
            refused("reconstruct", "DecodeError", not_one, points=[1], shares=[share_of(2**16, 8)]),
            refused(
                "reconstruct",
                "DecodeError",
                not_one,
                points=[1, 3],
                shares=[good[0].hex(), good[1].hex()],
            ),
        ],
    }


# --- fixed point --------------------------------------------------------------------------


def encode_values(
    fixed: tuple[int, float, int, int], values: Sequence[float], weight: int, key: bytes, iv: bytes
) -> list[int]:
    """IEEE doubles as in the docstring of `secagg.encoding`, one value at a time."""
    bits, clip = fixed[:2]
    scale = (2**bits - 1) / (2 * clip)
    out = []
    for x, word in zip(values, ctr_words(key, iv), strict=False):
        exact = weight * ((x + clip) * scale)
        whole = math.floor(exact)
        up = whole + ((exact - whole) + word / 2**32 >= 1)
        out.append(min(max(up, 0), weight * (2**bits - 1)))
    return [*out, weight]


def modulus_bits(bits: int, max_weight: int, max_clients: int) -> int:
    """The smallest k for which bits are left over the sum of all weights."""
    k = 0
    while 2**k < max_weight * max_clients:
        k += 1
    return bits + k


def fixed_refusals() -> list[Vectors]:
    base = {"bits": 8, "clip": (1.0).hex(), "max_weight": 10, "max_clients": 5}
    fill = {"modulus_bits": 32, "clip": (1.0).hex(), "max_weight": 10, "max_clients": 5}
    return [
        refused("fixed", "ParameterError", "choose 1 to 32", **base | {"bits": 0}),
        refused("fixed", "ParameterError", "choose 1 to 32", **base | {"bits": 33}),
        *(
            refused("fixed", "ParameterError", "positive finite range", **base | {"clip": clip})
            for clip in ("0x0p+0", "-0x1p+0", "nan", "inf")
        ),
        refused("fixed", "ParameterError", "max_weight must be", **base | {"max_weight": 0}),
        refused(
            "fixed", "ParameterError", "max_weight must be", **base | {"max_weight": 2**20 + 1}
        ),
        refused("fixed", "ParameterError", "at least 1", **base | {"max_clients": 0}),
        refused(
            "fixed",
            "ParameterError",
            "needs 65 bits; lower bits (32)",
            **base | {"bits": 32, "max_weight": 2**20, "max_clients": 2**12 + 1},
        ),
        refused("filling", "ParameterError", "use at least 7 bits", **fill | {"modulus_bits": 6}),
        refused("filling", "ParameterError", "use at least 7 bits", **fill | {"modulus_bits": 0}),
        refused("filling", "ParameterError", "lower max_weight", **fill | {"modulus_bits": 1}),
    ]


def value_refusals() -> list[Vectors]:
    one = {"dtype": "float64", "values": ["0x1p-1"], "weight": 1}
    return [
        refused("encode", "LocalError", "NaN", **one | {"values": ["nan"]}),
        refused("encode", "LocalError", "infinity", **one | {"values": ["0x0p+0", "-inf"]}),
        refused("encode", "LocalError", "clip", **one | {"values": ["0x1.0000000000001p+0"]}),
        refused("encode", "LocalError", "clip", **one | {"values": ["-0x1.0000000000001p+0"]}),
        refused("encode", "LocalError", "floats", **one | {"values": []}),
        refused("encode", "LocalError", "floats", **one | {"dtype": "int64"}),
        refused("encode", "LocalError", "floats", **one | {"dtype": "bool"}),
        refused("encode", "LocalError", "floats", **one | {"dtype": "complex128"}),
        refused("encode", "LocalError", "weight 0 is outside 1..10", **one | {"weight": 0}),
        refused("encode", "LocalError", "weight 11 is outside 1..10", **one | {"weight": 11}),
        refused("encode", "LocalError", "weight -1 is outside", **one | {"weight": -1}),
        refused("decode", "LocalError", "no cohort can have", total=[0, 0]),
        refused("decode", "LocalError", "no cohort can have", total=[0, 51]),
        refused("decode", "LocalError", "no cohort can have", total=[0, 2**64 - 1]),
    ]


def encoding_vectors() -> Vectors:
    key, iv = sha256(b"coins")[:16], sha256(b"coins")[16:28]
    eighths = [i / 8 for i in range(-8, 9)]
    cases = [
        ((8, 1.0, 10, 5), eighths, 1),
        ((8, 1.0, 10, 5), eighths, 10),
        ((1, 0.5, 1, 2), [-0.5, -0.25, 0.0, 0.25, 0.5], 1),
        ((16, 0.1, 1000, 1000), [-0.1, 0.1, 0.05, math.pi / 100], 777),
        ((24, 3.7, 1, 256), [-3.7, 3.7, 1 / 3, -1e-9], 1),
        ((32, 1.0, 2**20, 2**12), [-1.0, 1.0, 0.1, -0.7], 2**20),
    ]
    return {
        "encode": [
            {
                **dict(zip(("bits", "clip", "max_weight", "max_clients"), fixed, strict=True)),
                "clip": fixed[1].hex(),
                "modulus_bits": modulus_bits(fixed[0], fixed[2], fixed[3]),
                "weight": weight,
                "key": key.hex(),
                "iv": iv.hex(),
                "values": [x.hex() for x in values],
                "encoded": encode_values(fixed, values, weight, key, iv),
            }
            for fixed, values, weight in cases
        ],
        "decode": [
            {
                "total": [*total, weights],
                "mean": [(t / ((255 / 2) * weights) - 1.0).hex() for t in total],
            }
            for total, weights in (([0, 255, 128], 1), ([0, 50 * 255, 6000], 50), ([1, 2, 3], 7))
        ],
        "negative": fixed_refusals() + value_refusals(),
    }


# --- X25519: RFC 7748 ---------------------------------------------------------------------

P255 = 2**255 - 19
LOW_ORDER = (  # the u-coordinates of order 1, 2, 4, 8 on curve and twist: 8 P = 0
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P255 - 1,
)


def ladder(scalar: int, u: int) -> int:
    """Section 5: the u-coordinate of the multiple; 0 also for the point at infinity."""
    x2, z2, x3, z3 = 1, 0, u, 1
    for t in range(255, -1, -1):
        swap = scalar >> t & 1
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, e = d * a, c * b, a * a - b * b
        x3, z3 = (da + cb) ** 2 % P255, u * (da - cb) ** 2 % P255
        x2, z2 = a * a * b * b % P255, e * (a * a + 121665 * e) % P255
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return x2 * pow(z2, P255 - 2, P255) % P255


def x25519(private: bytes, public: bytes) -> bytes:
    scalar = int.from_bytes(private, "little") % 2**255 // 8 * 8 | 2**254
    u = int.from_bytes(public, "little") % 2**255 % P255
    return ladder(scalar, u).to_bytes(32, "little")


def x25519_public(private: bytes) -> bytes:
    return x25519(private, (9).to_bytes(32, "little"))


# --- ML-KEM-768: FIPS 203 -----------------------------------------------------------------

Q = 3329
GAMMAS = [pow(17, 2 * int(f"{i:07b}"[::-1], 2) + 1, Q) for i in range(128)]
Poly = list[int]


def ntt(f: Poly) -> Poly:
    """By definition: the remainders of f modulo X^2 - gamma, for the 128 gammas."""
    halves = [
        [sum(c * pow(g, k, Q) for k, c in enumerate(f[h::2])) % Q for h in (0, 1)] for g in GAMMAS
    ]
    return [c for pair in halves for c in pair]


def inverse_ntt(f: Poly) -> Poly:
    out = []
    for k in range(128):
        powers = [pow(g, -k, Q) for g in GAMMAS]
        out += [sum(p * c for p, c in zip(powers, f[h::2], strict=True)) * 3303 % Q for h in (0, 1)]
    return out


def ntt_product(f: Poly, g: Poly) -> Poly:
    out = []
    for i, gamma in enumerate(GAMMAS):
        (a, b), (c, d) = f[2 * i : 2 * i + 2], g[2 * i : 2 * i + 2]
        out += [(a * c + b * d * gamma) % Q, (a * d + b * c) % Q]
    return out


def add(*polys: Poly) -> Poly:
    return [sum(column) % Q for column in zip(*polys, strict=True)]


def sample_ntt(seed: bytes) -> Poly:
    """Algorithm 7."""
    raw = hashlib.shake_128(seed).digest(1800)
    out: Poly = []
    for i in range(0, len(raw), 3):
        both = int.from_bytes(raw[i : i + 3], "little")
        out += [d for d in (both % 4096, both >> 12) if d < Q]
    return out[:256]


def sample_noise(seed: bytes, n: int) -> Poly:
    """Algorithm 8 with eta = 2 on PRF(seed, n)."""
    whole = int.from_bytes(hashlib.shake_256(seed + bytes([n])).digest(128), "little")
    nibbles = [whole >> 4 * i & 15 for i in range(256)]
    return [((v & 1) + (v >> 1 & 1) - (v >> 2 & 1) - (v >> 3)) % Q for v in nibbles]


def pack_bits(values: Poly, d: int) -> bytes:
    return sum(v << d * i for i, v in enumerate(values)).to_bytes(32 * d, "little")


def unpack_bits(raw: bytes, d: int) -> Poly:
    whole = int.from_bytes(raw, "little")
    return [whole >> d * i & 2**d - 1 for i in range(256)]


def compress(values: Poly, d: int) -> Poly:
    return [(v * 2 ** (d + 1) + Q) // (2 * Q) % 2**d for v in values]


def matrix(rho: bytes) -> list[list[Poly]]:
    return [[sample_ntt(rho + bytes([j, i])) for j in range(3)] for i in range(3)]


def mlkem_public(seed: bytes) -> bytes:
    """K-PKE.KeyGen (algorithm 13) of d, the first half of the 64-byte seed."""
    g = hashlib.sha3_512(seed[:32] + bytes([3])).digest()
    rho, sigma = g[:32], g[32:]
    s, e = ([ntt(sample_noise(sigma, n)) for n in part] for part in (range(3), range(3, 6)))
    rows = matrix(rho)
    t = [add(e[i], *(ntt_product(rows[i][j], s[j]) for j in range(3))) for i in range(3)]
    return b"".join(pack_bits(p, 12) for p in t) + rho


def mlkem_encapsulate(public: bytes, coins: bytes) -> tuple[bytes, bytes]:
    """ML-KEM.Encaps_internal (algorithm 17): shared secret and ciphertext."""
    g = hashlib.sha3_512(coins + hashlib.sha3_256(public).digest()).digest()
    shared, r = g[:32], g[32:]
    t = [unpack_bits(public[384 * i : 384 * (i + 1)], 12) for i in range(3)]
    rows = matrix(public[1152:])
    y = [ntt(sample_noise(r, n)) for n in range(3)]
    products = [add(*(ntt_product(rows[j][i], y[j]) for j in range(3))) for i in range(3)]
    u = [add(inverse_ntt(products[i]), sample_noise(r, 3 + i)) for i in range(3)]
    message = [bit * 1665 for bit in unpack_bits(coins, 1)]
    inner = add(*(ntt_product(t[i], y[i]) for i in range(3)))
    v = add(inverse_ntt(inner), sample_noise(r, 6), message)
    return shared, b"".join(pack_bits(compress(p, 10), 10) for p in u) + pack_bits(
        compress(v, 4), 4
    )


# --- HPKE, base mode: RFC 9180; the hybrid KEM: X-Wing ------------------------------------


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
    trimmed = [{k: v for k, v in s.items() if k not in ("public", "plaintext")} for s in sealings]
    return [
        refused("key", "DecodeError", message, suite=suite, why=why, raw=raw.hex())
        for suite, why, raw, message in keys
    ] + [s | {"error": "DecodeError", "message": no_open} for s in trimmed]


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
        "negative": seal_refusals(first),
    }


GENERATORS: dict[str, Callable[[], Vectors]] = {
    "context": context_vectors,
    "encoding": encoding_vectors,
    "kdf": kdf_vectors,
    "merkle": merkle_vectors,
    "seal": seal_vectors,
    "shamir": shamir_vectors,
}


def text(name: str) -> str:
    """The file's content, byte for byte."""
    return json.dumps(GENERATORS[name](), indent=1) + "\n"


if __name__ == "__main__":
    for each in GENERATORS:
        (FOLDER / f"{each}.json").write_text(text(each), "utf-8")
