"""Every derivation is bound to everything it should be: no two uses give the same bytes."""

from collections.abc import Callable
from itertools import combinations

import pytest

from protocols.masking import keys
from protocols.masking.keys import Seeds
from secagg.rng import SeededSource
from secagg.seal import suite
from secagg.shamir import SHARE_BYTES

SEED, OTHER_SEED = b"\x01" * 32, b"\x02" * 32
CONTEXT, OTHER_CONTEXT = b"\x03" * 32, b"\x04" * 32
SHARE = bytes(range(SHARE_BYTES))
X25519 = suite("X25519")

BOUND: dict[str, tuple[Callable, tuple, tuple]] = {  # arguments, and another value for each
    "contribution": (keys.contribution, (SEED, CONTEXT, 1, 2), (OTHER_SEED, OTHER_CONTEXT, 3, 4)),
    "contribution_info": (keys.contribution_info, (CONTEXT, 1, 2), (OTHER_CONTEXT, 3, 4)),
    "shares_info": (keys.shares_info, (CONTEXT, 1, 2), (OTHER_CONTEXT, 3, 4)),
    "pair_seed": (
        keys.pair_seed,
        (CONTEXT, 1, SEED, 2, OTHER_SEED),
        (OTHER_CONTEXT, 3, b"a" * 32, 4, b"b" * 32),
    ),
    "pair_stream": (keys.pair_stream, (SEED, CONTEXT), (OTHER_SEED, OTHER_CONTEXT)),
    "own_stream": (keys.own_stream, (SEED, CONTEXT, 1), (OTHER_SEED, OTHER_CONTEXT, 2)),
    "coins_stream": (keys.coins_stream, (SEED, CONTEXT), (OTHER_SEED, OTHER_CONTEXT)),
    "commitment": (keys.commitment, (SEED, CONTEXT, 1), (OTHER_SEED, OTHER_CONTEXT, 2)),
    "fingerprint": (
        keys.fingerprint,
        ("mask", SHARE, CONTEXT, 1, 2),
        ("self", SHARE[::-1], OTHER_CONTEXT, 3, 4),
    ),
    "channel_keys": (
        lambda *given: keys.channel_keys(X25519, *given).public.raw,
        (SEED, CONTEXT, 1),
        (OTHER_SEED, OTHER_CONTEXT, 2),
    ),
    "mask_keys": (
        lambda *given: keys.mask_keys(X25519, *given).public.raw,
        (SEED, CONTEXT, 1),
        (OTHER_SEED, OTHER_CONTEXT, 2),
    ),
}


@pytest.mark.parametrize("name", BOUND)
def test_every_argument_counts(name: str) -> None:
    derive, arguments, others = BOUND[name]
    assert derive(*arguments) == derive(*arguments)
    seen = [derive(*arguments)]
    for at, other in enumerate(others):
        seen.append(derive(*arguments[:at], other, *arguments[at + 1 :]))
    assert all(one != another for one, another in combinations(seen, 2))


@pytest.mark.parametrize("name", ["contribution", "contribution_info", "shares_info"])
def test_a_direction_counts(name: str) -> None:
    derive, arguments, _ = BOUND[name]
    assert derive(*arguments) != derive(*arguments[:-2], *arguments[:-3:-1])


def test_a_pair_has_one_seed_from_both_ends() -> None:
    one = keys.pair_seed(CONTEXT, 1, SEED, 2, OTHER_SEED)
    assert one == keys.pair_seed(CONTEXT, 2, OTHER_SEED, 1, SEED)
    assert one != keys.pair_seed(CONTEXT, 1, OTHER_SEED, 2, SEED)
    assert keys.pair_sign(1, 2) == -keys.pair_sign(2, 1) == 1


def test_no_two_derivations_from_one_seed_meet() -> None:
    """Same seed, same context, same party: each purpose has its own label."""
    streams = [
        keys.pair_stream(SEED, CONTEXT),
        keys.own_stream(SEED, CONTEXT, 1),
        keys.coins_stream(SEED, CONTEXT),
    ]
    values = [
        keys.contribution(SEED, CONTEXT, 1, 2),
        keys.commitment(SEED, CONTEXT, 1),
        keys.channel_keys(X25519, SEED, CONTEXT, 1).public.raw,
        keys.mask_keys(X25519, SEED, CONTEXT, 1).public.raw,
        *(stream.key for stream in streams),
        *(stream.iv for stream in streams),
    ]
    assert len(set(values)) == len(values)
    assert keys.contribution_info(CONTEXT, 1, 2) != keys.shares_info(CONTEXT, 1, 2)


def test_seeds_are_drawn_apart_and_do_not_show() -> None:
    source = SeededSource(b"x")
    first, second = Seeds.draw(source), Seeds.draw(source)
    fields = [getattr(seeds, name) for seeds in (first, second) for name in Seeds.__struct_fields__]
    assert len(set(fields)) == len(fields) == 10
    assert repr(first) == str(first) == "<Seeds>"
