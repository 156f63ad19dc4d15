"""Sealing against references of RFC 7748, RFC 9180, FIPS 203 and X-Wing; refusals."""

import hashlib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import seal
from secagg.errors import DecodeError, LocalError, ParameterError, SecaggError
from secagg.kdf import table
from secagg.seal import (
    SUITES,
    KeyPair,
    PublicKey,
    Suite,
    SystemSealer,
    open_between,
    seal_between,
)
from tests.vectors import sealing as reference

VECTORS = reference.load("seal")
INFO, PLAINTEXT = b"information", b"a plaintext of some length"
names = pytest.mark.parametrize("name", SUITES)


@cache
def pair_of(name: str, label: str = "test") -> KeyPair:
    return SUITES[name].key_pair(reference.stretch(label, SUITES[name].seed_bytes))


@cache
def sealed_for(name: str) -> bytes:
    return SystemSealer().seal(pair_of(name).public, PLAINTEXT, INFO)


def refused(pair: KeyPair, sealed: bytes, info: bytes = INFO) -> None:
    with pytest.raises(DecodeError) as caught:
        pair.open(sealed, info)
    assert str(caught.value) == "a sealed message does not open"  # whatever went wrong
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# --- the reference against the documents --------------------------------------------------


def test_vectors_are_those_of_the_reference() -> None:
    assert reference.seal_vectors() == VECTORS


def test_the_reference_reproduces_rfc_7748() -> None:
    private, public = (
        list(map(bytes.fromhex, side)) for side in zip(*reference.RFC7748.items(), strict=True)
    )
    assert [reference.x25519_public(p) for p in private] == public
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert reference.x25519(private[0], public[1]).hex() == shared
    assert reference.x25519(private[1], public[0]).hex() == shared


def test_the_reference_reproduces_rfc_9180() -> None:
    vector = {name: bytes.fromhex(value) for name, value in reference.RFC9180.items()}
    shared, enc = reference.dhkem_encapsulate(vector["public"], vector["ephemeral"])
    assert (shared, enc) == (vector["shared"], vector["enc"])
    schedule = reference.key_schedule(0x0020, 1, shared, vector["info"])
    assert schedule == (vector["key"], vector["base_nonce"])


def test_the_reference_reproduces_the_xwing_draft() -> None:
    vector = {name: bytes.fromhex(value) for name, value in reference.XWING.items()}
    seed = hashlib.shake_256(vector["seed"]).digest(96)
    public = reference.public_of("MLKEM768-X25519", seed)
    shared, enc = reference.xwing_encapsulate(public, vector["coins"])
    assert shared == vector["shared"]
    assert len(enc) == 1120


def test_the_low_order_points_are_those_that_eight_kills() -> None:
    assert all(reference.ladder(8, u) == 0 for u in reference.LOW_ORDER)
    assert reference.ladder(8, 9) != 0
    assert {int(u) for u in seal._LOW_ORDER} == set(reference.LOW_ORDER)


# --- vectors ------------------------------------------------------------------------------


@pytest.mark.parametrize("private", VECTORS["rfc7748"])
def test_rfc_7748_keys(private: str) -> None:
    pair = seal.X25519.key_pair(bytes.fromhex(private))
    assert pair.public.raw.hex() == VECTORS["rfc7748"][private]


@pytest.mark.parametrize("vector", VECTORS["key_pair"], ids=lambda v: v["suite"])
def test_public_keys_from_seeds(vector: dict[str, str]) -> None:
    pair = SUITES[vector["suite"]].key_pair(bytes.fromhex(vector["seed"]))
    assert pair.public.raw.hex() == vector["public"]


@pytest.mark.parametrize("vector", VECTORS["open"], ids=lambda v: v["suite"])
def test_sealings_of_the_reference_open(vector: dict[str, str]) -> None:
    pair = SUITES[vector["suite"]].key_pair(bytes.fromhex(vector["seed"]))
    assert pair.public.raw.hex() == vector["public"]
    sealed, info = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["info"])
    assert pair.open(sealed, info).hex() == vector["plaintext"]


def negatives(what: str) -> list[Any]:
    chosen = [v for v in VECTORS["negative"] if v["refused"] == what]
    return [pytest.param(v, id=f"{v['suite']}: {v['why']}") for v in chosen]


@pytest.mark.parametrize("vector", negatives("key"))
def test_refused_public_keys(vector: dict[str, str]) -> None:
    with pytest.raises(DecodeError) as caught:
        SUITES[vector["suite"]].public_key(bytes.fromhex(vector["raw"]))
    assert vector["error"] == "DecodeError"
    assert vector["message"] in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("vector", negatives("open"))
def test_refused_sealings(vector: dict[str, str]) -> None:
    pair = SUITES[vector["suite"]].key_pair(bytes.fromhex(vector["seed"]))
    refused(pair, bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["info"]))
    assert (vector["error"], vector["message"]) == ("DecodeError", "does not open")


def test_the_reference_opens_what_is_sealed() -> None:
    """The other direction, which has no vector because HPKE draws its own coins."""
    seed = reference.stretch("test", 32)
    sealed = sealed_for("X25519")
    enc, public = sealed[:32], reference.x25519_public(seed)
    kem = b"KEM\x00\x20"
    prk = reference.labeled_extract(kem, b"", b"eae_prk", reference.x25519(seed, enc))
    shared = reference.labeled_expand(kem, prk, b"shared_secret", enc + public, 32)
    key, nonce = reference.key_schedule(0x0020, 2, shared, INFO)
    assert AESGCM(key).decrypt(nonce, sealed[32:], b"") == PLAINTEXT


# --- sealing and opening ------------------------------------------------------------------


@names
@settings(max_examples=25, deadline=None)
@given(plaintext=st.binary(max_size=300), info=st.binary(max_size=100))
def test_round_trip_and_length(name: str, plaintext: bytes, info: bytes) -> None:
    pair, suite = pair_of(name), SUITES[name]
    sealed = SystemSealer().seal(pair.public, plaintext, info)
    assert pair.open(sealed, info) == plaintext
    assert len(sealed) == suite.sealed_bytes(len(plaintext))
    assert len(sealed) == suite.encapsulated_bytes + len(plaintext) + seal.TAG_BYTES


def test_documented_sizes() -> None:
    sizes = {name: (s.seed_bytes, s.public_bytes, s.sealed_bytes(32)) for name, s in SUITES.items()}
    assert sizes == {"X25519": (32, 32, 80), "MLKEM768-X25519": (96, 1216, 1168)}
    assert seal.suite(seal.DEFAULT_SUITE) is seal.MLKEM768_X25519


@names
def test_long_plaintext_and_info(name: str) -> None:
    pair, plaintext, info = pair_of(name), bytes(200_000), bytes(100_000)
    assert pair.open(SystemSealer().seal(pair.public, plaintext, info), info) == plaintext


@names
def test_two_sealings_share_nothing(name: str) -> None:
    one, other = (SystemSealer().seal(pair_of(name).public, PLAINTEXT, INFO) for _ in range(2))
    cut = SUITES[name].encapsulated_bytes
    assert one[:cut] != other[:cut]
    assert one[cut:] != other[cut:]


@names
@pytest.mark.parametrize("info", [b"", INFO[:-1], INFO + b"\0", INFO[::-1], INFO * 2])
def test_another_info_does_not_open(name: str, info: bytes) -> None:
    refused(pair_of(name), sealed_for(name), info)


@names
def test_another_key_does_not_open(name: str) -> None:
    refused(pair_of(name, "other"), sealed_for(name))


def test_another_suite_does_not_open() -> None:
    refused(pair_of("X25519"), sealed_for("MLKEM768-X25519"))
    refused(pair_of("MLKEM768-X25519"), sealed_for("X25519"))


@pytest.mark.parametrize(("half", "name"), [(slice(0, 64), "ML-KEM"), (slice(64, 96), "X25519")])
def test_both_halves_of_a_hybrid_key_are_needed(half: slice, name: str) -> None:
    seed = bytearray(reference.stretch("test", 96))
    seed[half] = reference.stretch(f"other {name}", len(seed[half]))
    refused(seal.MLKEM768_X25519.key_pair(bytes(seed)), sealed_for("MLKEM768-X25519"))


def regions(name: str) -> Iterator[int]:
    """Both ends and the middle of each part of a sealing."""
    parts = {"X25519": [0, 32], "MLKEM768-X25519": [0, 960, 1088, 1120]}[name]
    ends = [*parts, len(sealed_for(name)) - seal.TAG_BYTES, len(sealed_for(name))]
    for low, high in pairwise(ends):
        yield from (low, (low + high) // 2, high - 1)


@names
def test_a_change_anywhere_does_not_open(name: str) -> None:
    for at in regions(name):
        for flip in (0x01, 0x80, 0xFF):
            sealed = bytearray(sealed_for(name))
            sealed[at] ^= flip
            refused(pair_of(name), bytes(sealed))


@names
def test_cut_extended_and_swapped_do_not_open(name: str) -> None:
    sealed, cut = sealed_for(name), SUITES[name].encapsulated_bytes
    other = SystemSealer().seal(pair_of(name).public, PLAINTEXT, INFO)
    wrong = [sealed[:n] for n in (0, 1, cut - 1, cut, cut + 15, cut + 16, len(sealed) - 1)]
    wrong += [sealed + b"\0", b"\0" + sealed, sealed * 2, sealed[:cut] + other[cut:]]
    wrong += [bytes(len(sealed)), b"\xff" * len(sealed), bytes(cut) + sealed[cut:]]
    for bad in wrong:
        refused(pair_of(name), bad)


@names
@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=1300), info=st.binary(max_size=8))
def test_opening_random_bytes_raises_nothing_else(name: str, data: bytes, info: bytes) -> None:
    refused(pair_of(name), data, info)


# --- keys ---------------------------------------------------------------------------------


@names
def test_a_seed_fixes_the_key_pair(name: str) -> None:
    suite = SUITES[name]
    seed = reference.stretch("test", suite.seed_bytes)
    one, again = pair_of(name), suite.key_pair(seed)
    assert one == again
    assert again.open(sealed_for(name), INFO) == PLAINTEXT
    assert again.public.raw.hex() == reference.public_of(name, seed).hex()
    assert pair_of(name, "other") != one


@names
def test_a_received_key_is_the_sender_s(name: str) -> None:
    pair = pair_of(name)
    public = SUITES[name].public_key(pair.public.raw)
    assert public == pair.public
    assert hash(public) == hash(pair.public)
    assert pair.open(SystemSealer().seal(public, PLAINTEXT, INFO), INFO) == PLAINTEXT


def test_keys_of_different_suites_are_different() -> None:
    assert len({pair_of(name).public for name in SUITES}) == len(SUITES)


@names
@pytest.mark.parametrize("change", [-1, 1, -1000, 1000])
def test_seeds_of_another_length_are_refused(name: str, change: int) -> None:
    suite = SUITES[name]
    with pytest.raises((SecaggError, ValueError), match=f"{suite.seed_bytes} bytes of seed"):
        suite.key_pair(bytes(max(0, suite.seed_bytes + change)))


@names
def test_a_bad_seed_is_our_own_error(name: str) -> None:
    with pytest.raises(LocalError):
        SUITES[name].key_pair(b"")


@names
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=40))
def test_short_keys_raise_nothing_but_decode_error(name: str, raw: bytes) -> None:
    suite = SUITES[name]
    padded = raw.ljust(suite.public_bytes, b"\xff")
    for candidate in (raw, padded, padded[::-1]):
        try:
            key = suite.public_key(candidate)
        except DecodeError:
            continue
        assert key.raw == candidate


@settings(max_examples=200)
@given(st.integers(0, 2**256 - 1))
def test_a_point_has_one_encoding(u: int) -> None:
    raw = u.to_bytes(32, "little")
    good = u < reference.P255 and u not in reference.LOW_ORDER
    try:
        assert seal.X25519.public_key(raw).raw == raw
        assert good
    except DecodeError:
        assert not good


@pytest.mark.parametrize("u", [2, 9, reference.P255 - 2, reference.P255 - 3])
def test_other_points_are_taken(u: int) -> None:
    """On the curve or on its twist: X25519 is defined on both."""
    assert seal.X25519.public_key(u.to_bytes(32, "little")).raw == u.to_bytes(32, "little")


@pytest.mark.parametrize("at", [0, 3, 600, 1149])
def test_a_coefficient_of_ml_kem_is_below_q(at: int) -> None:
    public = bytearray(pair_of("MLKEM768-X25519").public.raw)
    start = at // 3 * 3
    public[start : start + 3] = (3329).to_bytes(3, "little")
    with pytest.raises(DecodeError, match="not a MLKEM768-X25519 public key"):
        seal.MLKEM768_X25519.public_key(bytes(public))
    public[start : start + 3] = (3328).to_bytes(3, "little")
    assert seal.MLKEM768_X25519.public_key(bytes(public)).raw == public


def test_sealing_to_an_unchecked_low_order_key_is_refused() -> None:
    """`public_key` refuses it first; the sealer must still not raise anything else."""
    zero = low_order_key()
    with pytest.raises(DecodeError, match="low order") as caught:
        SystemSealer().seal(zero, PLAINTEXT, INFO)
    assert caught.value.__suppress_context__


def low_order_key() -> PublicKey:
    point = X25519PublicKey.from_public_bytes(bytes(32))
    return PublicKey(seal.X25519, bytes(32), point, point, None)


# --- between two that published a key ----------------------------------------------------


def ends(name: str) -> tuple[KeyPair, KeyPair]:
    return pair_of(name, "one end"), pair_of(name, "other end")


@cache
def sealed_between(name: str) -> tuple[bytes, bytes]:
    """What both ends agree on, and what the first sealed for the second."""
    one, other = ends(name)
    agreed = one.agree(other.public)
    return agreed, seal_between(agreed, other.public, PLAINTEXT, INFO, SystemSealer())


def refused_between(agreed: bytes, own: KeyPair, sealed: bytes, info: bytes = INFO) -> None:
    with pytest.raises(DecodeError) as caught:
        open_between(agreed, own, sealed, info)
    assert str(caught.value) == "a sealed message does not open"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("vector", VECTORS["between"], ids=lambda v: v["suite"])
def test_sealings_of_the_reference_between_two_open(vector: dict[str, Any]) -> None:
    one, other = (SUITES[vector["suite"]].key_pair(bytes.fromhex(s)) for s in vector["seeds"])
    sealed, info = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["info"])
    agreed = other.agree(one.public)
    assert open_between(agreed, other, sealed, info).hex() == vector["plaintext"]
    again = seal_between(
        agreed, other.public, bytes.fromhex(vector["plaintext"]), info, Coins(vector)
    )
    assert again == sealed


class Coins:
    """ML-KEM with the coins of a vector."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self._coins = bytes.fromhex(vector["coins"])

    def seal(self, to: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        raise AssertionError("HPKE between two published keys")

    def encapsulate(self, to: PublicKey, info: bytes) -> tuple[bytes, bytes]:
        if not to.suite.ciphertext_bytes:
            return to.encapsulate()
        return reference.encapsulate_with(self._coins)(to.raw, info)


@pytest.mark.parametrize("vector", negatives("between"))
def test_refused_sealings_between_two(vector: dict[str, Any]) -> None:
    one, other = (SUITES[vector["suite"]].key_pair(bytes.fromhex(s)) for s in vector["seeds"])
    sealed, info = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["info"])
    refused_between(other.agree(one.public), other, sealed, info)


@names
def test_two_ends_agree_on_what_rfc_7748_says(name: str) -> None:
    """The X25519 half of a hybrid key is the last 32 bytes of its seed, and of its public key."""
    one, other = ends(name)
    seed = reference.stretch("one end", SUITES[name].seed_bytes)
    assert one.agree(other.public) == reference.x25519(seed[-32:], other.public.raw[-32:])
    assert one.agree(other.public) == other.agree(one.public)
    assert SUITES[name].agreement_pair(seed).agree(other.public) == one.agree(other.public)
    assert one.agree(pair_of(name).public) != one.agree(other.public)
    assert len(one.agree(one.public)) == 32


def test_agreeing_with_a_low_order_key_is_refused() -> None:
    with pytest.raises(DecodeError, match="low order") as caught:
        pair_of("X25519").agree(low_order_key())
    assert caught.value.__suppress_context__


@names
def test_encapsulation_is_that_of_fips_203(name: str) -> None:
    pair = pair_of(name)
    one, again = pair.public.encapsulate(), SystemSealer().encapsulate(pair.public, INFO)
    for secret, ciphertext in (one, again):
        assert len(ciphertext) == SUITES[name].ciphertext_bytes
        assert pair.decapsulate(ciphertext) == secret
    if name == "X25519":
        assert one == again == (b"", b"")
        return
    assert one != again
    secret, ciphertext = reference.encapsulate_with(bytes(32))(pair.public.raw, INFO)
    assert pair.decapsulate(ciphertext) == secret
    wrong = bytes(1088), ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
    z = reference.stretch("test", SUITES[name].seed_bytes)[32:64]
    for each in wrong:  # implicit rejection: FIPS 203, algorithm 18, J(z ‖ c)
        assert pair.decapsulate(each) == hashlib.shake_256(z + each).digest(32)


@names
@settings(max_examples=15, deadline=None)
@given(plaintext=st.binary(max_size=200), info=st.binary(max_size=100))
def test_between_two_ends_round_trip(name: str, plaintext: bytes, info: bytes) -> None:
    one, other = ends(name)
    agreed = one.agree(other.public)
    for to in (one, other):
        sealed = seal_between(agreed, to.public, plaintext, info, SystemSealer())
        assert open_between(agreed, to, sealed, info) == plaintext
        assert len(sealed) == SUITES[name].sealed_between_bytes(len(plaintext))


def test_sizes_between_two_ends() -> None:
    sizes = {name: suite.sealed_between_bytes(104) for name, suite in SUITES.items()}
    assert sizes == {"X25519": 104 + 16, "MLKEM768-X25519": 104 + 16 + 1088}


@names
def test_sealing_between_two_is_aes_gcm_under_a_derived_key(name: str) -> None:
    """By the library's HKDF, of both secrets, bound to `info` and to the ciphertext of ML-KEM."""
    agreed, sealed = sealed_between(name)
    cut = SUITES[name].ciphertext_bytes
    secret = ends(name)[1].decapsulate(sealed[:cut])
    key = reference.derive(secret + agreed, "between", INFO, sealed[:cut])
    assert sealed[cut:] == AESGCM(key).encrypt(bytes(12), PLAINTEXT, None)


@names
@pytest.mark.parametrize("count", [1, 3, 40])
def test_many_are_sealed_and_opened_as_one_by_one(name: str, count: int) -> None:
    own = pair_of(name)
    others = [pair_of(name, f"other {i}") for i in range(count)]
    agreed = [own.agree(other.public) for other in others]
    infos = [b"info %2d" % i for i in range(count)]
    plaintexts = [b"plaintext %d" % i for i in range(count)]
    public = [other.public for other in others]
    sealed = seal.seal_each(public, agreed, plaintexts, table(infos, 7), SystemSealer())
    for i, other in enumerate(others):
        assert open_between(agreed[i], other, sealed[i], infos[i]) == plaintexts[i]
    back = [
        seal_between(agreed[i], own.public, b"%d" % i, infos[i], SystemSealer())
        for i in range(count)
    ]
    assert seal.open_each(own, agreed, back, table(infos, 7)) == [b"%d" % i for i in range(count)]
    back[0] = b""
    assert seal.open_each(own, agreed, back, table(infos, 7))[:2] == [None, b"1"][:count]


@names
def test_what_does_not_match_is_a_local_error(name: str) -> None:
    one, other = ends(name)
    for agreed in ([b""], [bytes(31)], [bytes(64)]):
        with pytest.raises(LocalError):
            seal.seal_each([other.public], agreed, [b""], table([INFO], len(INFO)), SystemSealer())
        with pytest.raises(LocalError):
            seal.open_each(one, agreed, [bytes(2000)], table([INFO], len(INFO)))


@pytest.mark.parametrize("lengths", [(0, 0), (31, 1088), (33, 1088), (32, 0), (32, 1087)])
def test_a_sealer_that_gives_other_lengths_is_a_local_error(lengths: tuple[int, int]) -> None:
    """Or what it gives for nothing would be sealed under the agreement alone."""
    one, other = ends("MLKEM768-X25519")
    sealer = SystemSealer()
    sealer.encapsulate = lambda _to, _info: tuple(map(bytes, lengths))  # type: ignore[method-assign]
    with pytest.raises(LocalError):
        seal_between(one.agree(other.public), other.public, PLAINTEXT, INFO, sealer)


@names
@pytest.mark.parametrize("info", [b"", INFO[:-1], INFO + b"\0", INFO[::-1], INFO * 2])
def test_another_info_does_not_open_between_two_ends(name: str, info: bytes) -> None:
    agreed, sealed = sealed_between(name)
    refused_between(agreed, ends(name)[1], sealed, info)


@names
def test_another_pair_of_ends_does_not_open(name: str) -> None:
    """Who has only one of the two keys, or the same keys with somebody else."""
    one, other = ends(name)
    third = pair_of(name)
    _, sealed = sealed_between(name)
    for agreed in (third.agree(one.public), third.agree(other.public)):
        for opener in (one, other, third):
            refused_between(agreed, opener, sealed)


def test_either_secret_alone_does_not_open() -> None:
    """Of ML-KEM and of X25519: who has one of them, and guesses zeros for the other."""
    name = "MLKEM768-X25519"
    agreed, sealed = sealed_between(name)
    refused_between(bytes(32), ends(name)[1], sealed)
    refused_between(agreed, ends(name)[0], sealed)
    forged = seal_between(bytes(32), ends(name)[1].public, PLAINTEXT, INFO, SystemSealer())
    refused_between(agreed, ends(name)[1], forged)


def test_what_two_ends_agreed_on_is_the_same_both_ways() -> None:
    """So `info` says the direction. (A message with ML-KEM is opened by its recipient only.)"""
    agreed, sealed = sealed_between("X25519")
    assert open_between(agreed, ends("X25519")[0], sealed, INFO) == PLAINTEXT


def test_two_messages_of_the_same_content_share_nothing() -> None:
    agreed, one = sealed_between("MLKEM768-X25519")
    other = ends("MLKEM768-X25519")[1].public
    again = seal_between(agreed, other, PLAINTEXT, INFO, SystemSealer())
    assert one[:1088] != again[:1088]
    assert one[1088:] != again[1088:]


@names
def test_a_change_anywhere_does_not_open_between_two_ends(name: str) -> None:
    agreed, sealed = sealed_between(name)
    _, other = ends(name)
    tag, cut = len(sealed) - seal.TAG_BYTES, SUITES[name].ciphertext_bytes
    for at in {0, 1, cut // 2, max(cut - 1, 0), cut, tag - 1, tag, tag + 7, len(sealed) - 1}:
        for flip in (0x01, 0x80):
            changed = bytearray(sealed)
            changed[at] ^= flip
            refused_between(agreed, other, bytes(changed))


@names
def test_cut_and_extended_do_not_open_between_two_ends(name: str) -> None:
    agreed, sealed = sealed_between(name)
    _, other = ends(name)
    cut = SUITES[name].ciphertext_bytes
    for size in (0, 1, 15, 16, 17, cut, cut + 15, cut + 16, len(sealed) - 1):
        refused_between(agreed, other, sealed[:size])
    for wrong in (sealed + b"\0", b"\0" + sealed, sealed * 2, bytes(len(sealed))):
        refused_between(agreed, other, wrong)


@names
@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=1300), info=st.binary(max_size=8))
def test_opening_random_bytes_between_two_ends(name: str, data: bytes, info: bytes) -> None:
    agreed, _ = sealed_between(name)
    refused_between(agreed, ends(name)[1], data, info)


# --- names and what is shown --------------------------------------------------------------


@names
def test_suites_by_name(name: str) -> None:
    assert seal.suite(name).name == name


@pytest.mark.parametrize("name", ["", "x25519", "X25519 ", "P256", None])
def test_unknown_suites_are_refused_with_the_list(name: Any) -> None:
    with pytest.raises(ParameterError, match="choose one of X25519, MLKEM768-X25519"):
        seal.suite(name)


@names
def test_a_repr_hides_the_private_half(name: str) -> None:
    seed = reference.stretch("test", SUITES[name].seed_bytes)
    pair = pair_of(name)
    for shown in (repr(pair), str(pair), repr(pair.public), repr(pair.public.suite), f"{pair}"):
        assert "_private" not in shown
        assert "_scalar" not in shown
        assert "_kem" not in shown
        assert "PrivateKey" not in shown
        for i in range(0, len(seed), 32):
            assert seed[i : i + 32].hex() not in shown
            assert repr(seed[i : i + 32])[2:-1] not in shown


@names
def test_keys_are_frozen(name: str) -> None:
    pair = pair_of(name)
    with pytest.raises(AttributeError):
        pair.public = pair.public  # type: ignore[misc]
    with pytest.raises(AttributeError):
        pair.public.raw = b""  # type: ignore[misc]
    assert isinstance(pair.public.suite, Suite)
