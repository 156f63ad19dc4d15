"""Shared vectors: any t shares open the sum, fewer do not, and wrong ones are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import packing, prg, vshare
from secagg.errors import DecodeError, LocalError
from secagg.field import PRIME
from tests.protocols.support import examples

LENGTH = 100


def first(shares: dict[int, bytes], threshold: int, bound: int = 80):
    return next(vshare.candidates(shares, threshold, LENGTH, bound), None)


def coins(number: int) -> prg.StreamKey:
    return prg.StreamKey(number.to_bytes(16, "big"), bytes(12))


def vector(number: int, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(number).integers(-80, 81, length, np.int64)


@given(st.data())
@examples(0.3)
def test_any_t_shares_open_the_sum(data) -> None:
    count = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, count))
    dealers = data.draw(st.integers(1, 5))
    points = data.draw(
        st.lists(st.integers(1, PRIME - 1), min_size=count, max_size=count, unique=True)
    )
    dealt = [vshare.deal(vector(d), points, threshold, coins(d)) for d in range(dealers)]
    sums = {
        point: vshare.add([shares[at] for shares in dealt], LENGTH)
        for at, point in enumerate(points)
    }
    chosen = data.draw(st.permutations(points))[:threshold]
    opened, wrong = first({point: sums[point] for point in chosen}, threshold, 80 * dealers)
    assert opened.tolist() == sum(vector(d) for d in range(dealers)).tolist()
    assert not wrong


@pytest.mark.parametrize("wrong", [(), (2,), (7,), (1, 9), (2, 7, 8)])
def test_wrong_shares_are_found_where_more_than_t_are_there(wrong: tuple[int, ...]) -> None:
    points, threshold = list(range(1, 10)), 5
    shares = dict(zip(points, vshare.deal(vector(1), points, threshold, coins(1)), strict=True))
    for point in wrong:
        shares[point] = vshare.deal(vector(point), points, threshold, coins(100 + point))[0]
    opened, found = first(shares, threshold)
    assert opened.tolist() == vector(1).tolist()
    assert found == frozenset(wrong)


@pytest.mark.parametrize("wrong", [(), (40,), tuple(range(1, 25))])
def test_half_of_what_a_committee_of_100_can_spare_may_be_wrong(wrong: tuple[int, ...]) -> None:
    points, threshold = list(range(1, 101)), 51
    shares = dict(zip(points, vshare.deal(vector(1), points, threshold, coins(1)), strict=True))
    for point in wrong:
        elements = packing.unpack(shares[point], 31, LENGTH)
        elements[point % LENGTH] ^= 1
        shares[point] = packing.pack(elements, 31)
    opened, found = first(shares, threshold)
    assert opened.tolist() == vector(1).tolist()
    assert found == frozenset(wrong)


@pytest.mark.parametrize("count", [4, 5])
def test_one_wrong_element_is_enough_to_be_found(count: int) -> None:
    points, threshold = list(range(1, count + 1)), 3
    shares = dict(zip(points, vshare.deal(vector(1), points, threshold, coins(1)), strict=True))
    for place in (0, 63, 64, LENGTH - 1):
        elements = packing.unpack(shares[2], 31, LENGTH)
        elements[place] = (elements[place] + 1) % PRIME
        found = list(vshare.candidates(shares | {2: packing.pack(elements, 31)}, 3, LENGTH, 80))
        right = [wrong for values, wrong in found if values.tolist() == vector(1).tolist()]
        assert right == [{2}]
        assert count == 4 or found[0][1] == {2}


def test_a_wrong_share_among_exactly_t_gives_nothing_short() -> None:
    points = [1, 2, 3]
    shares = dict(zip(points, vshare.deal(vector(1), points, 3, coins(1)), strict=True))
    shares[2] = vshare.deal(vector(2), points, 3, coins(2))[1]
    assert first(shares, 3) is None


def test_all_wrong_ends_in_bounded_time() -> None:
    points = list(range(1, 41))
    shares = {p: vshare.deal(vector(p), [p], 1, coins(p))[0] for p in points}
    shares = {p: vshare.deal(vector(p), [p, p + 1], 2, coins(p))[0] for p in shares}
    assert first(shares, 21) is None


def test_the_bound_is_inclusive() -> None:
    values = np.full(LENGTH, -80, np.int64)
    values[0] = 80
    shares = dict(zip([1, 2], vshare.deal(values, [1, 2], 2, coins(1)), strict=True))
    assert first(shares, 2)[0].tolist() == values.tolist()
    assert first(shares, 2, 79) is None


def test_elements_are_below_the_prime() -> None:
    top = packing.pack(np.full(3, PRIME, np.uint32), 31)
    with pytest.raises(DecodeError, match="not below the prime"):
        vshare.check(top, 3)
    with pytest.raises(DecodeError):
        vshare.check(top[:-1], 3)
    vshare.check(packing.pack(np.full(3, PRIME - 1, np.uint32), 31), 3)


def test_numpy_deals_the_same_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = vector(1), [1, 7, PRIME - 1], 3, coins(4)
    expected = vshare.deal(*arguments)
    monkeypatch.setattr(vshare, "_compiled", lambda: None)
    assert vshare.deal(*arguments) == expected


@pytest.mark.parametrize(
    ("points", "threshold"), [([1, 1], 2), ([1, 2], 3), ([1], 0), ([0], 1), ([PRIME], 1)]
)
def test_bad_points_and_thresholds_are_refused(points: list[int], threshold: int) -> None:
    with pytest.raises(LocalError):
        vshare.deal(vector(1), points, threshold, coins(1))
