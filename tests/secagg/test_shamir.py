"""Sharing and reconstruction, what t - 1 shares say, and what malformed shares get."""

from itertools import combinations, islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import errors, field, shamir
from secagg.errors import DecodeError, LocalError
from secagg.field import PRIME
from secagg.prg import StreamKey
from tests.vectors import numbers as reference

VECTORS = reference.load("shamir")
COINS = StreamKey(bytes(range(16)), bytes(12))
SECRET = bytes(range(100, 132))
SECRETS = st.binary(min_size=32, max_size=32)
POINTS = st.lists(st.integers(1, PRIME - 1), min_size=1, max_size=9, unique=True)
STREAMS = st.builds(
    StreamKey, st.binary(min_size=16, max_size=16), st.binary(min_size=12, max_size=12)
)


def words(share: bytes) -> list[int]:
    return [int.from_bytes(share[i : i + 4], "little") for i in range(0, 36, 4)]


def share_of(limbs: list[int]) -> bytes:
    return b"".join(limb.to_bytes(4, "little") for limb in limbs)


def deal_one(points: list[int], threshold: int, secret: bytes = SECRET) -> list[bytes]:
    return [of[0] for of in shamir.deal([secret], points, threshold, COINS)]


def opened(points: list[int], shares: list[bytes]) -> bytes | None:
    """What one secret's shares reconstruct to; None where they are refused."""
    try:
        return shamir.reconstruct(points, [shares])[0]
    except DecodeError:
        return None


@pytest.fixture(params=["compiled", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both implementations; on a machine without the compiled one, the same one twice."""
    if request.param == "numpy":
        monkeypatch.setattr(shamir, "_compiled", lambda: None)


both = pytest.mark.usefixtures("kernel")


# --- vectors -----------------------------------------------------------------------------


def test_vectors_are_those_of_the_reference() -> None:
    assert reference.shamir_vectors() == VECTORS


@both
@pytest.mark.parametrize("vector", VECTORS["deal"])
def test_known_answers(vector: dict[str, Any]) -> None:
    secrets = [bytes.fromhex(s) for s in vector["secrets"]]
    coins = StreamKey(bytes.fromhex(vector["key"]), bytes.fromhex(vector["iv"]))
    shares = shamir.deal(secrets, vector["points"], vector["threshold"], coins)
    assert [[s.hex() for s in of] for of in shares] == vector["shares"]
    used = slice(0, vector["threshold"])
    by_secret = [list(of) for of in zip(*shares[used], strict=True)]
    assert shamir.reconstruct(vector["points"][used], by_secret) == secrets


def refused_call(vector: dict[str, Any]) -> object:
    if vector["refused"] == "deal":
        secrets = [bytes.fromhex(s) for s in vector["secrets"]]
        return shamir.deal(secrets, vector["points"], vector["threshold"], COINS)
    return shamir.reconstruct(vector["points"], [[bytes.fromhex(s) for s in vector["shares"]]])


@both
@pytest.mark.parametrize("vector", VECTORS["negative"])
def test_refusals(vector: dict[str, Any]) -> None:
    with pytest.raises(reference.error(vector["error"], errors)) as caught:
        refused_call(vector)
    assert vector["message"] in str(caught.value)


# --- any t reconstruct -------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(SECRETS, min_size=1, max_size=4), POINTS, STREAMS, st.data())
def test_any_threshold_many_reconstruct(
    secrets: list[bytes], points: list[int], coins: StreamKey, data: Any
) -> None:
    threshold = data.draw(st.integers(1, len(points)))
    shares = shamir.deal(secrets, points, threshold, coins)
    key, iv = coins.key, coins.iv
    assert shares == reference.shamir_deal(secrets, points, threshold, key, iv)
    chosen = data.draw(st.permutations(range(len(points))))[:threshold]
    by_secret = [[shares[i][s] for i in chosen] for s in range(len(secrets))]
    assert shamir.reconstruct([points[i] for i in chosen], by_secret) == secrets


@both
@pytest.mark.parametrize("threshold", range(1, 7))
def test_every_subset_reconstructs(threshold: int) -> None:
    points = [1, 2, 5, 100, 2**30, PRIME - 1]
    shares = deal_one(points, threshold)
    for subset in combinations(range(6), threshold):
        assert opened([points[i] for i in subset], [shares[i] for i in subset]) == SECRET


@pytest.mark.parametrize(
    "secret", [bytes(32), b"\xff" * 32, b"\0" * 31 + b"\x80", b"\1" + bytes(31)]
)
def test_extreme_secrets(secret: bytes) -> None:
    shares = deal_one([7, 8, 9], 3, secret)
    assert opened([7, 8, 9], shares) == secret
    assert opened([9, 7, 8], [shares[2], shares[0], shares[1]]) == secret


def test_more_than_the_threshold_reconstruct_too() -> None:
    assert opened([1, 2, 3, 4], deal_one([1, 2, 3, 4], 2)) == SECRET


@both
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 17, 64, 300])
def test_limbs_at_the_top_do_not_overflow(count: int) -> None:
    """Every limb p - 1, at the lowest and at the highest points: sums as large as they get."""
    top = share_of([PRIME - 1] * 9)
    for points in (list(range(1, count + 1)), list(range(PRIME - count, PRIME))):
        expected = reference.shamir_limbs(points, [top] * count)
        assert expected == [PRIME - 1] * 9  # the constant polynomial, which is no secret's
        assert opened(points, [top] * count) is None
        ones = [share_of([7] * 9)] * count
        assert opened(points, ones) == opened([1], ones[:1])


def test_threshold_one_hands_out_the_secret() -> None:
    assert [words(s) for s in deal_one([1, 9], 1)] == [reference.split_secret(SECRET)] * 2


@both
def test_a_thousand_points() -> None:
    points = list(range(1, 1001))
    shares = deal_one(points, 501)
    assert opened(points[300:801], shares[300:801]) == SECRET


def test_each_limb_and_each_secret_has_its_own_polynomial() -> None:
    zero = bytes(32)
    shares = shamir.deal([zero, zero], [1], 1, COINS)
    assert shares[0][0] == shares[0][1] == bytes(36)
    drawn = [
        limb for share in shamir.deal([zero, zero], [1, 2], 2, COINS)[0] for limb in words(share)
    ]
    assert len(set(drawn)) == 18


def test_shares_are_the_wire_format() -> None:
    for share in deal_one([1, 2, PRIME - 1], 3):
        assert len(share) == shamir.SHARE_BYTES == 36
        assert all(limb < PRIME for limb in words(share))
        assert shamir.parse_share(share).tolist() == words(share)


# --- fewer say nothing -------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [2, 3, 4])
def test_fewer_shares_fit_every_secret(threshold: int) -> None:
    """For t - 1 shares and *any* other secret there is exactly one choice of coefficients
    that gives the same shares; as the coefficients are uniform, the shares say nothing."""
    points = list(range(3, 3 + threshold))
    shares = deal_one(points, threshold)
    seen = [words(share) for share in shares[: threshold - 1]]
    for other in (bytes(32), b"\xff" * 32, reference.sha256(b"other")):
        limbs = reference.split_secret(other)
        last = [interpolated([0, *points[:-1]], [limb, *column], points[-1])
                for limb, *column in zip(limbs, *seen, strict=True)]  # fmt: skip
        assert opened(points, [*shares[: threshold - 1], share_of(last)]) == other


def interpolated(points: list[int], values: list[int], at: int) -> int:
    shifted = [x - at for x in points]
    basis = reference.lagrange_at_zero(shifted)
    return sum(b * v for b, v in zip(basis, values, strict=True)) % PRIME


def test_one_share_of_two_is_the_secret_under_a_one_time_pad() -> None:
    """t = 2: a share is limb + x * r mod p, and r -> x * r is a bijection of GF(p); so over
    the uniform r every value of the share is equally likely, whatever the limb."""
    drawn = list(islice(reference.uniform_elements(COINS.key, COINS.iv), 9))
    limbs = reference.split_secret(SECRET)
    for x, share in zip([1, 2, PRIME - 1], deal_one([1, 2, PRIME - 1], 2), strict=True):
        pad = [(s - limb) % PRIME for s, limb in zip(words(share), limbs, strict=True)]
        assert [p * pow(x, -1, PRIME) % PRIME for p in pad] == drawn


def test_one_share_of_two_looks_the_same_for_two_secrets() -> None:
    """The first limb's share over 2,000 streams: 16 bins, chi-squared below 5 sigma."""
    for secret in (bytes(32), b"\xff" * 32):
        firsts = [
            words(
                shamir.deal([secret], [1, 2], 2, StreamKey(bytes(16), i.to_bytes(12, "big")))[0][0]
            )[0]
            for i in range(2000)
        ]
        counts = np.bincount([16 * first // PRIME for first in firsts], minlength=16)
        assert ((counts - 125.0) ** 2 / 125).sum() < 15 + 5 * 30**0.5


def test_no_coefficient_is_used_twice() -> None:
    drawn = [
        c for row in reference.polynomials([SECRET] * 3, 5, COINS.key, COINS.iv) for c in row[1:]
    ]
    assert len(set(drawn)) == 3 * 9 * 4


# --- wrong shares ------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=30, max_size=40), min_size=1, max_size=4))
def test_random_shares_are_refused_or_reconstruct_something(shares: list[bytes]) -> None:
    secret = opened(list(range(1, len(shares) + 1)), shares)
    assert secret is None or len(secret) == 32


@settings(max_examples=60)
@given(st.integers(0, 2), st.integers(0, 8), st.integers(1, PRIME - 1))
def test_a_wrong_share_never_gives_the_secret(which: int, limb: int, offset: int) -> None:
    shares = deal_one([1, 2, 3], 3)
    changed = words(shares[which])
    changed[limb] = (changed[limb] + offset) % PRIME
    shares[which] = share_of(changed)
    assert opened([1, 2, 3], shares) != SECRET


def test_shares_under_the_wrong_points_or_of_another_sharing() -> None:
    shares, other = deal_one([1, 2, 3], 2), deal_one([1, 2, 3], 2, bytes(32))
    assert opened([1, 3], shares[:2]) != SECRET
    assert opened([2, 1], shares[:2]) != SECRET
    assert opened([1, 2], [shares[0], other[1]]) != SECRET
    assert opened([1, 2], deal_one([1, 2, 3], 3)[:2]) != SECRET  # one too few


@both
@pytest.mark.parametrize("place", range(9))
def test_limbs_out_of_range_after_reconstruction(place: int) -> None:
    top = 2**16 if place == 8 else 2**30
    limbs = [0] * 9
    for limb, good in ((top - 1, True), (top, False), (PRIME - 1, False)):
        limbs[place] = limb
        assert (opened([1], [share_of(limbs)]) is not None) is good


@pytest.mark.parametrize("place", range(9))
@pytest.mark.parametrize("limb", [PRIME, PRIME + 1, 2**31, 2**32 - 1])
def test_limbs_out_of_range_in_a_share(place: int, limb: int) -> None:
    limbs = [0] * 9
    limbs[place] = limb
    with pytest.raises(DecodeError, match="not below the prime"):
        shamir.parse_share(share_of(limbs))


@pytest.mark.parametrize("size", [0, 1, 32, 35, 37, 72])
def test_shares_of_another_length(size: int) -> None:
    with pytest.raises(DecodeError, match="36 bytes"):
        shamir.parse_share(bytes(size))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_shares_one_after_the_other_are_checked_as_one_by_one(count: int) -> None:
    top = share_of([PRIME - 1] * 9)
    good = b"".join([*deal_one([1, 2], 2), top, *deal_one([3, 4, 5, 6], 3)][:count])
    shamir.check_shares(good, count)
    assert len(good) == 36 * count
    for wrong in {count - 1, count + 1, count + 36} - {-1}:
        with pytest.raises(DecodeError, match=f"where {wrong} shares have {36 * wrong}"):
            shamir.check_shares(good, wrong)
    for size in {len(good) - 1, len(good) + 1, len(good) + 36} - {-1}:
        with pytest.raises(DecodeError, match=f"^{size} bytes"):
            shamir.check_shares(good[:size].ljust(size, b"\0"), count)


@pytest.mark.parametrize("place", [0, 8, 9, 17, 26])
@pytest.mark.parametrize("limb", [PRIME, PRIME + 1, 2**31, 2**32 - 1])
def test_a_limb_out_of_range_in_any_of_several_shares(place: int, limb: int) -> None:
    limbs = [PRIME - 1] * 27
    shamir.check_shares(share_of(limbs), 3)
    limbs[place] = limb
    with pytest.raises(DecodeError, match="a share has a limb that is not below the prime"):
        shamir.check_shares(share_of(limbs), 3)


def test_errors_show_no_share_and_no_secret() -> None:
    share = share_of([PRIME - 1] * 9)
    with pytest.raises(DecodeError) as caught:
        shamir.reconstruct([1], [[share]])
    assert not any(part in str(caught.value) for part in (str(PRIME - 1), share.hex(), repr(share)))


# --- used wrongly ------------------------------------------------------------------------


@both
def test_nothing_to_reconstruct() -> None:
    assert shamir.reconstruct([1, 2], []) == []


@pytest.mark.parametrize("points", [[0], [PRIME], [-1], [1, 1], [2**31], [1, 2, 3, 2]])
def test_bad_points(points: list[int]) -> None:
    for call in (
        lambda: shamir.deal([SECRET], points, 1, COINS),
        lambda: shamir.reconstruct(points, [[bytes(36)] * len(points)]),
    ):
        with pytest.raises(LocalError, match="points must be distinct"):
            call()


@pytest.mark.parametrize("threshold", [-1, 0, 4, 2**31])
def test_bad_thresholds(threshold: int) -> None:
    with pytest.raises(LocalError, match=f"threshold {threshold} with 3 points"):
        shamir.deal([SECRET], [1, 2, 3], threshold, COINS)


def local_error(call: Any) -> None:
    try:
        result = call()
    except LocalError:
        return
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    pytest.fail(f"accepted: {result}")


@pytest.mark.parametrize(
    "shares",
    [
        pytest.param([[bytes(36)]], id="one share for two points is broadcast"),
        pytest.param([[]], id="none"),
        pytest.param([[bytes(36)] * 3], id="three for two"),
        pytest.param([[bytes(36)] * 2, [bytes(36)]], id="ragged"),
    ],
)
def test_the_number_of_shares_is_that_of_the_points(shares: list[list[bytes]]) -> None:
    local_error(lambda: shamir.reconstruct([1, 2], shares))


@both
def test_one_point_for_two_shares() -> None:
    local_error(lambda: shamir.reconstruct([1], [[bytes(36), bytes(36)]]))


@both
def test_nothing_to_deal() -> None:
    assert shamir.deal([], [1, 2], 2, COINS) == [[], []]


def test_points_are_whole_numbers() -> None:
    local_error(lambda: shamir.deal([SECRET], [1, 1.5], 2, COINS))  # type: ignore[list-item]


def test_coins_that_are_none_are_refused() -> None:
    with pytest.raises(LocalError):
        shamir.deal([SECRET], [1, 2], 2, None)  # type: ignore[arg-type]


def test_dealing_and_the_field_agree_on_a_vector_of_secrets() -> None:
    """Many secrets with one basis, against one call a secret."""
    secrets = [reference.sha256(bytes([i])) for i in range(20)]
    shares = shamir.deal(secrets, [4, 5, 6], 3, COINS)
    together = shamir.reconstruct([4, 5, 6], [list(of) for of in zip(*shares, strict=True)])
    assert together == secrets
    assert [opened([4, 5, 6], [of[i] for of in shares]) for i in range(20)] == secrets
    assert field.lagrange_at_zero([4, 5, 6]).tolist() == reference.lagrange_at_zero([4, 5, 6])


@pytest.mark.parametrize("secrets", [0, 1, 3])
def test_shares_in_an_array(secrets: int) -> None:
    held = [bytes([n]) * 32 for n in range(secrets)]
    dealt = shamir.deal(held, [1, 2, 3], 2, COINS)
    of_secret = [[dealt[point][at] for point in (0, 2)] for at in range(secrets)]
    raw = np.frombuffer(b"".join(share for of in of_secret for share in of), np.uint8)
    found = shamir.reconstruct_rows([1, 3], raw.reshape(secrets, 2, 36))
    assert found.shape == (secrets, 32)
    assert found.tobytes() == b"".join(held)


@pytest.mark.parametrize(
    "shares",
    [
        np.zeros((1, 3, 36), np.uint8),
        np.zeros((1, 2, 35), np.uint8),
        np.zeros((2, 36), np.uint8),
        np.zeros((1, 2, 9), np.uint32),
    ],
)
def test_an_array_of_another_shape(shares: Any) -> None:
    local_error(lambda: shamir.reconstruct_rows([1, 2], shares))
