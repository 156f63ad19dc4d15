"""Encoding, packing and adding up over several threads: the same bits, whatever their number."""

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import encoding, packing, prg
from secagg.encoding import FixedPoint
from secagg.errors import LocalError

_parallel = pytest.importorskip("secagg.kernels._parallel", reason="needs numba")
pytestmark = pytest.mark.skipif(packing._compiled() is None, reason="numba does not compile here")

SEEDS = st.integers(0, 2**32 - 1)
THREADS = st.integers(1, 5)
WIDTHS = st.integers(1, 64)
BY_TILES = """
import numpy as np
from secagg import packing
from secagg.kernels import _jit
values = np.arange(10**6, dtype=np.uint32)
print(_jit.cores(), hash(packing.pack(values, 20)) == hash(packing.pack(values, 20, threads=3)))
"""


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred values are many tiles."""
    monkeypatch.setattr(packing, "_TILE", 64)
    monkeypatch.setattr(encoding, "_PIECE", 37)


def drawn(seed: int, size: int, bits: int) -> Any:
    kind: Any = np.uint32 if bits <= 32 else np.uint64
    words = np.random.default_rng(seed).integers(0, 2**64, size, np.uint64)
    return (words >> np.uint64(64 - bits)).astype(kind)


@given(SEEDS, WIDTHS, st.integers(0, 2000), st.integers(0, 70), THREADS)
def test_packing(seed: int, bits: int, size: int, skip: int, threads: int) -> None:
    """From any place of an array on, and into any place of one."""
    values = drawn(seed, skip + size, bits)[skip:]
    data = packing.pack(values, bits, threads=threads)
    assert data == packing._pack_numpy(values, bits)
    assert np.array_equal(packing.unpack(data, bits, size, threads=threads), values)
    total = drawn(seed + 1, skip + size + 9, 8 * values.itemsize)
    expected = total.copy()
    packing.add_packed(total[skip : skip + size], memoryview(data), bits, threads=threads)
    packing._add_numpy(expected[skip : skip + size], np.frombuffer(data, np.uint8), bits)
    assert np.array_equal(total, expected)


@given(SEEDS, st.integers(1, 31), st.integers(1, 500), THREADS)
def test_a_value_that_does_not_fit_is_found_in_any_tile(
    seed: int, bits: int, size: int, threads: int
) -> None:
    values = drawn(seed, size, bits)
    values[seed % size] |= np.uint32(1 << bits)
    with pytest.raises(LocalError, match=f"does not fit in {bits} bits"):
        packing.pack(values, bits, threads=threads)


@pytest.mark.parametrize("bits", [1, 7, 8, 13, 16, 29, 32, 41, 57, 58, 63, 64])
def test_tiles_of_the_real_size(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_TILE", 1 << 16)
    values = drawn(bits, 5 * (1 << 16) + 77, bits)
    data = packing.pack(values, bits, threads=2)
    assert data == packing.pack(values, bits, threads=1) == packing._pack_numpy(values, bits)
    assert np.array_equal(packing.unpack(data, bits, values.size, threads=2), values)


@given(
    SEEDS,
    st.integers(1, 600),
    st.integers(1, 32),
    st.sampled_from([np.float32, np.float64]),
    st.binary(min_size=28, max_size=28),
    THREADS,
)
def test_encoding_and_decoding(
    seed: int, size: int, bits: int, kind: Any, key: bytes, threads: int
) -> None:
    """Against one pass of the reference over all, with the stream that OpenSSL makes."""
    fixed, coins = FixedPoint(bits, 1.0, 3, 7), prg.StreamKey(key[:16], key[16:])
    values = np.random.default_rng(seed).uniform(-1.1, 1.1, size).astype(kind)
    words, clipped = fixed.encode_words(values, 3, coins, clip=True, threads=threads)
    expected = prg.stream(coins, size, np.uint32).astype(np.uint64)
    top = 3.0 * (2**bits - 1)
    beyond, _ = encoding._encode_numpy(values, expected, 1.0, fixed.scale, 3.0, top)
    assert words.tolist() == [*expected.tolist(), 3]
    assert clipped == beyond
    mean, weights = fixed.decode(words, threads=threads)
    reference = np.empty(size)
    encoding._decode_numpy(expected, fixed.scale * 3, 1.0, reference)
    assert (mean.tobytes(), weights) == (reference.tobytes(), 3)


@pytest.mark.parametrize("place", [0, 36, 37, 499])
def test_what_no_piece_may_hold_is_found_in_any(place: int) -> None:
    fixed, coins = FixedPoint(8, 1.0, 3, 7), prg.StreamKey(bytes(16), bytes(12))
    values = np.zeros(500)
    values[place] = np.nan
    with pytest.raises(LocalError, match="NaN"):
        fixed.encode_words(values, 1, coins, clip=True, threads=3)
    total = np.ones(501, np.uint64)
    total[place] = 256
    with pytest.raises(LocalError, match="beyond what the weights in it allow"):
        fixed.decode(total, threads=3)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_threads_are_a_whole_number(threads: Any) -> None:
    fixed, coins = FixedPoint(8, 1.0, 3, 7), prg.StreamKey(bytes(16), bytes(12))
    for call in (
        lambda: packing.pack(np.zeros(3, np.uint32), 5, threads=threads),
        lambda: packing.unpack(bytes(2), 5, 3, threads=threads),
        lambda: packing.add_packed(np.zeros(3, np.uint32), bytes(2), 5, threads=threads),
        lambda: fixed.encode(np.zeros(3), 1, coins, threads=threads),
        lambda: fixed.encode_words(np.zeros(3), 1, coins, threads=threads),
        lambda: fixed.decode(np.ones(3, np.uint32), threads=threads),
    ):
        with pytest.raises(LocalError, match="a number of threads"):
            call()


@pytest.mark.parametrize("threads", [1, 3])
def test_so_many_threads_take_part_and_no_more(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[threading.Thread] = []

    class Counted(threading.Thread):
        def start(self) -> None:
            begun.append(self)
            super().start()

    monkeypatch.setattr(_parallel, "Thread", Counted)
    values, coins = np.zeros(2000, np.uint32), prg.StreamKey(bytes(16), bytes(12))
    fixed = FixedPoint(8, 1.0, 3, 7)
    data = packing.pack(values, 5, threads=threads)
    packing.unpack(data, 5, 2000, threads=threads)
    packing.add_packed(values, data, 5, threads=threads)
    words, _ = fixed.encode_words(np.zeros(2000), 1, coins, threads=threads)
    fixed.decode(words, threads=threads)
    assert len(begun) == 5 * (threads - 1)
    packing.pack(values[:64], 5, threads=threads)
    assert len(begun) == 5 * (threads - 1), "one tile has no use for a second thread"


def test_numba_says_how_many_threads_there_are_by_default() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BY_TILES],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"NUMBA_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == ["1", "True"]


# --- who spreads the work ------------------------------------------------------------------


def test_a_helper_works_in_the_callers_context() -> None:
    """So that a backend that is chosen for a block is the helpers' as well."""
    seen: set[str] = set()
    slowest = prg.available_backends()[-1]
    with prg.use_backend(slowest):
        _parallel.spread(lambda _low, _high: seen.add(prg.backend()), 8, 1, 4)
    assert seen == {slowest}


def test_after_a_failure_nothing_new_is_begun_and_nobody_works_on() -> None:
    begun: list[int] = []

    def work(low: int, _high: int) -> None:
        begun.append(low)
        raise LocalError("no")

    before = threading.active_count()
    with pytest.raises(LocalError, match="no"):
        _parallel.spread(work, 1000, 1, 4)
    assert len(begun) <= 4
    assert threading.active_count() == before


def test_without_a_thread_to_spare_the_caller_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_parallel.Thread, "start", start)
    done: list[tuple[int, int]] = []
    _parallel.spread(lambda low, high: done.append((low, high)), 10, 3, 4)
    assert done == [(0, 3), (3, 6), (6, 9), (9, 10)]
