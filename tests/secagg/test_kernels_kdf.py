"""Derivation, one by one and in batches, against HKDF as `cryptography` has it."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import example, given
from hypothesis import strategies as st

from secagg.errors import LocalError
from secagg.kdf import derive, derive_many, label

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
    assert derive_many([secret], kind, [parts], length) == [expected]


@pytest.mark.parametrize("length", [0, 1, 28, 31, 32, 33, 63, 64, 65, 96, 8159, 8160])
def test_lengths(length: int) -> None:
    secret = bytes(range(32))
    assert derive(secret, "kind", 1, length=length) == library(secret, label("kind", 1), length)


@given(st.lists(st.tuples(SECRETS, PARTS), max_size=12), st.integers(0, 100), st.booleans())
def test_batches(rows: list[tuple[bytes, Any]], length: int, repeat: bool) -> None:
    """With `repeat`, each secret three times in a row, the same object."""
    rows = [row for row in rows for _ in range(1 + 2 * repeat)]
    secrets, parts = [secret for secret, _ in rows], [part for _, part in rows]
    expected = [library(s, label("kind", *p), length) for s, p in rows]
    assert derive_many(secrets, "kind", parts, length) == expected


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


@pytest.mark.parametrize("length", [-1, 8161, 2**70, "32", None, 32.0])
def test_lengths_that_the_library_refuses(length: Any) -> None:
    with pytest.raises((ValueError, OverflowError, TypeError)) as expected:
        library(bytes(32), b"", length)
    with pytest.raises(expected.type):
        derive(bytes(32), "kind", length=length)
    with pytest.raises(expected.type):
        derive_many([bytes(32)], "kind", [()], length)


@pytest.mark.parametrize("secret", ["a string", None, 7])
def test_a_secret_is_bytes(secret: Any) -> None:
    with pytest.raises(TypeError):
        derive_many([secret], "kind", [()])


@pytest.mark.parametrize("part", [None, 1.5])
def test_a_part_is_bytes_a_string_or_an_integer(part: Any) -> None:
    with pytest.raises(TypeError):
        derive_many([bytes(32)], "kind", [(part,)])
