"""Fused encoding and decoding against their NumPy reference, bit for bit."""

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secagg import encoding, prg
from secagg.encoding import MAX_WEIGHT, FixedPoint
from secagg.errors import LocalError, ParameterError
from secagg.prg import StreamKey

kernel = pytest.importorskip("secagg.kernels.encode", reason="needs numba")
numba = pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not kernel.compiles(), reason="numba does not compile here")

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(0, 300)
FLOATS = st.sampled_from([np.float32, np.float64])
COINS = StreamKey(bytes(range(16)), bytes(12))
CLIPS = st.one_of(st.sampled_from([1.0, 0.1, 1 / 3, 3.7, 1e-9, 1e9]), st.floats(1e-30, 1e30))
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 1e-40, 1.5, -1.5, 3e38, -3e38]
BROKEN = [math.nan, -math.nan, math.inf, -math.inf]
ROUND_TRIP = """
import sys
import numpy as np
from secagg import encoding
from secagg.prg import StreamKey
assert "numba" not in sys.modules
coins = StreamKey(bytes(range(16)), bytes(12))
values = 2 * np.sin(np.arange(1000, dtype=np.float32))
for bits in (16, 32):
    fixed = encoding.FixedPoint(bits, 1.0, 10, 7)
    words, clipped = fixed.encode_words(values, 3, coins, clip=True)
    mean, _ = fixed.decode(words)
    print(clipped, words.tobytes().hex(), mean.tobytes().hex())
print(encoding._compiled() is not None)
"""


def drawn(seed: int, size: int, clip: float, dtype: Any, *, broken: bool = False) -> Any:
    """Values inside, at and beyond the clip; some denormal; with `broken` also NaN and inf."""
    rng = np.random.default_rng(seed)
    special = [clip, -clip, math.nextafter(clip, math.inf), -math.nextafter(clip, math.inf)]
    special += EXTREMES + BROKEN * broken
    with np.errstate(over="ignore"):  # 3e38 is beyond any clip, and just within float32
        values = rng.uniform(-clip, clip, size).astype(dtype)
        rare = rng.choice(np.array(special), size).astype(dtype)
    return np.where(rng.random(size) < 0.3, rare, values)


def setting(bits: int, clip: float, weight: int) -> tuple[float, float, float, float]:
    return clip, FixedPoint(bits, clip, weight, 1).scale, float(weight), weight * (2.0**bits - 1)


@given(SIZES, st.integers(1, 32), CLIPS, st.integers(1, MAX_WEIGHT), FLOATS, st.booleans(), SEEDS)
@example(0, 1, 1.0, 1, np.float32, False, 0)
@example(1, 32, 1.0, MAX_WEIGHT, np.float64, True, 0)
def test_encoding(
    size: int, bits: int, clip: float, weight: int, dtype: Any, broken: bool, seed: int
) -> None:
    """Also what is in the place of NaN, so that nothing there is left to chance."""
    values = drawn(seed, size, clip, dtype, broken=broken)
    fits = bits + (weight - 1).bit_length() <= 32
    coins = prg.stream(COINS, size, np.uint32, start=seed)
    for ring in (np.uint32, np.uint64) if fits else (np.uint64,):
        words: Any = coins.astype(ring)
        expected: Any = words.copy()
        counts = kernel.encode(values, words, *setting(bits, clip, weight))
        reference = encoding._encode_numpy(values, expected, *setting(bits, clip, weight))
        np.testing.assert_array_equal(words, expected)
        assert counts == reference
        exact = values.astype(np.float64)
        assert counts[0] == sum(not abs(x) <= clip for x in exact.tolist())
        assert counts[1] == sum(not math.isfinite(x) for x in exact.tolist())


@pytest.mark.parametrize("coin", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_coins_at_their_ends(coin: int, dtype: Any) -> None:
    values = np.array([-1, -0.5, 0, 0.25, 1, 2], dtype)
    words = np.full(6, coin, np.uint32)
    assert kernel.encode(values, words, *setting(8, 1.0, 3)) == (1, 0)
    exact = [3 * ((min(x, 1.0) + 1) * 127.5) + coin / 2**32 for x in values.tolist()]
    assert words.tolist() == [min(math.floor(x), 765) for x in exact]


@given(SIZES, st.floats(1e-280, 1e300), CLIPS, st.sampled_from([np.uint32, np.uint64]), SEEDS)
@example(0, 1.0, 1.0, np.uint32, 0)
def test_decoding(size: int, divisor: float, clip: float, ring: Any, seed: int) -> None:
    """Every bit of a 64-bit word: above 2^53 the conversion rounds, on both sides alike."""
    total = np.random.default_rng(seed).integers(0, np.iinfo(ring).max, size, ring, endpoint=True)
    mean, expected = np.empty((2, size), np.float64)
    kernel.decode(total, divisor, clip, mean)
    encoding._decode_numpy(total, divisor, clip, expected)
    assert mean.tobytes() == expected.tobytes()


def test_code_compiled_now_is_right() -> None:
    """The other tests may run what an earlier process left in the cache."""
    values = drawn(0, 3000, 1.0, np.float32, broken=True)
    words, expected = np.array([prg.stream(COINS, 3000, np.uint32)] * 2)
    counts = numba.njit(kernel.encode.py_func)(values, words, *setting(16, 1.0, 9))
    assert counts == encoding._encode_numpy(values, expected, *setting(16, 1.0, 9))
    np.testing.assert_array_equal(words, expected)
    mean, wanted = np.empty((2, 3000), np.float64)
    numba.njit(kernel.decode.py_func)(words, 7.0, 1.0, mean)
    encoding._decode_numpy(expected, 7.0, 1.0, wanted)
    assert mean.tobytes() == wanted.tobytes()


# --- the public calls ----------------------------------------------------------------------


def both(call: Any) -> list[Any]:
    """What it returns, as bytes and a count, or its error: compiled and in NumPy."""
    results: list[Any] = []
    for implementation in (encoding._compiled, lambda: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encoding, "_compiled", implementation)
            patch.setattr(encoding, "_PIECE", 32)
            try:
                array, count = call()
                results.append((array.dtype, array.tobytes(), count))
            except LocalError as error:
                results.append(str(error))
    return results


@given(st.integers(1, 200), st.integers(1, 32), CLIPS, FLOATS, st.booleans(), SEEDS)
def test_both_encode_alike(
    size: int, bits: int, clip: float, dtype: Any, broken: bool, seed: int
) -> None:
    """In pieces of 32 values, against one piece by the reference alone."""
    fixed, values = FixedPoint(bits, clip, 3, 7), drawn(seed, size, clip, dtype, broken=broken)
    for clipping in (True, False):
        compiled, reference = both(
            lambda clipping=clipping: fixed.encode_words(values, 3, COINS, clip=clipping)
        )
        assert compiled == reference
        if isinstance(compiled, tuple):
            whole = prg.stream(COINS, size, np.uint32).astype(np.uint64)
            encoding._encode_numpy(values, whole, *setting(bits, clip, 3))
            assert np.frombuffer(compiled[1], compiled[0]).tolist() == [*whole.tolist(), 3]


@given(st.integers(1, 200), st.integers(1, 32), CLIPS, SEEDS)
def test_both_decode_alike(size: int, bits: int, clip: float, seed: int) -> None:
    fixed, rng = FixedPoint(bits, clip, 3, 7), np.random.default_rng(seed)
    total = rng.integers(0, 21 * (2**bits - 1), size, np.uint64, endpoint=True)
    total[-1] = rng.integers(1, 22)
    compiled, reference = both(lambda: fixed.decode(total))
    assert compiled == reference


@pytest.mark.parametrize("dtype", ["<f2", ">f4", ">f8", np.longdouble])
def test_other_floats(dtype: Any) -> None:
    fixed, values = FixedPoint(8, 1.0, 10, 5), np.linspace(-1, 1, 300).astype(dtype)
    expected = fixed.encode_words(values.astype(np.float64), 7, COINS)
    assert fixed.encode_words(values, 7, COINS).words.tolist() == expected.words.tolist()


def test_a_long_double_beyond_float64_is_infinite() -> None:
    values = np.array([np.finfo(np.longdouble).max])
    with pytest.raises(LocalError, match=r"NaN or infinity|exceed the clip"):
        FixedPoint(8, 1.0, 1, 1).encode(values, 1, COINS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_layouts(dtype: Any) -> None:
    fixed = FixedPoint(8, 1.0, 10, 5)
    values = np.linspace(-1, 1, 100).astype(dtype)
    expected = fixed.encode(values, 2, COINS).tolist()
    backward, wide = values[::-1].copy()[::-1], np.repeat(values, 3)[1::3]
    raw = np.frombuffer(b"\0" + values.tobytes(), np.uint8)[1:].view(dtype)  # also read-only
    assert not raw.flags.aligned
    for layout in (backward, wide, raw, np.ma.array(values), values.view(np.recarray)):
        assert fixed.encode(layout, 2, COINS).tolist() == expected
    assert values.flags.writeable


@pytest.mark.parametrize("dtype", ["u1", ">u2", ">u4", ">u8"])
def test_other_words(dtype: str) -> None:
    fixed, total = FixedPoint(4, 1.0, 3, 5), np.arange(1, 12, dtype=np.uint64)
    mean, weights = fixed.decode(np.repeat(total.astype(dtype), 2)[1::2])
    expected, _ = fixed.decode(total)
    assert (mean.tobytes(), weights) == (expected.tobytes(), 11)


@pytest.mark.parametrize("backend", prg.available_backends())
def test_every_backend_rounds_alike(backend: str) -> None:
    fixed, values = FixedPoint(32, 1.0, 10, 5), np.sin(np.arange(70_001))
    expected = fixed.encode_words(values, 10, COINS)
    with prg.use_backend(backend):
        words, _ = fixed.encode_words(values, 10, COINS)
    np.testing.assert_array_equal(words, expected.words)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_kernel_serves_read_only_and_writable_arrays(dtype: Any) -> None:
    fixed, values = FixedPoint(8, 1.0, 10, 5), np.zeros(3, dtype)
    fixed.decode(fixed.encode_words(values, 1, COINS).words)
    before = len(kernel.encode.signatures), len(kernel.decode.signatures)
    values.flags.writeable = False
    total = fixed.encode_words(values, 1, COINS).words
    total.flags.writeable = False
    fixed.decode(total)
    assert (len(kernel.encode.signatures), len(kernel.decode.signatures)) == before


@pytest.mark.parametrize("clip", [5e-324, 1e-310, 1e308])
def test_a_clip_without_a_scale(clip: float) -> None:
    with pytest.raises(ParameterError, match="finite range"):
        FixedPoint(8, clip, 1, 1)


def test_without_numba_there_is_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("secagg.kernels.encode")
    monkeypatch.setitem(sys.modules, "secagg.kernels.encode", None)
    encoding._compiled.cache_clear()
    try:
        assert encoding._compiled() is None
    finally:
        encoding._compiled.cache_clear()


def test_a_process_in_which_numba_does_not_compile() -> None:
    outputs = []
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", ROUND_TRIP],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled},
        )
        *results, with_kernels = done.stdout.splitlines()
        assert with_kernels == str(disabled == "0")
        outputs.append(results)
    assert outputs[0] == outputs[1]
