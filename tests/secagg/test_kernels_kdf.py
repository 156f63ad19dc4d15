"""Derivation, one by one and in batches, against HKDF as `cryptography` has it."""

from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import example, given
from hypothesis import strategies as st

from secagg.errors import LocalError
from secagg.kdf import derive, derive_many, digest, digests, label

PARTS = st.lists(
    st.one_of(st.binary(max_size=90), st.text(max_size=12), st.integers(0, 2**64 - 1)), max_size=4
).map(tuple)
SECRETS = st.binary(max_size=150)


def library(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


@given(SECRETS, st.text(max_size=9), PARTS, st.integers(0, 8160))
@example(b"", "", (), 0)
@example(bytes(64), "pair", (bytes(32), 1, 2), 1)
@example(b"\xff" * 65, "pair", (b"\x36" * 32, "\x5c"), 8160)
def test_derive(secret: bytes, kind: str, parts: tuple[Any, ...], length: int) -> None:
    expected = library(secret, label(kind, *parts), length)
    assert derive(secret, kind, *parts, length=length) == expected
    assert derive_many([secret], kind, [parts], length=length) == [expected]


@pytest.mark.parametrize("length", [0, 1, 28, 31, 32, 33, 63, 64, 65, 96, 8159, 8160])
def test_lengths(length: int) -> None:
    secret = bytes(range(32))
    assert derive(secret, "kind", 1, length=length) == library(secret, label("kind", 1), length)


@given(st.lists(st.tuples(SECRETS, PARTS), max_size=12), PARTS, st.integers(0, 100), st.booleans())
def test_batches(
    rows: list[tuple[bytes, Any]], common: tuple[Any, ...], length: int, repeat: bool
) -> None:
    """With `repeat`, each secret three times in a row, the same object."""
    rows = [row for row in rows for _ in range(1 + 2 * repeat)]
    secrets, parts = [secret for secret, _ in rows], [part for _, part in rows]
    expected = [library(s, label("kind", *p), length) for s, p in rows]
    assert derive_many(secrets, "kind", parts, length=length) == expected
    expected = [library(s, label("kind", *common, *p), length) for s, p in rows]
    assert derive_many(secrets, "kind", parts, common=common, length=length) == expected


@given(PARTS, st.lists(PARTS, max_size=12))
def test_digests(common: tuple[Any, ...], each: list[tuple[Any, ...]]) -> None:
    expected = [digest("kind", *common, *parts) for parts in each]
    assert digests("kind", common, each) == expected
    assert digests("kind", common, iter(each)) == expected
    assert [sha256(label("kind", *common, *parts)).digest() for parts in each] == expected


def test_what_is_common_is_not_told_from_what_comes_first() -> None:
    """It is a way to write the same label, and no part of it."""
    one, other = (b"c" * 32, 7), (5, "x")
    whole = derive_many([bytes(32)], "kind", [(*one, *other)])
    assert derive_many([bytes(32)], "kind", [other], common=one) == whole
    assert derive_many([bytes(32)], "kind", [(*one[1:], *other)], common=one[:1]) == whole
    assert digests("kind", one, [other]) == digests("kind", (), [(*one, *other)])


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


def test_a_batch_gives_32_bytes_unless_told() -> None:
    assert derive_many([bytes(32)], "kind", [(1,)]) == [derive(bytes(32), "kind", 1)]


def test_other_buffers() -> None:
    secret = bytes(range(32))
    for buffer in (bytearray(secret), memoryview(secret)):
        assert derive(buffer, "kind") == derive(secret, "kind")  # type: ignore[arg-type]


def test_as_many_secrets_as_parts() -> None:
    for secrets, parts in (([b"a"], []), ([], [(1,)]), ([b"a"], [(1,), (2,)])):
        with pytest.raises(LocalError, match="lists of parts"):
            derive_many(secrets, "kind", parts)
        with pytest.raises(LocalError, match="lists of parts"):
            derive_many(secrets, "kind", parts, common=(1,), length=44)


@pytest.mark.parametrize("length", [-1, 8161, 2**70, "32", None, 32.0])
def test_lengths_that_the_library_refuses(length: Any) -> None:
    with pytest.raises((ValueError, OverflowError, TypeError)):
        library(bytes(32), b"", length)
    with pytest.raises(LocalError, match="gives 0 to 8160 bytes"):
        derive(bytes(32), "kind", length=length)
    with pytest.raises(LocalError, match="gives 0 to 8160 bytes"):
        derive_many([bytes(32)], "kind", [()], length=length)


@pytest.mark.parametrize("secret", ["a string", None, 7])
def test_a_secret_is_bytes(secret: Any) -> None:
    with pytest.raises(LocalError):
        derive_many([secret], "kind", [()])


@pytest.mark.parametrize("part", [None, 1.5, (1,), bytearray(b"x"), memoryview(b"x"), [1]])
def test_a_part_is_bytes_a_string_or_an_integer(part: Any) -> None:
    for _ in range(2):
        with pytest.raises(LocalError):
            derive_many([bytes(32)], "kind", [(part,)])
        with pytest.raises(LocalError):
            derive_many([bytes(32)], "kind", [()], common=(part,))
        with pytest.raises(LocalError):
            digests("kind", (), [(part,)])


@pytest.mark.parametrize("part", [-1, 2**64])
def test_a_number_has_eight_bytes(part: int) -> None:
    for _ in range(2):
        with pytest.raises(LocalError):
            digests("kind", (part,), [])
        with pytest.raises(LocalError):
            derive_many([bytes(32)], "kind", [(part,)])
