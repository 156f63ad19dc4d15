"""What surrounds the kernels: choice by CPU, threads, compilation, the cache on disk."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import kernels, prg
from secagg.errors import LocalError
from secagg.warm import warm_up

aes = pytest.importorskip("secagg.kernels.aes", reason="needs numba")
_jit = pytest.importorskip("secagg.kernels._jit")
_parallel = pytest.importorskip("secagg.kernels._parallel")

KEYS = [prg.StreamKey(bytes([n] * 16), bytes([n] * 12)) for n in range(40)]
SIGNS = [1, -1] * 20
on_x86 = pytest.mark.skipif(not kernels.supported(), reason="no AES kernel for this CPU")

FIRST_MASK = """
import sys
import numpy as np
from secagg import kernels, prg
assert "numba" not in sys.modules
if len(sys.argv) > 1:
    kernels.set_cache_dir(sys.argv[1])
kernels.on_compile(print)
acc = np.zeros(9, np.uint32)
prg.add_masks(acc, [prg.StreamKey(bytes(16), bytes(12))], [1])
assert acc.tobytes() == prg.stream(prg.StreamKey(bytes(16), bytes(12)), 9, np.uint32).tobytes()
"""


def first_mask(*arguments: str) -> list[str]:
    """What a fresh process compiles for its first mask."""
    command = [sys.executable, "-c", FIRST_MASK, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    return done.stdout.split()


@on_x86
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    widest = kernels.supported()[0]
    assert first_mask(str(tmp_path)) == ["aes.expand_keys", f"aes.{widest}"]
    assert list(tmp_path.rglob("*.nbc"))
    assert first_mask(str(tmp_path)) == []


@on_x86
@pytest.mark.parametrize("name", kernels.supported())
@pytest.mark.parametrize("ring", [np.uint32, np.uint64])
def test_code_compiled_now_is_right_and_announced(
    name: str, ring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other tests may run what an earlier process left in the cache."""
    announced: list[str] = []
    monkeypatch.setattr(kernels, "_listeners", [announced.append])
    monkeypatch.setitem(aes.KERNELS, name, _jit.numba.njit(aes.KERNELS[name].py_func))
    monkeypatch.setattr(aes, "expand_keys", _jit.numba.njit(aes.expand_keys.py_func))
    acc, expected = np.zeros((2, 3000), ring)
    prg.add_masks(expected, KEYS, SIGNS, start=3, backend="openssl")
    prg.add_masks(acc, KEYS, SIGNS, start=3, backend=name)
    np.testing.assert_array_equal(acc, expected)
    assert announced == ["aes.expand_keys", f"aes.{name}"]


def test_importing_the_generator_does_not_import_numba() -> None:
    code = "import sys, secagg.prg, secagg.packing; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_cache_folder_is_chosen_before_a_kernel_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="before the first kernel"):
        kernels.set_cache_dir(str(tmp_path))


def test_a_kernel_that_cannot_be_cached_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[bool] = []

    def njit(*, nogil: bool, cache: bool = False) -> object:
        wanted.append(cache)
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: function

    monkeypatch.setattr(_jit.numba, "njit", njit)
    assert _jit.kernel(len) is len
    assert wanted == [True, False]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("+aes,+ssse3,+avx2,+vaes,+avx512f,+avx512bw", ("vaes512", "vaes256", "aesni")),
        ("+aes,+ssse3,+avx2,+vaes,-avx512f,-avx512bw", ("vaes256", "aesni")),
        ("+aes,+ssse3,+avx2,-vaes", ("aesni",)),
        ("+avx512f,+avx512bw,-aes", ()),
        ("", ()),
    ],
)
def test_the_cpu_decides(
    features: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_jit.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(_jit._config, "CPU_FEATURES", features)
    monkeypatch.setattr(_jit._config, "DISABLE_JIT", 0)
    assert kernels.supported() == expected


def test_other_machines_use_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jit.platform, "machine", lambda: "arm64")
    assert kernels.supported() == ()


def test_without_numba_there_is_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernels, "_jit")
    monkeypatch.setitem(sys.modules, "secagg.kernels._jit", None)
    assert kernels.supported() == ()


def test_warming_up_names_each_kernel() -> None:
    steps = list(warm_up())
    assert len(set(steps)) == len(steps) == 2 * bool(kernels.supported()) + 10


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aes, "TILE_BYTES", 1024)
    monkeypatch.setattr(aes, "PIECE_BYTES", 4096)


@on_x86
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", kernels.supported())
@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_tiles_and_threads_change_nothing(name: str, threads: int | None) -> None:
    acc, expected = np.zeros((2, 20_011), np.uint32)
    prg.add_masks(expected, KEYS, SIGNS, start=77, backend="openssl")
    prg.add_masks(acc, KEYS, SIGNS, start=77, backend=name, threads=threads)
    np.testing.assert_array_equal(acc, expected)


@on_x86
@pytest.mark.usefixtures("small_pieces")
def test_callers_may_be_threads_themselves() -> None:
    def masked(start: int) -> bytes:
        acc = np.zeros(10_000, np.uint64)
        prg.add_masks(acc, KEYS, SIGNS, start=start, threads=3)
        return acc.tobytes()

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(masked, range(12)))
    assert together == [masked(start) for start in range(12)]


def test_pieces_cover_the_range_once() -> None:
    for threads in (1, 4):
        seen: list[int] = []
        _parallel.spread(
            lambda low, high, seen=seen: seen.extend(range(low, high)), 103, 10, threads
        )
        assert sorted(seen) == list(range(103))
    _parallel.spread(lambda low, high: pytest.fail("there is nothing to do"), 0, 10, 4)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_piece_reaches_the_caller(threads: int) -> None:
    def work(low: int, high: int) -> None:
        raise LocalError("no")

    with pytest.raises(LocalError, match="no"):
        _parallel.spread(work, 100, 10, threads)


@on_x86
@pytest.mark.parametrize("name", kernels.supported())
def test_the_limit_runs_at_least_the_bytes_asked_for(name: str) -> None:
    assert 1 << 20 <= aes.pipeline_limit(name, 1 << 20) < (1 << 20) + 1024
    fresh = _jit.numba.njit(aes.LIMITS[name].py_func)
    assert fresh(3) == aes.LIMITS[name](3)


@on_x86
def test_keys_are_wiped() -> None:
    keys = np.ones((2, 28), np.uint8)
    aes.add_masks(kernels.supported()[0], np.zeros(3, np.uint32), keys, np.zeros(2, np.bool_), 0, 1)
    assert not keys.any()
