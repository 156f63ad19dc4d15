"""Vectors of what masking derives, of graphs, rosters and parameters."""

from typing import Any

from tests.reference import derivations as d
from tests.reference.errors import Decode, Parameter
from tests.reference.graph import graph_of, ring
from tests.reference.labels import sha256, xor
from tests.reference.seal import SEED, KeyPair
from tests.reference.session import Member, Parameters, identity_digest, private_key
from tests.vectors.files import Vectors, refused

CONTEXT0, CONTEXT1, CONTEXT2 = (sha256(b"context%d" % i) for i in range(3))


def secret(name: str) -> bytes:
    return sha256(name.encode())


# --- masking -----------------------------------------------------------------------------


def masking_vectors() -> Vectors:
    """Each has the call, its arguments in order (bytes in hexadecimal), and the answer."""
    m, b, coins = secret("m"), secret("b"), secret("coins")
    calls: list[tuple[str, list[Any], bytes]] = []
    for suite in SEED:
        seed = d.channel_seed(secret("channel"), CONTEXT0, 3, SEED[suite])
        pair = KeyPair(suite, seed)
        calls.append(("channel_key", [suite, secret("channel"), CONTEXT0, 3], pair.public))
    for u, v in ((1, 2), (2, 1), (7, 2**31 - 2)):
        edge = d.edge(m, CONTEXT1, u, v)
        calls += [
            ("edge", [m, CONTEXT1, u, v], edge),
            ("link", [edge, b], xor(edge, b)),
            ("shares_info", [CONTEXT1, u, v], d.shares_info(CONTEXT1, u, v)),
        ]
    for low, high in ((1, 2), (3, 7)):
        stream = d.pair_stream(m, CONTEXT2, low, high)
        calls.append(("pair_stream", [m, CONTEXT2, low, high], stream))
    for u in (1, 9):
        calls += [
            ("self_stream", [b, CONTEXT2, u], d.self_stream(b, CONTEXT2, u)),
            ("mask_commitment", [m, CONTEXT1, u], d.commitment("mask", m, CONTEXT1, u)),
            ("self_commitment", [b, CONTEXT1, u], d.commitment("self", b, CONTEXT1, u)),
        ]
    calls.append(("coins_stream", [coins, CONTEXT1], d.coins_stream(coins, CONTEXT1)))
    share = bytes(range(36))
    for kind in ("mask", "self"):
        for dealer, holder in ((1, 2), (2, 1), (2, 2)):
            print_ = d.fingerprint(kind, CONTEXT1, dealer, holder, share)
            calls.append(("fingerprint", [kind, CONTEXT1, dealer, holder, share], print_))
    advert = [4, secret("nonce"), secret("key"), b""]
    bitmap = d.bitmap_of([1, 3, 9], 9)
    calls += [
        ("signed_advert", [CONTEXT0, *advert[:3]], d.signed_advert(CONTEXT0, advert)),
        ("signed_survivors", [CONTEXT2, bitmap], d.signed_survivors(CONTEXT2, bitmap)),
        ("leaf", [*advert[:3], b""], d.leaf(advert)),
        ("leaf", [*advert[:3], bytes(64)], d.leaf([*advert[:3], bytes(64)])),
    ]
    sets = [([1], 1), ([], 8), ([1, 8], 8), ([9], 9), ([1, 3, 9], 9), (range(1, 17), 16)]
    wrong = [(b"", 1), (b"\x01\x00", 8), (b"\x02", 1), (b"\xff\x02", 9), (b"\xff\xff", 15)]
    return {
        "derived": [
            {"call": c, "arguments": [_hex(a) for a in args], "answer": out.hex()}
            for c, args, out in calls
        ],
        "bitmap": [
            {"members": list(of), "clients": n, "bitmap": d.bitmap_of(of, n).hex()}
            for of, n in sets
        ],
        "negative": [_refused_bitmap(raw, n) for raw, n in wrong],
    }


def _refused_bitmap(raw: bytes, clients: int) -> Vectors:
    try:
        d.members_of(raw, clients)
    except Decode as error:
        return refused("bitmap", error.name, error.reason, bitmap=raw.hex(), clients=clients)
    raise AssertionError(raw)


def _hex(value: Any) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


# --- graphs ------------------------------------------------------------------------------


def graph_vectors() -> Vectors:
    cases = [(2, 1), (3, 2), (4, 2), (6, 4), (9, 4), (16, 6), (33, 12), (33, 32)]
    return {
        "graph": [
            {
                "clients": n,
                "degree": g,
                "seed": secret(f"graph {n}").hex(),
                "ring": ring(n, secret(f"graph {n}")),
                "neighbours": [graph_of(n, g, secret(f"graph {n}"))[v] for v in range(1, n + 1)],
            }
            for n, g in cases
        ],
        "negative": [
            refused("graph", "ParameterError", "odd", clients=8, degree=3, seed="00" * 32),
            refused("graph", "ParameterError", "degree", clients=8, degree=0, seed="00" * 32),
            refused("graph", "ParameterError", "degree", clients=8, degree=8, seed="00" * 32),
            refused(
                "graph", "ParameterError", "a graph has 2", clients=1, degree=1, seed="00" * 32
            ),
            refused("graph", "LocalError", "32 bytes", clients=8, degree=4, seed="00" * 31),
        ],
    }


# --- parameters --------------------------------------------------------------------------

GOOD = Parameters(4, 3, 5, 16, 3, 3, "X25519", "semi-honest", 1, 2**22)
ACTIVE = Parameters(7, 5, 5, 16, 5, 6, "MLKEM768-X25519", "active", 2, 2**22)
SPARSE = Parameters(100, 90, 1000, 32, 26, 40, "X25519", "semi-honest", 5, 2**22)


def parameter_vectors() -> Vectors:
    good = [
        GOOD,
        _with(GOOD, threshold=2, corrupt=1),
        _with(GOOD, clients=2, floor=2, threshold=2, degree=1, corrupt=0, length=1),
        _with(GOOD, modulus_bits=1),
        _with(GOOD, modulus_bits=64, chunk=8),
        _with(GOOD, suite="MLKEM768-X25519", length=2**32),
        ACTIVE,
        _with(ACTIVE, corrupt=0, threshold=4, floor=4),
        _with(ACTIVE, clients=256, degree=255, threshold=130, floor=200),
        SPARSE,
        _with(SPARSE, floor=95, corrupt=0),
    ]
    return {
        "good": [{"parameters": vars(p), "encoded": _checked(p).encoded().hex()} for p in good],
        "negative": [_refused_parameters(p) for p in _bad_parameters()],
    }


def _bad_parameters() -> list[Parameters]:
    changes: list[tuple[Parameters, dict[str, Any]]] = [
        *((GOOD, {"clients": n, "floor": 2}) for n in (0, 1)),
        (GOOD, {"floor": 5}),
        (GOOD, {"floor": 1}),
        (GOOD, {"length": 0}),
        *((GOOD, {"modulus_bits": k}) for k in (0, 65)),
        *((GOOD, {"chunk": k}) for k in (0, 7, 12)),
        (GOOD, {"suite": "x25519"}),
        (GOOD, {"adversary": "malicious"}),
        *((GOOD, {"corrupt": c}) for c in (-1, 2)),
        *((GOOD, {"degree": g}) for g in (0, 1, 4)),
        *((GOOD, {"threshold": t}) for t in (1, 5)),
        (GOOD, {"threshold": 4}),
        (_with(GOOD, clients=9, degree=8, floor=6, corrupt=4), {"threshold": 4}),
        (ACTIVE, {"degree": 4, "threshold": 5}),
        *((ACTIVE, {"threshold": t}) for t in (3, 4)),
        (ACTIVE, {"threshold": 6}),
        (ACTIVE, {"clients": 8, "degree": 7}),
        (SPARSE, {"threshold": 5}),
        (SPARSE, {"floor": 50}),
        (SPARSE, {"degree": 4, "threshold": 3}),
        (GOOD, {"clients": 3000, "degree": 2999, "floor": 2000, "threshold": 1501}),
        (
            _with(GOOD, suite="MLKEM768-X25519"),
            {"clients": 700, "degree": 699, "floor": 400, "threshold": 351},
        ),
    ]
    return [_with(base, **change) for base, change in changes]


def _with(base: Parameters, **changes: Any) -> Parameters:
    return Parameters(**(vars(base) | changes))


def _checked(parameters: Parameters) -> Parameters:
    parameters.check()
    return parameters


def _refused_parameters(parameters: Parameters) -> Vectors:
    try:
        parameters.check()
    except Parameter as error:
        return refused("parameters", error.name, error.reason, parameters=vars(parameters))
    raise AssertionError(parameters)


# --- rosters and signatures --------------------------------------------------------------


def member(name: str, scheme: str = "Ed25519", expires: str = "") -> Member:
    key = private_key(scheme, secret(f"identity of {name}")).public_key().public_bytes_raw()
    return Member(name, scheme, key, expires)


def _member_json(m: Member) -> Vectors:
    return {"name": m.name, "scheme": m.scheme, "key": m.key.hex(), "expires": m.expires}


def identity_vectors() -> Vectors:
    one, two = member("north"), member("süd", expires="2030-12-31")
    three = member("west", "ML-DSA-65")
    rosters = [[one], [one, two], [two, one], [one, two, three], [member("south"), one]]
    message = d.signed_survivors(CONTEXT1, b"\x07")
    signed = private_key("Ed25519", secret("identity of north")).sign(message)
    flipped = bytes([signed[0] ^ 1]) + signed[1:]
    wrong = [
        ("another message", one, signed, message + b"\0"),
        ("another key", two, signed, message),
        ("a changed signature", one, flipped, message),
        ("a short signature", one, signed[:-1], message),
        ("an empty signature", one, b"", message),
        ("another scheme", three, signed, message),
    ]
    small = [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 1 + 2**255]
    keys = [("of small order or not canonical", u.to_bytes(32, "little")) for u in small]
    keys += [
        ("not on the curve", (2).to_bytes(32, "little")),
        ("not canonical, not of small order", (2**255 - 19 + 3).to_bytes(32, "little")),
    ]
    keys += [("too short", one.key[1:]), ("too long", one.key + b"\0"), ("empty", b"")]
    bad_names = ["", " padded", "no\u00a0break", "tab\t", "e\u0301", "x" * 101]
    return {
        "roster": [
            {"members": [_member_json(m) for m in of], "digest": identity_digest(of).hex()}
            for of in rosters
        ],
        "signature": [
            {"member": _member_json(one), "message": message.hex(), "signature": signed.hex()}
        ],
        "negative": [
            *(
                refused(
                    "signature",
                    "DecodeError",
                    "does not verify",
                    why=why,
                    member=_member_json(who),
                    signature=raw.hex(),
                    said=said.hex(),
                )
                for why, who, raw, said in wrong
            ),
            *(
                refused("key", "DecodeError", "Ed25519 public key", why=why, key=raw.hex())
                for why, raw in keys
            ),
            *(
                refused("member", "ParameterError", "name", member=_member_json(one) | {"name": n})
                for n in bad_names
            ),
            *(
                refused(
                    "member", "ParameterError", "day", member=_member_json(one) | {"expires": e}
                )
                for e in ("2030-02-30", "2030-2-3", "20301231", "2030-W01-1", "tomorrow")
            ),
            refused("roster", "ParameterError", "empty", members=[]),
            refused(
                "roster", "ParameterError", "twice", members=[_member_json(m) for m in (one, one)]
            ),
            refused(
                "roster",
                "ParameterError",
                "has the key of",
                members=[_member_json(one), _member_json(one) | {"name": "other"}],
            ),
        ],
    }
