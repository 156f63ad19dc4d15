"""Every single input of a context changes it."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import context, errors
from tests.vectors import primitives as reference

VECTORS = reference.load("context")
BYTES = st.binary(max_size=40)
ARRAYS = st.lists(
    st.tuples(
        st.text(max_size=6),
        st.sampled_from(["<f4", "<f8", "<i8"]),
        st.lists(st.integers(0, 2**40), max_size=3).map(tuple),
        st.binary(max_size=12),
    ),
    max_size=3,
)


def call(vector: dict[str, Any], name: str) -> bytes:
    arguments = reference.context_arguments(vector[name], vector["arguments"])
    return getattr(context, vector[name])(**arguments)


def test_vectors_are_those_of_the_reference() -> None:
    assert reference.context_vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["positive"])
def test_known_answers(vector: dict[str, Any]) -> None:
    assert call(vector, "call").hex() == vector["digest"]


def test_all_known_answers_differ() -> None:
    digests = [vector["digest"] for vector in VECTORS["positive"]]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("vector", VECTORS["negative"])
def test_refusals(vector: dict[str, Any]) -> None:
    kind = reference.error(vector["error"], errors)
    with pytest.raises(kind) as caught:
        call(vector, "refused")
    assert vector["message"] in str(caught.value)


def test_every_function_of_the_module_has_vectors() -> None:
    public = {
        name
        for name, value in inspect.getmembers(context, inspect.isfunction)
        if value.__module__ == context.__name__
    }
    assert public == {vector["call"] for vector in VECTORS["positive"]}


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_roster_is_injective(one: list[str], other: list[str]) -> None:
    same = context.roster_digest(one) == context.roster_digest(other)
    assert same == (one == other)


@pytest.mark.parametrize("call", ["session_context", "cohort_context", "bound_context"])
@given(data=st.data())
def test_each_argument_changes_a_context(call: str, data: Any) -> None:
    function = getattr(context, call)
    kinds = [
        st.text(max_size=9) if p == "protocol" else BYTES
        for p in inspect.signature(function).parameters
    ]
    one, other = (data.draw(st.tuples(*kinds)) for _ in range(2))
    assert (function(*one) == function(*other)) == (one == other)
    for i, value in enumerate(one):
        longer = value + ("x" if isinstance(value, str) else b"x")
        assert function(*one[:i], longer, *one[i + 1 :]) != function(*one)


@given(ARRAYS, ARRAYS, BYTES, BYTES)
def test_application_is_injective(one: Any, other: Any, setup: bytes, changed: bytes) -> None:
    same = context.application_digest(one, setup) == context.application_digest(other, changed)
    assert same == ((one, setup) == (other, changed))


def test_each_field_of_an_array_changes_the_application() -> None:
    base = ("w", "<f4", (2, 3), bytes(24))
    changes = [
        ("v", *base[1:]),
        ("w", "<f8", *base[2:]),
        ("w", "<f4", (3, 2), base[3]),
        ("w", "<f4", (6,), base[3]),
        ("w", "<f4", (), base[3]),
        ("w", "<f4", (2, 3, 1), base[3]),
        (*base[:3], bytes(23) + b"\1"),
        (*base[:3], bytes(25)),
        (*base[:3], b""),
    ]
    digests = {context.application_digest([array], b"") for array in (base, *changes)}
    assert len(digests) == len(changes) + 1


def test_bytes_do_not_move_between_arrays_or_into_the_configuration() -> None:
    split = [("a", "u1", (2,), b"ab"), ("b", "u1", (1,), b"c")]
    moved = [("a", "u1", (1,), b"a"), ("b", "u1", (2,), b"bc")]
    assert context.application_digest(split, b"") != context.application_digest(moved, b"")
    digests = {context.application_digest(split[:n], b"x" * (2 - n)) for n in (0, 1, 2)}
    assert len(digests) == 3


def test_an_iterator_of_arrays_is_read_once() -> None:
    arrays = [("w", "<f4", (1,), bytes(4))]
    assert context.application_digest(iter(arrays), b"") == context.application_digest(arrays, b"")


def test_the_kinds_of_digest_do_not_meet() -> None:
    same = ("", b"", b"", b"")
    digests = {
        context.session_context(*same),
        context.cohort_context(b"", b"", b""),
        context.bound_context(b"", b""),
        context.roster_digest(["", "", "", ""]),
        context.application_digest([], b""),
    }
    assert len(digests) == 5
