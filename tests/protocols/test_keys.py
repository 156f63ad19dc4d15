"""Every derivation is bound to everything it should be: no two uses give the same bytes."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest

from protocols.masking import keys
from protocols.masking.keys import Seeds
from protocols.masking.messages import Keys
from secagg.kdf import Table, strings, table
from secagg.prg import StreamKey
from secagg.rng import SeededSource
from secagg.seal import suite
from secagg.shamir import SHARE_BYTES

SEED, OTHER_SEED = b"\x01" * 32, b"\x02" * 32
CONTEXT, OTHER_CONTEXT = b"\x03" * 32, b"\x04" * 32
SHARE = bytes(range(SHARE_BYTES))
X25519 = suite("X25519")


def rows(each: Sequence[bytes]) -> Table:
    return table(each, len(each[0]))


def edge(seed: bytes, context1: bytes, sender: int, to: int) -> bytes:
    return keys.edges(rows([seed]), context1, sender, np.array([to])).tobytes()


def pair_stream(secret: bytes, context2: bytes, low: int, high: int) -> StreamKey:
    ends = np.array([low]), np.array([high])
    (only,) = keys.pair_streams(rows([secret]), context2, *ends)
    return only


def fingerprint(kind: str, share: bytes, context1: bytes, dealer: int, holder: int) -> bytes:
    held = np.array([holder]), rows([share])
    return keys.fingerprints(kind, context1, dealer, *held).tobytes()


def linked(one: bytes, other: bytes) -> bytes:
    return keys.links(rows([one]), rows([other])).tobytes()


def signed_advert(context0: bytes, party: int, nonce: bytes, key: bytes) -> bytes:
    return keys.signed_advert(context0, Keys(party, nonce, key, b""))


BOUND: dict[str, tuple[Callable, tuple, tuple]] = {  # arguments, and another value for each
    "edge": (edge, (SEED, CONTEXT, 1, 2), (OTHER_SEED, OTHER_CONTEXT, 3, 4)),
    "shares_info": (keys.shares_info, (CONTEXT, 1, 2), (OTHER_CONTEXT, 3, 4)),
    "pair_stream": (pair_stream, (SEED, CONTEXT, 1, 2), (OTHER_SEED, OTHER_CONTEXT, 3, 4)),
    "own_stream": (keys.own_stream, (SEED, CONTEXT, 1), (OTHER_SEED, OTHER_CONTEXT, 2)),
    "coins_stream": (keys.coins_stream, (SEED, CONTEXT), (OTHER_SEED, OTHER_CONTEXT)),
    "commitment": (
        keys.commitment,
        ("mask", SEED, CONTEXT, 1),
        ("self", OTHER_SEED, OTHER_CONTEXT, 2),
    ),
    "fingerprint": (
        fingerprint,
        ("mask", SHARE, CONTEXT, 1, 2),
        ("self", SHARE[::-1], OTHER_CONTEXT, 3, 4),
    ),
    "channel_keys": (
        lambda *given: keys.channel_keys(X25519, *given).public.raw,
        (SEED, CONTEXT, 1),
        (OTHER_SEED, OTHER_CONTEXT, 2),
    ),
    "signed_advert": (
        signed_advert,
        (CONTEXT, 1, bytes(32), b"k" * 32),
        (OTHER_CONTEXT, 2, b"n" * 32, b"l" * 32),
    ),
    "signed_survivors": (keys.signed_survivors, (CONTEXT, b"\x07"), (OTHER_CONTEXT, b"\x0f")),
}


@pytest.mark.parametrize("name", BOUND)
def test_every_argument_counts(name: str) -> None:
    derive, arguments, others = BOUND[name]
    assert derive(*arguments) == derive(*arguments)
    seen = [derive(*arguments)]
    for at, other in enumerate(others):
        seen.append(derive(*arguments[:at], other, *arguments[at + 1 :]))
    assert all(one != another for one, another in combinations(seen, 2))


@pytest.mark.parametrize("name", ["edge", "shares_info"])
def test_a_direction_counts(name: str) -> None:
    derive, arguments, _ = BOUND[name]
    assert derive(*arguments) != derive(*arguments[:-2], *arguments[:-3:-1])


def test_a_pair_has_one_stream_in_both_orders() -> None:
    """That of its lower number, which its secret is from."""
    assert pair_stream(SEED, CONTEXT, 1, 2) == pair_stream(SEED, CONTEXT, 2, 1)


@pytest.mark.parametrize("count", [1, 2, 99])
def test_many_labels_are_those_one_by_one(count: int) -> None:
    others = list(range(2, 2 + count))
    infos = strings(keys.shares_infos(CONTEXT, 1, np.array(others)))
    assert infos == [keys.shares_info(CONTEXT, 1, v) for v in others]
    infos = strings(keys.shares_infos(CONTEXT, np.array(others), 1))
    assert infos == [keys.shares_info(CONTEXT, v, 1) for v in others]
    adverts = [Keys(v, bytes([v]) * 32, bytes(v), b"") for v in others]
    signed = keys.signed_adverts(CONTEXT, adverts)
    assert signed == [signed_advert(CONTEXT, a.party, a.nonce, a.channel_key) for a in adverts]


@pytest.mark.parametrize("count", [1, 2, 5, 99])
def test_many_at_once_are_those_one_by_one(count: int) -> None:
    parties = list(range(2, 2 + count))
    seeds, others = [bytes([v]) * 32 for v in parties], np.array(parties)
    senders = others % 7 + 1
    each = list(zip(seeds, senders.tolist(), parties, strict=True))
    one = keys.edges(rows([SEED]), CONTEXT, 1, others)
    assert strings(one) == [edge(SEED, CONTEXT, 1, v) for v in parties]
    several = keys.edges(rows(seeds), CONTEXT, senders, others)
    assert strings(several) == [edge(seed, CONTEXT, u, v) for seed, u, v in each]
    pairs = keys.pair_streams(rows(seeds), CONTEXT, senders, others)
    assert list(pairs) == [pair_stream(seed, CONTEXT, *sorted(ends)) for seed, *ends in each]
    own = keys.own_streams(rows(seeds), CONTEXT, others)
    assert list(own) == [keys.own_stream(seed, CONTEXT, v) for seed, _, v in each]
    known = keys.commitments("mask", rows(seeds), CONTEXT, others)
    assert strings(known) == [keys.commitment("mask", seed, CONTEXT, v) for seed, _, v in each]
    shares = [bytes([v]) * SHARE_BYTES for v in parties]
    prints = keys.fingerprints("self", CONTEXT, senders, others, rows(shares))
    assert strings(prints) == [
        fingerprint("self", share, CONTEXT, u, v)
        for share, (_, u, v) in zip(shares, each, strict=True)
    ]


def test_a_pair_has_one_mask_from_both_ends_with_opposite_signs() -> None:
    """What the lower number derived is the secret; the link gives it to who has the other."""
    low, high = edge(SEED, CONTEXT, 1, 2), edge(OTHER_SEED, CONTEXT, 2, 1)
    link = linked(low, high)
    assert link == linked(high, low)
    assert linked(high, link) == low
    assert linked(low, link) == high
    assert link == bytes(one ^ other for one, other in zip(low, high, strict=True))
    assert keys.pair_signs(np.array([1, 2]), np.array([2, 1])).tolist() == [1, -1]


@pytest.mark.parametrize("edge_of", [bytes(32), b"\xff" * 32, b"\0" * 31 + b"\x80"])
def test_a_link_keeps_its_length(edge_of: bytes) -> None:
    assert linked(edge_of, edge_of) == bytes(32)
    assert linked(edge_of, bytes(32)) == edge_of


def test_no_two_derivations_from_one_seed_meet() -> None:
    """Same seed, same context, same party: each purpose has its own label."""
    streams = [
        pair_stream(SEED, CONTEXT, 1, 2),
        keys.own_stream(SEED, CONTEXT, 1),
        keys.coins_stream(SEED, CONTEXT),
    ]
    values = [
        edge(SEED, CONTEXT, 1, 2),
        keys.commitment("mask", SEED, CONTEXT, 1),
        keys.commitment("self", SEED, CONTEXT, 1),
        keys.channel_keys(X25519, SEED, CONTEXT, 1).public.raw,
        *(stream.key for stream in streams),
        *(stream.iv for stream in streams),
    ]
    assert len(set(values)) == len(values)
    assert not any(a[:12] == b[:12] for a, b in combinations(values, 2))


def test_a_signature_over_an_advert_is_none_over_survivors() -> None:
    """Two kinds of label: neither is the beginning of the other, whatever follows."""
    advert = signed_advert(CONTEXT, 1, bytes(32), bytes(32))
    survivors = keys.signed_survivors(CONTEXT, b"\x07")
    end = len(keys.signed_survivors(b"", b"")) - 8
    assert advert[:end] != survivors[:end]


def test_an_advert_is_signed_without_its_signature() -> None:
    """And published with it: who replaces a signature changes the root."""
    plain, signed = (Keys(1, bytes(32), b"k" * 32, s) for s in (b"", b"s" * 64))
    assert keys.signed_advert(CONTEXT, plain) == keys.signed_advert(CONTEXT, signed)
    assert keys.leaf(plain) != keys.leaf(signed)


def test_seeds_are_drawn_apart_and_do_not_show() -> None:
    source = SeededSource(b"x")
    first, second = Seeds.draw(source), Seeds.draw(source)
    fields = [getattr(seeds, name) for seeds in (first, second) for name in Seeds.__struct_fields__]
    assert len(set(fields)) == len(fields) == 10
    assert repr(first) == str(first) == "<Seeds>"
