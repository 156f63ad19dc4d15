"""GF(2^31 - 1) against Python's integers."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secagg import field
from secagg.field import PRIME
from secagg.prg import StreamKey
from tests.vectors import numbers as reference

WORDS = st.integers(0, 2**64 - 1)
ELEMENTS = st.integers(0, PRIME - 1)
POINTS = st.lists(st.integers(1, PRIME - 1), min_size=1, max_size=12, unique=True)
EXTREMES = [0, 1, PRIME - 1, PRIME, PRIME + 1, 2 * PRIME, 2**31, 2**32 - 1, 2**62 - 1, 2**62]
EXTREMES += [(PRIME - 1) ** 2, PRIME**2, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
COINS = StreamKey(bytes(range(16)), bytes(12))


def array(values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, np.uint64)


def test_the_prime() -> None:
    assert PRIME == 2**31 - 1 == reference.P31
    assert all(PRIME % d for d in range(3, 46341, 2))


@pytest.mark.parametrize("value", EXTREMES)
def test_reduce_at_the_extremes(value: int) -> None:
    reduced = field.reduce(array([value]))
    assert reduced.tolist() == [value % PRIME]
    assert reduced.dtype == np.uint64


@settings(max_examples=200)
@given(st.lists(WORDS, max_size=20))
def test_reduce(values: list[int]) -> None:
    assert field.reduce(array(values)).tolist() == [v % PRIME for v in values]


@given(st.integers(0, 2**33 - 1), st.integers(-3, 3))
def test_reduce_around_multiples_of_the_prime(multiple: int, offset: int) -> None:
    value = min(max(multiple * PRIME + offset, 0), 2**64 - 1)
    assert field.reduce(array([value])).tolist() == [value % PRIME]


def test_reduce_leaves_its_argument_and_keeps_the_shape() -> None:
    values = array([[PRIME, 2**64 - 1], [0, 5]])
    kept = values.copy()
    assert field.reduce(values).shape == (2, 2)
    assert np.array_equal(values, kept)


@given(st.integers(0, 200), st.binary(min_size=28, max_size=28))
def test_uniform_is_the_stream_without_the_prime(count: int, raw: bytes) -> None:
    drawn = field.uniform(count, StreamKey(raw[:16], raw[16:]))
    expected = list(islice(reference.uniform_elements(raw[:16], raw[16:]), count))
    assert drawn.tolist() == expected
    assert drawn.dtype == np.uint64


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 50])
def test_uniform_rejects_the_prime(count: int) -> None:
    """Word 1 of this stream is p, which happens once in 2^31 words."""
    key, iv = reference.REJECTING
    assert list(islice(reference.ctr_words(key, iv), 2))[1] % 2**31 == PRIME
    drawn = field.uniform(count, StreamKey(key, iv)).tolist()
    assert drawn == list(islice(reference.uniform_elements(key, iv), count))
    assert PRIME not in drawn


def test_uniform_looks_uniform() -> None:
    """Chi-squared over 64 bins with fixed coins: 63 degrees of freedom, 5 sigma."""
    drawn = field.uniform(64_000, COINS)
    assert int(drawn.max()) < PRIME
    counts = np.bincount((drawn * np.uint64(64) // np.uint64(PRIME)).astype(int), minlength=64)
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 63 + 5 * (2 * 63) ** 0.5


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.data())
def test_weighted_sum(m: int, t: int, l: int, data: Any) -> None:  # noqa: E741 - as in the docstring
    flat = data.draw(st.lists(ELEMENTS, min_size=m * t * l, max_size=m * t * l))
    weights = data.draw(st.lists(ELEMENTS, min_size=t, max_size=t))
    values = array(flat).reshape(m, t, l)
    expected = [
        [sum(weights[j] * int(values[i, j, k]) for j in range(t)) % PRIME for k in range(l)]
        for i in range(m)
    ]
    assert field.weighted_sum(values, array(weights)).tolist() == expected


@pytest.mark.parametrize("t", [1, 2, 1000])
def test_weighted_sum_at_the_top(t: int) -> None:
    values = np.full((2, t, 9), PRIME - 1, np.uint64)
    total = field.weighted_sum(values, np.full(t, PRIME - 1, np.uint64))
    assert total.tolist() == [[t % PRIME] * 9] * 2  # (-1) * (-1), t times


@given(POINTS)
@example([1])
@example([PRIME - 1])
@example([1, PRIME - 1])
@example([PRIME - 1, PRIME - 2, PRIME - 3])
def test_lagrange_basis(points: list[int]) -> None:
    basis = field.lagrange_at_zero(points).tolist()
    assert basis == reference.lagrange_at_zero(points)
    assert sum(basis) % PRIME == 1  # the constant polynomial


@given(POINTS, st.data())
def test_lagrange_interpolates(points: list[int], data: Any) -> None:
    size = len(points)
    row = data.draw(st.lists(ELEMENTS, min_size=size, max_size=size))
    values = [sum(c * x**i for i, c in enumerate(row)) % PRIME for x in points]
    basis = field.lagrange_at_zero(points)
    assert field.weighted_sum(array(values).reshape(1, -1, 1), basis).tolist() == [[row[0]]]


def test_lagrange_of_no_point_is_empty() -> None:
    assert field.lagrange_at_zero([]).size == 0


def test_lagrange_of_the_same_point_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="invertible"):
        field.lagrange_at_zero([3, 3])


def test_lagrange_of_many_points() -> None:
    points = list(range(1, 300))
    assert field.lagrange_at_zero(points).tolist() == reference.lagrange_at_zero(points)
