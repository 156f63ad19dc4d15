"""Vectors of Shamir shares and fixed point."""

import math

from tests.reference.fixed import encode_values, modulus_bits
from tests.reference.labels import sha256
from tests.reference.shamir import (
    P31,
    lagrange_at_zero,
    polynomials,
    shamir_deal,
    shamir_limbs,
    split_secret,
    uniform_elements,
)
from tests.reference.streams import ctr_words
from tests.vectors.files import Vectors, error, load, refused

__all__ = [
    "P31",
    "REJECTING",
    "ctr_words",
    "encoding_vectors",
    "error",
    "lagrange_at_zero",
    "load",
    "modulus_bits",
    "polynomials",
    "sha256",
    "shamir_deal",
    "shamir_limbs",
    "shamir_vectors",
    "split_secret",
    "uniform_elements",
]

# --- Shamir's secret sharing --------------------------------------------------------------

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


def fixed_refusals() -> list[Vectors]:
    base = {"bits": 8, "clip": (1.0).hex(), "max_weight": 10, "max_clients": 5}
    fill = {"modulus_bits": 32, "clip": (1.0).hex(), "max_weight": 10, "max_clients": 5}
    return [
        refused("fixed", "ParameterError", "choose 1 to 32", **base | {"bits": 0}),
        refused("fixed", "ParameterError", "choose 1 to 32", **base | {"bits": 33}),
        *(
            refused("fixed", "ParameterError", "positive finite range", **base | {"clip": clip})
            for clip in ("0x0p+0", "-0x1p+0", "nan", "inf", "0x1p-1070", "0x1p+1023")
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
        refused("decode", "LocalError", "beyond what the weights", total=[256, 1]),
        refused("decode", "LocalError", "at least one value", total=[5]),
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
