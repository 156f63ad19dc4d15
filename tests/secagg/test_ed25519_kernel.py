"""The kernel's arithmetic against whole numbers, with limbs as large as they may be."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import ed25519
from tests.secagg import ed25519_reference as reference
from tests.secagg.ed25519_reference import BASE, D, P

kernel = pytest.importorskip("secagg.kernels.ed25519", reason="needs numba")
field = pytest.importorskip("secagg.kernels.field25519", reason="needs numba")
numba = pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not kernel.compiles(), reason="numba does not compile here")

LANES, LIMBS = kernel.LANES, kernel.LIMBS
ELEMENT, POINT = kernel.ELEMENT_WORDS, kernel.POINT_WORDS
STARTS = [sum(kernel.WIDTHS[:limb]) for limb in range(LIMBS)]
REDUCED = np.array([2**width + 2**17 - 1 for width in kernel.WIDTHS], np.uint64)[:, None]
"""The largest reduced limbs."""
SIZES = [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (5, 1), (16, 1), (1, 3)]


@numba.njit
def product(values: Any, out: int, one: int, other: int) -> None:
    kernel._times(values, out, one, other)


@numba.njit
def square(values: Any, at: int) -> None:
    kernel._square(values, at)


@numba.njit
def double(values: Any, at: int) -> None:
    kernel._double(values, at)


@numba.njit
def add(values: Any, at: int, lanes: Any, base: int) -> None:
    kernel._add(values, at, lanes, base)


def elements(seed: int, size: int) -> np.ndarray:
    """(LIMBS, LANES): one lane with limbs as large as they may be, one of zeros; random others,
    each limb at an end or in between.
    """
    rng, most = np.random.default_rng(seed), REDUCED * np.uint64(size)
    limbs = rng.integers(0, np.broadcast_to(most, (LIMBS, LANES)), endpoint=True, dtype=np.uint64)
    ends = rng.integers(0, 3, (LIMBS, LANES))
    limbs = np.where(ends == 0, most, limbs)
    limbs[:, 0], limbs[:, 1] = most[:, 0], 0
    return limbs


def of(number: int) -> list[int]:
    return [number >> start & (1 << w) - 1 for start, w in zip(STARTS, kernel.WIDTHS, strict=True)]


def spread(numbers: list[int]) -> np.ndarray:
    """Each number in a lane."""
    return np.array([of(number) for number in numbers], np.uint64).T.copy()


def numbers(limbs: np.ndarray) -> list[int]:
    """What the lanes stand for, modulo p."""
    rows = limbs.reshape(LIMBS, LANES).tolist()
    return [
        sum(row[lane] << at for row, at in zip(rows, STARTS, strict=True)) % P
        for lane in range(LANES)
    ]


def reduced(limbs: np.ndarray) -> bool:
    return bool(np.all(limbs.reshape(LIMBS, LANES) <= REDUCED))


@pytest.mark.parametrize("sizes", SIZES)
def test_products_at_the_bounds(sizes: tuple[int, int]) -> None:
    for seed in range(40):
        one, other = (elements(seed + 1000 * at, size) for at, size in enumerate(sizes))
        values = np.concatenate([one.ravel(), other.ravel(), np.empty(ELEMENT, np.uint64)])
        product(values, 2 * ELEMENT, 0, ELEMENT)
        expected = [a * b % P for a, b in zip(numbers(one), numbers(other), strict=True)]
        assert numbers(values[2 * ELEMENT :]) == expected
        assert reduced(values[2 * ELEMENT :])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_squares_at_the_bounds(size: int) -> None:
    for seed in range(40):
        values = elements(seed, size).ravel().copy()
        expected = [number * number % P for number in numbers(values)]
        square(values, 0)
        assert numbers(values) == expected
        assert reduced(values)


def test_the_sizes_that_the_kernel_allows_fit_its_words() -> None:
    """Sums of ten products below 2^64, and 19 times a limb below 2^32."""
    for size, other in SIZES:
        for limb in range(LIMBS):
            total = 0
            for i in range(LIMBS):
                j = (limb - i) % LIMBS
                twice, wrapped = 1 + (i & j & 1), 19 if i > limb else 1
                total += int(REDUCED[i, 0] * REDUCED[j, 0]) * size * other * twice * wrapped
            assert total < 2**64
        assert 19 * other * int(REDUCED.max()) < 2**32
        assert 4 * size * int(REDUCED[1, 0]) < 2**32


def points(seed: int) -> np.ndarray:
    """Four reduced elements, no point of the curve, with limbs at their ends."""
    return np.concatenate([elements(4 * seed + at, 1).ravel() for at in range(4)])


def coordinates(values: np.ndarray) -> list[list[int]]:
    return [numbers(values[at : at + ELEMENT]) for at in range(0, POINT, ELEMENT)]


def all_reduced(values: np.ndarray) -> bool:
    return all(reduced(values[at : at + ELEMENT]) for at in range(0, POINT, ELEMENT))


def test_doubling_at_the_bounds_follows_its_formula() -> None:
    for seed in range(40):
        values = points(seed)
        before = coordinates(values)
        double(values, 0)
        assert all_reduced(values)
        for lane, found in enumerate(zip(*coordinates(values), strict=True)):
            x, y, z, _ = (each[lane] for each in before)
            h, g = x * x + y * y, x * x - y * y
            e, f = h - (x + y) ** 2, 2 * z * z + g
            assert found == (e * f % P, g * h % P, f * g % P, e * h % P)


def test_addition_at_the_bounds_follows_its_formula() -> None:
    """The entries have limbs of size 3: y - x + 2p, with 2p in full."""
    for seed in range(40):
        values = points(seed)
        before = coordinates(values)
        entry = [elements(9 * seed + at, size) for at, size in enumerate((2, 3, 1))]
        tables = np.zeros((LANES, kernel.ENTRY_WORDS), np.uint64)
        for place, limbs in enumerate(entry):
            pairs = limbs[0::2] | limbs[1::2] << np.uint64(32)
            tables[:, 5 * place : 5 * place + 5] = pairs.T
        lanes = np.arange(LANES, dtype=np.int64)[::-1].copy()
        add(values, 0, lanes * kernel.ENTRY_WORDS, tables.ctypes.data // 8)
        assert all_reduced(values)
        plus, minus, twice_dxy = (numbers(limbs)[::-1] for limbs in entry)
        for lane, found in enumerate(zip(*coordinates(values), strict=True)):
            x, y, z, t = (each[lane] for each in before)
            a, b, c = (y - x) * minus[lane], (y + x) * plus[lane], t * twice_dxy[lane]
            e, f, g, h = b - a, 2 * z - c, 2 * z + c, b + a
            assert found == (e * f % P, g * h % P, f * g % P, e * h % P)


def test_inverses() -> None:
    for seed in range(5):
        values = np.concatenate([elements(seed, 1).ravel(), np.empty(2 * ELEMENT, np.uint64)])
        before = numbers(values[:ELEMENT])
        kernel._invert(values, 0, ELEMENT)
        assert numbers(values[:ELEMENT]) == [pow(number, P - 2, P) for number in before]


def test_encoding_is_canonical_whatever_the_limbs() -> None:
    """Around 0, p and 2^255, as limbs in full, and as the largest that are reduced."""
    ends = [0, 1, 18, 19, P - 1, P, P + 1, P + 18, 2**255 - 1, 2**254, P - 2**26, 2**26]
    lanes = [ends[at : at + LANES] for at in range(0, len(ends) - LANES + 1, 4)]
    cases = [*map(spread, lanes), *(elements(seed, 1) for seed in range(20))]
    for x in cases:
        for y in cases:
            values = np.concatenate([x.ravel(), y.ravel()])
            out = np.zeros((LANES, 32), np.uint8)
            for lane in range(LANES):
                kernel._encode(values, lane, out, lane)
            pairs = zip(numbers(x), numbers(y), strict=True)
            assert [row.tobytes() for row in out] == [reference.encoded(pair) for pair in pairs]


@pytest.mark.parametrize("entries", [kernel.KEY_ENTRIES, kernel.ONE_ENTRIES])
def test_every_entry_of_a_table_is_its_multiple(entries: int) -> None:
    """Of a point of mixed order in a full group, and of the ninth, which is alone in its own."""
    torsion = reference.points_of_small_order()[1]
    chosen = [reference.add(reference.times(n, BASE), torsion) for n in range(2, 11)]
    tables = ed25519._made(kernel, chosen, entries)
    for row in (1, 8):
        words = tables[row][1].reshape(kernel.COMBS, entries, kernel.ENTRY_WORDS)
        for comb in range(kernel.COMBS):
            step = reference.times(2 ** (256 // kernel.COMBS * comb), chosen[row])
            multiple = reference.NEUTRAL
            for entry in words[comb].tolist():
                x, y = multiple
                expected = [(y + x) % P, (y - x) % P, 2 * D * x * y % P]
                assert [_number(entry[at : at + 5]) for at in (0, 5, 10)] == expected
                multiple = reference.add(multiple, step)


def test_a_change_of_the_field_is_one_of_the_kernels_file() -> None:
    """Or numba would go on to use what it cached."""
    assert sha256(Path(field.__file__).read_bytes()).hexdigest()[:16] == kernel.FIELD


@pytest.mark.parametrize("seed", range(5))
def test_one_sum_is_the_one_among_many(seed: int) -> None:
    """With scalars of any 256 bits, and of zeros."""
    rng = np.random.default_rng(seed)
    table, one = ed25519._made(kernel, [reference.times(5, BASE)], 16)[0], ed25519._table_of_one()
    ones, others = rng.integers(0, 256, (2, 3, 32), np.uint8)
    ones[1], others[2], many = 0, 0, np.empty((3, 32), np.uint8)
    room = np.empty(2 * kernel.POINT_WORDS, np.uint64)
    kernel.encode_sums(np.full(3, one[0]), np.full(3, table[0]), ones, others, many, room)
    combs = np.arange(kernel.COMBS) * kernel.ENTRY_WORDS
    for row in range(3):
        digits = ones[row].reshape(-1, 4), others[row].reshape(-1, 4)
        places = one[0] + combs * kernel.ONE_ENTRIES, table[0] + combs * kernel.KEY_ENTRIES
        alone = np.empty((1, 32), np.uint8)
        kernel.encode_sums(*places, *digits, alone, room)
        assert alone.tobytes() == many[row].tobytes()


@pytest.mark.skipif(not field._FUSED, reason="this CPU has one arithmetic only")
def test_all_this_holds_without_fused_instructions() -> None:
    features = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2"}
    check = "from secagg.kernels import field25519; assert not field25519._FUSED"
    subprocess.run([sys.executable, "-c", check], check=True, env=features)
    these = [__file__, "-q", "-k", "bounds or inverses or many or multiple"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *these]
    subprocess.run(command, check=True, env=features, stdout=subprocess.DEVNULL)


def _number(words: list[int]) -> int:
    limbs = [half for word in words for half in (word % 2**32, word >> 32)]
    return sum(limb << at for limb, at in zip(limbs, STARTS, strict=True)) % P
