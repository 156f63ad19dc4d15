"""The compiled arithmetic of secret sharing against its NumPy reference, bit for bit."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secagg import field, shamir
from secagg.errors import DecodeError, LocalError
from secagg.field import PRIME
from secagg.prg import StreamKey

kernel = pytest.importorskip("secagg.kernels.shamir", reason="needs numba")
numba = pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not kernel.compiles(), reason="numba does not compile here")

SEEDS = st.integers(0, 2**32 - 1)
COINS = StreamKey(bytes(range(16)), bytes(12))
ROUND_TRIP = """
import sys
from secagg import shamir
from secagg.prg import StreamKey
assert "numba" not in sys.modules
secrets = [bytes(range(n, n + 32)) for n in range(5)]
shares = shamir.deal(secrets, range(1, 8), 4, StreamKey(bytes(range(16)), bytes(12)))
print(b"".join(share for of in shares for share in of).hex())
of = [[shares[point][n] for point in (6, 0, 3, 2)] for n in range(5)]
assert shamir.reconstruct([7, 1, 4, 3], of) == secrets
print(shamir._compiled() is not None)
"""


def elements(seed: int, *shape: int) -> Any:
    """Elements of the field, a quarter of them at its ends."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, PRIME, shape, np.uint64)
    ends = rng.choice(np.array([0, 1, PRIME - 2, PRIME - 1], np.uint64), shape)
    return np.where(rng.random(shape) < 0.25, ends, values)


def distinct(seed: int, count: int) -> Any:
    """Points in [1, p), among them both ends."""
    rng = np.random.default_rng(seed)
    points = {1, PRIME - 1} | set(rng.integers(1, PRIME, 2 * count).tolist())
    return rng.permutation(np.array(sorted(points), np.uint64))[:count].copy()


def evaluated(constant: Any, coefficients: Any, points: Any, run: Any = kernel.evaluate) -> Any:
    out = np.empty((points.size, constant.size), np.uint32)
    run(constant, coefficients, points, out)
    return out


def basis_at(points: Any, run: Any = kernel.lagrange) -> Any:
    out = np.empty_like(points)
    run(points, out)
    return out


def interpolated(shares: Any, weights: Any, run: Any = kernel.interpolate) -> tuple[Any, int]:
    out = np.empty((shares.shape[0], shares.shape[2]), np.uint64)
    return out, int(run(shares, weights, out))


@given(st.integers(0, 40), st.integers(0, 12), st.integers(0, 20), SEEDS)
@example(0, 0, 0, 0)
@example(1, 0, 1, 0)
@example(17, 66, 9, 1)
def test_evaluation(points: int, powers: int, limbs: int, seed: int) -> None:
    constant, coefficients = elements(seed, limbs), elements(seed + 1, powers, limbs)
    at = distinct(seed, points)
    expected = shamir._evaluate_numpy(constant, coefficients, at)
    np.testing.assert_array_equal(evaluated(constant, coefficients, at), expected)


def test_evaluation_at_the_top() -> None:
    """Every intermediate value is as large as it can be."""
    for value in (PRIME - 1, PRIME - 2, 1):
        constant, coefficients = np.full(9, value, np.uint64), np.full((99, 9), value, np.uint64)
        at = np.array([PRIME - 1, PRIME - 2, 1, 2, 2**30], np.uint64)
        expected = [sum(value * pow(int(x), power, PRIME) for power in range(100)) for x in at]
        got = evaluated(constant, coefficients, at)
        assert got[:, 0].tolist() == [total % PRIME for total in expected]
        assert (got == got[:, :1]).all()


@given(st.integers(0, 70), SEEDS)
@example(0, 0)
@example(1, 0)
@example(2, 0)
def test_basis(count: int, seed: int) -> None:
    points = distinct(seed, count)
    expected = field.lagrange_at_zero(points.tolist())
    np.testing.assert_array_equal(basis_at(points), expected)


@given(st.integers(0, 12), st.integers(0, 80), st.integers(0, 12), SEEDS)
@example(0, 0, 9, 0)
@example(1, 1, 1, 0)
def test_weighted_sums(secrets: int, points: int, limbs: int, seed: int) -> None:
    shares, weights = elements(seed, secrets, points, limbs), elements(seed + 1, points)
    out, highest = interpolated(shares.astype(np.uint32), weights)
    np.testing.assert_array_equal(out, field.weighted_sum(shares, weights))
    assert highest == shares.max(initial=0)


@pytest.mark.parametrize("points", [1, 3, 5000])
def test_no_share_overflows_a_sum(points: int) -> None:
    """Not even one that is refused afterwards."""
    shares = np.full((2, points, 9), 2**32 - 1, np.uint32)
    out, highest = interpolated(shares, np.full(points, PRIME - 1, np.uint64))
    assert (out == (2**32 - 1) * (PRIME - 1) * points % PRIME).all()
    assert highest == 2**32 - 1


def test_code_compiled_now_is_right() -> None:
    """The other tests may run what an earlier process left in the cache."""
    fresh = {name: numba.njit(getattr(kernel, name).py_func) for name in kernel.__all__[1:]}
    constant, coefficients, points = elements(0, 18), elements(1, 66, 18), distinct(2, 100)
    np.testing.assert_array_equal(
        evaluated(constant, coefficients, points, fresh["evaluate"]),
        shamir._evaluate_numpy(constant, coefficients, points),
    )
    basis = basis_at(points, fresh["lagrange"])
    np.testing.assert_array_equal(basis, field.lagrange_at_zero(points.tolist()))
    shares = elements(3, 7, 100, 9)
    out, _ = interpolated(shares.astype(np.uint32), basis, fresh["interpolate"])
    np.testing.assert_array_equal(out, field.weighted_sum(shares, basis))


# --- the public calls, with and without the kernels --------------------------------------


def both(call: Any) -> tuple[Any, Any]:
    """What it returns, or the message of its error, compiled and in NumPy."""
    results = []
    for implementation in (shamir._compiled, lambda: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shamir, "_compiled", implementation)
            try:
                results.append(call())
            except (DecodeError, LocalError) as error:
                results.append((type(error), str(error)))
    return results[0], results[1]


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=5), st.integers(1, 30), SEEDS)
def test_both_deal_and_reconstruct_alike(secrets: list[bytes], count: int, seed: int) -> None:
    points = distinct(seed, count).tolist()
    threshold = seed % count + 1
    shares, reference = both(lambda: shamir.deal(secrets, points, threshold, COINS))
    assert shares == reference
    by_secret = [[of[n] for of in shares[-threshold:]] for n in range(len(secrets))]
    assert both(lambda: shamir.reconstruct(points[-threshold:], by_secret)) == (secrets, secrets)


@given(st.lists(st.binary(min_size=36, max_size=36), min_size=1, max_size=5))
@example([bytes(36), b"\xff" * 36])
@example([b"\xfe\xff\xff\x7f" * 9])
@example([b"\xff\xff\xff\x7f" * 9])
@example([b"\0\0\0\x40" + bytes(32)])
def test_both_refuse_the_same_shares(shares: list[bytes]) -> None:
    got, reference = both(lambda: shamir.reconstruct(range(1, len(shares) + 1), [shares]))
    assert got == reference


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31) + b"\x80", b"\1" * 32])
def test_limbs_of_a_secret(secret: bytes) -> None:
    value = int.from_bytes(secret, "little")
    limbs = shamir._split([secret, secret])
    assert limbs.tolist() == [[value >> 30 * place & 2**30 - 1 for place in range(9)]] * 2
    assert shamir._join(limbs).tobytes() == secret + secret


def test_no_point_and_no_share_is_no_secret() -> None:
    with pytest.raises(LocalError, match="at least one"):
        shamir.reconstruct([], [[]])


def test_without_numba_there_is_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("secagg.kernels.shamir")
    monkeypatch.setitem(sys.modules, "secagg.kernels.shamir", None)
    shamir._compiled.cache_clear()
    try:
        assert shamir._compiled() is None
    finally:
        shamir._compiled.cache_clear()


def test_a_process_in_which_numba_does_not_compile() -> None:
    dealt = []
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", ROUND_TRIP],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled},
        )
        shares, with_kernels = done.stdout.split()
        assert with_kernels == str(disabled == "0")
        dealt.append(shares)
    assert dealt[0] == dealt[1]
