"""Vectors of whole rounds: from seeds to bytes to the sum, or to an abort with its blame."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.reference.client import Client, Seeds
from tests.reference.errors import Refusal
from tests.reference.labels import sha256
from tests.reference.seal import encapsulate_with
from tests.reference.server import Server
from tests.reference.session import Member, Parameters, private_key
from tests.reference.wire import FIELDS, Message, decode
from tests.vectors.files import Vectors, load
from tests.vectors.play import (
    Played,
    Script,
    Tamper,
    play,
    played_to_json,
    script_to_json,
    session_of,
)

X, HYBRID = "X25519", "MLKEM768-X25519"


class Case(NamedTuple):
    """A round to be played; clients in `dishonest` are of that class."""

    script: Script
    tamper: Tamper = MappingProxyType({})
    dishonest: Mapping[int, type[Client]] = MappingProxyType({})


def script(name: str, parameters: Parameters, **rest: Any) -> Script:
    """A round whose every secret follows from its name."""
    parameters.check()
    n, bits = parameters.clients, parameters.modulus_bits

    def drawn(*what: object) -> bytes:
        return sha256("/".join(map(str, (name, *what))).encode())

    schemes = rest.pop("schemes", ("Ed25519",))
    seeds = {u: drawn("identity", u) for u in range(1, n + 1)} if parameters.active else {}
    members = [
        Member(f"site {u}", scheme, private_key(scheme, seed).public_key().public_bytes_raw())
        for u, seed in seeds.items()
        for scheme in [schemes[u % len(schemes)]]
    ]
    return Script(
        name,
        session_of(parameters, int.from_bytes(drawn("session"), "big"), members),
        drawn("application"),
        drawn("graph"),
        {u: Seeds(*(drawn(u, what) for what in Seeds._fields)) for u in range(1, n + 1)},
        {
            u: [int.from_bytes(drawn(u, i)[:8], "big") % 2**bits for i in range(parameters.length)]
            for u in range(1, n + 1)
        },
        seeds,
        **rest,
    )


def complete(n: int, t: int, **changes: Any) -> Parameters:
    given = {
        "clients": n,
        "floor": t,
        "length": 5,
        "modulus_bits": 16,
        "threshold": t,
        "degree": n - 1,
        "suite": X,
        "adversary": "semi-honest",
        "corrupt": 0,
        "chunk": 2**22,
    }
    return Parameters(**(given | changes))


def active(n: int, t: int, **changes: Any) -> Parameters:
    return complete(n, t, **({"adversary": "active"} | changes))


# --- what a dishonest client does -----------------------------------------------------------


def edited(tag: str, **changes: Callable[[Any], Any]) -> Callable[[list[bytes]], list[bytes]]:
    """The last message sent with these fields changed."""

    def change(sent: list[bytes]) -> list[bytes]:
        message = decode(sent[-1], [tag])
        fields = message.fields | {name: to(message.fields[name]) for name, to in changes.items()}
        return [*sent[:-1], Message(tag, message.context, **fields).encoded()]

    return change


def flip(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]


class WrongPolynomial(Client):
    """Deals shares whose first limb is off for every second holder, with their fingerprints."""

    def _dealt(self, points: list[int], context1: bytes) -> dict[int, list[bytes]]:
        dealt = super()._dealt(points, context1)
        for v in points[1::2]:
            dealt[v] = [_nudged(share) for share in dealt[v]]
        return dealt


class OtherSeeds(Client):
    """Deals shares of other seeds than those that it commits to and masks with."""

    def _dealt(self, points: list[int], context1: bytes) -> dict[int, list[bytes]]:
        kept = self.seeds
        self.seeds = kept._replace(mask=flip(kept.mask), own=flip(kept.own))
        dealt = super()._dealt(points, context1)
        self.seeds = kept
        return dealt


class NoShares(Client):
    """Deals shares with a limb that is not below the prime."""

    def _dealt(self, points: list[int], context1: bytes) -> dict[int, list[bytes]]:
        return {v: [b"\xff" * 36] * 2 for v in super()._dealt(points, context1)}


class TooLarge(Client):
    """Deals shares whose last limb has more than 16 bits."""

    def _dealt(self, points: list[int], context1: bytes) -> dict[int, list[bytes]]:
        dealt = super()._dealt(points, context1)
        return {v: [_raised(share) for share in shares] for v, shares in dealt.items()}


def _raised(share: bytes) -> bytes:
    word = int.from_bytes(share[32:], "little")
    return share[:32] + ((word + 2**20) % (2**31 - 1)).to_bytes(4, "little")


def _nudged(share: bytes) -> bytes:
    word = int.from_bytes(share[:4], "little")
    return ((word + 2**29) % (2**31 - 1)).to_bytes(4, "little") + share[4:]


# --- the rounds ------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    yield from _semi_honest()
    yield from _active()
    yield from _graphs()
    yield from _aborts()


def _semi_honest() -> Iterator[Case]:
    yield Case(script("two clients", complete(2, 2)))
    yield Case(script("three of three", complete(3, 3)))
    for stage in ("advertise", "share", "upload", "unmask"):
        yield Case(script(f"gone at {stage}", complete(5, 3), absent={2: stage}))
    gone = {1: "advertise", 3: "share", 5: "upload", 7: "unmask"}
    yield Case(script("gone everywhere", complete(8, 3, corrupt=1), absent=gone))
    yield Case(script("lower end gone", complete(4, 2), absent={1: "upload"}))
    yield Case(script("higher end gone", complete(4, 2), absent={4: "upload"}))
    yield Case(script("both ends gone", complete(5, 2), absent={2: "upload", 4: "upload"}))
    for bits in (1, 7, 32, 33, 64):
        name = f"{bits} bits"
        yield Case(script(name, complete(3, 2, modulus_bits=bits), absent={2: "upload"}))
    yield Case(script("in pieces", complete(4, 3, length=30, chunk=8), absent={3: "upload"}))
    yield Case(script("piece of one", complete(3, 2, length=12, modulus_bits=32, chunk=8)))
    yield Case(script("hybrid", complete(4, 3, suite=HYBRID), absent={2: "upload"}))


def _active() -> Iterator[Case]:
    yield Case(script("active", active(4, 3, corrupt=1)))
    for stage in ("advertise", "share", "upload", "consistency", "unmask"):
        yield Case(script(f"active, gone at {stage}", active(5, 3), absent={2: stage}))
    gone = {2: "share", 5: "upload", 6: "consistency"}
    yield Case(script("active, gone everywhere", active(9, 6, corrupt=2), absent=gone))
    yield Case(script("active, nine bits of survivors", active(9, 5), absent={8: "upload"}))
    yield Case(script("active, floor above", active(6, 4, floor=5), absent={1: "upload"}))
    both = ("Ed25519", "ML-DSA-65")
    yield Case(script("active, mixed roster", active(4, 3), schemes=both, absent={2: "upload"}))
    yield Case(script("active, hybrid", active(4, 3, suite=HYBRID), absent={1: "upload"}))


def _graphs() -> Iterator[Case]:
    four = complete(9, 4, degree=4, floor=7)
    yield Case(script("degree 4", four))
    yield Case(script("degree 4, one gone", four, absent={4: "upload"}))
    yield Case(script("degree 4, two gone", four, absent={4: "upload", 9: "share"}))
    six = complete(12, 4, degree=6, floor=10)
    yield Case(script("degree 6", six, absent={3: "advertise", 8: "upload"}))
    yield Case(script("degree 2", complete(6, 2, degree=2, floor=6)))


def _aborts() -> Iterator[Case]:
    yield from _too_few()
    five = complete(5, 3)
    wrong_share = edited("unmask-answer", self_shares=flip)
    yield Case(script("a bad share is left out", five), {(1, "unmask"): wrong_share})
    yield Case(
        script("too few good shares", five, absent={4: "unmask", 5: "unmask"}),
        {(1, "unmask"): wrong_share},
    )
    yield Case(
        script("a bad mask share is left out", five, absent={3: "upload"}),
        {(1, "unmask"): edited("unmask-answer", mask_shares=flip)},
    )
    for kind in ("mask", "self"):
        yield Case(
            script(f"false {kind} commitment", five, absent={3: "upload"}),
            {
                (3 if kind == "mask" else 2, "share"): edited(
                    "shares", **{f"{kind}_commitment": flip}
                )
            },
        )
    upload = "upload"
    yield Case(script("another input", five), {(2, upload): edited("upload", packed=flip)})
    yield Case(
        script("wrong mask", five),
        {(2, upload): edited("upload", packed=lambda raw: raw[:-1] + flip(raw[-1:]))},
    )
    yield Case(
        script("wrong link", five, absent={5: upload}),
        {(2, upload): edited("upload", links=lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))},
    )
    yield Case(
        script("a link nobody needs is wrong", five), {(2, upload): edited("upload", links=flip)}
    )
    yield Case(script("not a polynomial", five), {}, {2: WrongPolynomial})
    yield Case(
        script("not a polynomial of a mask", five, absent={2: upload}), {}, {2: WrongPolynomial}
    )
    yield Case(script("shares of another seed", five), {}, {4: OtherSeeds})
    yield Case(script("shares of no seed", five), {}, {4: TooLarge})
    yield Case(script("mask shares of no seed", five, absent={4: upload}), {}, {4: TooLarge})
    yield Case(script("limbs that are no limbs", complete(5, 2)), {}, {5: NoShares})
    garbage = edited("shares", sealed=lambda all_: [all_[0], *(bytes(len(s)) for s in all_[1:])])
    yield Case(script("garbage ejects neighbours", complete(5, 2)), {(1, "share"): garbage})
    yield Case(script("active, garbage", active(5, 3)), {(1, "share"): garbage})
    sign = edited("confirmation", signature=flip)
    yield Case(script("active, one signature bad", active(5, 3)), {(2, "consistency"): sign})


def _too_few() -> Iterator[Case]:
    for stage in ("advertise", "share", "upload", "unmask"):
        gone = {u: stage for u in (1, 2, 4)}
        yield Case(script(f"too few at {stage}", complete(5, 3), absent=gone))
    gone = {u: "consistency" for u in (1, 2, 4)}
    yield Case(script("active, too few at consistency", active(5, 3), absent=gone))
    gone = {u: "unmask" for u in (1, 2, 4)}
    yield Case(script("active, too few at unmask", active(5, 3), absent=gone))
    four = complete(9, 4, degree=4, floor=7)
    yield Case(script("pruned below the floor", four, absent={1: "share", 2: "share"}))


# --- playing them ------------------------------------------------------------------------------


def encapsulate_with_coins(public: bytes, info: bytes) -> tuple[bytes, bytes]:
    """With coins that follow from what is sealed, so that vectors can be made again."""
    coins = hashlib.shake_256(b"coins" + public + info).digest(32)
    return encapsulate_with(coins)(public, info)


def signer(of: Script, u: int, earlier: Vectors | None) -> Callable[[bytes], bytes] | None:
    """ML-DSA-65 is hedged: a signature that was published and still holds is kept."""
    if not of.session.members:
        return None
    member = of.session.members[u - 1]
    key = private_key(member.scheme, of.identities[u])
    known = [] if earlier is None or member.scheme == "Ed25519" else _signatures(earlier, u)

    def sign(message: bytes) -> bytes:
        for signature in known:
            try:
                member.verify(signature, message)
            except Refusal:
                continue
            return signature
        return key.sign(message)

    return sign


def _signatures(earlier: Vectors, u: int) -> list[bytes]:
    tags = {"advertise": "advert", "consistency": "confirmation"}
    return [
        decode(bytes.fromhex(data), [tags[stage]]).signature
        for sender, _, stage, data in earlier["transcript"]
        if sender == u and stage in tags
    ]


def parties(case: Case, earlier: Vectors | None = None) -> tuple[dict[int, Client], Server]:
    of = case.script
    clients = {
        u: case.dishonest.get(u, Client)(
            of.session,
            u,
            of.seeds[u],
            of.application,
            of.values[u],
            sign=signer(of, u, earlier),
            encapsulate=encapsulate_with_coins,
        )
        for u in of.seeds
    }
    return clients, Server(of.session, of.graph_seed, of.application)


def played(case: Case, earlier: Vectors | None = None) -> Played:
    clients, server = parties(case, earlier)
    return play(case.script, clients, server, case.tamper)


def published() -> dict[str, Vectors]:
    """The rounds of the file, by name."""
    try:
        return {each["name"]: each for each in load("rounds")["rounds"]}
    except (FileNotFoundError, KeyError):
        return {}


def round_vectors() -> Vectors:
    earlier = published()
    rounds = []
    for case in cases():
        happened = played(case, earlier.get(case.script.name))
        dishonest = sorted({u for u, _ in case.tamper} | set(case.dishonest))
        context1 = decode(happened.transcript[-1].data, FIELDS).context.hex()
        rounds.append(
            script_to_json(case.script)
            | {"dishonest": dishonest, "last_context": context1}
            | played_to_json(happened)
        )
    return {"rounds": rounds}
