"""Vectors of labels, contexts and Merkle trees."""

from typing import Any

from tests.reference.labels import (
    Part,
    derive,
    digest,
    hkdf_expand,
    hkdf_extract,
    label,
    sha256,
)
from tests.reference.merkle import merkle_hash, merkle_path, merkle_root
from tests.reference.session import (
    application_digest,
    bound_context,
    cohort_context,
    roster_digest,
)
from tests.vectors.files import Vectors, error, load, refused

__all__ = [
    "Part",
    "context_arguments",
    "context_vectors",
    "derive",
    "error",
    "from_json",
    "hkdf_expand",
    "hkdf_extract",
    "kdf_vectors",
    "load",
    "merkle_hash",
    "merkle_leaves",
    "merkle_path",
    "merkle_root",
    "merkle_vectors",
    "sha256",
]


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
            refused("label", "LocalError", "part of a label", parts=[{"int": -1}]),
            refused("label", "LocalError", "part of a label", parts=[{"int": 2**64}]),
            refused("label", "LocalError", "part of a label", parts=[{"str": "\ud800"}]),
            refused("label", "LocalError", "no part of", parts=[{"int": None}]),
            refused("label", "LocalError", "no part of", parts=[{"int": 1.5}]),
            refused("derive", "LocalError", "8160", length=8161),
            refused("derive", "LocalError", "8160", length=-1),
        ],
    }


# --- Merkle trees ------------------------------------------------------------------------


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
            merkle_case(5, 0) | {"why": "index below zero, the first path", "index": -1},
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
    "cohort_context": {"context0": "33" * 32, "graph_seed": "55" * 32, "adverts": "66" * 32},
    "bound_context": {"context1": "33" * 32, "application": "44" * 32},
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
    ("cohort_context", {"context0": "55" * 32, "graph_seed": "33" * 32}),
    ("cohort_context", {"graph_seed": "66" * 32, "adverts": "55" * 32}),
    ("bound_context", {"context1": "44" * 32, "application": "33" * 32}),
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
        return application_digest(given["arrays"], given["configuration"])
    if call == "roster_digest":
        return roster_digest(given["names"])
    if call == "cohort_context":
        return cohort_context(*given.values())
    if call == "bound_context":
        return bound_context(*given.values())
    return digest("context0", *given.values())


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
                "roster_digest", "LocalError", "part of a label", arguments={"names": ["\ud800"]}
            ),
            refused("roster_digest", "LocalError", "no part of", arguments={"names": [None]}),
            refused(
                "session_context",
                "LocalError",
                "part of a label",
                arguments=CONTEXTS["session_context"] | {"protocol": "\udfff"},
            ),
            *(
                refused(
                    "application_digest",
                    "LocalError",
                    message,
                    arguments={
                        "arrays": [[array[0], array[1], shape, array[3]]],
                        "configuration": "",
                    },
                )
                for shape, message in (
                    ([-1], "part of a label"),
                    ([2**64], "part of a label"),
                    ([1.5], "no part of"),
                    ([None], "no part of"),
                )
            ),
        ],
    }
