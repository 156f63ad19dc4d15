"""Every derivation of `masking`: seeds to keys, pairs to masks, shares to fingerprints."""

from collections.abc import Iterable, Sequence

import numpy as np

from protocols.masking.messages import FINGERPRINT_BYTES, Keys
from secagg.codec import Bytes32, Value, encode
from secagg.kdf import derive, derive_many, digests, label
from secagg.prg import IV_BYTES, KEY_BYTES, StreamKey
from secagg.rng import RandomSource
from secagg.seal import KeyPair, Suite

VECTOR = "update"
"""The name of the one vector that a session sums: no stream serves two vectors."""


class Seeds(Value, frozen=True):
    """A client's secrets of one session, all uniform: nothing else in it is random.

    channel: never shared; mask (m_u) and own (b_u, the self mask): Shamir-shared;
    coins: the polynomials. The nonce is public.
    """

    channel: Bytes32
    mask: Bytes32
    own: Bytes32
    coins: Bytes32
    nonce: Bytes32

    @classmethod
    def draw(cls, source: RandomSource) -> "Seeds":
        """Fresh seeds for one session."""
        return cls(*(source.seed() for _ in range(5)))


def channel_keys(suite: Suite, seed: bytes, context0: bytes, party: int) -> KeyPair:
    """The key pair that opens what is sealed for `party`."""
    return suite.key_pair(_channel_seed(suite, seed, context0, party))


def agreement_keys(suite: Suite, seed: bytes, context0: bytes, party: int) -> KeyPair:
    """The half of `channel_keys` that agrees with a neighbour's, and costs little to make."""
    return suite.agreement_pair(_channel_seed(suite, seed, context0, party))


def edges(mask_seed: bytes, context1: bytes, sender: int, to: Sequence[int]) -> list[bytes]:
    """e_uv, 32 bytes, that u = sender derives from m_u and seals for each neighbour v."""
    several = [mask_seed] * len(to)
    return derive_many(several, "edge", [(v,) for v in to], common=(context1, sender))


def links(ones: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """e_uv ⊕ e_vu of each pair, 32 bytes, which its survivor publishes: with m of one end, and
    only then, it gives e of the other.
    """
    joined = (np.frombuffer(b"".join(each), np.uint64) for each in (ones, others))
    return np.bitwise_xor(*joined).tobytes()


def shares_info(context1: bytes, sender: int, to: int) -> bytes:
    """What the sealing of e_uv and the two shares is bound to."""
    return label("shares", context1, sender, to)


def pair_streams(
    secrets: Sequence[bytes], context2: bytes, pairs: Iterable[tuple[int, int]]
) -> list[StreamKey]:
    """The masks that pairs share, from e_uv of the lower number u and for (lower, higher)."""
    parts = [(low, high, VECTOR) for low, high in pairs]
    length = KEY_BYTES + IV_BYTES
    derived = derive_many(secrets, "pair mask", parts, common=(context2,), length=length)
    return [_stream_key(raw) for raw in derived]


def own_stream(seed: bytes, context2: bytes, party: int) -> StreamKey:
    """The self mask of `party`."""
    return _stream(seed, "self mask", context2, party)


def coins_stream(seed: bytes, context1: bytes) -> StreamKey:
    """The coefficients of the sharing polynomials."""
    return _stream(seed, "shamir coefficients", context1)


def commitment(kind: str, seed: bytes, context1: bytes, party: int) -> bytes:
    """By which the server recognises the right m_u (`mask`) or b_u (`self`)."""
    return derive(seed, "commitment", kind, context1, party)


def fingerprints(
    kind: str, context1: bytes, dealer: int, held: Iterable[tuple[int, bytes]]
) -> list[bytes]:
    """16 bytes that recognise each (holder, share) of a dealer; `kind` is `mask` or `self`."""
    hashes = digests("fingerprint", (kind, context1, dealer), held)
    return [each[:FINGERPRINT_BYTES] for each in hashes]


def leaf(keys: Keys) -> bytes:
    """An advert as a leaf of U1's Merkle tree."""
    return encode(keys)


def pair_sign(me: int, other: int) -> int:
    """+1 where `me` adds the mask of the pair, -1 where it subtracts it."""
    return 1 if me < other else -1


def signed_advert(context0: bytes, keys: Keys) -> bytes:
    """What the member signs of its advert."""
    return label("signed advert", context0, keys.party, keys.nonce, keys.channel_key)


def signed_survivors(context2: bytes, survivors: bytes) -> bytes:
    """What a member of U3 signs of U3."""
    return label("signed survivors", context2, survivors)


def _channel_seed(suite: Suite, seed: bytes, context0: bytes, party: int) -> bytes:
    return derive(seed, "channel key", context0, party, length=suite.seed_bytes)


def _stream(seed: bytes, kind: str, *parts: bytes | int) -> StreamKey:
    return _stream_key(derive(seed, kind, *parts, VECTOR, length=KEY_BYTES + IV_BYTES))


def _stream_key(raw: bytes) -> StreamKey:
    return StreamKey(raw[:KEY_BYTES], raw[KEY_BYTES:])
