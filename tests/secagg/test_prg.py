"""AES-128-CTR masks: published vectors, all backends against each other, and bad input."""

import json
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import prg
from secagg.errors import LocalError

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "prg.json").read_text())
RINGS: dict[int, Any] = {32: np.uint32, 64: np.uint64}
KEY = prg.StreamKey(bytes(range(16)), bytes(range(100, 112)))


def stream_key(case: dict[str, Any]) -> prg.StreamKey:
    return prg.StreamKey(bytes.fromhex(case["key"]), bytes.fromhex(case["iv"]))


def blocks(key: prg.StreamKey, first: int, count: int) -> bytes:
    """The keystream from its definition: AES of each counter block."""
    encryptor = Cipher(AES128(key.key), ECB()).encryptor()  # noqa: S305 - what CTR mode is made of
    counters = range(first, first + count)
    return encryptor.update(b"".join(key.iv + at.to_bytes(4, "big") for at in counters))


@pytest.fixture(params=prg.available_backends())
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nist_sp_800_38a_f_5_1() -> None:
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = bytes.fromhex(
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    )
    key = stream_key(VECTORS["streams"][0])
    words = prg.stream(key, 16, np.uint32, start=0xFCFDFEFF * 4)
    assert bytes(a ^ b for a, b in zip(plain, words.tobytes(), strict=True)) == cipher


@pytest.mark.parametrize("case", VECTORS["streams"], ids=lambda case: case["name"])
def test_known_streams(case: dict[str, Any], backend: str) -> None:
    ring = RINGS[case["word_bits"]]
    expected = bytes.fromhex(case["stream"])
    key, start = stream_key(case), case["start"]
    assert prg.stream(key, case["length"], ring, start=start).tobytes() == expected
    acc = np.zeros(case["length"], ring)
    prg.add_masks(acc, [key], [1], start=start, backend=backend)
    assert acc.tobytes() == expected


@pytest.mark.parametrize("case", VECTORS["sums"], ids=lambda case: str(case["signs"]))
def test_known_sums(case: dict[str, Any], backend: str) -> None:
    pairs = zip(case["keys"], case["ivs"], strict=True)
    keys = [prg.StreamKey(bytes.fromhex(key), bytes.fromhex(iv)) for key, iv in pairs]
    acc = np.frombuffer(bytes.fromhex(case["before"]), RINGS[case["word_bits"]]).copy()
    prg.add_masks(acc, keys, case["signs"], start=case["start"], backend=backend)
    assert acc.tobytes().hex() == case["after"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["reason"])
def test_known_refusals(case: dict[str, Any], backend: str) -> None:
    acc = np.ones(case["length"], RINGS.get(case["word_bits"], np.uint16))
    with pytest.raises(LocalError):
        prg.add_masks(acc, [stream_key(case)], case["signs"], start=case["start"], backend=backend)
    assert (acc == 1).all()


def test_streams_follow_the_definition() -> None:
    assert prg.stream(KEY, 4000, np.uint32).tobytes() == blocks(KEY, 0, 1000)
    assert prg.stream(KEY, 40, np.uint64, start=2**33 - 40).tobytes() == blocks(KEY, 2**32 - 20, 20)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.sampled_from([32, 64]),
    length=st.one_of(st.integers(0, 300), st.integers(16_000, 40_000)),
    count=st.integers(0, 5),
    where=st.sampled_from(["start", "middle", "end"]),
    threads=st.integers(1, 3),
)
def test_backends_agree(
    seed: int, bits: int, length: int, count: int, where: str, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    last = 2**36 * 8 // bits - length
    start = {"start": 0, "middle": int(rng.integers(0, last)), "end": last}[where]
    keys = [prg.StreamKey(rng.bytes(16), rng.bytes(12)) for _ in range(count)]
    signs = rng.choice([1, -1], count)
    before = rng.integers(0, 2**bits, length, dtype=RINGS[bits])
    expected = before.copy()
    for key, sign in zip(keys, signs, strict=True):
        words = prg.stream(key, length, RINGS[bits], start=start)
        expected = expected + words if sign == 1 else expected - words
    for backend in prg.available_backends():
        acc = before.copy()
        prg.add_masks(acc, keys, signs, start=start, backend=backend, threads=threads)
        np.testing.assert_array_equal(acc, expected, err_msg=backend)


@pytest.mark.parametrize("ring", RINGS.values(), ids=str)
def test_chunks_give_what_one_call_gives(ring: Any, backend: str) -> None:
    whole = np.zeros(5000, ring)
    prg.add_masks(whole, [KEY], [-1], backend=backend)
    parts = np.zeros(5000, ring)
    cuts = [0, 1, 2, 7, 130, 131, 1024, 4999, 5000]
    for low, high in pairwise(cuts):
        prg.add_masks(parts[low:high], [KEY], [-1], start=low, backend=backend)
    np.testing.assert_array_equal(parts, whole)


def test_nothing_around_the_accumulator_is_touched(backend: str) -> None:
    padded = np.full(3000, 7, np.uint32)
    prg.add_masks(padded[1000:2001], [KEY], [1], start=5, backend=backend)
    assert (padded[:1000] == 7).all()
    assert (padded[2001:] == 7).all()


def test_a_mask_cancels(backend: str) -> None:
    acc = np.arange(777, dtype=np.uint64)
    prg.add_masks(acc, [KEY, KEY], [1, -1], backend=backend)
    np.testing.assert_array_equal(acc, np.arange(777, dtype=np.uint64))


def test_a_file_backed_accumulator(backend: str, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "words", np.uint32, "w+", shape=500)
    prg.add_masks(mapped, [KEY], [1], backend=backend)
    assert mapped.tobytes() == blocks(KEY, 0, 125)


def read_only() -> Any:
    array = np.zeros(8, np.uint32)
    array.flags.writeable = False
    return array


BAD_ACCUMULATORS: dict[str, Callable[[], Any]] = {
    "signed": lambda: np.zeros(8, np.int32),
    "float": lambda: np.zeros(8, np.float32),
    "big-endian": lambda: np.zeros(8, ">u4"),
    "strided": lambda: np.zeros(16, np.uint32)[::2],
    "reversed": lambda: np.zeros(8, np.uint32)[::-1],
    "unaligned": lambda: np.zeros(33, np.uint8)[1:].view(np.uint32),
    "two dimensions": lambda: np.zeros((2, 4), np.uint32),
    "no dimension": lambda: np.zeros((), np.uint32),
    "read-only": read_only,
    "a list": lambda: [0] * 8,
    "bytes": lambda: bytes(32),
}


@pytest.mark.parametrize("make", BAD_ACCUMULATORS.values(), ids=BAD_ACCUMULATORS)
def test_unusable_accumulators_are_refused(make: Callable[[], Any], backend: str) -> None:
    with pytest.raises(LocalError):
        prg.add_masks(make(), [KEY], [1], backend=backend)


@pytest.mark.parametrize("signs", [[1.0], [None], ["1"], [[1], [1, 2]], [[1]], 1, [2**70], [True]])
def test_unusable_signs_are_refused(signs: Any) -> None:
    with pytest.raises(LocalError):
        prg.add_masks(np.zeros(8, np.uint32), [KEY], signs)


@pytest.mark.parametrize("bad", [{"start": 0.5}, {"backend": "des"}, {"threads": 0}])
def test_unusable_settings_are_refused(bad: Any) -> None:
    with pytest.raises(LocalError):
        prg.add_masks(np.zeros(8, np.uint32), [KEY], [1], **bad)


def test_streams_of_another_type_are_refused() -> None:
    with pytest.raises(LocalError, match="StreamKey"):
        prg.add_masks(np.zeros(8, np.uint32), [(KEY.key, KEY.iv)], [1])  # type: ignore[list-item]
    with pytest.raises(LocalError, match="uint32 or uint64"):
        prg.stream(KEY, 8, np.int64)  # type: ignore[type-var]
    with pytest.raises(LocalError, match="2\\^32 blocks"):
        prg.stream(KEY, 2**34 + 1, np.uint32)
    with pytest.raises(LocalError, match="not negative"):
        prg.stream(KEY, -1, np.uint32)


def test_no_streams_and_no_words_change_nothing(backend: str) -> None:
    acc = np.arange(5, dtype=np.uint32)
    prg.add_masks(acc, [], [], backend=backend)
    prg.add_masks(acc[:0], [KEY], [1], start=2**34, backend=backend)
    np.testing.assert_array_equal(acc, np.arange(5, dtype=np.uint32))


@pytest.mark.parametrize(("key", "iv"), [(bytearray(16), bytes(12)), ("0" * 16, bytes(12))])
def test_a_stream_key_is_bytes(key: Any, iv: Any) -> None:
    with pytest.raises(LocalError) as caught:
        prg.StreamKey(key, iv)
    assert "0" * 16 not in str(caught.value)


def test_a_stream_key_keeps_its_secret_and_survives_a_store() -> None:
    assert repr(KEY) == "StreamKey()"
    assert pickle.loads(pickle.dumps(KEY)) == KEY  # noqa: S301
    with pytest.raises(AttributeError):
        KEY.key = bytes(16)  # type: ignore[misc]


def test_the_default_backend_can_be_replaced_for_a_while() -> None:
    usual = prg.backend()
    assert usual == prg.available_backends()[0]
    with prg.use_backend("openssl"):
        assert prg.backend() == "openssl"
        prg.add_masks(np.zeros(8, np.uint32), [KEY], [1])
    assert prg.backend() == usual
    with pytest.raises(LocalError, match="not one of"), prg.use_backend("des"):
        pass


def rows(count: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(count).integers(0, 256, (count, 28), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_many_stream_keys_are_those_one_by_one(count: int, backend: str) -> None:
    """And they are not used up: the caller's rows stay as they are."""
    many, acc = prg.StreamKeys(rows(count)), np.zeros(999, np.uint32)
    each = [prg.StreamKey(row[:16].tobytes(), row[16:].tobytes()) for row in rows(count)]
    assert list(many) == each
    assert len(many) == count
    signs = np.resize([1, -1], count)
    expected = np.zeros_like(acc)
    prg.add_masks(expected, each, signs, backend="openssl")
    prg.add_masks(acc, many, signs, backend=backend)
    assert np.array_equal(acc, expected)
    assert np.array_equal(many.rows, rows(count))


def test_stream_keys_are_joined_and_cut() -> None:
    one, other = prg.StreamKeys(rows(3)), prg.StreamKeys(rows(4))
    assert list(one + other) == [*one, *other]
    assert list((one + other)[2:5]) == [*one, *other][2:5]
    assert (one + other)[-1] == other[3]


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 27), np.uint8), np.zeros(28, np.uint8), np.zeros((2, 7), np.uint32), []]
)
def test_stream_keys_are_rows_of_28_bytes(wrong: Any) -> None:
    with pytest.raises(LocalError, match="rows of 28 bytes"):
        prg.StreamKeys(wrong)


def test_stream_keys_keep_their_secrets() -> None:
    assert repr(prg.StreamKeys(rows(3))) == str(prg.StreamKeys(rows(3))) == "<3 StreamKeys>"
