"""How a line is measured: results compared first, then everybody in turn, and the median.

A contestant is a function that does the work once and returns the seconds it took. All of a
line run interleaved (ours, each peer, the limit, ours, ...), so that a busy machine slows all
of them alike, and a line reports the median of each.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Contestant = Callable[[], float]
Clock = Callable[[], float]
Params = Mapping[str, Any]


class DifferentResultsError(Exception):
    """Two contestants of a line did not compute the same: the line would mean nothing."""


@dataclass(frozen=True)
class Line:
    """One line, ready to run.

    check: raises DifferentResultsError unless all contestants compute the same, and warms them up;
    limit: what the machine could do at best; bytes_per_param: what crosses the wire; close:
    gives back what the line holds.
    """

    name: str
    params: Params
    ours: Contestant
    check: Callable[[], None]
    peers: Mapping[str, Contestant] = field(default_factory=dict)
    limit: Contestant | None = None
    bytes_per_param: float | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Row:
    """The medians of a line, in seconds: one entry of the JSON file."""

    name: str
    params: Params
    ours_s: float
    limit_s: float | None
    peers: Mapping[str, float]
    bytes_per_param: float | None


def timed(
    work: Callable[..., object],
    fresh: Callable[[], Any] | None = None,
    *,
    times: int = 1,
    clock: Clock = time.perf_counter,
) -> Contestant:
    """`work()` as a contestant, or `work(fresh())` where only the work is timed.

    With `times` it is done so often, and the mean counts.
    """

    def contestant() -> float:
        arguments = () if fresh is None else (fresh(),)
        began = clock()
        for _ in range(times):
            work(*arguments)
        return (clock() - began) / times

    return contestant


def run(line: Line, repeats: int, budget: float) -> Row:
    """Check and measure; stops early, after one turn at least, once `budget` seconds are spent."""
    try:
        line.check()
        return _measure(line, repeats, budget)
    finally:
        gc.unfreeze()
        line.close()


def same(ours: Any, theirs: Any, what: str) -> None:
    """Raise DifferentResultsError unless both are equal, element for element."""
    if not np.array_equal(ours, theirs):
        raise DifferentResultsError(f"{what}: the results differ")


def close(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    """Raise DifferentResultsError unless all elements are within `tolerance` of each other."""
    if np.shape(ours) != np.shape(theirs) or np.max(np.abs(ours - theirs)) > tolerance:
        raise DifferentResultsError(f"{what}: the results differ by more than {tolerance}")


def _measure(line: Line, repeats: int, budget: float) -> Row:
    limit = {} if line.limit is None else {"limit": line.limit}
    contestants: dict[str, Contestant] = {"ours": line.ours, **line.peers, **limit}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    began, turns = time.perf_counter(), 0
    while turns < repeats and (not turns or time.perf_counter() - began < budget):
        for name, contestant in contestants.items():
            _tidy()
            seconds[name].append(contestant())
        turns += 1
    median = {name: _median(found) for name, found in seconds.items()}
    return Row(
        line.name,
        {**line.params, "repeats": turns},
        median.pop("ours"),
        median.pop("limit", None),
        median,
        line.bytes_per_param,
    )


def _tidy() -> None:
    """What others left behind, and the libraries of all, are not searched for garbage in the next
    contestant's time; what it leaves behind itself is.
    """
    gc.collect()
    gc.freeze()


def _median(values: Sequence[float]) -> float:
    return float(f"{statistics.median(values):.6g}")
