"""k-bit packing: known answers, both implementations against Python integers, bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import packing
from secagg.errors import DecodeError, LocalError

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "packing.json").read_text())
RINGS: dict[int, Any] = {32: np.uint32, 64: np.uint64}
BY_NAME = {"numpy": lambda: None, "numba": packing._compiled}


@pytest.fixture(params=BY_NAME)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if BY_NAME[request.param] is packing._compiled and packing._compiled() is None:
        pytest.skip("numba does not compile here")
    monkeypatch.setattr(packing, "_compiled", BY_NAME[request.param])
    return str(request.param)


def values_of(case: dict[str, Any]) -> Any:
    return np.array([int(value) for value in case["values"]], RINGS[case["word_bits"]])


def by_definition(values: Any, bits: int) -> bytes:
    total = sum(int(value) << (place * bits) for place, value in enumerate(values))
    return total.to_bytes((len(values) * bits + 7) // 8, "little")


@pytest.mark.parametrize("case", VECTORS["packed"], ids=lambda case: case["name"])
@pytest.mark.usefixtures("implementation")
def test_known_answers(case: dict[str, Any]) -> None:
    values, data = values_of(case), bytes.fromhex(case["packed"])
    assert packing.pack(values, case["bits"]) == data
    assert packing.packed_bytes(len(values), case["bits"]) == len(data)
    np.testing.assert_array_equal(packing.unpack(data, case["bits"], len(values)), values)


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["reason"])
def test_wrong_bytes_are_refused(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["packed"])
    with pytest.raises(DecodeError):
        packing.unpack(data, case["bits"], case["length"])
    acc = np.full(case["length"], 9, np.uint32)
    with pytest.raises(DecodeError):
        packing.add_packed(acc, data, case["bits"])
    assert (acc == 9).all()


@pytest.mark.parametrize("case", VECTORS["out_of_range"], ids=lambda case: f"{case['bits']} bits")
@pytest.mark.usefixtures("implementation")
def test_values_out_of_range_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(LocalError, match="does not fit"):
        packing.pack(values_of(case), case["bits"])


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 64), length=st.integers(0, 200))
def test_both_implementations_follow_the_definition(seed: int, bits: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    word = RINGS[32 if bits <= 32 else 64]
    values: Any = rng.integers(0, 2**bits - 1, length, np.uint64, endpoint=True).astype(word)
    before = rng.integers(0, 2**32, length, dtype=word)
    data = by_definition(values, bits)
    assert packing.pack(values, bits) == data == packing._pack_numpy(values, bits)
    acc, reference = before.copy(), before.copy()
    packing.add_packed(acc, memoryview(data), bits)
    packing._add_numpy(reference, np.frombuffer(data, np.uint8), bits)
    np.testing.assert_array_equal(acc, before + values)
    np.testing.assert_array_equal(reference, acc)
    np.testing.assert_array_equal(packing.unpack(bytearray(data), bits, length), values)


@pytest.mark.parametrize("bits", range(1, 65))
def test_every_width_across_chunks(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_CHUNK", 128)
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits - 1, 1003, dtype=np.uint64, endpoint=True)
    data = by_definition(values, bits)
    assert packing.pack(values, bits) == data == packing._pack_numpy(values, bits)
    np.testing.assert_array_equal(packing.unpack(data, bits, 1003), values)
    acc = np.zeros(1003, np.uint64)
    packing._add_numpy(acc, np.frombuffer(data, np.uint8), bits)
    np.testing.assert_array_equal(acc, values)


@pytest.mark.parametrize("bits", [5, 13, 31, 32])
@pytest.mark.usefixtures("implementation")
def test_adding_wraps_at_the_word(bits: int) -> None:
    acc = np.full(100, 2**32 - 1, np.uint32)
    packing.add_packed(acc, packing.pack(np.ones(100, np.uint32), bits), bits)
    assert not acc.any()


@pytest.mark.parametrize("bits", [0, 65, -1, 1.5, "8", None])
def test_unusable_widths_are_refused(bits: Any) -> None:
    with pytest.raises(LocalError):
        packing.pack(np.zeros(4, np.uint64), bits)
    with pytest.raises(LocalError):
        packing.unpack(bytes(4), bits, 4)
    with pytest.raises(LocalError):
        packing.add_packed(np.zeros(4, np.uint64), bytes(4), bits)


@pytest.mark.parametrize("length", [-1, 2.0, None])
def test_unusable_lengths_are_refused(length: Any) -> None:
    with pytest.raises(LocalError):
        packing.unpack(b"", 8, length)
    with pytest.raises(LocalError):
        packing.packed_bytes(length, 8)


def test_a_width_above_the_accumulator_is_refused() -> None:
    with pytest.raises(LocalError, match="1 to 32 bits"):
        packing.add_packed(np.zeros(1, np.uint32), bytes(5), 33)


@pytest.mark.parametrize(
    "values",
    [np.zeros(4, np.int64), np.zeros(4, ">u8"), np.zeros((2, 2), np.uint32), [1, 2]],
    ids=["signed", "big-endian", "two dimensions", "a list"],
)
def test_unusable_values_are_refused(values: Any) -> None:
    with pytest.raises(LocalError):
        packing.pack(values, 8)


def test_unusable_accumulators_are_refused() -> None:
    frozen = np.zeros(4, np.uint32)
    frozen.flags.writeable = False
    with pytest.raises(LocalError, match="read-only"):
        packing.add_packed(frozen, bytes(4), 8)
    with pytest.raises(LocalError, match="contiguous"):
        packing.add_packed(np.zeros(8, np.uint32)[::2], bytes(4), 8)


@pytest.mark.parametrize("data", ["text", None, 7, memoryview(bytes(8))[::2]])
def test_what_is_not_bytes_is_a_local_error(data: Any) -> None:
    with pytest.raises(LocalError):
        packing.unpack(data, 8, 4)


def test_read_only_values_can_be_packed() -> None:
    values = np.frombuffer(bytes(range(16)), np.uint32)
    assert packing.unpack(packing.pack(values, 29), 29, 4).tobytes() == values.tobytes()


def test_code_compiled_now_is_right() -> None:
    """The other tests may run what an earlier process left in the cache."""
    if (compiled := packing._compiled()) is None:
        pytest.skip("numba does not compile here")
    numba = pytest.importorskip("numba")
    values = np.arange(1000, dtype=np.uint32)
    out = np.empty(1375, np.uint8)
    numba.njit(compiled.pack.py_func)(values, 11, out)
    assert out.tobytes() == by_definition(values, 11)
    acc = np.zeros(1000, np.uint32)
    numba.njit(compiled.add.py_func)(acc, out, 11)
    np.testing.assert_array_equal(acc, values)
