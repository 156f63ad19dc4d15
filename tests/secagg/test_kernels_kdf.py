"""Derivation, one by one and in batches, against HKDF as `cryptography` has it."""

from hashlib import sha256, shake_128
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import example, given
from hypothesis import strategies as st

from secagg import kdf, kernels
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


SIZES = [0, 1, 15, 16, 17, 31, 47, 48, 100, 1500]


def words(count: int, length: int) -> list[bytes]:
    """Byte strings that differ, of one length."""
    return [shake_128(b"%d" % n).digest(length) for n in range(count)]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("length", [28, 32, 44, 64])
def test_sizes_of_batches(count: int, length: int) -> None:
    """Up to more than one thread's work."""
    secrets, parts = words(count, 32), [(n, "update", bytes(20)) for n in range(count)]
    expected = [library(s, label("k", 7, *p), length) for s, p in zip(secrets, parts, strict=True)]
    assert derive_many(secrets, "k", parts, common=(7,), length=length) == expected
    expected = [digest("k", 7, *p) for p in parts]
    assert digests("k", (7,), parts) == expected


@pytest.mark.parametrize("length", range(201))
def test_lengths_across_blocks(length: int) -> None:
    """Of the secret, of what is common and of what is not."""
    several = words(49, length)
    parts = [(each,) for each in several]
    expected = [library(s, label("k", s), 32) for s in several]
    assert derive_many(several, "k", parts) == expected
    assert digests("k", (), parts) == [digest("k", each) for each in several]
    common, lists = (bytes(length),), [(n,) for n in range(49)]
    expected = [library(bytes(32), label("k", *common, n), 31) for n in range(49)]
    assert derive_many([bytes(32)] * 49, "k", lists, common=common, length=31) == expected
    assert digests("k", common, lists) == [digest("k", *common, n) for n in range(49)]


@pytest.mark.parametrize("run", [1, 2, 49, 60])
def test_mixed_lengths_and_runs_of_a_secret(run: int) -> None:
    """Secrets that stand `run` times in a row, among labels of three shapes."""
    secrets = [s for n in range(8) for s in words(60 // run + 1, 32 + n % 2) for _ in range(run)]
    shapes: list[tuple[Any, ...]] = [(1, b"ab"), ("x", 2), (True, 3), ("y", 2**64 - 1)]
    parts = [shapes[n % 4] if n % 7 else (n,) for n in range(len(secrets))]
    expected = [library(s, label("k", *p), 28) for s, p in zip(secrets, parts, strict=True)]
    assert derive_many(secrets, "k", parts, length=28) == expected
    assert digests("k", (), parts) == [digest("k", *p) for p in parts]


def test_the_kernel_is_used_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numba, and where it does not pay yet, the results are the same."""
    pytest.importorskip("secagg.kernels.sha256")
    used: list[int] = []
    keep = kdf._cut
    monkeypatch.setattr(kdf, "_cut", lambda *args: used.append(args[1]) or keep(*args))
    secrets, parts = words(99, 32), [(n,) for n in range(99)]

    def both() -> tuple[list[bytes], list[bytes]]:
        return derive_many(secrets, "k", parts), digests("k", (), parts)

    together = both()
    assert used == [99, 99]
    monkeypatch.setattr(kernels, "worth", lambda _: False)
    assert both() == together
    monkeypatch.setattr(kernels, "worth", lambda _: True)
    monkeypatch.setattr(kdf, "_loaded", lambda: None)
    assert both() == together
    assert used == [99, 99]


@pytest.mark.parametrize("wrong", [-1, 2**64, None, bytearray(4)])
@pytest.mark.parametrize("count", [50, 2])
def test_a_wrong_part_in_a_batch(wrong: Any, count: int) -> None:
    parts = [(n,) for n in range(count)] + [(wrong,)]
    with pytest.raises(LocalError):
        digests("k", (), parts)
    with pytest.raises(LocalError):
        derive_many(words(count + 1, 32), "k", parts)
    with pytest.raises(LocalError, match="a secret is bytes"):
        derive_many([*words(count, 32), None], "k", [(1,)] * (count + 1))  # type: ignore[list-item]


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
