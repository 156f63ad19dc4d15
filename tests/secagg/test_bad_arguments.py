"""What a caller can get wrong: a LocalError that says what is expected, and nothing else.

Of every public call of the primitives that takes bytes, arrays or counts. The others have their
own tests: `prg` and `packing`, which had them first.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secagg import gaussian, kdf, packing, prg, ringset, rlwe, shamir
from secagg.encoding import FixedPoint
from secagg.errors import DecodeError, LocalError, ParameterError
from secagg.ring import RingVector, word

COINS = prg.StreamKey(bytes(16), bytes(12))
SEED = bytes(32)
PLAN = ringset.Plan(ringset.SETS["A"], 10, 5000, 2**40)
"""Two chunks, two values a coefficient."""
KEY = rlwe.draw_key(SEED, SEED, PLAN)
SUM = KEY.astype(np.int64)
VALUES = np.zeros(5000, np.uint64)
FIRST = PLAN.bytes_of([0])
RING = RingVector.zeros(20, 5)


def frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array


def unaligned(array: Any) -> Any:
    return np.frombuffer(bytearray(1) + array.tobytes(), np.uint8)[1:].view(array.dtype)


def encrypt(**changed: Any) -> object:
    given = {"plan": PLAN, "seed": SEED, "context": SEED, "values": VALUES, "key": KEY, "step": 1}
    return rlwe.encrypt(**{**given, **changed})


def add(total: Any = None, chunks: Any = range(1), data: Any = bytes(FIRST)) -> object:
    return rlwe.add_chunks(PLAN, rlwe.zero_sum(PLAN) if total is None else total, chunks, data)


def opened(**changed: Any) -> object:
    given = {"total": rlwe.zero_sum(PLAN), "context": SEED, "key_sum": SUM, "count": 1}
    return rlwe.open_sum(PLAN, **{**given, **changed})


def shaped(key: Any, place: int, value: int) -> Any:
    out = key.copy()
    out[place] = value
    return out


WHOLE, LISTED = "whole number", "a short key, or a sum of some, is a vector of signed integers"
SIZE = PLAN.ring.count * PLAN.coefficients
TOTAL = f"a contiguous vector of {SIZE} native uint32"
CHUNKS = "chunks are a range within 0 to 2"
VECTOR = "a one-dimensional array of unsigned integers"

Case = tuple[str, Callable[[], object]]
RLWE: dict[str, Case] = {
    "draw_key: short seed": ("32 bytes", lambda: rlwe.draw_key(bytes(31), SEED, PLAN)),
    "draw_key: no context": ("32 bytes", lambda: rlwe.draw_key(SEED, b"", PLAN)),
    "draw_key: text": ("32 bytes", lambda: rlwe.draw_key("x" * 32, SEED, PLAN)),  # type: ignore[arg-type]
    "encrypt: short seed": ("32 bytes", lambda: encrypt(seed=bytes(16))),
    "encrypt: no context": ("32 bytes", lambda: encrypt(context=b"")),
    "encrypt: signed": (VECTOR, lambda: encrypt(values=np.full(5000, -1))),
    "encrypt: floats": (VECTOR, lambda: encrypt(values=np.full(5000, 0.7))),
    "encrypt: a list": (VECTOR, lambda: encrypt(values=[0] * 5000)),
    "encrypt: two dimensions": (VECTOR, lambda: encrypt(values=VALUES.reshape(2, -1))),
    "encrypt: too few": ("expected 5000", lambda: encrypt(values=VALUES[1:])),
    "encrypt: none": ("expected 5000", lambda: encrypt(values=VALUES[:0])),
    "encrypt: too large": ("the largest", lambda: encrypt(values=VALUES + np.uint64(2**41))),
    "encrypt: short key": ("of 5 coefficients; expected 4096", lambda: encrypt(key=KEY[:5])),
    "encrypt: unsigned key": (LISTED, lambda: encrypt(key=KEY.astype(np.uint32))),
    "encrypt: key of floats": (LISTED, lambda: encrypt(key=KEY.astype(float))),
    "encrypt: key of bytes": (LISTED, lambda: encrypt(key=KEY.tobytes())),
    "encrypt: long key": ("no coefficient beyond 80", lambda: encrypt(key=shaped(KEY, 9, 81))),
    "encrypt: least key": (
        "no coefficient beyond 80",
        lambda: encrypt(key=shaped(KEY, 9, -(2**31))),
    ),
    "encrypt: step 0": ("a step is at least 1 chunks, got 0", lambda: encrypt(step=0)),
    "encrypt: step -1": ("a step is at least 1", lambda: encrypt(step=-1)),
    "encrypt: step 1.0": (WHOLE, lambda: encrypt(step=1.0)),
    "check_piece: outside": (CHUNKS, lambda: rlwe.check_piece(PLAN, range(1, 3), b"")),
    "check_piece: text": ("contiguous bytes", lambda: rlwe.check_piece(PLAN, range(1), "x")),  # type: ignore[arg-type]
    "add_chunks: read-only": ("read-only", lambda: add(frozen(rlwe.zero_sum(PLAN)))),
    "add_chunks: sum of others": (TOTAL, lambda: add(rlwe.zero_sum(PLAN)[:-1])),
    "add_chunks: 64-bit": (TOTAL, lambda: add(np.zeros(SIZE, np.uint64))),
    "add_chunks: signed": (TOTAL, lambda: add(np.zeros(SIZE, np.int32))),
    "add_chunks: big-endian": (TOTAL, lambda: add(np.zeros(SIZE, ">u4"))),
    "add_chunks: strided": (TOTAL, lambda: add(np.zeros(2 * SIZE, np.uint32)[::2])),
    "add_chunks: unaligned": (TOTAL, lambda: add(unaligned(rlwe.zero_sum(PLAN)))),
    "add_chunks: rows": (TOTAL, lambda: add(rlwe.zero_sum(PLAN).reshape(3, -1))),
    "add_chunks: a list": (TOTAL, lambda: add([0] * SIZE)),
    "add_chunks: outside": (CHUNKS, lambda: add(None, range(2, 3))),
    "add_chunks: far outside": (CHUNKS, lambda: add(None, range(10**7, 10**7 + 1))),
    "add_chunks: before": (CHUNKS, lambda: add(None, range(-1, 1))),
    "add_chunks: backwards": (CHUNKS, lambda: add(None, range(0, -1, -1))),
    "add_chunks: every other": (CHUNKS, lambda: add(None, range(0, 2, 2))),
    "add_chunks: a number": (CHUNKS, lambda: add(None, 0)),
    "add_chunks: text": ("contiguous bytes", lambda: add(data="x" * FIRST)),
    "add_chunks: gaps": ("contiguous bytes", lambda: add(data=memoryview(bytes(2 * FIRST))[::2])),
    "residues_of: outside": (CHUNKS, lambda: rlwe.residues_of(PLAN, rlwe.zero_sum(PLAN), 2)),
    "residues_of: another": (TOTAL, lambda: rlwe.residues_of(PLAN, np.zeros(1, np.uint32), 0)),
    "open_sum: another": (TOTAL, lambda: opened(total=np.zeros(5, np.uint32))),
    "open_sum: no context": ("32 bytes", lambda: opened(context=b"")),
    "open_sum: key of floats": (LISTED, lambda: opened(key_sum=SUM.astype(float))),
    "open_sum: short key": ("expected 4096", lambda: opened(key_sum=SUM[1:])),
    "open_sum: nobody": ("a count is 1 to 10 clients, got 0", lambda: opened(count=0)),
    "open_sum: too many": ("a count is 1 to 10 clients, got 11", lambda: opened(count=11)),
    "open_sum: count 1.5": (WHOLE, lambda: opened(count=1.5)),
    "open_sum: 0 bits": ("a width is 1 to 64 bits, got 0", lambda: opened(bits=0)),
    "open_sum: 65 bits": ("a width is 1 to 64 bits, got 65", lambda: opened(bits=65)),
    "is_key_sum: short key": (
        "expected 4096",
        lambda: rlwe.is_key_sum(PLAN, rlwe.zero_sum(PLAN), SEED, SUM[1:], 1),
    ),
}

OTHERS: dict[str, Case] = {
    "sample -1": ("a number of samples is 0 to", lambda: gaussian.sample(-1, COINS)),
    "sample 2.5": (WHOLE, lambda: gaussian.sample(2.5, COINS)),  # type: ignore[arg-type]
    "sample too many": ("a number of samples is 0 to", lambda: gaussian.sample(2**33, COINS)),
    "sample from -2": ("start is at least 0", lambda: gaussian.sample(1, COINS, start=-2)),
    "sample from 1": ("an even word", lambda: gaussian.sample(1, COINS, start=1)),
    "sample beyond": ("2^32 blocks", lambda: gaussian.sample(1, COINS, start=2**34)),
    "sample of a key": ("StreamKey", lambda: gaussian.sample(1, bytes(28))),  # type: ignore[arg-type]
    "zeros -5": ("a length is at least 0 values, got -5", lambda: RingVector.zeros(20, -5)),
    "zeros 2.5": (WHOLE, lambda: RingVector.zeros(20, 2.5)),  # type: ignore[arg-type]
    "word 0": ("a modulus is 1 to 64 bits, got 0", lambda: word(0)),
    "word '8'": (WHOLE, lambda: word("8")),  # type: ignore[arg-type]
    "add_packed from -1": ("start is 0 to 5", lambda: RING.add_packed(b"", start=-1)),
    "add_packed from 6": ("start is 0 to 5", lambda: RING.add_packed(b"", start=6)),
    "add_packed of 3": ("0 to 2 values", lambda: RING.add_packed(bytes(8), start=3, count=3)),
    "add_packed of -1": ("0 to 5 values", lambda: RING.add_packed(b"", count=-1)),
    "head of 6": ("a length is 0 to 5", lambda: RING.head(6)),
    "head of -1": ("a length is 0 to 5", lambda: RING.head(-1)),
    "derive 10^6": ("gives 0 to 8160 bytes", lambda: kdf.derive(SEED, "x", length=10**6)),
    "derive -1": ("gives 0 to 8160 bytes", lambda: kdf.derive(SEED, "x", length=-1)),
    "derive 2.5": ("gives 0 to 8160", lambda: kdf.derive(SEED, "x", length=2.5)),  # type: ignore[arg-type]
    "derive of text": ("a secret is bytes", lambda: kdf.derive("x", "x")),  # type: ignore[arg-type]
    "derive of None": ("a secret is bytes", lambda: kdf.derive(None, "x")),  # type: ignore[arg-type]
    "derive of gaps": (
        "a secret is bytes",
        lambda: kdf.derive(memoryview(SEED)[::2], "x"),  # type: ignore[arg-type]
    ),
    "derive_many of text": (
        "secrets: rows of bytes, not list",
        lambda: kdf.derive_many(["x"], "x", np.arange(1)),  # type: ignore[arg-type]
    ),
    "label of None": ("no part of type NoneType", lambda: kdf.label("x", None)),  # type: ignore[arg-type]
    "label of a list": ("no part of type list", lambda: kdf.label("x", [1])),  # type: ignore[arg-type]
    "label of -1": ("not a part of a label", lambda: kdf.label("x", -1)),
    "label of 2^64": ("not a part of a label", lambda: kdf.label("x", 2**64)),
    "label of half a letter": ("not a part of a label", lambda: kdf.label("\ud800")),
    "deal text": ("a secret has 32 bytes", lambda: shamir.deal(["x" * 32], [1, 2], 2, COINS)),  # type: ignore[list-item]
    "deal a number": ("a secret has 32 bytes", lambda: shamir.deal([5], [1, 2], 2, COINS)),  # type: ignore[list-item]
    "deal words": (
        "a secret has 32 bytes",
        lambda: shamir.deal([np.zeros(32, np.uint64)], [1, 2], 2, COINS),  # type: ignore[list-item]
    ),
    "deal 1.5 of": ("threshold 1.5 with 2 points", lambda: shamir.deal([SEED], [1, 2], 1.5, COINS)),  # type: ignore[arg-type]
    "deal without coins": ("StreamKey", lambda: shamir.deal([SEED], [1, 2], 2, SEED)),  # type: ignore[arg-type]
    "reconstruct text": ("shares are bytes", lambda: shamir.reconstruct([1], [["x" * 36]])),  # type: ignore[list-item]
    "parse text": ("shares are bytes", lambda: shamir.parse_share("x" * 36)),  # type: ignore[arg-type]
    "check text": ("shares are bytes", lambda: shamir.check_shares("x" * 36, 1)),  # type: ignore[arg-type]
    "check_packed 2.5": (WHOLE, lambda: packing.check_packed(b"", 8, 2.5)),  # type: ignore[arg-type]
    "check_packed -1": ("a length is at least 0", lambda: packing.check_packed(b"", 8, -1)),
}

CASES = RLWE | OTHERS


@pytest.mark.parametrize("name", CASES)
def test_a_local_error_says_what_is_expected(name: str) -> None:
    why, call = CASES[name]
    with pytest.raises(LocalError, match=re.escape(why)):
        call()


@pytest.mark.parametrize("data", [b"", b"xx", bytes(FIRST - 1), bytes(FIRST + 1)], ids=len)
def test_no_byte_beyond_a_piece_is_read_and_none_of_it_is_added(data: bytes) -> None:
    total = rlwe.zero_sum(PLAN)
    for call in (
        lambda: rlwe.check_piece(PLAN, range(1), data),
        lambda: rlwe.add_chunks(PLAN, total, range(1), data),
    ):
        with pytest.raises(DecodeError, match=f"are {FIRST} bytes, got {len(data)}"):
            call()
    assert not total.any()


def test_a_read_only_sum_is_left_as_it_is() -> None:
    piece = next(rlwe.encrypt(PLAN, SEED, SEED, VALUES, KEY, 1))
    total = frozen(rlwe.zero_sum(PLAN))
    with pytest.raises(LocalError, match="read-only"):
        rlwe.add_chunks(PLAN, total, range(1), piece)
    assert not total.any()


def test_what_the_least_integer_hides_is_beyond_the_bound() -> None:
    """Its absolute value is negative where it is taken in its own type."""
    wrong = shaped(SUM, 3, -(2**63))
    with pytest.raises(DecodeError, match="beyond its bound"):
        opened(key_sum=wrong)
    assert not rlwe.is_key_sum(PLAN, rlwe.zero_sum(PLAN), SEED, wrong, 1)


@pytest.mark.parametrize("stored", [np.zeros(5, np.uint32), np.zeros(SIZE), [0], None])
def test_what_is_no_sum_is_not_taken_for_one(stored: Any) -> None:
    assert not rlwe.is_sum(PLAN, stored)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64, ">i4"])
def test_a_key_of_other_integers_is_the_same_key(kind: Any) -> None:
    expected = next(rlwe.encrypt(PLAN, SEED, SEED, VALUES, KEY, 1))
    assert next(rlwe.encrypt(PLAN, SEED, SEED, VALUES, KEY.astype(kind), 1)) == expected


@pytest.mark.parametrize("how", ["strided", "big-endian", "read-only", "narrow"])
def test_other_vectors_have_the_same_ciphertext(how: str) -> None:
    plain = np.arange(5000, dtype=np.uint16)
    expected = list(rlwe.encrypt(PLAN, SEED, SEED, plain.astype(np.uint64), KEY, 9))
    other = {
        "strided": np.repeat(plain, 2)[::2],
        "big-endian": plain.astype(">u8"),
        "read-only": frozen(plain.copy()),
        "narrow": plain,
    }[how]
    assert list(rlwe.encrypt(PLAN, SEED, SEED, other, KEY, 9)) == expected


@pytest.mark.parametrize("clip", ["1", None, 1j, b"1"])
def test_a_clip_is_a_number(clip: Any) -> None:
    with pytest.raises(ParameterError, match="positive finite range"):
        FixedPoint(8, clip, 1, 1)
