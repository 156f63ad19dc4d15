"""The tree of exceptions, what each carries, and what its text may show."""

import inspect
import pickle
import re

import pytest

from secagg import errors
from secagg.errors import (
    DecodeError,
    LocalError,
    ParameterError,
    PeerError,
    ProtocolAborted,
    ProtocolError,
    SecaggError,
)

CODES = {
    SecaggError: "error",
    ParameterError: "parameter",
    DecodeError: "decode",
    ProtocolError: "error",
    LocalError: "local",
    PeerError: "peer",
    ProtocolAborted: "aborted",
}


def drawn() -> dict[str, str]:
    """Each class that the docstring draws, and the one it hangs from."""
    parents: dict[str, str] = {}
    above = ["Exception"]
    for indent, name in re.findall(r"^( *)[*x] (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 2
        parents[name] = above[depth]
        above[depth + 1 :] = [name]
    return parents


def defined() -> dict[str, type[Exception]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in members if kind.__module__ == errors.__name__}


def peer_error() -> PeerError:
    return PeerError("reason", peer=3, stage="upload", expected="a vector")


def aborted() -> ProtocolAborted:
    return ProtocolAborted("reason", stage="unmask", blame={9, 2})


def test_the_drawn_tree_is_the_tree_of_the_classes() -> None:
    tree = {name: kind.__bases__[0].__name__ for name, kind in defined().items()}
    assert drawn() == tree


def test_leaves_are_marked_with_x() -> None:
    leaves = set(re.findall(r"^ *x (\w+)", errors.__doc__ or "", re.MULTILINE))
    assert leaves == {name for name, kind in defined().items() if not kind.__subclasses__()}


def test_every_class_is_documented_and_has_a_code() -> None:
    assert set(defined().values()) == set(CODES)
    assert all(kind.__doc__ and kind.code == code for kind, code in CODES.items())


def test_codes_of_what_is_raised_are_distinct() -> None:
    raised = [kind.code for kind in CODES if not kind.__subclasses__()]
    assert len(set(raised)) == len(raised)


@pytest.mark.parametrize("kind", [ParameterError, DecodeError])
def test_values_that_are_refused_are_value_errors(kind: type[SecaggError]) -> None:
    assert issubclass(kind, ValueError)
    assert not issubclass(kind, ProtocolError)


@pytest.mark.parametrize("kind", [LocalError, PeerError, ProtocolAborted])
def test_broken_rules_are_not_value_errors(kind: type[SecaggError]) -> None:
    assert not issubclass(kind, ValueError)  # `except ValueError` must not swallow them


def test_peer_error_says_who_where_and_what_was_expected() -> None:
    error = peer_error()
    assert (error.reason, error.peer, error.stage, error.expected) == (
        "reason",
        3,
        "upload",
        "a vector",
    )
    assert str(error) == "party 3, stage upload: reason; expected a vector"


@pytest.mark.parametrize("missing", ["peer", "stage", "expected"])
def test_peer_error_needs_all_of_them(missing: str) -> None:
    given = {"peer": 1, "stage": "s", "expected": "e"}
    del given[missing]
    with pytest.raises(TypeError, match=missing):
        PeerError("reason", **given)  # type: ignore[arg-type]


def test_aborted_names_the_parties_in_order() -> None:
    error = aborted()
    assert (error.reason, error.stage, error.blame) == ("reason", "unmask", (2, 9))
    assert str(error) == "aborted at stage unmask: reason (parties 2, 9)"


def test_aborted_without_blame_names_nobody() -> None:
    error = ProtocolAborted("too few answers", stage="unmask")
    assert error.blame == ()
    assert str(error) == "aborted at stage unmask: too few answers"


def test_aborted_takes_any_iterable() -> None:
    assert ProtocolAborted("r", stage="s", blame=(u for u in (3, 1, 2))).blame == (1, 2, 3)


@pytest.mark.parametrize("make", [peer_error, aborted])
def test_errors_survive_the_way_between_processes(make: type[SecaggError]) -> None:
    error = make()
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except TypeError as lost:
        pytest.fail(str(lost))
    assert (str(again), vars(again)) == (str(error), vars(error))
