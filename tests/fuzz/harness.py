"""Runs a target many times and counts what it answered."""

import traceback
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from secagg.errors import LocalError, SecaggError
from tests.fuzz import decoders, journals, machines, others

TARGETS = {**decoders.TARGETS, **machines.TARGETS, **others.TARGETS, **journals.TARGETS}
RUNS = 50_000
"""Of a target in `make fuzz`, but for the dear ones."""

RUNS_OF = dict.fromkeys(
    (
        *("ckks client: Bound", "ckks server: Joining", "ckks server: Collecting"),
        *("bfv client: Bound", "bfv server: Joining", "bfv server: Collecting"),
        *("ckks helper: Holding", "bfv helper: Holding"),
        *("inside the seal, ckks", "inside the seal, bfv"),
        *("journal file", "journal file, with a key"),
    ),
    10_000,
)
"""TenSEAL takes about a millisecond to look at a ciphertext; a file is written and opened."""

OUR_OWN_FILES = ("stored state", "journal file")
"""Here the bytes are from our own store, and what they are not is a LocalError. Anywhere else one
would say that we, or this test, had done something wrong.
"""

MOST_FINDINGS = 5


@dataclass
class Report:
    """answers: how often each kind of error, or none (`taken`); findings: (run, trace)."""

    runs: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)


def many(name: str, runs: int, first: int = 0) -> Report:
    """Runs `first` to `first + runs - 1` of a target; it stops after a few findings."""
    target, report = TARGETS[name], Report()
    for number in range(first, first + runs):
        report.runs += 1
        try:
            target(Random(f"{name} {number}"))  # noqa: S311 - reproducible, and guards nothing
        except Exception as error:
            if _answers(name, error):
                report.answers[type(error).__name__] += 1
                continue
            report.findings.append((number, traceback.format_exc()))
            if len(report.findings) == MOST_FINDINGS:
                break
        else:
            report.answers["taken"] += 1
    return report


def _answers(name: str, error: Exception) -> bool:
    """Whether a target may end with this error."""
    own = name.startswith(OUR_OWN_FILES)
    return isinstance(error, SecaggError) and (own or not isinstance(error, LocalError))
