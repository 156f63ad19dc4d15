"""One cell of the table, and how its verdict follows from what was measured.

An attack says which side of its `bar` is a success. A protocol *protects* only if the whole
95 % interval is on the other side: a wide interval never protects. Where the attack does not
succeed on the reference that is weak on purpose, nothing it says of others counts: INVALID.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal


class Verdict(StrEnum):
    """What a cell says."""

    PROTECTS = "protects"
    DOES_NOT = "does not"
    OUT_OF_SCOPE = "out of scope"
    NO_CLAIM = "no claim"
    INVALID = "INVALID"


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % interval, how that was computed, and a remark."""

    value: float
    low: float
    high: float
    interval: str
    note: str = ""


@dataclass(frozen=True)
class Rule:
    """When an attack has succeeded: at or above `bar`, or at or below it.

    baseline: what guessing, or nobody attacking, gives; scope: `claimed` is what some secure
    aggregation promises to prevent, `beyond` what no sum of updates can, `unclaimed` what this
    project says nothing about, whatever the figure; by: what must be on the safe side, the
    whole interval, or the value where the bar itself allows for chance.
    """

    bar: float
    baseline: float
    wins: Literal["above", "below"] = "above"
    scope: Literal["claimed", "beyond", "unclaimed"] = "claimed"
    by: Literal["interval", "value"] = "interval"

    def succeeded(self, found: Measured) -> bool:
        """Beyond the bar, and the whole interval better than the baseline."""
        if self.wins == "above":
            return found.value >= self.bar and found.low > self.baseline
        return found.value <= self.bar and found.high < self.baseline

    def excluded(self, found: Measured) -> bool:
        """Whether the whole interval, or the value, is on the safe side of the bar."""
        if self.by == "value":
            return found.value < self.bar if self.wins == "above" else found.value > self.bar
        return found.high < self.bar if self.wins == "above" else found.low > self.bar


def judge(rule: Rule, found: Measured, reference: Measured | None) -> Verdict:
    """The verdict on a protocol, given what the same attack reached on the reference."""
    if reference is None or not rule.succeeded(reference):
        return Verdict.INVALID
    if rule.scope == "unclaimed":
        return Verdict.NO_CLAIM
    if rule.excluded(found):
        return Verdict.PROTECTS
    return Verdict.OUT_OF_SCOPE if rule.scope == "beyond" else Verdict.DOES_NOT


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    attack: str
    setting: str
    target: str
    metric: str
    value: float
    low: float
    high: float
    interval: str
    verdict: str
    note: str
    seconds: float

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Row":
        """The inverse of `plain`."""
        return cls(**raw)
