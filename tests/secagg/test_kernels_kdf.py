"""Derivation, one by one and in batches, against HKDF as `cryptography` has it."""

from hashlib import sha256, shake_128
from itertools import product
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import example, given
from hypothesis import strategies as st

from secagg import kdf, kernels
from secagg.errors import LocalError
from secagg.kdf import (
    Table,
    derive,
    derive_many,
    digest,
    digests,
    extended,
    label,
    labels,
    strings,
    table,
)

PARTS = st.lists(
    st.one_of(st.binary(max_size=90), st.text(max_size=12), st.integers(0, 2**64 - 1)), max_size=4
).map(tuple)
SECRETS = st.binary(max_size=150)


def library(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


def rows(each: list[bytes]) -> Table:
    return table(each, len(each[0]) if each else 0)


def words(count: int, length: int) -> list[bytes]:
    """Byte strings that differ, of one length."""
    return [shake_128(b"%d" % n).digest(length) for n in range(count)]


# --- one by one --------------------------------------------------------------------------


@given(SECRETS, st.text(max_size=9), PARTS, st.integers(0, 8160))
@example(b"", "", (), 0)
@example(bytes(64), "pair", (bytes(32), 1, 2), 1)
@example(b"\xff" * 65, "pair", (b"\x36" * 32, "\x5c"), 8160)
def test_derive(secret: bytes, kind: str, parts: tuple[Any, ...], length: int) -> None:
    expected = library(secret, label(kind, *parts), length)
    assert derive(secret, kind, *parts, length=length) == expected


@pytest.mark.parametrize("length", [0, 1, 28, 31, 32, 33, 63, 64, 65, 96, 8159, 8160])
def test_lengths(length: int) -> None:
    secret = bytes(range(32))
    assert derive(secret, "kind", 1, length=length) == library(secret, label("kind", 1), length)


def test_parts_that_recur_are_not_mistaken_for_others() -> None:
    """Names and numbers are remembered: by type, and more of them than are kept."""
    alike = ["1", 1, "True", True, "\x01", b"1", b"\x01", 0, False, ""]
    for _ in range(2):
        assert (
            len({label("kind", part) for part in alike}) == len(alike) - 4
        )  # True is 1, and a text its bytes
        for number in range(5000):
            expected = b"\0\0\0\x08" + number.to_bytes(8, "big")
            assert label("kind", number).endswith(expected)


@given(st.text(max_size=9), PARTS, PARTS)
def test_a_label_is_extended(kind: str, some: tuple[Any, ...], more: tuple[Any, ...]) -> None:
    assert extended(label(kind, *some), *more) == label(kind, *some, *more)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_labels_of_many_rows(count: int) -> None:
    each, numbers = words(count, 36), np.arange(count)
    found = labels("kind", b"same", 7, rows(each), numbers, "after")
    expected = [label("kind", b"same", 7, word, n, "after") for n, word in enumerate(each)]
    assert strings(found) == expected
    with pytest.raises(LocalError):
        labels("kind", b"no column")


def test_other_buffers() -> None:
    secret = bytes(range(32))
    for buffer in (bytearray(secret), memoryview(secret)):
        assert derive(buffer, "kind") == derive(secret, "kind")  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [-1, 8161, 2**70, "32", None, 32.0])
def test_lengths_that_the_library_refuses(length: Any) -> None:
    with pytest.raises((ValueError, OverflowError, TypeError)):
        library(bytes(32), b"", length)
    with pytest.raises(LocalError, match="gives 0 to 8160 bytes"):
        derive(bytes(32), "kind", length=length)
    with pytest.raises(LocalError, match="gives 0 to 8160 bytes"):
        derive_many(rows([bytes(32)]), "kind", np.arange(1), length=length)


@pytest.mark.parametrize("part", [None, 1.5, (1,), bytearray(b"x"), memoryview(b"x"), [1]])
def test_a_part_is_bytes_a_string_or_an_integer(part: Any) -> None:
    for _ in range(2):
        with pytest.raises(LocalError, match="no part of type"):
            label("kind", part)
        with pytest.raises(LocalError, match="no part of type"):
            derive(bytes(32), "kind", part)


@pytest.mark.parametrize("part", [-1, 2**64])
def test_a_number_has_eight_bytes(part: int) -> None:
    for _ in range(2):
        with pytest.raises(LocalError):
            label("kind", part)


# --- in batches --------------------------------------------------------------------------


@given(PARTS, PARTS, st.integers(0, 60), st.integers(0, 60), st.integers(0, 100), st.data())
def test_batches(
    before: tuple[Any, ...], after: tuple[Any, ...], count: int, width: int, length: int, data: Any
) -> None:
    """Columns of numbers and of byte strings, among parts that all rows have."""
    secrets = words(count, data.draw(st.sampled_from([0, 31, 32, 64, 150])))
    held = words(count, width)
    numbers = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count))
    parts = [(*before, number, each, *after) for number, each in zip(numbers, held, strict=True)]
    columns = (*before, np.array(numbers, np.uint64), table(held, width), *after)
    known = table(secrets, len(secrets[0]) if secrets else 0)
    found = derive_many(known, "kind", *columns, length=length)
    assert found.shape == (count, length)
    assert strings(found) == [
        library(s, label("kind", *p), length) for s, p in zip(secrets, parts, strict=True)
    ]
    assert strings(digests("kind", *columns)) == [digest("kind", *p) for p in parts]
    assert [sha256(label("kind", *p)).digest() for p in parts] == strings(digests("kind", *columns))


SIZES = [0, 1, 15, 16, 17, 31, 40, 47, 48, 100, 1500]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("length", [28, 32, 44, 64])
def test_sizes_of_batches(count: int, length: int) -> None:
    """Up to more than one thread's work."""
    secrets, parties = words(count, 32), np.arange(count)
    found = derive_many(table(secrets, 32), "k", 7, parties, "update", bytes(20), length=length)
    infos = [label("k", 7, n, "update", bytes(20)) for n in range(count)]
    expected = [library(s, info, length) for s, info in zip(secrets, infos, strict=True)]
    assert strings(found) == expected
    found = digests("k", 7, parties, table(secrets, 32))
    assert strings(found) == [digest("k", 7, n, s) for n, s in enumerate(secrets)]


@pytest.mark.parametrize("length", range(201))
def test_lengths_across_blocks(length: int) -> None:
    """Of the secret, of what is common and of what is not."""
    several, numbers = words(49, length), np.arange(49)
    expected = [library(s, label("k", s), 32) for s in several]
    assert strings(derive_many(rows(several), "k", rows(several))) == expected
    assert strings(digests("k", rows(several))) == [digest("k", each) for each in several]
    common = bytes(length)
    found = derive_many(rows([bytes(32)]), "k", common, numbers, length=31)
    assert strings(found) == [library(bytes(32), label("k", common, n), 31) for n in range(49)]
    assert strings(digests("k", common, numbers)) == [digest("k", common, n) for n in range(49)]


@pytest.mark.parametrize(("count", "size"), list(product([1, 3, 100], [0, 32, 90])))
def test_one_secret_for_all(count: int, size: int) -> None:
    numbers = np.arange(count)
    (secret,) = words(1, size)
    found = derive_many(rows([secret]), "k", numbers)
    assert strings(found) == strings(derive_many(rows([secret] * count), "k", numbers))
    assert strings(found) == [derive(secret, "k", n) for n in range(count)]


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64, ">i4"])
def test_numbers_of_any_type(kind: Any) -> None:
    numbers = np.array([0, 1, 100], kind)
    assert strings(digests("k", numbers)) == [digest("k", int(n)) for n in numbers]


def test_rows_of_another_order_in_memory() -> None:
    both = np.asfortranarray(np.arange(640, dtype=np.uint8).reshape(20, 32))
    for view in (both, both[::-1], both[::2], both[:, ::3]):
        plain = view.copy()
        assert strings(view) == strings(plain)
        assert np.array_equal(digests("k", view), digests("k", plain))
        assert np.array_equal(derive_many(view, "k", view), derive_many(plain, "k", plain))


def test_the_kernel_is_used_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numba, and where it does not pay yet, the results are the same."""
    pytest.importorskip("secagg.kernels.sha256")
    used: list[int] = []
    keep = kdf._bytes_of
    monkeypatch.setattr(kdf, "_bytes_of", lambda *args: used.append(args[1]) or keep(*args))
    secrets, numbers = rows(words(99, 32)), np.arange(99)

    def both() -> list[list[bytes]]:
        return [strings(derive_many(secrets, "k", numbers)), strings(digests("k", numbers))]

    together = both()
    assert used == [99, 99]
    monkeypatch.setattr(kernels, "worth", lambda _: False)
    assert both() == together
    monkeypatch.setattr(kernels, "worth", lambda _: True)
    monkeypatch.setattr(kdf, "_loaded", lambda: None)
    assert both() == together
    assert used == [99, 99]


def test_what_is_common_is_not_told_from_what_comes_first() -> None:
    """Where a part stands alone and where it is a column, the label is the same."""
    expected = strings(digests("kind", b"c" * 32, 7, np.array([5, 6]), "x"))
    common = rows([b"c" * 32] * 2)
    assert strings(digests("kind", common, 7, np.array([5, 6]), "x")) == expected
    assert strings(digests("kind", common, np.array([7, 7]), np.array([5, 6]), "x")) == expected


def test_a_batch_gives_32_bytes_unless_told() -> None:
    assert derive_many(rows([bytes(32)]), "kind", np.ones(1, int)).shape == (1, 32)


WRONG: dict[str, tuple[Any, ...]] = {
    "no column": (),
    "only what all have": (1, "x"),
    "two heights": (np.arange(2), np.arange(3)),
    "a negative number": (np.array([1, -1]),),
    "floats": (np.zeros(2),),
    "no height": (np.array(3),),
    "three dimensions": (np.zeros((2, 2, 2), np.uint8),),
    "words in two dimensions": (np.zeros((2, 2), np.uint32),),
    "truths": (np.zeros(2, np.bool_),),
    "objects": (np.array([None, 1]),),
    "a list": ([1, 2],),
    "None": (np.arange(2), None),
    "-1": (np.arange(2), -1),
    "2^64": (2**64, np.arange(2)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_batch_has(name: str) -> None:
    with pytest.raises(LocalError):
        digests("k", *WRONG[name])
    with pytest.raises(LocalError):
        derive_many(rows(words(2, 32)), "k", *WRONG[name])


@pytest.mark.parametrize(
    "secrets",
    [["a string"], None, b"x" * 32, np.zeros(32, np.uint8), np.zeros((2, 8), np.uint32)],
)
def test_secrets_are_rows_of_bytes(secrets: Any) -> None:
    with pytest.raises(LocalError, match="secrets: rows of bytes, not"):
        derive_many(secrets, "kind", np.arange(2))


@pytest.mark.parametrize(("secrets", "labels"), [(0, 1), (2, 1), (2, 3), (100, 99), (2, 0)])
def test_as_many_secrets_as_labels(secrets: int, labels: int) -> None:
    with pytest.raises(LocalError, match=f"{secrets} secrets for {labels} labels"):
        derive_many(table(words(secrets, 32), 32), "kind", np.arange(labels))


def test_rows_of_a_table_have_one_length() -> None:
    assert strings(table([], 32)) == []
    assert table([], 32).shape == (0, 32)
    assert strings(table([b"", b""], 0)) == [b"", b""]
    assert strings(table([b"ab", b"cd"], 2)) == [b"ab", b"cd"]
    for wrong in ([b"a"], [b"ab", b"a"], [b"abc", b"a"]):
        with pytest.raises(LocalError, match="do not have 2 bytes"):
            table(wrong, 2)
