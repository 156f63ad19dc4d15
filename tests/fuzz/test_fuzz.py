"""A few hundred runs of every target; `make fuzz` has 50,000 of each."""

from dataclasses import replace
from random import Random

import pytest

from secagg.errors import DecodeError, LocalError
from tests.fuzz import harness, machines, others
from tests.fuzz.harness import RUNS_OF, TARGETS, many
from tests.fuzz.sessions import recorded, recorded_of

DEAR = {
    "a whole round": 60,
    "a whole round, active": 60,
    "journal file": 60,
    "journal file, with a key": 60,
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_own_errors(name: str) -> None:
    report = many(name, DEAR.get(name, 300))
    assert not report.findings, report.findings[0][1]
    refused = sum(count for kind, count in report.answers.items() if kind != "taken")
    assert refused > report.runs // 20 or name in ACCEPTING, report.answers


ACCEPTING = {"Merkle proof", "stored state, client", "a whole round"}


def test_there_are_enough_targets() -> None:
    assert len(TARGETS) >= 10
    assert RUNS_OF.keys() <= TARGETS.keys()


@pytest.mark.parametrize("is_active", [False, True])
def test_every_state_of_masking_is_a_target(is_active: bool) -> None:
    states = machines.STATES[is_active]
    assert {(who, each) for who in states for each in states[who]} == set(recorded(is_active).held)


@pytest.mark.parametrize("name", others.STATES)
def test_every_state_of_the_others_is_a_target(name: str) -> None:
    states = others.STATES[name]
    assert {(who, each) for who in states for each in states[who]} == set(recorded_of(name).held)


def test_what_a_state_takes_unasked_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a state that waits for nobody, which here waits for all the same."""
    session = recorded(False)
    asked = session.held[1, "Advertised"]
    monkeypatch.setitem(session.held, (1, "Advertised"), replace(asked, due=b""))
    monkeypatch.setattr(session, "corpus", [asked.due])
    report = many("Advertised", 50)
    assert "a message was taken where none is due" in report.findings[0][1]


def test_a_local_error_is_a_finding_but_of_our_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def target(_rng: Random) -> None:
        raise LocalError("ours")

    monkeypatch.setitem(harness.TARGETS, "a machine", target)
    monkeypatch.setitem(harness.TARGETS, "stored state, a machine", target)
    assert many("a machine", 1).findings
    assert many("stored state, a machine", 1).answers == {"LocalError": 1}


def test_a_finding_is_found_and_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def target(rng: Random) -> None:
        if rng.random() < 0.1:
            raise KeyError("not ours")
        raise DecodeError("ours")

    monkeypatch.setitem(harness.TARGETS, "broken", target)
    report = many("broken", 1000)
    assert len(report.findings) == harness.MOST_FINDINGS
    (number, trace) = report.findings[-1]
    assert "KeyError: 'not ours'" in trace
    assert many("broken", 1, first=number).findings == [(number, trace)]
    assert report.answers["DecodeError"] == report.runs - harness.MOST_FINDINGS
