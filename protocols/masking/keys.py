"""Every derivation of `masking`: seeds to keys, pairs to masks, shares to fingerprints."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.masking.messages import FINGERPRINT_BYTES, Keys
from secagg.codec import Bytes32, Value, encode
from secagg.kdf import Table, derive, derive_many, digests, extended, label, labels, table
from secagg.prg import STREAM_KEY_BYTES, StreamKey, StreamKeys
from secagg.rng import RandomSource
from secagg.seal import KeyPair, Suite

Parties = NDArray[np.integer[Any]]

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


def edges(mask_seeds: Table, context1: bytes, senders: Parties | int, to: Parties) -> Table:
    """e_uv, (n, 32), that u = sender derives from m_u and seals for each neighbour v.

    One seed and one sender, or as many as neighbours.
    """
    return derive_many(mask_seeds, "edge", context1, senders, to)


def links(ones: Table, others: Table) -> Table:
    """e_uv ⊕ e_vu of each pair, (n, 32), which its survivor publishes: with m of one end, and
    only then, it gives e of the other.
    """
    return ones ^ others


def shares_infos(context1: bytes, senders: Parties | int, to: Parties | int) -> Table:
    """What the sealing of e_uv and the two shares of each pair is bound to."""
    return labels("shares", context1, senders, to)


def shares_info(context1: bytes, sender: int, to: int) -> bytes:
    """That of one pair."""
    return label("shares", context1, sender, to)


def pair_streams(secrets: Table, context2: bytes, ones: Parties, others: Parties) -> StreamKeys:
    """The masks that pairs share, from e_uv of the lower number u of each."""
    ends = np.minimum(ones, others), np.maximum(ones, others)
    length = STREAM_KEY_BYTES
    return StreamKeys(derive_many(secrets, "pair mask", context2, *ends, VECTOR, length=length))


def pair_signs(mine: Parties, others: Parties) -> NDArray[np.int8]:
    """+1 where the first of a pair adds their mask, -1 where it subtracts it."""
    return np.where(mine < others, 1, -1).astype(np.int8)


def own_streams(seeds: Table, context2: bytes, parties: Parties) -> StreamKeys:
    """The self mask of each party."""
    rows = derive_many(seeds, "self mask", context2, parties, VECTOR, length=STREAM_KEY_BYTES)
    return StreamKeys(rows)


def own_stream(seed: bytes, context2: bytes, party: int) -> StreamKey:
    """That of one party."""
    return own_streams(table([seed], len(seed)), context2, np.array([party]))[0]


def coins_stream(seed: bytes, context1: bytes) -> StreamKey:
    """The coefficients of the sharing polynomials."""
    raw = derive(seed, "shamir coefficients", context1, VECTOR, length=STREAM_KEY_BYTES)
    return StreamKey.of(raw)


def commitments(kind: str, seeds: Table, context1: bytes, parties: Parties) -> Table:
    """By which the server recognises the right m_u (`mask`) or b_u (`self`): (n, 32)."""
    return derive_many(seeds, "commitment", kind, context1, parties)


def commitment(kind: str, seed: bytes, context1: bytes, party: int) -> bytes:
    """That of one party."""
    return commitments(kind, table([seed], len(seed)), context1, np.array([party])).tobytes()


def fingerprints(
    kind: str, context1: bytes, dealers: Parties | int, holders: Parties, shares: Table
) -> Table:
    """(n, 16): recognise the share of its dealer that each holds; `kind` is `mask` or `self`."""
    found = digests("fingerprint", kind, context1, dealers, holders, shares)
    return found[:, :FINGERPRINT_BYTES]


def leaf(keys: Keys) -> bytes:
    """An advert as a leaf of U1's Merkle tree."""
    return encode(keys)


def signed_advert(context0: bytes, keys: Keys) -> bytes:
    """What the member signs of its advert."""
    return signed_adverts(context0, [keys])[0]


def signed_adverts(context0: bytes, adverts: Sequence[Keys]) -> list[bytes]:
    """What each member signs of its advert."""
    begun = label("signed advert", context0)
    return [extended(begun, own.party, own.nonce, own.channel_key) for own in adverts]


def signed_survivors(context2: bytes, survivors: bytes) -> bytes:
    """What a member of U3 signs of U3."""
    return label("signed survivors", context2, survivors)


def _channel_seed(suite: Suite, seed: bytes, context0: bytes, party: int) -> bytes:
    return derive(seed, "channel key", context0, party, length=suite.seed_bytes)
