"""Rules without a message: the real code and the reference refuse the same, off the vectors too."""

import math
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secagg import merkle
from secagg.encoding import FixedPoint
from secagg.errors import SecaggError
from secagg.identity import Member, PublicIdentity, Roster
from secagg.seal import X25519
from tests.reference import fixed
from tests.reference import merkle as plain_merkle
from tests.reference.curve import P255
from tests.reference.errors import Refusal
from tests.reference.hpke import dhkem_shared, hpke_open, key_schedule
from tests.reference.identity import check_identity, check_member, check_roster
from tests.reference.session import Member as ReferenceMember
from tests.vectors.derivations import member

KEY = member("north").key
NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 2**256 - 1), st.integers(P255, P255 + 18))
CLIPS = st.floats(width=64) | st.sampled_from([5e-324, 1e-310, 4e-309, 1e-300, 8.9e307, 1e308])
NEAR = st.integers(0, 3) | st.integers(2**20 - 1, 2**20 + 1)


def outcome(call: Callable[[], object]) -> str:
    """The class of the error, as vectors name it; empty where there is none."""
    try:
        call()
    except Refusal as error:
        return error.name
    except SecaggError as error:
        return type(error).__name__
    return ""


@settings(deadline=None)
@given(number=NUMBERS, sign=st.booleans())
@example(number=P255 - 1, sign=True)
@example(number=1, sign=True)
def test_keys(number: int, sign: bool) -> None:
    raw = (number | sign << 255).to_bytes(32, "little")
    real = outcome(lambda: PublicIdentity("Ed25519", raw))
    assert outcome(lambda: check_identity("Ed25519", raw)) == real


@given(name=st.text(max_size=3) | st.text("a \u00e9\u0301\u212b\u200d\u00a0", max_size=4))
@example(name="x" * 100)
@example(name="x" * 101)
@example(name="\ud800")
def test_names(name: str) -> None:
    real = outcome(lambda: Member(name, PublicIdentity("Ed25519", KEY), ""))
    assert outcome(lambda: check_member(ReferenceMember(name, "Ed25519", KEY))) == real


@given(day=st.dates().map(str) | st.text("0123456789-", max_size=10) | st.text(max_size=3))
@example(day="2030-02-29")
@example(day="20301231")
@example(day="2030-W01-1")
@example(day="2030-12-31\n")
@example(day="\u0662030-12-31")
def test_days(day: str) -> None:
    real = outcome(lambda: Member("n", PublicIdentity("Ed25519", KEY), day))
    assert outcome(lambda: check_member(ReferenceMember("n", "Ed25519", KEY, day))) == real


@given(names=st.lists(st.sampled_from(["a", "b", "A"]), max_size=3), keys=st.permutations(range(3)))
def test_rosters(names: list[str], keys: list[int]) -> None:
    chosen = [member(f"key {k % 2}").key for k in keys]
    pairs = list(zip(names, chosen, strict=False))
    real = outcome(lambda: Roster([Member(n, PublicIdentity("Ed25519", k), "") for n, k in pairs]))
    plain = [ReferenceMember(n, "Ed25519", k) for n, k in pairs]
    assert outcome(lambda: check_roster(plain)) == real


@given(bits=st.integers(-1, 34), clip=CLIPS, weight=NEAR, clients=st.integers(-1, 2**13))
def test_fixed_point(bits: int, clip: float, weight: int, clients: int) -> None:
    of = (bits, clip, weight, clients)
    real = outcome(lambda: FixedPoint(*of))
    assert outcome(lambda: fixed.checked(of)) == real


@given(k=st.integers(0, 66), weight=NEAR.filter(bool), clients=st.integers(1, 2**13))
def test_filling(k: int, weight: int, clients: int) -> None:
    def real() -> FixedPoint:
        return FixedPoint.filling(k, clip=1.0, max_weight=weight, max_clients=clients)

    refused = outcome(real)
    assert outcome(lambda: fixed.filling(k, 1.0, weight, clients)) == refused
    if not refused:
        assert fixed.filling(k, 1.0, weight, clients)[0] == real().bits


@given(total=st.lists(st.integers(0, 300) | st.integers(0, 2**64 - 1), max_size=3))
def test_sums(total: list[int]) -> None:
    of = (8, math.pi, 10, 5)
    real = outcome(lambda: FixedPoint(*of).decode(np.array(total, np.uint64)))
    assert outcome(lambda: fixed.decode_sum(of, total)) == real
    if not real:
        means = FixedPoint(*of).decode(np.array(total, np.uint64))[0].tolist()
        assert fixed.decode_sum(of, total) == means


def test_a_sealing_that_anybody_could_make() -> None:
    """RFC 9180, section 7.1.4: an enc of low order gives a shared secret that is public."""
    pair = X25519.key_pair(bytes(range(32)))
    enc = bytes(32)
    shared = dhkem_shared(bytes(32), enc, pair.public.raw)
    key, nonce = key_schedule(0x0020, 2, shared, b"info")
    sealed = enc + AESGCM(key).encrypt(nonce, b"plaintext", b"")
    assert outcome(lambda: pair.open(sealed, b"info")) == "DecodeError"
    assert outcome(lambda: hpke_open("X25519", bytes(range(32)), b"info", sealed)) == "DecodeError"


@given(index=st.integers(-3, 9), size=st.integers(-1, 9), at=st.integers(0, 4))
def test_proofs(index: int, size: int, at: int) -> None:
    leaves = [b"leaf %d" % i for i in range(5)]
    top, path = merkle.root(leaves), plain_merkle.merkle_path(leaves, at)
    real = merkle.verify(top, leaves[at], index, size, path)
    assert real == ((index, size) == (at, 5))
    assert plain_merkle.verify(top, leaves[at], index, size, path) == real
