"""All attacks on all targets, and the verdicts."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.security import (
    active_server,
    differencing,
    distinguish,
    imprint,
    inconsistency,
    inversion,
    malformed,
    membership,
    optimisation,
    poisoning,
    replay,
    timing,
    weak_seed,
)
from benchmarks.security.attack import Attack, Case, Effort
from benchmarks.security.targets import Target, reference, targets
from benchmarks.security.verdict import Measured, Row, judge

ATTACKS: tuple[Attack, ...] = (
    inversion.ATTACK,
    optimisation.ATTACK,
    distinguish.ATTACK,
    membership.ATTACK,
    active_server.ATTACK,
    inconsistency.ATTACK,
    imprint.ATTACK,
    differencing.ATTACK,
    replay.ATTACK,
    weak_seed.ATTACK,
    poisoning.ATTACK,
    malformed.ATTACK,
    timing.ATTACK,
)
QUICK = ("plain", "masking, active")
"""Targets of a quick run where every sum gives the same; the others have only full runs there."""

FULL = Effort()
Progress = Callable[[str], None]


def run(
    attacks: Sequence[Attack] = ATTACKS,
    effort: Effort = FULL,
    among: Sequence[Target] | None = None,
    weak: Target | None = None,
    progress: Progress = lambda _what: None,
) -> Iterator[Row]:
    """The rows, one after the other. among: targets without the reference; weak: the reference."""
    others = [t for t in (targets() if among is None else among) if not t.is_reference]
    control = weak or reference()
    for attack in attacks:
        yield from _attack(attack, effort, others, control, progress)


def _attack(
    attack: Attack, effort: Effort, others: Sequence[Target], weak: Target, progress: Progress
) -> Iterator[Row]:
    of_weak: dict[str, Measured | None] = {}
    for case in attack.cases:
        where = f"{attack.name}: {case.setting}"
        progress(f"{where}, the reference")
        began = time.perf_counter()
        of_weak[case.setting] = case.measure(weak, effort)
        spent = time.perf_counter() - began
        shown = of_weak[case.control or case.setting]
        chosen = _targets(case, effort, others)
        for target in [each for each in chosen if not each.is_reference]:
            progress(f"{where}, {target.name}")
            began = time.perf_counter()
            found = case.measure(target, effort)
            if found is not None:
                took = time.perf_counter() - began
                yield _row(attack, case, target, found, shown, took)
        own = of_weak[case.setting]
        if own is not None and (case.targets is None or any(t.is_reference for t in chosen)):
            yield _row(attack, case, weak, own, shown, spent)


def _targets(case: Case, effort: Effort, others: Sequence[Target]) -> Sequence[Target]:
    if case.targets is not None:
        return case.targets(effort)
    if effort.quick and case.rule.scope == "beyond":
        return [each for each in others if each.name in QUICK]
    return others


def _row(
    attack: Attack,
    case: Case,
    target: Target,
    found: Measured,
    shown: Measured | None,
    seconds: float,
) -> Row:
    return Row(
        attack.name,
        case.setting,
        target.name,
        attack.metric,
        found.value,
        found.low,
        found.high,
        found.interval,
        judge(case.rule, found, shown).value,
        found.note,
        seconds,
    )


def to_json(rows: Sequence[Row], quick: bool, seconds: float) -> str:
    """The file of `--json`: the rows, what they were measured on, and what each attack is."""
    attacks = [
        {
            "name": a.name,
            "about": a.about,
            "source": a.source,
            "metric": a.metric,
            "absent": {c.setting: dict(c.absent) for c in a.cases if c.absent},
        }
        for a in ATTACKS
    ]
    content: dict[str, Any] = {
        "quick": quick,
        "seconds": seconds,
        "machine": describe(),
        "attacks": attacks,
        "rows": [row.plain() for row in rows],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read(path: Path) -> dict[str, Any]:
    """The file of `--json`."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Any]:
    """What `to_json` wrote, with `rows` as rows."""
    content: dict[str, Any] = json.loads(text)
    content["rows"] = [Row.of(raw) for raw in content["rows"]]
    return content
