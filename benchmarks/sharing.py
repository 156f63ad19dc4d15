"""Shamir's sharing, sealing and signatures: what a client does for every neighbour.

The peers' secrets are what their libraries take: pycryptodome shares 16 bytes over GF(2^128),
so two of its secrets make one of 32 bytes; Flower pads to 48 bytes, three of pycryptodome's.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.masks import streams_of
from benchmarks.measure import DifferentResultsError, Line, timed
from secagg import kdf, seal, shamir
from secagg.errors import DecodeError
from secagg.rng import SystemSource
from secagg.signing import ED25519, Claim, Identity, verify_all

Shares = Sequence[Sequence[bytes]]


def deal(holders: int, threshold: int, secrets: int = 2) -> Line:
    """Shares of `secrets` 32-byte secrets for `holders`."""
    values = [os.urandom(32) for _ in range(secrets)]
    points, (coins,) = range(1, holders + 1), streams_of(1)

    def check() -> None:
        of_point = shamir.deal(values, points, threshold, coins)
        chosen = [[of[s] for of in of_point[-threshold:]] for s in range(secrets)]
        _expect(values, shamir.reconstruct(points[-threshold:], chosen))
        for split, combine in _peers().values():
            _expect(values, [combine(split(v, threshold, holders)[-threshold:]) for v in values])

    return Line(
        "Shamir, deal",
        {"holders": holders, "threshold": threshold, "secrets": secrets},
        timed(lambda: shamir.deal(values, points, threshold, coins)),
        check,
        peers={
            name: timed(lambda split=split: [split(v, threshold, holders) for v in values])
            for name, (split, _) in _peers().items()
        },
    )


def reconstruct(holders: int, threshold: int, secrets: int, *, peers: bool = True) -> Line:
    """`secrets` secrets whose shares came from the same holders; peers take half a second each."""
    values = [os.urandom(32) for _ in range(secrets)]
    points, (coins,) = range(1, holders + 1)[-threshold:], streams_of(1)
    of_point = shamir.deal(values, range(1, holders + 1), threshold, coins)[-threshold:]
    shares = [[of[s] for of in of_point] for s in range(secrets)]
    theirs = {
        name: [split(value, threshold, holders)[-threshold:] for value in values]
        for name, (split, _) in _peers().items()
        if peers
    }

    def combined(name: str) -> list[bytes]:
        return [_peers()[name][1](of) for of in theirs[name]]

    def check() -> None:
        _expect(values, shamir.reconstruct(points, shares))
        for name in theirs:
            _expect(values, combined(name))

    return Line(
        f"Shamir, reconstruct {secrets}",
        {"threshold": threshold, "secrets": secrets},
        timed(lambda: shamir.reconstruct(points, shares)),
        check,
        peers={name: timed(lambda name=name: combined(name)) for name in theirs},
    )


def sealing(name: str, neighbours: int) -> Line:
    """What a client seals for its neighbours and opens from them; HPKE, one after the other."""
    suite, sealer = seal.suite(name), seal.SystemSealer()
    own, *others = (suite.key_pair(os.urandom(suite.seed_bytes)) for _ in range(1 + neighbours))
    bodies = [os.urandom(104) for _ in others]
    infos = kdf.labels("benchmark", np.arange(neighbours))
    agreed = [other.agree(own.public) for other in others]
    received = seal.seal_each([own.public] * neighbours, agreed, bodies, infos, sealer)
    by_hpke = [own.public.seal(body, b"benchmark") for body in bodies]

    def ours() -> list[bytes | None]:
        secrets = own.agree_each([other.public for other in others])
        seal.seal_each([other.public for other in others], secrets, bodies, infos, sealer)
        return seal.open_each(own, secrets, received, infos)

    def hpke() -> list[bytes]:
        for other, body in zip(others, bodies, strict=True):
            other.public.seal(body, b"benchmark")
        return [own.open(each, b"benchmark") for each in by_hpke]

    def check() -> None:
        _expect(bodies, ours())
        _expect(bodies, hpke())

    return Line(
        f"seal and open, {name}",
        {"neighbours": neighbours, "ciphertext_bytes": len(received[0])},
        timed(ours),
        check,
        peers={"HPKE": timed(hpke)},
    )


def verify(count: int) -> Line:
    """As many signatures by different members, who are known from earlier rounds."""
    signers = [Identity.draw(ED25519, SystemSource()) for _ in range(count)]
    messages = [os.urandom(100) for _ in signers]
    claims = [
        Claim(f"claim {place}", signer.public, signer.sign(message), message)
        for place, (signer, message) in enumerate(zip(signers, messages, strict=True))
    ]
    handles = [Ed25519PublicKey.from_public_bytes(claim.public.raw) for claim in claims]

    def theirs() -> None:
        for handle, claim in zip(handles, claims, strict=True):
            handle.verify(claim.signature, claim.message)

    def check() -> None:
        verify_all(claims)
        theirs()
        for place, claim in enumerate(claims):
            _refuses([*claims[:place], claim._replace(message=b""), *claims[place + 1 :]], place)

    return Line(
        f"Ed25519, verify {count}",
        {"signatures": count},
        timed(lambda: verify_all(claims), times=5),
        check,
        peers={"cryptography": timed(theirs)},
    )


def _refuses(claims: Sequence[Claim], place: int) -> None:
    try:
        verify_all(claims)
    except DecodeError as error:
        if str(error).startswith(f"{claims[place].what}:"):
            return
    raise DifferentResultsError("a bad signature verifies, or another is blamed")


def _peers() -> Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """Those that are installed: (split, combine) of 32-byte secrets."""
    found: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}
    try:
        from Crypto.Protocol.SecretSharing import Shamir  # noqa: F401,PLC0415
    except ImportError:
        return found
    found["pycryptodome"] = (_pycryptodome_split, _pycryptodome_combine)
    try:
        from flwr.common.secure_aggregation.crypto import shamir as flower  # noqa: PLC0415
    except ImportError:
        return found
    found["Flower"] = (flower.create_shares, flower.combine_shares)
    return found


def _pycryptodome_split(secret: bytes, threshold: int, holders: int) -> list[tuple[Any, ...]]:
    from Crypto.Protocol.SecretSharing import Shamir  # noqa: PLC0415

    halves = (Shamir.split(threshold, holders, secret[at : at + 16]) for at in (0, 16))
    return list(zip(*halves, strict=True))


def _pycryptodome_combine(shares: Sequence[tuple[Any, ...]]) -> bytes:
    from Crypto.Protocol.SecretSharing import Shamir  # noqa: PLC0415

    return b"".join(bytes(Shamir.combine(list(half))) for half in zip(*shares, strict=True))


def _expect(secrets: Sequence[bytes], found: Sequence[bytes]) -> None:
    if list(secrets) != list(found):
        raise DifferentResultsError("the secrets do not come back")
