"""Every derivation of `masking`: seeds to keys, pairs to masks, shares to fingerprints."""

from protocols.masking.messages import Keys
from secagg.codec import Bytes32, Value, encode
from secagg.kdf import derive, digest, label
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
    """The key pair that opens the shares sent to `party`."""
    return _key_pair(suite, seed, "channel key", context0, party)


def mask_keys(suite: Suite, seed: bytes, context0: bytes, party: int) -> KeyPair:
    """The key pair of m_u, which opens the contributions sent to `party`."""
    return _key_pair(suite, seed, "mask key", context0, party)


def contribution(mask_seed: bytes, context1: bytes, sender: int, to: int) -> bytes:
    """c_uv: what u = sender puts into the pair seed with v = to."""
    return derive(mask_seed, "contribution", context1, sender, to)


def contribution_info(context1: bytes, sender: int, to: int) -> bytes:
    """What the sealing of c_uv is bound to."""
    return label("mask", context1, sender, to)


def shares_info(context1: bytes, sender: int, to: int) -> bytes:
    """What the sealing of the two shares is bound to."""
    return label("shares", context1, sender, to)


def pair_seed(context1: bytes, one: int, of_one: bytes, other: int, of_other: bytes) -> bytes:
    """s_uv from both contributions; the order of the two parties does not matter."""
    (low, first), (high, second) = sorted(((one, of_one), (other, of_other)))
    return derive(first + second, "pair", context1, low, high)


def pair_stream(seed: bytes, context1: bytes) -> StreamKey:
    """The mask that a pair shares: added by the lower number, subtracted by the higher."""
    return _stream(seed, "pair mask", context1)


def own_stream(seed: bytes, context1: bytes, party: int) -> StreamKey:
    """The self mask of `party`."""
    return _stream(seed, "self mask", context1, party)


def coins_stream(seed: bytes, context1: bytes) -> StreamKey:
    """The coefficients of the sharing polynomials."""
    return _stream(seed, "shamir coefficients", context1)


def commitment(own_seed: bytes, context1: bytes, party: int) -> bytes:
    """By which the server recognises the right b_u."""
    return derive(own_seed, "commitment", context1, party)


def fingerprint(kind: str, share: bytes, context1: bytes, dealer: int, holder: int) -> bytes:
    """16 bytes that recognise one share; `kind` is `mask` or `self`."""
    return digest("fingerprint", kind, context1, dealer, holder, share)[:16]


def leaf(keys: Keys) -> bytes:
    """An advert as a leaf of U1's Merkle tree."""
    return encode(keys)


def pair_sign(me: int, other: int) -> int:
    """+1 where `me` adds the mask of the pair, -1 where it subtracts it."""
    return 1 if me < other else -1


def _key_pair(suite: Suite, seed: bytes, kind: str, context0: bytes, party: int) -> KeyPair:
    return suite.key_pair(derive(seed, kind, context0, party, length=suite.seed_bytes))


def _stream(seed: bytes, kind: str, *parts: bytes | int) -> StreamKey:
    raw = derive(seed, kind, *parts, VECTOR, length=KEY_BYTES + IV_BYTES)
    return StreamKey(raw[:KEY_BYTES], raw[KEY_BYTES:])
