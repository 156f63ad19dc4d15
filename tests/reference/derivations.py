"""What both roles derive: spec section 5."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.reference.errors import Decode
from tests.reference.labels import derive, digest, label
from tests.reference.wire import pack

Advert = list  # [party, nonce, channel key, signature], as it is published
Raw = bytes


def edge(mask_seed: bytes, context1: bytes, u: int, v: int) -> bytes:
    return derive(mask_seed, "edge", context1, u, v)


def shares_info(context1: bytes, u: int, v: int) -> bytes:
    return label("shares", context1, u, v)


def commitment(kind: str, seed: bytes, context1: bytes, u: int) -> bytes:
    return derive(seed, "commitment", kind, context1, u)


def fingerprint(kind: str, context1: bytes, dealer: int, holder: int, share: bytes) -> bytes:
    return digest("fingerprint", kind, context1, dealer, holder, share)[:16]


def pair_stream(secret: bytes, context2: bytes, u: int, v: int) -> Raw:
    return derive(secret, "pair mask", context2, min(u, v), max(u, v), "update", length=28)


def self_stream(seed: bytes, context2: bytes, u: int) -> Raw:
    return derive(seed, "self mask", context2, u, "update", length=28)


def coins_stream(coins: bytes, context1: bytes) -> Raw:
    return derive(coins, "shamir coefficients", context1, "update", length=28)


def channel_seed(seed: bytes, context0: bytes, u: int, length: int) -> bytes:
    return derive(seed, "channel key", context0, u, length=length)


def signed_advert(context0: bytes, advert: Advert) -> bytes:
    return label("signed advert", context0, *advert[:3])


def signed_survivors(context2: bytes, bitmap: bytes) -> bytes:
    return label("signed survivors", context2, bitmap)


def leaf(advert: Advert) -> bytes:
    return pack(advert)


def bitmap_of(members: Iterable[int], n: int) -> bytes:
    return sum(2 ** (v - 1) for v in members).to_bytes(-(-n // 8), "little")


def members_of(bitmap: bytes, n: int) -> list[int]:
    whole = int.from_bytes(bitmap, "little")
    if len(bitmap) != -(-n // 8) or whole >= 2**n:
        raise Decode(f"not a set of the {n} clients")
    return [v for v in range(1, n + 1) if whole >> (v - 1) & 1]


def rising(parties: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(parties))


def cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[i : i + size] for i in range(0, len(raw), size)]
