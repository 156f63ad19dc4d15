"""Many Ed25519 signatures at once: the verdict is OpenSSL's for each of them, whatever it is."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secagg import ed25519
from secagg.errors import DecodeError
from secagg.rng import SeededSource
from secagg.signing import Claim, Identity, PublicIdentity, prepare, verify_all
from tests.secagg import ed25519_reference as reference
from tests.secagg.ed25519_reference import BASE, NEUTRAL, L, P, Signed

Together = Callable[[Sequence[Signed]], list[bool]]
PUBLISHED = [  # RFC 8032, 7.1: tests 1, 2, 3 and SHA(abc)
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f"
        "b8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da08"
        "5ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18"
        "ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909"
        "351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.fixture(params=["together", "alone"])
def together(request: pytest.FixtureRequest) -> Together:
    """The compiled verdicts, also of few signatures; or of each by itself."""
    compiled = ed25519._compiled()
    if compiled is None:
        pytest.skip("numba does not compile here")
    keys = cache(ed25519.Key)

    def alone(claim: ed25519.Claim) -> bool:
        ed25519._tables(compiled, [claim[0]])
        assert claim[0]._table
        return ed25519._verified_alone(compiled, claim[0]._table, claim)

    def verdicts(signed: Sequence[Signed]) -> list[bool]:
        claims = [(keys(k), s, m) for k, s, m in signed]
        if request.param == "alone":
            return [alone(claim) for claim in claims]
        return ed25519._verified(compiled, claims)

    return verdicts


def openssl(claims: Iterable[Signed]) -> list[bool]:
    found = []
    for public, signature, message in claims:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except InvalidSignature:
            found.append(False)
        else:
            found.append(True)
    return found


def genuine(count: int, seed: int = 0) -> list[Signed]:
    """By `count` keys, of messages of all lengths from none to several blocks of the hash."""
    rng, made = np.random.default_rng(seed), []
    for number in range(count):
        key = Ed25519PrivateKey.from_private_bytes(rng.bytes(32))
        message = rng.bytes(number * int(rng.integers(40)))
        made.append(Signed(key.public_key().public_bytes_raw(), key.sign(message), message))
    return made


def changed(claim: Signed, bit: int) -> Signed:
    """With one bit of the signature, or after its 512 of the message, the other way round."""
    both = bytearray(claim.signature + claim.message)
    both[bit // 8] ^= 1 << bit % 8
    return Signed(claim.public, bytes(both[:64]), bytes(both[64:]))


def with_s(claim: Signed, s: int) -> Signed:
    return claim._replace(signature=claim.signature[:32] + s.to_bytes(32, "little"))


def s_of(claim: Signed) -> int:
    return int.from_bytes(claim.signature[32:], "little")


def test_published_vectors(together: Together) -> None:
    claims = []
    for secret, message, signature in PUBLISHED:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        assert key.sign(bytes.fromhex(message)).hex() == signature
        public = key.public_key().public_bytes_raw()
        claims.append(Signed(public, bytes.fromhex(signature), bytes.fromhex(message)))
    assert together(claims) == [True] * 4
    assert together([claims[0]._replace(message=b"\0"), *claims[1:]]) == [False, *[True] * 3]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 31])
def test_genuine_signatures_verify_in_batches_of_every_size(together: Together, count: int) -> None:
    claims = genuine(count, seed=count)
    assert together(claims) == [True] * count
    assert together(claims[::-1]) == [True] * count


@pytest.mark.parametrize("count", [8, 9])
def test_a_bad_signature_is_found_wherever_it_stands(together: Together, count: int) -> None:
    claims = genuine(count)
    for place in range(count):
        some = [*claims]
        some[place] = changed(claims[place], 7 * place)
        assert together(some) == [other != place for other in range(count)]


def test_every_bit_of_signature_and_message_counts(together: Together) -> None:
    claim = reference.signed(5, NEUTRAL, 7, b"a message")
    assert together([claim]) == [True]
    assert not any(together([changed(claim, bit) for bit in range(512 + 8 * 9)]))


def test_long_messages(together: Together) -> None:
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(5)]
    claims = [
        Signed(key.public_key().public_bytes_raw(), key.sign(message), message)
        for key, message in zip(keys, [bytes(n) for n in (0, 1, 63, 10**5, 10**6)], strict=True)
    ]
    assert together(claims) == [True] * 5
    assert together([c._replace(message=c.message + b"\0") for c in claims]) == [False] * 5


def test_one_key_with_many_signatures_and_one_signature_many_times(together: Together) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    of_one = [Signed(public, key.sign(bytes(n)), bytes(n)) for n in range(19)]
    assert together(of_one) == [True] * 19
    assert together([of_one[3]] * 11) == [True] * 11


# --- the edges ---------------------------------------------------------------------------


def scalars_at_their_ends() -> list[Signed]:
    """s + L and s + 2L, …, which verify where nobody compares with L; 0, L and all ones."""
    claims = [reference.signed(3 + n, NEUTRAL, 2**64 + n, b"m") for n in range(3)]
    moved = [with_s(c, s_of(c) + k * L) for c in claims for k in range(16)]
    ends = (0, 1, L - 1, L, L + 1, 2**252, 2**255 - 1, 2**255, 2**256 - 1)
    return [*moved, *(with_s(claims[0], s) for s in ends)]


def nonces_at_their_ends() -> list[Signed]:
    """R of each small order, once with each sign and each name; s as if r were zero."""
    small = {y for _, y in reference.points_of_small_order()}
    names = {y + p + sign for y in (*range(19), *small) for p in (0, P) for sign in (0, 2**255)}
    raw = sorted(name.to_bytes(32, "little") for name in names if name < 2**256)
    return [reference.signed(11, NEUTRAL, name, b"a") for name in raw]


def mixed_order() -> list[Signed]:
    """Keys with a part of small order: s fits where h times that part is zero, or is -R."""
    small = [point for point in reference.points_of_small_order() if point != NEUTRAL]
    fresh = [reference.signed(17, torsion, 23, bytes([n])) for torsion in small for n in range(12)]
    bare = [
        reference.signed(17, small[0], reference.encoded(r), bytes([n]))
        for r in small
        for n in range(12)
    ]
    return fresh + bare


def cofactored() -> list[Signed]:
    """R with a part of small order: valid for those who multiply by 8, and for nobody else."""
    claims = []
    for torsion in reference.points_of_small_order():
        nonce = reference.encoded(reference.add(reference.times(29, BASE), torsion))
        claim = reference.signed(13, NEUTRAL, nonce, b"cofactor")
        claims.append(with_s(claim, (s_of(claim) + 29) % L))
    return claims


EDGES = {
    "scalars": (scalars_at_their_ends, 3),
    "nonces": (nonces_at_their_ends, 1),
    "mixed order": (mixed_order, None),
    "cofactor": (cofactored, 1),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_have_the_verdict_of_openssl_and_of_the_rfc(together: Together, name: str) -> None:
    make, good = EDGES[name]
    claims = make()
    verdicts = together(claims)
    assert verdicts == openssl(claims)
    assert verdicts == [reference.verifies(claim) for claim in claims]
    assert good is None or sum(verdicts) == good
    assert 0 < sum(verdicts) < len(verdicts)


def test_what_is_refused_would_have_passed_a_weaker_check() -> None:
    """The cases above are what they claim to be: 8 times the equation holds for all of them."""
    for claim in cofactored():
        h = reference.challenge(claim.public, claim.signature[:32], claim.message)
        left = reference.times(8 * s_of(claim), BASE)
        right = reference.times(8 * h, reference.decoded(claim.public))
        nonce = reference.decoded(claim.signature[:32])
        assert left == reference.add(right, reference.times(8, nonce))
    assert len({c.signature for c in nonces_at_their_ends()}) > 40


def test_lanes_do_not_influence_each_other(together: Together) -> None:
    """The same verdicts in any company and order, and beside what is not even a point."""
    rng = np.random.default_rng(1)
    pool = [*genuine(8), *scalars_at_their_ends()[:20], *mixed_order()[::5], *cofactored()]
    pool += [changed(claim, int(rng.integers(512))) for claim in genuine(8)]
    alone = [together([claim])[0] for claim in pool]
    assert alone == openssl(pool)
    for _ in range(30):
        order = rng.permutation(len(pool))[: rng.integers(1, len(pool))].tolist()
        assert together([pool[at] for at in order]) == [alone[at] for at in order]


def test_random_signatures_agree_with_openssl(together: Together) -> None:
    rng = np.random.default_rng(2)
    claims = genuine(300, seed=3)
    claims[::4] = [changed(claim, int(rng.integers(512))) for claim in claims[::4]]
    claims[1::4] = [claim._replace(signature=rng.bytes(64)) for claim in claims[1::4]]
    verdicts = together(claims)
    assert verdicts == openssl(claims)
    assert sum(verdicts) == 150


def test_points_are_decoded_as_the_rfc_does() -> None:
    for claim in genuine(20):
        assert ed25519.Key(claim.public).point == reference.decoded(claim.public)
    for x, y in reference.points_of_small_order():
        with pytest.raises(ValueError, match="small order"):
            ed25519.Key(reference.encoded((x, y)))


# --- what callers see --------------------------------------------------------------------


def claims_of(count: int, scheme: str = "Ed25519") -> list[Claim]:
    keys = [Identity.from_seed(scheme, bytes([n]) * 32) for n in range(count)]
    return [
        Claim(f"number {n}", key.public, key.sign(bytes([n])), bytes([n]))
        for n, key in enumerate(keys)
    ]


def mixed() -> list[Claim]:
    both = zip(claims_of(5), claims_of(5, "ML-DSA-65"), strict=True)
    return [claim for pair in both for claim in pair]


@pytest.mark.parametrize(
    "claims",
    [*(partial(claims_of, count) for count in (0, 1, 3, 4, 9)), mixed],
    ids=["none", "one", "three", "four", "nine", "mixed"],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_the_first_claim_that_fails_is_named(
    claims: Callable[[], list[Claim]], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(ed25519, "_compiled", lambda: None)
    good = claims()
    verify_all(good)
    for place, claim in enumerate(good):
        for bad in (b"", claim.signature[:-1], claim.signature + b"\0", bytes(64)):
            wrong = claim._replace(signature=bad)
            some = [*good[:place], wrong, *(c._replace(message=b"?") for c in good[place + 1 :])]
            expected = f"^{claim.what}: a signature does not verify$"
            with pytest.raises(DecodeError, match=expected):
                verify_all(some)


def test_what_a_key_keeps_for_batches_does_not_travel() -> None:
    claims = claims_of(9)
    fresh = PublicIdentity("Ed25519", claims[0].public.raw)
    before = pickle.dumps(fresh), repr(fresh)
    verify_all([*claims[1:], claims[0]._replace(public=fresh)])
    assert (pickle.dumps(fresh), repr(fresh)) == before
    again = pickle.loads(before[0])  # noqa: S301 - our own
    assert again == fresh
    verify_all([claims[0]._replace(public=again), *claims[1:]])


def test_a_refusal_is_openssls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel does not accept is asked again, so no good signature can be refused."""
    monkeypatch.setattr(ed25519, "_verified", lambda _, claims: [False] * len(claims))
    verify_all(claims_of(9))


def prepared() -> list[Claim]:
    """Claims under keys that keep tables, where there is a kernel."""
    claims = claims_of(9)
    prepare(claim.public for claim in claims)
    kept = {claim.public._handle._table is not None for claim in claims}
    assert kept == {ed25519._compiled() is not None}
    return claims


@pytest.mark.parametrize("compiled", [True, False])
def test_prepared_keys_verify_as_others_do(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(ed25519, "_compiled", lambda: None)
    for claim in prepared():
        claim.public.verify(claim.signature, claim.message)
        for bad in (b"", claim.signature[:-1], claim.signature + b"\0", bytes(64)):
            with pytest.raises(DecodeError, match=r"^a signature does not verify$"):
                claim.public.verify(bad, claim.message)
        with pytest.raises(DecodeError):
            claim.public.verify(claim.signature, b"?")
        with pytest.raises(InvalidSignature):
            claim.public._handle.verify(claim.signature[:-1], claim.message)


def test_a_refusal_of_one_that_came_alone_is_openssls(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = prepared()
    monkeypatch.setattr(ed25519, "_verified_alone", lambda *_: False)
    for claim in claims:
        claim.public.verify(claim.signature, claim.message)


def test_few_keys_and_keys_of_other_schemes_keep_no_table() -> None:
    claims = [*claims_of(ed25519.MOST_ALONE), *claims_of(5, "ML-DSA-65")]
    prepare(claim.public for claim in claims)
    for claim in claims:
        assert getattr(claim.public._handle, "_table", None) is None
        claim.public.verify(claim.signature, claim.message)


POSTPONED = """
import sys
from secagg import kernels
from secagg.signing import Claim, Identity, prepare, verify_all
kernels.postpone()
keys = [Identity.from_seed("Ed25519", bytes([n]) * 32) for n in range(9)]
prepare(key.public for key in keys)
verify_all([Claim("", key.public, key.sign(b"m"), b"m") for key in keys])
assert "numba" not in sys.modules
"""


def test_few_signatures_load_no_numba_where_that_is_postponed() -> None:
    subprocess.run([sys.executable, "-c", POSTPONED], check=True)


def test_an_identity_drawn_from_a_source_signs_for_batches() -> None:
    keys = [Identity.draw("Ed25519", SeededSource(bytes([n]))) for n in range(10)]
    verify_all([Claim("x", key.public, key.sign(b""), b"") for key in keys])
