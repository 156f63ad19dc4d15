"""A few hundred runs of every target; `make fuzz` has 50,000 of each."""

from random import Random

import pytest

from secagg.errors import DecodeError
from tests.fuzz import harness
from tests.fuzz.harness import TARGETS, many

DEAR = {"a whole round": 60, "a whole round, active": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_own_errors(name: str) -> None:
    report = many(name, DEAR.get(name, 300))
    assert not report.findings, report.findings[0][1]
    refused = sum(count for kind, count in report.answers.items() if kind != "taken")
    assert refused > report.runs // 20 or name in ACCEPTING, report.answers


ACCEPTING = {"Merkle proof", "stored state, client", "a whole round"}


def test_there_are_enough_targets() -> None:
    assert len(TARGETS) >= 10


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
