"""The discrete Gaussian: its table, its kernel, and its distribution."""

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from secagg import gaussian, prg

COINS = prg.StreamKey(bytes(range(16)), bytes(range(12)))


def weight(k: int) -> Fraction:
    """exp(-k^2 / 81.92) by its series, with a hundred digits."""
    x = Fraction(-k * k * 100, 8192)
    scaled, halvings = x / 2**10, 10
    total = term = Fraction(1)
    for n in range(1, 60):
        term = _cut(term * scaled / n)
        total += term
    for _ in range(halvings):
        total = _cut(total * total)
    return total


def _cut(x: Fraction) -> Fraction:
    return Fraction(int(x * 2**600), 2**600)


def probabilities() -> list[Fraction]:
    """P(|x| = k) for k = 0 to 80."""
    weights = [weight(k) * (2 if k else 1) for k in range(81)]
    return [w / sum(weights) for w in weights]


def test_the_table_is_exact() -> None:
    exact = probabilities()
    entries = gaussian.entries()
    assert len(entries) == gaussian.BOUND == 80
    assert all(entry % 2 == 0 and 0 < entry < 2**128 for entry in entries)
    assert sorted(set(entries), reverse=True) == list(entries)
    for k, entry in enumerate(entries, start=1):
        assert abs(sum(exact[k:]) * 2**128 - entry) <= 1 + Fraction(1, 2**40)


def test_the_distance_and_the_tail_are_as_claimed() -> None:
    exact = probabilities()
    steps = [2**128, *gaussian.entries(), 0]
    ours = [Fraction(above - below, 2**128) for above, below in pairwise(steps)]
    assert sum(abs(p - q) for p, q in zip(ours, exact, strict=True)) / 2 < Fraction(80, 2**128)
    with localcontext() as context:
        context.prec = 60
        beyond = sum(2 * (-Decimal(k * k) / Decimal("81.92")).exp() for k in range(81, 200))
        whole = 1 + sum(2 * (-Decimal(k * k) / Decimal("81.92")).exp() for k in range(1, 81))
        assert beyond / whole <= gaussian.tail() < Decimal(2) ** -118


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 1000])
def test_the_kernel_is_the_reference(count: int) -> None:
    words = prg.stream(COINS, 2 * count, np.uint64)
    assert gaussian.sample(count, COINS).tolist() == gaussian.sample_reference(words)


def test_ties_and_neighbours_of_every_entry_are_decided_by_all_128_bits() -> None:
    compiled = gaussian._compiled()
    if compiled is None:
        pytest.skip("no compiled kernels here")
    numbers = [
        number
        for entry in gaussian.entries()
        for shift in (-(2**64), -2, -1, 0, 1, 2, 2**64)
        if 0 <= (number := entry + shift) < 2**128
    ]
    numbers += [0, 1, 2, 2**64 - 1, 2**64, 2**127, 2**128 - 2, 2**128 - 1]
    words = np.array([n >> 64 for n in numbers] + [n % 2**64 for n in numbers], np.uint64)
    out = np.empty(len(numbers), np.int32)
    compiled.sample(words, *gaussian._table(), out)
    assert out.tolist() == gaussian.sample_reference(words)
    assert out.max() == 80
    assert out.min() == -80


def test_without_a_kernel_the_reference_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = gaussian.sample(100, COINS, start=64)
    monkeypatch.setattr(gaussian, "_compiled", lambda: None)
    assert gaussian.sample(100, COINS, start=64).tolist() == expected.tolist()


def test_start_counts_words_of_the_stream() -> None:
    words = prg.stream(COINS, 2 * 50, np.uint64, start=1000)
    assert gaussian.sample(50, COINS, start=2000).tolist() == gaussian.sample_reference(words)


def test_a_million_samples_have_the_distribution() -> None:
    count = 1 << 20
    samples = gaussian.sample(count, COINS)
    exact = [float(p) for p in probabilities()]
    pmf = {k: exact[abs(k)] / (2 if k else 1) for k in range(-80, 81)}
    kept = [k for k in pmf if pmf[k] * count >= 20]
    observed = np.array([np.sum(samples == k) for k in kept], float)
    expected = np.array([pmf[k] * count for k in kept])
    rest = count - observed.sum(), count - expected.sum()
    chi = float(np.sum((observed - expected) ** 2 / expected)) + (rest[0] - rest[1]) ** 2 / rest[1]
    degrees = len(kept)
    assert abs(chi - degrees) < 4 * (2 * degrees) ** 0.5, (chi, degrees)
    assert abs(samples.mean()) < 4 * 6.4 / count**0.5
    assert abs(samples.var() - 6.4**2) < 4 * 6.4**2 * (2 / count) ** 0.5
    autocorrelation = np.mean(samples[1:].astype(float) * samples[:-1])
    assert abs(autocorrelation) < 4 * 6.4**2 / count**0.5
