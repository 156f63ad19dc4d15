"""Transforms: against the definition, the NumPy reference, and exact products."""

import platform
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import ntt, rlwe_numpy
from secagg.errors import LocalError, ParameterError

PRIMES = ntt.primes(6)
COMPILED = ntt.kernels()
EACH_DEGREE = pytest.mark.parametrize("degree", ntt.DEGREES)
KERNELS = pytest.mark.skipif(COMPILED is None, reason="no compiled kernels here")


def polynomials(degree: int, prime: int, count: int = 1) -> np.ndarray:
    """Uniform ones, and the extremes: all zero, all p - 1, and 1."""
    generator = np.random.default_rng(degree)
    uniform = generator.integers(0, prime, (count, degree), np.uint32)
    extremes = np.zeros((3, degree), np.uint32)
    extremes[1] = prime - 1
    extremes[2, 0] = 1
    return np.concatenate([uniform, extremes])


def product(one: np.ndarray, other: np.ndarray, prime: int) -> list[int]:
    """Modulo X^N + 1 and p, by one multiplication of integers (Kronecker)."""
    degree, slot = len(one), 10
    a, b = (
        int.from_bytes(b"".join(int(c).to_bytes(slot, "little") for c in poly), "little")
        for poly in (one, other)
    )
    raw = (a * b).to_bytes(2 * degree * slot, "little")
    whole = [int.from_bytes(raw[at : at + slot], "little") for at in range(0, len(raw), slot)]
    return [(whole[i] - whole[i + degree]) % prime for i in range(degree)]


def test_the_primes_are_all_there_are() -> None:
    candidates = range(2**30 - 2**15 + 1, min(PRIMES) - 1, -(2**15))
    found = [n for n in candidates if all(n % d for d in range(3, 2**15, 2))]
    assert tuple(found) == PRIMES
    with pytest.raises(ParameterError, match="there are only"):
        ntt.primes(100_000)


@given(st.integers(2, 30_000))
def test_primality_is_that_of_trial_division(n: int) -> None:
    assert ntt.is_prime(n) is all(n % d for d in range(2, int(n**0.5) + 1))


@pytest.mark.parametrize("n", [561, 2047, 1_373_653, 25_326_001])
def test_pseudoprimes_are_not_prime(n: int) -> None:
    assert not ntt.is_prime(n)


@pytest.mark.parametrize("n", [-1, 0, 1, 3_215_031_751])
def test_primality_is_decided_in_a_range(n: int) -> None:
    with pytest.raises(LocalError, match="is decided for"):
        ntt.is_prime(n)


@EACH_DEGREE
@pytest.mark.parametrize("prime", [PRIMES[0], PRIMES[-1]])
def test_a_transform_is_the_polynomial_at_the_odd_powers_of_psi(degree: int, prime: int) -> None:
    transform = ntt.transform(degree, prime)
    psi = int(transform.powers[degree // 2])
    assert pow(psi, degree, prime) == prime - 1
    assert sorted(transform.exponents) == list(range(1, 2 * degree, 2))
    bits = degree.bit_length() - 1
    for k in range(0, degree, 7):  # the order that docs/lattice.md gives
        swapped = k & ~255 | (k & 15) << 4 | (k >> 4) & 15
        assert transform.exponents[k] == 2 * int(f"{swapped:0{bits}b}"[::-1], 2) + 1
    values = polynomials(degree, prime)
    result = values.copy()
    transform.forward(result)
    for place in (0, 1, 15, 16, 17, 255, 256, degree - 1):
        point = pow(psi, int(transform.exponents[place]), prime)
        expected = 0
        for coefficient in reversed(values[0].tolist()):
            expected = (expected * point + coefficient) % prime
        assert result[0, place] == expected


@EACH_DEGREE
@pytest.mark.parametrize("prime", PRIMES[::5])
def test_kernels_agree_with_the_reference_to_the_bit(degree: int, prime: int) -> None:
    transform = ntt.transform(degree, prime)
    values = polynomials(degree, prime, 3)
    result = values.copy()
    transform.forward(result)
    assert np.array_equal(result, transform.forward_reference(values))
    back = result.copy()
    transform.inverse(back)
    assert np.array_equal(back, values)
    assert np.array_equal(transform.inverse_reference(result), values)


@EACH_DEGREE
def test_without_kernels_numpy_does_it(degree: int, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = ntt.transform(degree, PRIMES[1])
    values = polynomials(degree, PRIMES[1])
    expected = values.copy()
    transform.forward(expected)
    monkeypatch.setattr(ntt, "kernels", lambda: None)
    result = values.copy()
    transform.forward(result)
    assert np.array_equal(result, expected)
    transform.inverse(result)
    assert np.array_equal(result, values)


@pytest.mark.parametrize("degree", [1024, 2048])
@pytest.mark.parametrize("prime", PRIMES[::5])
def test_products_are_negacyclic(degree: int, prime: int) -> None:
    transform = ntt.transform(degree, prime)
    one, other = polynomials(degree, prime, 2)[:2]
    expected = product(one, other, prime)
    for poly in (one, other):
        transform.forward(poly)
    (COMPILED or rlwe_numpy).multiply(one, other, ntt.quotients(other, prime), np.uint32(prime))
    transform.inverse(one)
    assert one.tolist() == expected


@KERNELS
def test_an_inverse_takes_values_below_twice_the_prime() -> None:
    prime = PRIMES[-1]
    transform = ntt.transform(4096, prime)
    values = polynomials(4096, prime)
    lazy = np.where(values % 2, values, values + np.uint32(prime)).astype(np.uint32)
    lazy[1] = 2 * prime - 1
    expected = transform.inverse_reference((lazy.astype(np.uint64) % prime).astype(np.uint32))
    transform.inverse(lazy)
    assert np.array_equal(lazy, expected)


@KERNELS
def test_a_product_takes_any_word() -> None:
    prime = PRIMES[-1]
    values = np.array([0, 1, prime - 1, prime, 2 * prime, 2**32 - 1, 2**31, 7] * 2, np.uint32)
    factors = np.array([0, 1, prime - 1, prime // 2] * 4, np.uint32)
    expected = values.astype(np.uint64) * factors % prime
    result = values.copy()
    COMPILED.multiply(result, factors, ntt.quotients(factors, prime), np.uint32(prime))
    assert np.all(result < 2 * prime)
    assert np.array_equal(result % np.uint32(prime), expected)


@KERNELS
@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_sums_are_reduced(which: int, seed: int) -> None:
    prime = PRIMES[which]
    generator = np.random.default_rng(seed)
    one, other = generator.integers(0, prime, (2, 33), np.uint32)
    one[:2], other[:2] = (0, prime - 1), (0, prime - 1)
    expected = (one.astype(np.uint64) + other) % prime
    COMPILED.add(one, other, np.uint32(prime))
    assert np.array_equal(one, expected)


@given(st.integers(0, 5), st.lists(st.integers(0, 2**30), min_size=1))
def test_quotients_are_exact(which: int, drawn: list[int]) -> None:
    prime = PRIMES[which]
    factors = [*(n % prime for n in drawn), 0, 1, prime - 1, prime // 2, prime // 2 + 1]
    exact = [(factor << 32) // prime for factor in factors]
    assert ntt.quotients(np.array(factors, np.uint32), prime).tolist() == exact


@KERNELS
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 instructions")
@pytest.mark.parametrize("name", ["multiply", "forward"])
def test_the_machine_code_multiplies_vectors_and_divides_nothing(name: str) -> None:
    numba = pytest.importorskip("numba")
    words = numba.types.Array(numba.uint32, 1, "C")
    kernel, signature = {
        "multiply": (COMPILED.multiply, (words, words, words, numba.uint32)),
        "forward": (COMPILED.forward, (words, words, words, numba.uint32)),
    }[name]
    compiled = numba.njit(signature, nogil=True)(kernel.py_func)
    code = compiled.inspect_asm(compiled.signatures[0])
    operations = set(re.findall(r"^\t([a-z]\w+)", code, re.MULTILINE))
    assert any("pmuludq" in operation for operation in operations)
    assert not any("div" in operation for operation in operations)


@pytest.mark.parametrize("degree", [0, 16, 512, 4095, 32768])
def test_other_degrees_are_refused(degree: int) -> None:
    with pytest.raises(ParameterError, match="is none of"):
        ntt.transform(degree, PRIMES[0])


@pytest.mark.parametrize("prime", [2, 2**15 + 1, 2**30 - 2**15 + 1, 2147352577, 1073741789])
def test_other_moduli_are_refused(prime: int) -> None:
    with pytest.raises(ParameterError, match="is not a prime"):
        ntt.transform(4096, prime)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(4095, np.uint32),
        np.zeros(4096, np.uint64),
        np.zeros(4096, np.int32),
        np.zeros(8192, np.uint32)[::2],
    ],
    ids=["short", "wide", "signed", "strided"],
)
def test_other_arrays_are_refused(values: np.ndarray) -> None:
    transform = ntt.transform(4096, PRIMES[0])
    for way in (transform.forward, transform.inverse):
        with pytest.raises(LocalError, match="contiguous uint32"):
            way(values)
