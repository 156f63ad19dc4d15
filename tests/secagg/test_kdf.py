"""Labels against their definition, derivation against RFC 5869."""

import hashlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import errors, kdf
from secagg.errors import LocalError
from secagg.kdf import derive, digest, label
from tests.vectors import primitives as reference

VECTORS = reference.load("kdf")
SECRET = bytes(range(32))
PARTS = st.lists(
    st.one_of(st.binary(max_size=12), st.text(max_size=12), st.integers(0, 2**64 - 1)), max_size=4
)


def parts_of(vector: dict[str, Any]) -> list[Any]:
    return [reference.from_json(part) for part in vector["parts"]]


def refused_call(vector: dict[str, Any]) -> bytes:
    if vector["refused"] == "label":
        return label("kind", *parts_of(vector))
    return derive(SECRET, "kind", length=vector["length"])


def raw(part: reference.Part) -> bytes:
    """What a part is hashed as."""
    if isinstance(part, int):
        return part.to_bytes(8, "big")
    return part.encode() if isinstance(part, str) else part


# --- vectors -----------------------------------------------------------------------------


def test_vectors_are_those_of_the_reference() -> None:
    assert reference.kdf_vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["rfc5869"])
def test_the_reference_reproduces_rfc_5869(vector: dict[str, str]) -> None:
    ikm, salt, info, okm = (bytes.fromhex(vector[k]) for k in ("ikm", "salt", "info", "okm"))
    assert reference.hkdf_expand(reference.hkdf_extract(salt, ikm), info, len(okm)) == okm


@pytest.mark.parametrize("vector", VECTORS["label"], ids=lambda v: v["kind"])
def test_label_and_digest(vector: dict[str, Any]) -> None:
    kind, parts = vector["kind"], parts_of(vector)
    assert label(kind, *parts).hex() == vector["label"]
    assert digest(kind, *parts).hex() == vector["digest"]


@pytest.mark.parametrize("vector", VECTORS["derive"], ids=lambda v: f"{v['kind']}-{v['length']}")
def test_derive(vector: dict[str, Any]) -> None:
    secret, length = bytes.fromhex(vector["secret"]), vector["length"]
    out = derive(secret, vector["kind"], *parts_of(vector), length=length)
    assert out.hex() == vector["out"]


@pytest.mark.parametrize("vector", VECTORS["negative"])
def test_refusals(vector: dict[str, Any]) -> None:
    kind = reference.error(vector["error"], errors)
    with pytest.raises(kind) as caught:
        refused_call(vector)
    assert vector["message"] in str(caught.value)


# --- labels ------------------------------------------------------------------------------


def test_a_label_starts_with_the_version() -> None:
    assert label("kind").startswith(b"\0\0\0\x08secagg/1\0\0\0\x04kind")


@given(PARTS, PARTS)
def test_labels_are_equal_only_for_equal_parts(one: list[Any], other: list[Any]) -> None:
    same = [raw(p) for p in one] == [raw(p) for p in other]
    assert (label("kind", *one) == label("kind", *other)) == same


@given(st.lists(st.binary(max_size=6), min_size=2, max_size=4), st.data())
def test_moving_a_byte_between_parts_changes_the_label(parts: list[bytes], data: Any) -> None:
    joined = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(joined)), min_size=1, max_size=3)))
    bounds = [0, *cuts, len(joined)]
    moved = [joined[a:b] for a, b in pairwise(bounds)]
    assert (label("kind", *moved) == label("kind", *parts)) == (moved == parts)


@given(st.text(max_size=8), PARTS)
def test_the_kind_is_not_a_prefix_of_another(kind: str, parts: list[Any]) -> None:
    assert label(kind, *parts) != label(kind + "x", *parts)
    assert label(kind, *parts) != label(kind, *parts, b"")
    assert label(kind + "a", "b") != label(kind, "ab")


@given(PARTS)
def test_a_label_can_be_read_back(parts: list[Any]) -> None:
    data, read = label("kind", *parts), []
    while data:
        size = int.from_bytes(data[:4], "big")
        read.append(data[4 : 4 + size])
        data = data[4 + size :]
    assert read == [b"secagg/1", b"kind", *map(raw, parts)]


def test_parts_of_another_type_with_the_same_bytes_collide() -> None:
    """Types are not marked. So every kind must fix the type of each of its parts, which is
    what the callers do; this test is the record that `label` alone does not enforce it."""
    assert label("kind", 5) == label("kind", bytes(7) + b"\x05")
    assert label("kind", "ab") == label("kind", b"ab")
    assert label("kind", 0x6162636465666768) == label("kind", "abcdefgh")


@given(PARTS)
def test_digest_is_sha256_of_the_label(parts: list[Any]) -> None:
    assert digest("kind", *parts) == hashlib.sha256(label("kind", *parts)).digest()
    assert len(digest("kind", *parts)) == kdf.DIGEST_BYTES


# --- derivation --------------------------------------------------------------------------


@pytest.mark.parametrize("length", [(1 << 16) + extra for extra in (-1, 0, 1)])
def test_a_long_part_is_hashed_like_any_other(length: int) -> None:
    parts = ("name", 7, bytes(length), b"after")
    assert digest("array", *parts) == hashlib.sha256(label("array", *parts)).digest()


@given(st.binary(max_size=80), PARTS, st.integers(0, 200))
def test_derive_agrees_with_the_reference(secret: bytes, parts: list[Any], length: int) -> None:
    expected = reference.derive(secret, "kind", *parts, length=length)
    assert derive(secret, "kind", *parts, length=length) == expected


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_shorter_output_is_a_prefix(one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert derive(SECRET, "k", length=long)[:short] == derive(SECRET, "k", length=short)


def test_the_longest_output() -> None:
    assert derive(SECRET, "k", length=8160) == reference.derive(SECRET, "k", length=8160)


def test_derive_gives_32_bytes_unless_told() -> None:
    assert len(derive(SECRET, "kind")) == 32


def test_every_input_changes_the_output() -> None:
    outputs = {
        derive(SECRET, "kind", 1, 2),
        derive(SECRET, "kind", 2, 1),
        derive(SECRET, "kind", 1),
        derive(SECRET, "kine", 1, 2),
        derive(bytes(32), "kind", 1, 2),
        derive(SECRET + b"\0", "kind", 1, 2),
        derive(SECRET + SECRET, "kind", 1, 2),
    }
    assert len(outputs) == 7


@pytest.mark.parametrize("secret", ["a string", None, 7])
def test_a_secret_is_bytes(secret: object) -> None:
    with pytest.raises(LocalError):
        derive(secret, "kind")  # type: ignore[arg-type]
