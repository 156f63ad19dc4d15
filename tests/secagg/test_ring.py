"""Vectors modulo 2^k for every k, against Python's integers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import prg, ring
from secagg.errors import DecodeError, LocalError
from secagg.prg import StreamKey
from secagg.ring import MAX_BITS, RingVector

ALL_BITS = range(1, MAX_BITS + 1)
widths = pytest.mark.parametrize("bits", ALL_BITS)
STREAMS = [StreamKey(bytes([i]) * 16, bytes(12)) for i in range(3)]


def array(bits: int, values: list[int]) -> np.ndarray[Any, Any]:
    return np.array(values, ring.word(bits))


def packed(bits: int, values: list[int]) -> bytes:
    whole = sum(v << bits * i for i, v in enumerate(values))
    return whole.to_bytes(-(-bits * len(values) // 8), "little")


def spread(bits: int) -> list[int]:
    """Values of every kind: the ends, the middle, alternating bits."""
    top = 2**bits - 1
    return [0, 1, top, top // 2, top - 1 if bits > 1 else 0, top // 3, 0x5555555555555555 & top]


@widths
def test_addition_wraps_at_the_modulus(bits: int) -> None:
    values = spread(bits)
    vector = RingVector.of(bits, array(bits, values))
    for times in range(2, 6):
        vector.add_packed(packed(bits, values))
        assert vector.values().tolist() == [times * v % 2**bits for v in values]
    assert vector.pack() == packed(bits, [5 * v % 2**bits for v in values])


@widths
def test_top_plus_one_is_zero(bits: int) -> None:
    vector = RingVector.of(bits, array(bits, [2**bits - 1]))
    vector.add_packed(packed(bits, [1]))
    assert vector.values().tolist() == [0]
    assert not any(vector.pack())


@widths
def test_pack_and_add_packed_are_inverse(bits: int) -> None:
    values = spread(bits)
    data = RingVector.of(bits, array(bits, values)).pack()
    assert data == packed(bits, values)
    assert len(data) == -(-bits * len(values) // 8)
    again = RingVector.zeros(bits, len(values))
    again.add_packed(data)
    assert again.values().tolist() == values


@widths
def test_state_round_trip(bits: int) -> None:
    vector = RingVector.of(bits, array(bits, spread(bits)))
    vector.add_packed(packed(bits, spread(bits)))  # words above the modulus are kept as they are
    again = RingVector.from_state(*vector.to_state())
    assert again.bits == bits
    assert again.to_state() == vector.to_state()
    assert again.values().tolist() == vector.values().tolist()
    again.add_packed(packed(bits, spread(bits)))  # it is writeable, and not the same memory
    assert again.to_state() != vector.to_state()


@widths
def test_masks_cancel(bits: int) -> None:
    values = spread(bits)
    vector = RingVector.of(bits, array(bits, values))
    with prg.use_backend("openssl"):
        vector.add_masks(STREAMS, [1, -1, 1])
        masked = vector.values().tolist()
        vector.add_masks(STREAMS, [-1, 1, -1])
    streams = [prg.stream(s, len(values), ring.word(bits)).tolist() for s in STREAMS]
    plus = [(v + a - b + c) % 2**bits for v, a, b, c in zip(values, *streams, strict=True)]
    assert masked == plus
    assert vector.values().tolist() == values


@settings(max_examples=100)
@given(st.sampled_from(ALL_BITS), st.data())
def test_sums_against_integers(bits: int, data: Any) -> None:
    size = data.draw(st.integers(0, 20))
    one = st.lists(st.integers(0, 2**bits - 1), min_size=size, max_size=size)
    vectors = data.draw(st.lists(one, min_size=1, max_size=5))
    total = RingVector.zeros(bits, size)
    for values in vectors:
        total.add_packed(RingVector.of(bits, array(bits, values)).pack())
    assert total.values().tolist() == [
        sum(column) % 2**bits for column in zip(*vectors, strict=True)
    ]


@pytest.mark.parametrize(("bits", "kind"), [(1, np.uint32), (32, np.uint32), (33, np.uint64)])
def test_the_word(bits: int, kind: type) -> None:
    assert ring.word(bits) is kind
    assert RingVector.zeros(bits, 3).values().dtype == kind


def test_zeros() -> None:
    vector = RingVector.zeros(20, 5)
    assert len(vector) == 5
    assert vector.values().tolist() == [0] * 5


def test_empty_vectors() -> None:
    vector = RingVector.zeros(7, 0)
    vector.add_packed(b"")
    assert (len(vector), vector.pack(), vector.values().tolist()) == (0, b"", [])
    assert len(RingVector.from_state(*vector.to_state())) == 0


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", ">u4", ">u8"])
@pytest.mark.parametrize("bits", [8, 32, 40, 64])
def test_any_unsigned_array_is_taken(kind: str, bits: int) -> None:
    assert RingVector.of(bits, np.array([1, 255], kind)).values().tolist() == [1, 255]


def test_a_strided_array_is_taken() -> None:
    values = np.arange(10, dtype=np.uint64)[::-2]
    assert RingVector.of(9, values).values().tolist() == [9, 7, 5, 3, 1]


def test_a_vector_is_a_copy_and_its_values_cannot_be_written_to() -> None:
    values = np.array([1, 2], np.uint32)
    vector = RingVector.of(32, values)
    values[0] = 9
    with pytest.raises(ValueError, match="read-only"):
        vector.values()[1] = 9
    assert vector.values().tolist() == [1, 2]


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        (1,),
        b"12",
        None,
        np.array([1, 2]),
        np.array([1.0]),
        np.array([True]),
        np.array([[1]], np.uint32),
        np.uint32(1),
        np.array(1, np.uint32),
        np.array([1], object),
    ],
    ids=repr,
)
def test_what_is_no_vector(values: Any) -> None:
    with pytest.raises(LocalError, match="one-dimensional array of unsigned integers"):
        RingVector.of(8, values)


@pytest.mark.parametrize("bits", range(1, 64))
def test_a_value_that_does_not_fit(bits: int) -> None:
    top = np.array([0, 2**bits - 1], np.uint64)
    assert RingVector.of(bits, top).values().tolist() == top.tolist()
    with pytest.raises(LocalError, match=f"does not fit in {bits} bits"):
        RingVector.of(bits, top + np.uint64(1))


@pytest.mark.parametrize("bits", [1, 3, 8, 13, 32, 33, 63, 64])
def test_packed_vectors_of_another_length(bits: int) -> None:
    vector = RingVector.of(bits, array(bits, [1] * 5))
    size = -(-bits * 5 // 8)
    for wrong in (0, size - 1, size + 1, 2 * size):
        with pytest.raises(DecodeError, match=f"are {size} bytes, got {wrong}"):
            vector.add_packed(bytes(wrong))
    assert vector.values().tolist() == [1] * 5


@pytest.mark.parametrize("bits", [1, 3, 13, 31, 33, 63])
def test_padding_bits(bits: int) -> None:
    vector = RingVector.of(bits, array(bits, [1] * 5))
    data = bytearray(packed(bits, [1] * 5))
    data[-1] |= 0x80
    with pytest.raises(DecodeError, match="padding bit"):
        vector.add_packed(bytes(data))
    assert vector.values().tolist() == [1] * 5


@pytest.mark.parametrize(
    ("streams", "signs"), [(STREAMS[:1], [2]), (STREAMS[:1], []), ([None], [1])]
)
def test_bad_masks(streams: Any, signs: list[int]) -> None:
    vector = RingVector.zeros(8, 3)
    with pytest.raises(LocalError):
        vector.add_masks(streams, signs)
    assert vector.values().tolist() == [0] * 3


def test_a_repr_shows_no_value() -> None:
    vector = RingVector.of(20, np.array([123456, 654321], np.uint32))
    assert repr(vector) == "<RingVector of 2 values modulo 2^20>"
    assert "123456" not in f"{vector}{[vector]}"


def test_no_other_attribute_can_be_set() -> None:
    with pytest.raises(AttributeError):
        RingVector.zeros(8, 1).length = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("bits", [-1, 0, 65, 128])
@pytest.mark.parametrize("make", ["zeros", "of", "from_state"])
def test_a_modulus_out_of_range(make: str, bits: int) -> None:
    given = {"zeros": 2, "of": np.zeros(2, np.uint32), "from_state": bytes(8)}
    try:
        getattr(RingVector, make)(bits, given[make])
    except (LocalError, DecodeError):
        return
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    pytest.fail("accepted")


@pytest.mark.parametrize(("bits", "size"), [(8, 3), (40, 12)])
def test_a_state_of_no_whole_number_of_words(bits: int, size: int) -> None:
    try:
        RingVector.from_state(bits, bytes(size))
    except (LocalError, DecodeError):
        return
    except ValueError as error:
        pytest.fail(str(error))
