"""Fixed point: exact bounds in rational arithmetic, unbiased rounding, and refusals."""

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secagg import encoding, errors, prg
from secagg.encoding import MAX_BITS, MAX_MODULUS_BITS, MAX_WEIGHT, FixedPoint
from secagg.errors import LocalError, ParameterError, SecaggError
from secagg.prg import StreamKey
from secagg.ring import RingVector
from tests.vectors import numbers as reference

VECTORS = reference.load("encoding")
COINS = StreamKey(bytes(range(16)), bytes(12))
ONE = FixedPoint(8, 1.0, 10, 5)
CLIPS = st.sampled_from([1.0, 0.5, 0.1, 3.7, 1e-6, 1e6, math.pi, 1 / 3])


def coins(index: int) -> StreamKey:
    return StreamKey(b"encoding" * 2, index.to_bytes(12, "big"))


def exact_scale(fixed: FixedPoint) -> Fraction:
    return Fraction(2**fixed.bits - 1) / (2 * Fraction(fixed.clip))


def total_of(vectors: list[np.ndarray[Any, Any]], fixed: FixedPoint) -> np.ndarray[Any, Any]:
    """Their sum modulo 2^k, through packed vectors as a server adds them."""
    total = RingVector.zeros(fixed.modulus_bits, len(vectors[0]))
    for vector in vectors:
        total.add_packed(RingVector.of(fixed.modulus_bits, vector).pack())
    return total.values()


@pytest.fixture(params=["compiled", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both implementations; on a machine without the compiled one, the same one twice."""
    if request.param == "numpy":
        monkeypatch.setattr(encoding, "_compiled", lambda: None)


both = pytest.mark.usefixtures("kernel")


# --- vectors -----------------------------------------------------------------------------


def test_vectors_are_those_of_the_reference() -> None:
    assert reference.encoding_vectors() == VECTORS


def fixed_of(vector: dict[str, Any]) -> FixedPoint:
    clip = float.fromhex(vector["clip"])
    return FixedPoint(vector["bits"], clip, vector["max_weight"], vector["max_clients"])


@both
@pytest.mark.parametrize("vector", VECTORS["encode"])
def test_known_encodings(vector: dict[str, Any]) -> None:
    fixed = fixed_of(vector)
    values = np.array([float.fromhex(x) for x in vector["values"]])
    stream = StreamKey(bytes.fromhex(vector["key"]), bytes.fromhex(vector["iv"]))
    encoded = fixed.encode(values, vector["weight"], stream)
    assert encoded.tolist() == vector["encoded"]
    assert encoded.dtype == np.uint64
    assert fixed.modulus_bits == vector["modulus_bits"]


@both
@pytest.mark.parametrize("vector", VECTORS["decode"])
def test_known_means(vector: dict[str, Any]) -> None:
    mean, weights = ONE.decode(np.array(vector["total"], np.uint64))
    assert [x.hex() for x in mean.tolist()] == vector["mean"]
    assert weights == vector["total"][-1]


def refused_call(vector: dict[str, Any]) -> object:
    what = vector["refused"]
    if what == "fixed":
        return fixed_of(vector)
    if what == "filling":
        limits = {"max_weight": vector["max_weight"], "max_clients": vector["max_clients"]}
        return FixedPoint.filling(vector["modulus_bits"], clip=1.0, **limits)
    if what == "decode":
        return ONE.decode(np.array(vector["total"], np.uint64))
    values = np.array([float.fromhex(x) for x in vector["values"]]).astype(vector["dtype"])
    return ONE.encode(values, vector["weight"], COINS)


@both
@pytest.mark.parametrize("vector", VECTORS["negative"])
def test_refusals(vector: dict[str, Any]) -> None:
    with pytest.raises(reference.error(vector["error"], errors)) as caught:
        refused_call(vector)
    assert vector["message"] in str(caught.value)


# --- the error bound ---------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, MAX_BITS), CLIPS, st.integers(1, MAX_WEIGHT), st.integers(1, 6), st.data())
def test_the_mean_is_within_one_step_a_client(
    bits: int, clip: float, max_weight: int, clients: int, data: Any
) -> None:
    """Each client rounds each coordinate by less than one step, so the weighted mean is off
    by at most n / (scale * sum of weights), plus what float64 loses: no intermediate value
    exceeds 2 clip in the units of a value, and 16 roundings of 2^-53 each are counted."""
    fixed = FixedPoint(bits, clip, max_weight, clients)
    row = st.lists(st.floats(-clip, clip), min_size=4, max_size=4)
    rows = data.draw(st.lists(row, min_size=clients, max_size=clients))
    one = st.integers(1, max_weight)
    weights = data.draw(st.lists(one, min_size=clients, max_size=clients))
    encoded = [
        fixed.encode(np.array(r), w, coins(i))
        for i, (r, w) in enumerate(zip(rows, weights, strict=True))
    ]
    mean, total = fixed.decode(total_of(encoded, fixed))
    assert total == sum(weights)
    bound = clients / (exact_scale(fixed) * total) + Fraction(2 * clip) * 16 / 2**53
    for j, got in enumerate(mean.tolist()):
        true = (
            sum((w * Fraction(r[j]) for w, r in zip(weights, rows, strict=True)), Fraction(0))
            / total
        )
        assert abs(Fraction(got) - true) <= bound


@settings(deadline=None)
@given(st.integers(1, MAX_BITS), CLIPS, st.integers(1, 2**12), st.data())
def test_one_value_is_rounded_to_a_neighbour(
    bits: int, clip: float, weight: int, data: Any
) -> None:
    fixed = FixedPoint(bits, clip, weight, 1)
    x = data.draw(st.floats(-clip, clip))
    exact = weight * (Fraction(x) + Fraction(clip)) * exact_scale(fixed)
    slack = 8 * exact / 2**53
    for i in range(4):
        got = int(fixed.encode(np.array([x]), weight, coins(i))[0])
        assert exact - 1 - slack < got < exact + 1 + slack
        assert 0 <= got <= weight * (2**bits - 1)


@settings(deadline=None)
@given(CLIPS, st.lists(st.integers(0, 255), min_size=1, max_size=8), st.integers(1, 10))
def test_decoding_is_exact_rational_arithmetic(clip: float, steps: list[int], weights: int) -> None:
    fixed = FixedPoint(8, clip, 10, 5)
    mean, _ = fixed.decode(np.array([weights * s for s in steps] + [weights], np.uint64))
    for got, step in zip(mean.tolist(), steps, strict=True):
        true = step / exact_scale(fixed) - Fraction(clip)
        assert abs(Fraction(got) - true) <= Fraction(2 * clip) * 4 / 2**53


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8", np.longdouble])
def test_all_float_types_give_the_same_integers(dtype: Any) -> None:
    values = np.array([-1.0, -0.5, 0.0, 0.25, 1.0])
    expected = ONE.encode(values, 7, COINS).tolist()
    assert ONE.encode(values.astype(dtype), 7, COINS).tolist() == expected


def test_a_strided_vector() -> None:
    values = np.linspace(-1, 1, 9)[::-2]
    assert ONE.encode(values, 1, COINS).tolist() == ONE.encode(values.copy(), 1, COINS).tolist()


def test_the_argument_is_not_changed() -> None:
    values = np.linspace(-1, 1, 9)
    ONE.encode(values, 3, COINS)
    assert np.array_equal(values, np.linspace(-1, 1, 9))


# --- rounding ----------------------------------------------------------------------------


@both
@pytest.mark.parametrize("fraction", [0.0, 1 / 1024, 0.25, 0.5, 0.7, 1023 / 1024])
@pytest.mark.parametrize("weight", [1, 3])
def test_rounding_is_unbiased(fraction: float, weight: int) -> None:
    """The share of values rounded up is their fraction, to 5 sigma, with fixed coins."""
    count, fixed = 1 << 16, FixedPoint(8, 127.5, 4, 4)  # the scale is exactly 1
    assert fixed.scale == 1.0
    exact = 100 + fraction
    values = np.full(count, exact / weight - 127.5)
    kept = Fraction(float(values[0])) + Fraction(255, 2)
    expected = float(kept * weight - 100)
    up = fixed.encode(values, weight, COINS)[:-1] - np.uint64(100)
    assert set(up.tolist()) <= {0, 1}
    sigma = (expected * (1 - expected) / count) ** 0.5
    assert abs(float(up.mean()) - expected) <= 5 * sigma + 2**-40


def test_the_coins_of_two_coordinates_are_independent() -> None:
    fixed = FixedPoint(8, 127.5, 1, 1)
    up = fixed.encode(np.full(1 << 16, 0.0), 1, COINS)[:-1].astype(float) - 127.5
    assert abs(float((up[:-1] * up[1:]).mean()) * 4) < 5 / 256


def test_other_coins_round_otherwise() -> None:
    values = np.full(64, 0.001)
    one, other = (ONE.encode(values, 1, coins(i)).tolist() for i in range(2))
    assert one != other
    assert one == ONE.encode(values, 1, coins(0)).tolist()


def test_whole_steps_are_never_rounded() -> None:
    fixed = FixedPoint(8, 127.5, 100, 4)
    values = np.arange(256) - 127.5
    for i in range(20):
        assert fixed.encode(values, 100, coins(i)).tolist() == [*range(0, 25501, 100), 100]


@both
def test_whole_steps_are_never_rounded_at_the_largest_weight() -> None:
    fixed = FixedPoint(32, (2**32 - 1) / 2, MAX_WEIGHT, 1)
    assert fixed.scale == 1.0
    values = np.full(1000, 2**31 + 1 - fixed.clip)
    encoded = fixed.encode(values, MAX_WEIGHT, COINS)[:-1]
    assert set(encoded.tolist()) == {MAX_WEIGHT * (2**31 + 1)}


# --- the ends of the range and the headroom ------------------------------------------------


@both
@pytest.mark.parametrize("bits", range(1, MAX_BITS + 1))
@pytest.mark.parametrize("clip", [1.0, 0.1, 1 / 3, 3.7, 1e-9, 1e9])
def test_the_ends_of_the_range(bits: int, clip: float) -> None:
    for weight in (1, 3, MAX_WEIGHT):
        fixed = FixedPoint(bits, clip, weight, 1)
        low, high, kept = fixed.encode(np.array([-clip, clip]), weight, COINS).tolist()
        assert (low, kept) == (0, weight)
        top = weight * (2**bits - 1)
        assert top - 1 <= high <= top  # one below where clip * scale is not exact
        mean, _ = fixed.decode(np.array([low, high, kept], np.uint64))
        assert mean[0] == -clip
        assert abs(mean[1] - clip) <= (1 / (fixed.scale * weight) if high < top else 2**-50 * clip)


@both
@pytest.mark.parametrize("clients", [1, 2, 3, 4, 5, 7, 8, 9])
@pytest.mark.parametrize("weight", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("bits", [1, 8, 31, 32])
def test_the_largest_sum_does_not_wrap(bits: int, weight: int, clients: int) -> None:
    fixed = FixedPoint(bits, 1.0, weight, clients)
    top = fixed.encode(np.ones(2), weight, COINS)
    assert top[:-1].tolist() == [weight * (2**bits - 1)] * 2
    total = total_of([top] * clients, fixed)
    assert total.tolist() == [clients * int(v) for v in top]
    mean, weights = fixed.decode(total)
    assert weights == clients * weight
    assert np.abs(mean - 1.0).max() < 2**-50


@given(st.integers(1, MAX_BITS), st.integers(1, MAX_WEIGHT), st.integers(1, 2**40))
def test_the_modulus_is_bits_and_just_enough_headroom(bits: int, weight: int, clients: int) -> None:
    """k = bits + ceil(log2(n w)): every sum fits, and one bit less would not do for them."""
    most = weight * clients
    needed = reference.modulus_bits(bits, weight, clients)
    if needed > MAX_MODULUS_BITS:
        with pytest.raises(ParameterError, match=f"needs {needed} bits"):
            FixedPoint(bits, 1.0, weight, clients)
        return
    k = FixedPoint(bits, 1.0, weight, clients).modulus_bits
    assert k == needed
    assert most * (2**bits - 1) < 2**k  # the values
    assert most < 2**k  # the sum of the weights
    assert most == 1 or most > 2 ** (k - bits - 1)


def test_the_largest_federation() -> None:
    fixed = FixedPoint(32, 1.0, MAX_WEIGHT, 2**12)
    assert fixed.modulus_bits == 64
    top = 2**12 * MAX_WEIGHT * (2**32 - 1)
    mean, weights = fixed.decode(np.array([0, top, 2**32], np.uint64))
    assert weights == 2**32
    assert mean.tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_sums_of_either_word(dtype: type) -> None:
    mean, weights = ONE.decode(np.array([0, 255, 510, 2], dtype))
    assert mean.tolist() == [-1.0, 0.0, 1.0]
    assert (mean.dtype, weights, type(weights)) == (np.float64, 2, int)


def test_the_scale() -> None:
    assert FixedPoint(8, 1.0, 1, 1).scale == 127.5
    assert FixedPoint(1, 0.5, 1, 1).scale == 1.0


# --- filling -----------------------------------------------------------------------------


def filled(modulus: int, weight: int, clients: int) -> FixedPoint:
    return FixedPoint.filling(modulus, clip=1.0, max_weight=weight, max_clients=clients)


@given(st.integers(1, 64), st.integers(1, MAX_WEIGHT), st.integers(1, 2**30))
def test_filling_takes_all_bits_or_says_how_many_it_needs(
    modulus: int, weight: int, clients: int
) -> None:
    smallest = reference.modulus_bits(1, weight, clients)
    if modulus >= smallest:
        fixed = filled(modulus, weight, clients)
        assert fixed.bits == min(MAX_BITS, 1 + modulus - smallest)
        assert fixed.modulus_bits <= modulus
        return
    with pytest.raises(ParameterError, match=f"a modulus of {modulus} bits") as caught:
        filled(modulus, weight, clients)
    assert f"at least {smallest} bits" in str(caught.value)


@given(st.integers(1, MAX_MODULUS_BITS), st.integers(1, MAX_WEIGHT), st.integers(1, 2**30))
def test_the_way_out_of_filling_works(modulus: int, weight: int, clients: int) -> None:
    assume(modulus < reference.modulus_bits(1, weight, clients))
    with pytest.raises(ParameterError) as caught:
        filled(modulus, weight, clients)
    advice = re.search(r"use at least (\d+) bits", str(caught.value))
    assert advice is not None
    needed = int(advice[1])
    assert filled(needed, weight, clients).bits == 1
    with pytest.raises(ParameterError):
        filled(needed - 1, weight, clients)


@given(st.integers(33, 64), st.integers(1, MAX_WEIGHT), st.integers(1, 2**30))
def test_the_way_out_of_the_constructor_works(bits: int, weight: int, clients: int) -> None:
    needed = reference.modulus_bits(bits - 32, weight, clients)
    if needed <= MAX_MODULUS_BITS:
        return
    with pytest.raises(ParameterError, match=f"needs {needed} bits; lower bits"):
        FixedPoint(bits - 32, 1.0, weight, clients)


@pytest.mark.parametrize("weight", [MAX_WEIGHT, 2**30])
def test_filling_never_advises_what_is_refused(weight: int) -> None:
    with pytest.raises(ParameterError) as caught:
        filled(16, weight, 2**50)
    advice = re.search(r"use at least (\d+) bits", str(caught.value))
    assert advice is None or int(advice[1]) <= MAX_MODULUS_BITS


@pytest.mark.parametrize(("weight", "clients"), [(0, 1), (-1, 10), (5, 0), (1, -3)])
def test_filling_for_nobody(weight: int, clients: int) -> None:
    with pytest.raises(ParameterError):
        filled(32, weight, clients)


# --- refusals ----------------------------------------------------------------------------


@both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 500, 999])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_finite_anywhere(bad: float, at: int, dtype: type) -> None:
    values = np.zeros(1000, dtype)
    values[at] = bad
    with pytest.raises(LocalError, match="NaN or infinity"):
        ONE.encode(values, 1, COINS)


@both
@pytest.mark.parametrize("clip", [1.0, 0.1, 3.7, 1e-9])
def test_just_beyond_the_clip(clip: float) -> None:
    fixed = FixedPoint(8, clip, 1, 1)
    for sign in (1, -1):
        fixed.encode(np.array([sign * clip]), 1, COINS)
        with pytest.raises(LocalError, match="exceed the clip"):
            fixed.encode(np.array([0.0, sign * math.nextafter(clip, math.inf)]), 1, COINS)


@pytest.mark.parametrize("shape", [(0,), (1, 1), (), (2, 3), (0, 2)])
def test_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(LocalError, match="non-empty vector"):
        ONE.encode(np.zeros(shape), 1, COINS)


@pytest.mark.parametrize("dtype", ["i1", "i8", "u4", "u8", "?", "c16", "O", "U3", "S3", "M8[s]"])
def test_types(dtype: str) -> None:
    with pytest.raises(LocalError, match="vector of floats"):
        ONE.encode(np.zeros(3).astype("i8").astype(dtype), 1, COINS)


@pytest.mark.parametrize("weight", [0, -1, 11, 2**40])
def test_weights(weight: Any) -> None:
    with pytest.raises(LocalError, match=r"outside 1\.\.10"):
        ONE.encode(np.zeros(1), weight, COINS)


@pytest.mark.parametrize("weights", [0, 51, 2**32, 2**63, 2**64 - 1])
def test_impossible_sums_of_weights(weights: int) -> None:
    with pytest.raises(LocalError, match=f"sum to {weights}, which no cohort can have"):
        ONE.decode(np.array([1, weights], np.uint64))


@pytest.mark.parametrize("weights", [1, 50])
def test_the_smallest_and_largest_sum_of_weights(weights: int) -> None:
    assert ONE.decode(np.array([0, weights], np.uint64))[1] == weights


def test_coins_that_are_none() -> None:
    with pytest.raises(LocalError):
        ONE.encode(np.zeros(3), 1, None)  # type: ignore[arg-type]


def test_messages_show_no_value() -> None:
    with pytest.raises(LocalError) as caught:
        ONE.encode(np.array([0.123456, 1.654321]), 1, COINS)
    assert "654321" not in str(caught.value)
    assert "123456" not in str(caught.value)


def test_an_encoding_is_a_frozen_value() -> None:
    assert FixedPoint(8, 1.0, 10, 5) == ONE
    assert hash(ONE) == hash(FixedPoint(8, 1.0, 10, 5))
    with pytest.raises(AttributeError):
        ONE.bits = 9  # type: ignore[misc]
    assert (encoding.MAX_BITS, encoding.MAX_MODULUS_BITS) == (32, 64)


def one_of_ours(call: Any, kind: type[SecaggError]) -> None:
    try:
        result = call()
    except kind:
        return
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    pytest.fail(f"accepted: {result}")


@pytest.mark.parametrize("weight", [2.5, 1.0, math.nan, math.inf, "1", None])
def test_weights_are_whole_numbers(weight: Any) -> None:
    one_of_ours(lambda: ONE.encode(np.zeros(1), weight, COINS), LocalError)


@pytest.mark.parametrize("fields", [(8.5, 1.0, 1, 1), (8, 1.0, 1.5, 1), (8, 1.0, 1, 1.5)])
def test_parameters_are_whole_numbers(fields: Any) -> None:
    one_of_ours(lambda: FixedPoint(*fields), ParameterError)


@pytest.mark.parametrize("clip", [0.1, 0.3])
def test_values_clipped_in_float32_may_exceed_the_clip(clip: float) -> None:
    """float32(0.1) > 0.1: so leave the clipping to `encode_words`, which counts them."""
    values = np.clip(np.array([-5, 0, 5], np.float32), -clip, clip)
    assert values.dtype == np.float32
    fixed = FixedPoint(8, clip, 1, 1)
    with pytest.raises(LocalError, match="exceed the clip"):
        fixed.encode(values, 1, COINS)
    words, clipped = fixed.encode_words(values, 1, COINS, clip=True)
    assert clipped == 2
    assert words.tolist()[::2] == [0, 255]


@pytest.mark.parametrize("clip", [5e-324, 1e-310, 1e308])
def test_a_clip_whose_scale_is_not_finite(clip: float) -> None:
    one_of_ours(
        lambda: FixedPoint(8, clip, 1, 1).encode(np.array([clip, -clip]), 1, COINS), ParameterError
    )


def test_impossible_sums_of_values() -> None:
    one_of_ours(lambda: ONE.decode(np.array([256, 1], np.uint64)), LocalError)


@pytest.mark.parametrize(
    "total",
    [
        np.zeros(0, np.uint64),
        np.array([[1, 2]], np.uint64),
        np.array([1.5, 2.5]),
        np.array([-1, 2]),
        np.array([1, math.nan]),
        [1, 2],
        None,
    ],
    ids=repr,
)
def test_totals_that_are_none(total: Any) -> None:
    one_of_ours(lambda: ONE.decode(total), LocalError)


def test_a_total_without_values() -> None:
    one_of_ours(lambda: ONE.decode(np.array([1], np.uint64)), LocalError)


@pytest.mark.parametrize("values", [[0.5], None, (0.5,)])
def test_values_that_are_no_array(values: Any) -> None:
    one_of_ours(lambda: ONE.encode(values, 1, COINS), LocalError)


# --- words of the ring, clipping, pieces ----------------------------------------------------


@both
@pytest.mark.parametrize(("bits", "word"), [(1, np.uint32), (26, np.uint32), (27, np.uint64)])
def test_words_are_those_of_the_ring(bits: int, word: type) -> None:
    fixed = FixedPoint(bits, 1.0, 10, 5)  # 6 bits of headroom
    values = np.linspace(-1, 1, 33)
    words, clipped = fixed.encode_words(values, 7, COINS)
    assert (words.dtype, clipped) == (word, 0)
    assert words.tolist() == fixed.encode(values, 7, COINS).tolist()
    RingVector.of(fixed.modulus_bits, words)


@both
def test_clipping_is_counted() -> None:
    values = np.array([-7.0, -1.0, 0.5, 1.0, math.nextafter(1.0, 2), 1e300])
    words, clipped = ONE.encode_words(values, 3, COINS, clip=True)
    assert clipped == 3
    assert words.tolist() == ONE.encode(np.clip(values, -1, 1), 3, COINS).tolist()
    with pytest.raises(LocalError, match="exceed the clip"):
        ONE.encode_words(values, 3, COINS)


@both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_clipping_does_not_hide_what_is_not_finite(bad: float) -> None:
    with pytest.raises(LocalError, match="NaN or infinity"):
        ONE.encode_words(np.array([0.0, bad]), 1, COINS, clip=True)


@both
@pytest.mark.parametrize("size", [65535, 65536, 65537, 140000])
@pytest.mark.parametrize("bits", [8, 32])
def test_pieces_use_the_coins_of_their_place(size: int, bits: int) -> None:
    fixed, weight = FixedPoint(bits, 1.0, 10, 5), 7
    values = np.sin(np.arange(size))
    encoded = fixed.encode(values, weight, COINS)
    near = [i for i in (0, 1, 65534, 65535, 65536, 131071, 131072, size - 1) if i < size]
    stream = prg.stream(COINS, size, np.uint32).tolist()
    for i in near:
        exact = weight * ((float(values[i]) + 1.0) * fixed.scale)
        assert int(encoded[i]) == math.floor(exact + stream[i] / 2**32)
    mean, _ = fixed.decode(encoded)
    assert np.abs(mean - values).max() <= 1 / (weight * fixed.scale) + 2**-50
    assert prg.stream(COINS, 1, np.uint32)[0] == next(reference.ctr_words(COINS.key, COINS.iv))


@pytest.mark.parametrize("bits", [1, 8, 20, 32])
def test_both_implementations_agree(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = FixedPoint(bits, 0.3, 1000, 1000)
    values = 0.4 * np.sin(np.arange(70_000))
    for dtype in (np.float32, np.float64):
        results = []
        for numpy_only in (False, True):
            if numpy_only:
                monkeypatch.setattr(encoding, "_compiled", lambda: None)
            words, clipped = fixed.encode_words(values.astype(dtype), 999, COINS, clip=True)
            mean, _ = fixed.decode(words)
            results.append((words.tobytes(), clipped, mean.tobytes()))
            monkeypatch.undo()
        assert results[0] == results[1]
